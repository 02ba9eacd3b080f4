//! Types of Rust as the index has them: what their names mean, and all that they have.

use std::path::Path;

use rustc_hash::FxHashMap;

use super::{
    super::{MAX_BASES, only},
    library, standard,
    written::{alias, declared, fields, head, implemented, is_public, named_field, result},
};
use crate::{
    Snapshot,
    imports::Importer,
    index::{FileId, SymbolId},
    resolve::{self, Resolved, Resolver},
    symbols::{SymbolKind, name_hash},
};

/// Aliases that are followed.
const MOST_ALIASES: usize = 3;
/// Members that one type has.
const MOST_MEMBERS: usize = 2000;
/// Traits that are implemented for whatever has another one.
const MOST_BLANKET: usize = 200;
/// What such an implementation calls the type that it is for.
const PARAMETERS: [&str; 26] = [
    "A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L", "M", "N", "O", "P", "Q", "R", "S", "T", "U",
    "V", "W", "X", "Y", "Z",
];

/// A type as it is written, and where its names mean something.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub text: String,
    pub place: Place,
}

/// A file, and the type that `Self` is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub file: FileId,
    pub own: Option<SymbolId>,
}

impl Written {
    /// Another type that is written in the same place.
    pub fn part(&self, text: &str) -> Self {
        Self { text: text.to_owned(), place: self.place }
    }
}

/// What a member is looked up as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Field,
    Function,
    /// A constant, a variant, or a function.
    Path,
}

/// The type in the workspace that a written one is, through references, boxes and aliases.
pub(super) fn type_id(snapshot: &Snapshot, written: &Written) -> Option<SymbolId> {
    let mut written = written.clone();
    for _ in 0..2 * MOST_ALIASES {
        let (path, arguments) = head(&written.text)?;
        if path == "Self" {
            return written.place.own;
        }
        let Some(id) = named(snapshot, written.place.file, path) else {
            let inner = arguments.last().filter(|_| standard::is_seen_through(path))?;
            written = written.part(inner);
            continue;
        };
        let (_, symbols, symbol) = snapshot.symbol(id)?;
        if symbol.kind != SymbolKind::Type {
            return symbol.kind.is_type().then_some(id);
        }
        // An associated type is whatever the implementation says.
        if symbols.parent(symbol).is_some_and(|parent| !parent.kind.is_namespace())
            || !symbol.owner.is_empty()
        {
            return None;
        }
        written = Written {
            text: alias(symbols.text(symbol.signature))?.to_owned(),
            place: Place { file: id.file, own: None },
        };
    }
    None
}

/// What a path means in a file: a type, or something else that one definition defines.
pub(super) fn named(snapshot: &Snapshot, file: FileId, path: &str) -> Option<SymbolId> {
    let entry = snapshot.file(file)?;
    let symbols = entry.symbols.as_ref()?;
    let resolver = Resolver::new(snapshot, Importer { path: &entry.path, language: entry.language, symbols });
    let Some((qualifier, name)) = path.rsplit_once("::") else {
        // What is imported by that name and not found is none of the workspace's; what is imported twice is one thing in one
        // function or configuration and another in the next.
        let imports =
            symbols.imports.iter().filter(|import| symbols.local_name(import) == Some(path)).count();
        if imports > 1 || imports == 1 && resolver.binding(path).is_none() {
            return None;
        }
        return only(resolver.name(path));
    };
    if let Some(id) = only(resolver.qualified(qualifier, name)) {
        return Some(id);
    }
    match resolver.path(path)? {
        Resolved::Symbols(ids) => match ids[..] {
            [only] => Some(only),
            _ => None,
        },
        Resolved::Module(_) | Resolved::Package(_) => None,
    }
}

/// A type's own members: what stands in its body and in the blocks that are written for it. Implemented traits are among them.
pub(super) fn own_members(snapshot: &Snapshot, id: SymbolId) -> Vec<SymbolId> {
    let Some((_, symbols, symbol)) = snapshot.symbol(id) else { return Vec::new() };
    let inside = symbols.members(id.symbol).map(|(member, _)| SymbolId { file: id.file, symbol: member });
    let mut members: Vec<SymbolId> = inside.collect();
    let name = symbols.name(symbol);
    let mut meant: FxHashMap<FileId, bool> = FxHashMap::default();
    let outside = snapshot.find_owned(name).filter(|member| {
        *meant.entry(member.file).or_insert_with(|| resolve::means(snapshot, member.file, name, id))
    });
    members.extend(outside.take(MOST_MEMBERS));
    members
}

/// A member of a type, of the traits that it implements, or of those that a trait asks for.
pub(super) fn member(snapshot: &Snapshot, owner: SymbolId, name: &str, asked: Asked) -> Option<SymbolId> {
    let mut pending = vec![owner];
    let mut seen: Vec<SymbolId> = Vec::new();
    while let Some(id) = pending.pop() {
        if seen.contains(&id) || seen.len() >= MAX_BASES {
            continue;
        }
        seen.push(id);
        let members = own_members(snapshot, id);
        for member in &members {
            let Some((_, symbols, symbol)) = snapshot.symbol(*member) else { continue };
            let is_kind = match (asked, symbol.kind) {
                (_, SymbolKind::Implementation) => false,
                (Asked::Field, kind) => kind == SymbolKind::Field,
                (Asked::Function, kind) => kind.is_callable(),
                (Asked::Path, kind) => kind != SymbolKind::Field,
            };
            if is_kind && symbols.name(symbol) == name {
                return Some(*member);
            }
        }
        pending.extend(traits(snapshot, id, &members).into_iter().filter_map(|(_, id)| id));
    }
    None
}

/// The traits that a type implements or a trait asks for: their names, and what they are in the workspace.
fn traits(snapshot: &Snapshot, id: SymbolId, members: &[SymbolId]) -> Vec<(String, Option<SymbolId>)> {
    let mut found = Vec::new();
    for member in members {
        let Some((_, symbols, symbol)) = snapshot.symbol(*member) else { continue };
        if symbol.kind == SymbolKind::Implementation {
            let path = implemented(symbols.text(symbol.signature)).unwrap_or_else(|| symbols.name(symbol));
            found.push((symbols.name(symbol).to_owned(), named_trait(snapshot, member.file, path)));
        }
    }
    if let Some((_, symbols, _)) = snapshot.symbol(id) {
        for base in symbols.bases_of(id.symbol) {
            found.push((base.to_owned(), named_trait(snapshot, id.file, base)));
        }
    }
    found
}

fn named_trait(snapshot: &Snapshot, file: FileId, path: &str) -> Option<SymbolId> {
    let id = named(snapshot, file, path)?;
    let (_, _, symbol) = snapshot.symbol(id)?;
    (symbol.kind == SymbolKind::Trait).then_some(id)
}

/// The type of a field or a constant, or what a function gives back.
pub(super) fn type_of_member(snapshot: &Snapshot, owner: SymbolId, id: SymbolId) -> Option<Written> {
    let (_, symbols, symbol) = snapshot.symbol(id)?;
    let (signature, name) = (symbols.text(symbol.signature), symbols.name(symbol));
    let text = match symbol.kind {
        SymbolKind::Field | SymbolKind::Constant => declared(signature, name)?.to_owned(),
        SymbolKind::Function | SymbolKind::Method => result(signature, name)?,
        SymbolKind::Variant => "Self".to_owned(),
        _ => return None,
    };
    Some(Written { text, place: Place { file: id.file, own: Some(owner) } })
}

/// The type of a field that has no name, of a struct or a variant.
pub(super) fn numbered_field(
    snapshot: &Snapshot,
    owner: SymbolId,
    id: SymbolId,
    index: usize,
) -> Option<Written> {
    let (_, symbols, symbol) = snapshot.symbol(id)?;
    let fields = fields(symbols.text(symbol.signature), symbols.name(symbol))?;
    let text = (*fields.get(index)?).to_owned();
    Some(Written { text, place: Place { file: id.file, own: Some(owner) } })
}

/// The type of a field that a pattern names, of a struct or a variant.
pub(super) fn field_of_pattern(
    snapshot: &Snapshot,
    owner: SymbolId,
    id: SymbolId,
    name: &str,
) -> Option<Written> {
    let (_, symbols, symbol) = snapshot.symbol(id)?;
    if symbol.kind != SymbolKind::Variant {
        return type_of_member(snapshot, owner, member(snapshot, id, name, Asked::Field)?);
    }
    let text = named_field(symbols.text(symbol.signature), symbols.name(symbol), name)?.to_owned();
    Some(Written { text, place: Place { file: id.file, own: Some(owner) } })
}

/// What stands behind a value's dot, or behind a type's path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Behind {
    Dot,
    Path,
}

/// The names that may stand there, of a type as a file sees it; `None` where it may have others.
pub(in super::super) fn names(
    snapshot: &Snapshot,
    id: SymbolId,
    behind: Behind,
    from: FileId,
) -> Option<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    let mut pending = vec![id];
    let mut seen: Vec<SymbolId> = Vec::new();
    while let Some(id) = pending.pop() {
        if seen.contains(&id) {
            continue;
        }
        seen.push(id);
        if seen.len() >= MAX_BASES {
            return None;
        }
        let (_, symbols, symbol) = snapshot.symbol(id)?;
        let is_trait = symbol.kind == SymbolKind::Trait;
        let is_own = is_visible_from(snapshot, id.file, from);
        if behind == Behind::Dot && symbol.kind == SymbolKind::Struct {
            let count =
                fields(symbols.text(symbol.signature), symbols.name(symbol)).map_or(0, |fields| fields.len());
            names.extend((0..count).map(|number| number.to_string()));
        }
        // A macro may give it members: the one that it stands in, or one that is there for the types of its file.
        if symbols.in_macros.contains(&id.symbol)
            || symbols.symbols.iter().any(|symbol| symbol.kind == SymbolKind::Macro)
        {
            return None;
        }
        let members = own_members(snapshot, id);
        if members.len() >= MOST_MEMBERS {
            return None;
        }
        for member in &members {
            let (_, symbols, symbol) = snapshot.symbol(*member)?;
            let is_kind = match (behind, symbol.kind) {
                (_, SymbolKind::Implementation) => false,
                (Behind::Dot, kind) => kind == SymbolKind::Field || kind.is_callable(),
                (Behind::Path, kind) => kind != SymbolKind::Field,
            };
            let is_open =
                is_trait || symbol.kind == SymbolKind::Variant || is_public(symbols.text(symbol.signature));
            if is_kind && (is_open || is_own || is_visible_from(snapshot, member.file, from)) {
                names.push(symbols.name(symbol).to_owned());
            }
        }
        for (name, found) in traits(snapshot, id, &members) {
            match found {
                Some(id) => pending.push(id),
                None => names.extend(library::members(&name)?.iter().map(|name| (*name).to_owned())),
            }
        }
    }
    if names.is_empty() {
        return None;
    }
    for id in blanket_traits(snapshot)? {
        let symbols = snapshot.symbols(id.file)?;
        names.extend(symbols.members(id.symbol).map(|(_, symbol)| symbols.name(symbol).to_owned()));
    }
    names.extend(library::UNIVERSAL.map(str::to_owned));
    if behind == Behind::Path {
        names.extend(library::OF_TYPES.map(str::to_owned));
    }
    Some(names)
}

/// Whether the files that a type and its members are in say a name at all, `own` apart: a macro may make a member of it.
pub(in super::super) fn may_have(snapshot: &Snapshot, id: SymbolId, name: &str, own: &Path) -> bool {
    let hash = name_hash(name);
    let mut files: Vec<FileId> = own_members(snapshot, id).iter().map(|member| member.file).collect();
    files.push(id.file);
    files.sort_unstable();
    files.dedup();
    let says = |file: &FileId| {
        let Some(file) = snapshot.file(*file) else { return true };
        *file.path != *own && file.symbols.as_ref().is_none_or(|symbols| symbols.has_word(hash))
    };
    files.iter().any(says)
}

/// Whether what a file keeps to its module may be named in another one: in itself and in the modules below it.
fn is_visible_from(snapshot: &Snapshot, file: FileId, from: FileId) -> bool {
    let (Some(file), Some(from)) = (snapshot.file(file), snapshot.file(from)) else { return false };
    let stem = file.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let children = match stem {
        "mod" | "lib" | "main" => file.directory().to_owned(),
        stem => file.directory().join(stem),
    };
    file.path == from.path || from.path.starts_with(children)
}

/// Traits of the workspace that are implemented for all types that are so and so: `impl<T: Read> ReadExt for T`.
fn blanket_traits(snapshot: &Snapshot) -> Option<Vec<SymbolId>> {
    let mut found = Vec::new();
    for parameter in PARAMETERS {
        for member in snapshot.find_owned(parameter) {
            let (_, symbols, symbol) = snapshot.symbol(member)?;
            if symbol.kind != SymbolKind::Implementation {
                continue;
            }
            let path = implemented(symbols.text(symbol.signature)).unwrap_or_else(|| symbols.name(symbol));
            if let Some(id) = named_trait(snapshot, member.file, path)
                && !found.contains(&id)
            {
                found.push(id);
            }
            if found.len() > MOST_BLANKET {
                return None;
            }
        }
    }
    Some(found)
}
