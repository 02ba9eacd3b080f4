//! A language server as a child process: JSON-RPC over its standard streams.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use serde_json::{Value, json};

/// Servers load their model before they answer the first time.
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(5);
const MAX_MESSAGE_BYTES: usize = 64 << 20;
/// Messages that wait to be looked at; the reader stops when nobody does.
const WAITING_MESSAGES: usize = 1024;

pub struct Client {
    server: Child,
    input: ChildStdin,
    messages: Receiver<Value>,
    last_id: i64,
    /// Name and version, as the server introduces itself.
    info: String,
}

impl Client {
    /// `root` is the workspace's URI or null; `options` are the server's own settings, as editors give them.
    pub fn start(command: &mut Command, root: &Value, options: &Value) -> Result<Self> {
        let mut server =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let input = server.stdin.take().context("no standard input")?;
        let output = server.stdout.take().context("no standard output")?;
        let (sender, messages) = bounded(WAITING_MESSAGES);
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            while let Some(message) = read_message(&mut output) {
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut client = Self { server, input, messages, last_id: 0, info: String::new() };
        let capabilities = json!({
            "textDocument": { "inlineCompletion": {}, "synchronization": { "dynamicRegistration": false } },
            "general": { "positionEncodings": ["utf-16"] },
        });
        let folders = match root {
            Value::Null => Value::Null,
            root => json!([{ "uri": root, "name": "workspace" }]),
        };
        let params = json!({ "processId": std::process::id(), "rootUri": root, "workspaceFolders": folders,
            "capabilities": capabilities, "initializationOptions": options });
        let deadline = Instant::now() + START_LIMIT;
        let answer =
            client.request("initialize", params, deadline)?.context("it did not answer `initialize`")?;
        let part = |name: &str| answer["serverInfo"][name].as_str().unwrap_or_default().to_owned();
        client.info = format!("{} {}", part("name"), part("version")).trim().to_owned();
        client.notify("initialized", json!({}))?;
        Ok(client)
    }

    pub fn info(&self) -> &str {
        &self.info
    }

    pub fn process(&self) -> u32 {
        self.server.id()
    }

    pub fn notify(&mut self, method: &str, params: Value) -> Result<()> {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params }))
    }

    /// The result, or `None` when `deadline` came first; the request is then cancelled.
    pub fn request(&mut self, method: &str, params: Value, deadline: Instant) -> Result<Option<Value>> {
        self.last_id += 1;
        let id = self.last_id;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }))?;
        loop {
            let message = match self.messages.recv_deadline(deadline) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => {
                    self.notify("$/cancelRequest", json!({ "id": id }))?;
                    return Ok(None);
                }
                Err(RecvTimeoutError::Disconnected) => bail!("the server ended"),
            };
            if message.get("method").is_some() {
                // The server asks something of an editor: it is told that there is nothing.
                if let Some(asked) = message.get("id") {
                    let result = match message["params"]["items"].as_array() {
                        Some(items) => Value::Array(vec![Value::Null; items.len()]),
                        None => Value::Null,
                    };
                    self.send(&json!({ "jsonrpc": "2.0", "id": asked, "result": result }))?;
                }
            } else if message["id"] == id {
                if let Some(error) = message.get("error") {
                    bail!("{method}: {}", error["message"].as_str().unwrap_or_default());
                }
                return Ok(Some(message["result"].clone()));
            }
        }
    }

    fn send(&mut self, message: &Value) -> Result<()> {
        let body = message.to_string();
        write!(self.input, "Content-Length: {}\r\n\r\n{body}", body.len()).context("the server ended")?;
        self.input.flush().context("the server ended")
    }

    pub fn stop(mut self) {
        let deadline = Instant::now() + STOP_LIMIT;
        let _ = self.request("shutdown", Value::Null, deadline);
        let _ = self.notify("exit", Value::Null);
        while Instant::now() < deadline && matches!(self.server.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn read_message(output: &mut impl BufRead) -> Option<Value> {
    let mut length = None;
    loop {
        let mut line = String::new();
        if output.by_ref().take(4096).read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.strip_prefix("Content-Length:") {
            length = value.trim().parse::<usize>().ok();
        }
    }
    let mut body = vec![0; length.filter(|&length| length <= MAX_MESSAGE_BYTES)?];
    output.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}
