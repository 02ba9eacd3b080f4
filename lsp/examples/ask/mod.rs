//! A completion of a text that no editor has open, for the examples that count how often it is right.

use std::{path::Path, sync::Arc};

use lacuna::{
    complete::{Ask, Trigger},
    config::Config,
    documents::Snapshot,
};
use lacuna_indexer::Language;
use lacuna_inference::Priority;
use ropey::Rope;

/// As a pause in typing asks; whatever comes is shown, and nothing is late.
pub fn ask(path: &Path, language: Language, text: &str, offset: usize, config: Config) -> Ask {
    Ask {
        document: Snapshot {
            uri: String::new(),
            path: path.to_owned(),
            language: Some(language),
            language_id: language.name().into(),
            version: 0,
            revision: 0,
            rope: Rope::from_str(text),
            stale_tree: None,
        },
        offset,
        selected: None,
        trigger: Trigger::Automatic,
        priority: Priority::Interactive,
        recent: Vec::new(),
        config: Arc::new(Config { least_confidence: 0, deadline_ms: 60_000, ..config }),
    }
}
