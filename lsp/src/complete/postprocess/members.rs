//! Cuts before a member that its receiver's type cannot have, where the index knows the type and all that it offers.

use std::path::Path;

use lacuna_indexer::{Language, Snapshot};

use super::{Around, Change, valid};
use crate::complete::lines;

/// What the members of a text are looked up in.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// Of the document.
    pub path: &'a Path,
    pub snapshot: &'a Snapshot,
}

/// Languages in which at least 98 of 100 members that the check calls missing are (`evals/results/index.md`).
pub const TRUSTED: [Language; 5] =
    [Language::Python, Language::TypeScript, Language::Go, Language::Java, Language::Rust];

pub fn missing_member(text: &str, around: &Around<'_>) -> Change {
    let known = around.known?;
    let language = around.language.filter(|language| TRUSTED.contains(language))?;
    // The name may have been begun before the cursor.
    let begun = around.prefix().trim_end_matches(|c: char| c.is_alphanumeric() || c == '_').len();
    let before = &around.prefix()[..begun];
    if !text.contains(['.', ':']) && !before.ends_with(['.', ':']) {
        return None;
    }
    let (whole, tree) = valid::with(text, language, around)?;
    let part = begun..around.offset + text.len();
    let check = known.snapshot.check_members(known.path, &whole, &tree, part);
    let missing = check.missing.first()?;
    let at = missing.range.start.saturating_sub(around.offset);
    let kept = &text[..at.min(text.len())];
    // A line is of no use without its end.
    let kept = &kept[..kept.len() - lines::line_before(kept).len()];
    Some((kept.trim_end().to_string(), "there is no such member"))
}
