//! `lacuna model`: what is in a model file, and which models are at hand.

use std::{path::PathBuf, process::ExitCode};

use clap::Subcommand;
use lacuna_inference::{Model, ModelFacts, ModelSource};

use super::{chosen_model, source};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show what is in a model file: architecture, sizes, quantization, tokenizer, templates
    Inspect {
        /// `embedded`, or the path of a GGUF file
        #[arg(value_name = "PATH|embedded")]
        model: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the models at hand
    ///
    /// The embedded one, the one that LACUNA_MODEL names, and the .gguf files in the directories given.
    List {
        /// Directories to look into [default: the current one]
        #[arg(value_name = "DIR")]
        directories: Vec<PathBuf>,
    },
}

pub fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Inspect { model, json } => {
            let model = Model::open(&source(model))?;
            let facts = model.facts();
            if *json {
                println!("{}", serde_json::to_string_pretty(&facts)?);
            } else {
                print_facts(&facts);
            }
        }
        Command::List { directories } => list(directories)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn print_facts(facts: &ModelFacts) {
    let line = |label: &str, text: String| println!("{label:<16}{text}");
    let config = &facts.config;
    line("name", facts.name.clone());
    line("title", facts.title.clone().unwrap_or_else(|| "none".into()));
    line("architecture", format!("{:?}", config.architecture).to_lowercase());
    line("file", format!("{}, GGUF version {}", mebibytes(facts.bytes), facts.gguf_version));
    line("parameters", format!("{:.1} million", facts.parameters as f64 / 1e6));
    line("context", format!("{} tokens", config.context_length));
    line(
        "layers",
        format!(
            "{} of width {}, {} heads of {} ({} for keys and values), feed-forward {}",
            config.layers,
            config.embedding,
            config.heads,
            config.head_dimension,
            config.kv_heads,
            config.feed_forward
        ),
    );
    line("rope base", config.rope_base.to_string());
    line(
        "embeddings",
        if config.tied_embeddings { "tied to the output" } else { "separate from the output" }.into(),
    );
    line("cache a token", format!("{} bytes", facts.kv_bytes_per_token));
    for (name, totals) in &facts.tensors {
        line(
            "quantization",
            format!(
                "{name}: {} tensors, {:.1} million parameters, {}",
                totals.count,
                totals.parameters as f64 / 1e6,
                mebibytes(totals.bytes)
            ),
        );
    }
    let tokenizer = &facts.tokenizer;
    line(
        "tokenizer",
        format!(
            "{} (pre-tokenizer {}), {} tokens, {} merges, {} special tokens",
            tokenizer.model,
            tokenizer.pre_tokenizer,
            tokenizer.tokens,
            tokenizer.merges,
            tokenizer.special_tokens
        ),
    );
    line("end of text", tokenizer.eos.clone().unwrap_or_else(|| "none".into()));
    match &facts.fim {
        None => line("fill-in-middle", "no tokens found".into()),
        Some(fim) => {
            line("fill-in-middle", format!("family {}, order {:?}", fim.family, fim.order).to_lowercase());
            for (role, spelling, id) in &fim.tokens {
                line("", format!("{role:<12}{spelling} {id}"));
            }
        }
    }
    let template = match (facts.has_chat_template, facts.thinks) {
        (false, _) => "none",
        (true, false) => "yes",
        (true, true) => "yes, thinking",
    };
    line("chat template", template.into());
    let style = if facts.fim.is_none() && !facts.has_chat_template {
        "nothing: it has neither fill-in-the-middle tokens nor a chat template".to_string()
    } else {
        format!("{:?}", facts.default_prompt_style).to_lowercase()
    };
    line("asked by", style);
}

fn list(directories: &[PathBuf]) -> anyhow::Result<()> {
    let mut models = vec![ModelSource::Embedded];
    if let chosen @ ModelSource::Path(_) = source(&chosen_model(None)) {
        models.push(chosen);
    }
    let here = [PathBuf::from(".")];
    for directory in if directories.is_empty() { &here } else { directories } {
        let entries = match std::fs::read_dir(directory) {
            Ok(entries) => entries,
            Err(error) => anyhow::bail!(
                "{}: cannot be listed ({error}); give an existing directory",
                directory.display()
            ),
        };
        let mut found: Vec<PathBuf> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "gguf"))
            .collect();
        found.sort();
        models.extend(found.into_iter().map(ModelSource::Path));
    }
    for model in models {
        let name = match &model {
            ModelSource::Embedded => "embedded".to_string(),
            ModelSource::Path(path) => path.display().to_string(),
        };
        match Model::open(&model) {
            Ok(model) => {
                let facts = model.facts();
                let style = match (&facts.fim, facts.has_chat_template) {
                    (None, false) => "cannot complete".to_string(),
                    _ => format!("{:?}", facts.default_prompt_style).to_lowercase(),
                };
                println!(
                    "{name}  {:.1}M parameters, {}, context {}, {style}",
                    facts.parameters as f64 / 1e6,
                    mebibytes(facts.bytes),
                    model.context_length(),
                );
            }
            Err(error) => println!("{name}  unusable: {error}"),
        }
    }
    Ok(())
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
