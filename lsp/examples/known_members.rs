//! What knowing a receiver's type is worth: how often a completion behind a `.` is the rest of the line, and its first name the
//! member's, through the whole pipeline. Without any of the workspace, with the list of members alone, and with the list and context
//! from other files, which small models are not shown there: for them the last two are the same.
//!
//! `cargo run --release --example known_members -- DIRECTORY [PLACES]`: accesses of the directory's own code that the index has
//! a list for, evenly spread over its files. The rest of the cursor's line is cut off, as while typing.

mod ask;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::{Context, ensure};
use lacuna::{complete::Completer, config::Config};
use lacuna_indexer::{Language, Options, Workspace, syntax};
use lacuna_inference::{Backend, Engine, EngineOptions, Model, ModelSource};

struct Place {
    path: PathBuf,
    language: Language,
    text: String,
    cursor: usize,
    line: String,
    name: String,
}

/// Ways of asking, in the order that they are printed in.
const WAYS: [(&str, bool, usize); 3] =
    [("nothing", false, 0), ("the list", true, 0), ("the list and context", true, 512)];

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().context("give a directory of source files")?;
    let count: usize = arguments.next().map_or(Ok(200), |count| count.parse())?;
    let root = Path::new(&directory).canonicalize().context(directory)?;
    let indexed = Workspace::new(vec![root], Options::default());
    indexed.scan(&mut |_| {}, &AtomicBool::new(false));
    let places = places(&indexed, count);
    ensure!(!places.is_empty(), "the index knows the members at no access of this code");

    let engine = Arc::new(Engine::start(Model::open(&ModelSource::Embedded)?, EngineOptions::default())?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let completer = |workspace| Arc::new(Completer::new(engine.clone() as Arc<dyn Backend>, workspace));
    let with = completer(indexed);
    let without = completer(Workspace::new(Vec::new(), Options::default()));
    let mut right = Vec::new();
    for place in &places {
        let mut outcomes = [(false, false); WAYS.len()];
        let mut has_list = true;
        for ((_, is_indexed, context_tokens), outcome) in WAYS.iter().zip(&mut outcomes).rev() {
            engine.clear_cache()?;
            let completer = if *is_indexed { &with } else { &without };
            let (text, listed) = runtime.block_on(complete(completer, *context_tokens, place));
            has_list &= listed || !is_indexed;
            if !has_list {
                break;
            }
            let line = text.lines().next().unwrap_or_default().trim();
            *outcome = (line == place.line, name(line) == place.name);
        }
        if has_list {
            right.push(outcomes);
        }
    }
    println!("{} places with a list of {} looked at", right.len(), places.len());
    println!("{:24} {:>8} {:>8}", "with", "line", "name");
    for (at, (way, _, _)) in WAYS.iter().enumerate() {
        let share = |count: usize| 100.0 * count as f64 / right.len().max(1) as f64;
        println!(
            "{way:24} {:>7.1}% {:>7.1}%",
            share(right.iter().filter(|outcomes| outcomes[at].0).count()),
            share(right.iter().filter(|outcomes| outcomes[at].1).count())
        );
    }
    for at in 1..WAYS.len() {
        let gained = right.iter().filter(|outcomes| outcomes[at].0 && !outcomes[0].0).count();
        let lost = right.iter().filter(|outcomes| !outcomes[at].0 && outcomes[0].0).count();
        println!("lines right with {} only {gained}, with nothing only {lost}", WAYS[at].0);
    }
    Ok(())
}

/// The name that a text begins with.
fn name(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

fn places(workspace: &Workspace, count: usize) -> Vec<Place> {
    let snapshot = workspace.snapshot();
    let mut all = Vec::new();
    let mut files: Vec<PathBuf> = snapshot.file_paths().map(Path::to_owned).collect();
    files.sort();
    for path in files {
        let (Some(language), Ok(text)) = (Language::from_path(&path), fs::read_to_string(&path)) else {
            continue;
        };
        let Some(tree) = syntax::parse_str(language, &text) else { continue };
        for range in snapshot.check_members(&path, &text, &tree, 0..text.len()).known {
            let end = text[range.start..].find('\n').map_or(text.len(), |length| range.start + length);
            let place = Place {
                path: path.clone(),
                language,
                text: format!("{}{}", &text[..range.start], &text[end..]),
                cursor: range.start,
                line: text[range.start..end].trim().to_owned(),
                name: text[range.clone()].to_owned(),
            };
            all.push(place);
        }
    }
    let step = all.len().div_ceil(count.max(1)).max(1);
    all.into_iter().step_by(step).collect()
}

async fn complete(completer: &Arc<Completer>, context_tokens: usize, place: &Place) -> (String, bool) {
    let config = Config { context_tokens, ..Config::default() };
    let ask = ask::ask(&place.path, place.language, &place.text, place.cursor, config);
    let completed = completer.complete(ask).await;
    (completed.texts.into_iter().next().unwrap_or_default(), completed.explain.members.is_some())
}
