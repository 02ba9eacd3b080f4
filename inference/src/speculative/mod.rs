//! Speculative decoding: cheap guesses of the next tokens, verified by the model in one step.
//!
//! Lossless by construction: the model's own choice is made at every position, from the logits that plain decoding
//! would have had there and with the same random draws; a guess only decides how many positions a step computes.
//! The CPU runner gives a row the same bits whatever rows are beside it, so the tokens are identical, not only equal
//! in distribution.

mod pace;
mod suffix_automaton;

use pace::Pace;
use suffix_automaton::SuffixAutomaton;

/// Whether and how to guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Speculation {
    Off,
    /// From repetitions in the request's own tokens: prompt and answer.
    #[default]
    Suffix,
}

/// Shorter repetitions are chance: most pairs of tokens recur in code, and guessing wrong costs time.
const SHORTEST_MATCH: usize = 3;

/// Guesses for one request.
#[derive(Debug)]
pub struct Drafter {
    automaton: SuffixAutomaton,
    pace: Pace,
}

impl Drafter {
    /// `tokens` is what is known so far: the prompt and the first generated token.
    pub fn new(tokens: &[u32]) -> Self {
        let mut automaton = SuffixAutomaton::default();
        for token in tokens {
            automaton.push(*token);
        }
        Self { automaton, pace: Pace::default() }
    }

    /// Guesses for the tokens that follow; empty when nothing is likely enough.
    pub fn draft(&mut self) -> Vec<u32> {
        let (matched, follows) = self.automaton.continuation();
        if matched < SHORTEST_MATCH {
            return Vec::new();
        }
        follows.take(self.pace.length(matched)).collect()
    }

    /// Records a verified step: `accepted` are the tokens that the model chose, of which the first
    /// `accepted.len() - 1` were drafted.
    pub fn advance(&mut self, drafted: usize, accepted: &[u32]) {
        if drafted > 0 {
            self.pace.record(drafted, accepted.len() - 1);
        }
        for token in accepted {
            self.automaton.push(*token);
        }
    }
}
