//! Where an import leads: through the modules that pass names on, to the files that define them.
//!
//! Modules that open each other (`use super::*` in every child, `pub use child::*` in the parent) make as many ways to a
//! name as there are orders of them, so a search goes through a file once for a name, and ends after so many steps.

use rustc_hash::FxHashMap;

use crate::{
    imports::{self, Importer, Target},
    index::{FileId, SymbolId},
    resolve::{Resolved, members},
    snapshot::Snapshot,
    symbols::{Import, ImportKind, SymbolKind, name_hash},
};

/// How far re-exports are followed.
const MAX_REEXPORTS: usize = 6;
/// Imports that one search follows.
const MAX_STEPS: usize = 512;
/// Imports of everything in one file that are followed.
const MAX_WHOLE_IMPORTS: usize = 32;
/// Definitions of one name that are kept: overloads, a declaration and its definition.
const MAX_DEFINITIONS: usize = 6;

/// Where an import leads; `None` outside the workspace.
pub(crate) fn import(snapshot: &Snapshot, importer: &Importer<'_>, import: &Import) -> Option<Resolved> {
    Search::new(snapshot).import(importer, import, MAX_REEXPORTS)
}

/// Where an import leads without a long search: at once, or through one module that passes the name on.
pub(crate) fn import_near(snapshot: &Snapshot, importer: &Importer<'_>, import: &Import) -> Option<Resolved> {
    Search::new(snapshot).import(importer, import, 1)
}

/// A top-level name of some files, through re-exports.
pub(crate) fn name(snapshot: &Snapshot, files: &[FileId], name: &str) -> Vec<SymbolId> {
    Search::new(snapshot).name(files, name, MAX_REEXPORTS)
}

/// A module that some files pass on under a name: `export * as tools from`, `from . import tools`.
pub(crate) fn module(snapshot: &Snapshot, files: &[FileId], name: &str) -> Option<Vec<FileId>> {
    Search::new(snapshot).module(files, name, MAX_REEXPORTS)
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Wanted {
    Definition,
    Module,
}

struct Search<'a> {
    snapshot: &'a Snapshot,
    steps_left: usize,
    /// How far a file was searched for a name at most.
    searched: FxHashMap<(FileId, u32, Wanted), usize>,
}

impl<'a> Search<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        Self { snapshot, steps_left: MAX_STEPS, searched: FxHashMap::default() }
    }

    fn step(&mut self) -> bool {
        let may = self.steps_left > 0;
        self.steps_left = self.steps_left.saturating_sub(1);
        may
    }

    /// Whether a file is still to be searched this far.
    fn is_new(&mut self, file: FileId, name: &str, wanted: Wanted, depth: usize) -> bool {
        let searched = self.searched.entry((file, name_hash(name), wanted));
        let mut is_new = true;
        searched
            .and_modify(|before| is_new = std::mem::replace(before, depth.max(*before)) < depth)
            .or_insert(depth);
        is_new
    }

    fn import(&mut self, importer: &Importer<'_>, import: &Import, depth: usize) -> Option<Resolved> {
        if !self.step() {
            return None;
        }
        for target in imports::targets(self.snapshot, importer, import) {
            match target {
                Target::Files { files, name: None } => return Some(Resolved::Module(files)),
                Target::Files { files, name: Some(name) } => {
                    let mut ids = self.name(&files, &name, depth);
                    if ids.is_empty() && import.kind == ImportKind::Default {
                        let local = importer.symbols.local_name(import).unwrap_or("");
                        ids = self.name(&files, local, depth);
                    }
                    if !ids.is_empty() {
                        return Some(Resolved::Symbols(ids));
                    }
                    if let Some(files) = self.module(&files, &name, depth) {
                        return Some(Resolved::Module(files));
                    }
                    // The file is known but not read yet, or the name is made in a way that the query does not see.
                }
                Target::Package { package, name: Some(name) } => {
                    let ids = package_name(self.snapshot, importer, &package, &name);
                    if !ids.is_empty() {
                        return Some(Resolved::Symbols(ids));
                    }
                }
                Target::Package { package, name: None } => {
                    if self.snapshot.files_of_package(&package).next().is_some() {
                        return Some(Resolved::Package(package));
                    }
                }
            }
        }
        None
    }

    fn module(&mut self, files: &[FileId], name: &str, depth: usize) -> Option<Vec<FileId>> {
        let depth = depth.checked_sub(1)?;
        for id in files {
            let Some(file) = self.snapshot.file(*id) else { continue };
            let Some(symbols) = &file.symbols else { continue };
            if !self.is_new(*id, name, Wanted::Module, depth) {
                continue;
            }
            let importer = Importer { path: &file.path, language: file.language, symbols };
            for import in &symbols.imports {
                // Modules declared in a file are looked up along the path, not through the file's names.
                if import.kind != ImportKind::Module
                    && symbols.local_name(import) == Some(name)
                    && let Some(Resolved::Module(files)) = self.import(&importer, import, depth)
                {
                    return Some(files);
                }
            }
        }
        None
    }

    fn name(&mut self, files: &[FileId], name: &str, depth: usize) -> Vec<SymbolId> {
        let snapshot = self.snapshot;
        let mut ids = Vec::new();
        for file in files {
            let Some(symbols) = snapshot.symbols(*file) else { continue };
            ids.extend(symbols.top_level(name).map(|symbol| SymbolId { file: *file, symbol }));
        }
        // `exports.open = open` beside the function itself.
        let is_variable =
            |id: &SymbolId| snapshot.symbol(*id).is_some_and(|(_, _, s)| s.kind == SymbolKind::Variable);
        // `except ImportError: name = None` beside the import itself.
        let only_variables = ids.iter().all(is_variable);
        if !only_variables {
            ids.retain(|id| !is_variable(id));
        }
        ids.truncate(MAX_DEFINITIONS);
        if !only_variables || depth == 0 {
            return ids;
        }
        for id in files {
            let Some(file) = snapshot.file(*id) else { continue };
            let Some(symbols) = &file.symbols else { continue };
            if !self.is_new(*id, name, Wanted::Definition, depth) {
                continue;
            }
            let importer = Importer { path: &file.path, language: file.language, symbols };
            for import in symbols.imports.iter().filter(|import| symbols.local_name(import) == Some(name)) {
                if let Some(Resolved::Symbols(ids)) = self.import(&importer, import, depth - 1) {
                    return ids;
                }
            }
            if !ids.is_empty() {
                continue;
            }
            let whole = symbols.imports.iter().filter(|import| import.kind == ImportKind::All);
            for import in whole.take(MAX_WHOLE_IMPORTS) {
                if !self.step() {
                    return ids;
                }
                for target in imports::targets(snapshot, &importer, import) {
                    if let Target::Files { files, .. } = target
                        && !files.contains(id)
                    {
                        let ids = self.name(&files, name, depth - 1);
                        if !ids.is_empty() {
                            return ids;
                        }
                    }
                }
            }
        }
        ids
    }
}

pub(crate) fn package_name(
    snapshot: &Snapshot,
    importer: &Importer<'_>,
    package: &str,
    name: &str,
) -> Vec<SymbolId> {
    if let Some((outer, inner)) = name.rsplit_once('.') {
        let mut inside = Vec::new();
        for id in package_name(snapshot, importer, package, outer) {
            let members = members(snapshot, id).into_iter();
            let is_it =
                |id: &SymbolId| snapshot.symbol(*id).is_some_and(|(_, s, symbol)| s.name(symbol) == inner);
            inside.extend(members.filter(is_it));
        }
        return inside;
    }
    let ids = snapshot.find(name).filter(|id| {
        snapshot.symbol(*id).is_some_and(|(file, symbols, symbol)| {
            file.language.family() == importer.language.family()
                && symbols.package() == package
                && symbols.is_top_level(symbol)
        })
    });
    ids.take(MAX_DEFINITIONS).collect()
}
