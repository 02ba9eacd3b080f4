//! What was generated earlier in the session, searched for what may come next.
//!
//! A ring of the latest tokens with hash chains over short endings, as LZ77 compressors keep them (RFC 1951, section
//! 4): memory is bounded, the oldest is overwritten first, a search looks at a bounded number of places.

use std::hash::{Hash, Hasher};

use rustc_hash::FxHasher;

/// Tokens remembered: some hundred answers; 16 bytes each.
const CAPACITY: usize = 1 << 15;
/// Tokens that must agree before a place is looked at.
const KEY: usize = 3;
/// Chains: one for each value of a key's hash.
const CHAINS: usize = 1 << 14;
/// Places looked at, latest first.
const CANDIDATES: usize = 24;
/// Longer agreement is not told apart.
const LONGEST_MATCH: usize = 64;
/// Between answers; no vocabulary has so many tokens.
const SEPARATOR: u32 = u32::MAX;

/// Generated text of earlier requests.
#[derive(Debug)]
pub struct SessionMemory {
    /// The n-th token ever written is at `n % CAPACITY`.
    tokens: Vec<u32>,
    /// At the place of a token: one more than the number of the token before it that ends the same key; 0 for none.
    previous: Vec<u64>,
    /// The beginnings of the chains, in the same numbers.
    latest: Vec<u64>,
    written: u64,
}

impl Default for SessionMemory {
    fn default() -> Self {
        Self { tokens: Vec::new(), previous: Vec::new(), latest: vec![0; CHAINS], written: 0 }
    }
}

impl SessionMemory {
    /// Adds an answer with the few tokens before it, unless all of it is there already.
    pub fn remember(&mut self, answer: &[u32]) {
        let answer = &answer[answer.len().saturating_sub(CAPACITY / 4)..];
        let known = self.places(answer).any(|end| self.agreement(end, answer, answer.len()) == answer.len());
        if answer.len() < KEY || known {
            return;
        }
        for token in answer {
            self.push(*token);
        }
        self.push(SEPARATOR);
    }

    /// What followed the latest of the longest repetitions of the end of `tokens`: how many tokens agreed, and up to
    /// `most` that came next. `None` where fewer than three agree.
    pub fn continuation(&self, tokens: &[u32], most: usize) -> Option<(usize, Vec<u32>)> {
        let mut best: Option<(usize, u64)> = None;
        for end in self.places(tokens) {
            let matched = self.agreement(end, tokens, LONGEST_MATCH);
            let follows = end + 1 < self.written && self.token(end + 1) != SEPARATOR;
            if follows && matched >= KEY && best.is_none_or(|(longest, _)| matched > longest) {
                best = Some((matched, end));
            }
        }
        let (matched, end) = best?;
        let follows = (end + 1..self.written).map(|number| self.token(number));
        Some((matched, follows.take(most).take_while(|token| *token != SEPARATOR).collect()))
    }

    /// Numbers of tokens that may end the same key as `tokens`, latest first.
    fn places(&self, tokens: &[u32]) -> impl Iterator<Item = u64> {
        let chain = tokens.len().checked_sub(KEY).map(|start| chain(&tokens[start..]));
        let mut next = chain.map_or(0, |chain| self.latest[chain]);
        std::iter::from_fn(move || {
            let number = next.checked_sub(1).filter(|number| self.holds(*number))?;
            next = self.previous[number as usize % CAPACITY];
            Some(number)
        })
        .take(CANDIDATES)
    }

    /// How many tokens before and at `end` are the last of `tokens`, at most `most`.
    fn agreement(&self, end: u64, tokens: &[u32], most: usize) -> usize {
        let remembered = (0..=end).rev().take_while(|number| self.holds(*number));
        remembered
            .zip(tokens.iter().rev())
            .take(most)
            .take_while(|(n, token)| self.token(*n) == **token)
            .count()
    }

    /// Whether the token of this number was not overwritten yet.
    fn holds(&self, number: u64) -> bool {
        number < self.written && number + CAPACITY as u64 >= self.written
    }

    fn token(&self, number: u64) -> u32 {
        self.tokens[number as usize % CAPACITY]
    }

    fn push(&mut self, token: u32) {
        let number = self.written;
        let place = number as usize % CAPACITY;
        if self.tokens.len() < CAPACITY {
            self.tokens.push(token);
            self.previous.push(0);
        }
        self.tokens[place] = token;
        self.previous[place] = 0;
        self.written += 1;
        if number + 1 >= KEY as u64 {
            let key: [u32; KEY] = std::array::from_fn(|at| self.token(number + 1 - (KEY - at) as u64));
            let latest = &mut self.latest[chain(&key)];
            self.previous[place] = *latest;
            *latest = number + 1;
        }
    }
}

fn chain(key: &[u32]) -> usize {
    let mut hasher = FxHasher::default();
    key.hash(&mut hasher);
    (hasher.finish() >> 32) as usize % CHAINS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_longest_then_the_latest_repetition_counts() {
        // Answers in their order, the end of a request, how much agrees and what is proposed.
        let cases: &[(&[&[u32]], &[u32], Option<(usize, &[u32])>)] = &[
            (&[], &[1, 2, 3], None),
            (&[&[1, 2, 3, 4, 5]], &[9, 2, 3], None),
            (&[&[1, 2, 3, 4, 5]], &[1, 2, 3], Some((3, &[4, 5]))),
            (&[&[1, 2, 3, 4, 5]], &[3, 4, 5], None),
            (&[&[0, 1, 2, 3, 7], &[9, 1, 2, 3, 8]], &[0, 1, 2, 3], Some((4, &[7]))),
            (&[&[0, 1, 2, 3, 7], &[9, 1, 2, 3, 8]], &[5, 1, 2, 3], Some((3, &[8]))),
            (&[&[1, 2, 3], &[4, 5, 6]], &[1, 2, 3], None),
            (&[&[1, 2, 3, 4], &[1, 2, 3, 5], &[1, 2, 3, 4]], &[1, 2, 3], Some((3, &[5]))),
        ];
        for (answers, tokens, expected) in cases {
            let mut memory = SessionMemory::default();
            for answer in *answers {
                memory.remember(answer);
            }
            let found = memory.continuation(tokens, 8);
            assert_eq!(found, expected.map(|(n, next)| (n, next.to_vec())), "{answers:?} {tokens:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        /// However much was written: what is proposed did follow the same tokens in one of the latest answers.
        #[test]
        fn proposes_only_what_was_there(
            answers in prop::collection::vec((prop::collection::vec(0u32..4, 1..60), 1usize..400), 1..12),
            tokens in prop::collection::vec(0u32..4, 0..10),
        ) {
            let mut memory = SessionMemory::default();
            let mut all = Vec::new();
            for (answer, times) in &answers {
                // Numbered, so that repetitions are different answers and fill the ring.
                for number in 0..*times as u32 {
                    let answer = [answer.as_slice(), &[100 + number]].concat();
                    memory.remember(&answer);
                    all.push(answer);
                }
                prop_assert!(memory.tokens.len() <= CAPACITY && memory.previous.len() <= CAPACITY);
            }
            if let Some((matched, next)) = memory.continuation(&tokens, 5) {
                prop_assert!(matched >= KEY && !next.is_empty());
                let expected = [&tokens[tokens.len() - matched..], &next].concat();
                prop_assert!(all.iter().any(|answer| answer.windows(expected.len()).any(|w| w == expected)));
            }
        }
    }
}
