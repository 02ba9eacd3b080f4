//! Encodes long texts by blocks of lines with a cache, so that a key press re-encodes one line and not the file.
//!
//! Byte-level vocabularies split text by a pattern before merging, and a line break that is followed by a line with
//! something on it always ends such a piece: joining the blocks' tokens equals encoding the whole. Vocabularies of
//! other kinds are recognised by a trial at the start and encoded whole.

use std::sync::{Arc, Mutex, PoisonError};

use lacuna_inference::tokenizer::Tokenizer;
use rustc_hash::FxHashMap;

/// Blocks kept in each of the two halves of the cache.
const HALF_BLOCKS: usize = 8192;
/// Longer blocks (minified code) are not worth keeping.
const LONGEST_KEPT_BYTES: usize = 2048;

/// A text in which whole and block-wise encoding differ for every vocabulary that is not safe to split.
const TRIAL: &str =
    "import os\n\n\n    def  f(x):\n\treturn x  \n \n        y = {'a': 1}\n}\n\n\r\n  );\r\nend\n    ";

pub struct LineTokens {
    tokenizer: Tokenizer,
    can_split: bool,
    cache: Mutex<Cache>,
}

/// Two halves: when the young one is full it becomes the old one, and what was old and unused is forgotten.
#[derive(Default)]
struct Cache {
    young: FxHashMap<Box<str>, Arc<[u32]>>,
    old: FxHashMap<Box<str>, Arc<[u32]>>,
}

impl LineTokens {
    pub fn new(tokenizer: Tokenizer) -> Self {
        let mut tokens = Self { tokenizer, can_split: true, cache: Mutex::default() };
        tokens.can_split = tokens.encode(TRIAL) == tokens.tokenizer.encode(TRIAL);
        tokens
    }

    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Equal to the tokenizer's own encoding of `text`.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        if !self.can_split {
            return self.tokenizer.encode(text);
        }
        let mut ids = Vec::with_capacity(text.len() / 3);
        for block in blocks(text) {
            ids.extend_from_slice(&self.block(block));
        }
        ids
    }

    pub fn count(&self, text: &str) -> usize {
        if !self.can_split {
            return self.tokenizer.encode(text).len();
        }
        blocks(text).map(|block| self.block(block).len()).sum()
    }

    fn block(&self, block: &str) -> Arc<[u32]> {
        // What the cursor's line holds is gone with the next key press.
        let keep = block.ends_with('\n') && block.len() <= LONGEST_KEPT_BYTES;
        if keep && let Some(ids) = self.lock().get(block) {
            return ids;
        }
        let ids: Arc<[u32]> = self.tokenizer.encode(block).into();
        if keep {
            self.lock().insert(block, Arc::clone(&ids));
        }
        ids
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cache {
    fn get(&mut self, block: &str) -> Option<Arc<[u32]>> {
        if let Some(ids) = self.young.get(block) {
            return Some(Arc::clone(ids));
        }
        let (key, ids) = self.old.remove_entry(block)?;
        self.put(key, Arc::clone(&ids));
        Some(ids)
    }

    fn insert(&mut self, block: &str, ids: Arc<[u32]>) {
        self.put(block.into(), ids);
    }

    fn put(&mut self, key: Box<str>, ids: Arc<[u32]>) {
        if self.young.len() >= HALF_BLOCKS {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, ids);
    }
}

/// Splits after each line break that is followed by a line with something on it.
pub fn blocks(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (block, after) = rest.split_at(first_block(rest));
        rest = after;
        Some(block)
    })
}

fn first_block(text: &str) -> usize {
    let mut at = 0;
    while let Some(found) = text[at..].find('\n') {
        at += found + 1;
        let next = &text[at..];
        let next_line = &next[..next.find('\n').unwrap_or(next.len())];
        // At the end of the text the next key press may still turn this into a longer run of white space.
        if !next_line.trim().is_empty() {
            return at;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_end_before_lines_with_something_on_them() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("a", &["a"]),
            ("a\nb", &["a\n", "b"]),
            ("a\n\n  \n b\n", &["a\n\n  \n", " b\n"]),
            ("\n\na\r\nb\r\n\r\n", &["\n\n", "a\r\n", "b\r\n\r\n"]),
            ("a\n   ", &["a\n   "]),
        ];
        for (text, expected) in cases {
            assert_eq!(blocks(text).collect::<Vec<_>>(), *expected, "{text:?}");
        }
    }
}
