//! The server that is typed at: `lacuna lsp` or another language server over stdio, or an HTTP `/infill` server.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use lacuna_indexer::Language;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::lsp::Client;

pub enum Peer {
    Lsp(Box<Lsp>),
    Http { url: String, agent: ureq::Agent },
}

pub struct Lsp {
    client: Client,
    uri: String,
    version: i64,
    /// Whether the server is known not to explain its completions.
    is_silent: bool,
    /// The server's cache, so that a run neither finds nor leaves anything in the user's.
    _cache: TempDir,
}

/// How to start a server.
pub struct Start<'a> {
    /// `lacuna` for the binary's own server, an http address, or the command line of a language server.
    pub server: &'a str,
    pub lacuna: &'a Path,
    /// The directory whose other files the server may read.
    pub root: Option<&'a Path>,
    /// As editors send them.
    pub settings: Value,
}

/// One edit of a text, as bytes from `offset`.
pub struct Change<'a> {
    pub offset: usize,
    pub removed: &'a str,
    pub inserted: &'a str,
}

/// What the server says its last completion cost.
#[derive(Debug, Clone, Copy)]
pub struct WorkDone {
    pub generated_tokens: usize,
}

const INFILL_TOKENS: usize = 64;
/// How long a server may take to load its model and read its workspace.
const READY_LIMIT: Duration = Duration::from_secs(180);
const READY_POLL: Duration = Duration::from_millis(250);
/// The index has been read when it has not grown for so many polls.
const STEADY_POLLS: usize = 4;
const COMMAND_LIMIT: Duration = Duration::from_secs(10);

impl Peer {
    pub fn start(start: &Start<'_>) -> Result<Self> {
        let server = start.server;
        if server.starts_with("http://") {
            let url = format!("{}/infill", server.trim_end_matches('/'));
            return Ok(Self::Http { url, agent: ureq::Agent::config_builder().build().new_agent() });
        }
        let mut command = if server == "lacuna" {
            let mut command = Command::new(start.lacuna);
            command.arg("lsp");
            command
        } else {
            let mut words = server.split_whitespace();
            let mut command = Command::new(words.next().context("an empty command")?);
            command.args(words);
            command
        };
        let cache = tempfile::tempdir().context("cannot make a directory for the server's cache")?;
        command.env("XDG_CACHE_HOME", cache.path());
        let root = start.root.map_or(Value::Null, |root| uri(root).into());
        let client = Client::start(&mut command, &root, &start.settings)
            .with_context(|| format!("cannot start `{server}`"))?;
        let (uri, version) = (String::new(), 0);
        Ok(Self::Lsp(Box::new(Lsp { client, uri, version, is_silent: false, _cache: cache })))
    }

    /// Waits until `lacuna lsp` has loaded its model and read its workspace.
    pub fn wait_until_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_LIMIT;
        let (mut files, mut steady) = (Value::Null, 0);
        while steady < STEADY_POLLS {
            if Instant::now() > deadline {
                bail!("the server was not ready after {} s", READY_LIMIT.as_secs());
            }
            std::thread::sleep(READY_POLL);
            let Some(status) = self.command("lacuna.status")? else { return Ok(()) };
            if status["state"] == "error" {
                bail!("the server cannot complete: {}", status["message"].as_str().unwrap_or_default());
            }
            let now = status["index"]["symbols"].clone();
            steady = if status["state"] == "ready" && now == files { steady + 1 } else { 0 };
            files = now;
        }
        Ok(())
    }

    /// What the last completion cost, of servers that say so.
    pub fn work(&mut self) -> Option<WorkDone> {
        let explained = self.command("lacuna.explain").ok().flatten()?;
        // What was typed into a known completion, or found in the cache, cost nothing.
        let tokens = if explained["source"] == "model" { explained["generatedTokens"].as_u64()? } else { 0 };
        Some(WorkDone { generated_tokens: tokens as usize })
    }

    /// One of Lacuna's own commands; `None` of servers that do not know them.
    fn command(&mut self, name: &str) -> Result<Option<Value>> {
        let Self::Lsp(lsp) = self else { return Ok(None) };
        if lsp.is_silent {
            return Ok(None);
        }
        let params = json!({ "command": name, "arguments": [] });
        let deadline = Instant::now() + COMMAND_LIMIT;
        let answer = lsp.client.request("workspace/executeCommand", params, deadline);
        lsp.is_silent = answer.is_err();
        Ok(answer.unwrap_or_default())
    }

    /// What the server calls itself.
    pub fn name(&self) -> String {
        match self {
            Self::Lsp(lsp) => lsp.client.info().to_owned(),
            Self::Http { url, .. } => url.clone(),
        }
    }

    /// Processor time of a server that the harness started.
    pub fn processor_seconds(&self) -> Option<f64> {
        /// Linux counts in hundredths on every architecture that it runs on today.
        const TICKS_PER_SECOND: f64 = 100.0;
        let Self::Lsp(lsp) = self else { return None };
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", lsp.client.process())).ok()?;
        // The name in parentheses may hold spaces; user and system time are the 14th and 15th field.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
        Some(ticks / TICKS_PER_SECOND)
    }

    pub fn open(&mut self, path: &Path, text: &str) -> Result<()> {
        let Self::Lsp(lsp) = self else { return Ok(()) };
        lsp.uri = uri(path);
        lsp.version = 1;
        let language = language_id(path);
        lsp.client.notify(
            "textDocument/didOpen",
            json!({ "textDocument": { "uri": lsp.uri, "languageId": language, "version": 1, "text": text } }),
        )
    }

    pub fn close(&mut self) -> Result<()> {
        let Self::Lsp(lsp) = self else { return Ok(()) };
        lsp.client.notify("textDocument/didClose", json!({ "textDocument": { "uri": lsp.uri } }))
    }

    /// `text` is the document after the change.
    pub fn change(&mut self, change: &Change<'_>, text: &str) -> Result<()> {
        let Self::Lsp(lsp) = self else { return Ok(()) };
        // Everything before the offset is the same on both sides of the change.
        let before = text.get(..change.offset).unwrap_or(text);
        let start = position(before, before.len());
        let end = match change.removed {
            "" => start.clone(),
            removed => {
                let whole = format!("{before}{removed}");
                position(&whole, whole.len())
            }
        };
        lsp.version += 1;
        lsp.client.notify(
            "textDocument/didChange",
            json!({
                "textDocument": { "uri": lsp.uri, "version": lsp.version },
                "contentChanges": [{ "range": { "start": start, "end": end }, "text": change.inserted }],
            }),
        )
    }

    /// The ghost text at the cursor, empty for none; `None` when it did not come in time and was given up.
    pub fn complete(&mut self, text: &str, cursor: usize, deadline: Instant) -> Result<Option<String>> {
        match self {
            Self::Lsp(lsp) => {
                let params = json!({
                    "textDocument": { "uri": lsp.uri }, "position": position(text, cursor),
                    "context": { "triggerKind": 2 },
                });
                let answer = lsp.client.request("textDocument/inlineCompletion", params, deadline)?;
                Ok(answer.map(|answer| ghost_text(&answer, text, cursor)))
            }
            Self::Http { url, agent } => {
                let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
                let body = json!({
                    "input_prefix": &text[..cursor], "input_suffix": &text[cursor..], "n_predict": INFILL_TOKENS,
                    "temperature": 0.0, "cache_prompt": true, "stream": false,
                });
                let sent =
                    agent.post(url.as_str()).config().timeout_global(Some(left)).build().send_json(&body);
                match sent.and_then(|mut answer| answer.body_mut().read_json::<Value>()) {
                    Ok(answer) => Ok(Some(answer["content"].as_str().unwrap_or_default().to_owned())),
                    Err(ureq::Error::Timeout(_)) => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    pub fn stop(self) {
        if let Self::Lsp(lsp) = self {
            lsp.client.stop();
        }
    }
}

/// The `lacuna` binary: the one given, the one beside this program, or the one on the PATH.
pub fn find_lacuna(asked: Option<PathBuf>) -> PathBuf {
    let beside = std::env::current_exe().ok().map(|program| program.with_file_name("lacuna"));
    asked.or_else(|| beside.filter(|file| file.is_file())).unwrap_or_else(|| PathBuf::from("lacuna"))
}

/// As the protocol names languages.
fn language_id(path: &Path) -> String {
    match Language::from_path(path) {
        None => "plaintext".into(),
        Some(Language::Tsx) => "typescriptreact".into(),
        Some(Language::Cpp) => "cpp".into(),
        Some(Language::CSharp) => "csharp".into(),
        Some(Language::Bash) => "shellscript".into(),
        Some(language) => language.name().to_lowercase(),
    }
}

fn uri(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    let path: PathBuf = path.to_path_buf();
    let encoded: String = path
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .map(|&byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    format!("file://{encoded}")
}

/// Line and UTF-16 column of a byte offset.
fn position(text: &str, offset: usize) -> Value {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    let line = before.matches('\n').count();
    json!({ "line": line, "character": before[line_start..].encode_utf16().count() })
}

/// The first item's text beyond the cursor: an item may also repeat what stands before it on the line.
fn ghost_text(answer: &Value, text: &str, cursor: usize) -> String {
    let items = answer.get("items").unwrap_or(answer);
    let Some(item) = items.get(0) else { return String::new() };
    let insert =
        item["insertText"].as_str().or_else(|| item["insertText"]["value"].as_str()).unwrap_or_default();
    let line_start = text[..cursor].rfind('\n').map_or(0, |end| end + 1);
    let column = item.pointer("/range/start/character").and_then(Value::as_u64);
    let Some(column) = column else { return insert.to_owned() };
    let mut units = 0;
    let start = text[line_start..cursor]
        .char_indices()
        .find(|(_, character)| {
            let here = units;
            units += character.len_utf16() as u64;
            here >= column
        })
        .map_or(cursor, |(at, _)| line_start + at);
    insert.strip_prefix(&text[start..cursor]).unwrap_or(insert).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ghost_text_is_what_lies_beyond_the_cursor() {
        let text = "a\nlet x = fo";
        for (answer, expected) in [
            (json!({ "items": [{ "insertText": "o()" }] }), "o()"),
            (json!([{ "insertText": { "kind": "snippet", "value": "o" } }]), "o"),
            (
                json!({ "items": [{ "insertText": "foo()", "range": { "start": { "line": 1, "character": 8 } } }] }),
                "o()",
            ),
            (
                json!({ "items": [{ "insertText": "o()", "range": { "start": { "line": 1, "character": 10 } } }] }),
                "o()",
            ),
            (json!({ "items": [] }), ""),
            (Value::Null, ""),
        ] {
            assert_eq!(ghost_text(&answer, text, text.len()), expected, "{answer}");
        }
        assert_eq!(position("é😀x", 6), json!({ "line": 0, "character": 3 }));
        for (path, id) in
            [("a.py", "python"), ("a.tsx", "typescriptreact"), ("a.cc", "cpp"), ("a", "plaintext")]
        {
            assert_eq!(language_id(Path::new(path)), id);
        }
        assert_eq!(uri(Path::new("/a b/ü.py")), "file:///a%20b/%C3%BC.py");
    }
}
