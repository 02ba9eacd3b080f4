//! A language client for tests: over a pipe in memory to a server in this process, or over the standard streams of the
//! real binary. Every request that is sent must be answered; notifications are kept to be looked at.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use lacuna::{engine_slot::Opener, server};
use lacuna_inference::Backend;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    process::{Child, Command},
    sync::{Mutex as AsyncMutex, oneshot},
    task::JoinHandle,
};

/// Longer than anything here may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

type Waiting = Arc<Mutex<HashMap<i64, oneshot::Sender<(Value, Instant)>>>>;
type Output = Box<dyn AsyncWrite + Send + Unpin>;

pub struct Client {
    output: Arc<AsyncMutex<Output>>,
    waiting: Waiting,
    received: Arc<Mutex<Vec<Value>>>,
    next_id: AtomicI64,
    reading: JoinHandle<()>,
    child: Option<Child>,
}

/// A request on its way.
pub struct Pending {
    pub id: i64,
    answer: oneshot::Receiver<(Value, Instant)>,
}

impl Pending {
    /// The whole answer: `result` or `error`.
    pub async fn answer(self) -> Value {
        self.answer_with_time().await.0
    }

    /// The answer, and when it arrived.
    pub async fn answer_with_time(self) -> (Value, Instant) {
        let answered = tokio::time::timeout(PATIENCE, self.answer).await;
        answered.expect("an answer in time").expect("an answer before the server went away")
    }
}

impl Client {
    /// A server in this process, completing with `backend`.
    pub fn in_memory(backend: impl Backend + Clone + 'static) -> Self {
        Self::with_opener(Arc::new(move |_| Ok(Arc::new(backend.clone()))))
    }

    pub fn with_opener(opener: Opener) -> Self {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (input, output) = tokio::io::split(theirs);
        tokio::spawn(server::serve(input, output, opener, None));
        let (input, output) = tokio::io::split(ours);
        Self::over(input, Box::new(output), None)
    }

    /// The real binary with the embedded model, over its standard streams.
    pub fn stdio() -> Self {
        let mut child = Command::new(binary())
            .arg("lsp")
            .env("LACUNA_LOG", "warn")
            .env("LACUNA_CACHE_DIR", "")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the lacuna binary starts");
        let (input, output) = (child.stdout.take().expect("piped"), child.stdin.take().expect("piped"));
        Self::over(input, Box::new(output), Some(child))
    }

    fn over(input: impl AsyncRead + Send + Unpin + 'static, output: Output, child: Option<Child>) -> Self {
        let (waiting, received) = (Waiting::default(), Arc::<Mutex<Vec<Value>>>::default());
        let output = Arc::new(AsyncMutex::new(output));
        let reading =
            tokio::spawn(read(input, Arc::clone(&waiting), Arc::clone(&received), Arc::clone(&output)));
        Self { output, waiting, received, next_id: AtomicI64::new(1), reading, child }
    }

    pub async fn send(&self, message: &Value) {
        write(&self.output, message).await;
    }

    /// Sends bytes that need not be a message.
    pub async fn send_bytes(&self, bytes: &[u8]) {
        let mut output = self.output.lock().await;
        let _ = output.write_all(bytes).await;
        let _ = output.flush().await;
    }

    /// Answers to nothing that could be told: those without a number.
    pub fn refusals(&self) -> Vec<Value> {
        let received = self.received.lock().expect("not poisoned");
        received.iter().filter(|message| message.get("error").is_some()).cloned().collect()
    }

    pub async fn notify(&self, method: &str, params: Value) {
        self.send(&json!({ "jsonrpc": "2.0", "method": method, "params": params })).await;
    }

    /// Sends a request without waiting for its answer.
    pub async fn start(&self, method: &str, params: Value) -> Pending {
        let id = self.next_id.fetch_add(1, Ordering::SeqCst);
        let (sender, answer) = oneshot::channel();
        self.waiting.lock().expect("not poisoned").insert(id, sender);
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })).await;
        Pending { id, answer }
    }

    pub async fn request(&self, method: &str, params: Value) -> Value {
        let answer = self.start(method, params).await.answer().await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    pub async fn cancel(&self, id: i64) {
        self.notify("$/cancelRequest", json!({ "id": id })).await;
    }

    /// `initialize` and `initialized`, with a client that can do everything unless `params` says otherwise.
    pub async fn initialize(&self, roots: &[&Path], options: Value, capabilities: Value) -> Value {
        let folders: Vec<Value> = roots
            .iter()
            .map(|root| json!({ "uri": format!("file://{}", root.display()), "name": "root" }))
            .collect();
        let result = self
            .request(
                "initialize",
                json!({
                    "processId": null,
                    "rootUri": null,
                    "workspaceFolders": folders,
                    "initializationOptions": options,
                    "capabilities": capabilities,
                }),
            )
            .await;
        self.notify("initialized", json!({})).await;
        result
    }

    /// Waits until the model is loaded and the index built; returns the status.
    pub async fn ready(&self, files: usize) -> Value {
        self.status_where("ready", |status| {
            matches!(status["state"].as_str(), Some("ready" | "busy"))
                && status["index"]["files"].as_u64().is_some_and(|count| count as usize >= files)
        })
        .await
    }

    pub async fn status_where(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let status = self.command("lacuna.status").await;
            if fits(&status) {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "never {what}: {status}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn command(&self, command: &str) -> Value {
        self.request("workspace/executeCommand", json!({ "command": command })).await
    }

    pub async fn open(&self, uri: &str, language: &str, text: &str) {
        let document = json!({ "uri": uri, "languageId": language, "version": 1, "text": text });
        self.notify("textDocument/didOpen", json!({ "textDocument": document })).await;
    }

    /// Changes given as `[start line, start column, end line, end column]` and text.
    pub async fn change(&self, uri: &str, version: i32, range: [u32; 4], text: &str) {
        let change = json!({
            "range": {
                "start": { "line": range[0], "character": range[1] },
                "end": { "line": range[2], "character": range[3] },
            },
            "text": text,
        });
        let params =
            json!({ "textDocument": { "uri": uri, "version": version }, "contentChanges": [change] });
        self.notify("textDocument/didChange", params).await;
    }

    pub async fn start_inline(&self, uri: &str, line: u32, character: u32) -> Pending {
        self.start("textDocument/inlineCompletion", inline_params(uri, line, character, 2)).await
    }

    /// The inserted texts of the inline completion items.
    pub async fn inline(&self, uri: &str, line: u32, character: u32) -> Vec<String> {
        texts(&self.request("textDocument/inlineCompletion", inline_params(uri, line, character, 2)).await)
    }

    pub async fn invoke(&self, uri: &str, line: u32, character: u32) -> Vec<String> {
        texts(&self.request("textDocument/inlineCompletion", inline_params(uri, line, character, 1)).await)
    }

    /// Notifications and requests from the server so far, of one method.
    pub fn received(&self, method: &str) -> Vec<Value> {
        let received = self.received.lock().expect("not poisoned");
        received.iter().filter(|message| message["method"] == method).cloned().collect()
    }

    /// Waits for a message of this method that fits.
    pub async fn wait_for(&self, method: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            if let Some(found) = self.received(method).into_iter().find(|message| fits(message)) {
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "no {method} that fits in {:?}", self.received(method));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Requests without an answer.
    pub fn unanswered(&self) -> usize {
        self.waiting.lock().expect("not poisoned").len()
    }

    /// The real binary's resident memory in bytes.
    pub fn resident_bytes(&self) -> Option<u64> {
        let pid = self.child.as_ref()?.id()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kibibytes| kibibytes * 1024)
    }

    /// `shutdown` and `exit`; the real binary's exit code.
    pub async fn shut_down(mut self) -> Option<i32> {
        self.request("shutdown", Value::Null).await;
        self.send(&json!({ "jsonrpc": "2.0", "method": "exit" })).await;
        let child = self.child.as_mut()?;
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
        ended.expect("the process ends after exit").expect("a status").code()
    }

    /// Closes the server's input without a word; the real binary's exit code.
    pub async fn hang_up(mut self) -> Option<i32> {
        let _ = self.output.lock().await.shutdown().await;
        *self.output.lock().await = Box::new(tokio::io::sink());
        let child = self.child.as_mut()?;
        let ended = tokio::time::timeout(PATIENCE, child.wait()).await;
        ended.expect("the process ends when its input does").expect("a status").code()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

pub fn inline_params(uri: &str, line: u32, character: u32, trigger_kind: u8) -> Value {
    json!({
        "textDocument": { "uri": uri },
        "position": { "line": line, "character": character },
        "context": { "triggerKind": trigger_kind },
    })
}

/// The inserted texts of an inline completion answer.
pub fn texts(result: &Value) -> Vec<String> {
    let items = result.get("items").unwrap_or(result).as_array().cloned().unwrap_or_default();
    items.iter().filter_map(|item| Some(item["insertText"].as_str()?.to_string())).collect()
}

/// Capabilities of a client with inline completion.
pub fn inline_capabilities() -> Value {
    json!({
        "textDocument": { "inlineCompletion": {} },
        "window": { "workDoneProgress": true },
        "general": { "positionEncodings": ["utf-16"] },
    })
}

async fn write(output: &AsyncMutex<Output>, message: &Value) {
    let body = message.to_string();
    let mut output = output.lock().await;
    // A server that is gone is noticed by the answer that does not come.
    let _ = output.write_all(format!("Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
    let _ = output.flush().await;
}

async fn read(
    input: impl AsyncRead + Unpin,
    waiting: Waiting,
    received: Arc<Mutex<Vec<Value>>>,
    output: Arc<AsyncMutex<Output>>,
) {
    let mut input = BufReader::new(input);
    while let Some(message) = read_message(&mut input).await {
        let arrived = Instant::now();
        if message.get("method").is_some() {
            if let Some(id) = message.get("id") {
                let result =
                    if message["method"] == "workspace/configuration" { json!([{}]) } else { Value::Null };
                let answer = json!({ "jsonrpc": "2.0", "id": id, "result": result });
                write(&output, &answer).await;
            }
            received.lock().expect("not poisoned").push(message);
        } else if let Some(id) = message["id"].as_i64() {
            let sender = waiting.lock().expect("not poisoned").remove(&id);
            let sender = sender.unwrap_or_else(|| panic!("answered twice or never asked: {message}"));
            let _ = sender.send((message, arrived));
        } else {
            received.lock().expect("not poisoned").push(message);
        }
    }
}

async fn read_message(input: &mut BufReader<impl AsyncRead + Unpin>) -> Option<Value> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if input.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim() {
            "" => break,
            header => {
                if let Some(value) = header.strip_prefix("Content-Length:") {
                    length = value.trim().parse().ok()?;
                }
            }
        }
    }
    let mut body = vec![0; length];
    input.read_exact(&mut body).await.ok()?;
    Some(serde_json::from_slice(&body).expect("the server writes nothing but JSON"))
}

/// The `lacuna` binary of this build; built first if need be.
pub fn binary() -> PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY
        .get_or_init(|| {
            let test = std::env::current_exe().expect("the test's own path");
            let profile = test.parent().and_then(Path::parent).expect("target/<profile>/deps");
            let is_release = profile.ends_with("release");
            let mut build = std::process::Command::new(env!("CARGO"));
            // All targets, as tests are built: with another choice cargo would build shared dependencies again.
            build.args(["build", "--quiet", "--locked", "--workspace", "--all-targets", "--target-dir"]);
            build.arg(profile.parent().expect("target"));
            build.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
            if is_release {
                build.arg("--release");
            }
            assert!(build.status().expect("cargo runs").success(), "the binary builds");
            profile.join("lacuna")
        })
        .clone()
}
