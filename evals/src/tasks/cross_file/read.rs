//! Holes from files: CrossCodeEval's lines, RepoBench's lines, and those that `--write-holes` wrote.

use std::path::Path;

use anyhow::{Context, Result};
use lacuna_indexer::Language;

use super::{Hole, as_comments};
use crate::data::{jsonl, record::Record};

/// Reads CrossCodeEval's lines, RepoBench's lines, or holes that `--write-holes` wrote.
pub fn read(path: &Path) -> Result<Vec<Hole>> {
    let mut holes = Vec::new();
    for (number, line) in jsonl::lines(path)? {
        let place = || format!("{}: line {number}", path.display());
        let record = Record::parse(&line).with_context(place)?;
        let hole = if record.has("groundtruth") {
            let (metadata, context) =
                (record.get::<Record>("metadata"), record.get::<Record>("crossfile_context"));
            let file = metadata.as_ref().and_then(|metadata| metadata.string("file")).unwrap_or_default();
            Hole {
                id: metadata
                    .and_then(|metadata| metadata.string("task_id"))
                    .unwrap_or_else(|| number.to_string()),
                language: record.string("language").or_else(|| language_of(&file)).unwrap_or_default(),
                prefix: record.string("prompt").with_context(place)?,
                truth: record.string("groundtruth").with_context(place)?,
                suffix: record.string("right_context").unwrap_or_default(),
                context: context.and_then(|context| context.string("text")).unwrap_or_default(),
                file: String::new(),
                definition_shown: None,
            }
        } else if record.has("next_line") {
            Hole {
                id: number.to_string(),
                language: language_of(&record.string("file_path").unwrap_or_default()).unwrap_or_default(),
                prefix: record.string("cropped_code").with_context(place)? + "\n",
                truth: record.string("next_line").with_context(place)?,
                suffix: String::new(),
                context: repobench_context(&record),
                file: String::new(),
                definition_shown: None,
            }
        } else {
            serde_json::from_str(&line).with_context(|| {
                format!("{} is in none of the formats CrossCodeEval, RepoBench, holes", place())
            })?
        };
        holes.push(hole);
    }
    Ok(holes)
}

fn repobench_context(record: &Record) -> String {
    let snippets = record.get::<Vec<Record>>("context").unwrap_or_default();
    let mut text = String::new();
    for snippet in snippets {
        let path = snippet.string("path").unwrap_or_default();
        text.push_str(&as_comments(&path, &snippet.string("snippet").unwrap_or_default(), "#"));
    }
    text
}

fn language_of(path: &str) -> Option<String> {
    Language::from_path(Path::new(path)).map(|language| language.name().to_owned())
}
