//! Completion at holes in real repositories, with and without context from other files.

use std::{
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use lacuna_indexer::{Language, Options, Query, Workspace};
use lacuna_inference::Sampling;
use serde::{Deserialize, Serialize};

use super::{
    metrics,
    samples::{self, Wanted},
};
use crate::{
    data::{jsonl, record::Record},
    generate::{Ask, Generator, Prompt},
    report::{Case, Resume, Run, bootstrap},
};

/// A hole: what stands before it, what belongs in it, what stands after it, and what other files say.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hole {
    pub id: String,
    pub language: String,
    pub prefix: String,
    pub truth: String,
    pub suffix: String,
    /// Chunks of other files as comments; empty when nothing was found.
    pub context: String,
}

#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    pub max_tokens: usize,
    pub context_tokens: usize,
    pub seed: u64,
}

/// Characters of a chunk's budget that stand for one token: exact budgets are kept when the prompt is made.
const CHARACTERS_PER_TOKEN: usize = 3;

/// Reads CrossCodeEval's lines, RepoBench's lines, or holes that [`make`] wrote.
pub fn read(path: &Path) -> Result<Vec<Hole>> {
    let mut holes = Vec::new();
    for (number, line) in jsonl::lines(path)? {
        let place = || format!("{}: line {number}", path.display());
        let record = Record::parse(&line).with_context(place)?;
        let hole = if record.has("groundtruth") {
            let (metadata, context) =
                (record.get::<Record>("metadata"), record.get::<Record>("crossfile_context"));
            let file = metadata.as_ref().and_then(|metadata| metadata.string("file")).unwrap_or_default();
            Hole {
                id: metadata
                    .and_then(|metadata| metadata.string("task_id"))
                    .unwrap_or_else(|| number.to_string()),
                language: record.string("language").or_else(|| language_of(&file)).unwrap_or_default(),
                prefix: record.string("prompt").with_context(place)?,
                truth: record.string("groundtruth").with_context(place)?,
                suffix: record.string("right_context").unwrap_or_default(),
                context: context.and_then(|context| context.string("text")).unwrap_or_default(),
            }
        } else if record.has("next_line") {
            Hole {
                id: number.to_string(),
                language: language_of(&record.string("file_path").unwrap_or_default()).unwrap_or_default(),
                prefix: record.string("cropped_code").with_context(place)? + "\n",
                truth: record.string("next_line").with_context(place)?,
                suffix: String::new(),
                context: repobench_context(&record),
            }
        } else {
            serde_json::from_str(&line).with_context(|| {
                format!("{} is in none of the formats CrossCodeEval, RepoBench, holes", place())
            })?
        };
        holes.push(hole);
    }
    Ok(holes)
}

fn repobench_context(record: &Record) -> String {
    let snippets = record.get::<Vec<Record>>("context").unwrap_or_default();
    let mut text = String::new();
    for snippet in snippets {
        let path = snippet.string("path").unwrap_or_default();
        text.push_str(&as_comments(&path, &snippet.string("snippet").unwrap_or_default(), "#"));
    }
    text
}

fn language_of(path: &str) -> Option<String> {
    Language::from_path(Path::new(path)).map(|language| language.name().to_owned())
}

fn as_comments(path: &str, text: &str, marker: &str) -> String {
    let lines: String = text.lines().map(|line| format!("{marker} {line}\n")).collect();
    format!("{marker} {path}\n{lines}\n")
}

/// Holes at calls of and member accesses to things that other files define: at most `limit`, drawn with `seed`.
pub fn make(directory: &Path, limit: usize, context_tokens: usize, seed: u64) -> Result<Vec<Hole>> {
    let root = directory.canonicalize().with_context(|| format!("cannot read {}", directory.display()))?;
    let workspace = Workspace::new(vec![root.clone()], Options::default());
    let report = workspace.scan(&mut |_| {}, &AtomicBool::new(false));
    eprintln!("indexed {} files, {} symbols", report.files, report.symbols);
    let snapshot = workspace.snapshot();
    let mut candidates: Vec<(PathBuf, usize, usize)> = Vec::new();
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    for path in
        files.into_iter().filter(|path| Language::from_path(path).is_some() && !workspace.is_excluded(path))
    {
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for (start, end) in sites(&text) {
            let name_end = text[start..end]
                .find(|c: char| !c.is_alphanumeric() && c != '_')
                .map_or(end, |at| start + at);
            let definitions = snapshot.definitions(&text[start..name_end]);
            let elsewhere = |path_of: &str| !path.ends_with(path_of);
            if !definitions.is_empty() && definitions.iter().all(|symbol| elsewhere(&symbol.path)) {
                candidates.push((path.clone(), start, end));
            }
        }
    }
    if candidates.is_empty() {
        bail!("{} has no use of something that another of its files defines", directory.display());
    }
    let mut state = seed;
    for index in (1..candidates.len()).rev() {
        candidates.swap(index, (bootstrap::random(&mut state) % (index as u64 + 1)) as usize);
    }
    let mut holes = Vec::new();
    for (path, start, end) in candidates.into_iter().take(limit) {
        let text = std::fs::read_to_string(&path)?;
        let Some(language) = Language::from_path(&path) else { continue };
        // The index must not know what stands in the hole.
        let holed = format!("{}{}", &text[..start], &text[end..]);
        let items = snapshot.context(&Query {
            path: &path,
            text: &holed,
            offset: start,
            visible: 0..holed.len(),
            budget: context_tokens,
            measure: &|text: &str| text.len().div_ceil(CHARACTERS_PER_TOKEN),
            recent: &[],
        });
        let context =
            items.iter().map(|item| as_comments(&item.path, &item.text, language.line_comment())).collect();
        let relative = path.strip_prefix(&root).unwrap_or(&path).display().to_string();
        holes.push(Hole {
            id: format!("{relative}:{start}"),
            language: language.name().to_owned(),
            prefix: text[..start].to_owned(),
            truth: text[start..end].to_owned(),
            suffix: text[end..].to_owned(),
            context,
        });
    }
    Ok(holes)
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !hidden => collect(&entry.path(), files),
            Ok(kind) if kind.is_file() && !hidden => files.push(entry.path()),
            _ => {}
        }
    }
}

/// Where a name is called or follows a dot, to the end of its line; never on lines of imports and comments.
fn sites(text: &str) -> Vec<(usize, usize)> {
    const SHORTEST: usize = 8;
    let mut sites = Vec::new();
    let mut line_start = 0;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        let skipped = [
            "import", "from", "use ", "#", "//", "*", "/*", "package", "using", "def ", "class ", "fn ",
            "pub ",
        ]
        .iter()
        .any(|start| trimmed.starts_with(start));
        let end = line_start + line.trim_end().len();
        let mut previous = ' ';
        for (at, character) in line.char_indices() {
            let start = line_start + at;
            let word = |c: char| c.is_alphanumeric() || c == '_';
            if !skipped
                && word(character)
                && !character.is_ascii_digit()
                && !word(previous)
                && end >= start + SHORTEST
            {
                let name: usize = text[start..end].chars().take_while(|&c| word(c)).map(char::len_utf8).sum();
                let called = text[start + name..end].starts_with('(');
                if (called || previous == '.') && start > line_start {
                    sites.push((start, end));
                    break;
                }
            }
            previous = character;
        }
        line_start += line.len();
    }
    sites
}

pub fn run(
    holes: &[Hole],
    generator: &Generator,
    settings: &Settings,
    directory: &Path,
    resume: Resume,
    run: &mut Run,
) -> Result<Vec<Case>> {
    let started = Instant::now();
    let mut wanted = Vec::new();
    for group in ["off", "on"] {
        for hole in holes {
            let budget = settings.context_tokens * CHARACTERS_PER_TOKEN;
            let mut end = hole.context.len().min(budget);
            while !hole.context.is_char_boundary(end) {
                end -= 1;
            }
            let context = (group == "on" && end > 0).then(|| hole.context[..end].to_owned() + "\n");
            wanted.push(Wanted {
                task_id: hole.id.clone(),
                number: 0,
                group: format!("{} {group}", hole.language),
                ask: Ask {
                    prompt: Prompt::Fim {
                        prefix: hole.prefix.clone(),
                        suffix: hole.suffix.clone(),
                        order: None,
                        context,
                    },
                    max_tokens: settings.max_tokens,
                    sampling: Sampling { seed: settings.seed, ..Sampling::GREEDY },
                    stops: Vec::new(),
                },
            });
        }
    }
    let by_id: std::collections::HashMap<&str, &Hole> =
        holes.iter().map(|hole| (hole.id.as_str(), hole)).collect();
    let cut = |one: &Wanted, text: &str| {
        by_id.get(one.task_id.as_str()).map_or("", |hole| statement(hole, text)).to_owned()
    };
    let samples = samples::make(&directory.join("samples.jsonl"), &wanted, generator, resume, cut)?;
    let mut cases = Vec::new();
    for sample in samples {
        let Some(hole) = by_id.get(sample.task_id.as_str()) else { continue };
        cases.push(Case {
            id: sample.task_id,
            group: sample.group,
            values: metrics::compare(&sample.completion, &hole.truth),
            prompt: tail(&hole.prefix),
            suffix: hole.suffix.lines().take(5).collect::<Vec<_>>().join("\n"),
            completion: sample.completion,
            expected: hole.truth.clone(),
            result: String::new(),
            milliseconds: sample.milliseconds,
            tokens: sample.tokens,
        });
    }
    for group in ["off", "on"] {
        let of_group: Vec<&Case> =
            cases.iter().filter(|case| case.group.ends_with(&format!(" {group}"))).collect();
        for name in ["exact_match", "edit_similarity", "identifier_match", "identifier_f1"] {
            let sum: f64 = of_group.iter().filter_map(|case| case.values.get(name)).sum();
            run.metrics.insert(format!("context {group} {name}"), sum / of_group.len().max(1) as f64);
        }
    }
    run.add_means(&cases);
    for name in ["exact_match", "edit_similarity", "identifier_match", "identifier_f1"] {
        run.metrics.remove(name);
    }
    run.seconds = started.elapsed().as_secs_f64();
    Ok(cases)
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// The first statement of a prediction: up to and including the first `;`, `{` or `}`; in Python the shortest part
/// that ends at a line break and parses together with what stands before it.
fn statement<'a>(hole: &Hole, text: &'a str) -> &'a str {
    if hole.language != "python" {
        return text.find([';', '{', '}']).map_or(text, |end| &text[..=end]);
    }
    let mut parser = tree_sitter::Parser::new();
    if parser.set_language(&tree_sitter_python::LANGUAGE.into()).is_err() {
        return text;
    }
    for (end, _) in text.match_indices('\n') {
        let whole = format!("{}{}", hole.prefix, &text[..end]);
        if parser.parse(&whole, None).is_some_and(|tree| !tree.root_node().has_error()) {
            return &text[..end];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hole(language: &str, prefix: &str) -> Hole {
        Hole {
            id: String::new(),
            language: language.into(),
            prefix: prefix.into(),
            truth: String::new(),
            suffix: String::new(),
            context: String::new(),
        }
    }

    #[test]
    fn statements() {
        for (language, prefix, text, expected) in [
            ("java", "x = ", "a.b();\nc();", "a.b();"),
            ("typescript", "if (", "a) {\n", "a) {"),
            ("java", "x = ", "a.b(", "a.b("),
            ("python", "x = ", "f(1,\n  2)\ny = 3\n", "f(1,\n  2)"),
            ("python", "x = ", "f(1)", "f(1)"),
        ] {
            assert_eq!(statement(&hole(language, prefix), text), expected, "{language} {text:?}");
        }
    }

    #[test]
    fn holes_are_at_uses_of_what_other_files_define() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join("stock.py"),
            "def restock_item(name, count):\n    return name, count\n",
        )
        .unwrap();
        let main = "from stock import restock_item\n\n\ndef main():\n    total = restock_item('bolt', 3)\n    print(total)\n";
        std::fs::write(directory.path().join("main.py"), main).unwrap();
        let holes = make(directory.path(), 10, 512, 0).unwrap();
        let truths: Vec<&str> = holes.iter().map(|hole| hole.truth.as_str()).collect();
        assert_eq!(truths, ["restock_item('bolt', 3)"]);
        assert!(holes[0].context.contains("restock_item"), "{:?}", holes[0].context);
        assert!(holes[0].prefix.ends_with("total = ") && holes[0].suffix.starts_with("\n    print"));
        assert!(make(tempfile::tempdir().unwrap().path(), 10, 512, 0).is_err());
    }
}
