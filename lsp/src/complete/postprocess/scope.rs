//! Where a completion of several lines ends: at the dedent, or before the next sibling.

use super::{Around, Change};
use crate::complete::{lines, shape::Shape};

pub fn end_of_scope(text: &str, around: &Around<'_>) -> Change {
    let Shape::MultiLine { floor } = around.shape else { return None };
    let end = end(text, floor, around)?;
    Some((text[..end].trim_end().to_string(), "the block ends here"))
}

/// Whether the block is over in `text` although more may come: its last, unfinished line does not count.
pub fn is_over(text: &str, around: &Around<'_>) -> bool {
    let Shape::MultiLine { floor } = around.shape else { return false };
    let whole = text.rfind('\n').map_or("", |at| &text[..at + 1]);
    let last = &text[whole.len()..];
    // The unfinished line's indentation is known once something stands on it.
    if last.trim().is_empty() {
        end(whole, floor, around).is_some()
    } else {
        end(text, floor, around).is_some()
    }
}

/// The offset at which the block of lines indented by at least `floor` columns ends, `None` while it goes on.
fn end(text: &str, floor: usize, around: &Around<'_>) -> Option<usize> {
    let mut at = 0;
    let mut open = 0;
    let mut blank_before = false;
    let starts_on_blank_line = lines::is_blank(lines::line_before(around.prefix()));
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let content = line.trim_end();
        // The first line goes on at the cursor and has the indentation that stands there.
        let is_first = number == 0;
        if content.is_empty() {
            blank_before |= !is_first;
            at += line.len();
            continue;
        }
        let indentation = lines::indentation(content);
        if !is_first && open <= 0 {
            if indentation < floor {
                return Some(if closes_block(content, indentation, floor, around) {
                    at + content.len()
                } else {
                    at
                });
            }
            // Without a block around it (`multiLine: always`), what follows a blank line is the next sibling.
            if blank_before && indentation == floor && !starts_on_blank_line {
                return Some(at);
            }
        }
        open += lines::open_brackets(lines::without_line_comment(content, around.language));
        if is_first && floor > 0 {
            // `{` at the cursor opened the block; it is the block's own bracket, not one inside it.
            open = open.max(0);
        }
        blank_before = false;
        at += line.len();
    }
    None
}

/// Whether a dedented line is the block's own closing bracket and the text after the cursor has none for it.
fn closes_block(content: &str, indentation: usize, floor: usize, around: &Around<'_>) -> bool {
    let closer = content.trim_start();
    let is_closer = closer.starts_with(['}', ')', ']']);
    let is_own = indentation + 1 == floor;
    let already = lines::line_after(around.suffix()).trim_start().starts_with(['}', ')', ']'])
        || lines::next_line(around.suffix()).is_some_and(|next| {
            next.trim_start().starts_with(['}', ')', ']']) && lines::indentation(next) == indentation
        });
    is_closer && is_own && !already
}
