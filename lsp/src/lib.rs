//! Lacuna, a code-completion language server that runs on your own machine: the completion pipeline, the server
//! around it, and the command line.
//!
//! LSP types appear in `server`, `handlers`, `to_proto` and `session` only; everything else speaks of texts and byte
//! offsets.

mod background;
pub mod cli;
pub mod complete;
pub mod config;
pub mod documents;
pub mod engine_slot;
mod handlers;
pub mod in_flight;
pub mod indexing;
pub mod logging;
pub mod position;
mod recent_edits;
pub mod server;
mod session;
pub mod status;
pub mod syntax;
mod to_proto;
