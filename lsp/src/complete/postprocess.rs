//! Turns what a model wrote into what is worth showing: cuts, trims, or nothing at all.
//!
//! Each step is a pure function from the text so far to a shorter one with a reason; `STEPS` is their order:
//!
//! 1. `characters` — cut at broken or control characters; the document's own line breaks
//! 2. `first line` — one-line completions end with their line
//! 3. `scope` — several lines end at the dedent or the next sibling
//! 4. `unfinished line` — a line that the token or time limit broke off goes
//! 5. `repetition` — text that repeats itself is cut to its first occurrence
//! 6. `echo` — lines that repeat the lines above the cursor
//! 7. `following lines` — lines that already stand below the cursor
//! 8. `suffix overlap` — text that already stands after the cursor in its line
//! 9. `closing brackets` — brackets and quotes that are already closed after the cursor
//! 10. `white space` — at the end, and doubled at the beginning
//! 11. `length` — the configured number of characters, at a line end
//! 12. `syntax` — cut back to the last line that adds no syntax error
//! 13. `members` — cut before a line that asks a type for a member that it does not have
//! 14. `worth showing` — nothing rather than rubbish

mod brackets;
mod members;
mod overlap;
mod repetition;
mod scope;
mod valid;

use lacuna_indexer::Language;
use serde::Serialize;
use tree_sitter::Tree;

use super::{lines, shape::Shape};

/// What a completion is judged against.
pub struct Around<'a> {
    pub text: &'a str,
    pub offset: usize,
    pub language: Option<Language>,
    /// The tree of `text`, which does not hold the completion.
    pub tree: Option<&'a Tree>,
    pub shape: Shape,
    pub max_characters: usize,
    /// Whether a limit broke the generation off, so that its last line is not whole.
    pub broken_off: bool,
    /// What members are looked up in; nothing while the answer is being read.
    pub known: Option<Known<'a>>,
}

impl<'a> Around<'a> {
    pub fn prefix(&self) -> &'a str {
        &self.text[..self.offset]
    }
    pub fn suffix(&self) -> &'a str {
        &self.text[self.offset..]
    }
}

/// What one step took away, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    pub step: &'static str,
    pub why: &'static str,
    pub removed: String,
}

/// A step's answer: the text to go on with, and why it differs. `None` leaves the text as it is.
type Change = Option<(String, &'static str)>;
type StepFunction = fn(&str, &Around<'_>) -> Change;

/// The step that looks members up.
const MEMBERS: &str = "members";
/// Steps that cut what is wrong, not what is superfluous: an answer that they leave alone is preferred.
const WRONG: [&str; 6] = ["repetition", "echo", "following lines", "syntax", MEMBERS, "worth showing"];

const STEPS: &[(&str, StepFunction)] = &[
    ("characters", characters),
    ("first line", first_line),
    ("scope", scope::end_of_scope),
    ("unfinished line", unfinished_line),
    ("repetition", repetition::repeats_itself),
    ("echo", repetition::echo),
    ("following lines", overlap::following_lines),
    ("suffix overlap", overlap::suffix_overlap),
    ("closing brackets", brackets::already_closed),
    ("white space", white_space),
    ("length", length),
    ("syntax", valid::adds_no_error),
    (MEMBERS, members::missing_member),
    ("worth showing", worth_showing),
];

pub use members::{Known, TRUSTED};
/// Whether a stream of several lines may be stopped: what follows would be cut anyway.
pub use repetition::is_looping;
pub use scope::is_over;
pub use valid::with as with_text;

/// All steps in order. An empty text means that nothing is worth showing.
pub fn postprocess(raw: &str, around: &Around<'_>) -> (String, Vec<Step>) {
    let mut text = raw.to_string();
    let mut taken = Vec::new();
    for &(step, apply) in STEPS {
        if text.is_empty() {
            break;
        }
        if let Some((changed, why)) = apply(&text, around)
            && changed != text
        {
            let removed = removed(&text, &changed);
            taken.push(Step { step, why, removed });
            text = changed;
        }
    }
    (text, taken)
}

/// Whether nothing in an answer was wrong that went through `steps`.
pub fn is_sound(steps: &[Step]) -> bool {
    steps.iter().all(|step| !WRONG.contains(&step.step))
}

/// What is in `before` and not in `after`, for people: the cut end, or all of it.
fn removed(before: &str, after: &str) -> String {
    before.strip_prefix(after).or_else(|| before.strip_suffix(after)).unwrap_or(before).to_string()
}

fn characters(text: &str, around: &Around<'_>) -> Change {
    let broken = |character: char| {
        character == '\u{fffd}' || character.is_control() && !matches!(character, '\n' | '\r' | '\t')
    };
    if let Some(at) = text.find(broken) {
        return Some((text[..at].to_string(), "there is a broken character"));
    }
    let windows = around.text.contains("\r\n");
    let plain = text.replace("\r\n", "\n").replace('\r', "\n");
    let wanted = if windows { plain.replace('\n', "\r\n") } else { plain };
    (wanted != text).then_some((wanted, "the file has other line breaks"))
}

fn first_line(text: &str, around: &Around<'_>) -> Change {
    if around.shape != Shape::SingleLine {
        return None;
    }
    let end = text.find(['\n', '\r'])?;
    Some((text[..end].to_string(), "one line was wanted"))
}

fn unfinished_line(text: &str, around: &Around<'_>) -> Change {
    if !around.broken_off {
        return None;
    }
    match text.rfind('\n') {
        Some(at) => Some((text[..at].to_string(), "a limit broke this line off")),
        None => None,
    }
}

fn white_space(text: &str, around: &Around<'_>) -> Change {
    let mut kept = text.trim_end();
    let before = lines::line_before(around.prefix());
    let after = lines::line_after(around.suffix());
    // `x = ` and ` 1` make one space, not two; the cursor's own indentation is not doubled either.
    if before.ends_with([' ', '\t']) && !kept.starts_with(['\n', '\r']) {
        kept = kept.trim_start_matches([' ', '\t']);
    }
    // In the middle of a line, one space before the code that follows is part of the answer.
    let spaced = !after.trim().is_empty()
        && !after.starts_with([' ', ')', ']', '}', ',', ';', ':', '.'])
        && text[..text.len()].ends_with(' ')
        && !kept.is_empty();
    let wanted = if spaced { format!("{kept} ") } else { kept.to_string() };
    (wanted != text).then_some((wanted, "white space that shows nothing"))
}

fn length(text: &str, around: &Around<'_>) -> Change {
    let (end, _) = text.char_indices().nth(around.max_characters)?;
    let kept = text[..end].rfind('\n').map_or("", |at| text[..at].trim_end());
    Some((kept.to_string(), "it is longer than maxCharacters"))
}

fn worth_showing(text: &str, around: &Around<'_>) -> Change {
    let nothing = |why| Some((String::new(), why));
    if text.trim().is_empty() {
        return nothing("there is only white space");
    }
    let after = lines::line_after(around.suffix());
    if !after.trim().is_empty() && text.trim() == after.trim() {
        return nothing("it says what already follows");
    }
    let has_word = text.chars().any(|character| character.is_alphanumeric());
    if !has_word && text.trim().chars().count() > 12 {
        return nothing("there is no word in it");
    }
    None
}

#[cfg(test)]
mod tests;
