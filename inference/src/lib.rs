//! Lacuna's inference engine: token ids or text in, token ids and text out.
//!
//! Invariants: no LSP types, no editor nouns, no workspace files. Only [`weights`] reads model files.
//! The scheduler and the KV cache's bookkeeping hold integers, never tensors.

mod answer;
mod backend;
mod beam_search;
pub mod chat;
mod closers;
mod constraint;
pub mod cpu;
pub mod cuda;
pub mod embedded;
mod engine;
mod facts;
pub mod fim;
mod healing;
pub mod kv_cache;
mod model;
pub mod models;
mod request;
pub mod runner;
pub mod sampler;
pub mod scheduler;
pub mod speculative;
mod stop_text;
mod token_bytes;
pub mod tokenizer;
pub mod weights;

pub use backend::Backend;
pub use closers::{Closers, Lexicon};
pub use constraint::Constraint;
pub use cuda::PageFormat;
pub use engine::{DEFAULT_CONTEXT, Engine, EngineOptions, EngineStatus};
pub use facts::{FimFacts, ModelFacts, TensorTotals, TokenizerFacts};
pub use healing::Healed;
pub use model::{Model, ModelSource, PromptStyle};
pub use request::{
    Alternative, CacheMiss, EngineError, Event, Generation, Output, Priority, Request, RequestStats,
    Sampling, StopReason, milliseconds,
};
pub use runner::{Device, Runner};
pub use weights::ModelError;
