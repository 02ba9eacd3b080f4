//! What the file names around the cursor's definition, and how often: what it uses much, it is likely to use next.
//!
//! Counts are compared in powers of two, and the part of the file that is counted hangs on the enclosing definition, not
//! on the cursor: so a single key press seldom changes the order.

use rustc_hash::FxHashMap;

use crate::{
    scope::Scope,
    symbols::name_hash,
    words::{Word, is_word, words},
};

/// Bytes on either side of the enclosing definition that are counted, and those of them that count more.
const MAX_BYTES: usize = 128 << 10;
const NEAR_BYTES: usize = 6 << 10;
const NEAR_COUNT: u32 = 4;
/// Shorter names are mostly variables.
const MIN_NAME_LENGTH: usize = 3;

/// The names of the file.
pub(super) struct Usage<'a> {
    counts: FxHashMap<u32, u32>,
    /// Each name once for each qualifier, in the order of their first appearance.
    named: Vec<(Word<'a>, u32)>,
}

impl<'a> Usage<'a> {
    /// The word that the cursor touches is still being typed and does not count.
    pub fn new(text: &'a str, offset: usize, scope: &Scope) -> Self {
        let mut usage = Self { counts: FxHashMap::default(), named: Vec::new() };
        let mut positions: FxHashMap<(u32, u32), usize> = FxHashMap::default();
        let bytes = text.as_bytes();
        let is_cut = |at: usize| {
            !text.is_char_boundary(at)
                || (at > 0 && at < bytes.len() && is_word(bytes[at]) && is_word(bytes[at - 1]))
        };
        let mut from = scope.function.start.saturating_sub(MAX_BYTES);
        while from > 0 && is_cut(from) {
            from += 1;
        }
        let mut to = (scope.function.end + MAX_BYTES).min(text.len());
        while is_cut(to) {
            to -= 1;
        }
        let near = scope.function.start.saturating_sub(NEAR_BYTES)..scope.function.end + NEAR_BYTES;
        for word in words(text.get(from..to).unwrap_or("")) {
            let word = Word { start: from + word.start, ..word };
            let touches = word.start <= offset && offset <= word.start + word.text.len();
            if touches || word.text.len() < MIN_NAME_LENGTH {
                continue;
            }
            let count = if near.contains(&word.start) { NEAR_COUNT } else { 1 };
            let hash = name_hash(word.text);
            *usage.counts.entry(hash).or_default() += count;
            let position =
                *positions.entry((hash, word.qualifier.map_or(0, name_hash))).or_insert_with(|| {
                    usage.named.push((word, 0));
                    usage.named.len() - 1
                });
            usage.named[position].1 += count;
        }
        usage
    }

    /// How much the file uses a name: 0 for not at all, and one more for each doubling.
    pub fn level(&self, name: &str) -> u32 {
        self.counts.get(&name_hash(name)).copied().map_or(0, level)
    }

    /// Names with their levels, the most used ones first.
    pub fn most_used(&self) -> Vec<(Word<'a>, u32)> {
        let mut named: Vec<_> = self.named.iter().map(|(word, count)| (*word, level(*count))).collect();
        named.sort_by_key(|(_, level)| std::cmp::Reverse(*level));
        named
    }

    /// What the file asks the members of `receiver` by.
    pub fn members_of(&self, receiver: &str) -> impl Iterator<Item = &'a str> {
        self.named.iter().filter(move |(word, _)| word.qualifier == Some(receiver)).map(|(word, _)| word.text)
    }
}

fn level(count: u32) -> u32 {
    u32::BITS - count.leading_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_in_powers_of_two() {
        let text = "use_it(); store.open(); use_it(); use_it(); store.close(); near";
        let scope = Scope { function: text.len()..text.len(), container: None };
        let usage = Usage::new(text, text.len(), &scope);
        assert_eq!((usage.level("use_it"), usage.level("open"), usage.level("absent")), (4, 3, 0));
        assert_eq!(usage.level("near"), 0, "it is being typed");
        assert_eq!(usage.members_of("store").collect::<Vec<_>>(), ["open", "close"]);
        assert_eq!(usage.most_used()[0].0.text, "use_it");
    }
}
