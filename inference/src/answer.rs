//! An answer as it grows, token by token: what its text is, and where it ends.

use crate::{
    Closers, Constraint, Request, StopReason,
    closers::Verdict,
    sampler::Choice,
    stop_text::StopText,
    tokenizer::{TextStream, Tokenizer},
};

#[derive(Debug, Clone)]
pub(crate) struct Answer {
    /// What is still to come of the request's constraint.
    pub constraint: Option<Constraint>,
    /// No token fitted it any more, so it was given up.
    pub constraint_dropped: bool,
    /// What may be closed.
    closers: Option<Closers>,
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
            constraint_dropped: false,
            closers: request.closers.clone(),
            tokens: 0,
            text: TextStream::default(),
            stop_text: StopText::new(request.stop_texts.clone()),
            log_probability_sum: 0.0,
            scored_tokens: 0,
        }
    }

    /// The logits of the tokens that the constraint allows. A constraint that no token fits is given up.
    pub fn allowed<'a>(
        &mut self,
        stop_tokens: &[u32],
        tokenizer: &Tokenizer,
        logits: &'a [f32],
        masked: &'a mut Vec<f32>,
    ) -> &'a [f32] {
        match &self.constraint {
            None => logits,
            Some(constraint) if constraint.mask(tokenizer.vocabulary(), stop_tokens, logits, masked) => {
                masked
            }
            Some(_) => {
                (self.constraint, self.constraint_dropped) = (None, true);
                logits
            }
        }
    }

    /// Whether only some tokens may come.
    pub fn is_constrained(&self) -> bool {
        self.constraint.is_some()
    }

    /// Whether a token would close what is not open.
    pub fn forbids(&self, tokenizer: &Tokenizer, token: u32) -> bool {
        let bytes = tokenizer.token_bytes(token);
        let bytes = &bytes[self.hidden_bytes().min(bytes.len())..];
        self.closers.as_ref().is_some_and(|closers| closers.verdict(bytes) == Verdict::Forbidden)
    }

    /// The logits of [`Self::allowed`], which `masked` holds if there is a constraint, without those of tokens that are
    /// forbidden. `None` when no token is left: then nothing is forbidden any more.
    pub fn without_forbidden<'a>(
        &mut self,
        tokenizer: &Tokenizer,
        logits: &[f32],
        masked: &'a mut Vec<f32>,
    ) -> Option<&'a [f32]> {
        if self.constraint.is_none() {
            masked.clear();
            masked.extend_from_slice(logits);
        }
        let hidden = self.hidden_bytes();
        let is_left =
            self.closers.as_ref().is_some_and(|closers| closers.mask(tokenizer.vocabulary(), hidden, masked));
        if !is_left {
            self.closers = None;
        }
        is_left.then_some(masked)
    }

    /// Of the constraint's literal, still to come.
    fn hidden_bytes(&self) -> usize {
        self.constraint.as_ref().map_or(0, Constraint::hidden_bytes)
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
        let mut shown = &bytes[hidden..];
        let verdict = self.closers.as_mut().map(|closers| closers.advance(shown));
        let is_closed = matches!(verdict, Some(Verdict::Ends(_)));
        if let Some(Verdict::Ends(at)) = verdict {
            shown = &shown[..at];
        }
        if !shown.is_empty() || hidden == 0 && !is_closed {
            self.log_probability_sum += f64::from(choice.log_probability);
            self.scored_tokens += 1;
        }
        let completed = self.text.push(shown);
        let (text, stopped) = self.stop_text.push(&completed);
        let end = if stopped {
            Some(StopReason::StopText)
        } else if is_closed {
            Some(StopReason::Closed)
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
