//! Python modules: relative imports by directory, absolute ones from the source roots that the file can see.

use std::path::{Path, PathBuf};

use super::{Importer, Target, at, nearest};
use crate::{Language, index::FileId, snapshot::Snapshot};

pub(super) fn targets(
    snapshot: &Snapshot,
    importer: &Importer<'_>,
    source: &str,
    name: Option<&str>,
) -> Vec<Target> {
    let dots = source.bytes().take_while(|byte| *byte == b'.').count();
    let module = &source[dots..];
    let components: Vec<&str> =
        module.split('.').filter(|part| !part.trim().is_empty()).map(str::trim).collect();
    if dots > 0 {
        let Some(base) = importer.directory().ancestors().nth(dots - 1) else { return Vec::new() };
        return of_module(snapshot, &join(base, &components), name);
    }
    if components.is_empty() {
        return Vec::new();
    }
    for root in source_roots(snapshot, importer) {
        let targets = of_module(snapshot, &join(&root, &components), name);
        if !targets.is_empty() {
            return targets;
        }
    }
    // Somewhere else in the workspace, where the whole dotted path fits and begins at a source root.
    let suffix = components.join("/");
    let last = components[components.len() - 1];
    let candidates = snapshot.paths.by_module(last).filter(|id| {
        let Some(file) = snapshot.file(*id) else { return false };
        let path = file.path.with_extension("");
        let path = if path.ends_with("__init__") { path.parent().unwrap_or(&path).to_owned() } else { path };
        file.language == Language::Python
            && path.ends_with(&suffix)
            && path.ancestors().nth(components.len()).is_some_and(|root| {
                components.len() > 1 && !is_package(snapshot, root) && root.file_name().is_some()
            })
    });
    match nearest(snapshot, importer.path, candidates) {
        Some(file) => {
            let path = snapshot.file(file).map(|file| file.path.with_extension("")).unwrap_or_default();
            let path =
                if path.ends_with("__init__") { path.parent().unwrap_or(&path).to_owned() } else { path };
            of_module(snapshot, &path, name)
        }
        None => Vec::new(),
    }
}

fn join(base: &Path, components: &[&str]) -> PathBuf {
    components.iter().fold(base.to_owned(), |path, component| path.join(component))
}

/// Stubs lose to sources: they lack docs, and often the private names that the workspace itself uses.
fn module_file(snapshot: &Snapshot, module: &Path) -> Option<FileId> {
    let with = |extension: &str| {
        let mut path = module.as_os_str().to_owned();
        path.push(extension);
        at(snapshot, Path::new(&path))
    };
    with("/__init__.py").or_else(|| with(".py")).or_else(|| with(".pyi")).or_else(|| with("/__init__.pyi"))
}

/// A name of a module, or the submodule of that name.
fn of_module(snapshot: &Snapshot, module: &Path, name: Option<&str>) -> Vec<Target> {
    let mut targets = Vec::new();
    if let Some(file) = module_file(snapshot, module) {
        targets.push(Target::file(file, name));
    }
    if let Some(name) = name
        && let Some(file) = module_file(snapshot, &module.join(name))
    {
        targets.push(Target::file(file, None));
    }
    targets
}

fn is_package(snapshot: &Snapshot, directory: &Path) -> bool {
    at(snapshot, &directory.join("__init__.py")).is_some()
}

/// Where absolute imports begin: above the importing file's outermost package, then every directory from there up
/// to the workspace root, its `src` and `lib`, and last the importing file's own directory (scripts).
fn source_roots(snapshot: &Snapshot, importer: &Importer<'_>) -> Vec<PathBuf> {
    let directory = importer.directory();
    let top = snapshot.root_of(importer.path).unwrap_or(directory);
    let mut roots: Vec<PathBuf> = Vec::new();
    for ancestor in directory.ancestors().take_while(|ancestor| ancestor.starts_with(top)).take(32) {
        if !is_package(snapshot, ancestor) {
            roots.push(ancestor.to_owned());
            roots.push(ancestor.join("src"));
        }
    }
    for name in ["lib", "python"] {
        roots.push(top.join(name));
    }
    roots
}
