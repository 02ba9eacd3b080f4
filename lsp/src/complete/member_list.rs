//! The names that the engine may write after a dot, or in Rust behind a type's path, where the index knows all that the type has.
//!
//! Only in the languages in which the member check is trusted, and in Python and TypeScript not where a statement begins: what
//! is assigned to may come to be by that.

use lacuna_indexer::{Language, Snapshot};

use super::{
    lines,
    postprocess::{Around, TRUSTED, with_text},
    site::Site,
};

/// What the text at the cursor goes on to be: a member's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberList {
    /// What stands of the name before the cursor.
    pub typed: String,
    /// Of which one is meant.
    pub names: Vec<String>,
}

/// What stands for the name, so that there is one to look up.
fn some_member(language: Language) -> &'static str {
    match language {
        // A name alone is no statement, and behind it the parser takes the next line for more of this one.
        Language::Java => "x()",
        _ => "x",
    }
}

pub fn at_cursor(site: &Site, around: &Around<'_>, snapshot: &Snapshot) -> Option<MemberList> {
    let language = site.language.filter(|language| TRUSTED.contains(language))?;
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    if site.suffix().starts_with(is_word) {
        return None;
    }
    let prefix = site.prefix();
    let begun = prefix.trim_end_matches(is_word).len();
    let before = &prefix[..begun];
    let of_path = before.strip_suffix("::").filter(|_| language == Language::Rust);
    let receiver = before.strip_suffix('.').or(of_path)?;
    let line = lines::line_before(receiver.trim_end_matches(is_word));
    if line.trim().is_empty() && !matches!(language, Language::Go | Language::Java | Language::Rust) {
        return None;
    }
    let typed = prefix[begun..].to_owned();
    let (text, tree) = with_text(some_member(language), language, around)?;
    let mut names = snapshot.members_at(&site.path, &text, &tree, begun)?;
    names.retain(|name| name.starts_with(&typed));
    // What begins with underscores has members that no list has.
    (!names.is_empty() && !typed.starts_with("__")).then_some(MemberList { typed, names })
}
