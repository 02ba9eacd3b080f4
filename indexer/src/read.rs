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
    use super::*;

    /// Compares all files below the directory `LACUNA_TREE`, and says what differs.
    #[test]
    #[ignore = "needs a directory"]
    fn outlines_of_real_files_have_the_same_symbols() {
        let root = std::path::PathBuf::from(std::env::var_os("LACUNA_TREE").unwrap());
        let (mut files, mut same, mut outlined, mut broken) = (0, 0, 0, 0);
        let mut by_language: std::collections::BTreeMap<&str, [usize; 4]> = Default::default();
        let mut pending = vec![root];
        while let Some(directory) = pending.pop() {
            for entry in std::fs::read_dir(directory).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    pending.push(path);
                    continue;
                }
                let Some(language) = Language::from_path(&path) else { continue };
                let Ok((text, _)) = text(&path, 1 << 20) else { continue };
                files += 1;
                let tally = by_language.entry(language.name()).or_default();
                tally[0] += 1;
                let Some(outline) = Source::outline(language, &text) else { continue };
                tally[1] += 1;
                tally[2] += text.len();
                tally[3] += outline.parsed().len();
                let Some(symbols) = parse_outline(language, &text) else {
                    let whole = syntax::parse_str(language, &text).unwrap();
                    if !whole.root_node().has_error() {
                        println!("outline broken: {}", path.display());
                        broken += 1;
                        if std::env::var_os("LACUNA_SHOW").is_some() {
                            println!("{}", outline.parsed());
                        }
                    }
                    continue;
                };
                outlined += 1;
                let whole = parse_whole(language, &text).unwrap();
                same += usize::from(whole == symbols);
                if whole != symbols {
                    println!("differs: {} {} {}", path.display(), whole.symbols.len(), symbols.symbols.len());
                    let write = |file: &FileSymbols, index: usize| {
                        file.symbols.get(index).map(|symbol| {
                            format!(
                                "{:?} {} {}..{} line {} {:?} in {}",
                                symbol.kind,
                                file.name(symbol),
                                symbol.start,
                                symbol.end,
                                symbol.line,
                                (file.text(symbol.signature), file.text(symbol.doc)),
                                symbol.parent
                            )
                        })
                    };
                    let imports = |file: &FileSymbols| {
                        let write = |import: &crate::symbols::Import| {
                            format!(
                                "{} {:?}",
                                import.line,
                                (file.text(import.source), file.text(import.name))
                            )
                        };
                        file.imports.iter().map(write).collect::<Vec<_>>()
                    };
                    let (one, other) = (imports(&whole), imports(&symbols));
                    if let Some(at) =
                        (0..one.len().max(other.len())).find(|at| one.get(*at) != other.get(*at))
                    {
                        println!("    import {:?}\n    import {:?}", one.get(at), other.get(at));
                    }
                    let length = whole.symbols.len().max(symbols.symbols.len());
                    let differing =
                        (0..length).find(|index| write(&whole, *index) != write(&symbols, *index));
                    if let Some(index) = differing {
                        println!("    {:?}\n    {:?}", write(&whole, index), write(&symbols, index));
                    }
                }
            }
        }
        println!(
            "{files} files, {outlined} by outline, {same} of them the same; {broken} outlines break a sound file"
        );
        println!("{by_language:?}");
    }
}
