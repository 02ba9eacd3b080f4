//! Definitions of other files as compact code: signatures without bodies.

use std::{borrow::Cow, cmp::Reverse};

use crate::{Language, index::SymbolId, language::Layout, resolve, snapshot::Snapshot, symbols::SymbolKind};

/// Which members of a type are written out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Members {
    /// All that are not private, at most this many.
    Public(usize),
    None,
    /// Nor the line of documentation: what else there is to know goes before it.
    Unexplained,
}

/// `rank` says which members come first where not all fit: those that the code around the cursor names, 0 for none.
pub(crate) fn definition(
    snapshot: &Snapshot,
    id: SymbolId,
    members: Members,
    rank: &dyn Fn(&str) -> u32,
) -> String {
    let mut out = String::new();
    let Some((file, symbols, symbol)) = snapshot.symbol(id) else { return out };
    let (language, layout) = (file.language, file.language.layout());
    let mut indent = "";
    // A member is shown inside its type.
    let parent = symbols.parent(symbol).filter(|parent| !parent.kind.is_namespace());
    let owner = parent
        .map(|parent| symbols.text(parent.signature))
        .or_else(|| (!symbol.owner.is_empty()).then(|| symbols.text(symbol.owner)));
    if let Some(owner) = owner.filter(|_| layout != Layout::Beside) {
        out.push_str(owner);
        out.push_str(opening(layout));
        indent = "    ";
    }
    let listed = match members {
        Members::Public(limit) if has_members(symbol.kind) => select(snapshot, id, limit, rank),
        _ => Vec::new(),
    };
    let doc = if members == Members::Unexplained { "" } else { symbols.text(symbol.doc) };
    if layout != Layout::Indentation {
        push_doc(&mut out, language, indent, doc);
    }
    let head = symbols.text(symbol.signature);
    push_signature(&mut out, indent, head);
    // `typedef struct { ... } Name;` names its type behind the body.
    let named = head.contains(symbols.name(symbol));
    let tail =
        if symbol.kind.is_type() && !named { format!(" {};", symbols.name(symbol)) } else { String::new() };
    let opens = has_members(symbol.kind) && (symbol.kind != SymbolKind::Variable || !listed.is_empty());
    if opens && !(symbol.kind == SymbolKind::Type && listed.is_empty()) {
        // Go and Lua write methods beside their type.
        let is_inside = |member: &SymbolId| {
            let own_range = symbol.range();
            layout != Layout::Beside
                || snapshot.symbol(*member).is_some_and(|(_, _, member_symbol)| {
                    member.file == id.file && own_range.contains(&(member_symbol.start as usize))
                })
        };
        let (inside, beside): (Vec<SymbolId>, Vec<SymbolId>) = listed.into_iter().partition(is_inside);
        let empty = inside.is_empty();
        if layout == Layout::Indentation {
            out.push_str(opening(layout));
            push_doc(&mut out, language, "    ", doc);
        } else if empty {
            match tail.is_empty() {
                true => out.push_str(terminator(layout, head)),
                false => out.push_str(&tail),
            }
            out.push('\n');
        } else if symbol.kind == SymbolKind::Variable || language == Language::Lua {
            out.push_str(" = {\n");
        } else {
            out.push_str(opening(layout));
        }
        let mut previous = "";
        for member in &inside {
            // `x, y int` declares two members with one signature.
            let Some((_, symbols, symbol)) = snapshot.symbol(*member) else { continue };
            let signature = symbols.text(symbol.signature);
            // Nor does a record's parameter say more than its head.
            if signature != previous && !(symbol.kind == SymbolKind::Field && is_parameter(head, signature)) {
                push_member(&mut out, language, symbol.kind, signature);
            }
            previous = signature;
        }
        if layout == Layout::Indentation {
            if empty && doc.is_empty() {
                out.push_str("    ...\n");
            }
        } else if !empty {
            out.push_str(indent);
            out.push_str(closing(layout));
            out.push_str(&tail);
            out.push('\n');
        }
        for member in &beside {
            if let Some((_, symbols, symbol)) = snapshot.symbol(*member) {
                out.push_str(symbols.text(symbol.signature));
                out.push('\n');
            }
        }
    } else if layout == Layout::Indentation && symbol.kind.is_callable() {
        out.push_str(if doc.is_empty() { ": ...\n" } else { ":\n" });
        push_doc(&mut out, language, if indent.is_empty() { "    " } else { "        " }, doc);
    } else {
        out.push_str(&tail);
        out.push_str(terminator(layout, head));
        out.push('\n');
    }
    if owner.is_some() && !matches!(layout, Layout::Beside | Layout::Indentation) {
        out.push_str(closing(layout));
        out.push('\n');
    }
    out
}

/// Whether a head's parameter list has this one.
fn is_parameter(head: &str, parameter: &str) -> bool {
    let Some((_, list)) = head.split_once('(') else { return false };
    list.match_indices(parameter).any(|(at, _)| {
        let (before, after) = (&list[..at], &list[at + parameter.len()..]);
        (before.is_empty() || before.ends_with(", ")) && after.starts_with([',', ')', ' '])
    })
}

fn has_members(kind: SymbolKind) -> bool {
    kind.is_type() || kind.is_namespace() || kind == SymbolKind::Variable
}

fn opening(layout: Layout) -> &'static str {
    match layout {
        Layout::Indentation => ":\n",
        Layout::End => "\n",
        Layout::Semicolons | Layout::Lines | Layout::Beside => " {\n",
    }
}

fn closing(layout: Layout) -> &'static str {
    if layout == Layout::End { "end" } else { "}" }
}

fn push_doc(out: &mut String, language: Language, indent: &str, doc: &str) {
    if doc.is_empty() {
        return;
    }
    out.push_str(indent);
    match language {
        Language::Python => {
            out.push_str("\"\"\"");
            out.push_str(doc);
            out.push_str("\"\"\"");
        }
        Language::Rust | Language::CSharp => {
            out.push_str("/// ");
            out.push_str(doc);
        }
        _ => {
            out.push_str(language.line_comment());
            out.push(' ');
            out.push_str(doc);
        }
    }
    out.push('\n');
}

/// The signature, with each of its lines indented.
fn push_signature(out: &mut String, indent: &str, signature: &str) {
    for (index, line) in signature.split('\n').enumerate() {
        if index > 0 {
            out.push('\n');
        }
        out.push_str(indent);
        out.push_str(line);
    }
}

/// What ends a declaration that shows no body.
fn terminator(layout: Layout, signature: &str) -> &'static str {
    let none = layout != Layout::Semicolons || signature.starts_with('#');
    if none || signature.ends_with([';', '}']) { "" } else { ";" }
}

/// A list of members is for their names and arguments: what is long in it is mostly types of types.
fn shortened(signature: &str) -> Cow<'_, str> {
    const MAX_BYTES: usize = 180;
    if signature.len() <= MAX_BYTES {
        return Cow::Borrowed(signature);
    }
    let mut end = MAX_BYTES;
    while !signature.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}...", &signature[..end]))
}

fn push_member(out: &mut String, language: Language, kind: SymbolKind, signature: &str) {
    push_signature(out, "    ", &shortened(signature));
    out.push_str(match (language, kind) {
        (Language::Python, kind) if kind.is_callable() || kind == SymbolKind::Class => ": ...",
        (Language::Rust, SymbolKind::Field) => ",",
        (Language::CSharp, SymbolKind::Property) => " { get; }",
        (_, SymbolKind::Variant) if language.layout() == Layout::Semicolons && language != Language::Php => {
            ","
        }
        (_, _) if language.layout() == Layout::Semicolons => ";",
        (_, _) => "",
    });
    out.push('\n');
}

/// The members to show, in source order.
fn select(snapshot: &Snapshot, id: SymbolId, limit: usize, rank: &dyn Fn(&str) -> u32) -> Vec<SymbolId> {
    let parent = snapshot.symbol(id).map(|(_, _, symbol)| symbol.kind);
    let mut ranked: Vec<(Reverse<u32>, bool, usize, SymbolId)> = resolve::members(snapshot, id)
        .into_iter()
        .enumerate()
        .filter_map(|(order, member)| {
            let (file, symbols, symbol) = snapshot.symbol(member)?;
            let name = symbols.name(symbol);
            let rank = rank(name);
            if symbol.kind == SymbolKind::Implementation
                || (rank == 0
                    && is_private(file.language, symbol.kind, parent, name, symbols.text(symbol.signature)))
            {
                return None;
            }
            // Special methods say little that the type's name does not, but for the constructor.
            let special = file.language == Language::Python && name.starts_with("__") && name != "__init__";
            Some((Reverse(rank), special, order, member))
        })
        .collect();
    ranked.sort_unstable();
    ranked.truncate(limit);
    ranked.sort_unstable_by_key(|(_, _, order, _)| *order);
    ranked.into_iter().map(|(_, _, _, member)| member).collect()
}

fn is_private(
    language: Language,
    kind: SymbolKind,
    parent: Option<SymbolKind>,
    name: &str,
    signature: &str,
) -> bool {
    match language {
        Language::Rust => {
            let implied = kind == SymbolKind::Variant || parent == Some(SymbolKind::Trait);
            !implied && !signature.starts_with("pub")
        }
        Language::Python => name.starts_with('_') && !name.starts_with("__"),
        Language::Java
        | Language::CSharp
        | Language::TypeScript
        | Language::Tsx
        | Language::Php
        | Language::Kotlin
        | Language::Swift
        | Language::Scala => signature.starts_with("private") || name.starts_with('#'),
        Language::JavaScript => name.starts_with('#') || name.starts_with('_'),
        Language::Lua => name.starts_with('_'),
        _ => false,
    }
}
