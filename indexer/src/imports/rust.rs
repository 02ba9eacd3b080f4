//! Rust paths through the modules of a crate to files.

use std::path::{Path, PathBuf};

use super::{Importer, Target, at};
use crate::{index::FileId, manifest::ManifestKind, snapshot::Snapshot, symbols::ImportKind};

pub(super) fn targets(
    snapshot: &Snapshot,
    importer: &Importer<'_>,
    source: &str,
    name: Option<&str>,
    kind: ImportKind,
) -> Vec<Target> {
    let module = Module::of_file(snapshot, importer.path);
    if kind == ImportKind::Module {
        return module
            .child(snapshot, source)
            .map(|child| Target::file(child.file, None))
            .into_iter()
            .collect();
    }
    let segments: Vec<&str> =
        source.split("::").map(str::trim).filter(|part| !part.is_empty()).chain(name).collect();
    let Some((first, rest)) = segments.split_first() else { return Vec::new() };
    let mut current = match *first {
        "crate" => match crate_root(snapshot, importer.path) {
            Some(root) => root,
            None => return Vec::new(),
        },
        "self" => module,
        "super" => match module.parent(snapshot) {
            Some(parent) => parent,
            None => return vec![Target::file(module.file, rest.first().copied())],
        },
        first => match module
            .child(snapshot, first)
            .or_else(|| module.inline_child(snapshot, first, rest.first()?))
            .or_else(|| workspace_crate(snapshot, first))
        {
            Some(found) => found,
            None => return Vec::new(),
        },
    };
    let mut remaining = rest;
    let mut targets = vec![];
    while let Some((segment, rest)) = remaining.split_first() {
        let next = match *segment {
            "super" => current.parent(snapshot),
            "self" => Some(current.clone()),
            segment => current
                .child(snapshot, segment)
                .or_else(|| current.inline_child(snapshot, segment, rest.first()?)),
        };
        match next {
            Some(next) => {
                // A function may have its module's name: the item counts where there is one.
                if rest.is_empty() {
                    targets.push(Target::file(current.file, Some(segment)));
                }
                (current, remaining) = (next, rest);
            }
            None => break,
        }
    }
    // What is left names an item, or an item and a part of it (an enum and its variant, an inline module's item).
    if remaining.len() > 1 {
        targets.push(Target::file(current.file, remaining.last().copied()));
    }
    targets.push(Target::file(current.file, remaining.first().copied()));
    targets
}

/// A module that is a file, and the directory that its child modules are in.
#[derive(Clone)]
struct Module {
    file: FileId,
    children: PathBuf,
}

impl Module {
    fn at(snapshot: &Snapshot, path: &Path, children: PathBuf) -> Option<Self> {
        Some(Self { file: at(snapshot, path)?, children })
    }

    fn of_file(snapshot: &Snapshot, path: &Path) -> Self {
        let directory = path.parent().unwrap_or(Path::new(""));
        let stem = path.file_stem().unwrap_or_default();
        // A test, an example and so on is a crate of its own.
        let is_crate = directory.file_name().and_then(|name| name.to_str());
        let is_crate = matches!(is_crate, Some("tests" | "examples" | "benches" | "bin"));
        let children = match stem.to_str() {
            Some("mod" | "lib" | "main") => directory.to_owned(),
            _ if is_crate && snapshot.file_by_path(&directory.join("mod.rs")).is_none() => {
                directory.to_owned()
            }
            _ => directory.join(stem),
        };
        // A file outside the index has no id; nothing is ever found in it.
        Self { file: snapshot.file_by_path(path).unwrap_or(FileId::MAX), children }
    }

    fn child(&self, snapshot: &Snapshot, name: &str) -> Option<Self> {
        let name = name.strip_prefix("r#").unwrap_or(name);
        let children = self.children.join(name);
        Self::at(snapshot, &self.children.join(format!("{name}.rs")), children.clone())
            .or_else(|| Self::at(snapshot, &children.join("mod.rs"), children))
    }

    /// A module that is written in braces and whose own children are files: `mod a { mod b; }`.
    fn inline_child(&self, snapshot: &Snapshot, name: &str, next: &str) -> Option<Self> {
        let inline = Self { file: self.file, children: self.children.join(name) };
        inline.child(snapshot, next).map(|_| inline)
    }

    fn parent(&self, snapshot: &Snapshot) -> Option<Self> {
        let path = &snapshot.file(self.file)?.path;
        let directory = path.parent()?;
        // `a/b.rs` and `a/b/mod.rs` are children of the module whose children are in `a`.
        let children = match path.file_stem()?.to_str()? {
            "mod" => directory.parent()?,
            _ => directory,
        };
        for name in ["mod.rs", "lib.rs", "main.rs"] {
            if let Some(parent) = Self::at(snapshot, &children.join(name), children.to_owned())
                && parent.file != self.file
            {
                return Some(parent);
            }
        }
        Self::at(snapshot, &children.with_extension("rs"), children.to_owned())
    }
}

/// The root module of the crate that a file belongs to.
fn crate_root(snapshot: &Snapshot, path: &Path) -> Option<Module> {
    let top = snapshot.root_of(path)?;
    for directory in path.ancestors().skip(1).take_while(|directory| directory.starts_with(top)) {
        for name in ["lib.rs", "main.rs"] {
            if let Some(root) = Module::at(snapshot, &directory.join(name), directory.to_owned()) {
                return Some(root);
            }
        }
    }
    // Single-file crates: examples, tests, benches, binaries.
    Some(Module::of_file(snapshot, path)).filter(|module| module.file != FileId::MAX)
}

/// Another crate of the workspace, by its name.
fn workspace_crate(snapshot: &Snapshot, name: &str) -> Option<Module> {
    let manifest = snapshot.manifests.iter().find(|manifest| match &manifest.kind {
        ManifestKind::RustCrate(known) => known == name,
        _ => false,
    })?;
    let source = manifest.directory.join("src");
    Module::at(snapshot, &source.join("lib.rs"), source.clone())
        .or_else(|| Module::at(snapshot, &source.join("main.rs"), source))
}
