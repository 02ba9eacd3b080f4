//! What a caller asks of the engine and what comes back: plain data, no tensors, no editor.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;
use tokio::sync::mpsc;

/// Who is served first when there is more work than one step holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Priority {
    /// Somebody is looking at the cursor.
    #[default]
    Interactive,
    /// Work done ahead of need, such as warming the prefix cache.
    Background,
    /// Evaluation runs.
    Batch,
}

/// How the next token is drawn. `temperature == 0` is greedy and ignores the rest.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Sampling {
    pub temperature: f32,
    /// Keep the `top_k` most likely tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the smallest set of tokens whose probability reaches `top_p`; 1 keeps all.
    pub top_p: f32,
    /// Drop tokens less likely than `min_p` times the most likely one; 0 keeps all.
    pub min_p: f32,
    /// The same seed, prompt and settings give the same tokens.
    pub seed: u64,
}

impl Sampling {
    pub const GREEDY: Sampling = Sampling { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 0 };
}

impl Default for Sampling {
    fn default() -> Self {
        Self::GREEDY
    }
}

/// One generation. Token ids in, token ids and text out.
#[derive(Debug, Clone)]
pub struct Request {
    pub prompt: Vec<u32>,
    pub max_tokens: usize,
    /// Generation stops at this instant and keeps what it has.
    pub deadline: Option<Instant>,
    pub sampling: Sampling,
    /// Generation ends before these; they are not part of the text.
    pub stop_tokens: Vec<u32>,
    /// Generation ends when the text holds one of these; the text is cut before it.
    pub stop_texts: Vec<String>,
    pub priority: Priority,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    StopToken,
    StopText,
    MaxTokens,
    Deadline,
    /// Prompt plus generated tokens filled the model's context or the cache.
    ContextFull,
    Cancelled,
    /// The engine failed on this request; the error went before it as [`Event::Failed`].
    Failed,
}

/// What one request cost. Times are milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RequestStats {
    pub prompt_tokens: usize,
    /// Prompt tokens whose keys and values were already in the cache.
    pub cached_tokens: usize,
    pub generated_tokens: usize,
    /// Tokens proposed by speculation, and how many of them the model agreed with.
    pub drafted_tokens: usize,
    pub accepted_tokens: usize,
    pub queue_ms: f64,
    pub prefill_ms: f64,
    pub decode_ms: f64,
    /// Mean natural-log probability of the generated tokens, `None` when none was generated.
    pub mean_log_probability: Option<f32>,
}

/// One thing that happened to a request, in order. The last one is `Finished` or `Failed`.
#[derive(Debug, Clone)]
pub enum Event {
    Token {
        id: u32,
        /// Text completed by this token; empty while a character's bytes are still incomplete
        /// or while the text could still become a stop text.
        text: String,
        log_probability: f32,
    },
    Finished {
        reason: StopReason,
        /// Text held back until now (it might have become a stop text).
        text: String,
        stats: RequestStats,
    },
    Failed(EngineError),
}

/// Why a request was not served.
#[derive(Debug, Clone, thiserror::Error)]
pub enum EngineError {
    #[error("the engine has {waiting} requests waiting, its limit; try again in a moment")]
    Overloaded { waiting: usize },
    #[error(
        "the prompt has {prompt} tokens and the model's context is {limit}; shorten the prompt or raise --context"
    )]
    PromptTooLong { prompt: usize, limit: usize },
    #[error("the prompt is empty")]
    EmptyPrompt,
    #[error("token id {id} is outside the vocabulary of {vocabulary}")]
    TokenOutOfRange { id: u32, vocabulary: usize },
    #[error("the engine stopped: {0}")]
    Stopped(String),
    #[error(transparent)]
    Model(#[from] crate::ModelError),
    #[error(transparent)]
    Gpu(#[from] crate::cuda::GpuError),
    #[error("the engine failed on this request: {0}")]
    Internal(String),
}

/// A running request. Dropping it stops the work within one decode step.
#[derive(Debug)]
pub struct Generation {
    events: mpsc::Receiver<Event>,
    stop: Arc<AtomicBool>,
}

/// A finished generation, for callers that do not stream.
#[derive(Debug, Clone)]
pub struct Output {
    pub tokens: Vec<u32>,
    pub text: String,
    pub log_probabilities: Vec<f32>,
    pub reason: StopReason,
    pub stats: RequestStats,
}

impl Generation {
    /// A generation fed by somebody other than the engine: scripted backends in tests, remote ones.
    pub fn from_events(events: mpsc::Receiver<Event>) -> Self {
        Self::new(events, Arc::default())
    }

    pub(crate) fn new(events: mpsc::Receiver<Event>, stop: Arc<AtomicBool>) -> Self {
        Self { events, stop }
    }

    /// Ends the work within one decode step, as dropping does, but lets the rest of the events arrive: the last one
    /// is `Finished` with [`StopReason::Cancelled`] and the statistics.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The next event; `None` after the last one.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// As [`Self::next`] for callers outside an async runtime.
    pub fn next_blocking(&mut self) -> Option<Event> {
        self.events.blocking_recv()
    }

    /// Runs to the end and collects everything. Must not be called inside an async runtime.
    pub fn collect_blocking(mut self) -> Result<Output, EngineError> {
        let mut output = OutputBuilder::default();
        while let Some(event) = self.next_blocking() {
            if let Some(done) = output.push(event) {
                return done;
            }
        }
        Err(EngineError::Stopped("it went away before the answer was complete".into()))
    }

    /// Runs to the end and collects everything.
    pub async fn collect(mut self) -> Result<Output, EngineError> {
        let mut output = OutputBuilder::default();
        while let Some(event) = self.next().await {
            if let Some(done) = output.push(event) {
                return done;
            }
        }
        Err(EngineError::Stopped("it went away before the answer was complete".into()))
    }
}

#[derive(Default)]
struct OutputBuilder {
    tokens: Vec<u32>,
    text: String,
    log_probabilities: Vec<f32>,
}

impl OutputBuilder {
    fn push(&mut self, event: Event) -> Option<Result<Output, EngineError>> {
        match event {
            Event::Token { id, text, log_probability } => {
                self.tokens.push(id);
                self.text.push_str(&text);
                self.log_probabilities.push(log_probability);
                None
            }
            Event::Finished { reason, text, stats } => {
                self.text.push_str(&text);
                Some(Ok(Output {
                    tokens: std::mem::take(&mut self.tokens),
                    text: std::mem::take(&mut self.text),
                    log_probabilities: std::mem::take(&mut self.log_probabilities),
                    reason,
                    stats,
                }))
            }
            Event::Failed(error) => Some(Err(error)),
        }
    }
}

/// Milliseconds with fractions, the unit of every reported time.
pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
