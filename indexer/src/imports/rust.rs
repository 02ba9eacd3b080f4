//! Rust paths: `use` trees to single bindings, and paths through the modules of a crate to files.

use std::path::{Path, PathBuf};

use super::{Importer, Target, at};
use crate::{index::FileId, manifest::ManifestKind, snapshot::Snapshot, symbols::ImportKind};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UseBinding {
    pub source: String,
    pub name: String,
    pub alias: String,
    pub all: bool,
}

/// Bindings of one `use`, at most this many.
const MAX_BINDINGS: usize = 512;

/// `a::{b, c::{d as e, *}}` -> its bindings. Works on text: a tree that is still being typed reads as far as it goes.
pub(crate) fn use_tree(text: &str) -> Vec<UseBinding> {
    let mut bindings = Vec::new();
    let mut prefixes: Vec<String> = vec![String::new()];
    let mut current = String::new();
    for character in text.chars().chain([',']) {
        match character {
            '{' => {
                let prefix = format!("{}{}", prefixes.last().map_or("", String::as_str), current.trim());
                prefixes.push(prefix);
                current.clear();
            }
            ',' | '}' | ';' => {
                if let Some(prefix) = prefixes.last()
                    && bindings.len() < MAX_BINDINGS
                {
                    bindings.extend(binding(prefix, current.trim()));
                }
                current.clear();
                if character == '}' && prefixes.len() > 1 {
                    prefixes.pop();
                }
            }
            '\n' | '\r' => current.push(' '),
            other => current.push(other),
        }
    }
    bindings
}

fn binding(prefix: &str, leaf: &str) -> Option<UseBinding> {
    if leaf.is_empty() {
        return None;
    }
    let path: String = format!("{prefix}{leaf}");
    let (path, alias) = match path.split_once(" as ") {
        Some((path, alias)) => (path.trim().to_owned(), alias.trim().to_owned()),
        None => (path, String::new()),
    };
    let path = path.trim_start_matches("::");
    let (source, name) = match path.rsplit_once("::") {
        Some((source, name)) => (source, name),
        None => ("", path),
    };
    let all = name == "*";
    // `use a::b::{self}` binds the module itself.
    if name == "self" {
        let (parent, last) = source.rsplit_once("::").unwrap_or(("", source));
        return Some(UseBinding { source: parent.to_owned(), name: last.to_owned(), alias, all: false });
    }
    let name = if all { String::new() } else { name.to_owned() };
    Some(UseBinding { source: source.to_owned(), name, alias, all })
}

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
        first => match module.child(snapshot, first).or_else(|| workspace_crate(snapshot, first)) {
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
            segment => current.child(snapshot, segment),
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
        let children = match stem.to_str() {
            Some("mod" | "lib" | "main") => directory.to_owned(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_trees() {
        let check = |text: &str, expected: &[&str]| {
            let found: Vec<String> = use_tree(text)
                .into_iter()
                .map(|UseBinding { source, name, alias, all }| {
                    format!(
                        "{source}|{}{}",
                        if all { "*" } else { &name },
                        if alias.is_empty() { alias } else { format!("={alias}") }
                    )
                })
                .collect();
            assert_eq!(found, expected, "{text}");
        };
        check("a::b", &["a|b"]);
        check("a", &["|a"]);
        check(
            "crate::a::{b, c::{self, d as e, f::*},\n g}",
            &["crate::a|b", "crate::a|c", "crate::a::c|d=e", "crate::a::c::f|*", "crate::a|g"],
        );
        check("::a::b as _", &["a|b=_"]);
        check("a::{b, c::{", &["a|b"]);
        check("}}}", &[]);
    }
}
