//! What a completion was made of and what it cost: the answer to "why this" and "why nothing".

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use lacuna_indexer::ContextItem;
use lacuna_inference::StopReason;
use serde::Serialize;

use super::{cache_miss::CacheMiss, postprocess::Step, prompt::Sections, shape::Decision};

/// Completions kept for `lacuna.explain`.
const KEPT: usize = 16;

/// Where the text came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// Nothing was made.
    #[default]
    None,
    Model,
    /// A completion made before at the same place.
    Cache,
    /// The rest of a completion of which the user has typed the beginning.
    TypedInto,
    /// The rest of a completion whose beginning the user typed while the model wrote it.
    InFlight,
}

/// One completion, explained.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explain {
    pub path: String,
    /// Line and column of the cursor from 1, the column in characters.
    pub line: usize,
    pub column: usize,
    pub model: String,
    pub prompt_style: Option<&'static str>,
    pub source: Source,
    /// `shown`, or why there is nothing.
    pub outcome: String,
    pub shape: Option<Decision>,
    pub prompt_tokens: Sections,
    /// Prompt tokens whose keys and values the engine still had.
    pub cached_tokens: Option<usize>,
    /// Why it did not have more of them; `null` when it lacked only what was typed since.
    pub cache_miss: Option<CacheMiss>,
    /// Names of which one had to come first, where the cursor is at a member of a type that is known.
    pub members: Option<usize>,
    pub generated_tokens: usize,
    /// Answers that the engine followed side by side.
    pub beams: Option<usize>,
    /// How many of them it gave up for want of memory.
    pub beams_given_up: Option<usize>,
    pub drafted_tokens: Option<usize>,
    pub accepted_tokens: Option<usize>,
    pub stop_reason: Option<Stop>,
    pub mean_log_probability: Option<f32>,
    pub milliseconds: Stages,
    pub context: Vec<ExplainedContext>,
    /// The first answer as the model gave it.
    pub raw: String,
    pub postprocessing: Vec<Step>,
    pub texts: Vec<String>,
    /// How sure the model is of each text that it has written for this: the geometric mean of the probabilities of its
    /// tokens, from 0 to 1.
    pub confidence: Vec<f32>,
}

/// Why generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Stop {
    StopToken,
    StopText,
    /// What would come next is closed after the cursor.
    Closed,
    MaxTokens,
    Deadline,
    ContextFull,
    Cancelled,
    Failed,
    /// The pipeline saw the end of the block and stopped the engine.
    EndOfBlock,
    /// The pipeline saw the text repeat itself and stopped the engine.
    Repetition,
}

impl From<StopReason> for Stop {
    fn from(reason: StopReason) -> Self {
        match reason {
            StopReason::StopToken => Self::StopToken,
            StopReason::StopText => Self::StopText,
            StopReason::Closed => Self::Closed,
            StopReason::MaxTokens => Self::MaxTokens,
            StopReason::Deadline => Self::Deadline,
            StopReason::ContextFull => Self::ContextFull,
            StopReason::Cancelled => Self::Cancelled,
            StopReason::Failed => Self::Failed,
        }
    }
}

/// Milliseconds by stage, in the order in which they ran.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Stages {
    pub text: f64,
    pub reuse: f64,
    pub shape: f64,
    pub window: f64,
    pub context: f64,
    pub prompt: f64,
    pub members: f64,
    pub queue: f64,
    pub prefill: f64,
    pub decode: f64,
    pub postprocess: f64,
    pub total: f64,
}

/// A piece of another file that the model was shown, and why.
#[derive(Debug, Clone, Serialize)]
pub struct ExplainedContext {
    pub path: String,
    pub reason: String,
    pub score: f32,
    pub tokens: usize,
}

impl From<&ContextItem> for ExplainedContext {
    fn from(item: &ContextItem) -> Self {
        Self { path: item.path.clone(), reason: item.reason.clone(), score: item.score, tokens: item.cost }
    }
}

/// The last few completions.
#[derive(Debug, Default)]
pub struct Explained {
    last: Mutex<VecDeque<Explain>>,
}

impl Explained {
    pub fn add(&self, explain: Explain) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.push_front(explain);
        last.truncate(KEPT);
    }

    /// The last completion.
    pub fn latest(&self) -> Option<Explain> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).front().cloned()
    }
}
