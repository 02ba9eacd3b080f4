//! The command line: one file for each subcommand.

mod bench;
mod complete;
mod config;
mod context;
mod doctor;
mod index;
mod lsp;
mod model;

use std::{path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::{Parser, Subcommand};
use lacuna_inference::{Backend, Engine, EngineOptions, Model, ModelSource};

use crate::config::Config;

/// Code completion by a model on your own machine.
///
/// Editors start `lacuna lsp`. The other commands are for the terminal: try a completion, look into a model, find out
/// why something does not work.
#[derive(Debug, Parser)]
#[command(name = "lacuna", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Lacuna {
    #[command(subcommand)]
    pub command: Command,
}

const AFTER_HELP: &str = "\
Exit codes:
  0  done; for `complete` also when there is nothing worth showing (the answer is then empty)
  1  failed; the message says what to do
  2  the arguments were wrong

Environment:
  LACUNA_LOG       what is logged to standard error: error, warn, info, debug, trace, or a filter
                   such as lacuna=debug
  LACUNA_LOG_FILE  a file to log to instead
  LACUNA_CACHE_DIR where the index of a workspace is kept for the next start; empty: nowhere
  LACUNA_MODEL     the model, where --model is not given and no editor sets one";

#[derive(Debug, Subcommand)]
pub enum Command {
    Complete(complete::Arguments),
    /// Serve an editor on standard input and output by the Language Server Protocol
    #[command(after_help = lsp::AFTER_HELP)]
    Lsp,
    /// Look into model files
    #[command(subcommand)]
    Model(model::Command),
    Index(index::Arguments),
    Context(context::Arguments),
    Doctor(doctor::Arguments),
    Bench(bench::Arguments),
    /// Describe the settings
    #[command(subcommand)]
    Config(config::Command),
}

impl Command {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Complete(arguments) => complete::run(&arguments),
            Self::Lsp => lsp::run(),
            Self::Model(command) => model::run(&command),
            Self::Index(arguments) => index::run(&arguments),
            Self::Context(arguments) => context::run(&arguments),
            Self::Doctor(arguments) => Ok(doctor::run(&arguments)),
            Self::Bench(arguments) => bench::run(&arguments),
            Self::Config(command) => config::run(&command),
        }
    }
}

const MODEL_VARIABLE: &str = "LACUNA_MODEL";

/// The model to use: the argument, else the environment's, else the embedded one.
fn chosen_model(argument: Option<&str>) -> String {
    argument
        .map(String::from)
        .or_else(|| std::env::var(MODEL_VARIABLE).ok().filter(|model| !model.is_empty()))
        .unwrap_or_else(|| Config::default().model)
}

/// Opens the model and starts the engine as the settings say.
fn start_engine(config: &Config) -> Result<Arc<dyn Backend>, String> {
    let open = |name: &str| Model::open(&source(name)).map_err(|error| error.to_string());
    let draft_model = Some(&*config.draft_model).filter(|name| !name.is_empty());
    let minutes = Some(config.unload_after_minutes).filter(|minutes| *minutes > 0);
    let options = EngineOptions {
        device: config.device.parse()?,
        page_format: config.gpu_cache.parse()?,
        threads: config.threads,
        draft_model: draft_model.map(open).transpose()?,
        unload_after: minutes.map(|minutes| Duration::from_secs(60 * minutes)),
        ..EngineOptions::default()
    };
    match Engine::start(open(&config.model)?, options) {
        Ok(engine) => Ok(Arc::new(engine)),
        Err(error) => Err(error.to_string()),
    }
}

fn source(model: &str) -> ModelSource {
    match ModelSource::parse(model) {
        ModelSource::Path(path) => ModelSource::Path(expand_home(path)),
        embedded @ ModelSource::Embedded => embedded,
    }
}

/// `~/x` under the home directory: editors pass settings on without a shell.
fn expand_home(path: PathBuf) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => path,
    }
}
