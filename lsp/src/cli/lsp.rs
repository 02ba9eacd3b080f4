//! `lacuna lsp`: the language server on standard input and output.

use std::{process::ExitCode, sync::Arc};

use anyhow::Context;

use super::{MODEL_VARIABLE, start_engine};
use crate::{config::Config, indexing, server};

pub const AFTER_HELP: &str = "\
Settings come from the editor, as initializationOptions and by workspace/didChangeConfiguration;
`lacuna config schema` describes them. The model loads in the background.

Exit codes: 0 after `shutdown` and `exit`, 1 when the client went away without them.";

pub fn run() -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("lacuna-server")
        .enable_all()
        .build()
        .context("the server's threads could not be started")?;
    let opener = Arc::new(|config: &Config| {
        let from_environment = std::env::var(MODEL_VARIABLE).ok().filter(|model| !model.is_empty());
        match from_environment.filter(|_| config.model == Config::default().model) {
            Some(model) => start_engine(&Config { model, ..config.clone() }),
            None => start_engine(config),
        }
    });
    let serving = server::serve(tokio::io::stdin(), tokio::io::stdout(), opener, indexing::cache_directory());
    let code = runtime.block_on(serving);
    // The thread that reads standard input cannot be joined while the other side keeps it open.
    std::process::exit(if code == ExitCode::SUCCESS { 0 } else { 1 });
}
