//! How far the member check can be trusted: `cargo run --release --example members -- DIR`.
//!
//! The code of DIR is taken to be right, so that every member of it that the check calls missing is a false alarm. Then one
//! access at a time gets the name of a member that real code asks of other types: how many of those the check finds. And for
//! how many accesses there is a list of all that may stand there, how long it is, and whether it has what does stand there.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use lacuna_indexer::{Language, Options, Snapshot, Workspace, syntax};

/// Accesses of one language that get another name.
const CHANGED: usize = 2000;

/// Of so many names behind a dot or a path one is asked for its list, in a text where another name stands there: each is a parse.
const EACH: usize = 10;

#[derive(Default)]
struct Tally {
    accesses: usize,
    false_alarms: usize,
    places: Vec<(PathBuf, Range<usize>)>,
    /// Places that were asked for a list.
    asked: usize,
    /// By list: its length, and whether it lacks the name.
    lists: Vec<(usize, bool)>,
    /// What looking for each took.
    times: Vec<Duration>,
}

/// Names behind a dot or a path, whatever they are: those in comments have no list.
fn asked(text: &str) -> Vec<Range<usize>> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, mark) in text.match_indices(['.', ':']) {
        let start = at + mark.len();
        let length = text[start..].find(|c| !is_word(c)).unwrap_or(text.len() - start);
        let is_one = mark == "." || text[..at].ends_with(':');
        if is_one && length > 0 && !text[start..].starts_with(|c: char| c.is_ascii_digit()) {
            found.push(start..start + length);
        }
    }
    found
}

fn lists(
    snapshot: &Snapshot,
    path: &Path,
    language: Language,
    text: &str,
    accesses: &[Range<usize>],
) -> Vec<(Range<usize>, Vec<String>, Duration)> {
    let list = |range: &Range<usize>| {
        let changed = format!("{}x{}", &text[..range.start], &text[range.end..]);
        let tree = syntax::parse_str(language, &changed)?;
        let began = Instant::now();
        let names = snapshot.members_at(path, &changed, &tree, range.start)?;
        Some((range.clone(), names, began.elapsed()))
    };
    accesses.iter().step_by(EACH).filter_map(list).collect()
}

fn main() {
    let Some(directory) = std::env::args().nth(1) else {
        eprintln!("usage: members DIR");
        std::process::exit(2);
    };
    let root = Path::new(&directory).canonicalize().unwrap_or_else(|error| {
        eprintln!("{directory}: {error}");
        std::process::exit(1);
    });
    let workspace = Workspace::new(vec![root.clone()], Options::default());
    workspace.scan(&mut |_| {}, &AtomicBool::new(false));
    let snapshot = workspace.snapshot();
    let mut files: Vec<PathBuf> = snapshot.file_paths().map(Path::to_owned).collect();
    files.sort();
    let mut tallies: BTreeMap<&str, Tally> = BTreeMap::new();
    for path in files {
        let (Some(language), Ok(text)) = (Language::from_path(&path), std::fs::read_to_string(&path)) else {
            continue;
        };
        let Some(tree) = syntax::parse_str(language, &text) else { continue };
        let check = snapshot.check_members(&path, &text, &tree, 0..text.len());
        let tally = tallies.entry(language.name()).or_default();
        tally.accesses += check.known.len();
        tally.false_alarms += check.missing.len();
        for missing in &check.missing {
            let line = text[..missing.range.start].matches('\n').count() + 1;
            println!(
                "false alarm {}:{line} {} of {}",
                path.display(),
                &text[missing.range.clone()],
                missing.type_name
            );
        }
        let asked = asked(&text);
        tally.asked += asked.len().div_ceil(EACH);
        for (range, listed, time) in lists(&snapshot, &path, language, &text, &asked) {
            let name = &text[range.clone()];
            let lacks = !listed.iter().any(|other| other == name);
            if lacks {
                let line = text[..range.start].matches('\n').count() + 1;
                println!("not listed {}:{line} {name}", path.display());
            }
            tally.lists.push((listed.len(), lacks));
            tally.times.push(time);
        }
        tally.places.extend(check.known.into_iter().map(|range| (path.clone(), range)));
    }
    let mut random: u64 = 1;
    let mut below = |bound: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % bound.max(1)
    };
    for (name, mut tally) in tallies.into_iter().filter(|(_, tally)| tally.accesses > 0) {
        let (mut wrong, mut found) = (0usize, 0usize);
        for _ in 0..8 * CHANGED {
            if wrong >= CHANGED || tally.places.is_empty() {
                break;
            }
            let (path, range) = &tally.places[below(tally.places.len())];
            let (donor, donated) = &tally.places[below(tally.places.len())];
            let (Ok(text), Ok(other)) = (std::fs::read_to_string(path), std::fs::read_to_string(donor))
            else {
                continue;
            };
            let given = &other[donated.clone()];
            let Some(language) = Language::from_path(path) else { continue };
            let changed = format!("{}{given}{}", &text[..range.start], &text[range.end..]);
            let Some(tree) = syntax::parse_str(language, &changed) else { continue };
            let part = range.start..range.start + given.len();
            let check = snapshot.check_members(path, &changed, &tree, part);
            // A name that this type has as well is no mistake.
            if let ([_], []) = (&check.known[..], &check.missing[..]) {
                continue;
            }
            wrong += 1;
            found += usize::from(!check.missing.is_empty());
        }
        let mut lengths: Vec<usize> = tally.lists.iter().map(|(length, _)| *length).collect();
        lengths.sort_unstable();
        println!(
            "{name}: {} lists for {} places looked at, {} names in the middle one, {} lack the name",
            lengths.len(),
            tally.asked,
            lengths.get(lengths.len() / 2).copied().unwrap_or(0),
            tally.lists.iter().filter(|(_, lacks)| *lacks).count()
        );
        tally.times.sort_unstable();
        let time =
            |percent: usize| tally.times.get(tally.times.len() * percent / 100).copied().unwrap_or_default();
        println!("{name}: looked up in {:?}, of 100 the slowest {:?}", time(50), time(99));
        let false_alarms = tally.false_alarms as f64 / tally.accesses.max(1) as f64;
        let detected = found as f64 / wrong.max(1) as f64;
        println!(
            "{name}: {} of {} accesses called missing ({:.3}%); {found} of {wrong} wrong names found ({:.1}%)",
            tally.false_alarms,
            tally.accesses,
            false_alarms * 100.0,
            detected * 100.0
        );
        for part in [0.5, 0.1, 0.05] {
            let right = part * detected;
            let precision = right / (right + (1.0 - part) * false_alarms);
            println!(
                "  precision where {:.0}% of the names are wrong: {:.2}%",
                part * 100.0,
                precision * 100.0
            );
        }
    }
}
