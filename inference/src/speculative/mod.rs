//! Speculative decoding: cheap guesses of the next tokens, verified by the model in one step.
//!
//! Lossless by construction: the model's own choice is made at every position, from the logits that plain decoding
//! would have had there and with the same random draws; a guess only decides how many positions a step computes.
//! The CPU runner gives a row the same bits whatever rows are beside it, so the tokens are identical, not only equal
//! in distribution.

mod draft_model;
mod pace;
mod session_memory;
mod suffix_automaton;

pub use draft_model::{DraftModel, Undrafted};
use pace::Balance;
pub use pace::{Pace, RowTimes, StepCost};
pub use session_memory::SessionMemory;
use suffix_automaton::SuffixAutomaton;

/// Whether and how to guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Speculation {
    Off,
    /// From repetitions: in the request's own tokens, and of what was generated earlier in the session.
    #[default]
    Suffix,
}

/// Shorter repetitions are chance: most pairs of tokens recur in code, and guessing wrong costs time.
const SHORTEST_MATCH: usize = 3;

/// What all requests of an engine have learned.
#[derive(Debug, Default)]
pub struct Experience {
    pub memory: SessionMemory,
    /// For repetitions within a request.
    own: Pace,
    /// For repetitions of earlier answers.
    session: Pace,
    /// For guesses of a draft model.
    model: Pace,
}

impl Experience {
    /// How many guesses to ask of a draft model, each of which costs `cost` steps of one row by itself.
    pub fn model_draft_length(&mut self, most: usize, cost: f32, step: &mut StepCost) -> usize {
        let (length, _) = step.with_guess(cost, |step| self.model.length(0, most, step, &Balance::UNLIMITED));
        if length == 0 {
            // What is not drafted is not measured; try again some time.
            self.model.relax();
        }
        length
    }

    fn pace(&mut self, origin: Origin) -> &mut Pace {
        match origin {
            Origin::Own => &mut self.own,
            Origin::Session => &mut self.session,
            Origin::Model => &mut self.model,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Own,
    Session,
    Model,
}

/// The latest guesses, drafted or not.
#[derive(Debug)]
struct Guess {
    origin: Origin,
    matched: usize,
    tokens: Vec<u32>,
}

/// Guesses for one request.
#[derive(Debug)]
pub struct Drafter {
    automaton: SuffixAutomaton,
    guess: Option<Guess>,
    /// What the drafts of the request's own guesses take in this step, in tokens.
    price: f32,
    balance: Balance,
}

impl Drafter {
    /// `tokens` is what is known so far: the prompt and the first generated token.
    pub fn new(tokens: &[u32]) -> Self {
        let mut automaton = SuffixAutomaton::default();
        for token in tokens {
            automaton.push(*token);
        }
        Self { automaton, guess: None, price: 0.0, balance: Balance::default() }
    }

    /// Up to `most` guesses for what follows `tokens`, all that is known of the request; none when nothing is likely
    /// enough. The longer repetition counts, the request's own where both are as long.
    pub fn draft(
        &mut self,
        tokens: &[u32],
        most: usize,
        experience: &mut Experience,
        step: &mut StepCost,
    ) -> Vec<u32> {
        let (matched, follows) = self.automaton.continuation();
        let own = (matched >= SHORTEST_MATCH).then(|| Guess {
            origin: Origin::Own,
            matched,
            tokens: follows.take(pace::LONGEST).collect(),
        });
        let earlier = experience.memory.continuation(tokens, pace::LONGEST);
        let session = earlier.map(|(matched, tokens)| Guess { origin: Origin::Session, matched, tokens });
        self.guess = match (own, session) {
            (Some(own), Some(session)) if session.matched > own.matched => Some(session),
            (own, session) => own.or(session),
        };
        self.price = 0.0;
        let Some(guess) = &self.guess else { return Vec::new() };
        let most = most.min(guess.tokens.len());
        let pace = experience.pace(guess.origin);
        let (length, price) = pace.length(guess.matched, most, step, &self.balance);
        self.price = price;
        guess.tokens[..length].to_vec()
    }

    /// Takes the guesses of a draft model instead of what repeats.
    pub fn follow_model(&mut self, tokens: &[u32]) {
        self.guess = Some(Guess { origin: Origin::Model, matched: 0, tokens: tokens.to_vec() });
    }

    /// Records a verified step: the tokens that the model chose.
    pub fn advance(&mut self, chosen: &[u32], experience: &mut Experience) {
        let mut accepted = chosen.len().saturating_sub(1);
        if let Some(Guess { origin, matched, tokens }) = self.guess.take() {
            experience.pace(origin).learn(matched, &tokens, chosen);
            if origin == Origin::Model {
                // What the draft model wins pays for no repetitions.
                accepted = 0;
            }
        }
        self.balance.add(accepted, std::mem::take(&mut self.price));
        for token in chosen {
            self.automaton.push(*token);
        }
    }
}
