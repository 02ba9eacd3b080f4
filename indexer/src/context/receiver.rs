//! What the cursor's line asks the members of: `module.`, `path::`, `value.`; the type of a value is taken from its
//! annotation, from the constructor or the function that it was assigned from, or from its own class for `self`.
//!
//! All receivers of the line up to the cursor count, not only the last: while the rest of the line is typed, the choice
//! stays the same.

use std::ops::Range;

use crate::{
    index::SymbolId,
    resolve::{self, Resolved, Resolver, Via},
    scope::Scope,
    words::{self, words},
};

/// Receivers of one line that are looked at.
const MAX_RECEIVERS: usize = 6;
/// Words of the expression that a value was assigned from.
const MAX_ASSIGNED_WORDS: usize = 8;

/// What the line's receivers offer.
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
    let names = words(line).filter(|word| {
        let rest = &line[word.start + word.text.len()..];
        [".", "?.", "->", "::", "!."].iter().any(|access| rest.starts_with(access))
    });
    for word in names.take(MAX_RECEIVERS) {
        let name = word.text;
        match resolver.binding(name).map(|(_, resolved)| resolved) {
            Some(resolved) => match &*resolved {
                Resolved::Symbols(ids) => add_types(&mut found, resolver, ids),
                module => found.modules.push(module.clone()),
            },
            None => {
                for range in
                    [scope.container.clone(), Some(scope.function.start..line_start)].into_iter().flatten()
                {
                    let own = matches!(name, "self" | "this" | "cls");
                    let written = text.get(range.clone()).unwrap_or("");
                    let types = if own {
                        of_container(resolver, written, &range, scope)
                    } else {
                        of_value(resolver, written, name)
                    };
                    add_types(&mut found, resolver, &types);
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

/// A guess by uniqueness is no knowledge.
fn known(found: Option<(Vec<SymbolId>, Via)>) -> Option<Vec<SymbolId>> {
    found.filter(|(_, via)| *via != Via::Unimported).map(|(ids, _)| ids)
}
