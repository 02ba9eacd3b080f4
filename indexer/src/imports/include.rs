//! C and C++ includes: next to the including file, then under the directories above it, then by path suffix.

use std::path::Path;

use super::{Importer, Target, at, nearest};
use crate::snapshot::Snapshot;

pub(super) fn targets(snapshot: &Snapshot, importer: &Importer<'_>, source: &str) -> Vec<Target> {
    let source = source.trim();
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
        let name = Path::new(source).file_name()?.to_str()?;
        let suffix = Path::new(source);
        let fits = |id: &u32| snapshot.file(*id).is_some_and(|file| file.path.ends_with(suffix));
        nearest(snapshot, importer.path, snapshot.paths.by_file_name(name).filter(fits))
    });
    found.map(|file| Target::file(file, None)).into_iter().collect()
}
