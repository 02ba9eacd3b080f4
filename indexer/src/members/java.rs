//! What type a value has in Java, as declarations say it: those of variables and parameters in scope, of fields, and of what
//! methods give back. Any doubt is no answer.

use tree_sitter::Node;

mod library;
mod types;
mod written;

pub(super) use self::types::{UNWRITTEN, added, bases, is_closed, members};
use self::{
    types::{Asked, declared_type, member, named, own_member, result_type},
    written::{type_name, type_parameters},
};
use super::receiver::MAX_NODES;
use crate::{Snapshot, index::SymbolId, resolve::Resolver};

/// Links of `a.b().c` that are followed, and variables that variables are made from.
const MOST_STEPS: usize = 6;

/// A text, and what its names mean.
pub(super) struct Typing<'r, 'a> {
    pub resolver: &'r Resolver<'a>,
    pub text: &'a str,
}

impl<'a> Typing<'_, 'a> {
    /// The type of a value, or the type that a name itself is of.
    pub fn type_of(&self, node: Node<'_>) -> Option<SymbolId> {
        self.value(node, MOST_STEPS)
    }

    fn snapshot(&self) -> &'a Snapshot {
        self.resolver.snapshot
    }

    fn text(&self, node: Node<'_>) -> &'a str {
        &self.text[node.byte_range()]
    }

    fn value(&self, node: Node<'_>, steps: usize) -> Option<SymbolId> {
        let steps = steps.checked_sub(1)?;
        let part = |field| node.child_by_field_name(field);
        match node.kind() {
            "identifier" => self.named_value(node, steps),
            "this" => self.class_around(node),
            "parenthesized_expression" => self.value(node.named_child(0)?, steps),
            "cast_expression" => self.written(part("type")?),
            "object_creation_expression" => {
                let mut cursor = node.walk();
                let has_body = node.named_children(&mut cursor).any(|child| child.kind() == "class_body");
                // `outer.new Inner()` names a type of its value's.
                let is_plain = !has_body && node.child(0).is_some_and(|first| first.kind() == "new");
                is_plain.then(|| self.written(part("type")?)).flatten()
            }
            "field_access" => {
                let (object, field) = (part("object")?, part("field")?);
                if field.kind() != "identifier" {
                    return None;
                }
                let name = self.text(field);
                if object.kind() == "this" {
                    return self.field_of(body_around(node)?, name, steps)?;
                }
                let owner = self.value(object, steps)?;
                match self.member(owner, name, Asked::Field) {
                    Some(field) => declared_type(self.snapshot(), field),
                    None => self.member(owner, name, Asked::Type),
                }
            }
            "method_invocation" => {
                let (name, count) = (self.text(part("name")?), part("arguments")?.named_child_count());
                let object = part("object").filter(|object| object.kind() != "this");
                if let Some(object) = object {
                    let found = self.member(self.value(object, steps)?, name, Asked::Method(count))?;
                    return result_type(self.snapshot(), found);
                }
                let mut body = body_around(node)?;
                loop {
                    if let Some(result) = self.method_of(body, name, count) {
                        return result;
                    }
                    body = body_around(body).filter(|_| part("object").is_none())?;
                }
            }
            _ => None,
        }
    }

    /// The type of a variable or a field, or the type of that name.
    fn named_value(&self, used: Node<'_>, steps: usize) -> Option<SymbolId> {
        let name = self.text(used);
        let mut inner = used;
        let mut around = used.parent()?;
        loop {
            if is_body(around.kind()) {
                // `inner` is the member of a class that the name stands in.
                if let Some(declaration) = self.local(inner, used, name)? {
                    return self.declared_here(declaration, steps);
                }
                if let Some(field) = self.field_of(around, name, steps) {
                    return field;
                }
            }
            inner = around;
            match around.parent() {
                Some(parent) => around = parent,
                None => break,
            }
        }
        name.starts_with(char::is_uppercase).then(|| self.named_type(used, name)).flatten()
    }

    /// The declaration of a variable within `member` that a name means where it is used. The outer `None` says that there is too
    /// much to look at, or more than scopes tell.
    fn local<'tree>(&self, member: Node<'tree>, used: Node<'_>, name: &str) -> Option<Option<Node<'tree>>> {
        let mut found = None;
        let mut cursor = member.walk();
        let mut pending = vec![member];
        let mut left = MAX_NODES;
        while let Some(node) = pending.pop() {
            left -= 1;
            if left == 0 {
                return None;
            }
            let is_other_body = is_body(node.kind()) && !node.byte_range().contains(&used.start_byte());
            if node.start_byte() >= used.start_byte() || is_other_body {
                continue;
            }
            if node.kind() == "identifier" && self.text(node) == name {
                match binding(node)? {
                    Bound::No => {}
                    Bound::In(scope) if scope.byte_range().contains(&used.start_byte()) => {
                        // Two at once: what was typed last may be in pieces.
                        if found.is_some() {
                            return None;
                        }
                        found = Some(node);
                    }
                    Bound::In(_) => {}
                }
            }
            pending.extend(node.children(&mut cursor));
        }
        Some(found)
    }

    /// The type of a field of the class in the text that has this body; the outer `None` where there is none. The text says it of its own classes, not the index: what it
    /// saw of them while a line was typed may be in pieces.
    fn field_of(&self, body: Node<'_>, name: &str, steps: usize) -> Option<Option<SymbolId>> {
        if let Some(declaration) = self.own_field(body, name) {
            return Some(self.declared_here(declaration, steps));
        }
        self.inherited(body, name, Asked::Field).map(|field| declared_type(self.snapshot(), field))
    }

    /// What a method of such a class gives back; the outer `None` where there is none.
    fn method_of(&self, body: Node<'_>, name: &str, count: usize) -> Option<Option<SymbolId>> {
        let mut cursor = body.walk();
        let is_it = |method: &Node<'_>| {
            let part = |field| method.child_by_field_name(field);
            method.kind() == "method_declaration"
                && part("name").is_some_and(|node| self.text(node) == name)
                && part("parameters").is_some_and(|parameters| takes(parameters, count))
        };
        let methods: Vec<Node<'_>> = body.named_children(&mut cursor).filter(is_it).collect();
        let Some(first) = methods.first() else {
            return self
                .inherited(body, name, Asked::Method(count))
                .map(|id| result_type(self.snapshot(), id));
        };
        let given = |method: &Node<'_>| method.child_by_field_name("type").map(|node| self.text(node));
        let is_one = methods.iter().all(|method| given(method) == given(first));
        Some(first.child_by_field_name("type").filter(|_| is_one).and_then(|node| self.written(node)))
    }

    /// A member that the class in the text with this body has of the types above it.
    fn inherited(&self, body: Node<'_>, name: &str, asked: Asked) -> Option<SymbolId> {
        let class = body.parent()?;
        let mut cursor = class.walk();
        let heads = ["superclass", "super_interfaces", "extends_interfaces"];
        let mut types: Vec<Node<'_>> = Vec::new();
        match class.kind() {
            "object_creation_expression" => types.extend(class.child_by_field_name("type")),
            _ => {
                for head in class.named_children(&mut cursor).filter(|child| heads.contains(&child.kind())) {
                    let mut inner = head.walk();
                    let parts: Vec<Node<'_>> = head.named_children(&mut inner).collect();
                    for part in parts {
                        let mut innermost = part.walk();
                        match part.kind() {
                            "type_list" => types.extend(part.named_children(&mut innermost)),
                            _ => types.push(part),
                        }
                    }
                }
            }
        }
        types.into_iter().find_map(|written| self.member(self.written(written)?, name, asked))
    }

    /// The field, or component of a record, that a class in the text declares.
    fn own_field<'tree>(&self, body: Node<'tree>, name: &str) -> Option<Node<'tree>> {
        let class = body.parent()?;
        let mut cursor = body.walk();
        let fields = body
            .named_children(&mut cursor)
            .filter(|child| matches!(child.kind(), "field_declaration" | "constant_declaration"));
        let mut declarators = Vec::new();
        for field in fields {
            let mut inner = field.walk();
            declarators.extend(field.children_by_field_name("declarator", &mut inner));
        }
        let declared = |node: &Node<'tree>| {
            let identifier = node.child_by_field_name("name")?;
            (self.text(identifier) == name).then_some(identifier)
        };
        if let Some(identifier) = declarators.iter().find_map(declared) {
            return Some(identifier);
        }
        let components =
            class.child_by_field_name("parameters").filter(|_| class.kind() == "record_declaration")?;
        components.named_children(&mut cursor).find_map(|component| declared(&component))
    }

    /// The type that a declaration in the text gives its variable.
    fn declared_here(&self, identifier: Node<'_>, steps: usize) -> Option<SymbolId> {
        let declarator = identifier.parent()?;
        // `Type name[]`.
        if declarator.child_by_field_name("dimensions").is_some() {
            return None;
        }
        let declaration = match declarator.kind() {
            "variable_declarator" => declarator.parent()?,
            _ => declarator,
        };
        if declaration.kind() == "catch_formal_parameter" {
            let mut cursor = declaration.walk();
            let types = declaration.named_children(&mut cursor).find(|child| child.kind() == "catch_type")?;
            return (types.named_child_count() == 1).then(|| self.written(types.named_child(0)?)).flatten();
        }
        if declaration.kind() == "spread_parameter" {
            return None;
        }
        let written = declaration.child_by_field_name("type")?;
        if self.text(written) == "var" {
            let is_one = matches!(declaration.kind(), "local_variable_declaration" | "resource");
            let value = declarator.child_by_field_name("value").filter(|_| is_one)?;
            return self.value(value, steps);
        }
        self.written(written)
    }

    fn written(&self, node: Node<'_>) -> Option<SymbolId> {
        let name = type_name(self.text(node))?;
        self.named_type(node, name)
    }

    /// What a type's name means at a node of the text.
    fn named_type(&self, at: Node<'_>, name: &str) -> Option<SymbolId> {
        let first = name.split('.').next()?;
        let mut around = at;
        let mut enclosing = None;
        while let Some(parent) = around.parent() {
            around = parent;
            let is_class = is_class(around.kind());
            if let Some(parameters) = around.child_by_field_name("type_parameters")
                && type_parameters(self.text(parameters)).any(|parameter| parameter == first)
            {
                return None;
            }
            // A class within a method, which the index does not know.
            if around.kind() == "block" && self.has_local_class(around, first) {
                return None;
            }
            if is_class && enclosing.is_none() {
                enclosing = Some(self.type_of_class(around));
            }
        }
        named(self.resolver, enclosing.flatten(), name)
    }

    fn has_local_class(&self, block: Node<'_>, name: &str) -> bool {
        let mut cursor = block.walk();
        block.named_children(&mut cursor).any(|child| {
            is_class(child.kind())
                && child.child_by_field_name("name").is_some_and(|node| self.text(node) == name)
        })
    }

    /// The class whose member a node stands in; none in a class without a name.
    fn class_around(&self, node: Node<'_>) -> Option<SymbolId> {
        self.type_of_class(body_around(node)?.parent()?)
    }

    /// What the index has of a class in the text; nothing of those without a name, and of those within methods.
    fn type_of_class(&self, class: Node<'_>) -> Option<SymbolId> {
        if !is_class(class.kind()) {
            return None;
        }
        let name = self.text(class.child_by_field_name("name")?);
        let around = class.parent()?;
        if around.kind() == "program" {
            let file = self.snapshot().file_by_path(self.resolver.importer.path)?;
            let symbol = self.resolver.importer.symbols.top_level(name).next()?;
            return Some(SymbolId { file, symbol });
        }
        // Of an enum's members all but the constants are a level deeper.
        let body = if around.kind() == "enum_body_declarations" { around.parent()? } else { around };
        if !is_body(body.kind()) {
            return None;
        }
        let outer = self.type_of_class(body.parent()?)?;
        own_member(self.snapshot(), outer, name, Asked::Type)
    }

    /// A member of a type, or of the types above it.
    fn member(&self, owner: SymbolId, name: &str, asked: Asked) -> Option<SymbolId> {
        member(self.snapshot(), owner, name, asked)
    }
}

/// The body of the class that a node is in.
fn body_around(node: Node<'_>) -> Option<Node<'_>> {
    let mut around = node.parent()?;
    while !is_body(around.kind()) {
        around = around.parent()?;
    }
    Some(around)
}

/// Whether a method with such parameters can be called with so many arguments.
fn takes(parameters: Node<'_>, count: usize) -> bool {
    let mut cursor = parameters.walk();
    let kinds: Vec<&str> = parameters.named_children(&mut cursor).map(|parameter| parameter.kind()).collect();
    let fixed = kinds.iter().filter(|kind| **kind == "formal_parameter").count();
    fixed == count || kinds.contains(&"spread_parameter")
}

/// Whether a name is bound by an identifier, and where it then means that.
enum Bound<'tree> {
    No,
    In(Node<'tree>),
}

/// `None` where the name means something in places that no scope tells: behind a pattern.
fn binding(identifier: Node<'_>) -> Option<Bound<'_>> {
    let Some(parent) = identifier.parent() else { return Some(Bound::No) };
    let is_name = parent.child_by_field_name("name").is_some_and(|name| name.id() == identifier.id());
    let scope = match parent.kind() {
        "variable_declarator" if is_name => {
            let declaration = parent.parent()?;
            match declaration.kind() {
                "local_variable_declaration" => declaration.parent()?,
                "spread_parameter" => declaration.parent()?.parent()?,
                _ => return Some(Bound::No),
            }
        }
        // Parameters of methods, constructors and lambdas; of records they are fields.
        "formal_parameter" if is_name => parent.parent()?.parent()?,
        "inferred_parameters" => parent.parent()?,
        "lambda_expression" if parent.child_by_field_name("parameters")?.id() == identifier.id() => parent,
        "catch_formal_parameter" | "enhanced_for_statement" if is_name => match parent.kind() {
            "catch_formal_parameter" => parent.parent()?,
            _ => parent,
        },
        "resource" if is_name => parent.parent()?.parent()?,
        "instanceof_expression" if is_name => return None,
        "type_pattern" | "record_pattern_component" => return None,
        _ => return Some(Bound::No),
    };
    Some(if scope.kind() == "record_declaration" { Bound::No } else { Bound::In(scope) })
}

fn is_class(kind: &str) -> bool {
    matches!(
        kind,
        "class_declaration"
            | "interface_declaration"
            | "enum_declaration"
            | "record_declaration"
            | "annotation_type_declaration"
    )
}

fn is_body(kind: &str) -> bool {
    matches!(kind, "class_body" | "interface_body" | "enum_body" | "annotation_type_body")
}
