//! Holes completed by a language server, which chooses its context and shapes its answers as it does for an editor.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::json;

use super::{GROUPS, Hole, ON, Settings, case, statement, summarize};
use crate::{
    generate::peer::{Peer, Start},
    progress,
    report::{Case, Run},
};

/// Nobody types meanwhile: answers may take their time, on both sides.
const PATIENCE: Duration = Duration::from_secs(60);
/// The server indexes an opened file's text a moment later; until then its index knows the file on disk, without hole.
const SETTLE: Duration = Duration::from_millis(400);

/// The server and what it is shown.
pub struct Editor<'a> {
    /// The binary of `lacuna lsp`.
    pub lacuna: &'a Path,
    pub model: &'a str,
    /// 0 takes one for each processor.
    pub threads: usize,
    /// Answers followed side by side; `None` leaves it to the server.
    pub beams: Option<usize>,
    /// The repository that the holes were made from.
    pub root: &'a Path,
}

/// The same measurement as [`super::run`], through the pipeline that editors use. Each hole's file is opened with the
/// hole in it, completed at the hole, and closed.
pub fn through_editor(
    holes: &[Hole],
    editor: &Editor<'_>,
    settings: &Settings,
    run: &mut Run,
) -> Result<Vec<Case>> {
    let started = Instant::now();
    let root = editor.root.canonicalize()?;
    let mut cases = Vec::new();
    for group in GROUPS {
        let context_tokens = if group == ON { settings.context_tokens } else { 0 };
        let start = Start {
            server: "lacuna",
            lacuna: editor.lacuna,
            root: Some(&root),
            settings: json!({
                "model": editor.model, "contextTokens": context_tokens, "maxTokens": settings.max_tokens,
                "deadlineMs": PATIENCE.as_millis() as u64, "threads": editor.threads,
                "beams": editor.beams.unwrap_or(0),
            }),
        };
        let mut peer = Peer::start(&start)?;
        peer.wait_until_ready()?;
        let bar = progress::bar(group, holes.len());
        for hole in holes {
            let text = format!("{}{}", hole.prefix, hole.suffix);
            let offset = hole.prefix.len();
            peer.open(&root.join(&hole.file), &text)?;
            std::thread::sleep(SETTLE);
            let asked = Instant::now();
            let answer = peer
                .complete(&text, offset, asked + PATIENCE)
                .with_context(|| hole.id.clone())?
                .unwrap_or_default();
            let milliseconds = asked.elapsed().as_secs_f64() * 1e3;
            let work = peer.work();
            peer.close()?;
            let group = format!("{} {group}", hole.language);
            let mut case = case(hole, &group, statement(hole, &answer).to_owned());
            (case.milliseconds, case.tokens) = (milliseconds, work.map_or(0, |work| work.generated_tokens));
            cases.push(case);
            bar.inc(1);
        }
        bar.finish_and_clear();
        peer.stop();
    }
    summarize(holes, &cases, settings.seed, run);
    run.seconds = started.elapsed().as_secs_f64();
    Ok(cases)
}
