//! Which definitions may be worth showing: from the imports, and from the names of the code around the cursor.

use std::{cmp::Reverse, ops::Range};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{MAX_CANDIDATES, Query, overlap, reason::Reason, receiver::receivers, usage::Usage};
use crate::{
    imports::{ImportStyle, Importer},
    index::{FileId, SymbolId},
    language::Family,
    reexports,
    resolve::{self, Resolved, Resolver, Via},
    scope::Scope,
    sibling,
    snapshot::Snapshot,
    symbols::{FileSymbols, ImportKind, SymbolKind, name_hash},
    words::{self, Word, words},
};

/// Names of the enclosing definition that are looked up.
const MAX_NAMES: usize = 300;
/// Names of the rest of the file that are looked up.
const MAX_FILE_NAMES: usize = 128;
/// Definitions of a sibling that are candidates.
const MAX_SIBLING_DEFINITIONS: usize = 12;
/// Definitions of a module that are candidates: of one that is imported only, and of one that is used.
const MAX_MODULE_DEFINITIONS: usize = 12;
const MAX_USED_MODULE_DEFINITIONS: usize = 48;
/// Paths of the enclosing definition that are looked up.
const MAX_PATHS: usize = 32;
/// Modules whose definitions are candidates.
const MAX_MODULES: usize = 12;

#[derive(Clone, Copy)]
pub(super) struct Candidate {
    pub id: SymbolId,
    pub reason: Reason,
    /// Of two with one reason the one that the file names more often counts more, in powers of two: a single key press
    /// seldom changes it.
    pub weight: u32,
}

/// The names that the enclosing definition uses.
pub(super) struct Names<'a> {
    /// In the order of their first appearance, each once.
    pub ordered: Vec<Word<'a>>,
    pub hashes: FxHashSet<u32>,
}

/// Names of the enclosing function, of its type's head, and of its type's fields. The word that the cursor touches
/// is still being typed and does not count.
pub(super) fn names_in_scope<'a>(
    text: &'a str,
    offset: usize,
    scope: &Scope,
    symbols: &'a FileSymbols,
) -> Names<'a> {
    let mut names = Names { ordered: Vec::new(), hashes: FxHashSet::default() };
    let mut seen: FxHashSet<(&str, Option<&str>)> = FxHashSet::default();
    let mut add = |word: Word<'a>| {
        if names.ordered.len() < MAX_NAMES && word.text.len() >= 2 && seen.insert((word.text, word.qualifier))
        {
            names.hashes.insert(name_hash(word.text));
            names.ordered.push(word);
        }
    };
    let mut container_name = None;
    if let Some(container) = &scope.container {
        let head = &text[container.clone()];
        words(head).for_each(&mut add);
        container_name = words(head).map(|word| word.text).find(|name| {
            let is_type =
                |symbol: &&crate::symbols::Symbol| symbols.name(symbol) == *name && symbol.kind.is_type();
            symbols.symbols.iter().any(|symbol| is_type(&symbol))
        });
    }
    if let Some(name) = container_name {
        let fields = symbols.symbols.iter().filter(|symbol| {
            matches!(symbol.kind, SymbolKind::Field | SymbolKind::Property)
                && symbols.parent(symbol).is_some_and(|parent| symbols.name(parent) == name)
        });
        for field in fields.take(64) {
            words(symbols.text(field.signature)).for_each(&mut add);
        }
    }
    let start = scope.function.start;
    for word in words(&text[scope.function.clone()]) {
        let word = Word { start: start + word.start, ..word };
        let touches = word.start <= offset && offset <= word.start + word.text.len();
        if !touches {
            add(word);
        }
    }
    names
}

/// Candidates in the order in which they are written, each definition once, under its best reason.
pub(super) fn candidates(
    snapshot: &Snapshot,
    importer: Importer<'_>,
    query: &Query<'_>,
    scope: &Scope,
    names: &Names<'_>,
    usage: &Usage<'_>,
) -> Vec<Candidate> {
    let resolver = Resolver::new(snapshot, importer);
    let counts = usage_counts(query.text, query.offset, importer.symbols);
    // Once is the import itself.
    let is_used = |name: &str| counts.get(&name_hash(name)).is_some_and(|count| *count > 1);
    let mut found = Found {
        snapshot,
        importer,
        visible: query.visible.clone(),
        scope,
        usage,
        weight: 0,
        modules: 0,
        list: Vec::new(),
        known: FxHashMap::default(),
    };

    for (name, line, resolved) in resolver.bindings() {
        let used_in_scope = names.hashes.contains(&name_hash(name));
        match &*resolved {
            Resolved::Symbols(ids) => {
                let reason = match is_used(name) {
                    true => Reason::Imported(line),
                    false => Reason::JustImported(line),
                };
                if !used_in_scope {
                    found.weight = usage.level(name);
                    found.add_all(ids, reason);
                    found.weight = 0;
                }
            }
            Resolved::Module(files) if used_in_scope => found.add_module(files, Reason::OfUsedModule),
            Resolved::Module(files) if !is_used(name) => found.add_module(files, Reason::InModule(line)),
            _ => {}
        }
    }
    let own = snapshot.file_by_path(importer.path);
    for file in own.map_or_else(Vec::new, |own| sibling::siblings(snapshot, own)) {
        // A test shows itself by how it uses this file, not by what it defines.
        let Some(symbols) = snapshot.symbols(file) else { continue };
        let is_test = snapshot.file(file).is_some_and(|file| resolve::is_test_path(&file.relative));
        let top = (0u32..).zip(symbols.symbols.iter()).filter(|(_, symbol)| {
            symbols.is_top_level(symbol) && (symbol.kind.is_callable() || symbol.kind.is_type())
        });
        for (symbol, _) in top.take(if is_test { 0 } else { MAX_SIBLING_DEFINITIONS }) {
            found.add(SymbolId { file, symbol }, Reason::Sibling);
        }
    }
    let mut used: Vec<SymbolId> = Vec::new();
    for word in &names.ordered {
        let resolved = match word.qualifier {
            None => resolver.name(word.text),
            Some(qualifier) => resolver.qualified(qualifier, word.text),
        };
        if let Some((ids, via)) = resolved {
            found.add_all(&ids, Reason::Used(via));
            if via != Via::Unimported {
                used.extend(&ids);
            }
        } else if word.qualifier.is_some() && word.text.len() >= 4 {
            unique_member(snapshot, &importer, word.text).inspect(|id| found.add(*id, Reason::UniqueMember));
        }
    }
    let asked = receivers(&resolver, query.text, query.offset, scope, usage);
    for (weight, reason, types) in [
        (1, Reason::Receiver, &asked.on_line),
        (0, Reason::Receiver, &asked.types),
        (0, Reason::Guessed, &asked.guessed),
    ] {
        found.weight = weight;
        found.add_all(types, reason);
    }
    found.weight = 0;
    used.extend(&asked.types);
    for module in &asked.modules {
        match module {
            Resolved::Module(files) => found.add_module(files, Reason::OfReceiver),
            Resolved::Package(_) | Resolved::Symbols(_) => {}
        }
    }
    for files in resolver.whole_modules() {
        found.add_module(&files, Reason::OfUsedModule);
    }
    add_used_in_file(&mut found, &resolver, query.text, names);
    let scope_text = query.text.get(scope.function.clone()).unwrap_or("");
    for path in words::paths(scope_text).into_iter().take(MAX_PATHS) {
        match resolver.path(path) {
            Some(Resolved::Symbols(ids)) => found.add_all(&ids, Reason::Used(Via::SamePackage)),
            Some(Resolved::Module(files)) => found.add_module(&files, Reason::OfUsedModule),
            _ => {}
        }
    }
    for id in used.into_iter().take(32) {
        // Of a type, the signatures of those members that are used here.
        let is_type = snapshot.symbol(id).is_some_and(|(_, _, symbol)| symbol.kind.is_type());
        let is_named = |member: &SymbolId| {
            let member = snapshot.symbol(*member);
            member.is_some_and(|(_, symbols, symbol)| names.hashes.contains(&name_hash(symbols.name(symbol))))
        };
        let members = if is_type { resolve::members(snapshot, id) } else { Vec::new() };
        for id in std::iter::once(id).chain(members.into_iter().filter(is_named).take(8)) {
            for id in resolve::types_of(snapshot, id) {
                found.add(id, Reason::TypeOfUsed);
            }
        }
    }
    found.without_repeated_members()
}

/// What the file names outside of the enclosing definition, the most used first: as members of modules, and by itself
/// where the language makes the names of a package or of included files known.
fn add_used_in_file(found: &mut Found<'_>, resolver: &Resolver<'_>, text: &str, names: &Names<'_>) {
    let opens = match resolver.importer.language.import_style() {
        ImportStyle::Include | ImportStyle::Go | ImportStyle::Swift | ImportStyle::Package => true,
        ImportStyle::Namespace | ImportStyle::Php => true,
        _ => resolver.importer.symbols.imports.iter().any(|import| import.kind == ImportKind::All),
    };
    let mut looked_up = 0;
    for (word, level) in found.usage.most_used() {
        let is_asked = match word.qualifier {
            None => opens,
            Some(qualifier) => resolver.binding(qualifier).is_some(),
        };
        if !is_asked || word.text.len() < 4 || names.hashes.contains(&name_hash(word.text)) {
            continue;
        }
        looked_up += 1;
        if looked_up > MAX_FILE_NAMES {
            break;
        }
        let resolved = match word.qualifier {
            None => resolver.name(word.text),
            Some(qualifier) => resolver.qualified(qualifier, word.text),
        };
        if let Some((ids, via)) = resolved
            && !matches!(via, Via::Unimported | Via::SameFile)
        {
            // Constants stand in few places, functions may be called anywhere.
            let is_type = |id: &SymbolId| {
                found.snapshot.symbol(*id).is_some_and(|(_, _, symbol)| symbol.kind.is_type())
            };
            let is_called = text[word.start + word.text.len()..].starts_with(['(', '!']);
            let penalty = if is_called || ids.iter().any(is_type) { 0 } else { 2 };
            found.weight = level.saturating_sub(penalty);
            found.add_all(&ids, Reason::UsedInFile);
        }
    }
    found.weight = 0;
}

/// Whether a file is there to pass on what the files beside it define.
fn stands_for_directory(path: &std::path::Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    matches!(stem, Some("__init__" | "mod" | "lib" | "index"))
}

/// How often the file names each import's binding, by hash; the word that the cursor touches does not count.
fn usage_counts(text: &str, offset: usize, symbols: &FileSymbols) -> FxHashMap<u32, u32> {
    let bound = symbols.imports.iter().filter_map(|import| symbols.local_name(import));
    let mut counts: FxHashMap<u32, u32> = bound.map(|name| (name_hash(name), 0)).collect();
    for word in words(text) {
        let touches = word.start <= offset && offset <= word.start + word.text.len();
        if !touches && let Some(count) = counts.get_mut(&name_hash(word.text)) {
            *count += 1;
        }
    }
    counts
}

/// The one method of that name in the workspace's code of the same family, tests aside.
fn unique_member(snapshot: &Snapshot, importer: &Importer<'_>, name: &str) -> Option<SymbolId> {
    let mut members = snapshot.find_member(name).take(1000).filter(|id| {
        snapshot.symbol(*id).is_some_and(|(file, symbols, symbol)| {
            file.language.family() == importer.language.family()
                && matches!(symbol.kind, SymbolKind::Method)
                && !symbols.is_top_level(symbol)
                && symbols.parent(symbol).is_none_or(|parent| symbols.name(parent) != name)
                && !resolve::is_test_path(&file.relative)
        })
    });
    let only = members.next()?;
    (members.next().is_none() && snapshot.may_be_unique(name)).then_some(only)
}

struct Found<'a> {
    snapshot: &'a Snapshot,
    importer: Importer<'a>,
    visible: Range<usize>,
    scope: &'a Scope,
    usage: &'a Usage<'a>,
    /// Of what is added next.
    weight: u32,
    modules: usize,
    list: Vec<Candidate>,
    known: FxHashMap<SymbolId, usize>,
}

impl Found<'_> {
    fn add_all(&mut self, ids: &[SymbolId], reason: Reason) {
        for id in ids {
            self.add(*id, reason);
        }
    }

    /// What a module defines for others.
    fn add_module(&mut self, files: &[FileId], reason: Reason) {
        let limit = match reason {
            Reason::OfReceiver | Reason::OfUsedModule => MAX_USED_MODULE_DEFINITIONS,
            _ => MAX_MODULE_DEFINITIONS,
        };
        for file in files.iter().take(4) {
            let Some(symbols) = self.snapshot.symbols(*file) else { continue };
            if self.modules >= MAX_MODULES {
                return;
            }
            self.modules += 1;
            // The most used first; what is no function and no type, only where it is used.
            let top = (0u32..).zip(symbols.symbols.iter()).filter(|(_, symbol)| symbols.is_top_level(symbol));
            let beside = self.files_beside(*file);
            let mut top: Vec<(u32, usize, u32)> = top
                .filter_map(|(id, symbol)| {
                    let name = symbols.name(symbol);
                    let level = self.usage.level(name);
                    let offered = symbol.kind.is_callable() || symbol.kind.is_type();
                    if level == 0 && (!offered || name.starts_with('_')) {
                        return None;
                    }
                    let hash = name_hash(name);
                    let users = beside.iter().filter(|other| level == 0 && other.has_word(hash)).count();
                    Some((level, users, id))
                })
                .collect();
            top.sort_by_key(|(level, users, _)| Reverse((*level, *users)));
            for (level, _, symbol) in top.into_iter().take(limit) {
                self.weight = level;
                self.add(SymbolId { file: *file, symbol }, reason);
            }
            self.weight = 0;
            // To follow what a module passes on takes time: only where that very module is asked.
            if reason != Reason::OfReceiver {
                continue;
            }
            let Some(file) = self.snapshot.file(*file).filter(|file| stands_for_directory(&file.path)) else {
                continue;
            };
            let importer = Importer { path: &file.path, language: file.language, symbols };
            let passed_on =
                symbols.imports.iter().filter(|import| !symbols.text(import.name).starts_with('_'));
            for import in passed_on.take(limit) {
                if let Some(Resolved::Symbols(ids)) = reexports::import_near(self.snapshot, &importer, import)
                {
                    self.add_all(&ids, reason);
                }
            }
        }
    }

    /// Files of the same directory, less the module itself: what they use, this one may use.
    fn files_beside(&self, module: FileId) -> Vec<&FileSymbols> {
        let beside = sibling::beside(self.snapshot, self.importer.path, self.importer.language);
        beside.filter(|id| *id != module).filter_map(|id| self.snapshot.symbols(id)).map(|s| &**s).collect()
    }

    /// C's enumerators stand in their enum's list, not each in one of its own.
    fn list_of(&self, id: SymbolId) -> SymbolId {
        match self.snapshot.symbol(id) {
            Some((file, symbols, symbol))
                if symbol.kind == SymbolKind::Variant
                    && file.language.family() == Family::C
                    && symbols.parent(symbol).is_some() =>
            {
                SymbolId { symbol: symbol.parent, ..id }
            }
            _ => id,
        }
    }

    fn add(&mut self, id: SymbolId, reason: Reason) {
        let id = self.list_of(id);
        let Some((file, symbols, symbol)) = self.snapshot.symbol(id) else { return };
        if matches!(symbol.kind, SymbolKind::Module | SymbolKind::Namespace | SymbolKind::Implementation) {
            return;
        }
        if *file.path == *self.importer.path {
            let range = symbol.range();
            if overlap(&range, &self.visible) || overlap(&range, &self.scope.function) {
                return;
            }
        }
        // A prototype beside its definition says nothing new.
        let same = |other: &Candidate| {
            self.snapshot.symbol(other.id).is_some_and(|(_, others, other)| {
                others.text(other.signature) == symbols.text(symbol.signature)
                    && others.name(other) == symbols.name(symbol)
                    && other.kind == symbol.kind
            })
        };
        match self.known.get(&id) {
            Some(index) => {
                let known = &mut self.list[*index];
                if reason.score() > known.reason.score() {
                    known.reason = reason;
                    known.weight = self.weight;
                }
            }
            None if self.list.len() < 4 * MAX_CANDIDATES && !self.list.iter().any(same) => {
                self.known.insert(id, self.list.len());
                self.list.push(Candidate { id, reason, weight: self.weight });
            }
            None => {}
        }
    }
}

impl Found<'_> {
    /// The candidates, less the members whose type is a candidate too: it shows those that are named first.
    fn without_repeated_members(mut self) -> Vec<Candidate> {
        let names: FxHashSet<(FileId, String)> = self
            .list
            .iter()
            .filter_map(|candidate| {
                let (_, symbols, symbol) = self.snapshot.symbol(candidate.id)?;
                symbol.kind.is_type().then(|| (candidate.id.file, symbols.name(symbol).to_owned()))
            })
            .collect();
        self.list.retain(|candidate| {
            let Some((_, symbols, symbol)) = self.snapshot.symbol(candidate.id) else { return false };
            let parent = symbols.parent(symbol).map(|parent| symbols.name(parent));
            let owner = parent.unwrap_or(symbols.text(symbol.owner));
            candidate.reason != Reason::UniqueMember
                || !names.contains(&(candidate.id.file, owner.to_owned()))
        });
        self.list
    }
}
