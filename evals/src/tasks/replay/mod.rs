//! Types real code key by key into a completion server and counts what a user would see: time to ghost text, how
//! often there is one, how much typing it spares, how much work was for nothing.

pub mod history;
pub mod script;

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use lacuna_indexer::Language;
use serde::Serialize;
use serde_json::Value;

use crate::{
    generate::peer::{Change, Peer, Start},
    progress,
    report::{Case, Run, percentile},
};
use script::{Edit, Session};

/// How fast the keys come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Speed {
    /// Pauses drawn from a log-normal distribution with a median of 140 ms, longer after words, lines and jumps.
    Human,
    /// Each key waits for the answer to the one before.
    Full,
}

/// Keys wait no longer than this for an answer at full speed.
const PATIENCE: Duration = Duration::from_secs(10);

/// What keys are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// Lines of source files, taken out and typed again.
    Files,
    /// What the latest commits added.
    Git,
}

#[derive(Debug, Clone, Serialize)]
pub struct Settings {
    pub speed: Speed,
    pub from: From,
    pub servers: Vec<String>,
    pub seed: u64,
    /// Beside the model, as editors send them.
    pub server_settings: serde_json::Map<String, Value>,
}

/// Who is typed at, and with what.
pub struct Work<'a> {
    pub sessions: &'a [Session],
    /// The directory whose other files servers may read.
    pub root: Option<&'a Path>,
    pub lacuna: &'a Path,
    pub model: &'a str,
}

/// What one server did over all sessions.
#[derive(Debug, Default)]
struct Tally {
    keys: usize,
    requests: usize,
    shown: usize,
    accepted: usize,
    /// Suggestions whose first word was right: people accept word by word, too.
    first_words: usize,
    /// Characters of all text that was to be typed, and those that accepted suggestions typed.
    characters: usize,
    spared: usize,
    cancelled: usize,
    failed: usize,
    /// Milliseconds to ghost text: the first of a file, and all others.
    cold: Vec<f64>,
    warm: Vec<f64>,
    /// Tokens that the engine generated, of servers that say so, and those of accepted suggestions.
    tokens: usize,
    accepted_tokens: usize,
    processor_seconds: Option<f64>,
    /// From the start of the process to its answer to `initialize`.
    start_ms: f64,
}

pub fn run(work: &Work<'_>, settings: &Settings, run: &mut Run) -> Result<Vec<Case>> {
    let started = Instant::now();
    let mut cases = Vec::new();
    let mut names = BTreeMap::new();
    for server in &settings.servers {
        let mut server_settings = settings.server_settings.clone();
        server_settings.insert("model".into(), work.model.into());
        let start =
            Start { server, lacuna: work.lacuna, root: work.root, settings: Value::Object(server_settings) };
        let began = Instant::now();
        let mut peer = Peer::start(&start)?;
        let start_ms = began.elapsed().as_secs_f64() * 1e3;
        names.insert(server.clone(), peer.name());
        peer.wait_until_ready()?;
        let mut tally = Tally { start_ms, ..Tally::default() };
        let processor_before = peer.processor_seconds();
        let bar = progress::bar(server, work.sessions.iter().map(|session| session.edits.len()).sum());
        for session in work.sessions {
            peer.open(&session.path, &session.text)?;
            let mut typist = Typist {
                session,
                text: session.text.clone(),
                pauses: script::Pauses::new(settings.seed),
                speed: settings.speed,
                server,
                tally: &mut tally,
            };
            typist.type_all(&mut peer, &mut cases, &bar)?;
            peer.close()?;
        }
        bar.finish_and_clear();
        tally.processor_seconds =
            peer.processor_seconds().zip(processor_before).map(|(after, before)| after - before);
        peer.stop();
        tally.report(server, run);
    }
    run.model["servers"] = serde_json::to_value(names)?;
    run.seconds = started.elapsed().as_secs_f64();
    Ok(cases)
}

/// Types one session into one server.
struct Typist<'a> {
    session: &'a Session,
    text: String,
    pauses: script::Pauses,
    speed: Speed,
    server: &'a str,
    tally: &'a mut Tally,
}

impl Typist<'_> {
    /// After an accepted suggestion, the keys it spared are skipped.
    fn type_all(
        &mut self,
        peer: &mut Peer,
        cases: &mut Vec<Case>,
        bar: &indicatif::ProgressBar,
    ) -> Result<()> {
        let edits = &self.session.edits;
        let mut next = 0;
        let before = cases.len();
        while let Some(edit) = edits.get(next) {
            next += 1;
            bar.set_position(bar.position() + 1);
            let cursor = edit.apply(&mut self.text);
            peer.change(&edit.change(&mut [0; 4]), &self.text)?;
            self.tally.keys += 1;
            let pause = self.pauses.after(edit, edits.get(next));
            let asked = Instant::now();
            // Editors ask after corrections as well; what is suggested there is not looked at.
            let wait = match self.speed {
                Speed::Human => pause,
                Speed::Full => PATIENCE,
            };
            self.tally.requests += 1;
            let answer = peer.complete(&self.text, cursor, asked + wait);
            let milliseconds = asked.elapsed().as_secs_f64() * 1e3;
            let suggestion = match answer {
                Ok(Some(suggestion)) => suggestion,
                Ok(None) => {
                    self.tally.cancelled += 1;
                    continue;
                }
                Err(_) => {
                    self.tally.failed += 1;
                    std::thread::sleep(if self.speed == Speed::Human { pause } else { Duration::ZERO });
                    continue;
                }
            };
            let tokens = peer.work().map_or(0, |work| work.generated_tokens);
            self.tally.tokens += tokens;
            if let Edit::Type { remaining, .. } = edit {
                self.tally.characters += 1;
                let shown = Shown { suggestion, remaining, cursor, milliseconds, tokens };
                let is_cold = cases.len() == before;
                let taken = self.look_at(&shown, is_cold, next, cases);
                next = self.accept(next, taken, peer)?;
                bar.set_position(bar.position() + taken as u64);
            }
            if self.speed == Speed::Human {
                std::thread::sleep(pause.saturating_sub(asked.elapsed()));
            }
        }
        Ok(())
    }

    /// Counts a suggestion; returns how many characters of it are accepted: all, if they are what would be typed.
    fn look_at(&mut self, shown: &Shown<'_>, is_cold: bool, number: usize, cases: &mut Vec<Case>) -> usize {
        if shown.suggestion.is_empty() {
            return 0;
        }
        let Shown { suggestion, remaining, cursor, milliseconds, tokens } = shown;
        self.tally.shown += 1;
        let times = if is_cold { &mut self.tally.cold } else { &mut self.tally.warm };
        times.push(*milliseconds);
        let right = remaining.starts_with(suggestion);
        let count = if right { suggestion.chars().count() } else { 0 };
        let begins_right = first_word(suggestion) == first_word(remaining);
        self.tally.first_words += usize::from(begins_right);
        let language = Language::from_path(&self.session.path);
        cases.push(Case {
            id: format!("{}:{number}", self.session.name),
            group: self.server.to_owned(),
            language: language.map(|language| language.name().to_owned()).unwrap_or_default(),
            values: [
                ("accepted".to_owned(), f64::from(right)),
                ("first_word".to_owned(), f64::from(begins_right)),
                ("kept_characters".to_owned(), count as f64),
            ]
            .into(),
            prompt: self.text[..*cursor].lines().last().unwrap_or_default().to_owned(),
            expected: remaining.lines().next().unwrap_or_default().to_owned(),
            completion: suggestion.clone(),
            milliseconds: *milliseconds,
            tokens: *tokens,
            ..Case::default()
        });
        if right {
            self.tally.accepted += 1;
            self.tally.accepted_tokens += tokens;
            self.tally.characters += count;
            self.tally.spared += count;
        }
        count
    }

    /// Types what an accepted suggestion holds in one go, and returns the index of the key after it. Slips that lie on
    /// the way did not happen.
    fn accept(&mut self, next: usize, count: usize, peer: &mut Peer) -> Result<usize> {
        let mut index = next;
        let mut left = count;
        let mut inserted = String::new();
        let mut start = None;
        while left > 0
            && let Some(edit) = self.session.edits.get(index)
        {
            if let Edit::Type { offset, key, .. } = edit {
                start.get_or_insert(*offset);
                inserted.push(*key);
                left -= 1;
            }
            index += 1;
        }
        if let Some(offset) = start {
            self.text.insert_str(offset, &inserted);
            let change = Change { offset, removed: "", inserted: &inserted };
            peer.change(&change, &self.text)?;
        }
        Ok(index)
    }
}

/// What accepting one word inserts: a word, or signs up to the next one, with the white space before it.
fn first_word(text: &str) -> &str {
    let is_word = |character: char| character.is_alphanumeric() || character == '_';
    let start = text.len() - text.trim_start().len();
    let Some(first) = text[start..].chars().next() else { return text };
    let ends = |character: char| character.is_whitespace() || is_word(character) != is_word(first);
    let end = text[start..].find(ends).map_or(text.len(), |length| start + length);
    &text[..end]
}

/// An answer at a key that belongs there.
struct Shown<'a> {
    suggestion: String,
    remaining: &'a str,
    cursor: usize,
    milliseconds: f64,
    tokens: usize,
}

impl Tally {
    fn report(mut self, server: &str, run: &mut Run) {
        let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
        self.cold.sort_by(f64::total_cmp);
        self.warm.sort_by(f64::total_cmp);
        let mut add = |name: &str, value: f64| run.metrics.insert(format!("{server} {name}"), value);
        add("start_ms", self.start_ms);
        add("keys", self.keys as f64);
        add("requests", self.requests as f64);
        add("shown_rate", share(self.shown, self.requests));
        add("exact_accept_rate", share(self.accepted, self.shown));
        add("first_word_rate", share(self.first_words, self.shown));
        add("kept_characters", share(self.spared, self.characters));
        add("cancelled", self.cancelled as f64);
        add("failed", self.failed as f64);
        add("requests_without_accept", share(self.requests - self.accepted, self.requests));
        if self.tokens > 0 {
            add("tokens_generated", self.tokens as f64);
            add("tokens_wasted", share(self.tokens - self.accepted_tokens, self.tokens));
        }
        if let Some(seconds) = self.processor_seconds {
            add("processor_ms_per_key", seconds * 1e3 / self.keys.max(1) as f64);
        }
        for (kind, times) in [("cold", &self.cold), ("warm", &self.warm)] {
            for (name, of) in [("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99)] {
                if let Some(value) = percentile(times, of) {
                    add(&format!("{kind} {name}"), value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_words() {
        for (text, expected) in [
            ("name(self)", "name"),
            (" = value", " ="),
            (").then(", ")."),
            ("\n    return x", "\n    return"),
            ("é_1", "é_1"),
            ("", ""),
        ] {
            assert_eq!(first_word(text), expected, "{text:?}");
        }
    }
}
