//! C's declarations with a macro around the parameters, `int f P_((int x));`: without the macro the parser can read them.

use super::{Outline, scanner::Scanner};
use crate::words::is_word;

/// A macro of parameters: its name with its bracket, and the bracket that closes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Prototype {
    pub name: usize,
    pub open: usize,
    pub close: usize,
}

/// All such declarations of a text, in order.
pub(super) fn find(scanner: &Scanner<'_>, text: &str) -> Vec<Prototype> {
    let bytes = text.as_bytes();
    let prototypes =
        text.match_indices("((").filter_map(|(open, _)| {
            let head = &bytes[..open];
            let name = head.iter().rposition(|byte| !is_word(*byte))? + 1;
            let is_macro = name < open
                && head[name..].iter().all(|byte| !byte.is_ascii_lowercase())
                && head[name..].iter().any(u8::is_ascii_uppercase);
            // The function's own name stands before it.
            let before = head[..name].trim_ascii_end();
            if !is_macro || before.len() == name || !is_word(*before.last()?) {
                return None;
            }
            let line = &before[super::line_start(bytes, before.len())..];
            let is_directive = line.trim_ascii_start().starts_with(b"#");
            let inner = scanner.close(open + 1)?;
            let close = inner + 1 + bytes[inner + 1..].iter().position(|byte| !byte.is_ascii_whitespace())?;
            let next = bytes[close + 1..].iter().find(|byte| !byte.is_ascii_whitespace());
            (!is_directive && bytes[close] == b')' && matches!(next, Some(b';' | b'{')))
                .then_some(Prototype { name, open, close })
        });
    prototypes.collect()
}

/// Takes the macros off, and nothing else.
pub(super) fn unwrap(outline: &mut Outline<'_>, prototypes: &[Prototype]) {
    for prototype in prototypes {
        outline.cut(prototype.name..prototype.open + 1, "");
        outline.cut(prototype.close..prototype.close + 1, "");
    }
}
