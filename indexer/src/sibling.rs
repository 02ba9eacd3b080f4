//! Files that belong together: by their names, as a source and its tests or a header and its implementation, or because
//! they are in one directory.

use std::path::Path;

use crate::{Language, index::FileId, snapshot::Snapshot};

/// What tests put around the name of what they test.
const TEST_PREFIXES: &[&str] = &["test_", "Test", "spec_"];
const TEST_SUFFIXES: &[&str] =
    &["_test", "_tests", ".test", ".spec", "_spec", "Tests", "Test", "Spec", "-test"];

/// The name without extension, and without what marks a test; and whether something did.
fn subject(relative: &str) -> (&str, bool) {
    let name = relative.rsplit('/').next().unwrap_or(relative);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    let stem = stem.strip_suffix(".d").unwrap_or(stem);
    let bare = TEST_PREFIXES.iter().find_map(|prefix| stem.strip_prefix(prefix));
    let bare = bare.or_else(|| TEST_SUFFIXES.iter().find_map(|suffix| stem.strip_suffix(suffix)));
    match bare.filter(|bare| !bare.is_empty()) {
        Some(bare) => (bare, true),
        None => (stem, false),
    }
}

/// Whether one is the test of the other, or its header, by their names and directories.
pub(crate) fn are_siblings(left: &str, right: &str) -> bool {
    let ((left_subject, left_is_test), (right_subject, right_is_test)) = (subject(left), subject(right));
    let same_directory = left.rsplit_once('/').map(|(directory, _)| directory)
        == right.rsplit_once('/').map(|(directory, _)| directory);
    left != right
        && left_subject == right_subject
        && (left_is_test != right_is_test || (same_directory && !left_is_test))
}

/// Siblings shown, at most.
const MAX_SIBLINGS: usize = 2;
/// Files of one name that are looked at: `mod` and `index` are names of thousands.
const MAX_HOMONYMS: usize = 256;

/// Files of one directory that say what another one there may use.
const MAX_BESIDE: usize = 12;

/// Other files of the directory of `path`, whether they are read or not: which ones must not change while a scan runs.
pub(crate) fn beside(snapshot: &Snapshot, path: &Path, language: Language) -> impl Iterator<Item = FileId> {
    let in_directory = path.parent().map(|directory| snapshot.paths.by_directory(directory));
    let is_beside = move |id: &FileId| {
        snapshot
            .file(*id)
            .is_some_and(|file| file.language.family() == language.family() && *file.path != *path)
    };
    in_directory.into_iter().flatten().filter(is_beside).take(MAX_BESIDE)
}

/// The siblings of a file among the files of its family, the nearest first.
pub(crate) fn siblings(snapshot: &Snapshot, own: FileId) -> Vec<FileId> {
    let Some(file) = snapshot.file(own) else { return Vec::new() };
    let (subject, _) = subject(&file.relative);
    let prefixed = TEST_PREFIXES.iter().map(|prefix| format!("{prefix}{subject}"));
    let suffixed = TEST_SUFFIXES.iter().map(|suffix| format!("{subject}{suffix}"));
    let mut found: Vec<(usize, FileId)> = prefixed
        .chain(suffixed)
        .chain([subject.to_owned()])
        .flat_map(|module| snapshot.paths.by_module(&module).take(MAX_HOMONYMS).collect::<Vec<_>>())
        .filter_map(|id| {
            let other = snapshot.file(id)?;
            let related = other.language.family() == file.language.family()
                && are_siblings(&file.relative, &other.relative);
            let parts = other.relative.split('/').zip(file.relative.split('/'));
            related.then(|| (usize::MAX - parts.take_while(|(a, b)| a == b).count(), id))
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().take(MAX_SIBLINGS).map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_siblings() {
        for (left, right, expected) in [
            ("src/stock.py", "tests/test_stock.py", true),
            ("stock.go", "stock_test.go", true),
            ("src/stock.ts", "src/stock.spec.ts", true),
            ("src/Stock.java", "test/StockTest.java", true),
            ("src/stock.cpp", "src/stock.h", true),
            ("src/stock.cpp", "old/stock.h", false),
            ("lib/stock.rb", "spec/stock_spec.rb", true),
            ("a/mod.rs", "b/mod.rs", false),
            ("test_stock.py", "x/test_stock.py", false),
            ("stock.py", "stock.py", false),
            ("stock.py", "order.py", false),
        ] {
            assert_eq!(are_siblings(left, right), expected, "{left} {right}");
        }
    }
}
