//! Python: of a function's body the documentation and what it imports stay in; of constructors all. Beside them, the
//! insides of long strings and of brackets in plain statements go.

use super::Outline;
use crate::words::is_word;

/// Functions whose bodies set attributes (`python.scm`).
const CONSTRUCTORS: [&[u8]; 4] = [b"__init__", b"__new__", b"__post_init__", b"setUp"];

/// Words that begin statements whose brackets may hold more than data.
const KEYWORDS: &[&[u8]] = &[
    b"if",
    b"elif",
    b"else",
    b"for",
    b"while",
    b"with",
    b"try",
    b"except",
    b"finally",
    b"class",
    b"def",
    b"async",
    b"import",
    b"from",
    b"return",
    b"yield",
    b"lambda",
    b"not",
    b"match",
    b"case",
    b"del",
    b"assert",
    b"raise",
    b"global",
    b"nonlocal",
    b"type",
    b"print",
    b"exec",
];

/// A statement with the lines that brackets, strings and backslashes add to its first one.
struct Line {
    indent: usize,
    /// Of its first and behind its last byte that is not space or comment.
    code: std::ops::Range<usize>,
    /// Behind its line break.
    end: usize,
}

/// `None` where the text does not read as Python.
pub(super) fn hide(outline: &mut Outline<'_>) -> Option<()> {
    let bytes = outline.bytes();
    let mut at = 0;
    let mut parts = Vec::new();
    while let Some(line) = next_line(bytes, at, &mut parts)? {
        at = line.end;
        match function_name(&bytes[line.code.clone()]) {
            Some(name) if bytes[line.code.end - 1] == b':' => {
                if !CONSTRUCTORS.contains(&name) {
                    at = hide_body(outline, &line)?;
                }
            }
            Some(_) => {}
            None => hide_parts(outline, &line, &parts),
        }
    }
    Some(())
}

fn first_word(code: &[u8]) -> &[u8] {
    let end = code.iter().position(|byte| !is_word(*byte)).unwrap_or(code.len());
    &code[..end]
}

/// Of a line that begins a function.
fn function_name(code: &[u8]) -> Option<&[u8]> {
    let code = match first_word(code) {
        b"async" => code[5..].trim_ascii_start(),
        _ => code,
    };
    (first_word(code) == b"def").then(|| first_word(code[3..].trim_ascii_start()))
}

/// Hides the statements of a function's body, and returns where the next one after it begins.
fn hide_body(outline: &mut Outline<'_>, header: &Line) -> Option<usize> {
    let bytes = outline.bytes();
    let mut at = header.end;
    let mut parts = Vec::new();
    let mut indent = None;
    let mut hidden: Option<std::ops::Range<usize>> = None;
    while let Some(line) = next_line(bytes, at, &mut parts)? {
        if line.indent <= header.indent {
            break;
        }
        at = line.end;
        let is_first = indent.is_none();
        let of_body = *indent.get_or_insert(line.indent) == line.indent;
        let code = &bytes[line.code.clone()];
        let is_import = of_body && matches!(first_word(code), b"import" | b"from");
        if is_import || (is_first && is_string(code)) {
            if let Some(part) = hidden.take() {
                outline.hide(part, "_");
            }
            hide_parts(outline, &line, &parts);
        } else {
            let start = hidden.map_or(line.code.start, |part| part.start);
            hidden = Some(start..line.code.end);
        }
    }
    if let Some(part) = hidden {
        outline.hide(part, "_");
    }
    Some(at)
}

fn is_string(code: &[u8]) -> bool {
    let prefix = first_word(code);
    prefix.len() <= 2 && matches!(code.get(prefix.len()), Some(b'"' | b'\''))
}

/// A part of a line whose insides the parser need not see.
#[derive(Debug, Clone)]
enum Part {
    TripleQuoted(std::ops::Range<usize>),
    /// Outermost brackets.
    Bracketed(std::ops::Range<usize>),
}

fn hide_parts(outline: &mut Outline<'_>, line: &Line, parts: &[Part]) {
    let first = first_word(&outline.bytes()[line.code.clone()]);
    let plain = !first.is_empty() && !KEYWORDS.contains(&first);
    for part in parts {
        match part {
            Part::TripleQuoted(inside) => outline.hide(inside.clone(), ""),
            // A name, as a subscript may not be empty, and a target must be one.
            Part::Bracketed(inside) if plain => outline.hide(inside.clone(), "_"),
            Part::Bracketed(_) => {}
        }
    }
}

/// The next statement; the inner `None` at the end of the text, the outer one where it makes no sense.
fn next_line(bytes: &[u8], mut at: usize, parts: &mut Vec<Part>) -> Option<Option<Line>> {
    parts.clear();
    let (start, indent) = loop {
        let (mut start, mut indent) = (at, 0);
        while let Some(byte) = bytes.get(start) {
            match byte {
                b' ' => indent += 1,
                b'\t' => indent += 8,
                b'\x0c' => indent = 0,
                _ => break,
            }
            start += 1;
        }
        match bytes.get(start) {
            None => return Some(None),
            Some(b'\n') => at = start + 1,
            Some(b'\r') if bytes.get(start + 1) == Some(&b'\n') => at = start + 2,
            Some(b'#') => at = line_break(bytes, start),
            Some(_) => break (start, indent),
        }
    };
    let mut code_end = start;
    let mut depth = 0usize;
    let mut bracket = 0;
    at = start;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'\n' if depth == 0 => {
                at += 1;
                break;
            }
            b' ' | b'\t' | b'\r' | b'\n' => at += 1,
            b'#' => at = line_break(bytes, at),
            b'"' | b'\'' => {
                let end = string_end(bytes, at)?;
                if depth == 0 && bytes[at..end].len() >= 6 && bytes[at + 1] == *byte && bytes[at + 2] == *byte
                {
                    parts.push(Part::TripleQuoted(at + 3..end - 3));
                }
                (at, code_end) = (end, end);
            }
            b'(' | b'[' | b'{' => {
                if depth == 0 {
                    bracket = at + 1;
                }
                depth += 1;
                at += 1;
                code_end = at;
            }
            b')' | b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    parts.push(Part::Bracketed(bracket..at));
                }
                at += 1;
                code_end = at;
            }
            b'\\' => {
                // A line break or two bytes of one.
                at += 2 + usize::from(bytes.get(at + 1) == Some(&b'\r'));
                code_end = at.min(bytes.len());
            }
            _ => {
                at += 1;
                code_end = at;
            }
        }
    }
    if depth > 0 || at > bytes.len() {
        return None;
    }
    Some(Some(Line { indent, code: start..code_end, end: at }))
}

/// The line's end.
fn line_break(bytes: &[u8], at: usize) -> usize {
    bytes[at..].iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| at + length)
}

/// Behind the closing quote.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let quote = bytes[start];
    let triple = bytes.get(start + 1) == Some(&quote) && bytes.get(start + 2) == Some(&quote);
    let mut at = start + if triple { 3 } else { 1 };
    loop {
        match bytes.get(at)? {
            b'\\' => at += 2,
            b'\n' if !triple => return None,
            byte if *byte == quote => {
                if !triple {
                    return Some(at + 1);
                }
                if bytes.get(at + 1) == Some(&quote) && bytes.get(at + 2) == Some(&quote) {
                    return Some(at + 3);
                }
                at += 1;
            }
            _ => at += 1,
        }
    }
}
