//! Lacuna's workspace index: symbols and imports by tree-sitter, and the cross-file context for a cursor.
//!
//! Invariants: no LSP, no GPU, no async, no tokenizer (budgets are measured by a closure the caller gives).
//! Offsets are bytes. Queries never block on a build: they read an immutable snapshot.
//!
//! The way of a file: `walk` finds it, `read` reads it, `syntax` parses it, `extract` takes its symbols by
//! the language's query, `workspace` publishes them in a [`Snapshot`]. The way of a cursor: `scope` finds the
//! code around it, `resolve` finds what its names mean, `context` chooses and `render` writes.

use std::path::PathBuf;

mod attributes;
mod cache;
mod context;
mod doc_comment;
mod exclude;
mod extract;
mod imports;
mod index;
pub mod language;
mod lexical;
mod manifest;
mod members;
mod outline;
mod query;
mod read;
mod reexports;
mod render;
mod resolve;
mod scope;
mod sibling;
mod signature;
mod snapshot;
mod snippet;
mod symbols;
pub mod syntax;
mod walk;
mod words;
mod workspace;

pub use context::{ContextItem, Query};
pub use language::Language;
pub use members::{Located, Member, MemberCheck, MissingMember};
pub use snapshot::{Snapshot, SymbolInfo};
pub use snippet::RecentEdit;
pub use symbols::SymbolKind;
pub use tree_sitter;
pub use workspace::Workspace;

#[derive(Debug, Clone)]
pub struct Options {
    /// Larger files are skipped.
    pub max_file_bytes: u64,
    /// Files beyond this count are skipped.
    pub max_files: usize,
    /// Where what was read is kept for the next start, one file a root; `None` keeps nothing.
    pub cache_directory: Option<PathBuf>,
}

impl Default for Options {
    /// 1 MiB a file and 50,000 files; nothing is kept.
    fn default() -> Self {
        Self { max_file_bytes: 1 << 20, max_files: 50_000, cache_directory: None }
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    pub files_done: usize,
    pub files_total: usize,
    pub symbols: usize,
}

/// Totals of a scan, with what was skipped and why.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct ScanReport {
    pub files: usize,
    pub lines: usize,
    pub symbols: usize,
    /// Files that had not changed since they were kept on disk.
    pub from_cache: usize,
    pub skipped: Vec<Skipped>,
    /// Why nothing is kept on disk for the next start, where that was wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_kept: Option<String>,
    pub milliseconds: f64,
}

#[derive(Debug, Clone, serde::Serialize)]
pub struct Skipped {
    pub path: PathBuf,
    pub reason: String,
}
