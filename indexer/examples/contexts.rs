//! What the index shows at many cursors, for the training samples of the embedded model (`inference/embedded/recipe`):
//! `cargo run --release --example contexts`, then one JSON request a line on the standard input, one answer a line on
//! the standard output. The directory of a request is indexed anew.
//!
//! `{"directory": DIR, "files": [{"path": REL, "cursors": [{"start": N, "end": N, "visible": [N, N], "budget": N}]}]}`
//!
//! is answered by `[[[[PATH, TEXT], ...], ...], ...]`: by file, by cursor, by piece. Offsets are bytes of the file as it lies on
//! the disk; `start..end` is what the model is to write, which the index does not see. A token counts as three bytes.

use std::{
    io::{BufRead, Write, stdin, stdout},
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use lacuna_indexer::{Options, Query, Workspace};
use serde::Deserialize;

/// As `lacuna-evals` counts where no tokenizer is at hand, with a chunk's own header.
const BYTES_PER_TOKEN: usize = 3;
const CHUNK_OVERHEAD_TOKENS: usize = 3;

#[derive(Deserialize)]
struct Request {
    directory: PathBuf,
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    path: PathBuf,
    cursors: Vec<Cursor>,
}

#[derive(Deserialize)]
struct Cursor {
    start: usize,
    end: usize,
    /// With the answer in it.
    visible: (usize, usize),
    budget: usize,
}

type Pieces = Vec<(String, String)>;

fn main() {
    for line in stdin().lock().lines() {
        let request: Request = match line.map_err(|error| error.to_string()).and_then(|line| {
            serde_json::from_str(&line)
                .map_err(|error| format!("{error}, in a request of {} bytes", line.len()))
        }) {
            Ok(request) => request,
            Err(problem) => {
                eprintln!("contexts: {problem}");
                std::process::exit(2);
            }
        };
        let answer = answer(&request);
        let written = serde_json::to_string(&answer)
            .map_err(|error| error.to_string())
            .and_then(|answer| writeln!(stdout(), "{answer}").map_err(|error| error.to_string()));
        if let Err(problem) = written {
            eprintln!("contexts: {problem}");
            std::process::exit(1);
        }
    }
}

fn answer(request: &Request) -> Vec<Vec<Pieces>> {
    let workspace = Workspace::new(vec![request.directory.clone()], Options::default());
    workspace.scan(&mut |_| {}, &AtomicBool::new(false));
    let in_file = |file: &File| {
        let path = request.directory.join(&file.path);
        let Ok(text) = std::fs::read_to_string(&path) else { return vec![Vec::new(); file.cursors.len()] };
        let pieces = file.cursors.iter().map(|cursor| at_cursor(&workspace, &path, &text, cursor)).collect();
        workspace.update(&path, None);
        pieces
    };
    request.files.iter().map(in_file).collect()
}

fn at_cursor(workspace: &Workspace, path: &Path, text: &str, cursor: &Cursor) -> Pieces {
    let (Some(before), Some(after)) = (text.get(..cursor.start), text.get(cursor.end..)) else {
        return Vec::new();
    };
    let text = format!("{before}{after}");
    workspace.update(path, Some(&text));
    let items = workspace.snapshot().context(&Query {
        path,
        text: &text,
        offset: cursor.start,
        visible: cursor.visible.0..cursor.visible.1.saturating_sub(cursor.end - cursor.start),
        budget: cursor.budget,
        measure: &|text| text.len().div_ceil(BYTES_PER_TOKEN) + CHUNK_OVERHEAD_TOKENS,
        recent: &[],
    });
    items.into_iter().map(|item| (item.path, item.text)).collect()
}
