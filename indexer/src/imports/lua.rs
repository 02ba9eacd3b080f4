//! Lua modules: `require("a.b")` is `a/b.lua` or `a/b/init.lua` below one of the usual directories.

use super::{Importer, Target, at};
use crate::snapshot::Snapshot;

/// Where modules begin, below the root or any directory above the importing file.
const SOURCE_DIRECTORIES: &[&str] = &["", "lua", "src", "lib"];

pub(super) fn targets(
    snapshot: &Snapshot,
    importer: &Importer<'_>,
    source: &str,
    name: Option<&str>,
) -> Vec<Target> {
    // The file itself: how `return Name` is kept.
    if source.is_empty() {
        let own = snapshot.file_by_path(importer.path);
        return own.map(|file| Target::file(file, name)).into_iter().collect();
    }
    let Some(root) = snapshot.root_of(importer.path) else { return Vec::new() };
    let module = source.replace('.', "/");
    let directories = importer.directory().ancestors().take_while(|ancestor| ancestor.starts_with(root));
    let found = directories.into_iter().find_map(|directory| {
        SOURCE_DIRECTORIES.iter().find_map(|below| {
            let base = directory.join(below);
            at(snapshot, &base.join(format!("{module}.lua")))
                .or_else(|| at(snapshot, &base.join(&module).join("init.lua")))
        })
    });
    found.map(|file| Target::file(file, name)).into_iter().collect()
}
