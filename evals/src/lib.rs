//! Lacuna's evaluation harness: measures a completion model or server on one's own machine.
//!
//! [`score`] judges anyone's samples; [`tasks`] make samples with a model and score them; [`sandbox`] and [`execute`]
//! run code that a model wrote; [`report`] keeps, shows and compares runs.

pub mod data;
pub mod execute;
pub mod generate;
pub mod pass_at_k;
pub mod progress;
pub mod report;
pub mod sandbox;
pub mod score;
pub mod tasks;
