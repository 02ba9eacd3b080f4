//! The server that is typed at: `lacuna lsp` or another language server over stdio, or an HTTP `/infill` server.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{lsp::Client, script::Edit};

pub enum Peer {
    Lsp(Lsp),
    Http { url: String, agent: ureq::Agent },
}

pub struct Lsp {
    client: Client,
    uri: String,
    version: i64,
}

const INFILL_TOKENS: usize = 64;

impl Peer {
    /// `lacuna` for the binary's own server, an http address, or a command line of a language server.
    pub fn start(server: &str, lacuna: &Path, model: &str) -> Result<Self> {
        if server.starts_with("http://") {
            let url = format!("{}/infill", server.trim_end_matches('/'));
            return Ok(Self::Http { url, agent: ureq::Agent::config_builder().build().new_agent() });
        }
        let mut command = if server == "lacuna" {
            let mut command = Command::new(lacuna);
            command.arg("lsp");
            command
        } else {
            let mut words = server.split_whitespace();
            let mut command = Command::new(words.next().context("an empty command")?);
            command.args(words);
            command
        };
        let client = Client::start(&mut command, json!({ "model": model }))
            .with_context(|| format!("cannot start `{server}`"))?;
        Ok(Self::Lsp(Lsp { client, uri: String::new(), version: 0 }))
    }

    pub fn open(&mut self, path: &Path, text: &str) -> Result<()> {
        let Self::Lsp(lsp) = self else { return Ok(()) };
        lsp.uri = uri(path);
        lsp.version = 1;
        let language =
            lacuna_indexer::Language::from_path(path).map_or("plaintext", |language| language.name());
        lsp.client.notify(
            "textDocument/didOpen",
            json!({ "textDocument": { "uri": lsp.uri, "languageId": language, "version": 1, "text": text } }),
        )
    }

    pub fn close(&mut self) -> Result<()> {
        let Self::Lsp(lsp) = self else { return Ok(()) };
        lsp.client.notify("textDocument/didClose", json!({ "textDocument": { "uri": lsp.uri } }))
    }

    /// One key: an insertion, or the removal of the character at the offset.
    pub fn change(&mut self, edit: &Edit, text: &str) -> Result<()> {
        let Self::Lsp(lsp) = self else { return Ok(()) };
        // Positions before the key: everything before the offset is the same on both sides of it.
        let (offset, key, inserted) = match edit {
            Edit::Type { offset, key, .. } | Edit::Slip { offset, key } => (*offset, *key, true),
            Edit::Erase { offset, key } => (*offset, *key, false),
        };
        let start = position(text, offset);
        let mut end = start.clone();
        if !inserted {
            end["character"] = (end["character"].as_u64().unwrap_or(0) + key.len_utf16() as u64).into();
        }
        lsp.version += 1;
        let typed = if inserted { key.to_string() } else { String::new() };
        lsp.client.notify(
            "textDocument/didChange",
            json!({
                "textDocument": { "uri": lsp.uri, "version": lsp.version },
                "contentChanges": [{ "range": { "start": start, "end": end }, "text": typed }],
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
        assert_eq!(uri(Path::new("/a b/ü.py")), "file:///a%20b/%C3%BC.py");
    }
}
