//! Files named by their path (C and C++ includes, `source`, `require`): next to the including file, then under the directories above it, then by path suffix.

use std::path::Path;

use super::{Importer, Target, at, nearest};
use crate::snapshot::Snapshot;

pub(super) fn targets(snapshot: &Snapshot, importer: &Importer<'_>, source: &str) -> Vec<Target> {
    find(snapshot, importer, constant_part(source.trim()), Elsewhere::Anywhere)
}

/// `require "a/b"` and `require_relative "b"`, with or without the extension.
pub(super) fn ruby_targets(snapshot: &Snapshot, importer: &Importer<'_>, source: &str) -> Vec<Target> {
    let source = source.trim_end_matches(".rb");
    // A bare name is most often a library's.
    let elsewhere = if source.contains('/') { Elsewhere::Anywhere } else { Elsewhere::Nowhere };
    find(snapshot, importer, &format!("{source}.rb"), elsewhere)
}

/// Where to look when no directory above the importing file leads to the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Elsewhere {
    Anywhere,
    Nowhere,
}

/// `${DIR}/lib/a.sh`, `__DIR__ . '/lib/a.php`: the path behind the last piece that only running the code would tell.
fn constant_part(source: &str) -> &str {
    let is_computed = source.contains(['$', '\'', '"', ' ', '(']);
    if !is_computed {
        return source;
    }
    let source = source.trim_end_matches(['\'', '"', ')', ' ']);
    let is_path = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '-' | '_');
    let start = source.trim_end_matches(is_path).len();
    let path = &source[start..];
    let path = match source[..start].ends_with('$') {
        true => path.split_once('/').map_or("", |(_, rest)| rest),
        false => path,
    };
    path.trim_start_matches('/')
}

fn find(snapshot: &Snapshot, importer: &Importer<'_>, source: &str, elsewhere: Elsewhere) -> Vec<Target> {
    if source.is_empty() {
        return Vec::new();
    }
    let found = at(snapshot, &importer.directory().join(source)).or_else(|| {
        let root = snapshot.root_of(importer.path)?;
        importer.directory().ancestors().take_while(|ancestor| ancestor.starts_with(root)).find_map(
            |ancestor| {
                let below = ["", "include", "src", "lib"];
                below.iter().find_map(|below| at(snapshot, &ancestor.join(below).join(source)))
            },
        )
    });
    let found = found.or_else(|| {
        if elsewhere == Elsewhere::Nowhere {
            return None;
        }
        let name = Path::new(source).file_name()?.to_str()?;
        let suffix = Path::new(source);
        let fits = |id: &u32| snapshot.file(*id).is_some_and(|file| file.path.ends_with(suffix));
        nearest(snapshot, importer.path, snapshot.paths.by_file_name(name).filter(fits))
    });
    found.map(|file| Target::file(file, None)).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_behind_what_is_computed() {
        for (source, expected) in [
            ("a/b.h", "a/b.h"),
            ("./lib/a.sh", "./lib/a.sh"),
            ("${DIR}/lib/a.sh", "lib/a.sh"),
            ("$DIR/lib/a.sh", "lib/a.sh"),
            ("$(dirname \"$0\")/a.sh", "a.sh"),
            ("__DIR__ . '/lib/a.php", "lib/a.php"),
            ("dirname(__FILE__) . '/a.php'", "a.php"),
            ("$file", ""),
        ] {
            assert_eq!(constant_part(source), expected, "{source}");
        }
    }
}
