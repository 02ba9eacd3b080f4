//! A language's symbol query, compiled: what each capture of `queries/*.scm` stands for.
//!
//! A match states facts about a node: `@definition.KIND` (with `@name`) makes it a symbol; `@about` adds facts to
//! a node that another pattern makes a symbol. `@body` is searched for members, `@descend` for siblings,
//! `@attributes` (a constructor's body) for `@definition.attribute` only. `@until` ends the signature.
//! `@owner` names the type that a definition outside of it belongs to; `@base` a supertype. `@import.*` see
//! [`crate::imports`]. `@items` is text that is read as items of its own. Captures that begin with `_` serve predicates.

use tree_sitter::{Language, Query};

use crate::symbols::SymbolKind;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Capture {
    Definition(SymbolKind),
    /// A member of the definition around it, such as a record's parameter.
    MemberDefinition,
    /// A member set in a constructor's body, such as `self.x = 1`.
    AttributeDefinition,
    About,
    Name,
    Body,
    Until,
    Attributes,
    Descend,
    Owner,
    Base,
    Doc,
    Decorator,
    Package,
    ImportSource,
    ImportName,
    ImportAlias,
    /// The binding of a default import.
    ImportDefault,
    ImportAll,
    /// What a file exports as its default, by name: kept as an import of that name from the file itself.
    ExportDefault,
    /// A Rust use tree.
    ImportTree,
    /// A module declared here and defined in a file of its own.
    ImportModule,
    /// In brackets: what a macro is called with, where that reads as items.
    Items,
    Predicate,
}

pub(crate) struct SymbolQuery {
    pub query: Query,
    pub captures: Vec<Capture>,
    /// By pattern: what to write before the signature (a keyword that the node itself does not contain).
    pub prefixes: Vec<Option<Box<str>>>,
}

impl SymbolQuery {
    /// # Panics
    /// When a query file of this crate does not fit its grammar: a defect that a test catches.
    pub fn compile(grammar: Language, pieces: &[&str]) -> Self {
        let mut source = pieces.join("\n");
        // Broken code: whatever the parser could read inside an error is read as if the error were not there.
        source.push_str("\n(ERROR) @descend\n");
        let query = match Query::new(&grammar, &source) {
            Ok(query) => query,
            Err(error) => panic!("a symbol query does not compile: {error}"),
        };
        let captures = query.capture_names().iter().map(|name| capture(name)).collect();
        let prefixes = (0..query.pattern_count())
            .map(|pattern| {
                let settings = query.property_settings(pattern);
                settings
                    .iter()
                    .find(|property| &*property.key == "prefix")
                    .and_then(|property| property.value.clone())
            })
            .collect();
        Self { query, captures, prefixes }
    }
}

fn capture(name: &str) -> Capture {
    if let Some(kind) = name.strip_prefix("definition.") {
        return match kind {
            "member" => Capture::MemberDefinition,
            "attribute" => Capture::AttributeDefinition,
            kind => match SymbolKind::from_name(kind) {
                Some(kind) => Capture::Definition(kind),
                None => panic!("a symbol query has an unknown kind of definition: {kind}"),
            },
        };
    }
    match name {
        "about" => Capture::About,
        "name" => Capture::Name,
        "body" => Capture::Body,
        "until" => Capture::Until,
        "attributes" => Capture::Attributes,
        "descend" => Capture::Descend,
        "owner" => Capture::Owner,
        "base" => Capture::Base,
        "doc" => Capture::Doc,
        "decorator" => Capture::Decorator,
        "package" => Capture::Package,
        "import.source" => Capture::ImportSource,
        "import.name" => Capture::ImportName,
        "import.alias" => Capture::ImportAlias,
        "import.default" => Capture::ImportDefault,
        "import.all" => Capture::ImportAll,
        "export.default" => Capture::ExportDefault,
        "import.tree" => Capture::ImportTree,
        "import.module" => Capture::ImportModule,
        "items" => Capture::Items,
        name if name.starts_with('_') => Capture::Predicate,
        name => panic!("a symbol query has an unknown capture: @{name}"),
    }
}
