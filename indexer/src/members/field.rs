//! What type a field of `self` or `this` has, where its class says it: a declaration, or the one place that it is made at.

use tree_sitter::Node;

use super::receiver::{Binding, MAX_NODES, binding, is_function, own_class, this, type_name};

/// `self.name` or `this.name`, in a method of a class.
pub(super) struct Field<'a, 'tree> {
    class: Node<'tree>,
    name: &'a str,
}

/// What one place says of a field.
enum Said<'a> {
    Nothing,
    /// A declaration, which holds for all that is stored there.
    Declared(&'a str),
    /// A value of this type is stored there.
    Made(&'a str),
    /// It may be anything.
    Unknown,
}

impl<'a, 'tree> Field<'a, 'tree> {
    /// The field that `receiver` reads.
    pub fn of(text: &'a str, receiver: Node<'tree>) -> Option<Self> {
        let part = |field| receiver.child_by_field_name(field);
        let (class, name) = match receiver.kind() {
            "attribute" => {
                let object = part("object").filter(|object| &text[object.byte_range()] == "self")?;
                (own_class(text, object, "self")?, part("attribute")?)
            }
            _ => {
                let object = part("object").filter(|object| object.kind() == "this")?;
                (this(text, object)?, part("property")?)
            }
        };
        Some(Self { class, name: &text[name.byte_range()] })
    }

    /// The type that all places agree on.
    pub fn type_name(&self, text: &'a str) -> Option<&'a str> {
        if self.is_stored_outside(text) {
            return None;
        }
        let (mut declared, mut made) = (None, None);
        let mut cursor = self.class.walk();
        let mut pending = vec![self.class];
        let mut left = MAX_NODES;
        while let Some(node) = pending.pop() {
            left -= 1;
            if left == 0 {
                return None;
            }
            match self.said(text, node) {
                Said::Nothing => {}
                Said::Declared(name) if declared.is_none_or(|other| other == name) => declared = Some(name),
                Said::Made(name) if made.is_none_or(|other| other == name) => made = Some(name),
                _ => return None,
            }
            pending.extend(node.children(&mut cursor));
        }
        match (declared, made) {
            // What is stored may be of a type below the declared one.
            (Some(declared), _) => Some(declared),
            (None, made) => made,
        }
    }

    fn said(&self, text: &'a str, node: Node<'_>) -> Said<'a> {
        let is_named = |node: Node<'_>, field: &str| {
            node.child_by_field_name(field).is_some_and(|name| &text[name.byte_range()] == self.name)
        };
        match node.kind() {
            // Whoever else's field of this name: it may be this one.
            "attribute" if is_named(node, "attribute") => self.stored(text, node),
            "member_expression" if is_named(node, "property") => self.stored(text, node),
            // A method, a property, an accessor.
            "function_definition" | "class_definition" | "method_definition" | "method_signature"
                if self.is_member(node) && is_named(node, "name") =>
            {
                Said::Unknown
            }
            "assignment" if self.is_member(node) && is_named(node, "left") => value(text, node, "right"),
            // TypeScript's and JavaScript's.
            "public_field_definition" | "field_definition"
                if self.is_member(node) && (is_named(node, "name") || is_named(node, "property")) =>
            {
                value(text, node, "value")
            }
            "required_parameter" | "optional_parameter" if is_named(node, "pattern") => {
                let is_field = node.child(0).is_some_and(|child| {
                    matches!(child.kind(), "accessibility_modifier" | "override_modifier" | "readonly")
                });
                if is_field { value(text, node, "value") } else { Said::Nothing }
            }
            _ => Said::Nothing,
        }
    }

    /// Whether a declaration stands directly in the class.
    fn is_member(&self, node: Node<'_>) -> bool {
        let mut around = node;
        while let Some(parent) = around.parent() {
            if parent.id() == self.class.id() {
                return true;
            }
            if is_function(parent.kind()) || parent.kind().starts_with("class_d") {
                return false;
            }
            around = parent;
        }
        false
    }

    /// What an access to a field of this name does, where something is stored in it.
    fn stored(&self, text: &'a str, access: Node<'_>) -> Said<'a> {
        let Some(parent) = access.parent() else { return Said::Nothing };
        let is = |field: &str| parent.child_by_field_name(field).is_some_and(|node| node.id() == access.id());
        let object = access.child_by_field_name("object").map(|object| &text[object.byte_range()]);
        match parent.kind() {
            "assignment" | "assignment_expression" if is("left") => match object {
                Some("self" | "this") => value(text, parent, "right"),
                _ => Said::Unknown,
            },
            "augmented_assignment"
            | "augmented_assignment_expression"
            | "for_statement"
            | "for_in_statement"
                if is("left") =>
            {
                Said::Unknown
            }
            "as_pattern_target" | "delete_statement" | "pattern_list" | "update_expression" => Said::Unknown,
            kind if kind.ends_with("_pattern") => Said::Unknown,
            _ => Said::Nothing,
        }
    }

    /// Whether code outside the class stores something in a field of this name: it may be this one.
    fn is_stored_outside(&self, text: &str) -> bool {
        let class = self.class.byte_range();
        let is_stored = |(at, _): (usize, &str)| {
            let rest = &text[at + self.name.len()..];
            let operator = rest.trim_start_matches([' ', '+', '-', '*', '/', '|', '&', '?', '%']);
            text[..at].ends_with('.')
                && !class.contains(&at)
                && operator.starts_with('=')
                && !operator.starts_with("==")
                && !operator.starts_with("=>")
        };
        text.match_indices(self.name).any(is_stored)
    }
}

/// What a declaration or an assignment says: its annotation, or its value in the field `field`.
fn value<'a>(text: &'a str, node: Node<'_>, field: &str) -> Said<'a> {
    if let Some(annotation) = node.child_by_field_name("type") {
        return type_name(text, annotation).map_or(Said::Unknown, Said::Declared);
    }
    let Some(value) = node.child_by_field_name(field) else { return Said::Unknown };
    let made = match value.kind() {
        "call" => value.child_by_field_name("function"),
        "new_expression" => value.child_by_field_name("constructor"),
        // A parameter, most often.
        "identifier" => return given(text, value).map_or(Said::Unknown, Said::Made),
        // Nothing yet.
        "none" | "null" | "undefined" => return Said::Nothing,
        _ => None,
    };
    let name = made.filter(|made| made.kind() == "identifier").map(|made| &text[made.byte_range()]);
    name.filter(|name| name.starts_with(char::is_uppercase)).map_or(Said::Unknown, Said::Made)
}

/// The type of a plain name where it is used.
fn given<'a>(text: &'a str, identifier: Node<'_>) -> Option<&'a str> {
    let name = &text[identifier.byte_range()];
    let mut around = identifier;
    while let Some(parent) = around.parent() {
        around = parent;
        if is_function(around.kind()) {
            return match binding(text, around, name) {
                Binding::Typed(type_name) => Some(type_name),
                Binding::None | Binding::Unknown => None,
            };
        }
    }
    None
}
