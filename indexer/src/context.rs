//! The context for a cursor: which definitions of other files the model should see.
//!
//! Candidates come from the imports and from the names in the enclosing definition, never from the exact cursor, so
//! that the choice and its order stay the same from key to key. Scores are constants by kind of candidate
//! ([`Reason`]); the order of the text is least-changing first.

use std::{ops::Range, path::Path, sync::Arc};

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    Language,
    imports::Importer,
    index::SymbolId,
    read,
    render::{self, Members},
    resolve::{self, Resolved, Resolver, Via},
    scope::{self, Scope},
    snapshot::Snapshot,
    symbols::{FileSymbols, SymbolKind, name_hash},
    words::{Word, words},
};

/// A cursor in a text that may differ from the disk.
pub struct Query<'a> {
    pub path: &'a Path,
    pub text: &'a str,
    /// Cursor, a byte offset into `text` on a character boundary.
    pub offset: usize,
    /// Byte range of `text` that the prompt shows anyway; nothing inside it is repeated.
    pub visible: Range<usize>,
    /// Budget in the unit that `measure` returns (tokens, for the language server).
    pub budget: usize,
    pub measure: &'a dyn Fn(&str) -> usize,
}

/// One piece of another file worth showing to the model.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct ContextItem {
    /// Relative to its root.
    pub path: String,
    pub text: String,
    /// What it is there for, in words: "definition of `Stock` imported at line 3".
    pub reason: String,
    pub score: f32,
    /// In the unit of [`Query::measure`].
    pub cost: usize,
}

/// Names of the enclosing definition that are looked up, and candidates that are rendered: bounds on the work.
const MAX_NAMES: usize = 300;
const MAX_CANDIDATES: usize = 64;
/// Members of one type, at most.
const MAX_MEMBERS: usize = 40;
/// No single definition takes more of the budget than this part of it, while others wait.
const MAX_SHARE: f32 = 0.5;
/// A text larger than this that is not in the index is not parsed for its imports.
const MAX_UNINDEXED_BYTES: usize = 512 << 10;

/// Why a definition is a candidate.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Reason {
    /// The enclosing definition names it.
    Used(Via),
    /// A type in the signature of something used.
    TypeOfUsed,
    /// Imported, and used elsewhere in the file.
    Imported(u32),
    /// Imported and not used yet: it was imported to be used next.
    JustImported(u32),
    /// One of a module's definitions, the module being imported and not used yet.
    InModule(u32),
    /// A method called on something of unknown type, the only one of its name.
    UniqueMember,
}

impl Reason {
    fn score(self) -> f32 {
        match self {
            Self::Used(Via::Import(_)) => 1.0,
            Self::Used(Via::SameFile) => 0.9,
            Self::Used(Via::SamePackage) => 0.85,
            Self::Used(Via::WholeImport(_)) => 0.8,
            Self::JustImported(_) => 0.7,
            Self::TypeOfUsed => 0.6,
            Self::Imported(_) => 0.5,
            Self::Used(Via::Unimported) => 0.4,
            Self::UniqueMember => 0.35,
            Self::InModule(_) => 0.3,
        }
    }

    /// How often it changes while one types: what changes least is written first.
    fn volatility(self) -> u8 {
        match self {
            Self::Imported(_) => 0,
            Self::JustImported(_) | Self::InModule(_) => 1,
            Self::Used(_) | Self::TypeOfUsed => 2,
            Self::UniqueMember => 3,
        }
    }

    fn words(self, kind: &str, name: &str) -> String {
        match self {
            Self::Used(Via::Import(line)) => {
                format!("{kind} `{name}` used here, imported at line {}", line + 1)
            }
            Self::Used(Via::SameFile) => format!("{kind} `{name}` used here, further away in this file"),
            Self::Used(Via::SamePackage) => format!("{kind} `{name}` used here, of the same package"),
            Self::Used(Via::WholeImport(line)) => {
                format!("{kind} `{name}` used here, through the import at line {}", line + 1)
            }
            Self::Used(Via::Unimported) => format!("{kind} `{name}` used here, the only one of that name"),
            Self::TypeOfUsed => format!("{kind} `{name}` in the signature of what is used here"),
            Self::Imported(line) => format!("{kind} `{name}` imported at line {}", line + 1),
            Self::JustImported(line) => {
                format!("{kind} `{name}` imported at line {} and not used yet", line + 1)
            }
            Self::InModule(line) => format!("{kind} `{name}` of the module imported at line {}", line + 1),
            Self::UniqueMember => format!("{kind} `{name}` called here, the only one of that name"),
        }
    }
}

struct Candidate {
    id: SymbolId,
    reason: Reason,
}

impl Snapshot {
    /// Context for a cursor, in a deterministic order that is stable from key to key, within the budget.
    /// The file's own symbols are those of its last [`crate::Workspace::update`].
    pub fn context(&self, query: &Query<'_>) -> Vec<ContextItem> {
        let offset = floor_boundary(query.text, query.offset);
        let path = crate::index::normalize(query.path);
        let indexed = self.file_by_path(&path).and_then(|id| self.file(id));
        let (language, symbols) = match indexed.and_then(|file| Some((file.language, file.symbols.clone()?)))
        {
            Some(known) => known,
            None => match Language::from_path(&path) {
                Some(language) if query.text.len() <= MAX_UNINDEXED_BYTES => {
                    (language, Arc::new(read::parse(language, query.text).0))
                }
                _ => return Vec::new(),
            },
        };
        if query.budget == 0 {
            return Vec::new();
        }
        let importer = Importer { path: &path, language, symbols: &symbols };
        let scope = scope::enclosing(query.text, offset, language);
        let names = names_in_scope(query.text, offset, &scope, &symbols);
        let candidates = candidates(self, importer, query, &scope, &names);
        self.pack(query, &path, candidates, &names)
    }

    /// Fills the budget by score, then writes by file, least-changing first.
    fn pack(
        &self,
        query: &Query<'_>,
        path: &Path,
        candidates: Vec<Candidate>,
        names: &Names<'_>,
    ) -> Vec<ContextItem> {
        let mentioned = |name: &str| names.hashes.contains(&name_hash(name));
        let mut by_score: Vec<(usize, &Candidate)> = candidates.iter().enumerate().collect();
        by_score.sort_by(|(a, left), (b, right)| {
            right.reason.score().total_cmp(&left.reason.score()).then(a.cmp(b))
        });
        let mut left = query.budget;
        let share = ((query.budget as f32 * MAX_SHARE) as usize).max(1);
        let mut chosen: Vec<(usize, String, usize)> = Vec::new();
        for (position, candidate) in by_score.into_iter().take(MAX_CANDIDATES) {
            let limit = left.min(share);
            // A file's heading is the prompt's to write; it costs about this much.
            let fits = |text: &str| Some((query.measure)(text)).filter(|cost| *cost <= limit);
            let sizes =
                [Members::Public(MAX_MEMBERS), Members::Public(16), Members::Public(6), Members::None];
            let mut previous = String::new();
            for members in sizes {
                let text = render::definition(self, candidate.id, members, &mentioned);
                if text.is_empty() || text == previous {
                    continue;
                }
                if let Some(cost) = fits(&text) {
                    left -= cost;
                    chosen.push((position, text, cost));
                    break;
                }
                previous = text;
            }
            if left < 4 {
                break;
            }
        }
        chosen.sort_unstable_by_key(|(position, ..)| *position);
        self.group(path, &candidates, chosen)
    }

    fn group(
        &self,
        path: &Path,
        candidates: &[Candidate],
        chosen: Vec<(usize, String, usize)>,
    ) -> Vec<ContextItem> {
        struct Group {
            volatility: u8,
            first: usize,
            item: ContextItem,
            parts: Vec<(u32, String)>,
        }
        let mut groups: Vec<(u32, Group)> = Vec::new();
        for (position, text, cost) in chosen {
            let candidate = &candidates[position];
            let Some((file, symbols, symbol)) = self.symbol(candidate.id) else { continue };
            let words = candidate.reason.words(symbol.kind.noun(), symbols.name(symbol));
            let index = match groups.iter().position(|(file, _)| *file == candidate.id.file) {
                Some(index) => index,
                None => {
                    let item = ContextItem {
                        path: file.relative.to_string(),
                        text: String::new(),
                        reason: String::new(),
                        score: 0.0,
                        cost: 0,
                    };
                    groups.push((
                        candidate.id.file,
                        Group { volatility: 0, first: position, item, parts: Vec::new() },
                    ));
                    groups.len() - 1
                }
            };
            let group = &mut groups[index].1;
            group.volatility = group.volatility.max(candidate.reason.volatility());
            group.item.score = group.item.score.max(candidate.reason.score());
            group.item.cost += cost;
            if !group.item.reason.is_empty() {
                group.item.reason.push_str("; ");
            }
            group.item.reason.push_str(&words);
            group.parts.push((symbol.start, text));
        }
        groups.sort_by_key(|(_, group)| (group.volatility, group.first));
        let own = self.file_by_path(path);
        // What this file itself says further away stands last, next to the text it belongs to.
        groups.sort_by_key(|(file, _)| Some(*file) == own);
        let finish = |(_, mut group): (u32, Group)| {
            group.parts.sort_by_key(|(start, _)| *start);
            group.parts.dedup();
            let texts: Vec<String> = group.parts.into_iter().map(|(_, text)| text).collect();
            group.item.text = texts.concat();
            group.item
        };
        groups.into_iter().map(finish).collect()
    }
}

/// The names that the enclosing definition uses.
struct Names<'a> {
    /// In the order of their first appearance, each once.
    ordered: Vec<Word<'a>>,
    hashes: FxHashSet<u32>,
}

/// Names of the enclosing function, of its type's head, and of its type's fields. The word that the cursor touches
/// is still being typed and does not count.
fn names_in_scope<'a>(text: &'a str, offset: usize, scope: &Scope, symbols: &'a FileSymbols) -> Names<'a> {
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
fn candidates(
    snapshot: &Snapshot,
    importer: Importer<'_>,
    query: &Query<'_>,
    scope: &Scope,
    names: &Names<'_>,
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
                    found.add_all(ids, reason);
                }
            }
            Resolved::Module(files) if !used_in_scope && !is_used(name) => {
                for file in files.iter().take(4) {
                    let Some(symbols) = snapshot.symbols(*file) else { continue };
                    let top = (0u32..).zip(symbols.symbols.iter()).filter(|(_, symbol)| {
                        symbols.is_top_level(symbol)
                            && (symbol.kind.is_callable() || symbol.kind.is_type())
                            && !symbols.name(symbol).starts_with('_')
                    });
                    for (index, _) in top.take(12) {
                        found.add(SymbolId { file: *file, symbol: index }, Reason::InModule(line));
                    }
                }
            }
            _ => {}
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
    members.next().is_none().then_some(only)
}

struct Found<'a> {
    snapshot: &'a Snapshot,
    importer: Importer<'a>,
    visible: Range<usize>,
    scope: &'a Scope,
    list: Vec<Candidate>,
    known: FxHashMap<SymbolId, usize>,
}

impl Found<'_> {
    fn add_all(&mut self, ids: &[SymbolId], reason: Reason) {
        for id in ids {
            self.add(*id, reason);
        }
    }

    fn add(&mut self, id: SymbolId, reason: Reason) {
        let Some((file, symbols, symbol)) = self.snapshot.symbol(id) else { return };
        if matches!(symbol.kind, SymbolKind::Module | SymbolKind::Namespace | SymbolKind::Implementation) {
            return;
        }
        if *file.path == *self.importer.path {
            let range = symbol.range();
            let overlaps = |other: &Range<usize>| range.start < other.end && other.start < range.end;
            if overlaps(&self.visible) || overlaps(&self.scope.function) {
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
                }
            }
            None if self.list.len() < 4 * MAX_CANDIDATES && !self.list.iter().any(same) => {
                self.known.insert(id, self.list.len());
                self.list.push(Candidate { id, reason });
            }
            None => {}
        }
    }
}

impl Found<'_> {
    /// The candidates, less the members whose type is a candidate too: it shows those that are named first.
    fn without_repeated_members(mut self) -> Vec<Candidate> {
        let names: FxHashSet<(crate::index::FileId, String)> = self
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

fn floor_boundary(text: &str, offset: usize) -> usize {
    let mut offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}
