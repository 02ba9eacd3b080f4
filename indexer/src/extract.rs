//! Syntax tree -> [`FileSymbols`]: runs the language's query level by level, never inside function bodies.

use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};
use streaming_iterator::StreamingIterator;
use tree_sitter::{Node, QueryCursor, Tree};

use crate::{
    Language, attributes, doc_comment,
    imports::tree::import_tree,
    outline::Source,
    query::{Capture, SymbolQuery},
    signature,
    symbols::{FileSymbols, Import, ImportKind, NO_PARENT, Span, Symbol, SymbolKind},
    syntax,
};

/// Beyond these a file is generated data; what comes later in it is left out.
const MAX_SYMBOLS: usize = 20_000;
const MAX_IMPORTS: usize = 4_000;
/// Nesting of definitions that is followed; real code stays under 10.
const MAX_DEPTH: usize = 48;
/// Macros within macros that are read, as each is parsed anew.
const MAX_MACROS: usize = 4;

/// Reads symbols and imports. Broken code yields what the parser could make of it.
///
/// `tree` is that of what the source's parser sees.
pub(crate) fn extract(language: Language, tree: &Tree, source: Source<'_>) -> FileSymbols {
    thread_local! {
        static CURSOR: std::cell::RefCell<QueryCursor> = std::cell::RefCell::new(QueryCursor::new());
    }
    let mut builder = Builder::new(language, source);
    CURSOR.with_borrow_mut(|cursor| {
        cursor.set_max_start_depth(Some(1));
        cursor.set_match_limit(4096);
        let root = tree.root_node();
        builder.visit_all(
            cursor,
            Visit { node: root, parent: NO_PARENT, owner: Span::default(), attributes: false, depth: 0 },
        );
    });
    builder.finish()
}

/// A node whose children are searched for definitions.
struct Visit<'tree> {
    node: Node<'tree>,
    parent: u32,
    owner: Span,
    /// Only members set in a constructor count here.
    attributes: bool,
    depth: usize,
}

/// What the matches say about one node.
#[derive(Default)]
struct Facts<'tree> {
    node: Option<Node<'tree>>,
    kind: Option<SymbolKind>,
    member: bool,
    attribute: bool,
    names: Vec<Node<'tree>>,
    body: Option<Node<'tree>>,
    until: Option<usize>,
    attributes: Option<Node<'tree>>,
    owner: Option<Node<'tree>>,
    bases: Vec<Node<'tree>>,
    doc: Option<Node<'tree>>,
    decorators: Vec<Node<'tree>>,
    prefix: Option<&'static str>,
}

struct Builder<'a> {
    language: Language,
    source: Rc<Source<'a>>,
    /// Macros around what is being read.
    macros: usize,
    arena: String,
    symbols: Vec<Symbol>,
    bases: Vec<(u32, Span)>,
    imports: Vec<Import>,
    /// Imports by where they are stated, as several patterns may match one statement.
    import_nodes: FxHashMap<(usize, usize), usize>,
    package: Span,
    attribute_names: FxHashSet<(u32, &'a str)>,
    in_macros: Vec<u32>,
}

impl<'a> Builder<'a> {
    fn new(language: Language, source: Source<'a>) -> Self {
        Self {
            language,
            source: Rc::new(source),
            macros: 0,
            arena: String::new(),
            symbols: Vec::new(),
            bases: Vec::new(),
            imports: Vec::new(),
            import_nodes: FxHashMap::default(),
            package: Span::default(),
            attribute_names: FxHashSet::default(),
            in_macros: Vec::new(),
        }
    }

    fn slice(&self, node: Node<'_>) -> &'a str {
        self.source.text.get(self.source.range(node)).unwrap_or("")
    }

    fn intern(&mut self, text: &str) -> Span {
        let start = self.arena.len() as u32;
        self.arena.push_str(text);
        Span { start, length: text.len() as u32 }
    }

    fn visit_all<'tree>(&mut self, cursor: &mut QueryCursor, visit: Visit<'tree>) {
        let query = self.language.symbol_query();
        let mut pending = vec![visit];
        while let Some(visit) = pending.pop() {
            let first = pending.len();
            self.visit(cursor, query, &visit, &mut pending);
            // Last in, first out: keep source order.
            pending[first..].reverse();
        }
    }

    /// Reads what a macro is called with as if it stood there without the macro, where it begins like an item.
    fn visit_items(&mut self, cursor: &mut QueryCursor, arguments: Node<'_>, from: &Visit<'_>) {
        let text = self.source.text;
        let range = self.source.range(arguments);
        let inside = range.start + 1..range.end.saturating_sub(1);
        let Some(items) = text.get(inside.clone()).filter(|items| begins_item(items)) else { return };
        if self.macros >= MAX_MACROS || from.depth >= MAX_DEPTH || self.symbols.len() >= MAX_SYMBOLS {
            return;
        }
        let first_line = self.source.line(arguments);
        let outline = Source::outline(self.language, items).and_then(|outline| {
            let tree = syntax::parse_str(self.language, outline.parsed())?;
            (!tree.root_node().has_error()).then_some((outline, tree))
        });
        let whole = || Some((Source::whole(items), syntax::parse_str(self.language, items)?));
        let Some((source, tree)) = outline.or_else(whole) else { return };
        let around =
            std::mem::replace(&mut self.source, Rc::new(source.within(text, inside.start, first_line)));
        self.macros += 1;
        let (parent, owner) = (from.parent, from.owner);
        let node = tree.root_node();
        self.visit_all(cursor, Visit { node, parent, owner, attributes: false, depth: from.depth + 1 });
        self.macros -= 1;
        self.source = around;
    }

    fn visit<'tree>(
        &mut self,
        cursor: &mut QueryCursor,
        query: &'static SymbolQuery,
        visit: &Visit<'tree>,
        pending: &mut Vec<Visit<'tree>>,
    ) {
        let mut order: Vec<usize> = Vec::new();
        let mut facts: FxHashMap<usize, Facts<'tree>> = FxHashMap::default();
        let mut descend: Vec<Node<'tree>> = Vec::new();
        let mut items: Vec<Node<'tree>> = Vec::new();
        let source = Rc::clone(&self.source);
        let mut matches = cursor.matches(&query.query, visit.node, source.parsed().as_bytes());
        while let Some(found) = matches.next() {
            let mut fact = Facts::default();
            let mut import = ImportFacts::default();
            for capture in found.captures {
                let node = capture.node;
                match query.captures[capture.index as usize] {
                    Capture::Definition(kind) => (fact.node, fact.kind) = (Some(node), Some(kind)),
                    Capture::MemberDefinition => {
                        (fact.node, fact.kind, fact.member) = (Some(node), Some(SymbolKind::Field), true);
                    }
                    Capture::AttributeDefinition => {
                        (fact.node, fact.kind, fact.attribute) = (Some(node), Some(SymbolKind::Field), true);
                    }
                    Capture::About => fact.node = Some(node),
                    Capture::Name => fact.names.push(node),
                    Capture::Body => (fact.body, fact.until) = (Some(node), Some(node.start_byte())),
                    Capture::Until => fact.until = Some(node.start_byte()),
                    Capture::Attributes => fact.attributes = Some(node),
                    Capture::Owner => fact.owner = Some(node),
                    Capture::Base => fact.bases.push(node),
                    Capture::Doc => fact.doc = Some(node),
                    Capture::Decorator => fact.decorators.push(node),
                    Capture::Descend => {
                        if node.id() != visit.node.id() && !descend.contains(&node) {
                            descend.push(node);
                        }
                    }
                    Capture::Package => {
                        if self.package.is_empty() {
                            self.package = self.intern(self.slice(node));
                        } else if self.language == Language::Scala {
                            // `package a.b` and below it `package c`: the package `a.b.c`.
                            let end = (self.package.start + self.package.length) as usize;
                            let outer = self.arena[self.package.start as usize..end].to_owned();
                            self.package = self.intern(&format!("{outer}.{}", self.slice(node)));
                        }
                    }
                    Capture::ImportSource => import.source = Some(node),
                    Capture::ImportName => import.name = Some(node),
                    Capture::ImportAlias => import.alias = Some(node),
                    Capture::ImportDefault => {
                        (import.alias, import.kind) = (Some(node), Some(ImportKind::Default))
                    }
                    Capture::ImportAll => import.kind = Some(ImportKind::All),
                    Capture::ImportModule => {
                        (import.source, import.kind) = (Some(node), Some(ImportKind::Module));
                    }
                    Capture::ExportDefault => self.default_export(node),
                    Capture::ImportTree => self.import_tree(node),
                    Capture::Items => items.push(node),
                    Capture::Predicate => {}
                }
            }
            if !visit.attributes {
                self.import(&import);
            }
            fact.prefix = query.prefixes[found.pattern_index].as_deref();
            match fact.node {
                Some(node) => {
                    let known = facts.entry(node.id()).or_insert_with(|| {
                        order.push(node.id());
                        Facts::default()
                    });
                    merge(known, fact);
                }
                // An implementation block: its members belong to the type it names.
                None => {
                    if let (Some(owner), Some(body)) = (fact.owner, fact.body) {
                        let owner = self.intern(self.slice(owner));
                        self.push(pending, visit, body, NO_PARENT, owner, false);
                    } else if let Some(body) = fact.attributes {
                        self.push(pending, visit, body, visit.parent, Span::default(), true);
                    }
                }
            }
        }
        drop(matches);

        let mut types: Vec<(std::ops::Range<usize>, u32)> = Vec::new();
        // Those that are part of another definition come after it.
        order.sort_by_key(|id| facts.get(id).is_some_and(|fact| fact.member));
        for id in order {
            let Some(fact) = facts.remove(&id) else { continue };
            let (Some(node), Some(kind)) = (fact.node, fact.kind) else { continue };
            if fact.attribute != visit.attributes {
                continue;
            }
            let parent = match fact.member {
                true => {
                    let inside = |range: &std::ops::Range<usize>| range.contains(&node.start_byte());
                    types
                        .iter()
                        .rev()
                        .find(|(range, _)| inside(range))
                        .map_or(visit.parent, |(_, index)| *index)
                }
                false => visit.parent,
            };
            let mut defined = parent;
            for name in &fact.names {
                if let Some(index) = self.define(visit, node, kind, parent, *name, &fact) {
                    defined = index;
                    types.push((node.byte_range(), index));
                }
            }
            if let Some(body) = fact.body {
                self.push(pending, visit, body, defined, Span::default(), false);
            }
            if let Some(body) = fact.attributes {
                self.push(pending, visit, body, visit.parent, Span::default(), true);
            }
        }
        for node in items {
            self.visit_items(cursor, node, visit);
        }
        for node in descend {
            self.push(pending, visit, node, visit.parent, visit.owner, visit.attributes);
        }
    }

    fn push<'tree>(
        &self,
        pending: &mut Vec<Visit<'tree>>,
        from: &Visit<'tree>,
        node: Node<'tree>,
        parent: u32,
        owner: Span,
        attributes: bool,
    ) {
        let orphan = attributes && parent == NO_PARENT;
        if !orphan && from.depth < MAX_DEPTH && self.symbols.len() < MAX_SYMBOLS {
            pending.push(Visit { node, parent, owner, attributes, depth: from.depth + 1 });
        }
    }

    fn define(
        &mut self,
        visit: &Visit<'_>,
        node: Node<'_>,
        kind: SymbolKind,
        parent: u32,
        name_node: Node<'_>,
        fact: &Facts<'_>,
    ) -> Option<u32> {
        let name = self.slice(name_node).trim_matches(['"', '\'', '`', ':', '@']);
        if name.is_empty() || name.len() > 200 || self.symbols.len() >= MAX_SYMBOLS {
            return None;
        }
        if fact.attribute && !self.attribute_names.insert((parent, name)) {
            return None;
        }
        let parent_kind = self.symbols.get(parent as usize).map(|symbol| symbol.kind);
        let in_type =
            parent_kind.is_some_and(SymbolKind::is_type) || !visit.owner.is_empty() || fact.owner.is_some();
        let kind = match kind {
            SymbolKind::Function if in_type => SymbolKind::Method,
            SymbolKind::Variable if in_type => SymbolKind::Field,
            kind => kind,
        };
        if kind == SymbolKind::Field && !fact.attribute && parent_kind.is_some_and(SymbolKind::is_type) {
            self.attribute_names.insert((parent, name));
        }
        let range = self.source.range(node);
        let until = fact.until.filter(|until| *until > node.start_byte());
        let until = until.map_or(range.end, |until| self.source.offset(until));
        let head = self.source.text.get(range.start..until).unwrap_or("");
        let mut written = String::new();
        for decorator in &fact.decorators {
            signature::push_decorator(&mut written, self.slice(*decorator));
        }
        if let Some(prefix) = fact.prefix {
            written.push_str(prefix);
        }
        signature::push(&mut written, self.language, kind, head);
        let mut doc = String::new();
        match fact.doc {
            Some(node) => doc_comment::push_docstring(&mut doc, self.slice(node)),
            None => doc_comment::push_before(
                &mut doc,
                self.language,
                self.source.text.get(..range.start).unwrap_or(""),
            ),
        }
        let owner = fact.owner.map(|node| self.slice(node));

        let index = self.symbols.len() as u32;
        let name = self.intern(name);
        let signature = self.intern(&written);
        let doc = self.intern(&doc);
        let owner = match owner {
            Some(owner) => self.intern(owner),
            None => visit.owner,
        };
        for base in &fact.bases {
            let span = self.intern(self.slice(*base));
            self.bases.push((index, span));
        }
        let is_made = || self.macros > 0 || self.language == Language::Rust && self.has_macro_attribute(node);
        if (kind.is_type() || kind == SymbolKind::Constant) && is_made() {
            self.in_macros.push(index);
        }
        self.symbols.push(Symbol {
            name,
            signature,
            doc,
            owner,
            start: range.start as u32,
            end: range.end as u32,
            line: self.source.line(name_node),
            parent,
            kind,
        });
        Some(index)
    }

    /// Whether an attribute in front of an item in Rust is a macro, or derives what none of Rust's own is.
    fn has_macro_attribute(&self, item: Node<'_>) -> bool {
        let mut before = item.prev_named_sibling();
        while let Some(node) = before {
            match node.kind() {
                "attribute_item" if attributes::is_macro(self.slice(node)) => return true,
                "attribute_item" | "line_comment" | "block_comment" => before = node.prev_named_sibling(),
                _ => return false,
            }
        }
        false
    }

    fn import(&mut self, facts: &ImportFacts<'_>) {
        let Some(source) = facts.source else { return };
        if self.imports.len() >= MAX_IMPORTS {
            return;
        }
        let key = (
            self.source.offset(source.start_byte()),
            facts
                .name
                .or(facts.alias.filter(|_| facts.kind.is_some()))
                .map_or(usize::MAX, |node| self.source.offset(node.start_byte())),
        );
        let known = self.import_nodes.get(&key).copied();
        let index = match known {
            Some(index) => index,
            None => {
                let written = self.slice(source).trim_matches(['"', '\'', '`', '<', '>']);
                let import = Import {
                    source: self.intern(written),
                    name: Span::default(),
                    alias: Span::default(),
                    kind: ImportKind::One,
                    line: self.source.line(source),
                };
                self.import_nodes.insert(key, self.imports.len());
                self.imports.push(import);
                self.imports.len() - 1
            }
        };
        if let Some(name) = facts.name {
            self.imports[index].name = self.intern(self.slice(name));
        }
        if let Some(alias) = facts.alias {
            self.imports[index].alias = self.intern(self.slice(alias));
        }
        if let Some(kind) = facts.kind {
            self.imports[index].kind = kind;
        }
    }

    fn default_export(&mut self, name: Node<'_>) {
        if self.imports.len() < MAX_IMPORTS {
            let import = Import {
                source: Span::default(),
                name: self.intern(self.slice(name)),
                alias: self.intern("default"),
                kind: ImportKind::One,
                line: self.source.line(name),
            };
            self.imports.push(import);
        }
    }

    fn import_tree(&mut self, node: Node<'_>) {
        let line = self.source.line(node);
        for binding in import_tree(self.language, self.slice(node)) {
            if self.imports.len() >= MAX_IMPORTS {
                return;
            }
            let import = Import {
                source: self.intern(&binding.source),
                name: self.intern(&binding.name),
                alias: self.intern(&binding.alias),
                kind: if binding.all { ImportKind::All } else { ImportKind::One },
                line,
            };
            self.imports.push(import);
        }
    }

    fn finish(mut self) -> FileSymbols {
        self.adopt_members();
        FileSymbols {
            lines: bytecount_lines(self.source.text),
            arena: self.arena.into_boxed_str(),
            symbols: self.symbols.into_boxed_slice(),
            bases: self.bases.into_boxed_slice(),
            imports: self.imports.into_boxed_slice(),
            package: self.package,
            in_macros: self.in_macros.into_boxed_slice(),
            words: crate::words::distinct_hashes(self.source.text),
        }
    }

    /// Members defined outside of their type become its children where the type is in the same file.
    fn adopt_members(&mut self) {
        if self.symbols.iter().all(|symbol| symbol.owner.is_empty()) {
            return;
        }
        let text = |span: Span| &self.arena[span.start as usize..(span.start + span.length) as usize];
        let mut types: FxHashMap<&str, u32> = FxHashMap::default();
        for (index, symbol) in (0u32..).zip(&self.symbols) {
            if symbol.kind.is_type() {
                types.entry(text(symbol.name)).or_insert(index);
            }
        }
        let adopted: Vec<Option<u32>> = self
            .symbols
            .iter()
            .map(|symbol| match symbol.owner.is_empty() {
                true => None,
                false => types.get(text(symbol.owner)).copied(),
            })
            .collect();
        for (symbol, parent) in self.symbols.iter_mut().zip(adopted) {
            if let Some(parent) = parent {
                symbol.parent = parent;
                symbol.owner = Span::default();
            }
        }
    }
}

#[derive(Default)]
struct ImportFacts<'tree> {
    source: Option<Node<'tree>>,
    name: Option<Node<'tree>>,
    alias: Option<Node<'tree>>,
    kind: Option<ImportKind>,
}

/// Adds the facts of another match about the same node. Of two kinds the more telling one wins.
fn merge<'tree>(known: &mut Facts<'tree>, new: Facts<'tree>) {
    known.node = new.node;
    let weak = |kind: SymbolKind| matches!(kind, SymbolKind::Type | SymbolKind::Variable);
    known.kind = match (known.kind, new.kind) {
        (Some(old), Some(new)) if weak(new) => Some(old),
        (old, new) => new.or(old),
    };
    known.member |= new.member;
    known.attribute |= new.attribute;
    for name in new.names {
        if !known.names.contains(&name) {
            known.names.push(name);
        }
    }
    known.body = known.body.or(new.body);
    known.until = match (known.until, new.until) {
        (Some(old), Some(new)) => Some(old.min(new)),
        (old, new) => old.or(new),
    };
    known.attributes = known.attributes.or(new.attributes);
    known.owner = known.owner.or(new.owner);
    for base in new.bases {
        if !known.bases.contains(&base) {
            known.bases.push(base);
        }
    }
    known.doc = known.doc.or(new.doc);
    for decorator in new.decorators {
        if !known.decorators.contains(&decorator) {
            known.decorators.push(decorator);
        }
    }
    known.prefix = known.prefix.or(new.prefix);
}

/// Whether what a macro is called with begins like an item of Rust, attributes and comments aside.
fn begins_item(text: &str) -> bool {
    let mut rest = text.trim_start();
    loop {
        let behind = if rest.starts_with("//") {
            rest.split_once('\n').map(|(_, behind)| behind)
        } else if rest.starts_with("/*") {
            rest.split_once("*/").map(|(_, behind)| behind)
        } else if rest.starts_with("#[") {
            rest.split_once(']').map(|(_, behind)| behind.trim_start_matches([')', ']']))
        } else {
            break;
        };
        let Some(behind) = behind else { return false };
        rest = behind.trim_start();
    }
    let word = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
    let starts = [
        "pub",
        "fn",
        "struct",
        "enum",
        "union",
        "trait",
        "impl",
        "mod",
        "use",
        "const",
        "static",
        "type",
        "unsafe",
        "async",
        "extern",
        "macro_rules",
    ];
    starts.contains(&word) || (!word.is_empty() && rest[word.len()..].starts_with("! {"))
}

fn bytecount_lines(text: &str) -> u32 {
    let breaks = text.bytes().filter(|byte| *byte == b'\n').count();
    (breaks + usize::from(!text.is_empty() && !text.ends_with('\n'))) as u32
}
