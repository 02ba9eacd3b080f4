//! Types of Java as the index has them: what their names mean, what they are derived from, and all that they have.

use super::{
    super::{MAX_BASES, only},
    library,
    written::{declared, modifiers, parameter_count, result, type_parameters},
};
use crate::{
    Snapshot,
    imports::Importer,
    index::SymbolId,
    resolve::{self, Resolver},
    symbols::{SymbolKind, name_hash},
    words::words,
};

/// What types may have without saying so, and of which none is missing.
const OBJECT: [&str; 11] = [
    "getClass",
    "hashCode",
    "equals",
    "toString",
    "notify",
    "notifyAll",
    "wait",
    "clone",
    "finalize",
    "class",
    "length",
];
/// Of these not every value has one, so no list does.
pub(in super::super) const UNWRITTEN: [&str; 2] = ["class", "length"];
const ENUM: [&str; 7] =
    ["name", "ordinal", "compareTo", "values", "valueOf", "getDeclaringClass", "describeConstable"];

/// What a member is asked for as.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Field,
    /// With so many arguments.
    Method(usize),
    Type,
}

/// What a type's name means in a file, within one of its types: the types of those around it and of the types above them,
/// then what the file knows.
pub(super) fn named(resolver: &Resolver<'_>, within: Option<SymbolId>, name: &str) -> Option<SymbolId> {
    let snapshot = resolver.snapshot;
    let mut parts = name.split('.');
    let first = parts.next()?;
    let mut enclosing = within;
    let mut found = None;
    while let Some(id) = enclosing.filter(|_| found.is_none()) {
        let (_, symbols, symbol) = snapshot.symbol(id)?;
        found =
            if symbols.name(symbol) == first { Some(id) } else { member(snapshot, id, first, Asked::Type) };
        enclosing = parent(snapshot, id);
    }
    let mut found = match found {
        Some(id) => id,
        None => known_in_file(resolver, first)?,
    };
    for part in parts {
        found = member(snapshot, found, part, Asked::Type)?;
    }
    let (_, _, symbol) = snapshot.symbol(found)?;
    symbol.kind.is_type().then_some(found)
}

/// What a file knows by a name: not what is called so beside it where it imports another one, which the workspace does not have.
fn known_in_file(resolver: &Resolver<'_>, name: &str) -> Option<SymbolId> {
    let symbols = resolver.importer.symbols;
    let is_imported = || symbols.imports.iter().any(|import| symbols.local_name(import) == Some(name));
    if resolver.binding(name).is_none() && is_imported() {
        return None;
    }
    only(resolver.name(name))
}

/// A member of a type or of those above it, the nearest first; of methods one whose other ones of as many parameters give the
/// same type back.
pub(super) fn member(snapshot: &Snapshot, owner: SymbolId, name: &str, asked: Asked) -> Option<SymbolId> {
    let mut pending = vec![owner];
    let mut seen: Vec<SymbolId> = Vec::new();
    let mut methods: Vec<SymbolId> = Vec::new();
    while let Some(id) = pending.pop() {
        if seen.contains(&id) || seen.len() >= MAX_BASES {
            continue;
        }
        seen.push(id);
        match asked {
            Asked::Field | Asked::Type => {
                if let Some(found) = own_member(snapshot, id, name, asked) {
                    return Some(found);
                }
            }
            Asked::Method(count) => methods.extend(own_methods(snapshot, id, name, count)),
        }
        // Those of the superclass before those of interfaces.
        pending.extend(bases(snapshot, id).0.into_iter().rev());
    }
    let first = *methods.first()?;
    let given = |id: SymbolId| {
        let (_, symbols, symbol) = snapshot.symbol(id)?;
        result(symbols.text(symbol.signature), name)
    };
    methods.iter().all(|other| given(*other) == given(first)).then_some(first)
}

pub(super) fn own_member(snapshot: &Snapshot, owner: SymbolId, name: &str, asked: Asked) -> Option<SymbolId> {
    let symbols = snapshot.symbols(owner.file)?;
    let mut members = symbols.members(owner.symbol).filter(|(_, symbol)| symbols.name(symbol) == name);
    let found = members.find(|(_, symbol)| match asked {
        Asked::Type => symbol.kind.is_type(),
        Asked::Field | Asked::Method(_) => !symbol.kind.is_type() && !symbol.kind.is_callable(),
    });
    found.map(|(symbol, _)| SymbolId { file: owner.file, symbol })
}

fn own_methods(snapshot: &Snapshot, owner: SymbolId, name: &str, count: usize) -> Vec<SymbolId> {
    let Some(symbols) = snapshot.symbols(owner.file) else { return Vec::new() };
    let takes = |signature: &str| {
        parameter_count(signature, name).is_none_or(|(least, is_open)| least == count || is_open)
    };
    let members = symbols.members(owner.symbol).filter(|(_, symbol)| {
        symbols.name(symbol) == name
            && symbol.kind == SymbolKind::Method
            && takes(symbols.text(symbol.signature))
    });
    members.map(|(symbol, _)| SymbolId { file: owner.file, symbol }).collect()
}

/// The supertypes that a type names, and whether what all of them have is known.
pub(in super::super) fn bases(snapshot: &Snapshot, id: SymbolId) -> (Vec<SymbolId>, bool) {
    let Some((file, symbols, _)) = snapshot.symbol(id) else { return (Vec::new(), false) };
    let resolver = Resolver::new(snapshot, Importer { path: &file.path, language: file.language, symbols });
    let (mut bases, mut is_all) = (Vec::new(), true);
    for base in symbols.bases_of(id.symbol) {
        match base_named(&resolver, id, base) {
            Some(base) if base != id => bases.push(base),
            _ => is_all &= library::members(symbols, base).is_some(),
        }
    }
    (bases, is_all)
}

/// What a supertype's name means: it is looked up outside of the type itself. Types that others inherit are not looked for, which
/// would ask for supertypes again and, where types go round in a circle, for ever.
fn base_named(resolver: &Resolver<'_>, id: SymbolId, base: &str) -> Option<SymbolId> {
    let snapshot = resolver.snapshot;
    let mut parts = base.split('.');
    let first = parts.next()?;
    let mut found = None;
    let mut inner = id;
    while let Some(outer) = parent(snapshot, inner).filter(|_| found.is_none()) {
        let (_, symbols, symbol) = snapshot.symbol(outer)?;
        found = match symbols.name(symbol) == first {
            true => Some(outer),
            false => own_member(snapshot, outer, first, Asked::Type),
        };
        inner = outer;
    }
    let mut found = found.or_else(|| known_in_file(resolver, first))?;
    for part in parts {
        found = own_member(snapshot, found, part, Asked::Type)?;
    }
    let (_, _, symbol) = snapshot.symbol(found)?;
    symbol.kind.is_type().then_some(found)
}

/// The type that a member is written in.
fn parent(snapshot: &Snapshot, member: SymbolId) -> Option<SymbolId> {
    let (_, symbols, symbol) = snapshot.symbol(member)?;
    symbols.parent(symbol).map(|_| SymbolId { file: member.file, symbol: symbol.parent })
}

/// The type that a field is declared with.
pub(super) fn declared_type(snapshot: &Snapshot, id: SymbolId) -> Option<SymbolId> {
    let (_, symbols, symbol) = snapshot.symbol(id)?;
    // A constant of an enum.
    if symbol.kind == SymbolKind::Variant {
        return parent(snapshot, id);
    }
    named_by(snapshot, id, declared(symbols.text(symbol.signature), symbols.name(symbol))?)
}

/// The type that a method gives back.
pub(super) fn result_type(snapshot: &Snapshot, id: SymbolId) -> Option<SymbolId> {
    let (_, symbols, symbol) = snapshot.symbol(id)?;
    named_by(snapshot, id, result(symbols.text(symbol.signature), symbols.name(symbol))?)
}

/// What a type's name means where a member is declared.
fn named_by(snapshot: &Snapshot, member: SymbolId, name: &str) -> Option<SymbolId> {
    let (file, symbols, symbol) = snapshot.symbol(member)?;
    let first = name.split('.').next()?;
    let mut around = Some(symbol);
    while let Some(one) = around {
        if type_parameters(symbols.text(one.signature)).any(|parameter| parameter == first) {
            return None;
        }
        around = symbols.parent(one);
    }
    let importer = Importer { path: &file.path, language: file.language, symbols };
    named(&Resolver::new(snapshot, importer), parent(snapshot, member), name)
}

/// Whether a type has no other members than those that the index saw and [`library`] knows: `name` is none of these.
pub(in super::super) fn is_closed(snapshot: &Snapshot, id: SymbolId, name: &str) -> bool {
    let Some((_, symbols, _)) = snapshot.symbol(id) else { return false };
    // It adds members to the classes that it annotates.
    let is_plain = !symbols.has_word(name_hash("lombok"));
    is_plain && !added(snapshot, id).contains(&name)
}

/// What a type has besides the members that it and its supertypes in the workspace declare.
pub(in super::super) fn added(snapshot: &Snapshot, id: SymbolId) -> Vec<&'static str> {
    let mut names = OBJECT.to_vec();
    let Some((_, symbols, symbol)) = snapshot.symbol(id) else { return names };
    if symbol.kind == SymbolKind::Enum {
        names.extend(ENUM);
    }
    for base in symbols.bases_of(id.symbol) {
        names.extend(library::members(symbols, base).unwrap_or_default());
    }
    names
}

/// Whether a type's member may be named in a file: private ones in the file that has them, those without a word in its package.
fn is_visible(snapshot: &Snapshot, member: SymbolId, importer: &Importer<'_>) -> bool {
    let Some((file, symbols, symbol)) = snapshot.symbol(member) else { return false };
    if symbol.kind == SymbolKind::Constructor {
        return false;
    }
    if *file.path == *importer.path {
        return true;
    }
    // Behind a comment the head is not all there.
    let Some(before) = modifiers(symbols.text(symbol.signature), symbols.name(symbol)) else { return true };
    let says = |modifier: &str| words(before).any(|word| word.text == modifier);
    let is_open = symbol.kind == SymbolKind::Variant
        || symbols.parent(symbol).is_none_or(|owner| owner.kind != SymbolKind::Class);
    !says("private")
        && (is_open || says("public") || says("protected") || symbols.package() == importer.symbols.package())
}

/// Members of a type that its subtypes and others may name.
pub(in super::super) fn members(snapshot: &Snapshot, id: SymbolId, importer: &Importer<'_>) -> Vec<SymbolId> {
    let mut members = resolve::members(snapshot, id);
    members.retain(|member| is_visible(snapshot, *member, importer));
    members
}
