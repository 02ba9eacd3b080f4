//! What can be measured: each task makes samples with a generator, judges them, and writes a run.

pub mod cross_file;
pub mod human_eval;
pub mod infilling;
pub mod metrics;
pub mod replay;
pub mod samples;
