//! What a scan takes from and leaves in the cache on disk.

use std::{path::PathBuf, sync::Arc};

use rustc_hash::FxHashMap;

use super::{Change, Origin, Workspace, apply};
use crate::{ScanReport, cache, walk::Found};

/// A root whose index is kept on disk.
pub(super) struct Kept {
    pub root: PathBuf,
    /// What is kept has files that are gone.
    pub outdated: bool,
}

impl Workspace {
    /// Takes what did not change from the caches of the roots.
    pub(super) fn read_caches(
        &self,
        roots: &[PathBuf],
        found: &[Found],
        report: &mut ScanReport,
    ) -> Vec<Kept> {
        let Some(directory) = &self.shared.options.cache_directory else { return Vec::new() };
        let snapshot = self.snapshot();
        let mut changes = Vec::new();
        let mut kept = Vec::new();
        for root in roots {
            let mut entries = cache::load(directory, root).unwrap_or_else(|error| {
                tracing::info!(root = %root.display(), "the kept index is not used: {error}");
                FxHashMap::default()
            });
            let inside = found.iter().filter(|found| snapshot.root_of(&found.path) == Some(root));
            for found in inside {
                let file = snapshot.file_by_path(&found.path).and_then(|id| snapshot.file(id));
                let Some(file) = file else { continue };
                let Some(entry) = entries.remove(&*file.relative) else { continue };
                let same = entry.stamp == found.stamp && entry.language == found.language;
                if same && !file.open && (file.symbols.is_none() || file.stamp != found.stamp) {
                    report.from_cache += 1;
                    changes.push(Change {
                        path: file.path.clone(),
                        language: found.language,
                        symbols: Arc::new(entry.symbols),
                        stamp: found.stamp,
                        origin: Origin::Scan,
                        text: None,
                    });
                }
            }
            kept.push(Kept { root: root.clone(), outdated: !entries.is_empty() });
        }
        if !changes.is_empty() {
            self.change(|snapshot| apply(snapshot, changes));
        }
        kept
    }

    /// A cache that cannot be written (a read-only or full disk) costs the next start its time, nothing else.
    pub(super) fn write_cache(&self, kept: &Kept, report: &mut ScanReport) {
        let Some(directory) = &self.shared.options.cache_directory else { return };
        let snapshot = self.snapshot();
        let files = snapshot.files.iter().flatten().filter(|file| {
            // A buffer's symbols are not the disk's.
            !file.open && snapshot.root_of(&file.path) == Some(kept.root.as_path())
        });
        let entries = files
            .filter_map(|file| Some((&*file.relative, file.language, file.stamp, file.symbols.as_deref()?)));
        if let Err(error) = cache::store(directory, &kept.root, entries) {
            let directory = directory.display();
            tracing::warn!(%directory, "the index is not kept for the next start: {error}");
            report.not_kept = Some(format!("{directory}: {error}"));
        }
    }
}
