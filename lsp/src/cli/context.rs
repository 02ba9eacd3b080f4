//! `lacuna context`: what of other files would go into the prompt at a place, and why.

use std::{io::Write, path::PathBuf, process::ExitCode, sync::atomic::AtomicBool, time::Instant};

use anyhow::Context;
use clap::Args;
use lacuna_indexer::{Options, Query, Workspace};
use lacuna_inference::{Model, milliseconds};
use ropey::Rope;
use serde_json::json;

use super::{chosen_model, source};
use crate::{
    complete::{context::measure, line_tokens::LineTokens, prompt, split},
    config::Config,
    indexing, position,
};

/// Show what of other files would go into the prompt at a place in a file, and why
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  lacuna context src/app.py:12:5
  lacuna context src/app.py:12:5 --tokens 2048 --json")]
pub struct Arguments {
    /// The place: line and column count from 1, the column in characters
    #[arg(value_name = "FILE:LINE:COL")]
    place: String,

    /// `embedded`, or the path of a GGUF file: whose tokens are counted
    #[arg(long, value_name = "PATH|embedded")]
    model: Option<String>,

    /// The most tokens of context [default: the setting's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=65_536))]
    tokens: Option<u64>,

    /// The directory whose other files give context [default: the one with .git above the file, else the file's own]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let (file, line, column) = super::complete::parse_place(&arguments.place)?;
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("{}: the file cannot be read as UTF-8 text", file.display()))?;
    let rope = Rope::from_str(&text);
    let offset = position::from_human(&rope, line, column).map_err(|problem| {
        anyhow::anyhow!("{}: {problem}; give FILE:LINE:COL inside the file", file.display())
    })?;
    let path =
        std::path::absolute(&file).with_context(|| format!("{}: not a usable path", file.display()))?;
    let root = super::complete::workspace_root(arguments.root.as_deref(), &path)?;
    let options = Options { cache_directory: indexing::cache_directory(), ..Options::default() };
    let workspace = Workspace::new(vec![root], options);
    let report = workspace.scan(&mut |_| {}, &AtomicBool::new(false));
    let model = Model::open(&source(&chosen_model(arguments.model.as_deref())))?;
    let budgets = prompt::budgets(&Config::default(), model.context_length());
    let tokens = LineTokens::new(model.tokenizer().clone());
    let split = split::fresh(&text, offset, &budgets, &tokens);
    let budget = arguments.tokens.map_or(budgets.context, |tokens| tokens as usize);
    let snapshot = workspace.snapshot();
    let started = Instant::now();
    let items = snapshot.context(&Query {
        path: &path,
        text: &text,
        offset,
        visible: split.visible(),
        budget,
        measure: &|text| measure(&tokens, text),
        recent: &[],
    });
    let context_ms = milliseconds(started.elapsed());
    let used: usize = items.iter().map(|item| item.cost).sum();
    let mut output = std::io::stdout().lock();
    if arguments.json {
        let answer = json!({
            "items": items, "tokens": used, "budget": budget, "milliseconds": context_ms,
            "index_milliseconds": report.milliseconds,
        });
        writeln!(output, "{}", serde_json::to_string_pretty(&answer)?)?;
    } else {
        for item in &items {
            writeln!(output, "--- {}, {} tokens: {}", item.path, item.cost, item.reason)?;
            writeln!(output, "{}", item.text.trim_end())?;
        }
        eprintln!(
            "{used} of {budget} tokens in {context_ms:.1} ms, after {:.0} ms for the index",
            report.milliseconds
        );
    }
    output.flush().context("the answer could not be written")?;
    Ok(ExitCode::SUCCESS)
}
