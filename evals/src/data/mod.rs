//! Evaluation data: reading it, recognizing its formats, fetching the packages that carry it.

pub mod fetch;
pub mod jsonl;
pub mod problem;
pub mod record;
