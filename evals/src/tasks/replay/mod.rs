//! Types real code key by key into a completion server and counts what a user would see: time to ghost text, how
//! often there is one, how much typing it spares, how much work was for nothing.

mod lsp;
mod peer;
pub mod script;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Result;
use serde::Serialize;

pub use peer::Peer;
use script::{Edit, Session};

use crate::{
    progress,
    report::{Case, Run, percentile},
};

/// How fast the keys come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Speed {
    /// Pauses drawn from a log-normal distribution with a median of 140 ms, longer after words and lines.
    Human,
    /// Each key waits for the answer to the one before.
    Full,
}

/// Keys wait no longer than this for an answer at full speed.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    pub speed: Speed,
    pub servers: Vec<String>,
    pub seed: u64,
}

/// What one server did over all sessions.
#[derive(Debug, Default)]
struct Tally {
    keys: usize,
    requests: usize,
    shown: usize,
    accepted: usize,
    /// Characters of all text that was to be typed, and those that accepted suggestions typed.
    characters: usize,
    spared: usize,
    cancelled: usize,
    failed: usize,
    /// Milliseconds to ghost text: the first request of a file, and all others.
    cold: Vec<f64>,
    warm: Vec<f64>,
}

pub fn run(
    sessions: &[Session],
    lacuna: &Path,
    model: &str,
    settings: &Settings,
    run: &mut Run,
) -> Result<Vec<Case>> {
    let started = Instant::now();
    let mut cases = Vec::new();
    for server in &settings.servers {
        let mut tally = Tally::default();
        let mut peer = Peer::start(server, lacuna, model)?;
        let bar = progress::bar(server, sessions.iter().map(|session| session.edits.len()).sum());
        for session in sessions {
            peer.open(&session.path, &session.text)?;
            replay(session, &mut peer, server, settings, &mut tally, &mut cases, &bar)?;
            peer.close()?;
        }
        bar.finish_and_clear();
        peer.stop();
        tally.report(server, run);
    }
    run.seconds = started.elapsed().as_secs_f64();
    Ok(cases)
}

/// Types one session. After an accepted suggestion, the keys it spared are skipped.
fn replay(
    session: &Session,
    peer: &mut Peer,
    server: &str,
    settings: &Settings,
    tally: &mut Tally,
    cases: &mut Vec<Case>,
    bar: &indicatif::ProgressBar,
) -> Result<()> {
    let mut text = session.text.clone();
    let mut pauses = script::Pauses::new(settings.seed);
    let mut next = 0;
    let mut first = true;
    while let Some(edit) = session.edits.get(next) {
        next += 1;
        bar.inc(1);
        let cursor = edit.apply(&mut text);
        peer.change(edit, &text)?;
        tally.keys += 1;
        let Edit::Type { remaining, .. } = edit else { continue };
        tally.characters += 1;
        let wait = match settings.speed {
            Speed::Human => pauses.after(edit),
            Speed::Full => PATIENCE,
        };
        let asked = Instant::now();
        tally.requests += 1;
        let answer = peer.complete(&text, cursor, asked + wait);
        let elapsed = asked.elapsed();
        let milliseconds = elapsed.as_secs_f64() * 1e3;
        let suggestion = match answer {
            Ok(Some(suggestion)) => suggestion,
            Ok(None) => {
                tally.cancelled += 1;
                continue;
            }
            Err(_) => {
                tally.failed += 1;
                continue;
            }
        };
        if !suggestion.is_empty() {
            tally.shown += 1;
            let times = if first { &mut tally.cold } else { &mut tally.warm };
            times.push(milliseconds);
            let right = remaining.starts_with(&suggestion);
            cases.push(Case {
                id: format!("{}:{}", session.name, next),
                group: server.to_owned(),
                values: [("accepted".to_owned(), f64::from(right))].into(),
                prompt: text[..cursor].lines().last().unwrap_or_default().to_owned(),
                expected: remaining.lines().next().unwrap_or_default().to_owned(),
                completion: suggestion.clone(),
                milliseconds,
                ..Case::default()
            });
            if right {
                tally.accepted += 1;
                let count = suggestion.chars().count();
                tally.characters += count;
                tally.spared += count;
                next = accept(session, next, count, &mut text, peer)?;
            }
        }
        first = false;
        if settings.speed == Speed::Human {
            std::thread::sleep(wait.saturating_sub(elapsed));
        }
    }
    Ok(())
}

/// Types what the suggestion holds in one edit, and returns the index of the key after it.
fn accept(session: &Session, next: usize, count: usize, text: &mut String, peer: &mut Peer) -> Result<usize> {
    let mut index = next;
    let mut left = count;
    while left > 0
        && let Some(edit) = session.edits.get(index)
    {
        edit.apply(text);
        peer.change(edit, text)?;
        left -= usize::from(matches!(edit, Edit::Type { .. }));
        index += 1;
    }
    Ok(index)
}

impl Tally {
    fn report(mut self, server: &str, run: &mut Run) {
        let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        self.cold.sort_by(f64::total_cmp);
        self.warm.sort_by(f64::total_cmp);
        let mut add = |name: &str, value: f64| run.metrics.insert(format!("{server} {name}"), value);
        add("keys", self.keys as f64);
        add("requests", self.requests as f64);
        add("shown_rate", share(self.shown, self.requests));
        add("exact_accept_rate", share(self.accepted, self.shown));
        add("kept_characters", share(self.spared, self.characters));
        add("cancelled", self.cancelled as f64);
        add("failed", self.failed as f64);
        add("wasted_rate", share(self.requests - self.accepted, self.requests));
        for (kind, times) in [("cold", &self.cold), ("warm", &self.warm)] {
            for (name, of) in [("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99)] {
                if let Some(value) = percentile(times, of) {
                    add(&format!("{kind} {name}"), value);
                }
            }
        }
    }
}

/// The `lacuna` binary: the one given, the one beside this program, or the one on the PATH.
pub fn find_lacuna(asked: Option<PathBuf>) -> PathBuf {
    let beside = std::env::current_exe().ok().map(|program| program.with_file_name("lacuna"));
    asked.or_else(|| beside.filter(|file| file.is_file())).unwrap_or_else(|| PathBuf::from("lacuna"))
}
