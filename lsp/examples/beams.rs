//! What following several answers side by side is worth: how often a completion is the rest of the line, with one beam and
//! with more, through the whole pipeline but for context from other files.
//!
//! `cargo run --release --example beams -- DIRECTORY [PLACES] [SEED] [BEAMS]`: places in the files of a directory, as many of each
//! language. The rest of the cursor's line is cut off, as while typing; the cursor is before a word or sign.

mod ask;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, ensure};
use lacuna::{complete::Completer, config::Config};
use lacuna_indexer::{Language, Options, Workspace};
use lacuna_inference::{Backend, Engine, EngineOptions, Model, ModelSource};

struct Place {
    path: PathBuf,
    language: Language,
    text: String,
    cursor: usize,
    expected: String,
}

/// What came of one place.
struct Outcome {
    is_right: bool,
    is_shown: bool,
    confidence: f32,
    milliseconds: f64,
}

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().context("give a directory of source files")?;
    let count: usize = arguments.next().map_or(Ok(200), |count| count.parse())?;
    let mut random: u64 = arguments.next().map_or(Ok(1), |seed| seed.parse())?;
    let beams: usize = arguments.next().map_or(Ok(4), |beams| beams.parse())?;
    let mut files: BTreeMap<&str, Vec<PathBuf>> = BTreeMap::new();
    collect(Path::new(&directory), &mut files);
    ensure!(!files.is_empty(), "{directory} holds no source files");

    let engine = Arc::new(Engine::start(Model::open(&ModelSource::Embedded)?, EngineOptions::default())?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let completers = [1, beams].map(|beams| {
        let workspace = Workspace::new(Vec::new(), Options::default());
        (beams, Arc::new(Completer::new(engine.clone() as Arc<dyn Backend>, workspace)))
    });
    let mut all: Vec<[Outcome; 2]> = Vec::new();
    println!("{:12} {:>6} {:>8} {:>8}", "language", "places", "1 beam", format!("{beams} beams"));
    for (language, files) in files {
        let mut outcomes = Vec::new();
        // Short and odd files have no places.
        for _ in 0..20 * count {
            if outcomes.len() == count {
                break;
            }
            let file = &files[draw(&mut random) % files.len()];
            let Some(place) = place(file, &mut random) else { continue };
            let mut pair = Vec::new();
            for (beams, completer) in &completers {
                engine.clear_cache()?;
                pair.push(runtime.block_on(complete(completer, *beams, &place)));
            }
            outcomes.extend(<[Outcome; 2]>::try_from(pair));
        }
        let share =
            |at: usize| percent(outcomes.iter().filter(|pair| pair[at].is_right).count(), outcomes.len());
        println!("{language:12} {:>6} {:>7.1}% {:>7.1}%", outcomes.len(), share(0), share(1));
        all.extend(outcomes);
    }
    let only = |at: usize| all.iter().filter(|pair| pair[at].is_right && !pair[1 - at].is_right).count();
    println!("\nright with one beam only {}, with {beams} only {}", only(0), only(1));
    println!(
        "{:>8} {:>7} {:>7} {:>14} {:>7} {:>8} {:>8}",
        "beams", "shown", "right", "shown from 40%", "right", "p50 ms", "p95 ms"
    );
    for (at, (beams, _)) in completers.iter().enumerate() {
        let outcomes = || all.iter().map(|pair| &pair[at]);
        let right = |least: f32| outcomes().filter(|o| o.is_right && o.confidence >= least).count();
        let shown = |least: f32| outcomes().filter(|o| o.is_shown && o.confidence >= least).count();
        let mut times: Vec<f64> = outcomes().map(|outcome| outcome.milliseconds).collect();
        times.sort_by(f64::total_cmp);
        println!(
            "{beams:>8} {:>6.1}% {:>6.1}% {:>13.1}% {:>6.1}% {:>8.1} {:>8.1}",
            percent(shown(0.0), all.len()),
            percent(right(0.0), all.len()),
            percent(shown(0.4), all.len()),
            percent(right(0.4), shown(0.4)),
            times[times.len() / 2],
            times[times.len() * 95 / 100],
        );
    }
    Ok(())
}

fn percent(part: usize, all: usize) -> f64 {
    100.0 * part as f64 / all.max(1) as f64
}

/// SplitMix64.
fn draw(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as usize >> 8
}

fn collect(directory: &Path, files: &mut BTreeMap<&str, Vec<PathBuf>>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            collect(&path, files);
        } else if let Some(language) = Language::from_path(&path) {
            files.entry(language.name()).or_default().push(path);
        }
    }
}

fn place(file: &Path, random: &mut u64) -> Option<Place> {
    let text = fs::read_to_string(file).ok()?;
    let starts: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
    let start = *starts.get(draw(random) % starts.len().max(1))?;
    let line = text[start..].lines().next()?;
    let code = line.trim();
    let is_comment = ["#", "//", "/*", "*", "--"].iter().any(|sign| code.starts_with(sign));
    if is_comment || code.len() < 8 || line.len() > 160 || !line.is_ascii() {
        return None;
    }
    let bytes = line.as_bytes();
    let is_word = |at: usize| bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_';
    let first = line.len() - line.trim_start().len();
    let places: Vec<usize> =
        (first + 1..line.trim_end().len()).filter(|&at| !(is_word(at) && is_word(at - 1))).collect();
    let at = *places.get(draw(random) % places.len().max(1))?;
    let cursor = start + at;
    Some(Place {
        path: file.to_owned(),
        language: Language::from_path(file)?,
        text: format!("{}{}", &text[..cursor], &text[start + line.len()..]),
        cursor,
        expected: line[at..].trim().to_string(),
    })
}

async fn complete(completer: &Arc<Completer>, beams: usize, place: &Place) -> Outcome {
    let config = Config { beams, ..Config::default() };
    let ask = ask::ask(&place.path, place.language, &place.text, place.cursor, config);
    let completed = completer.complete(ask).await;
    let text = completed.texts.first().map_or("", String::as_str);
    Outcome {
        is_right: text.lines().next().unwrap_or_default().trim() == place.expected,
        is_shown: !text.is_empty(),
        confidence: completed.explain.confidence.first().copied().unwrap_or(0.0),
        milliseconds: completed.explain.milliseconds.total,
    }
}
