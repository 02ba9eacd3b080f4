//! What a name means in a file: through its imports, its own definitions, its package, the files it includes, and
//! last, where exactly one definition in the workspace bears it, that one.

use std::{
    cell::{OnceCell, RefCell},
    rc::Rc,
};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    imports::{self, ImportStyle, Importer, Target},
    index::{File, FileId, SymbolId},
    language::Family,
    reexports,
    snapshot::Snapshot,
    symbols::{FileSymbols, Import, ImportKind},
};

/// How far includes are followed.
const MAX_INCLUDE_DEPTH: usize = 5;
const MAX_INCLUDED_FILES: usize = 400;
/// Definitions of one name that are kept: overloads, a declaration and its definition.
const MAX_DEFINITIONS: usize = 6;

/// What an import leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resolved {
    Symbols(Vec<SymbolId>),
    Module(Vec<FileId>),
    Package(String),
}

/// By what a name is known in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Via {
    /// An import on this line, counted from 0.
    Import(u32),
    SameFile,
    SamePackage,
    /// An import of everything in a module, on this line.
    WholeImport(u32),
    /// Not known in the file, but unique in the workspace.
    Unimported,
}

/// Imports of everything whose modules are listed.
const MAX_WHOLE_MODULES: usize = 4;
const MAX_INCLUDED_MODULES: usize = 8;
/// Candidates of one name that are looked at.
const MAX_CANDIDATES: usize = 4096;

/// The line of an import and where it leads.
type Binding = (u32, Rc<Resolved>);

/// Resolves names in one file. Imports are resolved when first asked for, and then remembered.
pub(crate) struct Resolver<'a> {
    pub snapshot: &'a Snapshot,
    pub importer: Importer<'a>,
    bindings: RefCell<FxHashMap<&'a str, Option<Binding>>>,
    opened: OnceCell<Opened>,
}

/// What imports of everything make known, with their lines.
#[derive(Default)]
struct Opened {
    files: FxHashMap<FileId, u32>,
    packages: FxHashMap<String, u32>,
}

impl<'a> Resolver<'a> {
    pub fn new(snapshot: &'a Snapshot, importer: Importer<'a>) -> Self {
        Self { snapshot, importer, bindings: RefCell::default(), opened: OnceCell::new() }
    }

    /// Whether an import makes a whole module's names known, rather than one name.
    fn is_whole(&self, import: &Import) -> bool {
        match self.importer.language.import_style() {
            ImportStyle::Include | ImportStyle::Swift => true,
            ImportStyle::Namespace => import.alias.is_empty(),
            _ => import.kind == ImportKind::All,
        }
    }

    /// Where the import leads that binds `name`: its line, and what it means.
    pub fn binding(&self, name: &str) -> Option<Binding> {
        if let Some(known) = self.bindings.borrow().get(name) {
            return known.clone();
        }
        let symbols = self.importer.symbols;
        let mut imports = symbols.imports.iter();
        let mut local = "";
        let found = imports.find_map(|import| {
            local = symbols.local_name(import).filter(|local| *local == name && !self.is_whole(import))?;
            let resolved = self.resolve_binding(import)?;
            Some((import.line, Rc::new(resolved)))
        });
        if !local.is_empty() {
            self.bindings.borrow_mut().insert(local, found.clone());
        }
        found
    }

    fn resolve_binding(&self, import: &Import) -> Option<Resolved> {
        let resolved = reexports::import(self.snapshot, &self.importer, import)?;
        // `const Name = require("./name")`, where the module exports one thing.
        if let Resolved::Module(files) = &resolved
            && matches!(self.importer.language.family(), Family::EcmaScript | Family::Lua)
        {
            let ids = reexports::name(self.snapshot, files, "default");
            if !ids.is_empty() {
                return Some(Resolved::Symbols(ids));
            }
        }
        Some(resolved)
    }

    fn opened(&self) -> &Opened {
        self.opened.get_or_init(|| {
            let mut opened = Opened::default();
            for import in self.importer.symbols.imports.iter().filter(|import| self.is_whole(import)) {
                match reexports::import(self.snapshot, &self.importer, import) {
                    None => {}
                    Some(Resolved::Module(files)) => self.open_files(&mut opened, files, import.line),
                    Some(Resolved::Package(package)) => {
                        opened.packages.entry(package).or_insert(import.line);
                    }
                    // `use Enum::*`, `using static Type`: members, which no bare name search finds; the file counts.
                    Some(Resolved::Symbols(ids)) => {
                        self.open_files(&mut opened, ids.iter().map(|id| id.file).collect(), import.line);
                    }
                }
            }
            opened
        })
    }

    /// Makes files' names known, with those of what they in turn pass on.
    fn open_files(&self, opened: &mut Opened, files: Vec<FileId>, line: u32) {
        let mut pending: Vec<(FileId, usize)> = files.into_iter().map(|file| (file, 0)).collect();
        while let Some((id, depth)) = pending.pop() {
            if opened.files.len() >= MAX_INCLUDED_FILES || opened.files.contains_key(&id) {
                continue;
            }
            opened.files.insert(id, line);
            let Some(file) = self.snapshot.file(id).filter(|_| depth < MAX_INCLUDE_DEPTH) else { continue };
            let Some(symbols) = &file.symbols else { continue };
            let importer = Importer { path: &file.path, language: file.language, symbols };
            let includes = file.language.import_style() == ImportStyle::Include;
            for import in symbols.imports.iter().filter(|import| includes || import.kind == ImportKind::All) {
                if let Some(Resolved::Module(files)) = reexports::import(self.snapshot, &importer, import) {
                    pending.extend(files.into_iter().map(|file| (file, depth + 1)));
                }
            }
        }
    }

    /// Imports that lead into the workspace, in the order of their lines: local name, line, where.
    pub fn bindings(&self) -> Vec<(&'a str, u32, Rc<Resolved>)> {
        let symbols = self.importer.symbols;
        let named = symbols.imports.iter().filter(|import| !self.is_whole(import));
        let mut names: Vec<&str> = named.filter_map(|import| symbols.local_name(import)).collect();
        names.sort_unstable();
        names.dedup();
        let resolve = |name| self.binding(name).map(|(line, resolved)| (name, line, resolved));
        let mut bindings: Vec<_> = names.into_iter().filter_map(resolve).collect();
        bindings.sort_by_key(|(name, line, _)| (*line, *name));
        bindings
    }

    /// Definitions of a bare name.
    pub fn name(&self, name: &str) -> Option<(Vec<SymbolId>, Via)> {
        if let Some((line, resolved)) = self.binding(name) {
            return match &*resolved {
                Resolved::Symbols(ids) => Some((ids.clone(), Via::Import(line))),
                Resolved::Module(_) | Resolved::Package(_) => None,
            };
        }
        let mut found: Vec<(Via, SymbolId)> = Vec::new();
        let mut elsewhere: Vec<SymbolId> = Vec::new();
        for id in self.snapshot.find(name).take(MAX_CANDIDATES) {
            let Some((file, symbols, _)) = self.snapshot.symbol(id) else { continue };
            if file.language.family() != self.importer.language.family() {
                continue;
            }
            match self.visibility(id.file, file, symbols, name) {
                Some(via) => found.push((via, id)),
                None => elsewhere.push(id),
            }
        }
        if found.is_empty() {
            let unique = elsewhere.len() == 1 && name.len() >= 4 && self.snapshot.may_be_unique(name);
            let id = elsewhere.first().copied().filter(|_| unique)?;
            let (file, _, symbol) = self.snapshot.symbol(id)?;
            let telling = symbol.kind.is_type() || symbol.kind.is_callable();
            // Tests' helpers are not for use elsewhere.
            return (telling && !is_test_path(&file.relative)).then_some((vec![id], Via::Unimported));
        }
        found.sort_by_key(|(via, id)| (*via, *id));
        let best = found[0].0;
        let rank = |via: Via| std::mem::discriminant(&via);
        let ids = found.into_iter().filter(|(via, _)| rank(*via) == rank(best)).map(|(_, id)| id);
        Some((ids.take(MAX_DEFINITIONS).collect(), best))
    }

    /// Definitions of `name` where it follows `qualifier.`: a module's or package's member.
    pub fn qualified(&self, qualifier: &str, name: &str) -> Option<(Vec<SymbolId>, Via)> {
        let Some((line, resolved)) = self.binding(qualifier) else {
            // C++ namespaces and Ruby modules are opened by no import.
            let is_namespace =
                |id: SymbolId| self.snapshot.symbol(id).is_some_and(|(_, _, s)| s.kind.is_namespace());
            let opened = matches!(self.importer.language.family(), Family::C | Family::Ruby)
                && self.snapshot.find(qualifier).any(is_namespace);
            return self.name(name).filter(|(_, via)| opened && *via != Via::Unimported);
        };
        let ids = match &*resolved {
            Resolved::Module(files) => reexports::name(self.snapshot, files, name),
            Resolved::Package(package) => {
                reexports::package_name(self.snapshot, &self.importer, package, name)
            }
            Resolved::Symbols(_) => return None,
        };
        (!ids.is_empty()).then_some((ids, Via::Import(line)))
    }

    /// The modules that imports of everything open, as far as the imports themselves say.
    pub fn whole_modules(&self) -> Vec<Vec<FileId>> {
        if self.importer.language.import_style() == ImportStyle::Include {
            // What an included file includes is as known as what it says itself.
            let mut files: Vec<(u32, FileId)> =
                self.opened().files.iter().map(|(file, line)| (*line, *file)).collect();
            files.sort_unstable();
            return files.into_iter().take(MAX_INCLUDED_MODULES).map(|(_, file)| vec![file]).collect();
        }
        let whole = self.importer.symbols.imports.iter().filter(|import| self.is_whole(import));
        let files =
            whole.filter_map(|import| match reexports::import(self.snapshot, &self.importer, import)? {
                Resolved::Module(files) => Some(files),
                _ => None,
            });
        files.take(MAX_WHOLE_MODULES).collect()
    }

    /// Where a path leads that is written out in the code, `crate::store::Stock` or `serde_json::value`.
    pub fn path(&self, path: &str) -> Option<Resolved> {
        if self.importer.language.import_style() != ImportStyle::Rust || self.binding(path).is_some() {
            return None;
        }
        let targets = imports::path_targets(self.snapshot, &self.importer, path);
        targets.into_iter().find_map(|target| match target {
            Target::Files { files, name: None } => Some(Resolved::Module(files)),
            Target::Files { files, name: Some(name) } => {
                let ids = reexports::name(self.snapshot, &files, &name);
                match ids.is_empty() {
                    true => reexports::module(self.snapshot, &files, &name).map(Resolved::Module),
                    false => Some(Resolved::Symbols(ids)),
                }
            }
            Target::Package { .. } => None,
        })
    }

    fn visibility(&self, id: FileId, file: &File, symbols: &FileSymbols, name: &str) -> Option<Via> {
        if *file.path == *self.importer.path {
            return Some(Via::SameFile);
        }
        if let Some(line) = self.opened().files.get(&id) {
            return Some(Via::WholeImport(*line));
        }
        let package = symbols.package();
        match self.importer.language.import_style() {
            ImportStyle::Go => (file.directory() == self.importer.directory()
                && package == self.importer.symbols.package())
            .then_some(Via::SamePackage),
            // Loaded when first named, from the file that bears its name.
            ImportStyle::Ruby => {
                let stem = file.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
                is_snake_case_of(stem, name).then_some(Via::SamePackage)
            }
            ImportStyle::Swift => {
                let module = imports::swift_module(&file.relative);
                let own =
                    self.snapshot.file_by_path(self.importer.path).and_then(|id| self.snapshot.file(id));
                if own.is_some_and(|own| imports::swift_module(&own.relative) == module) {
                    return Some(Via::SamePackage);
                }
                let own = self.importer.symbols;
                let names_module =
                    |import: &&Import| own.text(import.source).split('.').next() == Some(module);
                own.imports.iter().find(names_module).map(|import| Via::WholeImport(import.line))
            }
            ImportStyle::Package | ImportStyle::Namespace | ImportStyle::Php => {
                let own = self.importer.symbols.package();
                let within =
                    own.strip_prefix(package).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
                let namespace = self.importer.language.import_style() == ImportStyle::Namespace;
                if package == own || (namespace && within && !package.is_empty()) {
                    return Some(Via::SamePackage);
                }
                self.opened().packages.get(package).map(|line| Via::WholeImport(*line))
            }
            _ => None,
        }
    }
}

/// Whether `stem` is `name` in snake case: `http_client` of `HTTPClient` or `HttpClient`.
fn is_snake_case_of(stem: &str, name: &str) -> bool {
    let letters = stem.chars().filter(|c| *c != '_');
    name.starts_with(char::is_uppercase)
        && letters.eq(name.chars().filter(|c| *c != '_').flat_map(char::to_lowercase))
}

pub(crate) fn is_test_path(relative: &str) -> bool {
    relative
        .split(['/', '.', '_'])
        .any(|part| matches!(part, "test" | "tests" | "spec" | "__tests__" | "testing"))
}

/// Members of a type in the order to show them: its own, then those written elsewhere for it.
pub(crate) fn members(snapshot: &Snapshot, id: SymbolId) -> Vec<SymbolId> {
    let Some((_, symbols, symbol)) = snapshot.symbol(id) else { return Vec::new() };
    let mut members: Vec<SymbolId> =
        symbols.members(id.symbol).map(|(member, _)| SymbolId { file: id.file, symbol: member }).collect();
    members.sort_by_key(|id| snapshot.symbol(*id).map(|(_, _, symbol)| symbol.start));
    let name = symbols.name(symbol);
    let mut known: FxHashSet<String> = FxHashSet::default();
    let member_name =
        |id: SymbolId| snapshot.symbol(id).map(|(_, symbols, symbol)| symbols.name(symbol).to_owned());
    known.extend(members.iter().filter_map(|id| member_name(*id)));
    let mut meant: FxHashMap<FileId, bool> = FxHashMap::default();
    let mut outside: Vec<SymbolId> = snapshot
        .find_owned(name)
        .filter(|member| *meant.entry(member.file).or_insert_with(|| means(snapshot, member.file, name, id)))
        .collect();
    outside.sort_unstable();
    for member in outside.into_iter().take(400) {
        // C++ declares a member in the class and defines it outside.
        if member_name(member).is_some_and(|name| known.insert(name)) {
            members.push(member);
        }
    }
    members
}

/// Whether members that a file writes for a type of that name are the type's own: many types are called `Handle`.
pub(crate) fn means(snapshot: &Snapshot, member_file: FileId, name: &str, id: SymbolId) -> bool {
    let (Some(other), Some(file)) = (snapshot.file(member_file), snapshot.file(id.file)) else {
        return false;
    };
    let Some(symbols) = other.symbols.as_ref().filter(|_| other.language.family() == file.language.family())
    else {
        return false;
    };
    if member_file == id.file {
        return true;
    }
    let is_type = |symbol: u32| symbols.symbols[symbol as usize].kind.is_type();
    if symbols.top_level(name).any(is_type) {
        return false;
    }
    match file.language.import_style() {
        ImportStyle::Go => other.directory() == file.directory(),
        ImportStyle::Rust => {
            let importer = Importer { path: &other.path, language: other.language, symbols };
            match Resolver::new(snapshot, importer).name(name) {
                Some((ids, via)) if via != Via::Unimported => ids.contains(&id),
                // `impl super::Handle`: the path is not kept, but it seldom leads far.
                _ => {
                    let (one, two) = (file.directory(), other.directory());
                    one.starts_with(two) || two.starts_with(one)
                }
            }
        }
        _ => snapshot.root_of(&other.path) == snapshot.root_of(&file.path),
    }
}

/// Types that a definition names in its signature or as supertypes, as its own file understands them.
pub(crate) fn types_of(snapshot: &Snapshot, id: SymbolId) -> Vec<SymbolId> {
    let Some((file, symbols, symbol)) = snapshot.symbol(id) else { return Vec::new() };
    let signature = symbols.text(symbol.signature);
    let names: Vec<&str> = crate::words::words(signature)
        .map(|word| word.text)
        .chain(symbols.bases_of(id.symbol))
        .filter(|name| *name != symbols.name(symbol) && name.chars().next().is_some_and(char::is_uppercase))
        .take(16)
        .collect();
    if names.is_empty() {
        return Vec::new();
    }
    let resolver = Resolver::new(snapshot, Importer { path: &file.path, language: file.language, symbols });
    let mut types = Vec::new();
    for name in names {
        let Some((ids, via)) = resolver.name(name) else { continue };
        if via == Via::Unimported {
            continue;
        }
        for id in ids {
            let is_type = snapshot.symbol(id).is_some_and(|(_, _, symbol)| symbol.kind.is_type());
            if is_type && !types.contains(&id) {
                types.push(id);
            }
        }
    }
    types
}
