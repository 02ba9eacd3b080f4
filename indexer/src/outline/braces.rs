//! Languages with braces: the insides of functions' bodies and of initializers go, and comments.
//!
//! What follows a brace is only left out where the brace that closes it stands as code is written, at the indentation
//! of the line that opens it: what the lexer mistook (a regular expression, a macro, both branches of an `#if`) shows
//! there.

use super::{Outline, indentation, line_start, prototypes::Prototype, scanner::Scanner};
use crate::{Language, words::is_word};

/// What is known of the statement that the scan is in.
#[derive(Default, Clone, Copy)]
struct Statement<'a> {
    /// The word before the last one.
    previous: &'a [u8],
    last: &'a [u8],
    /// Rust: `fn` and a name. ECMAScript: `class`. C: `struct`, `class`, `union`, `enum`, `namespace`.
    marked: bool,
    /// Rust: `impl`, `macro_rules`.
    implements: bool,
    /// Rust: `impl` with `for`.
    for_trait: bool,
    /// Rust: `const`, `static`.
    constant: bool,
    assigned: bool,
    /// The word before the last bracket that was closed.
    called: &'a [u8],
    /// The last significant byte, and the one before it.
    bytes: [u8; 2],
    /// ECMAScript: a type follows the parameters, on the same line.
    returns: bool,
    /// Open round and square brackets, and the words before them.
    depth: usize,
}

/// Brackets within one statement whose words are remembered.
const MAX_DEPTH: usize = 8;

pub(super) fn hide(
    outline: &mut Outline<'_>,
    language: Language,
    scanner: &Scanner<'_>,
    prototypes: &[Prototype],
) -> Option<()> {
    let text = outline.text;
    let bytes = text.as_bytes();
    let mut prototypes = prototypes.iter().copied().peekable();
    let mut open_prototype: Option<Prototype> = None;
    // What the braces that were entered stand in.
    let mut outer: Vec<(Statement<'_>, [&[u8]; MAX_DEPTH])> = Vec::new();
    let mut statement = Statement::default();
    let mut callers: [&[u8]; MAX_DEPTH] = [b""; MAX_DEPTH];
    // A part that is not left out is read twice.
    let mut read_again = 0;
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte.is_ascii_whitespace() {
            if byte == b'\n' {
                statement.returns = false;
            }
            at += 1;
            continue;
        }
        if let Some(end) = scanner.comment_end(at) {
            let whole_line = bytes[line_start(bytes, at)..at].iter().all(u8::is_ascii_whitespace);
            let end = if whole_line { scanner.comments_end(end?) } else { end? };
            if whole_line && matches!(bytes.get(end), None | Some(b'\n' | b'\r')) {
                outline.hide(at..end, "");
            }
            at = end;
            continue;
        }
        if let Some(end) = scanner.literal_end(at) {
            at = end?;
            statement.push(b'"');
            continue;
        }
        if is_word(byte) {
            let end = at + bytes[at..].iter().position(|byte| !is_word(*byte)).unwrap_or(bytes.len() - at);
            let word = &bytes[at..end];
            if begins_statement(language, word)
                && bytes[line_start(bytes, at)..at].iter().all(u8::is_ascii_whitespace)
                && statement.depth == 0
            {
                statement = Statement::default();
            }
            statement.word(language, word, bytes.get(end).copied());
            at = end;
            continue;
        }
        match byte {
            b'(' if prototypes.peek().is_some_and(|next| next.open <= at) => {
                let prototype = prototypes.next()?;
                if prototype.open == at {
                    outline.cut(prototype.name..at + 1, "");
                    open_prototype = Some(prototype);
                } else {
                    // One that is in what was left out.
                    continue;
                }
            }
            b')' if open_prototype.is_some_and(|prototype| prototype.close == at) => {
                outline.cut(at..at + 1, "");
                open_prototype = None;
            }
            b'(' | b'[' => {
                let initializes = byte == b'['
                    && language == Language::Rust
                    && statement.constant
                    && statement.assigned
                    && statement.depth == 0;
                if initializes
                    && let Some(close) = scanner.close(at)
                    && fits(bytes, at, close)
                {
                    outline.hide(at + 1..close, "");
                    at = close + 1;
                    statement.push(b']');
                    continue;
                }
                if let Some(caller) = callers.get_mut(statement.depth) {
                    *caller = if is_word(statement.bytes[1]) { statement.last } else { b"" };
                }
                statement.depth += 1;
                statement.push(byte);
            }
            b')' | b']' => {
                statement.depth = statement.depth.saturating_sub(1);
                statement.called = callers.get(statement.depth).copied().unwrap_or(b"");
                statement.push(byte);
            }
            b'{' => {
                if statement.opens_body(language) {
                    let close = scanner.close(at);
                    match close.filter(|close| fits(bytes, at, *close)) {
                        Some(close) => {
                            outline.hide(at + 1..close, "");
                            statement.after_block(language);
                            at = close + 1;
                            continue;
                        }
                        None => {
                            read_again += close.unwrap_or(bytes.len()) - at;
                            if read_again > 8 * bytes.len() {
                                return None;
                            }
                        }
                    }
                }
                outer.push((statement, callers));
                statement = Statement::default();
            }
            b'}' => {
                let (before, before_callers) = outer.pop()?;
                (statement, callers) = (before, before_callers);
                statement.after_block(language);
            }
            b';' if statement.depth == 0 => statement = Statement::default(),
            _ => statement.push(byte),
        }
        at += 1;
    }
    outer.is_empty().then_some(())
}

impl<'a> Statement<'a> {
    fn push(&mut self, byte: u8) {
        let after_parameters = self.bytes[1] == b')' && byte == b':';
        self.returns = after_parameters || (self.returns && !matches!(byte, b':' | b'=' | b'(' | b')'));
        self.assigned |= byte == b'=' && self.depth == 0;
        self.bytes = [self.bytes[1], byte];
    }

    fn word(&mut self, language: Language, word: &'a [u8], next: Option<u8>) {
        match language {
            Language::Rust => {
                self.marked |= word == b"fn" && next.is_some_and(|byte| byte.is_ascii_whitespace());
                self.for_trait |= self.implements && word == b"for" && next != Some(b'<');
                self.implements |= matches!(word, b"impl" | b"macro_rules") && self.depth == 0;
                self.for_trait |= word == b"macro_rules";
                self.constant |= matches!(word, b"const" | b"static");
            }
            Language::C | Language::Cpp => {
                self.marked |= matches!(word, b"struct" | b"class" | b"union" | b"enum" | b"namespace");
            }
            _ => self.marked |= word == b"class",
        }
        (self.previous, self.last) = (self.last, word);
        self.bytes = [self.bytes[1], word[word.len() - 1]];
    }

    /// A block ends a statement, or is a part of one that is in brackets or was assigned.
    fn after_block(&mut self, language: Language) {
        let goes_on = self.depth > 0 || self.assigned && language != Language::Rust;
        match goes_on {
            true => self.push(b'}'),
            false => *self = Self::default(),
        }
    }

    /// Whether the brace that comes now opens what holds no symbols.
    fn opens_body(&self, language: Language) -> bool {
        let [before, last] = self.bytes;
        match language {
            Language::Rust => self.depth == 0 && (self.marked || (self.implements && self.for_trait)),
            Language::C | Language::Cpp => {
                let initializes = last == b'=' && before != b'=' && self.assigned;
                let qualified =
                    is_word(last) && matches!(self.last, b"const" | b"noexcept" | b"override" | b"final");
                let after_parameters = last == b')' || (qualified && !self.called.is_empty());
                let named =
                    !matches!(self.called, b"" | b"__attribute__" | b"__declspec" | b"alignas" | b"decltype");
                // `struct S ATTRIBUTE(1) {` is no function, but `struct S f(int x) {` is.
                let attribute = self.marked && !self.called.iter().any(u8::is_ascii_lowercase);
                self.depth == 0 && (initializes || (after_parameters && named && !attribute))
            }
            _ => {
                let parameters =
                    last == b')' || (self.returns && (is_word(last) || matches!(last, b'>' | b']')));
                let arrow = last == b'>' && before == b'=';
                !self.marked && self.called != b"constructor" && (parameters || arrow)
            }
        }
    }
}

/// Words that begin a statement where they begin a line, also where no semicolon ends the one before.
fn begins_statement(language: Language, word: &[u8]) -> bool {
    matches!(language, Language::TypeScript | Language::Tsx | Language::JavaScript)
        && matches!(
            word,
            b"const"
                | b"let"
                | b"var"
                | b"function"
                | b"class"
                | b"export"
                | b"import"
                | b"interface"
                | b"type"
                | b"enum"
                | b"declare"
                | b"abstract"
                | b"async"
        )
}

/// Whether a pair of brackets stands as code is written: on one line, or closed at the indentation of its first line.
fn fits(bytes: &[u8], open: usize, close: usize) -> bool {
    let (first, last) = (line_start(bytes, open), line_start(bytes, close));
    let before = &bytes[last..close];
    first == last || (before.iter().all(u8::is_ascii_whitespace) && before == indentation(bytes, first))
}
