//! Holes from files: CrossCodeEval's lines, RepoBench's lines, and those that `--write-holes` wrote.

use std::path::Path;

use anyhow::{Context, Result};
use lacuna_indexer::Language;

use super::Hole;
use crate::{
    data::{jsonl, record::Record},
    generate::Chunk,
};

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
                context: context.map(|context| cross_code_eval_context(&context)).unwrap_or_default(),
                file: String::new(),
                definitions: Vec::new(),
                definition_shown: None,
                name_is_used: None,
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
                definitions: Vec::new(),
                definition_shown: None,
                name_is_used: None,
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

/// The list of chunks where there is one, else its text, which is made of comments.
fn cross_code_eval_context(context: &Record) -> Vec<Chunk> {
    let listed: Vec<Chunk> = context
        .get::<Vec<Record>>("list")
        .unwrap_or_default()
        .iter()
        .map(|chunk| Chunk {
            path: chunk.string("filename").unwrap_or_default(),
            text: chunk.string("retrieved_chunk").unwrap_or_default(),
        })
        .collect();
    let text = context.string("text").filter(|text| listed.is_empty() && !text.is_empty());
    listed.into_iter().chain(text.map(|text| Chunk { path: String::new(), text })).collect()
}

fn repobench_context(record: &Record) -> Vec<Chunk> {
    let snippets = record.get::<Vec<Record>>("context").unwrap_or_default();
    let chunk = |snippet: &Record| Chunk {
        path: snippet.string("path").unwrap_or_default(),
        text: snippet.string("snippet").unwrap_or_default(),
    };
    snippets.iter().map(chunk).collect()
}

fn language_of(path: &str) -> Option<String> {
    Language::from_path(Path::new(path)).map(|language| language.name().to_owned())
}
