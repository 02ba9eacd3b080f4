//! Log lines go to standard error, or to the file named by LACUNA_LOG_FILE; never to standard output, which is the
//! protocol's.

use std::{fs::File, io, sync::OnceLock};

use tracing_subscriber::{EnvFilter, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

use crate::config::LogLevel;

/// Level, or a filter as in `lacuna=debug`; wins over the setting `logLevel`.
const LEVEL_VARIABLE: &str = "LACUNA_LOG";
const FILE_VARIABLE: &str = "LACUNA_LOG_FILE";

static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts logging at `level` unless LACUNA_LOG says otherwise. Later calls do nothing.
pub fn start(level: LogLevel) {
    let from_environment = std::env::var(LEVEL_VARIABLE).ok().filter(|filter| !filter.is_empty());
    let filter = match &from_environment {
        Some(filter) => EnvFilter::new(filter),
        None => filter(level),
    };
    let (filter, handle) = reload::Layer::new(filter);
    let lines = tracing_subscriber::fmt::layer().with_ansi(false);
    let file = std::env::var_os(FILE_VARIABLE).and_then(|path| {
        match File::options().create(true).append(true).open(&path) {
            Ok(file) => Some(file),
            Err(error) => {
                eprintln!("lacuna: cannot log to {} ({error}); logging to standard error", path.display());
                None
            }
        }
    });
    let started = match file {
        Some(file) => {
            Registry::default().with(filter).with(lines.with_writer(std::sync::Mutex::new(file))).try_init()
        }
        None => Registry::default().with(filter).with(lines.with_writer(io::stderr)).try_init(),
    };
    if started.is_ok() && from_environment.is_none() {
        let _ = FILTER.set(handle);
    }
}

/// Changes the level, unless the environment fixed it.
pub fn set_level(level: LogLevel) {
    if let Some(handle) = FILTER.get() {
        let _ = handle.reload(filter(level));
    }
}

fn filter(level: LogLevel) -> EnvFilter {
    let level = level.as_str();
    EnvFilter::new(format!("warn,lacuna={level},lacuna_inference={level},lacuna_indexer={level}"))
}
