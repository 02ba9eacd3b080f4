//! What a name or a type's member refers to, asked from outside: go-to-definition, and the member check.
//!
//! The member check answers "missing" only where every supertype is known and the language gives a type no members
//! behind the index's back; in all other cases it does not know.

use std::path::Path;

use crate::{
    Snapshot, SymbolInfo,
    imports::Importer,
    index::SymbolId,
    language::Family,
    resolve::{self, Resolved, Resolver, Via},
    symbols::SymbolKind,
};

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Located {
    Symbol(SymbolInfo),
    /// A module, by its first file's path relative to the root.
    Module(String),
}

/// Whether a type has a member.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Member {
    Exists(SymbolInfo),
    Missing,
    Unknown,
}

/// Supertypes followed.
const MAX_BASES: usize = 64;

enum Found {
    Exists(SymbolId),
    Missing,
    Unknown,
}

impl Snapshot {
    /// What `name`, or `qualifier.name`, means in the file at `path`: a definition in the workspace, or nothing.
    pub fn locate(&self, path: &Path, name: &str) -> Option<Located> {
        let path = crate::index::normalize(path);
        let file = self.file_by_path(&path).and_then(|id| self.file(id))?;
        let symbols = file.symbols.as_ref()?;
        let resolver = Resolver::new(self, Importer { path: &file.path, language: file.language, symbols });
        let Some((qualifier, member)) = name.split_once('.') else {
            if let Some(ids) = known(resolver.name(name)) {
                return self.info(*ids.first()?).map(Located::Symbol);
            }
            return match &*resolver.binding(name)?.1 {
                Resolved::Module(files) => {
                    Some(Located::Module(self.file(*files.first()?)?.relative.to_string()))
                }
                _ => None,
            };
        };
        if let Some(ids) = known(resolver.qualified(qualifier, member)) {
            return self.info(*ids.first()?).map(Located::Symbol);
        }
        let types = known(resolver.name(qualifier))?;
        types.into_iter().find_map(|id| match self.find_in_type(id, member) {
            Found::Exists(id) => self.info(id).map(Located::Symbol),
            _ => None,
        })
    }

    /// Whether `receiver.name` can exist for a receiver of the type that `type_name` means in the file at `path`.
    pub fn member(&self, path: &Path, type_name: &str, name: &str) -> Member {
        let path = crate::index::normalize(path);
        let Some(file) = self.file_by_path(&path).and_then(|id| self.file(id)) else {
            return Member::Unknown;
        };
        let Some(symbols) = &file.symbols else { return Member::Unknown };
        let resolver = Resolver::new(self, Importer { path: &file.path, language: file.language, symbols });
        let types = known(resolver.name(type_name)).unwrap_or_default();
        let answers: Vec<Found> = types.iter().map(|id| self.find_in_type(*id, name)).collect();
        let exists = answers.iter().find_map(|found| match found {
            Found::Exists(id) => self.info(*id),
            _ => None,
        });
        match exists {
            Some(info) => Member::Exists(info),
            // Two definitions of one type name: which one is meant is not known.
            None if answers.len() == 1 && matches!(answers[0], Found::Missing) => Member::Missing,
            None => Member::Unknown,
        }
    }

    /// A member of a type or of its supertypes, the nearest first.
    fn find_in_type(&self, id: SymbolId, name: &str) -> Found {
        let mut pending = vec![id];
        let mut seen: Vec<SymbolId> = Vec::new();
        let mut complete = true;
        while let Some(id) = pending.pop() {
            if seen.contains(&id) {
                continue;
            }
            seen.push(id);
            let Some((file, symbols, symbol)) = self.symbol(id) else { continue };
            for member in resolve::members(self, id) {
                if self.symbol(member).is_some_and(|(_, symbols, symbol)| symbols.name(symbol) == name) {
                    return Found::Exists(member);
                }
            }
            complete &= seen.len() < MAX_BASES && is_closed(self, id, name);
            let resolver =
                Resolver::new(self, Importer { path: &file.path, language: file.language, symbols });
            for base in symbols.bases_of(id.symbol) {
                let base = base.rsplit('.').next().unwrap_or(base);
                match known(resolver.name(base)) {
                    Some(ids) if ids.len() == 1 && ids[0] != id => pending.extend(ids),
                    _ => complete &= base == "object" && symbol.kind == SymbolKind::Class,
                }
            }
        }
        if complete { Found::Missing } else { Found::Unknown }
    }
}

/// A guess by uniqueness is no knowledge.
fn known(found: Option<(Vec<SymbolId>, Via)>) -> Option<Vec<SymbolId>> {
    found.filter(|(_, via)| *via != Via::Unimported).map(|(ids, _)| ids)
}

/// Whether a type has, besides its supertypes', only the members that the index saw.
fn is_closed(snapshot: &Snapshot, id: SymbolId, name: &str) -> bool {
    let Some((file, symbols, symbol)) = snapshot.symbol(id) else { return false };
    let head = symbols.text(symbol.signature);
    match file.language.family() {
        Family::Python => {
            let dynamic = |member: &SymbolId| {
                let hooks = ["__getattr__", "__getattribute__", "__setattr__", "__slots__"];
                snapshot
                    .symbol(*member)
                    .is_some_and(|(_, symbols, symbol)| hooks.contains(&symbols.name(symbol)))
            };
            let decorated = head.lines().any(|line| line.starts_with('@') && !line.starts_with("@dataclass"));
            symbol.kind == SymbolKind::Class
                && !name.starts_with("__")
                && !decorated
                && !head.contains("metaclass")
                && !resolve::members(snapshot, id).iter().any(dynamic)
        }
        Family::EcmaScript => {
            let inherited =
                ["constructor", "toString", "valueOf", "hasOwnProperty", "toLocaleString", "isPrototypeOf"];
            // Interfaces merge, and plain JavaScript adds members anywhere.
            let is_typescript = matches!(file.language, crate::Language::TypeScript | crate::Language::Tsx);
            is_typescript
                && symbol.kind == SymbolKind::Class
                && !inherited.contains(&name)
                && !head.contains('@')
        }
        // Extension methods, traits, preprocessor and inherited universal members: not known to be closed.
        Family::Rust
        | Family::Jvm
        | Family::C
        | Family::Go
        | Family::DotNet
        | Family::Ruby
        | Family::Php
        | Family::Swift
        | Family::Lua
        | Family::Shell => false,
    }
}
