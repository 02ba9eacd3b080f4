//! A file of the disk -> its symbols, or the reason why not.

use std::{path::Path, sync::Arc};

use tree_sitter::Tree;

use crate::{Language, extract::extract, outline::Source, symbols::FileSymbols, syntax, walk::Stamp};

/// Files of this size and more are looked at for lines too long to be written by people.
const MINIFIED_MIN_BYTES: usize = 32 << 10;
/// Average line length from which on a file counts as minified or generated, in bytes.
const MINIFIED_LINE_BYTES: usize = 1000;

pub(crate) struct Read {
    pub symbols: Arc<FileSymbols>,
    pub stamp: Stamp,
    /// Why there are no symbols.
    pub remark: Option<String>,
}

pub(crate) fn read(path: &Path, language: Language, max_file_bytes: u64) -> Result<Read, String> {
    let (text, stamp) = text(path, max_file_bytes)?;
    let (symbols, remark) = parse_file(language, &text);
    Ok(Read { symbols: Arc::new(symbols), stamp, remark })
}

/// The text of a source file of at most `max_file_bytes`, or why it is not read.
pub(crate) fn text(path: &Path, max_file_bytes: u64) -> Result<(String, Stamp), String> {
    let metadata = std::fs::symlink_metadata(path).map_err(|error| format!("not read: {error}"))?;
    if !metadata.is_file() {
        return Err("not a regular file".into());
    }
    let stamp = Stamp::of(&metadata);
    if stamp.bytes > max_file_bytes {
        return Err(format!("{} bytes, more than {max_file_bytes}", stamp.bytes));
    }
    let bytes = std::fs::read(path).map_err(|error| format!("not read: {error}"))?;
    if bytes.contains(&0) {
        return Err("binary: contains NUL bytes".into());
    }
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        // Old encodings: identifiers are ASCII all the same, and only comments and strings suffer.
        Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
    };
    if text.len() >= MINIFIED_MIN_BYTES && text.len() / (1 + line_breaks(&text)) >= MINIFIED_LINE_BYTES {
        return Err("minified or generated: very long lines".into());
    }
    Ok((text, stamp))
}

/// The symbols of a text that is being edited. Never panics: a defect in reading one file costs that file only.
pub(crate) fn parse(language: Language, text: &str) -> (FileSymbols, Option<String>) {
    guarded(text, || parse_whole(language, text))
}

/// The same, of a text whose tree the editor keeps.
pub(crate) fn parse_with_tree(language: Language, text: &str, tree: &Tree) -> FileSymbols {
    match Source::readable(language, text) {
        Some(_) => parse(language, text).0,
        None => extract(language, tree, Source::whole(text)),
    }
}

/// The symbols of a file of the disk: by its outline, where it has one. Never panics.
fn parse_file(language: Language, text: &str) -> (FileSymbols, Option<String>) {
    guarded(text, || parse_outline(language, text).or_else(|| parse_whole(language, text)))
}

fn parse_whole(language: Language, text: &str) -> Option<FileSymbols> {
    let source = Source::readable(language, text).unwrap_or_else(|| Source::whole(text));
    let tree = syntax::parse_str(language, source.parsed())?;
    Some(extract(language, &tree, source))
}

/// `None` where there is no outline, or one that does not read without errors.
fn parse_outline(language: Language, text: &str) -> Option<FileSymbols> {
    let outline = Source::outline(language, text)?;
    let tree = syntax::parse_str(language, outline.parsed())?;
    (!tree.root_node().has_error()).then(|| extract(language, &tree, outline))
}

fn guarded(text: &str, read: impl FnOnce() -> Option<FileSymbols>) -> (FileSymbols, Option<String>) {
    let parsed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
    let empty = || FileSymbols {
        lines: line_breaks(text) as u32,
        words: crate::words::distinct_hashes(text),
        ..FileSymbols::default()
    };
    match parsed {
        Ok(Some(symbols)) => (symbols, None),
        Ok(None) => (empty(), Some("too large or too slow to parse".into())),
        Err(_) => (empty(), Some("reading its symbols failed".into())),
    }
}

fn line_breaks(text: &str) -> usize {
    text.bytes().filter(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::{prelude::*, sample::Index};

    use super::*;

    /// Texts of the source files below the directory `LACUNA_TREE`, or of this repository.
    fn sources() -> Vec<(PathBuf, Language, String)> {
        let root = std::env::var_os("LACUNA_TREE")
            .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")), PathBuf::from);
        let mut found = Vec::new();
        let mut pending = vec![root];
        while let Some(directory) = pending.pop() {
            for entry in std::fs::read_dir(directory).unwrap().flatten() {
                let (path, name) = (entry.path(), entry.file_name());
                if entry.file_type().unwrap().is_dir() {
                    let is_built = name.to_string_lossy().starts_with('.')
                        || ["target", "node_modules"].iter().any(|built| name == *built);
                    if !is_built {
                        pending.push(path);
                    }
                } else if let Some(language) = Language::from_path(&path)
                    && let Ok((text, _)) = text(&path, 1 << 20)
                {
                    found.push((path, language, text));
                }
            }
        }
        found
    }

    /// Whether the outline of a sound text has the same symbols as all of it; `None` where the text has errors or there
    /// is no outline.
    fn agrees(language: Language, text: &str) -> Option<bool> {
        let symbols = parse_outline(language, text)?;
        if syntax::parse_str(language, text)?.root_node().has_error() {
            return None;
        }
        Some(parse_whole(language, text)? == symbols)
    }

    #[test]
    fn outlines_have_the_symbols_of_the_whole_file() {
        let sources = sources();
        let compared = sources.iter().filter_map(|(path, language, text)| {
            let agrees = agrees(*language, text)?;
            Some((path, agrees))
        });
        let (same, differing): (Vec<_>, Vec<_>) = compared.partition(|(_, agrees)| *agrees);
        println!("{} files, {} outlines that agree", sources.len(), same.len());
        assert!(same.len() > 100, "only {} of {} files have outlines", same.len(), sources.len());
        assert!(differing.is_empty(), "{differing:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

        /// What is left out of a text with something in it that hides or closes what follows may not be what its
        /// writer meant, but nothing panics, and all places are places of the text.
        #[test]
        fn outlines_of_damaged_files_name_places_of_the_file(
            file in any::<Index>(),
            at in any::<Index>(),
            piece in prop::sample::select(vec![
                "", "{", "}", "(", ")", "\"", "'", "`", "\"\"\"", "/*", "*/", "//", "#", "#if 0\n", "\n", "\\", "r#\"", "é",
            ]),
            removed in 0usize..200,
        ) {
            static SOURCES: std::sync::LazyLock<Vec<(PathBuf, Language, String)>> =
                std::sync::LazyLock::new(sources);
            let (path, language, text) = file.get(&SOURCES);
            let start = text.floor_char_boundary(at.index(text.len() + 1));
            let end = text.floor_char_boundary((start + removed).min(text.len()));
            let damaged = format!("{}{piece}{}", &text[..start], &text[end..]);
            let Some(read) = parse_outline(*language, &damaged) else { return Ok(()) };
            for symbol in &read.symbols {
                let place = symbol.start as usize..symbol.end as usize;
                let covered = damaged.get(place.clone());
                prop_assert!(covered.is_some(), "{place:?} of {} at {start}", path.display());
                let lines = line_breaks(&damaged[..place.start])..=line_breaks(&damaged[..place.end]);
                prop_assert!(lines.contains(&(symbol.line as usize)), "line {} in {lines:?}", symbol.line);
            }
        }
    }
}
