//! Where an import leads inside the workspace: one module for each way that languages name their modules.

use std::path::Path;

use crate::{
    Language,
    index::FileId,
    snapshot::Snapshot,
    symbols::{FileSymbols, Import, ImportKind},
};

mod ecmascript;
mod go;
mod include;
mod lua;
mod python;
mod rust;
pub(crate) mod tree;

/// How a language names what it imports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImportStyle {
    /// Dotted modules along directories, relative by leading dots.
    Python,
    /// Paths through modules of a crate.
    Rust,
    /// Relative files, packages and configured paths.
    EcmaScript,
    /// `package.Name`; the package is declared in the file (Java, Kotlin, Scala).
    Package,
    /// Whole namespaces, declared in the file (C#).
    Namespace,
    /// Files by name, all their definitions at once (C, C++).
    Include,
    /// Directories below a module path.
    Go,
    /// Names of namespaces declared in the file, and files by their path.
    Php,
    /// Files by their path, all their constants at once; constants also by the file that is named after them.
    Ruby,
    /// Whole modules, which are directories; a module's files see each other without imports.
    Swift,
    /// Dotted modules along directories; a module is what its file returns.
    Lua,
}

/// A file that imports: one of the index, or a text that is not in it.
#[derive(Clone, Copy)]
pub(crate) struct Importer<'a> {
    pub path: &'a Path,
    pub language: Language,
    pub symbols: &'a FileSymbols,
}

impl Importer<'_> {
    pub fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

/// Where an import may lead; of several the first that exists counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A name defined in one of these files; no name: the files as a module.
    Files { files: Vec<FileId>, name: Option<String> },
    /// A name declared in a package, wherever its files are, or with a dot a member of it; no name: the whole package.
    Package { package: String, name: Option<String> },
}

impl Target {
    fn file(file: FileId, name: Option<&str>) -> Self {
        Self::Files { files: vec![file], name: name.map(str::to_owned) }
    }
}

pub(crate) fn targets(snapshot: &Snapshot, importer: &Importer<'_>, import: &Import) -> Vec<Target> {
    let source = importer.symbols.text(import.source);
    let name = match import.kind {
        ImportKind::Default => Some("default"),
        _ => Some(importer.symbols.text(import.name)).filter(|name| !name.is_empty()),
    };
    match importer.language.import_style() {
        ImportStyle::Python => python::targets(snapshot, importer, source, name),
        ImportStyle::Rust => rust::targets(snapshot, importer, source, name, import.kind),
        ImportStyle::EcmaScript => ecmascript::targets(snapshot, importer, source, name),
        ImportStyle::Package => package_targets(source, name, import.kind),
        ImportStyle::Namespace => namespace_targets(source),
        ImportStyle::Include => include::targets(snapshot, importer, source),
        ImportStyle::Go => go::targets(snapshot, source),
        ImportStyle::Php if import.kind == ImportKind::All => include::targets(snapshot, importer, source),
        ImportStyle::Php => php_targets(source),
        ImportStyle::Ruby => include::ruby_targets(snapshot, importer, source),
        // A module is known by the paths of its files: see `Resolver::visibility`.
        ImportStyle::Swift => Vec::new(),
        ImportStyle::Lua => lua::targets(snapshot, importer, source, name),
    }
}

/// Where a Rust path leads that stands in code instead of in a `use`.
pub(crate) fn path_targets(snapshot: &Snapshot, importer: &Importer<'_>, path: &str) -> Vec<Target> {
    rust::targets(snapshot, importer, path, None, ImportKind::One)
}

/// `a.b.C`: `C` of package `a.b`; else (a nested type, a static member) `b.C` of package `a`.
fn package_targets(source: &str, name: Option<&str>, kind: ImportKind) -> Vec<Target> {
    let mut targets = Vec::new();
    if kind == ImportKind::All || name.is_some() {
        targets.push(Target::Package { package: source.to_owned(), name: name.map(str::to_owned) });
    }
    let mut dots = source.rmatch_indices('.').map(|(dot, _)| dot);
    for dot in dots.by_ref().take(3) {
        let (package, name) = (source[..dot].to_owned(), source[dot + 1..].to_owned());
        targets.push(Target::Package { package, name: Some(name) });
    }
    targets
}

/// `using A.B;` opens a namespace; `using static A.B.C;` and `using X = A.B.C;` name a type.
fn namespace_targets(source: &str) -> Vec<Target> {
    let mut targets = vec![Target::Package { package: source.to_owned(), name: None }];
    if let Some((package, last)) = source.rsplit_once('.') {
        targets.push(Target::Package { package: package.to_owned(), name: Some(last.to_owned()) });
    }
    targets
}

/// `use A\B\C;` names a class or function of a namespace, or the namespace itself.
fn php_targets(source: &str) -> Vec<Target> {
    let (package, name) = source.rsplit_once('\\').unwrap_or(("", source));
    vec![
        Target::Package { package: package.to_owned(), name: Some(name.to_owned()) },
        Target::Package { package: source.to_owned(), name: None },
    ]
}

/// The Swift module that a file belongs to, by the layout that its package manager prescribes; empty where there is
/// none, so that the whole workspace is one module.
pub(crate) fn swift_module(relative: &str) -> &str {
    let mut parts = relative.split('/');
    match parts.find(|part| matches!(*part, "Sources" | "Tests")) {
        Some(_) => parts.next().filter(|module| !module.ends_with(".swift")).unwrap_or(""),
        None => "",
    }
}

/// The file at exactly that path.
fn at(snapshot: &Snapshot, path: &Path) -> Option<FileId> {
    // Most candidates are made of plain names and need no copy.
    let bytes = path.as_os_str().as_encoded_bytes();
    match bytes.windows(2).any(|pair| matches!(pair, b"/." | b"//" | b"\\.")) || bytes.ends_with(b"/") {
        true => snapshot.file_by_path(&crate::index::normalize(path)),
        false => snapshot.file_by_path(path),
    }
}

/// Of files that would fit equally, the one nearest to `from`: most leading components in common, then the
/// shortest path, then by name.
fn nearest(snapshot: &Snapshot, from: &Path, candidates: impl Iterator<Item = FileId>) -> Option<FileId> {
    let common = |path: &Path| path.components().zip(from.components()).take_while(|(a, b)| a == b).count();
    candidates
        .filter_map(|id| Some((id, &snapshot.file(id)?.path)))
        .min_by_key(|(_, path)| (std::cmp::Reverse(common(path)), path.components().count(), (*path).clone()))
        .map(|(id, _)| id)
}
