//! A file of the disk -> its symbols, or the reason why not.

use std::{path::Path, sync::Arc};

use crate::{Language, extract::extract, symbols::FileSymbols, syntax, walk::Stamp};

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
    let (symbols, remark) = parse(language, &text);
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

/// Never panics: a defect in reading one file costs that file only.
pub(crate) fn parse(language: Language, text: &str) -> (FileSymbols, Option<String>) {
    let parsed = std::panic::catch_unwind(|| {
        syntax::parse_str(language, text).map(|tree| extract(language, &tree, text))
    });
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
