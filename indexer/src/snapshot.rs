//! An immutable state of the index: what queries read, without locks.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustc_hash::FxHashSet;

use crate::{
    Language,
    index::{File, FileId, NameIndex, PathIndex, SymbolId},
    lexical::Lexical,
    manifest::Manifest,
    symbols::{FileSymbols, Symbol, SymbolKind, name_hash},
};

/// A definition, for people and for tools.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct SymbolInfo {
    /// Relative to its root.
    pub path: String,
    /// Counted from 1.
    pub line: usize,
    pub kind: SymbolKind,
    /// With the names around it, joined by `.`.
    pub qualified_name: String,
    pub signature: String,
    pub doc: String,
}

/// An immutable state of the index.
#[derive(Clone, Default)]
pub struct Snapshot {
    pub(crate) roots: Arc<[PathBuf]>,
    pub(crate) files: Vec<Option<Arc<File>>>,
    pub(crate) paths: Arc<PathIndex>,
    pub(crate) manifests: Arc<[Manifest]>,
    /// Symbols of the files as they were when it was built.
    pub(crate) base: Arc<NameIndex>,
    /// Files changed since; their symbols are in `overlay` and not to be found through `base`.
    pub(crate) stale: Arc<FxHashSet<FileId>>,
    pub(crate) overlay: Arc<NameIndex>,
    /// While a scan runs: which files may define a name, of those that it has not read.
    pub(crate) lexical: Arc<Lexical>,
    /// Not all files that a scan found are read: what is the only one of its name now may not be so in a moment.
    pub(crate) is_scanning: bool,
    pub(crate) file_count: usize,
    pub(crate) symbol_count: usize,
}

impl Snapshot {
    /// Files whose symbols are known; grows while a scan runs.
    pub fn file_count(&self) -> usize {
        self.file_count
    }

    /// Paths of the files that are known, in no order.
    pub fn file_paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().flatten().map(|file| &*file.path)
    }

    pub fn symbol_count(&self) -> usize {
        self.symbol_count
    }

    /// Every definition of that name in the workspace, in the order of the files.
    pub fn definitions(&self, name: &str) -> Vec<SymbolInfo> {
        let mut ids: Vec<SymbolId> = self.find(name).chain(self.find_member(name)).collect();
        ids.sort_unstable();
        ids.into_iter().filter_map(|id| self.info(id)).collect()
    }

    pub(crate) fn info(&self, id: SymbolId) -> Option<SymbolInfo> {
        let (file, symbols, symbol) = self.symbol(id)?;
        Some(SymbolInfo {
            path: file.relative.to_string(),
            line: symbol.line as usize + 1,
            kind: symbol.kind,
            qualified_name: symbols.qualified_name(symbol, "."),
            signature: symbols.text(symbol.signature).to_owned(),
            doc: symbols.text(symbol.doc).to_owned(),
        })
    }

    /// Bytes held by the symbols and tables, without the allocator's own overhead.
    pub fn heap_bytes(&self) -> usize {
        let files: usize = self
            .files
            .iter()
            .flatten()
            .map(|file| {
                size_of::<File>()
                    + 2 * file.path.as_os_str().len()
                    + file.symbols.as_ref().map_or(0, |s| s.heap_bytes())
            })
            .sum();
        files + (self.base.len() + self.overlay.len()) * 12 + self.lexical.heap_bytes()
    }

    pub(crate) fn file(&self, id: FileId) -> Option<&Arc<File>> {
        self.files.get(id as usize)?.as_ref()
    }

    pub(crate) fn file_by_path(&self, path: &Path) -> Option<FileId> {
        self.paths.by_path(path)
    }

    pub(crate) fn symbols(&self, id: FileId) -> Option<&Arc<FileSymbols>> {
        self.file(id)?.symbols.as_ref()
    }

    pub(crate) fn symbol(&self, id: SymbolId) -> Option<(&File, &FileSymbols, &Symbol)> {
        let file = self.file(id.file)?;
        let symbols = file.symbols.as_ref()?;
        Some((file, symbols, symbols.symbols.get(id.symbol as usize)?))
    }

    /// Every symbol of that name that can be named alone, in the order of the files.
    pub(crate) fn find<'a>(&'a self, name: &'a str) -> impl Iterator<Item = SymbolId> + 'a {
        let hash = name_hash(name);
        let base = self.base.by_name(hash).iter().filter(|(_, id)| !self.stale.contains(&id.file));
        base.chain(self.overlay.by_name(hash)).map(|(_, id)| *id).filter(move |id| {
            self.symbol(*id).is_some_and(|(_, symbols, symbol)| symbols.name(symbol) == name)
        })
    }

    /// Every member of that name.
    pub(crate) fn find_member<'a>(&'a self, name: &'a str) -> impl Iterator<Item = SymbolId> + 'a {
        let hash = name_hash(name);
        let base = self.base.by_member_name(hash).iter().filter(|(_, id)| !self.stale.contains(&id.file));
        base.chain(self.overlay.by_member_name(hash)).map(|(_, id)| *id).filter(move |id| {
            self.symbol(*id).is_some_and(|(_, symbols, symbol)| symbols.name(symbol) == name)
        })
    }

    /// Whether a name that has one definition so far will have one only, for all that is known: while a scan runs, the
    /// table of names tells.
    pub(crate) fn may_be_unique(&self, name: &str) -> bool {
        !self.is_scanning
            || (!self.lexical.is_empty() && self.lexical.files(name_hash(name)).take(2).count() < 2)
    }

    /// Members defined outside of the type of that name.
    pub(crate) fn find_owned<'a>(&'a self, owner: &'a str) -> impl Iterator<Item = SymbolId> + 'a {
        let hash = name_hash(owner);
        let base = self.base.by_owner(hash).iter().filter(|(_, id)| !self.stale.contains(&id.file));
        base.chain(self.overlay.by_owner(hash)).map(|(_, id)| *id).filter(move |id| {
            self.symbol(*id).is_some_and(|(_, symbols, symbol)| symbols.text(symbol.owner) == owner)
        })
    }

    pub(crate) fn files_of_package<'a>(&'a self, package: &'a str) -> impl Iterator<Item = FileId> + 'a {
        let hash = name_hash(package);
        let base = self.base.by_package(hash).iter().filter(|(_, file)| !self.stale.contains(file));
        base.chain(self.overlay.by_package(hash))
            .map(|(_, file)| *file)
            .filter(move |file| self.symbols(*file).is_some_and(|symbols| symbols.package() == package))
    }

    /// Files directly in a directory, of the given language.
    pub(crate) fn files_in<'a>(
        &'a self,
        directory: &'a Path,
        language: Language,
    ) -> impl Iterator<Item = FileId> + 'a {
        self.paths.by_directory(directory).filter(move |id| {
            self.file(*id).is_some_and(|file| file.language == language && file.directory() == directory)
        })
    }

    /// The root that contains `path`: the innermost of several.
    pub(crate) fn root_of(&self, path: &Path) -> Option<&Path> {
        let containing = self.roots.iter().filter(|root| path.starts_with(root));
        containing.max_by_key(|root| root.as_os_str().len()).map(PathBuf::as_path)
    }
}
