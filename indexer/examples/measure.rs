//! Measures the index over a directory: `cargo run --release --example measure -- DIR`.
//!
//! Prints throughput of a scan, memory, the time of a second start, of one-character edits and of context queries at
//! random places, and how many of consecutive key presses keep the context of the one before.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::Instant,
};

use lacuna_indexer::{
    ContextItem, Language, Options, Query, Snapshot, SymbolInfo, SymbolKind, Workspace, syntax, tree_sitter,
};

fn main() {
    let Some(directory) = std::env::args().nth(1) else {
        eprintln!("usage: measure DIR [--scan] [--opened] [--queries] [--misses]");
        std::process::exit(2);
    };
    let root = Path::new(&directory).canonicalize().unwrap_or_else(|error| {
        eprintln!("{directory}: {error}");
        std::process::exit(1);
    });
    let before = resident_bytes();
    let workspace = Workspace::new(vec![root.clone()], Options::default());
    let started = Instant::now();
    let mut first_progress = None;
    let report = workspace.scan(
        &mut |progress| {
            first_progress.get_or_insert((started.elapsed(), progress.files_total));
        },
        &AtomicBool::new(false),
    );
    let cpu_seconds = cpu_seconds();
    let snapshot = workspace.snapshot();
    println!(
        "scan: {} files, {} lines, {} symbols in {:.0} ms: {:.0} lines/s; {} skipped",
        report.files,
        report.lines,
        report.symbols,
        report.milliseconds,
        report.lines as f64 / report.milliseconds * 1e3,
        report.skipped.len(),
    );
    println!("  {cpu_seconds:.2} s of CPU: {:.0} lines a CPU second", report.lines as f64 / cpu_seconds);
    if let Some((elapsed, files)) = first_progress {
        println!(
            "first parsed files published after {:.0} ms ({files} files found)",
            elapsed.as_secs_f64() * 1e3
        );
    }
    println!(
        "memory: {:.1} MB in the index, {:.1} MB resident more than before",
        snapshot.heap_bytes() as f64 / 1e6,
        resident_bytes().saturating_sub(before) as f64 / 1e6
    );

    if std::env::args().any(|argument| argument == "--scan") {
        return;
    }
    let files = source_files(&root);
    if files.is_empty() {
        return;
    }
    if std::env::args().any(|argument| argument == "--opened") {
        return measure_opened_files(&workspace, &root, &files);
    }
    if std::env::args().any(|argument| argument == "--queries") {
        measure_queries(&snapshot, &files);
        return measure_steadiness(&workspace, &files);
    }
    measure_second_start(&root);
    measure_names_while_scanning(&workspace, &root, &files);
    measure_opened_files(&workspace, &root, &files);
    let before = self::cpu_seconds();
    let mut lines = 0;
    for path in &files {
        let size = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        if let (Some(language), Ok(text)) = (Language::from_path(path), std::fs::read_to_string(path))
            && size <= Options::default().max_file_bytes
        {
            lines += text.lines().count();
            syntax::parse_str(language, &text);
        }
    }
    let parse_seconds = self::cpu_seconds() - before;
    println!(
        "parse alone: {parse_seconds:.2} s of CPU: {:.0} lines a CPU second",
        lines as f64 / parse_seconds
    );

    measure_queries(&snapshot, &files);
    measure_edits(&workspace, &files);
    measure_steadiness(&workspace, &files);
    measure_recall(&workspace, &root, &files);
    measure_member_recall(&workspace, &root, &files);
}

/// Contexts of random places.
fn measure_queries(snapshot: &Snapshot, files: &[PathBuf]) {
    let mut random = Random(1);
    let before = cpu_seconds();
    let (mut queries, mut undisturbed) = (Vec::new(), Vec::new());
    let mut shown = 0;
    for _ in 0..500 {
        let path = &files[random.below(files.len())];
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        let mut offset = random.below(text.len() + 1);
        while !text.is_char_boundary(offset) {
            offset -= 1;
        }
        let measure = |text: &str| text.len() / 3;
        let visible = offset.saturating_sub(4000)..(offset + 2000).min(text.len());
        let query =
            Query { path, text: &text, offset, visible, budget: 1024, measure: &measure, recent: &[] };
        let mut times = [0.0; 3];
        for time in &mut times {
            let started = Instant::now();
            shown += usize::from(!snapshot.context(&query).is_empty());
            *time = started.elapsed().as_secs_f64() * 1e3;
        }
        queries.push(times[0]);
        undisturbed.push(times.into_iter().fold(f64::INFINITY, f64::min));
    }
    print_percentiles("context query", &mut queries);
    print_percentiles("  the fastest of three", &mut undisturbed);
    let mean = (cpu_seconds() - before) / queries.len() as f64 / 3.0 * 1e3;
    println!(
        "  {shown} of {} have context; {mean:.2} ms of CPU in the mean, reading the files included",
        3 * queries.len()
    );
}

/// Cuts lines behind a dot, where the member's name is one that a single type of one other file of the language has:
/// how often the context of 1,024 tokens has that member with its signature.
fn measure_member_recall(workspace: &Workspace, root: &Path, files: &[PathBuf]) {
    let snapshot = workspace.snapshot();
    let mut random = Random(5);
    let mut tally: std::collections::BTreeMap<&'static str, (usize, usize)> = Default::default();
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    for _ in 0..40_000 {
        let path = &files[random.below(files.len())];
        let (Ok(text), Some(language)) = (std::fs::read_to_string(path), Language::from_path(path)) else {
            continue;
        };
        let from = random.below(text.len().max(1));
        let Some(dot) = text.get(from..).and_then(|rest| rest.find('.')).map(|at| from + at) else {
            continue;
        };
        let start = dot + 1;
        let name = &text[start..start + text[start..].find(|c| !is_word(c)).unwrap_or(0)];
        let line = text[..dot].rsplit('\n').next().unwrap_or("");
        let skipped = ["import ", "//", "#", "*", ">>>", "from "];
        if name.len() < 4 || skipped.iter().any(|word| line.contains(word)) || !line.ends_with(is_word) {
            continue;
        }
        let relative = path.strip_prefix(root).map(|path| path.display().to_string()).unwrap_or_default();
        let definitions = snapshot.definitions(name);
        let of_language =
            |definition: &&SymbolInfo| Language::from_path(Path::new(&definition.path)) == Some(language);
        let mut definitions = definitions.iter().filter(of_language);
        let (Some(wanted), None) = (definitions.next(), definitions.next()) else { continue };
        if wanted.path == relative || wanted.kind != SymbolKind::Method {
            continue;
        }
        let items = context_of_hole(&snapshot, path, &text, start);
        let found = items.iter().any(|item| item.text.split(|c| !is_word(c)).any(|word| word == name));
        if !found && std::env::args().any(|argument| argument == "--misses") {
            println!(
                "miss of a member {relative}: {line}.{name} -> {} {}",
                wanted.path, wanted.qualified_name
            );
        }
        let counts = tally.entry(language.name()).or_default();
        *counts = (counts.0 + usize::from(found), counts.1 + 1);
        if tally.values().map(|(_, count)| count).sum::<usize>() >= 400 {
            break;
        }
    }
    for (language, (found, count)) in tally {
        let part = found as f64 / count as f64 * 100.0;
        println!("recall of members, {language}: {found} of {count} ({part:.1}%)");
    }
}

/// The context of 1,024 tokens where the line's rest from `start` on is still to be typed.
fn context_of_hole(snapshot: &Snapshot, path: &Path, text: &str, start: usize) -> Vec<ContextItem> {
    let end = text[start..].find('\n').map_or(text.len(), |length| start + length);
    let holed = format!("{}{}", &text[..start], &text[end..]);
    let query = Query {
        path,
        text: &holed,
        offset: start,
        visible: start.saturating_sub(4000)..(start + 2000).min(holed.len()),
        budget: 1024,
        measure: &|text: &str| text.len() / 3,
        recent: &[],
    };
    snapshot.context(&query)
}

/// Cuts lines at calls of what one other file defines: how often the context of 1,024 tokens has that definition.
fn measure_recall(workspace: &Workspace, root: &Path, files: &[PathBuf]) {
    let snapshot = workspace.snapshot();
    let mut random = Random(3);
    let mut tally: Vec<(&'static str, usize, usize)> = Vec::new();
    for _ in 0..20_000 {
        let path = &files[random.below(files.len())];
        let (Ok(text), Some(language)) = (std::fs::read_to_string(path), Language::from_path(path)) else {
            continue;
        };
        let from = random.below(text.len().max(1));
        let Some(at) = text.get(from..).and_then(|rest| rest.find('(')).map(|at| from + at) else { continue };
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let start = text[..at].trim_end_matches(is_word).len();
        let (name, line) = (&text[start..at], text[..start].rsplit('\n').next().unwrap_or(""));
        let declares = ["def ", "fn ", "function ", "class ", "//", "#", "*", ">>>"];
        if name.len() < 4 || declares.iter().any(|word| line.contains(word)) {
            continue;
        }
        // Members of unknown receivers are another question.
        let qualifier = line.trim_end_matches("::");
        let of_type = qualifier[qualifier.trim_end_matches(is_word).len()..].starts_with(char::is_uppercase);
        if line.ends_with('.') || (line.ends_with("::") && of_type) {
            continue;
        }
        let definitions = snapshot.definitions(name);
        let relative = path.strip_prefix(root).map(|path| path.display().to_string()).unwrap_or_default();
        // A bare name means no member, and nothing of another language.
        let bare = |definition: &&SymbolInfo| {
            definition.kind.is_callable() && definition.kind != SymbolKind::Method
                || definition.kind.is_type()
        };
        let of_language =
            |definition: &&SymbolInfo| Language::from_path(Path::new(&definition.path)) == Some(language);
        if definitions.iter().any(|definition| definition.path == relative) {
            continue;
        }
        let mut definitions = definitions.iter().filter(bare).filter(of_language);
        let (Some(wanted), None) = (definitions.next(), definitions.next()) else { continue };
        let items = context_of_hole(&snapshot, path, &text, start);
        let found = items.iter().any(|item| item.text.split(|c| !is_word(c)).any(|word| word == name));
        if !found && std::env::args().any(|argument| argument == "--misses") {
            let cost: usize = items.iter().map(|item| item.cost).sum();
            let line = text[..start].matches('\n').count() + 1;
            let before = text[..start].rsplit('\n').next().unwrap_or("");
            println!(
                "miss ({cost} used) {relative}:{line} {before}{name} -> {}:{} {:?} {}",
                wanted.path, wanted.line, wanted.kind, wanted.qualified_name
            );
        }
        let index = tally.iter().position(|(known, ..)| *known == language.name()).unwrap_or_else(|| {
            tally.push((language.name(), 0, 0));
            tally.len() - 1
        });
        tally[index].1 += usize::from(found);
        tally[index].2 += 1;
        if tally.iter().map(|(.., count)| count).sum::<usize>() >= 1000 {
            break;
        }
    }
    for (language, found, count) in tally {
        println!(
            "recall, {language}: {found} of {count} calls ({:.1}%)",
            found as f64 / count as f64 * 100.0
        );
    }
}

/// Starts a scan afresh and asks at once for names: when the first is found, and then which of many, in what time.
fn measure_names_while_scanning(complete: &Workspace, root: &Path, files: &[PathBuf]) {
    let complete = complete.snapshot();
    let mut random = Random(11);
    let mut names: Vec<(String, usize)> = Vec::new();
    while names.len() < 300 {
        let Ok(text) = std::fs::read_to_string(&files[random.below(files.len())]) else { continue };
        let words: Vec<&str> = text.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        let name = words[random.below(words.len())];
        let count = complete.definitions(name).len();
        // The more places, the less a name tells.
        if (1..=8).contains(&count) && names.iter().all(|(known, _)| known != name) {
            names.push((name.to_owned(), count));
        }
    }
    let workspace = Workspace::new(vec![root.to_owned()], Options::default());
    let cancel = AtomicBool::new(false);
    let started = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| workspace.scan(&mut |_| {}, &cancel));
        while !workspace.knows_names() && started.elapsed().as_secs() < 60 {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        println!("names of all files known after {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
        let (mut found, mut whole) = (0, 0);
        let mut times = Vec::new();
        for (name, count) in &names {
            let asked = Instant::now();
            let definitions = workspace.definitions(name).len();
            times.push(asked.elapsed().as_secs_f64() * 1e3);
            found += usize::from(definitions > 0);
            whole += usize::from(definitions >= *count);
            if definitions < *count {
                eprintln!("name not found in every place: {name} {definitions} of {count}");
            }
        }
        let scanning = workspace.knows_names();
        println!(
            "  of {} names {found} found, {whole} in every place; the scan still ran at the end: {scanning}",
            names.len()
        );
        print_percentiles("  a name asked for while the scan runs", &mut times);
        cancel.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// Files that are opened, and within what time the definitions that they import are wanted.
const OPENED_FILES: usize = 100;
const WANTED_MILLISECONDS: f64 = 300.0;

/// Opens a file at the start of a scan of a workspace that was never read, and one in the midst of it: when its
/// context names every definition that it will name after the scan.
fn measure_opened_files(complete: &Workspace, root: &Path, files: &[PathBuf]) {
    let mut random = Random(13);
    for (what, delay_ms) in [("at the start", 0), ("1.5 s after the start", 1500)] {
        let (mut times, mut same, mut read, mut late) = (Vec::new(), Vec::new(), Vec::new(), 0);
        while same.len() + late < OPENED_FILES {
            let path = &files[random.below(files.len())];
            let Ok(text) = std::fs::read_to_string(path) else { continue };
            if text.len() > 96 << 10 {
                continue;
            }
            let query = Query {
                path,
                text: &text,
                offset: text.len(),
                visible: 0..text.len(),
                budget: 1024,
                measure: &|text: &str| text.len() / 3,
                recent: &[],
            };
            let imported = |workspace: &Workspace| -> Vec<ContextItem> {
                let items = workspace.snapshot().context(&query);
                items.into_iter().filter(|item| item.reason.contains("import")).collect()
            };
            complete.update(path, Some(&text));
            let wanted = imported(complete);
            complete.update(path, None);
            if wanted.is_empty() {
                continue;
            }
            let workspace = Workspace::new(vec![root.to_owned()], Options::default());
            let cancel = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| workspace.scan(&mut |_| {}, &cancel));
                std::thread::sleep(std::time::Duration::from_millis(delay_ms));
                let opened = Instant::now();
                let (taken, taken_text) = (&workspace, &text);
                let taking_in = scope.spawn(move || {
                    taken.update(path, Some(taken_text));
                    opened.elapsed().as_secs_f64() * 1e3
                });
                let mut missing = Vec::new();
                let mut is_named = false;
                loop {
                    let milliseconds = opened.elapsed().as_secs_f64() * 1e3;
                    let now = imported(&workspace);
                    if !is_named {
                        let still = not_named(&wanted, &now);
                        is_named = still.is_empty();
                        if is_named {
                            if milliseconds > WANTED_MILLISECONDS {
                                let late = format!("{}: {milliseconds:.0} ms", path.display());
                                eprintln!("{late}; last came: {missing:#?}");
                            }
                            times.push(milliseconds);
                        }
                        missing = still;
                    }
                    let is_same = |item: &ContextItem| {
                        now.iter().any(|other| item.path == other.path && item.text == other.text)
                    };
                    if is_named && wanted.iter().all(is_same) {
                        same.push(milliseconds);
                        break;
                    }
                    if milliseconds > 5e3 {
                        late += 1;
                        eprintln!("late: {}: {missing:#?}", path.display());
                        break;
                    }
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                read.extend(taking_in.join());
                cancel.store(true, std::sync::atomic::Ordering::Relaxed);
            });
        }
        println!(
            "context of a file opened {what}: {late} of {OPENED_FILES} not whole after 5 s; of the others:"
        );
        print_percentiles("  definitions and members of its imports are there after", &mut times);
        print_percentiles("  and are what they will be after the scan, word for word, after", &mut same);
        print_percentiles("  the call that takes the file in, and all that it may need, took", &mut read);
    }
}

/// Definitions that imports lead to in `wanted`, and that `now` does not have, or has without members where it had some.
fn not_named(wanted: &[ContextItem], now: &[ContextItem]) -> Vec<String> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let has_members = |text: &str| {
        let is_member = |line: &str| {
            line.starts_with(' ')
                && !line.trim().starts_with(['"', '/', '#', '.', '}'])
                && line.contains(is_word)
        };
        text.lines().any(is_member)
    };
    let mut missing = Vec::new();
    for item in wanted {
        let of_file: Vec<&ContextItem> = now.iter().filter(|other| other.path == item.path).collect();
        for reason in item.reason.split("; ").filter(|reason| reason.contains("import")) {
            let name = reason.split('`').nth(1).unwrap_or_default();
            if !of_file.iter().any(|other| other.text.split(|c| !is_word(c)).any(|word| word == name)) {
                missing.push(format!("{}: {name}", item.path));
            }
        }
        if has_members(&item.text) && !of_file.iter().any(|other| has_members(&other.text)) {
            missing.push(format!("{}: members", item.path));
        }
    }
    missing
}

/// A scan that leaves its cache, and one that finds it.
fn measure_second_start(root: &Path) {
    let directory = std::env::temp_dir().join(format!("lacuna-measure-{}", std::process::id()));
    for start in ["first", "second"] {
        let options = Options { cache_directory: Some(directory.clone()), ..Options::default() };
        let workspace = Workspace::new(vec![root.to_owned()], options);
        let report = workspace.scan(&mut |_| {}, &AtomicBool::new(false));
        println!("{start} start: {:.0} ms, {} files from the cache", report.milliseconds, report.from_cache);
    }
    if let Err(error) = std::fs::remove_dir_all(&directory) {
        eprintln!("{}: {error}; remove it", directory.display());
    }
}

/// Deletes the second half of lines inside functions and types it again: how many key presses keep the context.
fn measure_steadiness(workspace: &Workspace, files: &[PathBuf]) {
    let mut random = Random(7);
    let (mut same, mut keys, mut typed_lines) = (0usize, 0usize, 0usize);
    while typed_lines < 60 && keys < 4000 {
        let path = &files[random.below(files.len())];
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        typed_lines += 1;
        let from = random.below(text.len().max(1));
        // Two lines of a body, so that line breaks are typed too.
        let Some(start) = text.get(from..).and_then(|rest| rest.find("\n    ")).map(|at| from + at + 1)
        else {
            continue;
        };
        let end = text[start..].match_indices('\n').nth(1).map_or(text.len(), |(at, _)| start + at);
        if !text.is_ascii() || end - start > 200 {
            continue;
        }
        let mut previous = None;
        for typed in start..=end {
            let buffer = format!("{}{}", &text[..typed], &text[end..]);
            // The server brings the index up to date a moment after each key.
            workspace.update(path, Some(&buffer));
            let visible = typed.saturating_sub(4000)..(typed + 2000).min(buffer.len());
            let query = Query {
                path,
                text: &buffer,
                offset: typed,
                visible,
                budget: 1024,
                measure: &|text: &str| text.len() / 3,
                recent: &[],
            };
            let items: String =
                workspace.snapshot().context(&query).into_iter().map(|item| item.path + &item.text).collect();
            if let Some(previous) = previous.replace(items.clone()) {
                keys += 1;
                same += usize::from(previous == items);
            }
        }
        workspace.update(path, None);
    }
    println!(
        "key presses: {same} of {keys} keep the context ({:.1}%), without the pipeline's own hysteresis",
        same as f64 / keys.max(1) as f64 * 100.0
    );
}

/// Types into the middle of the file nearest to 5,000 lines and brings its symbols up to date after each key.
fn measure_edits(workspace: &Workspace, files: &[PathBuf]) {
    let texts = files.iter().filter_map(|path| Some((path, std::fs::read_to_string(path).ok()?)));
    let Some((path, mut text)) = texts.min_by_key(|(_, text)| text.lines().count().abs_diff(5000)) else {
        return;
    };
    let Some(language) = Language::from_path(path) else { return };
    let Some(mut tree) = syntax::parse_str(language, &text) else { return };
    // On a line of its own inside a block, where people type.
    let middle = text.len() / 2;
    let Some(mut offset) =
        text.match_indices("\n    ").map(|(at, line)| at + line.len()).find(|at| *at > middle)
    else {
        return;
    };
    let mut times = Vec::new();
    for key in "value = compute(first, second);\n    ".chars().cycle().take(200) {
        let started = Instant::now();
        text.insert(offset, key);
        let point = position(&text, offset);
        tree.edit(&tree_sitter::InputEdit {
            start_byte: offset,
            old_end_byte: offset,
            new_end_byte: offset + 1,
            start_position: point,
            old_end_position: point,
            new_end_position: position(&text, offset + 1),
        });
        let mut chunk = |offset: usize| text.as_bytes().get(offset..).unwrap_or(&[]);
        let Some(new) = syntax::parse_chunks(language, &mut chunk, Some(&tree)) else { return };
        tree = new;
        workspace.update_with_tree(path, &text, &tree);
        times.push(started.elapsed().as_secs_f64() * 1e3);
        offset += 1;
    }
    print_percentiles(&format!("edit of {} lines", text.lines().count()), &mut times);
}

fn position(text: &str, offset: usize) -> tree_sitter::Point {
    let before = &text.as_bytes()[..offset];
    let row = before.iter().filter(|byte| **byte == b'\n').count();
    let column = before.iter().rev().take_while(|byte| **byte != b'\n').count();
    tree_sitter::Point { row, column }
}

fn source_files(root: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&directory) else { continue };
        let walk = entries.flatten().try_for_each(|entry| {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => pending.push(entry.path()),
                Ok(kind) if kind.is_file() && Language::from_path(&entry.path()).is_some() => {
                    files.push(entry.path())
                }
                _ => {}
            }
            if files.len() < 20_000 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if walk.is_break() {
            break;
        }
    }
    files.sort();
    files
}

fn print_percentiles(what: &str, times: &mut [f64]) {
    times.sort_by(f64::total_cmp);
    let at = |part: f64| {
        times.get(((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1))).copied()
    };
    let [p50, p95, p99, max] = [0.5, 0.95, 0.99, 1.0].map(|part| at(part).unwrap_or(f64::NAN));
    println!("{what}: p50 {p50:.2} ms, p95 {p95:.2} ms, p99 {p99:.2} ms, max {max:.2} ms");
}

/// From procfs; 0 where there is none.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// User and system time of this process, from procfs in its ticks of 10 ms; 0 where there is none.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or("");
    after_name.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>()
        / 100.0
}

/// A linear congruential generator: the same places every time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound.max(1)
    }
}
