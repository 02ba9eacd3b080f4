//! `lacuna index`: what the index finds in a directory, and what it costs.

use std::{io::Write, path::PathBuf, process::ExitCode, sync::atomic::AtomicBool};

use anyhow::{Context, bail};
use clap::Args;
use lacuna_indexer::{Options, Workspace};
use serde_json::json;

use crate::indexing;

/// Index a directory and say what was found
///
/// Counts files, lines and symbols, the time and memory they took, and names what was left out and why.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The directory
    #[arg(value_name = "DIR", default_value = ".")]
    directory: PathBuf,

    /// Read everything anew, and keep nothing for the next start
    #[arg(long)]
    no_cache: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Lines printed about what was left out; all of it is in the JSON.
const SHOWN_SKIPPED: usize = 20;

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let directory = std::path::absolute(&arguments.directory)
        .with_context(|| format!("{}: not a usable path", arguments.directory.display()))?;
    if !directory.is_dir() {
        bail!("{}: there is no such directory", directory.display());
    }
    let cache_directory = if arguments.no_cache { None } else { indexing::cache_directory() };
    let workspace = Workspace::new(vec![directory], Options { cache_directory, ..Options::default() });
    let report = workspace.scan(&mut |_| {}, &AtomicBool::new(false));
    let heap_bytes = workspace.snapshot().heap_bytes();
    let mut output = std::io::stdout().lock();
    if arguments.json {
        let mut answer = serde_json::to_value(&report)?;
        answer["heap_bytes"] = json!(heap_bytes);
        writeln!(output, "{}", serde_json::to_string_pretty(&answer)?)?;
    } else {
        writeln!(
            output,
            "{} files, {} lines, {} symbols in {:.0} ms; {} files from the cache; {:.1} MB",
            report.files,
            report.lines,
            report.symbols,
            report.milliseconds,
            report.from_cache,
            heap_bytes as f64 / 1e6,
        )?;
        if let Some(reason) = &report.not_kept {
            writeln!(output, "not kept for the next start: {reason}")?;
        }
        for skipped in report.skipped.iter().take(SHOWN_SKIPPED) {
            writeln!(output, "left out: {}: {}", skipped.path.display(), skipped.reason)?;
        }
        if let Some(more) = report.skipped.len().checked_sub(SHOWN_SKIPPED).filter(|more| *more > 0) {
            writeln!(output, "and {more} more, see --json")?;
        }
    }
    output.flush().context("the answer could not be written")?;
    Ok(ExitCode::SUCCESS)
}
