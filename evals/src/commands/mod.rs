//! Arguments of the subcommands, checked, and what each calls.

mod measure;
mod runs;
mod score;

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use lacuna_evals::{
    execute::pool::Execution,
    generate::{self, Generator, http},
    sandbox::Isolation,
};
use lacuna_inference::{Device, PageFormat, speculative::Speculation};

/// Measures a completion model or server on this machine.
#[derive(Debug, Parser)]
#[command(name = "lacuna-evals", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Score a file of samples by executing them: pass@k.
    Score(score::Score),
    #[command(name = "humaneval")]
    HumanEval(measure::HumanEval),
    Infilling(measure::Infilling),
    #[command(name = "crossfile")]
    CrossFile(measure::CrossFile),
    Replay(runs::Replay),
    Compare(runs::Compare),
    ShowOne(runs::ShowOne),
}

/// What every subcommand takes.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// A model file, `embedded`, or a server: http://127.0.0.1:PORT.
    #[arg(long, default_value = "embedded", value_name = "PATH|embedded|URL")]
    pub model: String,
    /// Evaluation data: a file or a directory that holds it. Public data is fetched when this is not given.
    #[arg(long, value_name = "PATH")]
    pub data: Option<PathBuf>,
    /// Use only the first N problems.
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Seed of everything that is drawn at random.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// Print the result as JSON on standard output.
    #[arg(long)]
    pub json: bool,
}

/// How samples are executed.
#[derive(Debug, Clone, Args)]
pub struct ExecutionArguments {
    /// Samples executed at the same time; by default one for each processor.
    #[arg(long, value_name = "N")]
    workers: Option<NonZeroUsize>,
    /// Seconds that one sample may run.
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    timeout: f64,
    /// The Python interpreter that samples run in.
    #[arg(long, default_value = "python3", value_name = "COMMAND")]
    python: String,
    /// The javatuples library, for Java problems; a stand-in of its Pair class is used without it.
    #[arg(long, value_name = "JAR")]
    javatuples: Option<PathBuf>,
    /// Run samples WITHOUT isolation: they can do to this machine whatever you can.
    #[arg(long)]
    unsafe_no_sandbox: bool,
}

/// How completions are made.
#[derive(Debug, Clone, Args, Serialize)]
pub struct EngineArguments {
    /// Completions made at the same time. The engine gives each the same tokens as alone; latencies grow with it.
    #[arg(long, default_value = "1", value_name = "N")]
    pub parallel: NonZeroUsize,
    /// Where the engine in this process runs: auto, cpu, cuda or cuda:N.
    #[arg(long, default_value_t = Device::Auto, value_name = "DEVICE")]
    #[serde(skip)]
    device: Device,
    /// How a GPU keeps keys and values: bf16 or fp8.
    #[arg(long, default_value_t = PageFormat::default(), value_name = "FORMAT")]
    #[serde(skip)]
    gpu_cache: PageFormat,
    /// Threads of the engine; 0 takes one for each processor.
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub threads: usize,
    /// Whether the engine guesses tokens that repeat; the answers are the same either way.
    #[arg(long, value_enum, default_value = "on")]
    speculation: Switch,
    /// Answers that the engine follows side by side to find the likeliest whole one, where it does not sample; 1 takes the
    /// likeliest token at each place. By default 1, and the language server's own choice where that is asked.
    #[arg(long, value_name = "N")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beams: Option<NonZeroUsize>,
    /// The model asked for at a server; by default the first that it lists.
    #[arg(long, value_name = "NAME")]
    server_model: Option<String>,
    /// The environment variable that holds the key a server wants.
    #[arg(long, value_name = "VARIABLE")]
    server_key: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Switch {
    On,
    Off,
}

fn check_ks(ks: &[usize]) -> Result<()> {
    anyhow::ensure!(ks.iter().all(|&k| k > 0), "--k must be 1 or more");
    Ok(())
}

impl EngineArguments {
    pub fn open(&self, model: &str) -> Result<Generator> {
        let key = match &self.server_key {
            Some(name) => {
                Some(std::env::var(name).with_context(|| format!("--server-key: {name} is not set"))?)
            }
            None => None,
        };
        let options = generate::Options {
            device: self.device,
            page_format: self.gpu_cache,
            threads: self.threads,
            speculation: match self.speculation {
                Switch::On => Speculation::default(),
                Switch::Off => Speculation::Off,
            },
            beams: self.beams.map_or(1, NonZeroUsize::get),
            parallel: self.parallel.get(),
            server: http::Settings { model: self.server_model.clone(), key },
        };
        Generator::open(model, &options)
    }
}

impl ExecutionArguments {
    pub fn check(&self) -> Result<Execution> {
        anyhow::ensure!(
            self.timeout.is_finite() && self.timeout > 0.0 && self.timeout <= 3600.0,
            "--timeout must be between 0 and 3600 seconds"
        );
        let isolation = if self.unsafe_no_sandbox { Isolation::UnsafeNone } else { Isolation::Full };
        if isolation == Isolation::UnsafeNone {
            eprintln!("warning: --unsafe-no-sandbox: model-written code runs with all your rights");
        }
        let default = Execution::default();
        Ok(Execution {
            workers: self.workers.unwrap_or(default.workers),
            timeout: Duration::from_secs_f64(self.timeout),
            isolation,
            python: self.python.clone(),
            executable: None,
            javatuples: self.javatuples.clone(),
        })
    }
}

impl Arguments {
    pub fn run(self) -> Result<()> {
        match self.command {
            Command::Score(command) => command.run(),
            Command::HumanEval(command) => command.run(),
            Command::Infilling(command) => command.run(),
            Command::CrossFile(command) => command.run(),
            Command::Replay(command) => command.run(),
            Command::Compare(command) => command.run(),
            Command::ShowOne(command) => command.run(),
        }
    }
}
