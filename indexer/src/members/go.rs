//! What type a value has in Go, as declarations say it: those of variables and parameters in scope, of fields, and of what
//! functions give back. What is assigned says it through them. Any doubt is no answer.

use std::path::Path;

use tree_sitter::Node;

mod written;

use self::written::{is_name, is_parameter, results, type_name};
use super::{Found, only, receiver::MAX_NODES};
use crate::{
    Snapshot,
    imports::Importer,
    index::{FileId, SymbolId},
    resolve::{Resolved, Resolver},
    symbols::SymbolKind,
};

/// Links of `a.b().c` that are followed, and variables that variables are made from.
const MOST_STEPS: usize = 4;

/// Where a variable is declared.
struct Declaration<'tree> {
    /// What it is visible in.
    scope: Node<'tree>,
    identifier: Node<'tree>,
}

/// The files of the package that `node` names.
pub(super) fn package(resolver: &Resolver<'_>, text: &str, node: Node<'_>) -> Option<Vec<FileId>> {
    if node.kind() != "identifier" || declaration(text, node)?.is_some() {
        return None;
    }
    match &*resolver.binding(&text[node.byte_range()])?.1 {
        Resolved::Module(files) => Some(files.clone()),
        Resolved::Symbols(_) | Resolved::Package(_) => None,
    }
}

/// The type of a value.
pub(super) fn type_of(resolver: &Resolver<'_>, text: &str, node: Node<'_>) -> Option<SymbolId> {
    value_type(resolver, text, node, MOST_STEPS)
}

/// The type that a name means in a file, written with or without its package.
pub(super) fn named(resolver: &Resolver<'_>, written: &str) -> Option<SymbolId> {
    let found = match written.split_once('.') {
        Some((package, name)) => resolver.qualified(package, name),
        None => resolver.name(written),
    };
    let id = only(found)?;
    let (_, _, symbol) = resolver.snapshot.symbol(id)?;
    symbol.kind.is_type().then_some(id)
}

/// Whether the index has all files of a package: a type's methods may stand in any, and those that are too large or that git
/// ignores are generated ones, full of definitions. Asks the disk, for the index does not keep what it left out.
pub(super) fn is_read(snapshot: &Snapshot, directory: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(directory) else { return false };
    entries.flatten().all(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        // The compiler, too, leaves out those that begin so.
        let is_source = name.ends_with(".go") && !name.starts_with(['_', '.']);
        let is_known = || {
            let file = snapshot.file_by_path(&entry.path()).and_then(|id| snapshot.file(id));
            file.is_some_and(|file| file.symbols.is_some())
        };
        !is_source || is_known()
    })
}

/// Whether the index has all of a package, one or more of whose files are these.
pub(super) fn is_whole(snapshot: &Snapshot, files: &[FileId]) -> bool {
    let file = files.first().and_then(|id| snapshot.file(*id));
    file.is_some_and(|file| is_read(snapshot, file.directory()))
}

pub(super) fn is_exported(name: &str) -> bool {
    name.starts_with(char::is_uppercase)
}

fn value_type(resolver: &Resolver<'_>, text: &str, node: Node<'_>, steps: usize) -> Option<SymbolId> {
    let steps = steps.checked_sub(1)?;
    match node.kind() {
        "identifier" => match declaration(text, node)? {
            Some(declaration) => variable_type(resolver, text, &declaration, steps),
            // Of the package.
            None => declared_type(resolver.snapshot, only(resolver.name(&text[node.byte_range()]))?),
        },
        "parenthesized_expression" => value_type(resolver, text, node.named_child(0)?, steps),
        "unary_expression" if text[node.byte_range()].starts_with('&') => {
            value_type(resolver, text, node.child_by_field_name("operand")?, steps)
        }
        "composite_literal" => written_type(resolver, text, node.child_by_field_name("type")?),
        "selector_expression" => {
            let member = member(resolver, text, node, steps)?;
            let (_, _, symbol) = resolver.snapshot.symbol(member)?;
            // An embedded type is a field of that name.
            if symbol.kind.is_type() { Some(member) } else { declared_type(resolver.snapshot, member) }
        }
        "call_expression" => result_type(resolver, text, node, 0, 1, steps),
        _ => None,
    }
}

/// What a selector leads to: a member of its operand's type, or a declaration of a package.
fn member(resolver: &Resolver<'_>, text: &str, selector: Node<'_>, steps: usize) -> Option<SymbolId> {
    let operand = selector.child_by_field_name("operand")?;
    let name = &text[selector.child_by_field_name("field")?.byte_range()];
    if package(resolver, text, operand).is_some() {
        return only(resolver.qualified(&text[operand.byte_range()], name));
    }
    let owner = value_type(resolver, text, operand, steps)?;
    match resolver.snapshot.find_in_type(owner, name) {
        Found::Exists(member) => Some(member),
        Found::Missing | Found::Unknown => None,
    }
}

/// The type of one of the values that a call gives back, where it gives `count`.
fn result_type(
    resolver: &Resolver<'_>,
    text: &str,
    call: Node<'_>,
    index: usize,
    count: usize,
    steps: usize,
) -> Option<SymbolId> {
    let function = call.child_by_field_name("function")?;
    let declared = match function.kind() {
        "identifier" if declaration(text, function)?.is_none() => {
            let name = &text[function.byte_range()];
            if name == "new" && resolver.name(name).is_none() {
                return written_type(resolver, text, call.child_by_field_name("arguments")?.named_child(0)?);
            }
            only(resolver.name(name))?
        }
        "selector_expression" => member(resolver, text, function, steps)?,
        _ => return None,
    };
    let (file, symbols, symbol) = resolver.snapshot.symbol(declared)?;
    if !matches!(symbol.kind, SymbolKind::Function | SymbolKind::Method) {
        return None;
    }
    let signature = symbols.text(symbol.signature);
    let results = results(signature, symbols.name(symbol))?;
    let result = results.get(index).filter(|_| results.len() == count)?;
    let importer = Importer { path: &file.path, language: file.language, symbols };
    let name = type_name(result).filter(|name| !is_parameter(signature, name))?;
    named(&Resolver::new(resolver.snapshot, importer), name)
}

/// The type that a declaration of a field or of a package's variable is written with.
fn declared_type(snapshot: &Snapshot, id: SymbolId) -> Option<SymbolId> {
    let (file, symbols, symbol) = snapshot.symbol(id)?;
    let signature = match symbol.kind {
        SymbolKind::Field => symbols.text(symbol.signature),
        SymbolKind::Variable => symbols.text(symbol.signature).strip_prefix("var ")?,
        _ => return None,
    };
    // `one, other *Type`, and a tag.
    let mut rest = signature.split('`').next()?.trim();
    while let Some((_, more)) = rest.split_once(',').filter(|(name, _)| is_name(name.trim())) {
        rest = more.trim_start();
    }
    let written = rest.split_once([' ', '\t'])?.1.split('=').next()?;
    let name = type_name(written)?;
    // A type parameter of the type around it would be a name that no file defines, or defines by chance.
    let owner = symbols.parent(symbol).map_or("", |parent| symbols.text(parent.signature));
    if is_parameter(owner, name) {
        return None;
    }
    let importer = Importer { path: &file.path, language: file.language, symbols };
    named(&Resolver::new(snapshot, importer), name)
}

fn written_type(resolver: &Resolver<'_>, text: &str, node: Node<'_>) -> Option<SymbolId> {
    let name = type_name(&text[node.byte_range()])?;
    let mut around = node;
    while let Some(parent) = around.parent() {
        around = parent;
        if matches!(around.kind(), "function_declaration" | "method_declaration") {
            let end = around.child_by_field_name("body").map_or(around.end_byte(), |body| body.start_byte());
            if is_parameter(&text[around.start_byte()..end], name) {
                return None;
            }
        }
    }
    (!is_local_type(text, name)).then(|| named(resolver, name)).flatten()
}

fn variable_type(
    resolver: &Resolver<'_>,
    text: &str,
    declaration: &Declaration<'_>,
    steps: usize,
) -> Option<SymbolId> {
    let identifier = declaration.identifier;
    let parent = identifier.parent()?;
    match parent.kind() {
        "parameter_declaration" | "var_spec" => {
            if let Some(written) = parent.child_by_field_name("type") {
                return written_type(resolver, text, written);
            }
            let mut cursor = parent.walk();
            let names: Vec<Node<'_>> = parent.children_by_field_name("name", &mut cursor).collect();
            let index = names.iter().position(|name| name.id() == identifier.id())?;
            assigned(resolver, text, parent.child_by_field_name("value")?, index, names.len(), steps)
        }
        "expression_list" => {
            let assignment = parent.parent().filter(|node| node.kind() == "short_var_declaration")?;
            let mut cursor = parent.walk();
            let names: Vec<Node<'_>> = parent.named_children(&mut cursor).collect();
            let index = names.iter().position(|name| name.id() == identifier.id())?;
            assigned(resolver, text, assignment.child_by_field_name("right")?, index, names.len(), steps)
        }
        _ => None,
    }
}

/// The type of the value that goes to the variable `index` of `count`.
fn assigned(
    resolver: &Resolver<'_>,
    text: &str,
    values: Node<'_>,
    index: usize,
    count: usize,
    steps: usize,
) -> Option<SymbolId> {
    let given = values.named_child_count();
    if given == count {
        return value_type(resolver, text, values.named_child(u32::try_from(index).ok()?)?, steps);
    }
    let call = values.named_child(0).filter(|call| given == 1 && call.kind() == "call_expression")?;
    result_type(resolver, text, call, index, count, steps)
}

/// The declaration that a name means where it stands, among those within functions: the innermost scope's, the first of
/// several there, which the others assign to. The outer `None` says that there is too much to look at.
fn declaration<'tree>(text: &str, used: Node<'tree>) -> Option<Option<Declaration<'tree>>> {
    let mut function = None;
    let mut around = used;
    while let Some(parent) = around.parent() {
        around = parent;
        if matches!(around.kind(), "function_declaration" | "method_declaration" | "func_literal") {
            function = Some(around);
        }
    }
    let Some(function) = function else { return Some(None) };
    let name = &text[used.byte_range()];
    let mut found: Option<Declaration<'tree>> = None;
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
        if node.kind() == "identifier" && &text[node.byte_range()] == name && is_declared(node) {
            let scope = scope(node)?;
            let holds = scope.byte_range().contains(&used.start_byte());
            let is_nearer = found.as_ref().is_none_or(|other| {
                let (one, two) = (scope.byte_range(), other.scope.byte_range());
                one.len() < two.len() || one == two && node.start_byte() < other.identifier.start_byte()
            });
            // A value is not yet what it is being made for.
            let is_begun =
                statement(node).is_none_or(|statement| !statement.byte_range().contains(&used.start_byte()));
            if holds && is_nearer && is_begun {
                found = Some(Declaration { scope, identifier: node });
            }
        }
        pending.extend(node.children(&mut cursor));
    }
    Some(found)
}

/// Whether an identifier stands where a variable is declared.
fn is_declared(identifier: Node<'_>) -> bool {
    let Some(parent) = identifier.parent() else { return false };
    match parent.kind() {
        "parameter_declaration"
        | "variadic_parameter_declaration"
        | "type_parameter_declaration"
        | "var_spec"
        | "const_spec" => true,
        "expression_list" => parent.parent().is_some_and(|around| {
            let is =
                |field: &str| around.child_by_field_name(field).is_some_and(|one| one.id() == parent.id());
            match around.kind() {
                "short_var_declaration" | "range_clause" | "receive_statement" => is("left"),
                "type_switch_statement" => is("alias"),
                _ => false,
            }
        }),
        _ => false,
    }
}

/// The declaration that an identifier is declared by, if its value is part of it.
fn statement(identifier: Node<'_>) -> Option<Node<'_>> {
    let parent = identifier.parent()?;
    match parent.kind() {
        "var_spec" | "const_spec" => Some(parent),
        "expression_list" => parent.parent().filter(|around| around.kind() == "short_var_declaration"),
        _ => None,
    }
}

fn scope(node: Node<'_>) -> Option<Node<'_>> {
    let mut around = node.parent()?;
    loop {
        match around.kind() {
            "block"
            | "if_statement"
            | "for_statement"
            | "expression_switch_statement"
            | "type_switch_statement"
            | "expression_case"
            | "default_case"
            | "type_case"
            | "communication_case"
            | "function_declaration"
            | "method_declaration"
            | "func_literal" => return Some(around),
            // Names of a function type say nothing.
            "function_type" => return None,
            _ => around = around.parent()?,
        }
    }
}

/// Whether a type of this name is declared within a function.
fn is_local_type(text: &str, name: &str) -> bool {
    text.lines().any(|line| {
        let declared = line.trim_start();
        declared.len() < line.len()
            && declared
                .strip_prefix("type ")
                .and_then(|rest| rest.strip_prefix(name))
                .is_some_and(|rest| rest.starts_with([' ', '[']))
    })
}
