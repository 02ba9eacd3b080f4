//! Tests of the index through its public interface; one binary, so that it links once.

mod ahead;
mod context;
mod context_scripting;
mod context_typed;
mod context_usage;
mod excerpts;
mod members_java;
mod members_rust;
mod random;
mod resolution;
mod support;
mod workspace;
