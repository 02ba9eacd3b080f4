//! The whole way from a cursor to the text that belongs there: reuse, shape, context, prompt, engine,
//! post-processing. No LSP types; the server and the command line share it.

pub mod context;
pub mod explain;
pub mod line_tokens;
pub mod lines;
pub mod postprocess;
pub mod prompt;
pub mod reuse;
pub mod shape;

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ignore::gitignore::GitignoreBuilder;
use lacuna_indexer::Workspace;
use lacuna_inference::{
    Backend, EngineError, Event, Generation, Priority, PromptStyle, Request, RequestStats, Sampling,
    milliseconds,
};
use tokio::sync::Semaphore;
use tracing::Instrument;
use tree_sitter::Tree;

use crate::{config::Config, documents::Snapshot};
use explain::{Explain, Explained, Source, Stop};
use line_tokens::LineTokens;
use postprocess::{Around, postprocess};
use prompt::{Prompt, Rejoin};
use shape::Shape;

/// Larger documents are not completed: they are data or generated, and copying them would cost more than it helps.
pub const LARGEST_DOCUMENT_BYTES: usize = 4 << 20;
/// Threads that parse, query the index and tokenize at the same time.
const WORKERS: usize = 2;
/// Beyond the request's own deadline, how long a silent engine is waited for.
const ENGINE_GRACE: Duration = Duration::from_millis(1500);

/// What made the editor ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// The user pressed the key for it: several alternatives are offered.
    Invoked,
    /// Typing.
    Automatic,
}

/// A cursor that wants a completion.
#[derive(Debug, Clone)]
pub struct Ask {
    pub document: Snapshot,
    /// The cursor, a byte offset into the document.
    pub offset: usize,
    /// The item selected in the editor's menu: the completion continues `text`, which replaces `range`.
    pub selected: Option<Selected>,
    pub trigger: Trigger,
    pub priority: Priority,
    pub config: Arc<Config>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    pub range: Range<usize>,
    pub text: String,
}

/// The texts to insert at the cursor, best first, and how they came about. No text: nothing is worth showing.
#[derive(Debug, Clone)]
pub struct Completed {
    pub texts: Vec<String>,
    pub explain: Explain,
    /// The document's tree, when it was parsed for this.
    pub tree: Option<Tree>,
}

/// Completes with one model over one workspace. Holds the caches that belong to that pair.
pub struct Completer {
    backend: Arc<dyn Backend>,
    workspace: Workspace,
    /// Tokens of prompt and answer together.
    context_length: usize,
    tokens: LineTokens,
    contexts: context::Contexts,
    reuse: Mutex<reuse::Reuse>,
    explained: Explained,
    workers: Arc<Semaphore>,
}

/// The text around the cursor, as the pipeline sees it.
struct Site {
    path: PathBuf,
    relative_path: String,
    repository: Option<String>,
    text: String,
    offset: usize,
    language: Option<lacuna_indexer::Language>,
    tree: Option<Tree>,
}

/// What the prepared half of the pipeline hands to the engine.
struct Prepared {
    site: Site,
    shape: Shape,
    prompt: Prompt,
    explain: Explain,
}

enum Preparation {
    /// The answer is known already.
    Answered(Box<Site>, Vec<String>, Box<Explain>),
    Model(Box<Prepared>),
}

/// What the engine wrote.
struct Answer {
    text: String,
    stop: Stop,
    stats: Option<RequestStats>,
    generated: usize,
    log_probability_sum: f32,
    first_token: Option<Duration>,
    total: Duration,
}

impl Completer {
    pub fn new(backend: Arc<dyn Backend>, workspace: Workspace) -> Self {
        let tokens = LineTokens::new(backend.model().tokenizer().clone());
        let context_length = backend.status().context.min(backend.model().context_length());
        Self {
            backend,
            workspace,
            context_length,
            tokens,
            contexts: context::Contexts::default(),
            reuse: Mutex::default(),
            explained: Explained::default(),
            workers: Arc::new(Semaphore::new(WORKERS)),
        }
    }

    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    pub fn explained(&self) -> &Explained {
        &self.explained
    }

    /// The whole pipeline. Dropping the future stops the engine within one decode step.
    pub async fn complete(self: &Arc<Self>, ask: Ask) -> Completed {
        let span = tracing::info_span!("complete", path = %ask.document.path.display(), offset = ask.offset);
        self.run(ask).instrument(span).await
    }

    async fn run(self: &Arc<Self>, ask: Ask) -> Completed {
        let started = Instant::now();
        let preparation = {
            let (completer, ask) = (Arc::clone(self), ask.clone());
            self.on_worker(move || completer.prepare(&ask, started)).await
        };
        let mut prepared = match preparation {
            Some(Preparation::Model(prepared)) => *prepared,
            Some(Preparation::Answered(site, texts, explain)) => {
                return self.finish(started, *site, texts, *explain);
            }
            None => return Completed { texts: Vec::new(), explain: Explain::default(), tree: None },
        };

        let answers = match self.generate(&ask, &prepared).await {
            Ok(answers) => answers,
            Err(error) => {
                tracing::warn!(%error, "no completion");
                prepared.explain.outcome = format!("nothing: {error}");
                return self.finish(started, prepared.site, Vec::new(), prepared.explain);
            }
        };

        let completer = Arc::clone(self);
        let finished = self.on_worker(move || {
            let (texts, explain) = completer.judge(&ask, &prepared, answers);
            completer.finish(started, prepared.site, texts, explain)
        });
        finished.await.unwrap_or_else(|| Completed {
            texts: Vec::new(),
            explain: Explain::default(),
            tree: None,
        })
    }

    /// Everything before the engine: text, reuse, shape, context, prompt.
    fn prepare(&self, ask: &Ask, started: Instant) -> Preparation {
        let mut clock = Clock { last: started };
        let site = self.site(ask);
        let mut explain = self.explanation(ask, &site);
        explain.milliseconds.text = clock.lap();

        let (prefix, suffix) = site.text.split_at(site.offset);
        if let Some(reason) = self.unwanted(ask) {
            explain.outcome = format!("nothing: {reason}");
            return Preparation::Answered(Box::new(site), Vec::new(), Box::new(explain));
        }
        let known = self
            .reuse
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .lookup(&cursor(ask, &site, prefix, suffix));
        explain.milliseconds.reuse = clock.lap();
        if let Some(known) = known {
            explain.source = if known.typed == 0 { Source::Cache } else { Source::TypedInto };
            explain.outcome = outcome(&known.texts, "the model had nothing worth showing here");
            return Preparation::Answered(Box::new(site), known.texts, Box::new(explain));
        }

        let decision = shape::decide(
            prefix,
            suffix,
            site.language,
            site.tree.as_ref(),
            ask.trigger,
            ask.config.multi_line,
        );
        explain.shape = Some(decision);
        explain.milliseconds.shape = clock.lap();
        if decision.shape == Shape::Nothing {
            explain.outcome = format!("nothing: {}", decision.reason);
            return Preparation::Answered(Box::new(site), Vec::new(), Box::new(explain));
        }

        let model = self.backend.model();
        let budgets = prompt::budgets(&ask.config, self.context_length);
        let window = prompt::window(&self.tokens, &site.text, site.offset, &budgets);
        explain.milliseconds.window = clock.lap();
        let place = context::Place {
            path: &site.path,
            text: &site.text,
            offset: site.offset,
            visible: window.visible.clone(),
            budget: budgets.context,
        };
        let items = self.contexts.choose(&self.workspace, &place, &self.tokens);
        explain.context = items.iter().map(Into::into).collect();
        explain.milliseconds.context = clock.lap();

        let path = &site.relative_path;
        let prompt =
            prompt::style(model, ask.config.prompt_style).and_then(|style| match (style, model.fim()) {
                (PromptStyle::Fim, Some(template)) => Ok(prompt::fim(
                    template,
                    &self.tokens,
                    path,
                    site.repository.as_deref(),
                    &items,
                    &window,
                    decision.shape,
                )),
                _ => prompt::chat(
                    model,
                    &self.tokens,
                    path,
                    site.language,
                    &items,
                    &site.text,
                    site.offset,
                    &window,
                    decision.shape,
                ),
            });
        explain.milliseconds.prompt = clock.lap();
        match prompt {
            Ok(prompt) => {
                explain.prompt_tokens = prompt.sections;
                explain.prompt_style = Some(match prompt.style {
                    PromptStyle::Fim => "fim",
                    PromptStyle::Chat => "chat",
                });
                Preparation::Model(Box::new(Prepared { site, shape: decision.shape, prompt, explain }))
            }
            Err(problem) => {
                explain.outcome = format!("nothing: {problem}");
                Preparation::Answered(Box::new(site), Vec::new(), Box::new(explain))
            }
        }
    }

    /// Asks the engine, once for each alternative, and reads until nothing more can be of use.
    async fn generate(&self, ask: &Ask, prepared: &Prepared) -> Result<Vec<Answer>, EngineError> {
        let submitted = Instant::now();
        let deadline = submitted + Duration::from_millis(ask.config.deadline_ms);
        let budgets = prompt::budgets(&ask.config, self.context_length);
        let mut generations = Vec::new();
        for number in 0..wanted(ask) {
            let request = Request {
                prompt: prepared.prompt.tokens.clone(),
                max_tokens: budgets.answer,
                deadline: Some(deadline),
                sampling: sampling(number),
                stop_tokens: prepared.prompt.stop_tokens.clone(),
                stop_texts: prepared.prompt.stop_texts.clone(),
                constraint: None,
                priority: ask.priority,
            };
            match self.backend.submit(request) {
                Ok(generation) => generations.push(generation),
                // One answer is better than an error because a second one did not fit.
                Err(_) if number > 0 => break,
                Err(error) => return Err(error),
            }
        }
        let around = prepared.around(&ask.config, Stop::Cancelled);
        let rejoin = prepared.prompt.rejoin.as_ref();
        let mut answers = Vec::new();
        for generation in generations {
            let reading = read(generation, &around, rejoin, submitted);
            match tokio::time::timeout_at((deadline + ENGINE_GRACE).into(), reading).await {
                Ok(Ok(answer)) => answers.push(answer),
                Ok(Err(error)) if answers.is_empty() => return Err(error),
                Ok(Err(_)) => break,
                Err(_) if answers.is_empty() => {
                    return Err(EngineError::Internal("it did not answer in time".into()));
                }
                Err(_) => break,
            }
        }
        Ok(answers)
    }

    /// Post-processes the answers, drops the ones that say the same, and remembers the rest.
    fn judge(&self, ask: &Ask, prepared: &Prepared, answers: Vec<Answer>) -> (Vec<String>, Explain) {
        let mut clock = Clock { last: Instant::now() };
        let mut explain = prepared.explain.clone();
        let mut texts: Vec<String> = Vec::new();
        for (number, answer) in answers.iter().enumerate() {
            let around = prepared.around(&ask.config, answer.stop);
            let joined = match &prepared.prompt.rejoin {
                Some(rejoin) => rejoin.join(&answer.text),
                None => answer.text.clone(),
            };
            let (text, steps) = postprocess(&joined, &around);
            if number == 0 {
                answer.describe(&mut explain);
                explain.postprocessing = steps;
            }
            if !text.is_empty() && !texts.contains(&text) {
                texts.push(text);
            }
        }
        explain.source = Source::Model;
        let why = explain.postprocessing.last().map_or("the model ended at once", |step| step.why);
        explain.outcome = outcome(&texts, why);
        let (prefix, suffix) = prepared.site.text.split_at(prepared.site.offset);
        let cursor = cursor(ask, &prepared.site, prefix, suffix);
        self.reuse.lock().unwrap_or_else(PoisonError::into_inner).remember(&cursor, texts.clone());
        explain.milliseconds.postprocess = clock.lap();
        (texts, explain)
    }

    fn finish(&self, started: Instant, site: Site, texts: Vec<String>, mut explain: Explain) -> Completed {
        explain.milliseconds.total = milliseconds(started.elapsed());
        explain.texts = texts.clone();
        let stages = &explain.milliseconds;
        tracing::info!(
            outcome = %explain.outcome,
            source = ?explain.source,
            prompt_tokens = explain.prompt_tokens.total,
            cached_tokens = explain.cached_tokens,
            generated_tokens = explain.generated_tokens,
            text_ms = stages.text,
            shape_ms = stages.shape,
            window_ms = stages.window,
            context_ms = stages.context,
            prompt_ms = stages.prompt,
            queue_ms = stages.queue,
            prefill_ms = stages.prefill,
            decode_ms = stages.decode,
            postprocess_ms = stages.postprocess,
            total_ms = stages.total,
            "completed"
        );
        self.explained.add(explain.clone());
        Completed { texts, explain, tree: site.tree }
    }

    fn site(&self, ask: &Ask) -> Site {
        let document = &ask.document;
        let relative = |root: &Path| {
            document.path.strip_prefix(root).ok().map(|rest| (root.to_path_buf(), rest.to_path_buf()))
        };
        let home = self
            .workspace
            .roots()
            .iter()
            .filter_map(|root| relative(root))
            .min_by_key(|(_, rest)| rest.as_os_str().len());
        let (repository, relative_path) = match home {
            Some((root, rest)) => (root.file_name().map(|name| name.to_string_lossy().into_owned()), rest),
            None => (None, document.path.file_name().map_or_else(PathBuf::new, PathBuf::from)),
        };
        let relative_path = relative_path.to_string_lossy().replace('\\', "/");
        let too_large = document.rope.len_bytes() > LARGEST_DOCUMENT_BYTES;
        let mut text = if too_large { String::new() } else { document.rope.to_string() };
        let mut offset = ask.offset.min(text.len());
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let mut tree = if too_large { None } else { document.parse() };
        if let Some(selected) = &ask.selected
            && let Some(replaced) = text.get(selected.range.clone()).map(str::len)
        {
            text.replace_range(selected.range.clone(), &selected.text);
            offset = (selected.range.start + selected.text.len()).min(text.len());
            tracing::debug!(replaced, "continuing the selected item");
            tree = document.language.and_then(|language| crate::syntax::parse_text(language, &text, None));
        }
        Site {
            path: document.path.clone(),
            relative_path,
            repository,
            text,
            offset,
            language: document.language,
            tree,
        }
    }

    /// Why there is to be no completion in this document.
    fn unwanted(&self, ask: &Ask) -> Option<String> {
        let (document, config) = (&ask.document, &ask.config);
        if document.rope.len_bytes() > LARGEST_DOCUMENT_BYTES {
            return Some(format!("the document is larger than {} MiB", LARGEST_DOCUMENT_BYTES >> 20));
        }
        if !config.languages.is_empty() && !config.languages.contains(&document.language_id) {
            return Some(format!("the setting languages does not name `{}`", document.language_id));
        }
        let mut disabled = GitignoreBuilder::new("");
        for glob in &config.disabled_globs {
            if let Err(error) = disabled.add_line(None, glob) {
                tracing::warn!(%error, "the setting disabledGlobs has an entry that is not understood");
            }
        }
        let disabled =
            disabled.build().ok()?.matched_path_or_any_parents(relative(&document.path), false).is_ignore();
        disabled.then(|| "the setting disabledGlobs names this file".to_string())
    }

    fn explanation(&self, ask: &Ask, site: &Site) -> Explain {
        let (line, column) = crate::position::to_human(&ask.document.rope, ask.offset);
        Explain {
            path: site.relative_path.clone(),
            line,
            column,
            model: self.backend.model().name().to_string(),
            ..Explain::default()
        }
    }

    /// Runs on a thread for work that takes milliseconds, a few at a time. `None` when it panicked.
    async fn on_worker<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let permit = Arc::clone(&self.workers).acquire_owned().await.ok()?;
        let span = tracing::Span::current();
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            span.in_scope(work)
        });
        match work.await {
            Ok(done) => Some(done),
            Err(error) => {
                tracing::error!(%error, "a completion panicked; this is a bug, please report it");
                None
            }
        }
    }
}

impl Prepared {
    fn around<'a>(&'a self, config: &Config, stop: Stop) -> Around<'a> {
        Around {
            text: &self.site.text,
            offset: self.site.offset,
            language: self.site.language,
            tree: self.site.tree.as_ref(),
            shape: self.shape,
            max_characters: config.max_characters,
            broken_off: matches!(stop, Stop::MaxTokens | Stop::Deadline | Stop::ContextFull),
        }
    }
}

impl Answer {
    fn describe(&self, explain: &mut Explain) {
        explain.raw = self.text.clone();
        explain.generated_tokens = self.generated;
        explain.stop_reason = Some(self.stop);
        explain.mean_log_probability =
            (self.generated > 0).then(|| self.log_probability_sum / self.generated as f32);
        match &self.stats {
            Some(stats) => {
                explain.cached_tokens = Some(stats.cached_tokens);
                explain.drafted_tokens = Some(stats.drafted_tokens);
                explain.accepted_tokens = Some(stats.accepted_tokens);
                explain.milliseconds.queue = stats.queue_ms;
                explain.milliseconds.prefill = stats.prefill_ms;
                explain.milliseconds.decode = stats.decode_ms;
            }
            None => {
                let first = self.first_token.unwrap_or(self.total);
                explain.milliseconds.prefill = milliseconds(first);
                explain.milliseconds.decode = milliseconds(self.total.saturating_sub(first));
            }
        }
    }
}

/// Reads a generation to its end, or until the rest could not be shown.
async fn read(
    mut generation: Generation,
    around: &Around<'_>,
    rejoin: Option<&Rejoin>,
    submitted: Instant,
) -> Result<Answer, EngineError> {
    let mut answer = Answer {
        text: String::new(),
        stop: Stop::Cancelled,
        stats: None,
        generated: 0,
        log_probability_sum: 0.0,
        first_token: None,
        total: Duration::ZERO,
    };
    let mut ended = None;
    while let Some(event) = generation.next().await {
        match event {
            Event::Token { .. } if ended.is_some() => {}
            Event::Token { text, log_probability, .. } => {
                answer.first_token.get_or_insert_with(|| submitted.elapsed());
                answer.generated += 1;
                answer.log_probability_sum += log_probability;
                answer.text.push_str(&text);
                if text.is_empty() {
                    continue;
                }
                let joined = rejoin.map(|rejoin| rejoin.join(&answer.text));
                let so_far = joined.as_deref().unwrap_or(&answer.text);
                let end = if postprocess::is_over(so_far, around) {
                    Stop::EndOfBlock
                } else if postprocess::is_looping(so_far) {
                    Stop::Repetition
                } else {
                    continue;
                };
                // The engine goes on to the next request; what comes after is the statistics.
                generation.stop();
                ended.get_or_insert(end);
            }
            Event::Finished { reason, text, stats } => {
                answer.text.push_str(&text);
                answer.stop = ended.unwrap_or(reason.into());
                answer.stats = Some(stats);
                answer.total = submitted.elapsed();
                return Ok(answer);
            }
            Event::Failed(error) => return Err(error),
        }
    }
    Err(EngineError::Stopped("it went away before the answer was complete".into()))
}

/// Globs are matched against paths without a root.
fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

fn wanted(ask: &Ask) -> usize {
    match ask.trigger {
        Trigger::Invoked => ask.config.alternatives.max(1),
        Trigger::Automatic => 1,
    }
}

/// The first answer is the most likely text; the others are drawn, each with its own seed.
fn sampling(number: usize) -> Sampling {
    match number {
        0 => Sampling::GREEDY,
        number => Sampling { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.05, seed: number as u64 },
    }
}

fn cursor<'a>(ask: &Ask, site: &'a Site, prefix: &'a str, suffix: &'a str) -> reuse::Cursor<'a> {
    reuse::Cursor {
        path: site.path.to_str().unwrap_or(&site.relative_path),
        prefix,
        suffix,
        config: ask.config.fingerprint(),
        wanted: wanted(ask),
    }
}

fn outcome(texts: &[String], why_nothing: &str) -> String {
    if texts.is_empty() { format!("nothing: {why_nothing}") } else { "shown".to_string() }
}

struct Clock {
    last: Instant,
}

impl Clock {
    /// Milliseconds since the last lap.
    fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let lap = milliseconds(now - self.last);
        self.last = now;
        lap
    }
}
