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
        let items = workspace.snapshot().context(&Query {
            path: place.path,
            text: place.text,
            offset: place.offset,
            visible: place.visible.clone(),
            budget: place.budget,
            measure: &|text| measure(tokens, text),
            recent: place.recent,
        });
        // A file deleted or ignored since must not live on in a remembered context.
        let roots = workspace.roots();
        let may_be_shown = |item: &ContextItem| {
            roots
                .iter()
                .map(|root| root.join(&item.path))
                .any(|path| path.is_file() && !workspace.is_excluded(&path))
        };
        self.steady(place, items, &may_be_shown)
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
            && items.iter().all(|item| before.items.iter().any(|old| covers(old, item)))
            && before.items.iter().all(may_be_shown)
        {
            before.uses += 1;
            return before.items.clone();
        }
        if last.len() >= REMEMBERED_DOCUMENTS {
            last.clear();
        }
        let remembered =
            Remembered { offset: place.offset, budget: place.budget, uses: 0, items: items.clone() };
        last.insert(key.into_owned(), remembered);
        items
    }
}

/// Tokens that a chunk costs.
pub fn measure(tokens: &LineTokens, text: &str) -> usize {
    tokens.count(text) + CHUNK_OVERHEAD_TOKENS
}

/// Whether one item shows all that another does: of definitions of a file, those and more.
fn covers(known: &ContextItem, wanted: &ContextItem) -> bool {
    let has_line = |line: &str| known.text.lines().any(|known| known == line);
    known.path == wanted.path && (known.text == wanted.text || wanted.text.lines().all(has_line))
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
        assert_eq!(
            names(&contexts.steady(&at(9002), Vec::new(), &|item| item.path != "z")),
            "",
            "z was deleted"
        );
    }
}
