//! What a name or a type's member refers to, asked from outside: go-to-definition, and the member check.
//!
//! The member check answers "missing" only where every supertype is known and the language gives a type no members
//! behind the index's back; in all other cases it does not know.

use std::{ops::Range, path::Path};

use tree_sitter::{Node, Tree};

mod field;
mod go;
mod java;
mod list;
mod receiver;
mod rust;

use crate::{
    Language, Snapshot, SymbolInfo,
    imports::Importer,
    index::{FileId, SymbolId},
    language::Family,
    resolve::{self, Resolved, Resolver, Via},
    symbols::{SymbolKind, name_hash},
    words::{is_word, words},
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

/// An access to a member that its receiver's type cannot have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingMember {
    /// Of the member's name, bytes of the text.
    pub range: Range<usize>,
    /// The type's name, or the package's as it is written.
    pub type_name: String,
}

/// What the accesses of a text come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberCheck {
    /// Accesses whose receiver's type is known, so that its members are.
    pub known: Vec<Range<usize>>,
    pub missing: Vec<MissingMember>,
}

/// Supertypes followed.
const MAX_BASES: usize = 64;
/// What files are known to say leaves out shorter names.
const MIN_NAME_LENGTH: usize = 2;
/// Subtypes that are looked at, and accesses of one text.
const MAX_SUBTYPES: usize = 200;
const MAX_ACCESSES: usize = 4000;

/// What every value has in TypeScript, and every class as a function: no declaration says it.
const UNIVERSAL: [&str; 12] = [
    "constructor",
    "toString",
    "valueOf",
    "hasOwnProperty",
    "toLocaleString",
    "isPrototypeOf",
    "prototype",
    "name",
    "length",
    "call",
    "apply",
    "bind",
];

enum Found {
    Exists(SymbolId),
    Missing,
    Unknown,
}

/// Whether an access is one that can be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Offer {
    Exists,
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

    /// Looks at the accesses within `part` of a text that the file at `path` may come to have, `tree` being the text's:
    /// which of them ask a type of the workspace, or a package, for a member that it cannot have. Beyond [`Self::member`] it
    /// takes any mention of the name for a sign that the member may exist, in the text or in the files of the types above
    /// and below.
    pub fn check_members(&self, path: &Path, text: &str, tree: &Tree, part: Range<usize>) -> MemberCheck {
        let mut check = MemberCheck::default();
        let path = crate::index::normalize(path);
        let Some(file) = self.file_by_path(&path).and_then(|id| self.file(id)) else { return check };
        let Some(symbols) = &file.symbols else { return check };
        if !is_checked(file.language) {
            return check;
        }
        let resolver = Resolver::new(self, Importer { path: &file.path, language: file.language, symbols });
        let mut pending: Vec<Node<'_>> = vec![tree.root_node()];
        let mut cursor = tree.walk();
        let mut left = MAX_ACCESSES;
        while let Some(node) = pending.pop().filter(|_| left > 0) {
            let range = node.byte_range();
            if range.end <= part.start || range.start >= part.end {
                continue;
            }
            pending.extend(node.children(&mut cursor));
            let Some(access) = receiver::access(node) else { continue };
            if !part.contains(&access.name.start_byte()) {
                continue;
            }
            left -= 1;
            let name = &text[access.name.byte_range()];
            let Some((written, offer)) = self.offer(&resolver, text, &access, name, &path) else { continue };
            let is_missing = offer == Offer::Missing
                && name.len() >= MIN_NAME_LENGTH
                && name.bytes().all(is_word)
                && !is_said_elsewhere(text, access.name.start_byte(), name);
            if is_missing || offer == Offer::Exists {
                check.known.push(access.name.byte_range());
            }
            if is_missing {
                let type_name = written.to_owned();
                check.missing.push(MissingMember { range: access.name.byte_range(), type_name });
            }
        }
        check.known.sort_by_key(|range| range.start);
        check.missing.sort_by_key(|missing| missing.range.start);
        check
    }

    /// Whether an access's receiver has a member of that name, and how its type or package is written.
    fn offer<'a>(
        &'a self,
        resolver: &Resolver<'a>,
        text: &'a str,
        access: &receiver::Access<'_>,
        name: &str,
        own: &Path,
    ) -> Option<(&'a str, Offer)> {
        if let Some(files) = package_of(resolver, text, access) {
            let offer = if self.exports(&files, name)? { Offer::Exists } else { Offer::Missing };
            return Some((&text[access.receiver.byte_range()], offer));
        }
        if resolver.importer.language.family() == Family::Rust {
            return self.offer_of_rust(resolver, text, access, name, own);
        }
        let (written, id) = type_of(resolver, text, access)?;
        let offer = match self.find_in_type(id, name) {
            Found::Exists(_) => Offer::Exists,
            Found::Missing
                if !has_local_subclass(resolver, text, written) && !self.may_have(id, name, own) =>
            {
                Offer::Missing
            }
            Found::Missing | Found::Unknown => Offer::Unknown,
        };
        Some((written, offer))
    }

    fn offer_of_rust<'a>(
        &'a self,
        resolver: &Resolver<'a>,
        text: &'a str,
        access: &receiver::Access<'_>,
        name: &str,
        own: &Path,
    ) -> Option<(&'a str, Offer)> {
        let file = self.file_by_path(resolver.importer.path)?;
        let (id, behind) = rust::Typing { snapshot: self, file, text }.type_of(access.receiver)?;
        let (_, symbols, symbol) = self.symbol(id)?;
        let offer = match rust::names(self, id, behind, file) {
            Some(names) if names.iter().any(|other| other == name) => Offer::Exists,
            Some(_) if !rust::may_have(self, id, name, own) => Offer::Missing,
            Some(_) | None => Offer::Unknown,
        };
        Some((symbols.name(symbol), offer))
    }

    /// Whether a package's files offer a name to others; `None` where not all of it was read.
    fn exports(&self, files: &[FileId], name: &str) -> Option<bool> {
        let mut exports = false;
        for id in files {
            let symbols = self.file(*id)?.symbols.as_ref()?;
            exports |= symbols.top_level(name).next().is_some();
        }
        exports &= go::is_exported(name);
        (exports || go::is_whole(self, files)).then_some(exports)
    }

    /// Whether the type may have a member that the index does not see: the files of its supertypes and subtypes, `own`
    /// apart, say the name at all, or a subtype, whose members a value of the type may have, is not fully known.
    fn may_have(&self, id: SymbolId, name: &str, own: &Path) -> bool {
        let hash = name_hash(name);
        let says = |id: &SymbolId| {
            self.symbol(*id).is_some_and(|(file, symbols, _)| *file.path != *own && symbols.has_word(hash))
        };
        let Some(subtypes) = self.subtypes(id, MAX_SUBTYPES) else { return true };
        subtypes.into_iter().any(|subtype| {
            !matches!(self.find_in_type(subtype, name), Found::Missing)
                || self.supertypes(subtype).iter().any(says)
        })
    }

    /// A type and those below it, whose values are its own; `None` where there are more than `most`.
    fn subtypes(&self, id: SymbolId, most: usize) -> Option<Vec<SymbolId>> {
        let mut found = vec![id];
        // A Go type that holds another one is none of its kind, and in Java a value has what its declared type has.
        if self.symbol(id)?.0.language.family() == Family::Go || self.is_java(id) {
            return Some(found);
        }
        let mut at = 0;
        while let Some(id) = found.get(at).copied() {
            at += 1;
            let (file, symbols, symbol) = self.symbol(id)?;
            let (family, name) = (file.language.family(), symbols.name(symbol));
            for (other, file) in (0u32..).zip(&self.files) {
                let Some(file) = file.as_ref().filter(|file| file.language.family() == family) else {
                    continue;
                };
                let Some(symbols) = file.symbols.as_ref().filter(|symbols| symbols.has_word(name_hash(name)))
                else {
                    continue;
                };
                for (symbol, base) in &symbols.bases {
                    let base = symbols.text(*base);
                    let is_below = base == name || base.rsplit('.').next() == Some(name);
                    let subtype = SymbolId { file: other, symbol: *symbol };
                    if is_below && !found.contains(&subtype) {
                        found.push(subtype);
                    }
                }
                if found.len() > most {
                    return None;
                }
            }
        }
        Some(found)
    }

    /// A type and those above it, as far as they are in the workspace.
    fn supertypes(&self, id: SymbolId) -> Vec<SymbolId> {
        let mut found = vec![id];
        let mut at = 0;
        while let Some(id) = found.get(at).copied().filter(|_| found.len() < MAX_BASES) {
            at += 1;
            let Some((file, symbols, _)) = self.symbol(id) else { continue };
            let resolver =
                Resolver::new(self, Importer { path: &file.path, language: file.language, symbols });
            let bases: Vec<SymbolId> = match self.is_java(id) {
                true => java::bases(self, id).0,
                false => symbols.bases_of(id.symbol).flat_map(|base| bases_named(&resolver, base)).collect(),
            };
            for id in bases {
                if !found.contains(&id) {
                    found.push(id);
                }
            }
        }
        found
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
            for member in resolve::members(self, id) {
                if self.symbol(member).is_some_and(|(_, symbols, symbol)| symbols.name(symbol) == name) {
                    return Found::Exists(member);
                }
            }
            let (bases, is_all) = self.bases(id);
            // In Go what a type holds without a name is named after its type.
            if let Some(base) = bases.iter().find(|base| self.embedded(**base) == Some(name)) {
                return Found::Exists(*base);
            }
            complete = complete && is_all && seen.len() < MAX_BASES && is_closed(self, id, name);
            pending.extend(bases);
        }
        if complete { Found::Missing } else { Found::Unknown }
    }

    /// The name of the member that a base is; `None` where bases are none.
    fn embedded(&self, base: SymbolId) -> Option<&str> {
        let (file, symbols, symbol) = self.symbol(base)?;
        (file.language.family() == Family::Go).then(|| symbols.name(symbol))
    }

    fn is_java(&self, id: SymbolId) -> bool {
        self.symbol(id).is_some_and(|(file, _, _)| file.language == Language::Java)
    }

    /// The supertypes that a type names, and whether all of them are known.
    fn bases(&self, id: SymbolId) -> (Vec<SymbolId>, bool) {
        let Some((file, symbols, symbol)) = self.symbol(id) else { return (Vec::new(), false) };
        if self.is_java(id) {
            return java::bases(self, id);
        }
        let resolver = Resolver::new(self, Importer { path: &file.path, language: file.language, symbols });
        let (mut bases, mut is_all) = (Vec::new(), true);
        for base in symbols.bases_of(id.symbol) {
            match bases_named(&resolver, base)[..] {
                [only] if only != id => bases.push(only),
                _ => is_all &= base.rsplit('.').next() == Some("object") && symbol.kind == SymbolKind::Class,
            }
        }
        (bases, is_all)
    }
}

/// What a supertype's name means where it is written.
fn bases_named(resolver: &Resolver<'_>, base: &str) -> Vec<SymbolId> {
    if resolver.importer.language.family() == Family::Go {
        return go::named(resolver, base).into_iter().collect();
    }
    known(resolver.name(base.rsplit('.').next().unwrap_or(base))).unwrap_or_default()
}

/// Whether the language's receivers are understood.
fn is_checked(language: Language) -> bool {
    matches!(language.family(), Family::Python | Family::EcmaScript | Family::Go | Family::Rust)
        || language == Language::Java
}

/// The files of the package that an access's receiver is the name of.
fn package_of(resolver: &Resolver<'_>, text: &str, access: &receiver::Access<'_>) -> Option<Vec<FileId>> {
    match resolver.importer.language.family() {
        Family::Go => go::package(resolver, text, access.receiver),
        _ => None,
    }
}

/// The type of an access's receiver, as it is written and as it is defined, where there is one definition.
fn type_of<'a>(
    resolver: &Resolver<'a>,
    text: &'a str,
    access: &receiver::Access<'_>,
) -> Option<(&'a str, SymbolId)> {
    if resolver.importer.language.family() == Family::Go {
        let id = go::type_of(resolver, text, access.receiver)?;
        let (_, symbols, symbol) = resolver.snapshot.symbol(id)?;
        return Some((symbols.name(symbol), id));
    }
    if resolver.importer.language == Language::Java {
        let id = java::Typing { resolver, text }.type_of(access.receiver)?;
        let (_, symbols, symbol) = resolver.snapshot.symbol(id)?;
        return Some((symbols.name(symbol), id));
    }
    let written = receiver::receiver(resolver.importer.language.family(), text, access)?;
    Some((written, only(resolver.name(written))?))
}

/// Whether a class within a function, which the index does not know, may be derived from `name`, and a value of that be asked.
fn has_local_subclass(resolver: &Resolver<'_>, text: &str, name: &str) -> bool {
    if resolver.importer.language == Language::Java {
        return false;
    }
    let is_local = |line: &str| {
        let head = line.trim_start();
        head.len() < line.len()
            && head.starts_with("class ")
            && words(head).skip(2).any(|word| word.text == name)
    };
    text.lines().any(is_local)
}

/// Whether a text has the name in another place too: it may define there what the index does not know.
fn is_said_elsewhere(text: &str, at: usize, name: &str) -> bool {
    words(text).any(|word| word.text == name && word.start != at)
}

/// The one definition that is known.
fn only(found: Option<(Vec<SymbolId>, Via)>) -> Option<SymbolId> {
    known(found).filter(|ids| ids.len() == 1).map(|ids| ids[0])
}

/// A guess by uniqueness is no knowledge.
fn known(found: Option<(Vec<SymbolId>, Via)>) -> Option<Vec<SymbolId>> {
    found.filter(|(_, via)| *via != Via::Unimported).map(|(ids, _)| ids)
}

/// Whether a type has, besides its supertypes', only the members that the index saw.
fn is_closed(snapshot: &Snapshot, id: SymbolId, name: &str) -> bool {
    let Some((file, symbols, symbol)) = snapshot.symbol(id) else { return false };
    let head = symbols.text(symbol.signature);
    // What stands for compiled code need not say all of it.
    if [".pyi", ".d.ts"].iter().any(|end| file.relative.ends_with(end)) {
        return false;
    }
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
                && !["setattr", "__dict__"].iter().any(|word| symbols.has_word(name_hash(word)))
                && !name.starts_with("__")
                && !decorated
                && !head.contains("metaclass")
                && !resolve::members(snapshot, id).iter().any(dynamic)
        }
        Family::EcmaScript => {
            // Interfaces merge, and plain JavaScript adds members anywhere.
            let is_typescript = matches!(file.language, crate::Language::TypeScript | crate::Language::Tsx);
            is_typescript
                && symbol.kind == SymbolKind::Class
                && !UNIVERSAL.contains(&name)
                && !head.contains('@')
        }
        // All methods of a type stand in its package.
        Family::Go => {
            matches!(symbol.kind, SymbolKind::Struct | SymbolKind::Interface)
                && go::is_read(snapshot, file.directory())
        }
        Family::Jvm => file.language == Language::Java && java::is_closed(snapshot, id, name),
        // `rust::names` knows what is.
        Family::Rust => false,
        // Extension methods, preprocessor and inherited universal members: not known to be closed.
        Family::C
        | Family::DotNet
        | Family::Ruby
        | Family::Php
        | Family::Swift
        | Family::Lua
        | Family::Shell => false,
    }
}
