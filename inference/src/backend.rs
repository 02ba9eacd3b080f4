//! The seam between the completion pipeline and whatever runs the model.

use crate::{EngineError, EngineStatus, Generation, Model, Request};

/// Runs requests: the in-process engine, or a scripted stand-in in tests.
pub trait Backend: Send + Sync {
    /// Starts a request. Returns at once; the answer arrives through the [`Generation`].
    fn submit(&self, request: Request) -> Result<Generation, EngineError>;

    /// The model's vocabulary-side facts: tokenizer, FIM template, chat template, context length.
    fn model(&self) -> &Model;

    /// A snapshot of load and memory, for status displays.
    fn status(&self) -> EngineStatus;
}
