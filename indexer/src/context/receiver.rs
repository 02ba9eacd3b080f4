//! What the code around the cursor asks the members of: `module.`, `path::`, `value.`; the type of a value is taken
//! from its annotation, from the constructor or the function that it was assigned from, from its own class for `self`.
//!
//! Of a field and of a call's result it is what the member's declaration says; of a type parameter, its bound; and where
//! nothing says it, the type that has the members that the file asks of the value.
//!
//! All values of the enclosing function count, and all modules of the line up to the cursor, not only what stands right
//! before it: so the choice stays the same while one types on.

use std::ops::Range;

use rustc_hash::FxHashMap;

use super::usage::Usage;
use crate::{
    index::{FileId, SymbolId},
    resolve::{self, Resolved, Resolver, Via},
    scope::Scope,
    symbols::{FileSymbols, Symbol, SymbolKind},
    words::{self, Word, words},
};

/// Receivers that are looked at.
const MAX_RECEIVERS: usize = 16;
/// Words of the expression that a value was assigned from.
const MAX_ASSIGNED_WORDS: usize = 8;

/// How far a type is followed: through type parameters, and along `a.b().c`.
const MAX_STEPS: usize = 2;
/// Members of one name that are looked at.
const MAX_HOMONYMS: usize = 64;
/// Types of a receiver's members that a chain is followed through, and links of chains.
const MAX_CHAIN_TYPES: usize = 16;
const MAX_LINKS: usize = 24;
/// Members by which a value's type is guessed, and how many types may have one that is asked alone.
const MAX_EVIDENCE: usize = 12;
const MAX_OWNERS: usize = 16;
const MAX_OWNERS_OF_ONE: usize = 2;

/// What the receivers offer.
#[derive(Default)]
pub(super) struct Receivers {
    /// Of what the cursor's line names.
    pub on_line: Vec<SymbolId>,
    pub types: Vec<SymbolId>,
    /// Of values of which only their name or their use says what they may be, away from the line.
    pub guessed: Vec<SymbolId>,
    pub modules: Vec<Resolved>,
}

pub(super) fn receivers(
    resolver: &Resolver<'_>,
    text: &str,
    offset: usize,
    scope: &Scope,
    usage: &Usage<'_>,
) -> Receivers {
    let mut found = Receivers::default();
    let line_start = text[..offset].rfind('\n').map_or(0, |end| end + 1);
    let line = &text[line_start..offset];
    for path in words::paths(line).into_iter().take(MAX_RECEIVERS) {
        match resolver.path(path) {
            Some(Resolved::Symbols(ids)) => add_types(&mut found, resolver, &ids),
            Some(module) => found.modules.push(module),
            None => {}
        }
    }
    let function = text.get(scope.function.clone()).unwrap_or("");
    let mut names: Vec<&str> = Vec::new();
    let mut links: Vec<&str> = Vec::new();
    for word in words(function) {
        let rest = &function[word.start + word.text.len()..];
        let list = if word.qualifier.is_none() { &mut names } else { &mut links };
        let rest = behind_brackets(rest);
        let is_asked = [".", "?.", "->", "::", "!."].iter().any(|access| rest.starts_with(access));
        if is_asked && !list.contains(&word.text) {
            list.push(word.text);
        }
    }
    let on_line = |name: &str| words(line).any(|word| word.text == name);
    // Those of the line first: they must not be cut off by the bound.
    names.sort_by_key(|name| !on_line(name));
    for name in names.into_iter().take(MAX_RECEIVERS) {
        let before = found.types.len();
        match resolver.binding(name).map(|(_, resolved)| resolved) {
            Some(resolved) => match &*resolved {
                Resolved::Symbols(ids) => add_types(&mut found, resolver, ids),
                module if on_line(name) => found.modules.push(module.clone()),
                _ => {}
            },
            None => {
                // A type of the same package or file.
                let itself = known(resolver.name(name)).unwrap_or_default();
                add_types(&mut found, resolver, &itself);
                let own = matches!(name, "self" | "this" | "cls");
                for range in [scope.container.clone(), Some(scope.function.clone())].into_iter().flatten() {
                    let written = text.get(range.clone()).unwrap_or("");
                    let types = if own {
                        of_container(resolver, written, &range, scope)
                    } else {
                        of_value(resolver, &found, written, name, MAX_STEPS)
                    };
                    add_types(&mut found, resolver, &types);
                }
                for guess in [by_members, namesake] {
                    if found.types.len() == before && !own {
                        let types = guess(resolver, usage, name);
                        match on_line(name) {
                            true => add_types(&mut found, resolver, &types),
                            false => found.guessed.extend(types),
                        }
                    }
                }
            }
        }
        if on_line(name) {
            let types = found.types[before..].to_vec();
            found.on_line.extend(types);
        }
    }
    for name in links.into_iter().take(MAX_LINKS) {
        let before = found.types.len();
        let types = of_member(resolver, &found, name);
        match on_line(name) {
            true => add_types(&mut found, resolver, &types),
            false => found.guessed.extend(types),
        }
        let types = found.types[before..].to_vec();
        found.on_line.extend(types);
    }
    found
}

/// Types as they are, and values that have members of their own; of other values and of functions, the types in their
/// signatures.
fn add_types(found: &mut Receivers, resolver: &Resolver<'_>, ids: &[SymbolId]) {
    for id in ids {
        let offers = resolver.snapshot.symbol(*id).is_some_and(|(_, symbols, symbol)| {
            let is_value = matches!(symbol.kind, SymbolKind::Variable | SymbolKind::Constant);
            symbol.kind.is_type() || is_value && symbols.members(id.symbol).next().is_some()
        });
        let types = if offers { vec![*id] } else { resolve::types_of(resolver.snapshot, *id) };
        for id in types {
            if !found.types.contains(&id) {
                found.types.push(id);
            }
        }
    }
}

/// The supertypes in the head of the enclosing type: its own members stand around the cursor.
fn of_container(resolver: &Resolver<'_>, head: &str, range: &Range<usize>, scope: &Scope) -> Vec<SymbolId> {
    if scope.container.as_ref() != Some(range) {
        return Vec::new();
    }
    words(head).filter_map(|word| known(resolver.name(word.text))).flatten().collect()
}

/// The text behind the arguments or the index that stands first in it, if one does.
fn behind_brackets(text: &str) -> &str {
    const MAX_ARGUMENTS: usize = 400;
    if !text.starts_with(['(', '[']) {
        return text;
    }
    let mut depth = 0;
    for (at, byte) in text.bytes().enumerate().take(MAX_ARGUMENTS) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return text[at + 1..].trim_start_matches('?').trim_start();
        }
    }
    ""
}

/// What the last annotation or assignment of `name` in `text` says.
fn of_value(
    resolver: &Resolver<'_>,
    found: &Receivers,
    text: &str,
    name: &str,
    steps: usize,
) -> Vec<SymbolId> {
    let Some(steps) = steps.checked_sub(1) else { return Vec::new() };
    let mut last = Vec::new();
    for word in words(text).filter(|word| word.text == name) {
        let rest = text[word.start + name.len()..].trim_start_matches([' ', '?', '!']);
        let rest = rest.lines().next().unwrap_or("");
        let said = match rest.as_bytes() {
            [b':', b':', ..] | [b'=', b'=', ..] => continue,
            // `:=` assigns in Go.
            [b':', b'=', ..] => &rest[2..],
            [b':', ..] => rest[1..].split([',', ')', '=', ';', '{']).next().unwrap_or(""),
            [b'=', ..] => &rest[1..],
            _ if rest.starts_with("extends ") => {
                rest["extends ".len()..].split([',', '>', '=', '{']).next().unwrap_or("")
            }
            // `Type name` of C, Java, C#.
            [b',' | b')' | b';' | b'[', ..] => {
                let before = text[..word.start].trim_end_matches([' ', '*', '&', '>', ']', '[']);
                let start = before.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_').len();
                &before[start..]
            }
            _ => continue,
        };
        let types: Vec<SymbolId> = words(said)
            .take(MAX_ASSIGNED_WORDS)
            .find_map(|word| Some(of_word(resolver, found, text, &word, steps)).filter(|ids| !ids.is_empty()))
            .unwrap_or_default();
        if !types.is_empty() {
            last = types;
        }
    }
    last
}

/// What a word of an annotation or of an assigned expression says about the type.
fn of_word(
    resolver: &Resolver<'_>,
    found: &Receivers,
    text: &str,
    word: &Word<'_>,
    steps: usize,
) -> Vec<SymbolId> {
    let resolved = known(match word.qualifier {
        Some(qualifier) => resolver.qualified(qualifier, word.text),
        None => resolver.name(word.text),
    });
    match (resolved, word.qualifier) {
        (Some(ids), _) => result_types(resolver, &ids),
        (None, Some(_)) => of_member(resolver, found, word.text),
        // A type parameter: its bound says more.
        (None, None) if word.text.starts_with(char::is_uppercase) && word.text.len() <= 12 => {
            of_value(resolver, found, text, word.text, steps)
        }
        (None, None) => Vec::new(),
    }
}

/// Types as they are, and what functions give back.
fn result_types(resolver: &Resolver<'_>, ids: &[SymbolId]) -> Vec<SymbolId> {
    let mut types = Vec::new();
    for id in ids {
        let Some((_, _, symbol)) = resolver.snapshot.symbol(*id) else { continue };
        match symbol.kind.is_type() {
            true => types.push(*id),
            false => types.extend(declared(resolver, *id)),
        }
    }
    types
}

/// What a member of that name says its value is, or what it gives back: a member of the types found so far, or of the
/// file's own types.
fn of_member(resolver: &Resolver<'_>, found: &Receivers, name: &str) -> Vec<SymbolId> {
    let snapshot = resolver.snapshot;
    let owners: Vec<&str> = found
        .types
        .iter()
        .take(MAX_CHAIN_TYPES)
        .filter_map(|id| snapshot.symbol(*id).map(|(_, symbols, symbol)| symbols.name(symbol)))
        .collect();
    let mut types = Vec::new();
    for id in snapshot.find_member(name).take(4 * MAX_HOMONYMS) {
        let Some((file, symbols, symbol)) = snapshot.symbol(id) else { continue };
        let is_candidate = file.language.family() == resolver.importer.language.family()
            && (*file.path == *resolver.importer.path || owners.contains(&owner_name(symbols, symbol)));
        if !is_candidate {
            continue;
        }
        for id in declared(resolver, id) {
            if !types.contains(&id) {
                types.push(id);
            }
        }
        if types.len() >= 4 {
            break;
        }
    }
    types
}

/// The name of the type that a member belongs to.
fn owner_name<'a>(symbols: &'a FileSymbols, symbol: &Symbol) -> &'a str {
    match symbols.parent(symbol) {
        Some(parent) => symbols.name(parent),
        None => symbols.text(symbol.owner),
    }
}

/// The types in what a declaration gives back, as its own file understands them; where it says nothing of it, those in
/// the whole signature.
fn declared(resolver: &Resolver<'_>, id: SymbolId) -> Vec<SymbolId> {
    let snapshot = resolver.snapshot;
    let Some((file, symbols, symbol)) = snapshot.symbol(id) else { return Vec::new() };
    if !symbol.kind.is_callable() {
        return resolve::types_of(snapshot, id);
    }
    let signature = symbols.text(symbol.signature);
    let result = match signature.rsplit_once("->") {
        Some((_, result)) => result,
        None => signature.rsplit_once(')').map_or("", |(_, result)| result),
    };
    let importer = crate::imports::Importer { path: &file.path, language: file.language, symbols };
    let theirs = Resolver::new(snapshot, importer);
    let types: Vec<SymbolId> = words(result)
        .map(|word| if word.text == "Self" { owner_name(symbols, symbol) } else { word.text })
        .filter(|name| name.starts_with(char::is_uppercase))
        .take(MAX_ASSIGNED_WORDS)
        .filter_map(|name| known(theirs.name(name)))
        .flatten()
        .filter(|id| snapshot.symbol(*id).is_some_and(|(_, _, symbol)| symbol.kind.is_type()))
        .collect();
    if types.is_empty() { resolve::types_of(snapshot, id) } else { types }
}

/// Where nothing says what a value is, the type that has most of the members that the file asks of it: two at least, or
/// one that hardly another type has.
fn by_members(resolver: &Resolver<'_>, usage: &Usage<'_>, name: &str) -> Vec<SymbolId> {
    let snapshot = resolver.snapshot;
    let mut owners: FxHashMap<(FileId, &str), (u32, f32)> = FxHashMap::default();
    for member in usage.members_of(name).filter(|member| member.len() >= 4).take(MAX_EVIDENCE) {
        let mut having: Vec<(FileId, &str)> = Vec::new();
        for id in snapshot.find_member(member).take(MAX_HOMONYMS) {
            let Some((file, symbols, symbol)) = snapshot.symbol(id) else { continue };
            let owner = owner_name(symbols, symbol);
            let is_member = !owner.is_empty()
                && symbol.kind != SymbolKind::Implementation
                && file.language.family() == resolver.importer.language.family();
            if is_member && !having.contains(&(id.file, owner)) {
                having.push((id.file, owner));
            }
        }
        if having.is_empty() || having.len() > MAX_OWNERS {
            continue;
        }
        let alone = u32::from(having.len() <= MAX_OWNERS_OF_ONE);
        for owner in &having {
            let evidence = owners.entry(*owner).or_default();
            evidence.0 += 1 + alone;
            evidence.1 += 1.0 / having.len() as f32;
        }
    }
    let best = owners
        .into_iter()
        .filter(|(_, (count, _))| *count >= 2)
        .max_by(|(left, one), (right, two)| one.1.total_cmp(&two.1).then_with(|| right.cmp(left)));
    let Some(((file, owner), _)) = best else { return Vec::new() };
    let Some(symbols) = snapshot.symbols(file) else { return Vec::new() };
    let is_owner = |symbol: &Symbol| symbol.kind.is_type() && symbols.name(symbol) == owner;
    let inside = symbols.symbols.iter().position(is_owner);
    if let Some(symbol) = inside.and_then(|at| u32::try_from(at).ok()) {
        return vec![SymbolId { file, symbol }];
    }
    // An `impl` beside its type, in another file.
    let Some(file) = snapshot.file(file) else { return Vec::new() };
    let importer = crate::imports::Importer { path: &file.path, language: file.language, symbols };
    known(Resolver::new(snapshot, importer).name(owner)).unwrap_or_default()
}

/// Where nothing says what a value is, the type that it is named after: `Stock` of `stock` and `new_stock`.
fn namesake(resolver: &Resolver<'_>, _: &Usage<'_>, name: &str) -> Vec<SymbolId> {
    let capitalized = |part: &str| {
        let mut letters = part.chars();
        letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect::<String>()
    };
    let parts: Vec<&str> = name.split('_').filter(|part| !part.is_empty()).collect();
    let Some(last) = parts.last().filter(|last| last.len() >= 3) else { return Vec::new() };
    let whole: String = parts.iter().map(|part| capitalized(part)).collect();
    [whole, capitalized(last), last.to_uppercase()]
        .iter()
        .find_map(|name| resolver.name(name))
        .map(|(ids, _)| ids)
        .into_iter()
        .flatten()
        .filter(|id| resolver.snapshot.symbol(*id).is_some_and(|(_, _, symbol)| symbol.kind.is_type()))
        .collect()
}

/// A guess by uniqueness is no knowledge.
fn known(found: Option<(Vec<SymbolId>, Via)>) -> Option<Vec<SymbolId>> {
    found.filter(|(_, via)| *via != Via::Unimported).map(|(ids, _)| ids)
}
