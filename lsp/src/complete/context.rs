//! Asks the index for definitions from other files, and keeps the answer steady from key to key.

use std::{
    ops::Range,
    path::Path,
    sync::{Mutex, PoisonError},
};

use lacuna_indexer::{ContextItem, Query, RecentEdit, Workspace};
use rustc_hash::FxHashMap;

use super::line_tokens::LineTokens;

/// Documents whose last context is remembered.
const REMEMBERED_DOCUMENTS: usize = 64;
/// A remembered context serves again while the cursor stays this near.
const SAME_PLACE_BYTES: usize = 2000;
/// and at most this often, so that what the index forgot does not live on.
const SAME_PLACE_USES: u32 = 100;
/// It serves as long as it lacks one line of so many that the index would show now, and none of what it ranks first.
const LINES_FOR_ONE_MISSING: usize = 4;
/// Bytes of words and spaces that may be typed before the index is asked again.
const QUIET_BYTES: usize = 80;
/// Tokens of a chunk's own header: the separator, and the line break after the path.
const CHUNK_OVERHEAD_TOKENS: usize = 3;

/// The context chosen last for each document. Earlier chunks lie before everything else in the prompt, so any change
/// voids the cached keys and values of the whole prompt: a context that still covers the need is kept.
#[derive(Default)]
pub struct Contexts {
    last: Mutex<FxHashMap<String, Remembered>>,
}

struct Remembered {
    offset: usize,
    budget: usize,
    uses: u32,
    /// Where the index was asked last, and what stood on the line before it.
    asked: usize,
    line: String,
    items: Vec<ContextItem>,
}

/// A cursor, as the index is asked about it.
pub struct Place<'a> {
    pub path: &'a Path,
    pub text: &'a str,
    pub offset: usize,
    /// What the prompt shows of the file itself.
    pub visible: Range<usize>,
    pub budget: usize,
    /// The latest first.
    pub recent: &'a [RecentEdit],
}

impl Contexts {
    pub fn choose(&self, workspace: &Workspace, place: &Place<'_>, tokens: &LineTokens) -> Vec<ContextItem> {
        if place.budget == 0 {
            return Vec::new();
        }
        // A file deleted or ignored since must not live on in a remembered context.
        let roots = workspace.roots();
        let may_be_shown = |item: &ContextItem| {
            roots
                .iter()
                .map(|root| root.join(&item.path))
                .any(|path| path.is_file() && !workspace.is_excluded(&path))
        };
        if let Some(items) = self.while_words_are_typed(place, &may_be_shown) {
            return items;
        }
        let items = workspace.snapshot().context(&Query {
            path: place.path,
            text: place.text,
            offset: place.offset,
            visible: place.visible.clone(),
            budget: place.budget,
            measure: &|text| measure(tokens, text),
            recent: place.recent,
        });
        self.steady(place, items, &may_be_shown)
    }

    /// The remembered context, while nothing but words and spaces was typed since the index was asked: half of a name says
    /// little, and what it happens to name changes from letter to letter.
    fn while_words_are_typed(
        &self,
        place: &Place<'_>,
        may_be_shown: &dyn Fn(&ContextItem) -> bool,
    ) -> Option<Vec<ContextItem>> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let remembered = last.get(place.path.to_string_lossy().as_ref())?;
        let typed = place.text.get(remembered.asked..place.offset)?;
        let says_nothing =
            |character: char| character.is_alphanumeric() || character.is_whitespace() || character == '_';
        // Nothing found says that the index may know more by now.
        let serves = !remembered.items.is_empty()
            && remembered.budget == place.budget
            && (1..=QUIET_BYTES).contains(&typed.len())
            && typed.chars().all(says_nothing)
            && line_before(place.text, remembered.asked) == remembered.line;
        (serves && remembered.items.iter().all(may_be_shown)).then(|| remembered.items.clone())
    }

    fn steady(
        &self,
        place: &Place<'_>,
        items: Vec<ContextItem>,
        may_be_shown: &dyn Fn(&ContextItem) -> bool,
    ) -> Vec<ContextItem> {
        let key = place.path.to_string_lossy();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = last.get_mut(key.as_ref())
            && before.budget == place.budget
            && before.offset.abs_diff(place.offset) <= SAME_PLACE_BYTES
            && before.uses < SAME_PLACE_USES
            && covers(&before.items, &items)
            && before.items.iter().all(may_be_shown)
        {
            before.uses += 1;
            (before.asked, before.line) = (place.offset, line_before(place.text, place.offset).to_string());
            return before.items.clone();
        }
        if last.len() >= REMEMBERED_DOCUMENTS {
            last.clear();
        }
        let remembered = Remembered {
            offset: place.offset,
            budget: place.budget,
            uses: 0,
            asked: place.offset,
            line: line_before(place.text, place.offset).to_string(),
            items: items.clone(),
        };
        last.insert(key.into_owned(), remembered);
        items
    }
}

/// What stands before an offset on its line.
fn line_before(text: &str, offset: usize) -> &str {
    let before = text.get(..offset).unwrap_or_default();
    &before[before.rfind('\n').map_or(0, |at| at + 1)..]
}

/// Tokens that a chunk costs.
pub fn measure(tokens: &LineTokens, text: &str) -> usize {
    tokens.count(text) + CHUNK_OVERHEAD_TOKENS
}

/// Whether a context shows all of what is wanted most, and nearly all of the rest.
fn covers(known: &[ContextItem], wanted: &[ContextItem]) -> bool {
    let missing = |item: &ContextItem| {
        let lines =
            || known.iter().filter(|known| known.path == item.path).flat_map(|known| known.text.lines());
        item.text.lines().filter(|line| !lines().any(|known| known == *line)).count()
    };
    let most = wanted.iter().map(|item| item.score).fold(0.0, f32::max);
    let lines: usize = wanted.iter().map(|item| item.text.lines().count()).sum();
    wanted.iter().filter(|item| item.score >= most).all(|item| missing(item) == 0)
        && wanted.iter().map(missing).sum::<usize>() * LINES_FOR_ONE_MISSING <= lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(name: &str) -> ContextItem {
        ContextItem { path: name.into(), text: name.into(), reason: String::new(), score: 1.0, cost: 1 }
    }

    fn names(items: &[ContextItem]) -> String {
        items.iter().map(|item| item.path.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_context_may_lack_a_quarter_of_what_matters_less() {
        let chunk = |path: &str, lines: &str, score| ContextItem {
            text: lines.replace(' ', "\n"),
            score,
            ..item(path)
        };
        let known = [chunk("a", "type member", 1.0), chunk("b", "one two three", 0.5)];
        let cases = [
            ("member", "one two", true),
            ("member", "one four", false),
            ("member", "one two three four", true),
            ("type member", "one two three four", true),
            ("type other", "one two three four", false),
            ("other", "", false),
        ];
        for (first, second, expected) in cases {
            let wanted = [chunk("a", first, 1.0), chunk("b", second, 0.5)];
            assert_eq!(covers(&known, &wanted), expected, "{first} and {second}");
        }
    }

    #[test]
    fn a_context_that_still_covers_the_need_is_kept() {
        let contexts = Contexts::default();
        let at = |offset| Place {
            path: Path::new("a.py"),
            text: "",
            offset,
            visible: 0..0,
            budget: 9,
            recent: &[],
        };
        // offset, what the index says now, what is used
        let cases = [
            (10, "x y", "x y"),
            (11, "y", "x y"),
            (12, "y x", "x y"),
            (13, "y z", "y z"),
            (14, "z", "y z"),
            (9000, "z", "z"),
            (9001, "", "z"),
        ];
        for (offset, found, used) in cases {
            let found = found.split_whitespace().map(item).collect();
            assert_eq!(names(&contexts.steady(&at(offset), found, &|_| true)), used, "at {offset}");
        }
        let text = "total = order.pri\n    x + 1";
        let within = |offset| Place { text, ..at(offset) };
        let _ = contexts.steady(&within(14), vec![item("o")], &|_| true);
        // The offset, and whether the context chosen at 14 serves there without asking.
        let cases = [
            (13, false),
            (14, false),
            (15, true),
            (17, true),
            (18, true),
            (23, true),
            (24, true),
            (25, false),
        ];
        for (offset, serves) in cases {
            let kept = contexts.while_words_are_typed(&within(offset), &|_| true);
            assert_eq!(kept.is_some(), serves, "at {offset}");
        }
        assert!(
            contexts.while_words_are_typed(&within(16), &|_| false).is_none(),
            "deleted files are not shown"
        );
        let changed = Place { text: "total = other.pri + 1", ..at(16) };
        assert!(contexts.while_words_are_typed(&changed, &|_| true).is_none(), "another line");
        let _ = contexts.steady(&at(9001), vec![item("z")], &|_| true);
        assert_eq!(
            names(&contexts.steady(&at(9002), Vec::new(), &|item| item.path != "z")),
            "",
            "z was deleted"
        );
    }
}
