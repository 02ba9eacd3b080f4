//! How many consecutive key presses in one function keep the context of other files as it was, word for word: what the
//! prefix cache lives on. Through the server's own choice, with its budgets, its tokens and what it remembers.
//!
//! `cargo run --example steadiness -- DIRECTORY [LINES] [SEED]`: two lines of a body are typed at random places.

use std::{path::PathBuf, sync::atomic::AtomicBool};

use anyhow::Context;
use lacuna::{
    complete::{
        context::{Contexts, Place},
        line_tokens::LineTokens,
        prompt, split,
    },
    config::Config,
};
use lacuna_indexer::{Language, Options, Workspace};
use lacuna_inference::{Model, ModelSource};

/// Longer lines are data.
const LONGEST_LINES: usize = 200;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().context("give a directory")?;
    let count: usize = arguments.next().map_or(Ok(60), |count| count.parse())?;
    let mut random: u64 = arguments.next().map_or(Ok(7), |seed| seed.parse())?;
    let root = PathBuf::from(directory).canonicalize()?;
    let workspace = Workspace::new(vec![root.clone()], Options::default());
    workspace.scan(&mut |_| {}, &AtomicBool::new(false));
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    anyhow::ensure!(!files.is_empty(), "no source files");

    let model = Model::open(&ModelSource::Embedded)?;
    let tokens = LineTokens::new(model.tokenizer().clone());
    let budgets = prompt::budgets(&Config::default(), model.context_length());
    let contexts = Contexts::default();
    let mut below = |bound: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % bound.max(1)
    };
    let (mut same, mut keys, mut lines) = (0usize, 0usize, 0usize);
    for _ in 0..20 * count {
        if lines >= count {
            break;
        }
        let path = &files[below(files.len())];
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        let from = below(text.len());
        let Some(start) = text.get(from..).and_then(|rest| rest.find("\n    ")).map(|at| from + at + 1)
        else {
            continue;
        };
        let end = text[start..].match_indices('\n').nth(1).map_or(text.len(), |(at, _)| start + at);
        if !text.is_ascii() || end - start > LONGEST_LINES {
            continue;
        }
        lines += 1;
        let mut previous = None;
        for typed in start..=end {
            let buffer = format!("{}{}", &text[..typed], &text[end..]);
            // The server brings the index up to date a moment after each key.
            workspace.update(path, Some(&buffer));
            let place = Place {
                path,
                text: &buffer,
                offset: typed,
                visible: split::fresh(&buffer, typed, &budgets, &tokens).visible(),
                budget: budgets.context,
                recent: &[],
            };
            let items = contexts.choose(&workspace, &place, &tokens);
            let written: String = items.into_iter().map(|item| item.path + &item.text).collect();
            if let Some(previous) = previous.replace(written.clone()) {
                keys += 1;
                same += usize::from(previous == written);
            }
        }
        workspace.update(path, None);
    }
    println!(
        "{same} of {keys} key presses in {lines} places keep the context ({:.1}%), {} tokens of it at most",
        100.0 * same as f64 / keys.max(1) as f64,
        budgets.context
    );
    Ok(())
}

fn collect(directory: &std::path::Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&path, files),
            Ok(kind) if kind.is_file() && Language::from_path(&path).is_some() => files.push(path),
            _ => {}
        }
    }
}
