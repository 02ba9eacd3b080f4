//! Holes from any repository, at uses of what its other files define.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use anyhow::{Context, Result, bail};
use lacuna_indexer::{Language, Options, Query, Workspace};

use super::{CHARACTERS_PER_TOKEN, Hole, as_comments};
use crate::report::bootstrap;

/// Holes at calls of and member accesses to things that other files define: at most `limit`, drawn with `seed`.
pub fn make(directory: &Path, limit: usize, context_tokens: usize, seed: u64) -> Result<Vec<Hole>> {
    let root = directory.canonicalize().with_context(|| format!("cannot read {}", directory.display()))?;
    let workspace = Workspace::new(vec![root.clone()], Options::default());
    let report = workspace.scan(&mut |_| {}, &AtomicBool::new(false));
    eprintln!("indexed {} files, {} symbols", report.files, report.symbols);
    let snapshot = workspace.snapshot();
    let mut candidates: BTreeMap<&str, Vec<Site>> = BTreeMap::new();
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    for path in files {
        let Some(language) = Language::from_path(&path).filter(|_| !workspace.is_excluded(&path)) else {
            continue;
        };
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        for (start, end) in sites(&text) {
            let name = name_at(&text[start..end]);
            let definitions: Vec<String> =
                snapshot.definitions(name).into_iter().map(|symbol| symbol.path).collect();
            if !definitions.is_empty() && definitions.iter().all(|defined| !path.ends_with(defined)) {
                let site = Site { path: path.clone(), start, end, name: name.to_owned(), definitions };
                candidates.entry(language.name()).or_default().push(site);
            }
        }
    }
    if candidates.is_empty() {
        bail!("{} has no use of something that another of its files defines", directory.display());
    }
    let mut holes = Vec::new();
    for site in draw(candidates, limit, seed) {
        let text = std::fs::read_to_string(&site.path)?;
        let Some(language) = Language::from_path(&site.path) else { continue };
        // The index must not know what stands in the hole.
        let holed = format!("{}{}", &text[..site.start], &text[site.end..]);
        let items = snapshot.context(&Query {
            path: &site.path,
            text: &holed,
            offset: site.start,
            visible: 0..holed.len(),
            budget: context_tokens,
            measure: &|text: &str| text.len().div_ceil(CHARACTERS_PER_TOKEN),
            recent: &[],
        });
        let shown = items
            .iter()
            .any(|item| site.definitions.contains(&item.path) && has_word(&item.text, &site.name));
        let context =
            items.iter().map(|item| as_comments(&item.path, &item.text, language.line_comment())).collect();
        let file = site.path.strip_prefix(&root).unwrap_or(&site.path).display().to_string();
        holes.push(Hole {
            id: format!("{file}:{}", site.start),
            language: language.name().to_owned(),
            prefix: text[..site.start].to_owned(),
            truth: text[site.start..site.end].to_owned(),
            suffix: text[site.end..].to_owned(),
            context,
            file,
            definition_shown: Some(shown),
        });
    }
    Ok(holes)
}

/// A place where a hole can be made.
struct Site {
    path: PathBuf,
    start: usize,
    end: usize,
    /// What stands there first, and the files that define it.
    name: String,
    definitions: Vec<String>,
}

/// At most `limit` sites, the languages in turn, so that the most frequent one does not drown the others.
fn draw(candidates: BTreeMap<&str, Vec<Site>>, limit: usize, seed: u64) -> Vec<Site> {
    let mut state = seed;
    let mut languages: Vec<Vec<Site>> = candidates.into_values().collect();
    for sites in &mut languages {
        for index in (1..sites.len()).rev() {
            sites.swap(index, (bootstrap::random(&mut state) % (index as u64 + 1)) as usize);
        }
    }
    let mut drawn = Vec::new();
    while drawn.len() < limit && languages.iter().any(|sites| !sites.is_empty()) {
        drawn.extend(languages.iter_mut().filter_map(Vec::pop));
    }
    drawn.truncate(limit);
    drawn
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

fn name_at(text: &str) -> &str {
    &text[..text.find(|character| !is_word(character)).unwrap_or(text.len())]
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|character| !is_word(character)).any(|found| found == word)
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
            if !skipped
                && is_word(character)
                && !character.is_ascii_digit()
                && !is_word(previous)
                && end >= start + SHORTEST
            {
                let name = name_at(&text[start..end]).len();
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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!((holes[0].file.as_str(), holes[0].definition_shown), ("main.py", Some(true)));
        assert!(holes[0].prefix.ends_with("total = ") && holes[0].suffix.starts_with("\n    print"));
        assert!(make(tempfile::tempdir().unwrap().path(), 10, 512, 0).is_err());
    }
}
