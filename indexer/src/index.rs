//! The lookup tables of a snapshot: files by path, by module name, by directory; symbols by name and by owner.
//!
//! All tables are sorted arrays of hashes, so building them is a sort and adding to them a merge.

use std::{
    hash::Hasher,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    Language,
    symbols::{FileSymbols, name_hash},
};

pub(crate) type FileId = u32;

/// One file of a workspace. Unparsed until its symbols are there.
#[derive(Debug)]
pub(crate) struct File {
    pub path: Arc<Path>,
    /// Relative to its root, with `/` between components.
    pub relative: Box<str>,
    pub language: Language,
    pub symbols: Option<Arc<FileSymbols>>,
    /// Of the file on disk when it was read; zero for a buffer.
    pub stamp: crate::walk::Stamp,
    /// The symbols are an editor buffer's; the disk does not replace them.
    pub open: bool,
    /// Of an open buffer, where it is not too large to look for similar code in.
    pub text: Option<Arc<str>>,
}

impl File {
    pub fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new(""))
    }
}

fn path_hash(path: &Path) -> u32 {
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write(path.as_os_str().as_encoded_bytes());
    let hash = hasher.finish();
    (hash ^ (hash >> 32)) as u32
}

/// The name by which other files import this one: its stem, or its directory's name for files that stand for
/// their directory (`__init__.py`, `mod.rs`, `index.ts`, and `lib.rs` for the directory above `src`).
fn module_name(path: &Path) -> Option<&str> {
    let stem = path.file_stem()?.to_str()?;
    let directory = || path.parent()?.file_name()?.to_str();
    match stem {
        "__init__" | "mod" | "index" => directory().or(Some(stem)),
        _ => Some(stem.strip_suffix(".d").unwrap_or(stem)),
    }
}

/// Files by path, module name and directory.
#[derive(Debug, Default)]
pub(crate) struct PathIndex {
    files: Vec<(u32, FileId, Arc<Path>)>,
    by_module: Vec<(u32, FileId)>,
    by_file_name: Vec<(u32, FileId)>,
    by_directory: Vec<(u32, FileId)>,
}

impl PathIndex {
    pub fn build(files: &[Option<Arc<File>>]) -> Self {
        let mut index = Self::default();
        for (id, file) in (0u32..).zip(files) {
            let Some(file) = file else { continue };
            index.files.push((path_hash(&file.path), id, file.path.clone()));
            if let Some(module) = module_name(&file.path) {
                index.by_module.push((name_hash(module), id));
            }
            if let Some(name) = file.path.file_name().and_then(|name| name.to_str()) {
                index.by_file_name.push((name_hash(name), id));
            }
            index.by_directory.push((path_hash(file.directory()), id));
        }
        index.files.sort_unstable_by_key(|(hash, id, _)| (*hash, *id));
        index.by_module.sort_unstable();
        index.by_file_name.sort_unstable();
        index.by_directory.sort_unstable();
        index
    }

    pub fn by_path(&self, path: &Path) -> Option<FileId> {
        let hash = path_hash(path);
        let start = self.files.partition_point(|(key, ..)| *key < hash);
        let same_hash = self.files[start..].iter().take_while(|(key, ..)| *key == hash);
        // Paths in the index are normalized, so their bytes decide.
        same_hash.filter(|(.., known)| known.as_os_str() == path.as_os_str()).map(|(_, id, _)| *id).next()
    }

    /// Candidates; the caller compares names, as hashes collide.
    pub fn by_module(&self, module: &str) -> impl Iterator<Item = FileId> {
        equal_range(&self.by_module, name_hash(module))
    }

    pub fn by_file_name(&self, name: &str) -> impl Iterator<Item = FileId> {
        equal_range(&self.by_file_name, name_hash(name))
    }

    /// Candidates for the files directly in `directory`.
    pub fn by_directory(&self, directory: &Path) -> impl Iterator<Item = FileId> {
        equal_range(&self.by_directory, path_hash(directory))
    }
}

fn equal_range(table: &[(u32, FileId)], hash: u32) -> impl Iterator<Item = FileId> {
    let start = table.partition_point(|(key, _)| *key < hash);
    table[start..].iter().take_while(move |(key, _)| *key == hash).map(|(_, id)| *id)
}

/// A symbol of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SymbolId {
    pub file: FileId,
    pub symbol: u32,
}

/// Symbols by name, members by the type they belong to, files by package.
///
/// Members are apart: there are thousands of `new` and `get`, and a bare name never means them.
#[derive(Debug, Default, Clone)]
pub(crate) struct NameIndex {
    names: Vec<(u32, SymbolId)>,
    members: Vec<(u32, SymbolId)>,
    owners: Vec<(u32, SymbolId)>,
    packages: Vec<(u32, FileId)>,
}

impl NameIndex {
    /// Adds a file's symbols; [`NameIndex::sort`] must follow.
    pub fn add(&mut self, file: FileId, symbols: &FileSymbols) {
        for (index, symbol) in (0u32..).zip(symbols.symbols.iter()) {
            let id = SymbolId { file, symbol: index };
            let table = if symbols.is_addressable(symbol) { &mut self.names } else { &mut self.members };
            table.push((name_hash(symbols.name(symbol)), id));
            if !symbol.owner.is_empty() {
                self.owners.push((name_hash(symbols.text(symbol.owner)), id));
            }
        }
        if !symbols.package.is_empty() {
            self.packages.push((name_hash(symbols.package()), file));
        }
    }

    /// A stable sort: it recognizes the sorted run in front, so that adding to an index is a merge.
    pub fn sort(&mut self) {
        self.names.sort();
        self.members.sort();
        self.owners.sort();
        self.packages.sort();
    }

    /// Forgets the symbols of some files.
    pub fn retain(&mut self, keep: impl Fn(FileId) -> bool) {
        self.names.retain(|(_, id)| keep(id.file));
        self.members.retain(|(_, id)| keep(id.file));
        self.owners.retain(|(_, id)| keep(id.file));
        self.packages.retain(|(_, file)| keep(*file));
    }

    pub fn len(&self) -> usize {
        self.names.len() + self.members.len() + self.owners.len()
    }

    /// Candidates among the names that stand alone; the caller compares names, as hashes collide.
    pub fn by_name(&self, hash: u32) -> &[(u32, SymbolId)] {
        slice(&self.names, hash)
    }

    pub fn by_member_name(&self, hash: u32) -> &[(u32, SymbolId)] {
        slice(&self.members, hash)
    }

    pub fn by_owner(&self, hash: u32) -> &[(u32, SymbolId)] {
        slice(&self.owners, hash)
    }

    pub fn by_package(&self, hash: u32) -> &[(u32, FileId)] {
        slice(&self.packages, hash)
    }
}

fn slice<T>(table: &[(u32, T)], hash: u32) -> &[(u32, T)] {
    let start = table.partition_point(|(key, _)| *key < hash);
    let length = table[start..].partition_point(|(key, _)| *key == hash);
    &table[start..start + length]
}

/// Lexically resolves `.` and `..`; the file system is not asked.
pub(crate) fn normalize(path: &Path) -> PathBuf {
    use std::path::Component;
    let mut result = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                if !result.pop() {
                    result.push("..");
                }
            }
            other => result.push(other),
        }
    }
    result
}
