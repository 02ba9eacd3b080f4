//! Signatures: the head of a definition on one line, without its body, annotations or excess white space.

use crate::{Language, symbols::SymbolKind};

/// Longest signature kept, in bytes; longer ones are cut and end in `...`.
const MAX_BYTES: usize = 400;
/// Longest initializer kept of a variable or field, in bytes.
const MAX_VALUE_BYTES: usize = 120;
const MAX_DECORATOR_BYTES: usize = 60;

/// A decorator that changes how its definition is used (`@property`, `@dataclass`), on a line of its own.
pub(crate) fn push_decorator(out: &mut String, text: &str) {
    if text.len() <= MAX_DECORATOR_BYTES && !text.contains('\n') {
        out.push_str(text.trim_end());
        out.push('\n');
    }
}

/// `source` is the definition up to its body.
pub(crate) fn push(out: &mut String, language: Language, kind: SymbolKind, source: &str) {
    let source = match language {
        Language::Java
        | Language::TypeScript
        | Language::Tsx
        | Language::JavaScript
        | Language::Kotlin
        | Language::Scala
        | Language::Swift => without_annotations(source),
        Language::CSharp => without_attributes(source),
        Language::Php => without_attributes(source.trim_start_matches('#')),
        // A definition without a body keeps its `end`.
        Language::Ruby if kind != SymbolKind::Constant => source
            .trim_end()
            .strip_suffix("end")
            .filter(|head| head.ends_with([';', ' ', '\n']))
            .unwrap_or(source),
        _ => source,
    };
    let source = match kind {
        SymbolKind::Macro => first_line(source),
        SymbolKind::Variable | SymbolKind::Constant | SymbolKind::Field | SymbolKind::Variant
            if source.len() > MAX_VALUE_BYTES =>
        {
            let line = first_line(source);
            if line.len() > MAX_VALUE_BYTES { cut(line, MAX_VALUE_BYTES) } else { line }
        }
        _ => source,
    };
    let start = out.len();
    collapse(out, language.line_comment(), source);
    if out.len() - start > MAX_BYTES {
        let kept = cut(&out[start..], MAX_BYTES).len();
        out.truncate(start + kept);
        out.push_str("...");
    }
    let trimmed = out[start..].trim_end_matches([' ', '{', ':', ';', ',', '=']).len();
    out.truncate(start + trimmed);
    if out.ends_with("=>") {
        out.truncate(out.len() - 2);
        out.truncate(out.trim_end().len());
    }
}

fn first_line(text: &str) -> &str {
    text.split('\n').next().unwrap_or(text).trim_end()
}

/// At most `limit` bytes, ending on a character boundary.
fn cut(text: &str, limit: usize) -> &str {
    let mut end = limit.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// White space becomes one space, or none after an opening and before a closing bracket. Line comments go.
fn collapse(out: &mut String, line_comment: &str, source: &str) {
    let start = out.len();
    let mut pending_space = false;
    for line in source.split('\n') {
        let line = without_comment(line, line_comment);
        for character in line.chars() {
            if character.is_whitespace() {
                pending_space = true;
                continue;
            }
            if pending_space {
                pending_space = false;
                let after_opening = out[start..].ends_with(['(', '[']) || out.len() == start;
                let before_closing = matches!(character, ')' | ']' | ',');
                if before_closing && character != ',' && out[start..].ends_with(',') {
                    out.pop();
                } else if !after_opening && !before_closing {
                    out.push(' ');
                }
            }
            out.push(character);
        }
        pending_space = true;
        if out.len() - start > 4 * MAX_BYTES {
            return;
        }
    }
}

/// A comment begins where its opener follows white space or the line's start; one in a string costs a little text.
fn without_comment<'a>(line: &'a str, opener: &str) -> &'a str {
    let begins = |offset: &usize| line[..*offset].is_empty() || line[..*offset].ends_with([' ', '\t']);
    let preprocessor = line.starts_with("#define");
    match line.match_indices(opener).map(|(offset, _)| offset).find(begins) {
        Some(offset) if !preprocessor || opener == "//" => line[..offset].trim_end(),
        _ => line,
    }
}

/// Skips leading `@Name(...)`.
fn without_annotations(mut source: &str) -> &str {
    loop {
        let Some(rest) = source.trim_start().strip_prefix('@') else { return source.trim_start() };
        if rest.starts_with("interface") {
            return source.trim_start();
        }
        let name = rest.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '.')).unwrap_or(rest.len());
        source = &rest[name..];
        if source.starts_with('(') {
            match balanced(source, '(', ')') {
                Some(end) => source = &source[end..],
                None => return source,
            }
        }
    }
}

/// Skips leading `[...]`.
fn without_attributes(mut source: &str) -> &str {
    loop {
        source = source.trim_start();
        if !source.starts_with('[') {
            return source;
        }
        match balanced(source, '[', ']') {
            Some(end) => source = &source[end..],
            None => return source,
        }
    }
}

/// Byte offset behind the bracket that closes the one at the start; strings are skipped, without regard to escapes.
pub(crate) fn balanced(text: &str, open: char, close: char) -> Option<usize> {
    let mut depth = 0usize;
    let mut in_string = false;
    for (offset, character) in text.char_indices() {
        if character == '"' {
            in_string = !in_string;
        } else if in_string {
            continue;
        } else if character == open {
            depth += 1;
        } else if character == close {
            depth = depth.checked_sub(1)?;
            if depth == 0 {
                return Some(offset + character.len_utf8());
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures() {
        let check = |language, kind, source: &str, expected: &str| {
            let mut out = String::new();
            push(&mut out, language, kind, source);
            assert_eq!(out, expected);
        };
        use Language::*;
        use SymbolKind::*;
        check(
            Python,
            Function,
            "def f(\n    a: int,\n    b=1,\n) -> str:\n    ",
            "def f(a: int, b=1) -> str",
        );
        check(
            Rust,
            Function,
            "pub fn f<T>(\n  x: T, // why\n) -> T\nwhere\n  T: Clone,\n{",
            "pub fn f<T>(x: T) -> T where T: Clone",
        );
        check(Java, Method, "@Override @Named(\"a)\") public int f( int x ) ", "public int f(int x)");
        check(CSharp, Method, "[Test(1)] public int F()", "public int F()");
        check(TypeScript, Function, "f = (a: number): string => ", "f = (a: number): string");
        check(C, Constant, "#define A 1\n", "#define A 1");
        check(Python, Variable, &format!("x = [\n{}]", "1,".repeat(200)), "x = [");
        check(Python, Class, "", "");
    }
}
