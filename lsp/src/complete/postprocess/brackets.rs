//! Closing brackets and quotes that already stand after the cursor, because the editor put them there.

use super::{Around, Change};
use crate::complete::lines;

pub fn already_closed(text: &str, around: &Around<'_>) -> Change {
    let rest = lines::line_after(around.suffix()).trim_start();
    if let Some(end) = unmatched_closer(text).filter(|&end| rest.starts_with(&text[end..end + 1])) {
        return Some((text[..end].to_string(), "this bracket is already closed after the cursor"));
    }
    doubled_quote(text, around.prefix(), rest)
}

/// The offset of the first closing bracket that `text` itself does not open.
fn unmatched_closer(text: &str) -> Option<usize> {
    let mut open = Vec::new();
    for (at, character) in lines::code_characters(text) {
        match character {
            '(' => open.push(')'),
            '[' => open.push(']'),
            '{' => open.push('}'),
            ')' | ']' | '}' if open.pop() != Some(character) => return Some(at),
            _ => {}
        }
    }
    None
}

/// `"hello|"` answered with `, world"`: the quote at the end is the one that is there.
fn doubled_quote(text: &str, prefix: &str, rest: &str) -> Change {
    let quote = rest.chars().next().filter(|quote| matches!(quote, '"' | '\'' | '`'))?;
    let at = text.find(quote)?;
    let is_open = lines::line_before(prefix).matches(quote).count() % 2 == 1;
    let escaped = text[..at].ends_with('\\');
    (is_open && !escaped).then(|| (text[..at].to_string(), "this quote is already closed after the cursor"))
}
