//! Text that already stands after the cursor: in its line, or on the lines that follow.

use super::{Around, Change};
use crate::complete::{lines, shape::Shape};

/// Lines after the cursor that are compared.
const FOLLOWING_LINES: usize = 12;
/// A single following line shorter than this (`}`, `pass`) proves nothing.
const TELLING_CHARACTERS: usize = 6;

/// Cuts where the completion's lines begin to say what the lines below the cursor say.
pub fn following_lines(text: &str, around: &Around<'_>) -> Change {
    let following: Vec<&str> = lines::after_line(around.suffix())
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take(FOLLOWING_LINES)
        .collect();
    let first_following = *following.first()?;
    // The completion's first line goes on at the cursor: as a line it begins before it.
    let before = lines::line_before(around.prefix());
    let mut at = 0;
    let mut written: Vec<(usize, String)> = Vec::new();
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let content =
            if number == 0 { format!("{before}{line}").trim().to_string() } else { line.trim().to_string() };
        if !content.is_empty() {
            written.push((at, content));
        }
        at += line.len();
    }
    for (index, (start, line)) in written.iter().enumerate() {
        if line != first_following {
            continue;
        }
        let agree = written[index..]
            .iter()
            .zip(&following)
            .take_while(|((_, line), following)| line.as_str() == **following)
            .count();
        let reaches_end = index + agree == written.len();
        let telling = first_following.chars().count() >= TELLING_CHARACTERS || agree > 1;
        if reaches_end && (telling || is_closer_of_block(line, *start, around)) {
            return Some((text[..*start].trim_end().to_string(), "these lines already follow"));
        }
    }
    None
}

/// A lone `}` on its own line doubles the one below when the completion fills the block that it closes.
fn is_closer_of_block(line: &str, start: usize, around: &Around<'_>) -> bool {
    matches!(around.shape, Shape::MultiLine { .. })
        && start > 0
        && line.chars().all(|character| matches!(character, '}' | ')' | ']' | ';' | ','))
}

/// Cuts the end of the completion that is the beginning of the text after the cursor.
pub fn suffix_overlap(text: &str, around: &Around<'_>) -> Change {
    let rest = lines::line_after(around.suffix()).trim_end();
    if rest.trim().is_empty() {
        return None;
    }
    // All of it, wherever the answer has it last: `a, b) -> int:` before `) -> int:`.
    let has_word = |piece: &str| piece.chars().any(|character| character.is_alphanumeric());
    if has_word(rest)
        && rest.trim().chars().count() >= 2
        && let Some(at) = text.rfind(rest.trim_start())
        && text[at + rest.trim_start().len()..].trim().is_empty()
    {
        return Some((text[..at].to_string(), "this already follows in the line"));
    }
    let longest = (1..=rest.len().min(text.len()))
        .rev()
        .filter(|&length| rest.is_char_boundary(length) && text.is_char_boundary(text.len() - length))
        .find(|&length| text.ends_with(&rest[..length]))?;
    let overlap = &rest[..longest];
    // Brackets alone are judged by their balance, in the next step. A word must be whole to be a repetition.
    let ends_word = rest[longest..].chars().next().is_none_or(|next| !next.is_alphanumeric());
    let telling = has_word(overlap) && ends_word && overlap.trim().chars().count() >= 2
        || overlap == rest && matches!(overlap.trim(), ":" | ";" | "," | ":=" | "=" | "=>" | "->");
    telling.then(|| (text[..text.len() - longest].to_string(), "this already follows in the line"))
}
