//! JavaScript and TypeScript modules: relative files, index files, tsconfig paths, packages of the workspace.

use std::path::{Path, PathBuf};

use super::{Importer, Target, at};
use crate::{index::FileId, manifest::ManifestKind, snapshot::Snapshot};

/// In the order of preference: sources before declarations, TypeScript before JavaScript.
const EXTENSIONS: &[&str] = &["ts", "tsx", "js", "jsx", "mts", "cts", "mjs", "cjs", "d.ts"];

pub(super) fn targets(
    snapshot: &Snapshot,
    importer: &Importer<'_>,
    source: &str,
    name: Option<&str>,
) -> Vec<Target> {
    // The file itself: how `export default Name` is kept.
    if source.is_empty() {
        let own = snapshot.file_by_path(importer.path);
        return own.map(|file| Target::file(file, name)).into_iter().collect();
    }
    candidates(snapshot, importer, source)
        .iter()
        .find_map(|path| module_file(snapshot, path))
        .map(|file| Target::file(file, name))
        .into_iter()
        .collect()
}

fn candidates(snapshot: &Snapshot, importer: &Importer<'_>, source: &str) -> Vec<PathBuf> {
    if source.starts_with('.') {
        return vec![importer.directory().join(source)];
    }
    let mut candidates = Vec::new();
    let mut configured: Vec<_> =
        snapshot.manifests.iter().filter(|m| importer.path.starts_with(&m.directory)).collect();
    configured.sort_by_key(|manifest| std::cmp::Reverse(manifest.directory.as_os_str().len()));
    for manifest in configured {
        if let ManifestKind::TypeScriptPaths { base, paths } = &manifest.kind {
            for (pattern, targets) in paths {
                if let Some(matched) = match_pattern(pattern, source) {
                    let fill =
                        |target: &PathBuf| PathBuf::from(target.to_string_lossy().replace('*', matched));
                    candidates.extend(targets.iter().map(fill));
                }
            }
            candidates.extend(base.as_ref().map(|base| base.join(source)));
        }
    }
    for manifest in snapshot.manifests.iter() {
        if let ManifestKind::NpmPackage { name, entry } = &manifest.kind
            && let Some(rest) = source.strip_prefix(name.as_str())
        {
            if let Some(inner) = rest.strip_prefix('/') {
                candidates.push(manifest.directory.join(inner));
                candidates.push(manifest.directory.join("src").join(inner));
            } else if rest.is_empty() {
                candidates.extend(entry.as_ref().map(|entry| manifest.directory.join(entry)));
                candidates.push(manifest.directory.join("src"));
                candidates.push(manifest.directory.clone());
            }
        }
    }
    // The usual aliases of bundlers, where no configuration says otherwise.
    if let (Some(inner), Some(root)) =
        (source.strip_prefix("@/").or_else(|| source.strip_prefix("~/")), snapshot.root_of(importer.path))
    {
        for ancestor in importer.directory().ancestors().take_while(|ancestor| ancestor.starts_with(root)) {
            candidates.push(ancestor.join("src").join(inner));
        }
        candidates.push(root.join(inner));
    }
    candidates
}

/// What `*` stands for where `source` fits the pattern; a pattern without `*` fits itself only.
fn match_pattern<'a>(pattern: &str, source: &'a str) -> Option<&'a str> {
    match pattern.split_once('*') {
        Some((before, after)) => source.strip_prefix(before)?.strip_suffix(after),
        None => (pattern == source).then_some(""),
    }
}

fn module_file(snapshot: &Snapshot, path: &Path) -> Option<FileId> {
    let with = |extension: &str| {
        let mut path = path.as_os_str().to_owned();
        path.push(extension);
        at(snapshot, Path::new(&path))
    };
    if let Some(file) = at(snapshot, path) {
        return Some(file);
    }
    if let Some(file) = EXTENSIONS.iter().find_map(|extension| with(&format!(".{extension}"))) {
        return Some(file);
    }
    // TypeScript sources are imported by the name of their output: `./a.js` is `a.ts`.
    if let Some("js" | "jsx" | "mjs" | "cjs") = path.extension().and_then(|extension| extension.to_str())
        && let Some(file) =
            EXTENSIONS.iter().find_map(|extension| at(snapshot, &path.with_extension(extension)))
    {
        return Some(file);
    }
    EXTENSIONS.iter().find_map(|extension| with(&format!("/index.{extension}")))
}
