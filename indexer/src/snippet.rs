//! Pieces of other files as they stand: where the function being edited is called, code that resembles it, what was
//! edited lately. Unlike definitions they need text, so the number of files and bytes looked at is bounded.

use std::{ops::Range, path::PathBuf, sync::Arc};

use rustc_hash::FxHashSet;

use crate::{
    index::{File, FileId},
    read,
    snapshot::Snapshot,
    symbols::name_hash,
    words::words,
};

/// Larger files are not searched: the time is that of a key press.
pub(crate) const MAX_FILE_BYTES: u64 = 96 << 10;

/// An edit made lately, anywhere in the workspace: whole lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentEdit {
    pub path: PathBuf,
    /// The lines as they were.
    pub before: String,
    /// The lines as they are.
    pub after: String,
}

/// Lines of a file of the index.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Snippet {
    pub file: FileId,
    /// Bytes of the file.
    pub range: Range<usize>,
    pub text: String,
}

/// The text of a file: the editor's, else the disk's.
pub(crate) fn text_of(file: &File) -> Option<Arc<str>> {
    match &file.text {
        Some(text) => Some(text.clone()),
        None if file.open => None,
        None => read::text(&file.path, MAX_FILE_BYTES).ok().map(|(text, _)| text.into()),
    }
}

/// An edit as the lines that went and the lines that came.
pub(crate) fn diff(edit: &RecentEdit) -> String {
    let (before, after): (Vec<&str>, Vec<&str>) =
        (edit.before.lines().collect(), edit.after.lines().collect());
    let same = before.iter().zip(&after).take_while(|(a, b)| a == b).count();
    let (before, after) = (&before[same..], &after[same..]);
    let same_end = before.iter().rev().zip(after.iter().rev()).take_while(|(a, b)| a == b).count();
    let mut out = String::new();
    for (sign, lines) in [('-', &before[..before.len() - same_end]), ('+', &after[..after.len() - same_end])]
    {
        for line in lines {
            out.push(sign);
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

/// The lines around the byte `at`, at most `above` before and `below` after, without blank lines at the ends.
pub(crate) fn around(text: &str, at: usize, above: usize, below: usize) -> Range<usize> {
    let line_start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let mut start = line_start;
    for _ in 0..above {
        if start == 0 {
            break;
        }
        start = text[..start - 1].rfind('\n').map_or(0, |end| end + 1);
    }
    let mut end = at;
    for _ in 0..=below {
        end = text[end..].find('\n').map_or(text.len(), |length| end + length + 1);
    }
    trimmed(text, start..end)
}

/// `range`, which is of whole lines, without the blank ones at its ends.
pub(crate) fn trimmed(text: &str, range: Range<usize>) -> Range<usize> {
    let inner = &text[range.clone()];
    let leading: usize =
        inner.split_inclusive('\n').take_while(|line| line.trim().is_empty()).map(str::len).sum();
    let kept = inner[leading..].trim_end().len();
    let start = range.start + leading;
    let end = start + kept;
    start..if text[end..].starts_with('\n') { end + 1 } else { end }
}

/// Names defined more often than this say little about who calls them.
const MAX_HOMONYMS: usize = 3;
const MIN_NAME_LENGTH: usize = 4;
/// Files with a use of a name that are read, and those shown.
const MAX_READ: usize = 6;
const MAX_USES: usize = 2;
const LINES_ABOVE: usize = 5;
const LINES_BELOW: usize = 3;

/// Calls of `name` in other files than `own`: the nearest files, tests of the same name first.
pub(crate) fn uses(snapshot: &Snapshot, own: FileId, name: &str) -> Vec<Snippet> {
    let Some(own_file) = snapshot.file(own) else { return Vec::new() };
    let homonyms = snapshot.find(name).chain(snapshot.find_member(name)).take(MAX_HOMONYMS + 1).count();
    if name.len() < MIN_NAME_LENGTH || name.starts_with("__") || homonyms > MAX_HOMONYMS {
        return Vec::new();
    }
    let hash = name_hash(name);
    let family = own_file.language.family();
    let mut files: Vec<(bool, usize, FileId)> = (0u32..)
        .zip(&snapshot.files)
        .filter_map(|(id, file)| Some((id, file.as_ref()?)))
        .filter(|(id, file)| {
            *id != own
                && file.language.family() == family
                && file.symbols.as_ref().is_some_and(|symbols| symbols.has_word(hash))
        })
        .map(|(id, file)| {
            let sibling = crate::sibling::are_siblings(&own_file.relative, &file.relative);
            let parts = file.relative.split('/').zip(own_file.relative.split('/'));
            (!sibling, usize::MAX - parts.take_while(|(a, b)| a == b).count(), id)
        })
        .collect();
    files.sort_unstable();
    let mut found = Vec::new();
    for (.., id) in files.into_iter().take(MAX_READ) {
        let Some(file) = snapshot.file(id) else { continue };
        let Some(text) = text_of(file) else { continue };
        let is_call = |at: usize| text[at + name.len()..].starts_with(['(', '<', '!']);
        let defined = |at: usize| {
            let symbols = file.symbols.as_deref();
            symbols.is_some_and(|symbols| {
                symbols.symbols.iter().any(|symbol| {
                    symbols.name(symbol) == name
                        && symbol.range().contains(&at)
                        && at < symbol.start as usize + 200
                })
            })
        };
        let mut places = words(&text).filter(|word| word.text == name && is_call(word.start));
        if let Some(word) = places.find(|word| !defined(word.start)) {
            let range = around(&text, word.start, LINES_ABOVE, LINES_BELOW);
            found.push(Snippet { file: id, text: ended(&text[range.clone()]), range });
        }
        if found.len() >= MAX_USES {
            break;
        }
    }
    found
}

pub(crate) fn ended(text: &str) -> String {
    if text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

/// What the code around the cursor is compared by.
pub(crate) struct Wanted {
    hashes: Vec<u32>,
}

/// Words that are compared, the first of the function, and the fewest that say anything.
const MAX_WANTED: usize = 64;
const MIN_WANTED: usize = 4;
const MIN_WORD_LENGTH: usize = 4;

impl Wanted {
    /// The words of `function` without the line of the cursor: what is being typed does not count, so that the
    /// answer stays the same until the line is done.
    pub fn new(text: &str, function: Range<usize>, offset: usize) -> Self {
        let line_start = text[..offset].rfind('\n').map_or(0, |end| end + 1);
        let line_end = text[offset..].find('\n').map_or(text.len(), |length| offset + length);
        let mut seen = FxHashSet::default();
        let parts =
            [function.start..line_start.max(function.start), line_end.min(function.end)..function.end];
        let mut hashes = Vec::new();
        for part in parts {
            for word in words(text.get(part).unwrap_or("")) {
                let hash = name_hash(word.text);
                if word.text.len() >= MIN_WORD_LENGTH && hashes.len() < MAX_WANTED && seen.insert(hash) {
                    hashes.push(hash);
                }
            }
        }
        Self { hashes }
    }
}

/// Files that are compared by their words, and those of them whose text is.
const MAX_COMPARED: usize = 64;
const MAX_SEARCHED: usize = 3;
const WINDOW_LINES: usize = 20;
const WINDOW_STEP: usize = 10;
/// The least part of the wanted words, by weight, that a window must have.
const MIN_SIMILARITY: f32 = 0.3;

/// The windows of open files and files of the same directory that share most words with the code at the cursor,
/// each word weighted by how few of the files have it; with their similarity from 0 to 1, the best first.
pub(crate) fn similar(snapshot: &Snapshot, own: FileId, wanted: &Wanted) -> Vec<(f32, Snippet)> {
    let Some(own_file) = snapshot.file(own) else { return Vec::new() };
    if wanted.hashes.len() < MIN_WANTED {
        return Vec::new();
    }
    let family = own_file.language.family();
    let near = |(id, file): &(FileId, &Arc<File>)| {
        *id != own && file.language.family() == family && file.symbols.is_some()
    };
    let open = (0u32..).zip(&snapshot.files).filter_map(|(id, file)| Some((id, file.as_ref()?)));
    let open = open.filter(|(_, file)| file.text.is_some());
    let beside = snapshot.paths.by_directory(own_file.directory());
    let beside = beside.filter_map(|id| Some((id, snapshot.file(id)?)));
    let beside = beside.filter(|(_, file)| !file.open && file.directory() == own_file.directory());
    let files: Vec<(FileId, &Arc<File>)> = open.chain(beside).filter(near).take(MAX_COMPARED).collect();
    let has = |file: &File, hash: u32| file.symbols.as_ref().is_some_and(|symbols| symbols.has_word(hash));
    let weights: Vec<f32> = wanted
        .hashes
        .iter()
        .map(|hash| {
            let count = files.iter().filter(|(_, file)| has(file, *hash)).count();
            (1.0 + files.len() as f32 / (count as f32).max(0.5)).ln()
        })
        .collect();
    let total: f32 = weights.iter().sum();
    let mut by_words: Vec<(f32, FileId, &File)> = files
        .iter()
        .map(|(id, file)| {
            let shared = wanted.hashes.iter().zip(&weights).filter(|(hash, _)| has(file, **hash));
            (shared.map(|(_, weight)| weight).sum::<f32>() / total, *id, &***file)
        })
        .filter(|(score, ..)| *score >= MIN_SIMILARITY)
        .collect();
    by_words.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.2.path.cmp(&b.2.path)));
    let mut found: Vec<(f32, Snippet)> = by_words
        .into_iter()
        .take(MAX_SEARCHED)
        .filter_map(|(_, id, file)| {
            let text = text_of(file)?;
            let (score, range) = best_window(&text, wanted, &weights)?;
            let similarity = score / total;
            let snippet = Snippet { file: id, text: ended(&text[range.clone()]), range };
            (similarity >= MIN_SIMILARITY).then_some((similarity, snippet))
        })
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found
}

fn best_window(text: &str, wanted: &Wanted, weights: &[f32]) -> Option<(f32, Range<usize>)> {
    let mut starts: Vec<usize> = text.match_indices('\n').map(|(at, _)| at + 1).collect();
    starts.insert(0, 0);
    starts.push(text.len());
    // By line, which of the wanted words it has: a bit each.
    let bits: Vec<u64> = starts
        .windows(2)
        .map(|line| {
            let mut bits = 0;
            for word in words(&text[line[0]..line[1]]).filter(|word| word.text.len() >= MIN_WORD_LENGTH) {
                let hash = name_hash(word.text);
                if let Some(position) = wanted.hashes.iter().position(|wanted| *wanted == hash) {
                    bits |= 1u64 << position;
                }
            }
            bits
        })
        .collect();
    let mut best: Option<(f32, usize)> = None;
    for first in (0..bits.len()).step_by(WINDOW_STEP) {
        let shared =
            bits[first..(first + WINDOW_LINES).min(bits.len())].iter().fold(0, |all, line| all | line);
        let score: f32 = weights
            .iter()
            .enumerate()
            .filter(|(index, _)| shared >> index & 1 == 1)
            .map(|(_, weight)| weight)
            .sum();
        if best.is_none_or(|(known, _)| score > known) {
            best = Some((score, first));
        }
    }
    let (score, first) = best?;
    let last = (first + WINDOW_LINES).min(starts.len() - 1);
    let range = trimmed(text, starts[first]..starts[last]);
    (!range.is_empty()).then_some((score, range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edits_become_the_lines_that_differ() {
        let check = |before: &str, after: &str, expected: &str| {
            let edit = RecentEdit { path: "a".into(), before: before.into(), after: after.into() };
            assert_eq!(diff(&edit), expected);
        };
        check("a\nb\nc\n", "a\nx\nc\n", "-b\n+x\n");
        check("", "a\n", "+a\n");
        check("a\n", "", "-a\n");
        check("a\n", "a\n", "");
        check("a\na\n", "a\n", "-a\n");
    }

    #[test]
    fn lines_around_a_place() {
        let text = "a\n\nb\nc\nd\n\ne";
        let check = |needle: &str, above, below, expected: &str| {
            let range = around(text, text.find(needle).unwrap(), above, below);
            assert_eq!(&text[range], expected);
        };
        check("c", 1, 1, "b\nc\nd\n");
        check("c", 2, 2, "b\nc\nd\n");
        check("a", 3, 0, "a\n");
        check("e", 1, 9, "e");
    }
}
