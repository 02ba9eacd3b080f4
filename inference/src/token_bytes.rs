//! The bytes of every token of a vocabulary, and which tokens begin with given bytes.

use std::{ops::Range, sync::OnceLock};

use crate::closers::is_closer;

/// Bytes by token id. Control tokens have none.
#[derive(Debug, Default)]
pub struct TokenBytes {
    /// Bytes of all tokens end to end; `starts` has one entry more than there are tokens.
    bytes: Vec<u8>,
    starts: Vec<u32>,
    /// Tokens that ordinary text is made of.
    ordinary: Vec<u32>,
    /// `ordinary` in order of their bytes, sorted at first use: most runs never need it.
    sorted: OnceLock<Vec<u32>>,
    /// Those of `ordinary` with a bracket or quote that may close something, found at first use.
    closing: OnceLock<Vec<u32>>,
}

/// Tokens that share their first bytes: places in the sorted vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Beginning {
    places: Range<usize>,
    /// How many bytes they share.
    shared: usize,
}

impl Beginning {
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

impl TokenBytes {
    /// Adds the next id. Special tokens are never used to spell text, even where their bytes would fit.
    pub(crate) fn push(&mut self, bytes: &[u8], kind: TokenKind) {
        if self.starts.is_empty() {
            self.starts.push(0);
        }
        if kind == TokenKind::Ordinary {
            self.ordinary.push(self.len() as u32);
        }
        self.bytes.extend(bytes);
        self.starts.push(self.bytes.len() as u32);
    }

    pub fn len(&self) -> usize {
        self.starts.len().saturating_sub(1)
    }

    /// Empty for control tokens and unknown ids.
    pub fn get(&self, id: u32) -> &[u8] {
        let id = id as usize;
        match (self.starts.get(id), self.starts.get(id + 1)) {
            (Some(start), Some(end)) => &self.bytes[*start as usize..*end as usize],
            _ => &[],
        }
    }

    fn sorted(&self) -> &[u32] {
        self.sorted.get_or_init(|| {
            let mut ids: Vec<u32> =
                self.ordinary.iter().copied().filter(|id| !self.get(*id).is_empty()).collect();
            ids.sort_by(|a, b| self.get(*a).cmp(self.get(*b)));
            ids
        })
    }

    /// Ordinary tokens that hold a closing bracket or a quote.
    pub(crate) fn closing(&self) -> &[u32] {
        self.closing.get_or_init(|| {
            self.ordinary.iter().copied().filter(|id| self.get(*id).iter().any(is_closer)).collect()
        })
    }

    /// All ordinary tokens.
    pub(crate) fn all(&self) -> Beginning {
        Beginning { places: 0..self.sorted().len(), shared: 0 }
    }

    /// Those of `beginning` whose next byte is in `next`.
    pub(crate) fn narrow(&self, beginning: &Beginning, next: &std::ops::RangeInclusive<u8>) -> Beginning {
        let Beginning { places, shared } = beginning;
        let tokens = &self.sorted()[places.clone()];
        let byte = |id: &u32| self.get(*id).get(*shared).copied();
        let from = tokens.partition_point(|id| byte(id).is_none_or(|byte| byte < *next.start()));
        let length = tokens[from..].partition_point(|id| byte(id).is_some_and(|byte| byte <= *next.end()));
        let from = places.start + from;
        Beginning { places: from..from + length, shared: shared + 1 }
    }

    /// Those of `beginning` that have no byte after the shared ones.
    pub(crate) fn exactly(&self, beginning: &Beginning) -> &[u32] {
        let tokens = self.tokens(beginning);
        &tokens[..tokens.partition_point(|id| self.get(*id).len() == beginning.shared)]
    }

    pub(crate) fn tokens(&self, beginning: &Beginning) -> &[u32] {
        &self.sorted()[beginning.places.clone()]
    }
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Ordinary,
    Special,
}
