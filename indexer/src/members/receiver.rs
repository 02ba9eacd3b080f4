//! Whose member an access in a syntax tree asks for, where the code itself says it: an annotation, the constructor that
//! a value was made by, the class that `self` or `this` stands in, a field of that class ([`super::field`]), or the type's
//! own name. Any doubt is no answer: a second binding of the name, a test of its type, a name from elsewhere.

use tree_sitter::Node;

use super::field;
use crate::language::Family;

/// An access to a member: the receiver's node and the member's name.
pub(super) struct Access<'tree> {
    pub receiver: Node<'tree>,
    pub name: Node<'tree>,
}

/// Nodes looked at in one function, or class.
pub(super) const MAX_NODES: usize = 20_000;

/// `node` as an access that reads a member of a plain name, or of a field of `self` or `this`; in Go and Java of any value.
pub(super) fn access(node: Node<'_>) -> Option<Access<'_>> {
    let (receiver, name) = match node.kind() {
        "attribute" => ("object", "attribute"),
        "member_expression" => ("object", "property"),
        // Whatever it is in Go, its type says what it has.
        "selector_expression" => {
            let part = |field| node.child_by_field_name(field);
            return Some(Access { receiver: part("operand")?, name: part("field")? });
        }
        // And in Rust.
        "field_expression" => {
            let part = |field| node.child_by_field_name(field);
            return Some(Access { receiver: part("value")?, name: part("field")? });
        }
        "scoped_identifier" => {
            let part = |field| node.child_by_field_name(field);
            return Some(Access { receiver: part("path")?, name: part("name")? });
        }
        // So it is in Java.
        "field_access" | "method_invocation" => {
            let part = |field| node.child_by_field_name(field);
            let name = part("name").or_else(|| part("field")).filter(|name| name.kind() == "identifier")?;
            return Some(Access { receiver: part("object")?, name });
        }
        _ => return None,
    };
    let access =
        Access { receiver: node.child_by_field_name(receiver)?, name: node.child_by_field_name(name)? };
    let is_plain =
        matches!(access.receiver.kind(), "identifier" | "this" | "attribute" | "member_expression");
    // What is assigned to may come to be by that.
    let parent = node.parent()?;
    let is_assigned = parent.child_by_field_name("left").is_some_and(|left| left.id() == node.id());
    let is_pattern = parent.kind().contains("pattern") || matches!(parent.kind(), "delete_statement");
    (is_plain && !is_assigned && !is_pattern).then_some(access)
}

/// The name of the type of an access's receiver.
pub(super) fn receiver<'a>(family: Family, text: &'a str, access: &Access<'_>) -> Option<&'a str> {
    let name = &text[access.receiver.byte_range()];
    if let "attribute" | "member_expression" = access.receiver.kind() {
        let field = field::Field::of(text, access.receiver)?;
        return field.type_name(text).filter(|_| !is_tested(text, name));
    }
    if access.receiver.kind() == "this" {
        return name_of(text, this(text, access.receiver)?);
    }
    if family == Family::Python && matches!(name, "self" | "cls") {
        return name_of(text, own_class(text, access.receiver, name)?);
    }
    // The functions around it, the innermost first: the first that binds the name says what it is.
    let mut around = access.receiver;
    while let Some(parent) = around.parent() {
        around = parent;
        if !is_function(around.kind()) {
            continue;
        }
        match binding(text, around, name) {
            Binding::None => {}
            Binding::Typed(type_name) if !is_tested(&text[around.byte_range()], name) => {
                return Some(type_name);
            }
            Binding::Typed(_) | Binding::Unknown => return None,
        }
    }
    let is_name = name.starts_with(char::is_uppercase) && name.chars().any(char::is_lowercase);
    let is_own = matches!(binding(text, around, name), Binding::None);
    (is_name && is_own && !is_tested(text, name)).then_some(name)
}

pub(super) enum Binding<'a> {
    None,
    Typed(&'a str),
    Unknown,
}

pub(super) fn is_function(kind: &str) -> bool {
    matches!(
        kind,
        "function_definition"
            | "lambda"
            | "function_declaration"
            | "function_expression"
            | "generator_function"
            | "generator_function_declaration"
            | "arrow_function"
            | "method_definition"
    )
}

/// What binds `name` in `scope`, its inner functions included: there is one answer only where there is one binding.
pub(super) fn binding<'a>(text: &'a str, scope: Node<'_>, name: &str) -> Binding<'a> {
    let mut found = Binding::None;
    let mut cursor = scope.walk();
    let mut pending = vec![scope];
    let mut left = MAX_NODES;
    while let Some(node) = pending.pop() {
        left -= 1;
        if left == 0 {
            return Binding::Unknown;
        }
        let is_name = matches!(node.kind(), "identifier" | "shorthand_property_identifier_pattern");
        if is_name && &text[node.byte_range()] == name && binds(node) {
            if !matches!(found, Binding::None) {
                return Binding::Unknown;
            }
            found = written_type(text, node).map_or(Binding::Unknown, Binding::Typed);
        }
        pending.extend(node.children(&mut cursor));
    }
    found
}

/// Whether an identifier stands where a name is bound, as opposed to used.
fn binds(identifier: Node<'_>) -> bool {
    let Some(parent) = identifier.parent() else { return false };
    let is = |field: &str| parent.child_by_field_name(field).is_some_and(|node| node.id() == identifier.id());
    match parent.kind() {
        "assignment" | "augmented_assignment" | "for_statement" | "for_in_clause" | "for_in_statement" => {
            is("left")
        }
        "assignment_expression" | "augmented_assignment_expression" => is("left"),
        "typed_parameter" => true,
        "default_parameter" | "typed_default_parameter" | "named_expression" | "variable_declarator" => {
            is("name")
        }
        "function_definition" | "class_definition" | "function_declaration" | "class_declaration" => {
            is("name")
        }
        "required_parameter" | "optional_parameter" => is("pattern"),
        "catch_clause" | "arrow_function" => is("parameter"),
        // Imports of modules are looked up by their name; within functions they are bindings that nothing is known of.
        "parameters" | "lambda_parameters" | "global_statement" | "nonlocal_statement"
        | "delete_statement" => true,
        "as_pattern_target" | "as_pattern" | "namespace_import" | "import_clause" => true,
        kind => kind.ends_with("_pattern") || kind == "pattern_list" || kind == "update_expression",
    }
}

/// The type that a binding is written with, or of which it calls the constructor.
fn written_type<'a>(text: &'a str, identifier: Node<'_>) -> Option<&'a str> {
    let parent = identifier.parent()?;
    let value = |field| parent.child_by_field_name(field);
    if let Some(annotation) = value("type") {
        return type_name(text, annotation);
    }
    let made = match parent.kind() {
        "assignment" => {
            value("right").filter(|right| right.kind() == "call")?.child_by_field_name("function")?
        }
        "variable_declarator" => {
            // What `let` declares may become something else, but not something of another type.
            value("value")
                .filter(|value| value.kind() == "new_expression")?
                .child_by_field_name("constructor")?
        }
        _ => return None,
    };
    let name = &text[made.byte_range()];
    (made.kind() == "identifier" && name.starts_with(char::is_uppercase)).then_some(name)
}

/// The one name that an annotation consists of, but for arguments of types and for what stands for nothing: nobody asks
/// that for a member.
pub(super) fn type_name<'a>(text: &'a str, annotation: Node<'_>) -> Option<&'a str> {
    let mut written = text[annotation.byte_range()].trim_start_matches(':').trim().trim_matches(['"', '\'']);
    if let Some(inner) = written.strip_prefix("Optional[").and_then(|rest| rest.strip_suffix(']')) {
        written = inner.trim();
    }
    for nothing in ["| None", "| undefined", "| null"] {
        written = written.strip_suffix(nothing).unwrap_or(written).trim_end();
    }
    let end = written.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(written.len());
    let (name, arguments) = written.split_at(end);
    // In TypeScript square brackets make an array, or another type of it.
    let (open, close) = if annotation.kind() == "type_annotation" { ('<', '>') } else { ('[', ']') };
    let is_whole = arguments.is_empty() || is_enclosed(arguments, open, close);
    (is_whole && name.starts_with(char::is_uppercase)).then_some(name)
}

/// Whether one pair of brackets encloses all of a text.
fn is_enclosed(text: &str, open: char, close: char) -> bool {
    let mut depth = 0usize;
    for (at, c) in text.char_indices() {
        if c == open {
            depth += 1;
        } else if c == close {
            depth = depth.saturating_sub(1);
        }
        if depth == 0 {
            return at > 0 && at + c.len_utf8() == text.len();
        }
    }
    false
}

/// Whether code asks what a value is: behind that it may be more than its declaration says.
fn is_tested(code: &str, name: &str) -> bool {
    let called = ["isinstance(", "issubclass(", "hasattr(", "getattr(", "setattr(", "cast("];
    called
        .iter()
        .any(|test| code.match_indices(test).any(|(at, test)| code[at + test.len()..].starts_with(name)))
        || [" as ", " instanceof ", " is "].iter().any(|test| code.contains(&format!("{name}{test}")))
        || code.contains(&format!(" in {name}"))
}

/// The class of the method whose first parameter is `name`.
pub(super) fn own_class<'tree>(text: &str, node: Node<'tree>, name: &str) -> Option<Node<'tree>> {
    let mut around = node;
    loop {
        around = around.parent()?;
        match around.kind() {
            "function_definition" => {}
            // A class within a method: `self` of the method around it, or bound by other means.
            "class_definition" => return None,
            _ => continue,
        }
        let first = around.child_by_field_name("parameters")?.named_child(0);
        if first.is_some_and(|first| text[first.byte_range()].split(':').next().map(str::trim) == Some(name))
        {
            break;
        }
        if !matches!(binding(text, around, name), Binding::None) {
            return None;
        }
    }
    if is_tested(&text[around.byte_range()], name) {
        return None;
    }
    let mut class = around.parent()?;
    while matches!(class.kind(), "decorated_definition" | "block" | "if_statement") {
        class = class.parent()?;
    }
    Some(class)
}

/// The class whose method `this` stands in.
pub(super) fn this<'tree>(text: &str, node: Node<'tree>) -> Option<Node<'tree>> {
    let mut around = node;
    loop {
        around = around.parent()?;
        match around.kind() {
            "class_body" => break,
            "function_declaration" | "function_expression" | "generator_function" | "object" => return None,
            _ => {}
        }
    }
    let class = around.parent()?;
    (!is_tested(&text[class.byte_range()], "this")).then_some(class)
}

fn name_of<'a>(text: &'a str, class: Node<'_>) -> Option<&'a str> {
    let is_class =
        matches!(class.kind(), "class_definition" | "class_declaration" | "abstract_class_declaration");
    let name = class.child_by_field_name("name").filter(|_| is_class)?;
    Some(&text[name.byte_range()])
}
