//! What the index keeps of one file: its symbols and imports. Compact, immutable, without pointers.
//!
//! Strings live in one arena a file; symbols and imports hold spans of it.

use std::{hash::Hasher, ops::Range};

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SymbolKind {
    Class,
    Struct,
    Enum,
    Interface,
    Trait,
    Type,
    Function,
    Method,
    Constructor,
    Field,
    Property,
    Variant,
    Constant,
    Variable,
    Macro,
    Module,
    Namespace,
    /// A trait implemented for a type: a member of the type, named by the trait.
    Implementation,
}

impl SymbolKind {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "class" => Self::Class,
            "struct" => Self::Struct,
            "enum" => Self::Enum,
            "interface" => Self::Interface,
            "trait" => Self::Trait,
            "type" => Self::Type,
            "function" => Self::Function,
            "method" => Self::Method,
            "constructor" => Self::Constructor,
            "field" => Self::Field,
            "property" => Self::Property,
            "variant" => Self::Variant,
            "constant" => Self::Constant,
            "variable" => Self::Variable,
            "macro" => Self::Macro,
            "module" => Self::Module,
            "namespace" => Self::Namespace,
            "implementation" => Self::Implementation,
            _ => return None,
        })
    }

    /// The word for people.
    pub fn noun(self) -> &'static str {
        match self {
            Self::Class => "class",
            Self::Struct => "struct",
            Self::Enum => "enum",
            Self::Interface => "interface",
            Self::Trait => "trait",
            Self::Type => "type",
            Self::Function => "function",
            Self::Method => "method",
            Self::Constructor => "constructor",
            Self::Field => "field",
            Self::Property => "property",
            Self::Variant => "variant",
            Self::Constant => "constant",
            Self::Variable => "variable",
            Self::Macro => "macro",
            Self::Module => "module",
            Self::Namespace => "namespace",
            Self::Implementation => "implementation",
        }
    }

    /// A type whose members matter to whoever uses it.
    pub fn is_type(self) -> bool {
        matches!(self, Self::Class | Self::Struct | Self::Enum | Self::Interface | Self::Trait | Self::Type)
    }

    pub fn is_callable(self) -> bool {
        matches!(self, Self::Function | Self::Method | Self::Constructor | Self::Macro)
    }

    /// A scope that only qualifies names: what is inside it is top-level to its users.
    pub(crate) fn is_namespace(self) -> bool {
        matches!(self, Self::Namespace | Self::Module)
    }
}

/// Part of a [`FileSymbols`]' arena.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Span {
    pub start: u32,
    pub length: u32,
}

impl Span {
    pub fn is_empty(self) -> bool {
        self.length == 0
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Symbol {
    pub name: Span,
    pub signature: Span,
    pub doc: Span,
    /// The type a definition outside of it belongs to (Go receivers, Rust impls); empty inside a type.
    pub owner: Span,
    /// Bytes of the definition in the file.
    pub start: u32,
    pub end: u32,
    /// Of the name, counted from 0.
    pub line: u32,
    /// Index of the enclosing symbol, or [`NO_PARENT`].
    pub parent: u32,
    pub kind: SymbolKind,
}

pub(crate) const NO_PARENT: u32 = u32::MAX;

impl Symbol {
    pub fn range(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// One imported binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Import {
    /// The module as written, without quotes: `.models`, `./store`, `crate::store`, `java.util.List`.
    pub source: Span,
    /// The imported name; empty: the module itself.
    pub name: Span,
    /// The local name where it differs.
    pub alias: Span,
    pub kind: ImportKind,
    /// Counted from 0.
    pub line: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ImportKind {
    /// `name` of `source`, or `source` itself.
    One,
    /// Every public name of `source`.
    All,
    /// The default export of `source`.
    Default,
    /// A module declared here, defined in a file of its own (`mod x;`).
    Module,
}

/// Symbols and imports of one file.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileSymbols {
    pub arena: Box<str>,
    pub symbols: Box<[Symbol]>,
    /// Supertypes: symbol index and the written name.
    pub bases: Box<[(u32, Span)]>,
    pub imports: Box<[Import]>,
    /// Package or namespace, where the language has one.
    pub package: Span,
    /// Types and constants in what a macro is called with, or in Rust with an attribute that is one: they may have members that
    /// nobody sees.
    pub in_macros: Box<[u32]>,
    pub lines: u32,
    /// Hashes of the identifiers that the file uses, sorted, each once: which files name something, without their text.
    pub words: Box<[u32]>,
}

impl FileSymbols {
    pub fn text(&self, span: Span) -> &str {
        let start = span.start as usize;
        self.arena.get(start..start + span.length as usize).unwrap_or("")
    }

    pub fn name(&self, symbol: &Symbol) -> &str {
        self.text(symbol.name)
    }

    pub fn package(&self) -> &str {
        self.text(self.package)
    }

    pub fn parent(&self, symbol: &Symbol) -> Option<&Symbol> {
        self.symbols.get(symbol.parent as usize)
    }

    /// Whether users name it without naming a type first: at the top, or inside namespaces only.
    pub fn is_top_level(&self, symbol: &Symbol) -> bool {
        let mut current = symbol;
        // Parents come before their members, so the walk ends; the bound guards against a damaged cache.
        for _ in 0..64 {
            if !current.owner.is_empty() {
                return false;
            }
            match self.parent(current) {
                None => return true,
                Some(parent) if parent.kind.is_namespace() => current = parent,
                Some(_) => return false,
            }
        }
        false
    }

    /// Whether other files can name it without naming a type first: top-level symbols, and C's enumerators, which
    /// are names of the scope around their enum.
    pub fn is_addressable(&self, symbol: &Symbol) -> bool {
        if symbol.kind == SymbolKind::Variant {
            return self.parent(symbol).is_some_and(|parent| {
                let head = self.text(parent.signature);
                head.starts_with("typedef") || (head.starts_with("enum") && !head.starts_with("enum class"))
            });
        }
        self.is_top_level(symbol)
    }

    /// Top-level symbols of that name, in source order.
    pub fn top_level<'a>(&'a self, name: &'a str) -> impl Iterator<Item = u32> + 'a {
        let hash_matches = move |symbol: &Symbol| self.name(symbol) == name && self.is_top_level(symbol);
        (0u32..)
            .zip(self.symbols.iter())
            .filter(move |(_, symbol)| hash_matches(symbol))
            .map(|(index, _)| index)
    }

    /// Whether the file uses the identifier with that [`name_hash`].
    pub fn has_word(&self, hash: u32) -> bool {
        self.words.binary_search(&hash).is_ok()
    }

    /// Direct members in source order.
    pub fn members(&self, parent: u32) -> impl Iterator<Item = (u32, &Symbol)> {
        (0u32..).zip(self.symbols.iter()).filter(move |(_, symbol)| symbol.parent == parent)
    }

    pub fn bases_of(&self, symbol: u32) -> impl Iterator<Item = &str> {
        self.bases.iter().filter(move |(index, _)| *index == symbol).map(|(_, span)| self.text(*span))
    }

    /// The name that an import binds in its file; `None` for those that bind many.
    pub fn local_name(&self, import: &Import) -> Option<&str> {
        let written = if !import.alias.is_empty() {
            self.text(import.alias)
        } else if !import.name.is_empty() {
            self.text(import.name)
        } else if import.kind == ImportKind::All {
            return None;
        } else {
            let source = self.text(import.source);
            source.rsplit(['.', '/', ':', '\\']).next().unwrap_or(source)
        };
        Some(written).filter(|name| !name.is_empty())
    }

    /// `a.B.c` in the manner of the language's own separator.
    pub fn qualified_name(&self, symbol: &Symbol, separator: &str) -> String {
        let mut parts = vec![self.name(symbol)];
        let mut current = symbol;
        for _ in 0..64 {
            if !current.owner.is_empty() {
                parts.push(self.text(current.owner));
            }
            match self.parent(current) {
                Some(parent) => {
                    parts.push(self.name(parent));
                    current = parent;
                }
                None => break,
            }
        }
        parts.reverse();
        parts.join(separator)
    }

    /// Bytes held, for the memory figure.
    pub fn heap_bytes(&self) -> usize {
        self.arena.len()
            + size_of_val(&*self.symbols)
            + size_of_val(&*self.bases)
            + size_of_val(&*self.imports)
            + size_of_val(&*self.in_macros)
            + size_of_val(&*self.words)
    }
}

/// The hash by which names are found; stable across runs, as it is kept on disk.
pub(crate) fn name_hash(name: &str) -> u32 {
    let mut hasher = rustc_hash::FxHasher::default();
    hasher.write(name.as_bytes());
    let hash = hasher.finish();
    (hash ^ (hash >> 32)) as u32
}
