//! What type a value has in Rust, as declarations say it: those of parameters and variables in scope, of fields, and of what
//! functions give back, through references, boxes, options, results and collections. Any doubt is no answer.

use tree_sitter::Node;

mod library;
mod standard;
mod types;
mod written;

pub(super) use self::types::{Behind, may_have, names};
use self::{
    types::{
        Asked, Place, Written, field_of_pattern, member, named, numbered_field, type_id, type_of_member,
    },
    written::{head, tuple},
};
use super::receiver::MAX_NODES;
use crate::{
    Snapshot,
    index::{FileId, SymbolId},
    symbols::SymbolKind,
};

/// Links of `a.b().c` that are followed, and variables that variables are made from.
const MOST_STEPS: usize = 12;

/// A text, and the file that it is of.
pub(super) struct Typing<'a> {
    pub snapshot: &'a Snapshot,
    pub file: FileId,
    pub text: &'a str,
}

/// What a pattern takes out of a value.
enum Taken<'a> {
    /// Of `Some(name)` and the like: the path, and which one.
    Numbered(&'a str, usize),
    /// Of `Type { field: name }`.
    Named(&'a str, &'a str),
    OfTuple(usize),
}

/// Where a name is bound, and by what.
struct Bound<'tree> {
    identifier: Node<'tree>,
    /// `let`, a parameter, a loop and the like.
    by: Node<'tree>,
}

impl<'a> Typing<'a> {
    /// The type whose member an access asks for, and behind what: `value.name` or `Type::name`.
    pub fn type_of(&self, receiver: Node<'_>) -> Option<(SymbolId, Behind)> {
        let is_path = receiver
            .parent()
            .is_some_and(|parent| matches!(parent.kind(), "scoped_identifier" | "scoped_type_identifier"));
        if is_path {
            return Some((self.type_named(receiver, self.text(receiver))?, Behind::Path));
        }
        Some((self.id(&self.value(receiver, MOST_STEPS)?)?, Behind::Dot))
    }

    fn text(&self, node: Node<'_>) -> &'a str {
        &self.text[node.byte_range()]
    }

    fn id(&self, written: &Written) -> Option<SymbolId> {
        type_id(self.snapshot, written)
    }

    /// A type that is written at a node of the text.
    fn written(&self, at: Node<'_>, text: &str) -> Option<Written> {
        let text = text.trim();
        let has = |parameters: Node<'_>, name: &str| {
            let mut cursor = parameters.walk();
            parameters.named_children(&mut cursor).any(|parameter| {
                let declared =
                    parameter.child_by_field_name("name").or_else(|| parameter.child_by_field_name("left"));
                self.text(declared.unwrap_or(parameter)) == name
            })
        };
        let path = head(text).map_or("", |(path, _)| path);
        let mut around = Some(at);
        while let Some(node) = around {
            if node.child_by_field_name("type_parameters").is_some_and(|parameters| has(parameters, path)) {
                return None;
            }
            around = node.parent();
        }
        Some(Written { text: text.to_owned(), place: Place { file: self.file, own: self.own_type(at) } })
    }

    /// What `Self` is at a node.
    fn own_type(&self, at: Node<'_>) -> Option<SymbolId> {
        let mut around = at;
        loop {
            around = around.parent()?;
            match around.kind() {
                "impl_item" => {
                    let path = head(self.text(around.child_by_field_name("type")?))?.0;
                    let place = Place { file: self.file, own: None };
                    return self.id(&Written { text: path.to_owned(), place });
                }
                "trait_item" | "struct_item" | "enum_item" | "union_item" => {
                    let name = around.child_by_field_name("name")?;
                    return named(self.snapshot, self.file, self.text(name));
                }
                _ => {}
            }
        }
    }

    fn type_named(&self, at: Node<'_>, path: &str) -> Option<SymbolId> {
        // A box has functions of its own.
        if head(path).is_some_and(|(path, _)| standard::is_box(path)) {
            return None;
        }
        // `Type::<Argument>`.
        self.id(&self.written(at, &path.replace("::<", "<"))?)
    }

    fn value(&self, node: Node<'_>, steps: usize) -> Option<Written> {
        let steps = steps.checked_sub(1)?;
        let part = |field| node.child_by_field_name(field);
        match node.kind() {
            "self" => self.receiver(node),
            "identifier" => match self.local(node)? {
                Some(bound) => self.bound(&bound, steps),
                None => self.item(node, self.text(node)),
            },
            "parenthesized_expression" => self.value(node.named_child(0)?, steps),
            "reference_expression" => self.value(part("value")?, steps),
            "unary_expression" if self.text(node).starts_with('*') => self.value(node.named_child(0)?, steps),
            "type_cast_expression" => self.written(node, self.text(part("type")?)),
            "try_expression" => {
                let written = self.value(node.named_child(0)?, steps)?;
                standard::tried(&written.text).map(|text| written.part(text))
            }
            "await_expression" => {
                let written = self.value(node.named_child(0)?, steps)?;
                standard::awaited(&written.text).map(|text| written.part(text))
            }
            "index_expression" => {
                let index = node.named_child(1)?;
                let written = self.value(node.named_child(0)?, steps)?;
                let is_part = index.kind() == "range_expression";
                (!is_part).then(|| standard::indexed(&written.text).map(|text| written.part(text))).flatten()
            }
            "struct_expression" => {
                let name = part("name")?;
                let path = self.text(name);
                match self.variant(name, path) {
                    Some((_, owner)) => Some(self.whole(owner)),
                    None => self.written(name, path),
                }
            }
            "field_expression" => self.field(&self.value(part("value")?, steps)?, self.text(part("field")?)),
            "scoped_identifier" => {
                let path = self.text(node);
                if let Some((_, owner)) = self.variant(node, path) {
                    return Some(self.whole(owner));
                }
                let Some(owner) = part("path").and_then(|path| self.type_named(path, self.text(path))) else {
                    return self.item(node, path);
                };
                let constant = member(self.snapshot, owner, self.text(part("name")?), Asked::Path)?;
                let (_, _, symbol) = self.snapshot.symbol(constant)?;
                (symbol.kind == SymbolKind::Constant)
                    .then(|| type_of_member(self.snapshot, owner, constant))
                    .flatten()
            }
            "call_expression" => self.call(node, steps),
            _ => None,
        }
    }

    /// The type of `self`, which may be said: `self: Pin<&mut Self>`.
    fn receiver(&self, node: Node<'_>) -> Option<Written> {
        let mut around = node.parent()?;
        while around.kind() != "function_item" {
            around = around.parent()?;
        }
        let parameters = around.child_by_field_name("parameters")?;
        let mut cursor = parameters.walk();
        let said = parameters.named_children(&mut cursor).find_map(|parameter| {
            let pattern = parameter.child_by_field_name("pattern")?;
            (self.text(pattern) == "self").then(|| parameter.child_by_field_name("type")).flatten()
        });
        self.written(node, said.map_or("Self", |written| self.text(written)))
    }

    /// A type of the workspace as itself.
    fn whole(&self, id: SymbolId) -> Written {
        Written { text: "Self".to_owned(), place: Place { file: id.file, own: Some(id) } }
    }

    /// The type of a constant.
    fn item(&self, node: Node<'_>, path: &str) -> Option<Written> {
        let id = named(self.snapshot, self.file, path)?;
        let (_, symbols, symbol) = self.snapshot.symbol(id)?;
        match symbol.kind {
            // What a macro keeps for each thread is asked through a key.
            SymbolKind::Constant
                if symbols.is_top_level(symbol) && !symbols.in_macros.contains(&id.symbol) =>
            {
                type_of_member(self.snapshot, id, id)
            }
            // `Unit`, which is its own value.
            SymbolKind::Struct => self.written(node, path),
            _ => None,
        }
    }

    fn field(&self, written: &Written, name: &str) -> Option<Written> {
        if let Ok(index) = name.parse::<usize>() {
            if let Some(parts) = tuple(&written.text) {
                return Some(written.part(parts.get(index)?));
            }
            let id = self.id(written)?;
            return numbered_field(self.snapshot, id, id, index);
        }
        let owner = self.id(written)?;
        type_of_member(self.snapshot, owner, member(self.snapshot, owner, name, Asked::Field)?)
    }

    /// A variant that a path names, and its enum.
    fn variant(&self, at: Node<'_>, path: &str) -> Option<(SymbolId, SymbolId)> {
        let (owner, name) = path.rsplit_once("::")?;
        let owner = self.type_named(at, owner)?;
        let found = member(self.snapshot, owner, name, Asked::Path)?;
        let (_, _, symbol) = self.snapshot.symbol(found)?;
        (symbol.kind == SymbolKind::Variant).then_some((found, owner))
    }

    fn call(&self, node: Node<'_>, steps: usize) -> Option<Written> {
        let mut function = node.child_by_field_name("function")?;
        if function.kind() == "generic_function" {
            function = function.child_by_field_name("function")?;
        }
        let part = |field| function.child_by_field_name(field);
        let argument = || self.value(node.child_by_field_name("arguments")?.named_child(0)?, steps);
        match function.kind() {
            "field_expression" => {
                let receiver = self.value(part("value")?, steps)?;
                self.method(&receiver, self.text(part("field")?))
            }
            "identifier" => {
                if self.local(function)?.is_some() {
                    return None;
                }
                let name = self.text(function);
                if matches!(name, "Some" | "Ok") {
                    let written = argument()?;
                    let container = if name == "Some" { "Option" } else { "Result" };
                    return Some(written.part(&format!("{container}<{}>", written.text)));
                }
                if name == "Self" {
                    return self.written(function, name);
                }
                self.called(function, name)
            }
            "scoped_identifier" => {
                let (path, name) = (part("path")?, self.text(part("name")?));
                if let Some((_, owner)) = self.variant(function, self.text(function)) {
                    return Some(self.whole(owner));
                }
                if standard::is_box(self.text(path)) && name == "new" {
                    return argument();
                }
                let Some(owner) = self.type_named(path, self.text(path)) else {
                    return self.called(function, self.text(function));
                };
                match member(self.snapshot, owner, name, Asked::Function) {
                    Some(found) => type_of_member(self.snapshot, owner, found),
                    None if matches!(name, "default" | "from") => self.written(path, self.text(path)),
                    None => None,
                }
            }
            _ => None,
        }
    }

    /// What a function that stands in no type gives back, or the struct that is made like a call.
    fn called(&self, at: Node<'_>, path: &str) -> Option<Written> {
        let id = named(self.snapshot, self.file, path)?;
        let (_, symbols, symbol) = self.snapshot.symbol(id)?;
        match symbol.kind {
            SymbolKind::Function if symbols.is_top_level(symbol) => {
                let written = type_of_member(self.snapshot, id, id)?;
                Some(Written { place: Place { file: id.file, own: None }, ..written })
            }
            SymbolKind::Struct => self.written(at, path),
            _ => None,
        }
    }

    fn method(&self, receiver: &Written, name: &str) -> Option<Written> {
        let Some(owner) = self.id(receiver) else {
            return standard::method(&receiver.text, name).map(|text| receiver.part(&text));
        };
        match member(self.snapshot, owner, name, Asked::Function) {
            Some(found) => type_of_member(self.snapshot, owner, found),
            None if matches!(name, "clone" | "to_owned") => Some(receiver.clone()),
            None => None,
        }
    }

    /// Where a name is bound that is used within a function. The outer `None` says that there is too much to look at, or that it
    /// cannot be told.
    fn local<'tree>(&self, used: Node<'tree>) -> Option<Option<Bound<'tree>>> {
        let name = self.text(used);
        let mut function = used.parent();
        while let Some(node) = function.filter(|node| node.kind() != "function_item") {
            function = node.parent();
        }
        let Some(function) = function else { return Some(None) };
        let mut found: Option<Bound<'tree>> = None;
        let mut cursor = function.walk();
        let mut pending = vec![function];
        let mut left = MAX_NODES;
        while let Some(node) = pending.pop() {
            left -= 1;
            if left == 0 {
                return None;
            }
            if node.start_byte() >= used.start_byte() {
                continue;
            }
            let is_name = matches!(node.kind(), "identifier" | "shorthand_field_identifier");
            if is_name
                && self.text(node) == name
                && let Some(by) = binder(node)?
                && holds(by, node, used)
                && found.as_ref().is_none_or(|other| other.identifier.start_byte() < node.start_byte())
            {
                found = Some(Bound { identifier: node, by });
            }
            pending.extend(node.children(&mut cursor));
        }
        Some(found)
    }

    /// The type of what a name is bound to.
    fn bound(&self, bound: &Bound<'_>, steps: usize) -> Option<Written> {
        let by = bound.by;
        let mut taken: Vec<Taken<'a>> = Vec::new();
        let mut node = bound.identifier;
        while let Some(parent) = node.parent().filter(|parent| parent.id() != by.id()) {
            match parent.kind() {
                "tuple_struct_pattern" => {
                    let path = self.text(parent.child_by_field_name("type")?);
                    taken.push(Taken::Numbered(path, index_in(parent, node)?));
                }
                "tuple_pattern" => taken.push(Taken::OfTuple(index_in(parent, node)?)),
                "struct_pattern" => {
                    let path = self.text(parent.child_by_field_name("type")?);
                    let name = node.child_by_field_name("name").unwrap_or(node);
                    taken.push(Taken::Named(path, self.text(name)));
                }
                "mut_pattern" | "ref_pattern" | "reference_pattern" | "field_pattern" | "match_pattern" => {}
                "captured_pattern" if parent.start_byte() == node.start_byte() => {}
                _ => return None,
            }
            node = parent;
        }
        // What the innermost pattern names says it all.
        let says_type = |taken: &Taken<'_>| match taken {
            Taken::OfTuple(_) | Taken::Numbered("Some" | "Ok" | "Err", _) => false,
            Taken::Numbered(..) | Taken::Named(..) => true,
        };
        let (mut written, left) = match taken.iter().position(says_type) {
            Some(at) => (self.named_part(by, &taken[at])?, at),
            None => (self.bound_value(by, steps)?, taken.len()),
        };
        for step in taken[..left].iter().rev() {
            written = match step {
                Taken::OfTuple(index) => written.part(tuple(&written.text)?.get(*index)?),
                Taken::Numbered(path, 0) => written.part(standard::inside(&written.text, path)?),
                Taken::Numbered(..) | Taken::Named(..) => return None,
            };
        }
        Some(written)
    }

    /// The type of the whole value that a pattern is for.
    fn bound_value(&self, by: Node<'_>, steps: usize) -> Option<Written> {
        let part = |field| by.child_by_field_name(field);
        match by.kind() {
            "parameter" => self.written(by, self.text(part("type")?)),
            "let_declaration" => match part("type") {
                Some(written) => self.written(by, self.text(written)),
                None => self.value(part("value")?, steps),
            },
            "let_condition" => self.value(part("value")?, steps),
            "for_expression" => {
                let over = self.value(part("value")?, steps)?;
                standard::element(&over.text).map(|element| over.part(&element))
            }
            "match_arm" => self.value(by.parent()?.parent()?.child_by_field_name("value")?, steps),
            _ => None,
        }
    }

    /// The type of a part that a pattern names with the type that it is of.
    fn named_part(&self, at: Node<'_>, taken: &Taken<'_>) -> Option<Written> {
        let of = |path| match self.variant(at, path) {
            Some(found) => Some(found),
            None => self.type_named(at, path).map(|id| (id, id)),
        };
        match taken {
            Taken::OfTuple(_) => None,
            Taken::Numbered(path, index) => {
                let (of, owner) = of(path)?;
                numbered_field(self.snapshot, owner, of, *index)
            }
            Taken::Named(path, name) => {
                let (of, owner) = of(path)?;
                field_of_pattern(self.snapshot, owner, of, name)
            }
        }
    }
}

/// Which of a pattern's parts a node is; `None` behind `..`, which stands for any number.
fn index_in(pattern: Node<'_>, part: Node<'_>) -> Option<usize> {
    let mut cursor = pattern.walk();
    let before = pattern.children(&mut cursor).take_while(|node| node.start_byte() < part.start_byte());
    let kinds: Vec<&str> = before.map(|node| node.kind()).collect();
    let is_told = !kinds.contains(&"remaining_field_pattern") && !kinds.contains(&"..");
    is_told.then(|| kinds.iter().filter(|kind| **kind == ",").count())
}

/// What an identifier is bound by, where it stands in a pattern. The outer `None` says that it may be bound by what is still being
/// typed.
fn binder(identifier: Node<'_>) -> Option<Option<Node<'_>>> {
    let mut node = identifier;
    loop {
        let Some(parent) = node.parent() else { return Some(None) };
        let is = |field: &str| parent.child_by_field_name(field).is_some_and(|one| one.id() == node.id());
        match parent.kind() {
            "parameter" | "let_declaration" | "let_condition" | "for_expression" | "match_arm" => {
                return Some(is("pattern").then_some(parent));
            }
            "closure_parameters" => return Some(Some(parent)),
            "match_pattern" if is("condition") => return Some(None),
            "tuple_struct_pattern" | "struct_pattern" if is("type") => return Some(None),
            "field_pattern" if is("name") && parent.child_by_field_name("pattern").is_some() => {
                return Some(None);
            }
            "match_pattern" => {}
            kind if kind.ends_with("_pattern") => {}
            "ERROR" if node.id() != identifier.id() => return None,
            _ => return Some(None),
        }
        node = parent;
    }
}

/// Whether a name that is bound means that where it is used.
fn holds(by: Node<'_>, identifier: Node<'_>, used: Node<'_>) -> bool {
    let at = used.start_byte();
    let around = |kinds: &[&str]| {
        let mut node = by.parent();
        while let Some(one) = node.filter(|one| !kinds.contains(&one.kind())) {
            node = one.parent();
        }
        node
    };
    match by.kind() {
        "let_declaration" => {
            at >= by.end_byte() && by.parent().is_some_and(|block| block.byte_range().contains(&at))
        }
        "let_condition" => {
            let Some(scope) = around(&["if_expression", "while_expression", "match_arm", "ERROR"]) else {
                return false;
            };
            let is_else = scope
                .child_by_field_name("alternative")
                .is_some_and(|other| other.byte_range().contains(&at));
            at >= by.end_byte() && scope.byte_range().contains(&at) && !is_else
        }
        "parameter" | "closure_parameters" => around(&["function_item", "closure_expression"])
            .is_some_and(|scope| scope.byte_range().contains(&at)),
        "for_expression" => {
            by.child_by_field_name("body").is_some_and(|body| body.byte_range().contains(&at))
        }
        // A pattern of several, of which each binds the name, is the first one's.
        "match_arm" => at >= identifier.end_byte() && by.byte_range().contains(&at),
        _ => false,
    }
}
