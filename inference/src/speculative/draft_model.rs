//! A smaller model of the same vocabulary guesses where nothing repeats.
//!
//! It has a runner, blocks and a prefix cache of its own. Each call asks anew for the whole sequence; the cache makes
//! that cost no more than the tokens since the last call, and forgets wrong guesses by itself.

use crate::{
    EngineError, EngineOptions, Model, Priority,
    cuda::GpuError,
    kv_cache::BLOCK_SIZE,
    runner::{Runner, StepResult, Wanted},
    sampler::Choice,
    scheduler::{Limits, Scheduler, SequenceId},
};

/// A guess that the draft model itself finds less likely ends the draft.
const LEAST_PROBABILITY: f32 = 0.3;

/// A sequence that nothing was drafted for, and how many guesses it may get.
pub struct Undrafted<'a> {
    pub tokens: &'a [u32],
    pub length: usize,
}

pub struct DraftModel {
    name: String,
    runner: Runner,
    scheduler: Scheduler,
    next_id: SequenceId,
    vocabulary: usize,
    target_vocabulary: usize,
    /// Longest sequence it takes.
    context: usize,
    /// Bytes of weights that a guess reads, relative to those that a step of the target reads.
    cost: f32,
}

impl DraftModel {
    /// Loads the weights. `context` and `options` are the target's; `running` sequences may ask at once.
    pub fn new(
        model: &Model,
        target: &Model,
        options: &EngineOptions,
        context: usize,
        running: usize,
    ) -> Result<Self, EngineError> {
        check_vocabulary(model, target)?;
        let context = context.min(model.config().context_length);
        let blocks = (2 * context).div_ceil(BLOCK_SIZE) + 1;
        let runner = Runner::new(model, options, blocks, context.div_ceil(BLOCK_SIZE) + 1)?;
        let limits = Limits {
            blocks: runner.blocks(),
            step_tokens: runner.step_tokens(),
            shared_step_tokens: runner.shared_step_tokens(),
            running,
            waiting: running,
        };
        Ok(Self {
            name: model.name().into(),
            scheduler: Scheduler::new(limits),
            next_id: 0,
            vocabulary: model.config().vocabulary,
            target_vocabulary: target.config().vocabulary,
            context,
            cost: model.gguf().byte_length() as f32 / target.gguf().byte_length() as f32,
            runner,
        })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Time of one guess relative to a step of the target with one row.
    pub fn cost(&self) -> f32 {
        self.cost
    }

    pub fn weights_bytes(&self, model: &Model) -> usize {
        self.runner.weights_bytes(model)
    }

    pub fn kv_bytes(&self) -> usize {
        self.runner.kv_bytes()
    }

    /// Most likely continuations, each at most as long as wanted; shorter where the draft model is unsure, and empty
    /// where the sequence does not fit it or when `abandoned` ended the work.
    pub fn draft(
        &mut self,
        wanted: &[Undrafted],
        abandoned: &dyn Fn() -> bool,
    ) -> Result<Vec<Vec<u32>>, GpuError> {
        let mut drafts = vec![Vec::new(); wanted.len()];
        let first = self.next_id;
        self.next_id += wanted.len() as SequenceId;
        for (id, Undrafted { tokens, length }) in (first..).zip(wanted) {
            let known = |token: &u32| (*token as usize) < self.vocabulary;
            let fits = *length > 0 && tokens.len() + length < self.context && tokens.iter().all(known);
            // One that finds no place is not drafted for.
            let _ = fits && self.scheduler.add(id, tokens.to_vec(), Priority::Interactive, 1);
        }
        while !self.scheduler.is_idle() {
            let batch = self.scheduler.schedule();
            let Some(result) = self.runner.forward(&batch, Wanted::Likeliest, abandoned)? else { break };
            if batch.entries.is_empty() {
                break;
            }
            let mut rows = 0..;
            for entry in &batch.entries {
                if entry.logits.is_empty() {
                    self.scheduler.commit(entry, &[]);
                    continue;
                }
                let Some(row) = rows.next() else { break };
                let index = (entry.sequence - first) as usize;
                let Choice { token, log_probability } = match result {
                    StepResult::Logits(logits) => {
                        let row = &logits[row * self.vocabulary..(row + 1) * self.vocabulary];
                        Choice::likeliest(row)
                    }
                    StepResult::Likeliest(choices) => choices[row],
                };
                let likely = log_probability >= LEAST_PROBABILITY.ln();
                let proposes = likely && (token as usize) < self.target_vocabulary;
                self.scheduler.commit(entry, &[token]);
                if proposes {
                    drafts[index].push(token);
                }
                if !proposes || drafts[index].len() >= wanted[index].length {
                    self.scheduler.finish(entry.sequence);
                }
            }
        }
        for id in first..self.next_id {
            self.scheduler.finish(id);
        }
        Ok(drafts)
    }

    /// Drops the cache: after a failed step nothing it wrote can be trusted.
    pub fn reset(&mut self) {
        self.scheduler.reset();
    }
}

/// Tokens must mean the same to both; one vocabulary may be padded further than the other.
fn check_vocabulary(draft: &Model, target: &Model) -> Result<(), EngineError> {
    let (ours, theirs) = (draft.tokenizer(), target.tokenizer());
    let common = ours.vocabulary_size().min(theirs.vocabulary_size()) as u32;
    let same = |id: &u32| {
        ours.token_bytes(*id) == theirs.token_bytes(*id)
            && ours.special_spelling(*id) == theirs.special_spelling(*id)
    };
    match (0..common).find(|id| !same(id)) {
        None => Ok(()),
        Some(token) => Err(EngineError::DraftVocabulary {
            draft: draft.name().into(),
            target: target.name().into(),
            token,
        }),
    }
}
