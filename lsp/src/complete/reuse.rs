//! Answers without the model: the cursor is where an earlier completion was made, or the user has typed the
//! beginning of one.

use std::{collections::VecDeque, sync::Arc};

use super::lines;

/// Completions remembered.
const ENTRIES: usize = 256;
/// Text that must agree before and after the cursor for a remembered completion to count. Bytes.
const COMPARED_BYTES: usize = 1024;
/// How far into a remembered completion the user may have typed. Characters.
const LOOK_BACK_CHARACTERS: usize = 128;

/// A cursor, as far as a remembered completion is tied to it.
#[derive(Debug, Clone, Copy)]
pub struct Cursor<'a> {
    pub path: &'a str,
    pub prefix: &'a str,
    pub suffix: &'a str,
    /// [`crate::config::Config::fingerprint`].
    pub config: u64,
    /// How many completions are wanted.
    pub wanted: usize,
}

/// The completions for a cursor; none is an answer too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reused {
    pub texts: Vec<String>,
    /// Characters typed since; 0 is a repeat.
    pub typed: usize,
}

/// Recent completions, the most recently used first.
#[derive(Debug, Default)]
pub struct Reuse {
    entries: VecDeque<Entry>,
}

#[derive(Debug)]
struct Entry {
    path: Box<str>,
    prefix_tail: Box<str>,
    suffix_head: Box<str>,
    config: u64,
    wanted: usize,
    texts: Arc<[String]>,
}

impl Reuse {
    /// The remembered completions for `cursor`, without what has been typed of them.
    pub fn lookup(&mut self, cursor: &Cursor<'_>) -> Option<Reused> {
        let (at, reused) = self.entries.iter().enumerate().find_map(|(at, entry)| {
            let related =
                &*entry.path == cursor.path && entry.config == cursor.config && entry.wanted >= cursor.wanted;
            if !related {
                return None;
            }
            Some((at, entry.rest(cursor)?))
        })?;
        if let Some(entry) = self.entries.remove(at) {
            self.entries.push_front(entry);
        }
        Some(reused)
    }

    pub fn remember(&mut self, cursor: &Cursor<'_>, texts: Vec<String>) {
        self.entries.push_front(Entry {
            path: cursor.path.into(),
            prefix_tail: tail(cursor.prefix).into(),
            suffix_head: head(cursor.suffix).into(),
            config: cursor.config,
            wanted: cursor.wanted,
            texts: texts.into(),
        });
        self.entries.truncate(ENTRIES);
    }

    /// What is known about `path` no longer holds.
    pub fn forget(&mut self, path: &str) {
        self.entries.retain(|entry| &*entry.path != path);
    }
}

impl Entry {
    fn rest(&self, cursor: &Cursor<'_>) -> Option<Reused> {
        let closed = self.closed(cursor.suffix)?;
        if closed.is_empty() && tail(cursor.prefix) == &*self.prefix_tail {
            return Some(Reused { texts: self.texts.to_vec(), typed: 0 });
        }
        // All that agree with the longest typed text; the shortest agreement would show a suggestion twice.
        let mut best: Option<Reused> = None;
        for text in self.texts.iter() {
            let ends = text.char_indices().map(|(at, character)| at + character.len_utf8());
            for (typed, end) in ends.enumerate().take(LOOK_BACK_CHARACTERS) {
                // What the editor has closed since is there already.
                let (typed, Some(rest)) = (typed + 1, text[end..].strip_suffix(closed)) else { continue };
                let agrees = !rest.is_empty()
                    && cursor
                        .prefix
                        .strip_suffix(&text[..end])
                        .is_some_and(|before| tail(before) == &*self.prefix_tail);
                if !agrees {
                    continue;
                }
                match &mut best {
                    Some(found) if found.typed == typed => found.texts.push(rest.to_string()),
                    Some(found) if found.typed > typed => {}
                    _ => best = Some(Reused { texts: vec![rest.to_string()], typed }),
                }
            }
        }
        best
    }

    /// What the editor has closed since behind the cursor; `None` when something else follows than did.
    fn closed<'a>(&self, suffix: &'a str) -> Option<&'a str> {
        suffix
            .char_indices()
            .map(|(at, _)| at)
            .chain([suffix.len()])
            .take_while(|&at| lines::is_closed(&suffix[..at]))
            .find(|&at| head(&suffix[at..]) == &*self.suffix_head)
            .map(|at| &suffix[..at])
    }
}

/// The end of a text, as far as it is compared.
pub fn tail(text: &str) -> &str {
    let mut at = text.len().saturating_sub(COMPARED_BYTES);
    while !text.is_char_boundary(at) {
        at += 1;
    }
    &text[at..]
}

/// The beginning of a text, as far as it is compared.
pub fn head(text: &str) -> &str {
    let mut at = text.len().min(COMPARED_BYTES);
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    &text[..at]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor<'a>(prefix: &'a str, suffix: &'a str) -> Cursor<'a> {
        Cursor { path: "a.py", prefix, suffix, config: 1, wanted: 1 }
    }

    /// Remembers `texts` at `x = |)`, then asks at `prefix|suffix`.
    fn check(texts: &[&str], prefix: &str, suffix: &str, expected: Option<(&[&str], usize)>) {
        let mut reuse = Reuse::default();
        reuse.remember(&cursor("x = ", ")"), texts.iter().map(|text| text.to_string()).collect());
        let found = reuse.lookup(&cursor(prefix, suffix));
        let expected = expected.map(|(texts, typed)| Reused {
            texts: texts.iter().map(|text| text.to_string()).collect(),
            typed,
        });
        assert_eq!(found, expected, "{texts:?} at {prefix:?}|{suffix:?}");
    }

    #[test]
    fn typing_into_a_completion_shows_its_rest() {
        check(&["value + 1"], "x = ", ")", Some((&["value + 1"], 0)));
        check(&["value + 1"], "x = v", ")", Some((&["alue + 1"], 1)));
        check(&["value + 1"], "x = value +", ")", Some((&[" 1"], 7)));
        check(&["value + 1"], "x = value + 1", ")", None);
        check(&["value + 1"], "x = w", ")", None);
        check(&["value + 1"], "x =", ")", None);
        check(&["value + 1"], "x = v", "))", None);
        check(&["value + 1"], "y = v", ")", None);
        check(&["aaaa"], "x = aa", ")", Some((&["aa"], 2)));
        check(&["ab", "ac", "b"], "x = a", ")", Some((&["b", "c"], 1)));
        check(&["f(a, b)"], "x = f(", "))", Some((&["a, b"], 2)));
        check(&["f(a, b) + 1"], "x = f(", "))", None);
        check(&["f(g(a))"], "x = f(g(", ")))", Some((&["a"], 4)));
        check(&["f(a)"], "x = f(a", "))", None);
        check(&["f(a)"], "x = ", "))", None);
        check(&["漢字"], "x = 漢", ")", Some((&["字"], 1)));
        check(&["if a:\n    b"], "x = if a:\n  ", ")", Some((&["  b"], 8)));
        check(&[], "x = ", ")", Some((&[], 0)));
        check(&[], "x = v", ")", None);
    }

    #[test]
    fn other_files_settings_and_counts_do_not_match() {
        let mut reuse = Reuse::default();
        reuse.remember(&cursor("x = ", ""), vec!["1".into()]);
        let at = cursor("x = ", "");
        assert!(reuse.lookup(&Cursor { path: "b.py", ..at }).is_none());
        assert!(reuse.lookup(&Cursor { config: 2, ..at }).is_none());
        assert!(reuse.lookup(&Cursor { wanted: 3, ..at }).is_none());
        assert!(reuse.lookup(&at).is_some());
        reuse.forget("a.py");
        assert!(reuse.lookup(&at).is_none());
    }

    #[test]
    fn the_cache_is_bounded_and_keeps_what_is_used() {
        let mut reuse = Reuse::default();
        reuse.remember(&cursor("first ", ""), vec!["1".into()]);
        for number in 0..ENTRIES + 50 {
            reuse.remember(&cursor(&format!("{number} = "), ""), vec!["1".into()]);
            assert!(reuse.lookup(&cursor("first ", "")).is_some());
        }
        assert_eq!(reuse.entries.len(), ENTRIES);
        assert!(reuse.lookup(&cursor("0 = ", "")).is_none());
    }
}
