//! Parses prefix, completion and suffix together and cuts back to the last line that adds no syntax error.

use lacuna_indexer::Language;
use tree_sitter::{InputEdit, Tree};

use super::{Around, Change};
use crate::{complete::lines, syntax};

/// Errors counted at most; a text with more is beyond judging.
const MOST_ERRORS: usize = 200;
/// Lines cut back at most, each with a parse.
const MOST_TRIES: usize = 24;

pub fn adds_no_error(text: &str, around: &Around<'_>) -> Change {
    let (language, tree) = (around.language?, around.tree?);
    let baseline = syntax::count_errors(tree, MOST_ERRORS);
    if baseline >= MOST_ERRORS {
        return None;
    }
    let errors = |text: &str| -> Option<usize> {
        let (_, tree) = with(text, language, around)?;
        Some(syntax::count_errors(&tree, MOST_ERRORS))
    };
    let mut kept = text;
    for _ in 0..MOST_TRIES {
        if errors(kept)? <= baseline {
            break;
        }
        match kept.rfind('\n') {
            Some(at) => kept = kept[..at].trim_end(),
            // One line may open what the user goes on to close: a bracket, a string over lines, a block.
            None if goes_on(kept, around) => break,
            None => kept = "",
        }
        if kept.is_empty() {
            return Some((String::new(), "it adds a syntax error"));
        }
    }
    (kept != text).then(|| (kept.to_string(), "from here on it adds a syntax error"))
}

/// The document with a completion in it, and its tree.
pub fn with(text: &str, language: Language, around: &Around<'_>) -> Option<(String, Tree)> {
    let mut edited = around.tree?.clone();
    let mut whole = String::with_capacity(around.text.len() + text.len());
    whole.push_str(around.prefix());
    whole.push_str(text);
    whole.push_str(around.suffix());
    let start_position = syntax::point_in(around.text, around.offset);
    edited.edit(&InputEdit {
        start_byte: around.offset,
        old_end_byte: around.offset,
        new_end_byte: around.offset + text.len(),
        start_position,
        old_end_position: start_position,
        new_end_position: syntax::point_in(&whole, around.offset + text.len()),
    });
    let tree = syntax::parse_text(language, &whole, Some(&edited))?;
    Some((whole, tree))
}

fn goes_on(text: &str, around: &Around<'_>) -> bool {
    let line = format!("{}{text}", lines::line_before(around.prefix()));
    let rest_is_free = lines::line_after(around.suffix()).trim().is_empty();
    let text = text.trim_end();
    let opens = lines::open_brackets(text) > 0 && text.ends_with(['(', '[', '{', ',']);
    rest_is_free
        && (opens
            || lines::opens_block(&line, around.language)
            || text.ends_with("\"\"\"")
            || text.ends_with('\\'))
}
