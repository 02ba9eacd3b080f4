//! An answer as it grows, token by token: what its text is, and where it ends.

use crate::{
    Constraint, Request, StopReason,
    sampler::Choice,
    stop_text::StopText,
    tokenizer::{TextStream, Tokenizer},
};

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// What is still to come of the request's constraint.
    pub constraint: Option<Constraint>,
    /// So far, those that spell a constraint's literal included.
    pub tokens: usize,
    text: TextStream,
    stop_text: StopText,
    log_probability_sum: f64,
    /// Tokens in that sum.
    scored_tokens: usize,
}

/// What a token did to an answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Grown {
    /// The answer ends before it.
    Stop,
    /// It completed this text; the answer may end with it.
    Text { text: String, end: Option<StopReason> },
}

impl Answer {
    pub fn new(request: &Request) -> Self {
        Self {
            constraint: request.constraint.clone().filter(|constraint| !constraint.is_fulfilled()),
            tokens: 0,
            text: TextStream::default(),
            stop_text: StopText::new(request.stop_texts.clone()),
            log_probability_sum: 0.0,
            scored_tokens: 0,
        }
    }

    /// Takes a new token. `context_full`: there is no room for another one after it.
    pub fn push(
        &mut self,
        request: &Request,
        tokenizer: &Tokenizer,
        choice: Choice,
        context_full: bool,
    ) -> Grown {
        if request.stop_tokens.contains(&choice.token) {
            return Grown::Stop;
        }
        self.tokens += 1;
        let bytes = tokenizer.token_bytes(choice.token);
        let hidden = self.constraint.as_mut().map_or(0, |constraint| constraint.advance(bytes));
        self.constraint.take_if(|constraint| constraint.is_fulfilled());
        if hidden == 0 || hidden < bytes.len() {
            self.log_probability_sum += f64::from(choice.log_probability);
            self.scored_tokens += 1;
        }
        let completed = self.text.push(&bytes[hidden..]);
        let (text, stopped) = self.stop_text.push(&completed);
        let end = if stopped {
            Some(StopReason::StopText)
        } else if self.tokens >= request.max_tokens {
            Some(StopReason::MaxTokens)
        } else if context_full {
            Some(StopReason::ContextFull)
        } else {
            None
        };
        Grown::Text { text, end }
    }

    /// The text held back because it might have become a stop text, when the answer ends otherwise.
    pub fn held_back(&mut self) -> String {
        self.stop_text.finish()
    }

    /// Of the tokens that show text; `None` when there is none.
    pub fn mean_log_probability(&self) -> Option<f32> {
        (self.scored_tokens > 0).then(|| (self.log_probability_sum / self.scored_tokens as f64) as f32)
    }
}
