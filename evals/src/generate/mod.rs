//! Completions from whatever runs the model: the engine in this process, or a server over HTTP.

pub mod http;
mod lsp;
pub mod peer;
pub mod prompts;

use std::{
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use lacuna_indexer::Language;
use lacuna_inference::{
    Backend, Device, Engine, EngineOptions, Model, ModelSource, PageFormat, Priority, PromptStyle, Request,
    Sampling,
    fim::{FimChunk, FimOrder, FimParts, FimTemplate},
    speculative::Speculation,
};

/// Where completions come from.
pub enum Generator {
    Engine {
        engine: Box<Engine>,
        beams: usize,
    },
    /// OpenAI-compatible or llama.cpp-compatible.
    Server(http::Server),
}

/// How a model is run or reached.
#[derive(Debug, Clone)]
pub struct Options {
    pub device: Device,
    pub page_format: PageFormat,
    /// 0 takes one for each processor.
    pub threads: usize,
    pub speculation: Speculation,
    /// Answers that the engine follows side by side where it is greedy.
    pub beams: usize,
    /// Completions made at the same time.
    pub parallel: usize,
    pub server: http::Settings,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            device: Device::default(),
            page_format: PageFormat::default(),
            threads: 0,
            speculation: Speculation::default(),
            beams: 1,
            parallel: 1,
            server: http::Settings::default(),
        }
    }
}

/// Tokens of the engine's cache for each completion that is made at the same time.
const CACHE_TOKENS: usize = 2048;

/// How a prompt is put to the model. Names are those of `--style` and `--strategies`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Prompt {
    /// The text itself, continued.
    Text(String),
    /// A hole, in the order the model was trained on or another.
    Fim { prefix: String, suffix: String, order: Option<Order>, surroundings: Surroundings },
    /// A hole whose last line before the cursor follows the middle token: prefix and suffix stay frozen while it grows.
    Efim { prefix: String, suffix: String },
    /// A question, with the beginning of the answer given. `thinking`: the model may think first.
    Chat { user: String, answer_start: String, thinking: Thinking },
}

/// Where a hole's file lies and what other files say; empty where that is not known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Surroundings {
    pub repository: String,
    /// Of the file with the hole, relative to the repository.
    pub path: String,
    pub chunks: Vec<Chunk>,
}

/// A piece of another file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Empty where it is not known.
    pub path: String,
    pub text: String,
}

impl Chunk {
    /// For models and servers that take no files beside the one with the hole.
    pub fn as_comments(&self) -> String {
        let language = Language::from_path(Path::new(&self.path));
        let marker = language.map_or("#", Language::line_comment);
        std::iter::once(self.path.as_str())
            .filter(|path| !path.is_empty())
            .chain(self.text.lines())
            .map(|line| format!("{marker} {line}\n"))
            .chain(["\n".to_owned()])
            .collect()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    Psm,
    Spm,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Thinking {
    Closed,
    Open,
}

/// One completion asked for.
#[derive(Debug, Clone)]
pub struct Ask {
    pub prompt: Prompt,
    pub max_tokens: usize,
    /// Of a hole's prompt, at most so many tokens; `None`: as many as the model takes.
    pub prompt_tokens: Option<usize>,
    pub sampling: Sampling,
    /// Generation ends before these.
    pub stops: Vec<String>,
}

impl Ask {
    /// Tokens of text around a hole: what is left of the model's context beside the answer and the template's own.
    fn budget(&self, engine: &Engine) -> usize {
        const TEMPLATE_TOKENS: usize = 16;
        let context = engine.model().context_length().min(engine.status().context);
        let room = context.saturating_sub(self.max_tokens + TEMPLATE_TOKENS);
        room.min(self.prompt_tokens.unwrap_or(usize::MAX))
    }
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct Generated {
    pub text: String,
    pub tokens: usize,
    pub prompt_tokens: usize,
    pub milliseconds: f64,
    pub stop: String,
}

/// What a run stores about the model it measured.
#[derive(Debug, Clone, Serialize)]
pub struct ModelFacts {
    pub name: String,
    pub source: String,
    /// Of the file; of the tensors for the embedded model; of nothing for a server.
    pub sha256: Option<String>,
    pub bytes: Option<u64>,
    pub device: String,
    pub threads: usize,
    pub prompt_template: String,
}

impl Generator {
    /// Opens `embedded`, a model file, or a server's address.
    pub fn open(model: &str, options: &Options) -> Result<Self> {
        if model.starts_with("https://") {
            bail!("the harness speaks plain http to servers on this machine; {model} is https");
        }
        if model.starts_with("http://") {
            return Ok(Self::Server(http::Server::new(model, &options.server)?));
        }
        let beams = options.beams;
        let options = EngineOptions {
            device: options.device,
            page_format: options.page_format,
            threads: options.threads,
            speculation: options.speculation,
            cache_tokens: options.parallel * beams * CACHE_TOKENS,
            ..EngineOptions::default()
        };
        Ok(Self::Engine { engine: Box::new(Engine::start(open_model(model)?, options)?), beams })
    }

    pub fn facts(&self, source: &str) -> Result<ModelFacts> {
        Ok(match self {
            Self::Engine { engine, .. } => {
                let status = engine.status();
                ModelFacts::of(engine.model(), source, status.device, status.threads)?
            }
            Self::Server(server) => ModelFacts {
                name: server.model().unwrap_or_else(|| source.trim_start_matches("http://")).to_owned(),
                source: source.to_owned(),
                sha256: None,
                bytes: None,
                device: "server".into(),
                threads: 0,
                prompt_template: "server's own".into(),
            },
        })
    }

    /// Whether an answer in a chat can be begun for the model; a server's template closes it.
    pub fn begins_answers(&self) -> bool {
        matches!(self, Self::Engine { .. })
    }

    /// Whether `auto` means chat for this model.
    pub fn prefers_chat(&self) -> bool {
        match self {
            Self::Engine { engine, .. } => engine.model().default_prompt_style() == PromptStyle::Chat,
            Self::Server(_) => false,
        }
    }

    /// Runs one request to its end.
    pub fn generate(&self, ask: &Ask) -> Result<Generated> {
        let (engine, beams) = match self {
            Self::Engine { engine, beams } => (engine, *beams),
            Self::Server(server) => return server.generate(ask),
        };
        let started = Instant::now();
        let model = engine.model();
        let mut stop_tokens: Vec<u32> = model.end_of_text().into_iter().collect();
        let prompt = match &ask.prompt {
            Prompt::Text(text) => {
                stop_tokens.extend(model.fim().map_or(&[][..], |fim| fim.stop_tokens()));
                let mut tokens: Vec<u32> = model.tokenizer().leading_bos().into_iter().collect();
                tokens.extend(model.tokenizer().encode(text));
                tokens
            }
            Prompt::Fim { prefix, suffix, order, surroundings } => {
                let fim = model
                    .fim()
                    .context("this model has no fill-in-the-middle tokens; use the chat strategy")?;
                let fim = match order {
                    Some(Order::Psm) => fim.clone().with_order(FimOrder::Psm),
                    Some(Order::Spm) => fim.clone().with_order(FimOrder::Spm),
                    None => fim.clone(),
                };
                stop_tokens.extend(fim.stop_tokens());
                hole(model, &fim, (prefix, suffix), surroundings, ask.budget(engine))
            }
            Prompt::Efim { prefix, suffix } => {
                let fim = model
                    .fim()
                    .context("this model has no fill-in-the-middle tokens; use the chat strategy")?;
                stop_tokens.extend(fim.stop_tokens());
                let typed = prefix.rfind('\n').map_or(0, |end| end + 1);
                let (frozen, typed) = prefix.split_at(typed);
                let typed = model.tokenizer().encode(typed);
                let (frozen, suffix) =
                    fit(model, frozen, suffix, ask.budget(engine).saturating_sub(typed.len()));
                let parts = FimParts { prefix: &frozen, suffix: &suffix, ..FimParts::default() };
                let mut tokens =
                    fim.clone().with_order(FimOrder::Psm).assemble(model.tokenizer(), &parts).tokens;
                tokens.extend(typed);
                tokens
            }
            Prompt::Chat { user, answer_start, thinking } => {
                let chat = model.chat().context("this model has no chat template; use another style")?;
                let mut text = chat.render_prefilled(user, answer_start)?;
                if *thinking == Thinking::Open
                    && let Some(end) = text.rfind("</think>")
                    && let Some(start) = text[..end].rfind("<think>")
                {
                    text.truncate(start);
                    text.push_str("<think>\n");
                }
                model.tokenizer().encode_with_special(&text)
            }
        };
        stop_tokens.sort_unstable();
        stop_tokens.dedup();
        let output = engine
            .submit(Request {
                prompt,
                max_tokens: ask.max_tokens,
                deadline: None,
                sampling: ask.sampling.clone(),
                stop_tokens,
                stop_texts: ask.stops.clone(),
                constraint: None,
                beams,
                closers: None,
                priority: Priority::Batch,
            })?
            .collect_blocking()?;
        Ok(Generated {
            text: output.text,
            tokens: output.stats.generated_tokens,
            prompt_tokens: output.stats.prompt_tokens,
            milliseconds: started.elapsed().as_secs_f64() * 1e3,
            stop: format!("{:?}", output.reason),
        })
    }
}

impl ModelFacts {
    fn of(model: &Model, source: &str, device: String, threads: usize) -> Result<Self> {
        let template = model.fim().map_or("none", |fim| fim.family());
        Ok(Self {
            name: model.name().to_owned(),
            source: source.to_owned(),
            sha256: Some(hash(source)?),
            bytes: Some(model.gguf().byte_length() as u64),
            device,
            threads,
            prompt_template: format!("fim:{template}"),
        })
    }

    /// Of a model that another process runs.
    pub fn read(source: &str) -> Result<Self> {
        Self::of(&open_model(source)?, source, "the server's choice".into(), 0)
    }
}

pub fn open_model(model: &str) -> Result<Model> {
    let source = match model {
        "embedded" => ModelSource::Embedded,
        path => ModelSource::Path(PathBuf::from(path)),
    };
    Model::open(&source).with_context(|| format!("cannot open the model `{model}`"))
}

/// Context comes out of the budget first: it is what is measured, and a long prefix would push it out.
fn hole(
    model: &Model,
    template: &FimTemplate,
    (prefix, suffix): (&str, &str),
    surroundings: &Surroundings,
    budget: usize,
) -> Vec<u32> {
    let tokenizer = model.tokenizer();
    let Surroundings { repository, path, chunks } = surroundings;
    if !template.has_repository_tokens() {
        let comments: String = chunks.iter().map(Chunk::as_comments).collect();
        let mut before = tokenizer.encode(&comments);
        before.truncate(budget / 2);
        let (prefix, suffix) = fit(model, prefix, suffix, budget - before.len());
        before.extend(prefix);
        let parts = FimParts { prefix: &before, suffix: &suffix, ..FimParts::default() };
        return template.assemble(tokenizer, &parts).tokens;
    }
    let mut left = budget / 2;
    let mut shown = Vec::new();
    for chunk in chunks {
        let tokens = tokenizer.encode(&chunk.text).len() + tokenizer.encode(&chunk.path).len();
        if tokens > left {
            break;
        }
        left -= tokens;
        shown.push(FimChunk { path: chunk.path.clone(), text: chunk.text.clone() });
    }
    let mut parts = FimParts {
        repository: Some(repository.as_str()).filter(|name| !name.is_empty() && !shown.is_empty()),
        chunks: &shown,
        path: Some(path.as_str()).filter(|path| !path.is_empty()),
        ..FimParts::default()
    };
    let around = template.assemble(tokenizer, &parts).tokens.len();
    let (prefix, suffix) = fit(model, prefix, suffix, budget.saturating_sub(around));
    (parts.prefix, parts.suffix) = (&prefix, &suffix);
    template.assemble(tokenizer, &parts).tokens
}

/// Keeps the text nearest the hole: three parts prefix to one part suffix where both are too long.
fn fit(model: &Model, prefix: &str, suffix: &str, budget: usize) -> (Vec<u32>, Vec<u32>) {
    let (mut prefix, mut suffix) = (model.tokenizer().encode(prefix), model.tokenizer().encode(suffix));
    if prefix.len() + suffix.len() > budget {
        let for_suffix = (budget / 4).max(budget.saturating_sub(prefix.len()));
        suffix.truncate(for_suffix);
        let for_prefix = budget - suffix.len();
        prefix.drain(..prefix.len().saturating_sub(for_prefix));
    }
    (prefix, suffix)
}

/// SHA-256 of the model's file.
fn hash(source: &str) -> Result<String> {
    let mut hasher = Sha256::new();
    if source == "embedded" {
        hasher.update(lacuna_inference::embedded::bytes());
    } else {
        std::io::copy(&mut std::fs::File::open(source)?, &mut hasher)?;
    }
    Ok(format!("{:x}", hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_model_completes_holes_and_text() {
        let generator = Generator::open("embedded", &Options::default()).unwrap();
        let fim = |order| Prompt::Fim {
            prefix: "def add(a, b):\n    return ".into(),
            suffix: "\n\nprint(add(1, 2))\n".into(),
            order,
            surroundings: Surroundings::default(),
        };
        for prompt in [Prompt::Text("def add(a, b):\n    return ".into()), fim(None), fim(Some(Order::Psm))] {
            let ask = Ask {
                prompt,
                max_tokens: 4,
                prompt_tokens: Some(64),
                sampling: Sampling::GREEDY,
                stops: vec![],
            };
            let generated = generator.generate(&ask).unwrap();
            assert!(generated.tokens <= 4 && generated.prompt_tokens > 5, "{generated:?}");
            assert_eq!(generated.text, generator.generate(&ask).unwrap().text, "greedy is deterministic");
        }
        let facts = generator.facts("embedded").unwrap();
        assert_eq!(facts.sha256.map(|hash| hash.len()), Some(64));
    }
}
