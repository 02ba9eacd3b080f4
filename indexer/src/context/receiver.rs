//! What the code around the cursor asks the members of: `module.`, `path::`, `value.`; the type of a value is taken
//! from its annotation, from the constructor or the function that it was assigned from, from its own class for `self`.
//!
//! All values of the enclosing function count, and all modules of the line up to the cursor, not only what stands right
//! before it: so the choice stays the same while one types on.

use std::ops::Range;

use crate::{
    index::SymbolId,
    resolve::{self, Resolved, Resolver, Via},
    scope::Scope,
    words::{self, words},
};

/// Receivers that are looked at.
const MAX_RECEIVERS: usize = 16;
/// Words of the expression that a value was assigned from.
const MAX_ASSIGNED_WORDS: usize = 8;

/// What the receivers offer.
#[derive(Default)]
pub(super) struct Receivers {
    pub types: Vec<SymbolId>,
    pub modules: Vec<Resolved>,
}

pub(super) fn receivers(resolver: &Resolver<'_>, text: &str, offset: usize, scope: &Scope) -> Receivers {
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
    for word in words(function) {
        let rest = &function[word.start + word.text.len()..];
        let is_asked = [".", "?.", "->", "::", "!."].iter().any(|access| rest.starts_with(access));
        if is_asked && word.qualifier.is_none() && !names.contains(&word.text) {
            names.push(word.text);
        }
    }
    for name in names.into_iter().take(MAX_RECEIVERS) {
        let on_line = || words(line).any(|word| word.text == name);
        match resolver.binding(name).map(|(_, resolved)| resolved) {
            Some(resolved) => match &*resolved {
                Resolved::Symbols(ids) => add_types(&mut found, resolver, ids),
                module if on_line() => found.modules.push(module.clone()),
                _ => {}
            },
            None => {
                let before = found.types.len();
                for range in [scope.container.clone(), Some(scope.function.clone())].into_iter().flatten() {
                    let own = matches!(name, "self" | "this" | "cls");
                    let written = text.get(range.clone()).unwrap_or("");
                    let types = if own {
                        of_container(resolver, written, &range, scope)
                    } else {
                        of_value(resolver, written, name)
                    };
                    add_types(&mut found, resolver, &types);
                }
                if found.types.len() == before {
                    add_types(&mut found, resolver, &namesake(resolver, name));
                }
            }
        }
    }
    found
}

/// Types as they are; of values and functions, the types in their signatures.
fn add_types(found: &mut Receivers, resolver: &Resolver<'_>, ids: &[SymbolId]) {
    for id in ids {
        let is_type = resolver.snapshot.symbol(*id).is_some_and(|(_, _, symbol)| symbol.kind.is_type());
        let types = if is_type { vec![*id] } else { resolve::types_of(resolver.snapshot, *id) };
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

/// What the last annotation or assignment of `name` in `text` says.
fn of_value(resolver: &Resolver<'_>, text: &str, name: &str) -> Vec<SymbolId> {
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
            // `Type name` of C, Java, C#.
            [b',' | b')' | b';', ..] => {
                let before = text[..word.start].trim_end_matches([' ', '*', '&', '>', ']', '[']);
                let start = before.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_').len();
                &before[start..]
            }
            _ => continue,
        };
        let types: Vec<SymbolId> = words(said)
            .take(MAX_ASSIGNED_WORDS)
            .find_map(|word| {
                known(match word.qualifier {
                    Some(qualifier) => resolver.qualified(qualifier, word.text),
                    None => resolver.name(word.text),
                })
            })
            .unwrap_or_default();
        if !types.is_empty() {
            last = types;
        }
    }
    last
}

/// Where nothing says what a value is, the type that it is named after: `Stock` of `stock` and `new_stock`.
fn namesake(resolver: &Resolver<'_>, name: &str) -> Vec<SymbolId> {
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
