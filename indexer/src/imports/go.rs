//! Go packages: the directory that the module path and the rest of the import path lead to.

use super::Target;
use crate::{Language, manifest::ManifestKind, snapshot::Snapshot};

pub(super) fn targets(snapshot: &Snapshot, source: &str) -> Vec<Target> {
    let mut best: Option<(usize, std::path::PathBuf)> = None;
    for manifest in snapshot.manifests.iter() {
        let ManifestKind::GoModule(module) = &manifest.kind else { continue };
        let Some(rest) = source.strip_prefix(module.as_str()) else { continue };
        let rest = match rest.strip_prefix('/') {
            Some(rest) => rest,
            None if rest.is_empty() => rest,
            None => continue,
        };
        if best.as_ref().is_none_or(|(length, _)| module.len() > *length) {
            best = Some((module.len(), crate::index::normalize(&manifest.directory.join(rest))));
        }
    }
    let Some((_, directory)) = best else { return Vec::new() };
    let is_source = |id: &u32| snapshot.file(*id).is_some_and(|file| !file.relative.ends_with("_test.go"));
    let files: Vec<_> = snapshot.files_in(&directory, Language::Go).filter(is_source).collect();
    if files.is_empty() { Vec::new() } else { vec![Target::Files { files, name: None }] }
}
