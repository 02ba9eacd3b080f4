//! Beam search: the likeliest whole answer instead of the likeliest next token, for short answers of small models.
//!
//! Every step each of a few answers is continued by its likeliest tokens, and the best of all continuations are kept.
//! An answer's score is the log-probability of its tokens, the one that ends it included; answers that end in the same
//! text, which one token or another may end, are one answer whose probabilities add up. Scores only fall, so the search is
//! over when what has ended is better than all that goes on. Answers are sequences of the scheduler, forked where they part.

use crate::{
    Request, StopReason,
    answer::{Answer, Grown},
    sampler::{Choice, log_probability, top},
    scheduler::{Scheduler, SequenceId},
    tokenizer::Tokenizer,
};

/// Continuations looked at of one answer, for each one that is kept: several tokens may end it in the same way.
const LOOKED_AT: usize = 4;

/// An answer that goes on.
#[derive(Debug)]
struct Beam {
    sequence: SequenceId,
    choices: Vec<Choice>,
    text: String,
    answer: Answer,
    score: f64,
    /// Each of its tokens was the likeliest one.
    is_likeliest: bool,
    /// The likeliest next tokens, once they are computed.
    next: Vec<Choice>,
    /// The log probability that one of the tokens comes that the constraint allows. Theirs are relative to it, which says
    /// how likely they are, but not which of two answers is likelier: one that leads where little is allowed would win.
    allowed: f64,
}

/// An answer that ended.
#[derive(Debug, Clone)]
pub(crate) struct Hypothesis {
    /// A stop token included.
    pub choices: Vec<Choice>,
    pub text: String,
    pub score: f64,
    pub mean_log_probability: Option<f32>,
    pub reason: StopReason,
}

#[derive(Debug)]
pub(crate) struct BeamSearch {
    width: usize,
    live: Vec<Beam>,
    ended: Vec<Hypothesis>,
}

impl BeamSearch {
    /// Begins with the request's own sequence.
    pub fn new(sequence: SequenceId, width: usize, answer: Answer) -> Self {
        let beam = Beam {
            sequence,
            choices: Vec::new(),
            text: String::new(),
            answer,
            score: 0.0,
            is_likeliest: true,
            next: Vec::new(),
            allowed: 0.0,
        };
        Self { width, live: vec![beam], ended: Vec::new() }
    }

    pub fn has(&self, sequence: SequenceId) -> bool {
        self.live.iter().any(|beam| beam.sequence == sequence)
    }

    /// Takes the logits of what comes next in a sequence.
    pub fn record(
        &mut self,
        sequence: SequenceId,
        logits: &[f32],
        request: &Request,
        tokenizer: &Tokenizer,
        masked: &mut Vec<f32>,
    ) {
        let Some(beam) = self.live.iter_mut().find(|beam| beam.sequence == sequence) else { return };
        let allowed = beam.answer.allowed(&request.stop_tokens, tokenizer, logits, masked);
        let likeliest = top(allowed, LOOKED_AT * self.width);
        beam.allowed = match likeliest.first() {
            Some(choice) if beam.answer.is_constrained() => {
                f64::from(log_probability(logits, choice.token) - choice.log_probability)
            }
            _ => 0.0,
        };
        let may_come = |choice: &Choice| !beam.answer.forbids(tokenizer, choice.token);
        beam.next = likeliest.iter().copied().filter(may_come).collect();
        if beam.next.is_empty() {
            beam.next = likeliest;
        }
    }

    /// The next tokens of all answers are known.
    pub fn is_ready(&self) -> bool {
        self.live.iter().all(|beam| !beam.next.is_empty())
    }

    /// Gives up the answers whose next tokens are not known, if there are others: nothing can be computed for them.
    /// Returns their number.
    pub fn narrow(&mut self, scheduler: &mut Scheduler) -> usize {
        if self.live.iter().all(|beam| beam.next.is_empty()) {
            return 0;
        }
        let (ready, stuck): (_, Vec<Beam>) =
            std::mem::take(&mut self.live).into_iter().partition(|beam| !beam.next.is_empty());
        self.live = ready;
        for beam in &stuck {
            scheduler.finish(beam.sequence);
        }
        stuck.len()
    }

    /// Continues the answers by a token. `room`: tokens that the context takes after the prompt. Returns why the best
    /// answer ended when the search is over.
    pub fn advance(
        &mut self,
        request: &Request,
        tokenizer: &Tokenizer,
        room: usize,
        scheduler: &mut Scheduler,
        next_id: &mut SequenceId,
    ) -> Option<StopReason> {
        let mut candidates: Vec<(usize, usize, f64)> = Vec::new();
        for (parent, beam) in self.live.iter().enumerate() {
            let score = |choice: &Choice| beam.score + beam.allowed + f64::from(choice.log_probability);
            candidates.extend(beam.next.iter().enumerate().map(|(rank, next)| (parent, rank, score(next))));
        }
        // Stable: among equals the earlier beam and the lower token.
        candidates.sort_by(|a, b| b.2.total_cmp(&a.2));
        candidates.truncate(LOOKED_AT * self.width);
        let mut kept: Vec<(usize, Beam)> = Vec::new();
        for (parent, rank, score) in candidates {
            let beam = &self.live[parent];
            let choice = beam.next[rank];
            let mut answer = beam.answer.clone();
            let grown = answer.push(request, tokenizer, choice, beam.choices.len() + 1 >= room);
            let is_likeliest = beam.is_likeliest && rank == 0;
            let choices = || beam.choices.iter().copied().chain([choice]).collect();
            let (added, reason) = match grown {
                Grown::Stop => (answer.held_back(), StopReason::StopToken),
                Grown::Text { text, end: Some(StopReason::StopText) } => (text, StopReason::StopText),
                Grown::Text { text, end: Some(reason) } => (text + &answer.held_back(), reason),
                Grown::Text { text, end: None } => {
                    if kept.len() < self.width {
                        let text = beam.text.clone() + &text;
                        let (sequence, next) = (beam.sequence, Vec::new());
                        let choices = choices();
                        kept.push((
                            parent,
                            Beam { sequence, choices, text, answer, score, is_likeliest, next, allowed: 0.0 },
                        ));
                    }
                    continue;
                }
            };
            let text = beam.text.clone() + &added;
            // To end at once has one way only and every answer many, so it would win too often.
            if is_likeliest || !text.trim().is_empty() {
                let mean_log_probability = answer.mean_log_probability();
                self.end(Hypothesis { choices: choices(), text, score, mean_log_probability, reason });
            }
        }
        self.replace(kept, scheduler, next_id);
        let live = self.live.iter().map(|beam| beam.score).fold(f64::NEG_INFINITY, f64::max);
        match self.best() {
            Some(best) => (best.score >= live).then_some(best.reason),
            // All continuations were blank.
            None => self.live.is_empty().then_some(StopReason::StopToken),
        }
    }

    fn end(&mut self, hypothesis: Hypothesis) {
        match self.ended.iter_mut().find(|other| other.text == hypothesis.text) {
            Some(same) => {
                let (more, less) = (same.score.max(hypothesis.score), same.score.min(hypothesis.score));
                let score = more + (less - more).exp().ln_1p();
                if hypothesis.score > same.score {
                    *same = hypothesis;
                }
                same.score = score;
            }
            None => self.ended.push(hypothesis),
        }
    }

    /// Makes the sequences of the scheduler those of `kept`, each of which continues the answer of that number.
    fn replace(&mut self, kept: Vec<(usize, Beam)>, scheduler: &mut Scheduler, next_id: &mut SequenceId) {
        for (parent, beam) in self.live.iter().enumerate() {
            if kept.iter().all(|(other, _)| *other != parent) {
                scheduler.finish(beam.sequence);
            }
        }
        self.live.clear();
        let mut continued = Vec::new();
        for (parent, mut beam) in kept {
            if continued.contains(&parent) {
                let copy = *next_id;
                *next_id += 1;
                scheduler.fork(beam.sequence, copy);
                beam.sequence = copy;
            }
            continued.push(parent);
            self.live.push(beam);
        }
        // Only now: forks are made of sequences all of whose tokens were computed.
        for beam in &self.live {
            if let Some(choice) = beam.choices.last() {
                scheduler.append(beam.sequence, choice.token);
            }
        }
    }

    fn best(&self) -> Option<&Hypothesis> {
        self.ended.iter().max_by(|a, b| a.score.total_cmp(&b.score))
    }

    /// Ends the search and its sequences. Returns the answers, the best first: those that ended, or else the best that
    /// was going on, which `reason` ended.
    pub fn finish(self, reason: StopReason, scheduler: &mut Scheduler) -> Vec<Hypothesis> {
        for beam in &self.live {
            scheduler.finish(beam.sequence);
        }
        let mut ended = self.ended;
        ended.sort_by(|a, b| b.score.total_cmp(&a.score));
        if ended.is_empty() {
            let best = self.live.into_iter().max_by(|a, b| a.score.total_cmp(&b.score));
            ended.extend(best.map(|Beam { choices, text, score, answer, .. }| {
                let mean_log_probability = answer.mean_log_probability();
                Hypothesis { choices, text, score, mean_log_probability, reason }
            }));
        }
        ended
    }
}
