//! The language server end to end, in memory: order of edits, cancellation, encodings, configuration, commands.

use std::time::Duration;

use lacuna_tests::{
    client::{Client, inline_capabilities, inline_params, texts},
    project::Project,
    scripted::{Script, Scripted},
};
use serde_json::{Value, json};

const URI: &str = "file:///nowhere/a.py";

async fn started(backend: &Scripted) -> Client {
    started_with(backend, Value::Null, inline_capabilities()).await
}

async fn started_with(backend: &Scripted, options: Value, capabilities: Value) -> Client {
    let client = Client::in_memory(backend.clone());
    client.initialize(&[], options, capabilities).await;
    client.ready(0).await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn ghost_text_is_offered_and_typed_into_without_the_model() {
    let backend = Scripted::says("value + 1\nnext line");
    let client = started(&backend).await;
    client.open(URI, "python", "value = 1\nx = \n").await;
    let answer = client.request("textDocument/inlineCompletion", inline_params(URI, 1, 4, 2)).await;
    assert_eq!(texts(&answer), ["value + 1"]);
    assert_eq!(answer["items"][0]["range"]["start"], json!({ "line": 1, "character": 4 }));
    assert_eq!(backend.requests(), 1);

    client.change(URI, 2, [1, 4, 1, 4], "val").await;
    let answer = client.request("textDocument/inlineCompletion", inline_params(URI, 1, 7, 2)).await;
    assert_eq!(texts(&answer), ["value + 1"], "the typed beginning is part of the item");
    assert_eq!(answer["items"][0]["range"]["start"], json!({ "line": 1, "character": 4 }));
    assert_eq!(answer["items"][0]["range"]["end"], json!({ "line": 1, "character": 7 }));
    assert_eq!(backend.requests(), 1, "no second request");
    let explain = client.command("lacuna.explain").await;
    assert_eq!(explain["source"], "typedInto");

    client.change(URI, 3, [1, 4, 1, 7], "").await;
    assert_eq!(client.inline(URI, 1, 4).await, ["value + 1"]);
    assert_eq!(backend.requests(), 1, "the same place again");
    assert_eq!(client.unanswered(), 0);
    client.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_sees_every_edit_sent_before_it() {
    let backend = Scripted::says("1");
    let client = started(&backend).await;
    client.open(URI, "python", "").await;
    for number in 0..50 {
        client
            .change(URI, number + 2, [number as u32, 0, number as u32, 0], &format!("name_{number} = \n"))
            .await;
        let pending = client.start_inline(URI, number as u32, 8 + (number.max(1).ilog10())).await;
        // The next edit is on its way before the answer.
        drop(pending.answer().await);
        assert!(
            backend.last_prompt().contains(&format!("name_{number} =")),
            "edit {number} is missing in {:?}",
            backend.last_prompt()
        );
    }
    client.shut_down().await;
}

/// Waits until so few generations run: one is dropped soon after its request is answered, not before.
async fn runs_at_most(backend: &Scripted, most: usize) {
    let began = std::time::Instant::now();
    while backend.running() > most {
        assert!(began.elapsed() < Duration::from_secs(30), "{} generations go on", backend.running());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_latest_request_wins_and_every_other_is_answered() {
    let backend = Scripted::new(Script::Dawdles(Duration::from_millis(5)));
    let client = started(&backend).await;
    client.open(URI, "python", "x = \n").await;
    let mut pending = Vec::new();
    for _ in 0..20 {
        pending.push(client.start_inline(URI, 0, 4).await);
    }
    let last = pending.pop().expect("twenty");
    for pending in pending {
        let answer = pending.answer().await;
        assert_eq!(answer.get("result"), Some(&Value::Null), "{answer}");
    }
    runs_at_most(&backend, 1).await;
    client.cancel(last.id).await;
    assert_eq!(last.answer().await["error"]["code"], -32800);
    runs_at_most(&backend, 0).await;
    client.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn positions_are_in_the_negotiated_encoding() {
    // encoding offered, encoding chosen, column of the end of the line with emoji and CJK below
    for (offered, chosen, column) in [
        (json!(["utf-8", "utf-16"]), "utf-8", 19),
        (json!(["utf-16"]), "utf-16", 13),
        (json!(["utf-32"]), "utf-32", 12),
        (Value::Null, "utf-16", 13),
    ] {
        let backend = Scripted::says("done()");
        let client = Client::in_memory(backend.clone());
        let capabilities = json!({ "general": { "positionEncodings": offered } });
        let result = client.initialize(&[], Value::Null, capabilities).await;
        assert_eq!(result["capabilities"]["positionEncoding"], chosen);
        client.ready(0).await;
        client.open(URI, "python", "a = 1\r\ns = '😀漢字'; y\r\nb = 2\r\n").await;
        client.change(URI, 2, [1, column, 1, column], " = ").await;
        let answer =
            client.request("textDocument/inlineCompletion", inline_params(URI, 1, column + 3, 2)).await;
        assert_eq!(texts(&answer), ["done()"], "{chosen}: {}", backend.last_prompt());
        assert_eq!(answer["items"][0]["range"]["end"], json!({ "line": 1, "character": column + 3 }));
        assert!(backend.last_prompt().contains("'😀漢字'; y ="), "{chosen}: {}", backend.last_prompt());
        client.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strange_documents_are_answered() {
    let backend = Scripted::says("ok");
    let client = started(&backend).await;
    client.open(URI, "python", "").await;
    client.inline(URI, 0, 0).await;
    client.inline(URI, 999, 999).await;

    let huge = "file:///nowhere/huge.js";
    client.open(huge, "javascript", &format!("var a = [{}];\n", "1,".repeat(500_000))).await;
    client.inline(huge, 0, 500_000).await;
    client.inline(huge, 1, 0).await;

    let unknown = "untitled:Untitled-1";
    client.open(unknown, "klingon", "x = ").await;
    assert_eq!(client.inline(unknown, 0, 4).await, ["ok"]);

    assert!(client.inline("file:///never/opened.py", 0, 0).await.is_empty());
    client.notify("textDocument/didClose", json!({ "textDocument": { "uri": URI } })).await;
    assert!(client.inline(URI, 0, 0).await.is_empty());
    client.change("file:///never/opened.py", 1, [0, 0, 0, 0], "x").await;

    let larger = "file:///nowhere/larger.py";
    client.open(larger, "python", &"x = 1\n".repeat(800_000)).await;
    assert!(client.inline(larger, 3, 5).await.is_empty());
    let outcome = client.command("lacuna.explain").await["outcome"].clone();
    assert_eq!(outcome, "nothing: the document is larger than 4 MiB");
    client.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_and_panics_end_one_request_only() {
    let backend = Scripted::new(Script::Panics);
    let client = started(&backend).await;
    client.open(URI, "python", "x = \n").await;
    assert!(client.inline(URI, 0, 4).await.is_empty(), "a panic is answered with nothing");
    backend.set(Script::Fails);
    assert!(client.inline(URI, 0, 4).await.is_empty(), "an overloaded engine is answered with nothing");
    backend.set(Script::Says("1".into()));
    assert_eq!(client.inline(URI, 0, 4).await, ["1"], "the server goes on");
    client.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_methods_and_wrong_parameters_are_answered() {
    let backend = Scripted::says("1");
    let client = started(&backend).await;
    let answer = client.start("textDocument/doesNotExist", json!({})).await.answer().await;
    assert_eq!(answer["error"]["code"], -32601);
    let answer = client.start("textDocument/inlineCompletion", json!({ "wrong": true })).await.answer().await;
    assert_eq!(answer["error"]["code"], -32602);
    let answer =
        client.start("workspace/executeCommand", json!({ "command": "lacuna.unknown" })).await.answer().await;
    assert_eq!(answer["error"]["code"], -32602);
    client.notify("$/unknownNotification", json!({})).await;
    client.open(URI, "python", "x = ").await;
    assert_eq!(client.inline(URI, 0, 4).await, ["1"], "the server goes on");
    client.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_applied_and_wrong_ones_reported() {
    let backend = Scripted::says("value");
    let options = json!({ "maxTokens": 7, "maxTokns": 3, "multiLine": "sometimes" });
    let client = started_with(&backend, options, inline_capabilities()).await;
    client
        .wait_for("window/logMessage", |message| {
            message["params"]["message"]
                == "unknown setting `lacuna.maxTokns`; did you mean `lacuna.maxTokens`?"
        })
        .await;
    client
        .wait_for("window/logMessage", |message| {
            message["params"]["message"].as_str().is_some_and(|text| text.contains("\"sometimes\""))
        })
        .await;
    client.open(URI, "python", "x = \n").await;
    assert_eq!(client.inline(URI, 0, 4).await, ["value"]);

    let settings = json!({ "settings": { "lacuna": { "languages": ["rust"] } } });
    client.notify("workspace/didChangeConfiguration", settings).await;
    assert!(client.inline(URI, 0, 4).await.is_empty());
    let explain = client.command("lacuna.explain").await;
    assert_eq!(explain["outcome"], "nothing: the setting languages does not name `python`");

    let settings = json!({ "settings": { "disabledGlobs": ["nowhere/*.py"] } });
    client.notify("workspace/didChangeConfiguration", settings).await;
    assert!(client.inline(URI, 0, 4).await.is_empty());
    let explain = client.command("lacuna.explain").await;
    assert_eq!(explain["outcome"], "nothing: the setting disabledGlobs names this file");
    client.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_alternatives_when_asked_for() {
    let backend = Scripted::says("one");
    let client = started(&backend).await;
    client.open(URI, "python", "x = \n").await;
    assert_eq!(client.invoke(URI, 0, 4).await, ["one"], "equal alternatives are shown once");
    assert_eq!(backend.requests(), 3);
    client.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_selected_menu_item_is_extended() {
    let backend = Scripted::says("()");
    let client = started(&backend).await;
    client.open(URI, "python", "import os\nos.get\n").await;
    let mut params = inline_params(URI, 1, 6, 2);
    params["context"]["selectedCompletionInfo"] = json!({
        "range": { "start": { "line": 1, "character": 3 }, "end": { "line": 1, "character": 6 } },
        "text": "getcwd",
    });
    let answer = client.request("textDocument/inlineCompletion", params).await;
    assert_eq!(texts(&answer), ["getcwd()"]);
    assert_eq!(answer["items"][0]["range"]["start"], json!({ "line": 1, "character": 3 }));
    assert!(backend.last_prompt().ends_with("os.getcwd"), "{}", backend.last_prompt());
    client.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn editors_without_inline_completion_get_a_menu_item() {
    let backend = Scripted::says("ue + 1");
    let client = Client::in_memory(backend.clone());
    let result = client.initialize(&[], Value::Null, json!({})).await;
    assert!(result["capabilities"]["completionProvider"].is_object());
    client.ready(0).await;
    client.open(URI, "python", "x = val\n").await;
    let params = json!({ "textDocument": { "uri": URI }, "position": { "line": 0, "character": 7 } });
    let answer = client.request("textDocument/completion", params).await;
    assert_eq!(answer["isIncomplete"], true);
    let item = &answer["items"][0];
    assert_eq!(item["filterText"], "value + 1");
    assert_eq!(item["textEdit"]["newText"], "value + 1");
    assert_eq!(item["textEdit"]["range"]["start"], json!({ "line": 0, "character": 4 }));
    client.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn completion_is_offered_in_one_way_only() {
    // capabilities, settings, static inline completion, menu, registered dynamically
    let dynamic = json!({ "textDocument": { "inlineCompletion": { "dynamicRegistration": true } } });
    let cases = [
        (inline_capabilities(), json!({}), true, false, false),
        (dynamic, json!({}), false, false, true),
        (json!({}), json!({}), true, true, false),
        (json!({}), json!({ "completionFallback": "never" }), true, false, false),
        (inline_capabilities(), json!({ "completionFallback": "always" }), true, true, false),
    ];
    for (capabilities, options, inline, menu, registers) in cases {
        let client = Client::in_memory(Scripted::says("1"));
        let result = client.initialize(&[], options, capabilities).await;
        let capabilities = &result["capabilities"];
        assert_eq!(capabilities["inlineCompletionProvider"] == true, inline);
        assert_eq!(capabilities["completionProvider"].is_object(), menu);
        client.ready(0).await;
        if registers {
            let asked = client.wait_for("client/registerCapability", |_| true).await;
            assert_eq!(asked["params"]["registrations"][0]["method"], "textDocument/inlineCompletion");
        } else {
            assert!(client.received("client/registerCapability").is_empty());
        }
        client.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_model_loads_in_the_background_and_failures_are_told_once() {
    let fail = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(true));
    let opener = {
        let fail = fail.clone();
        move |_: &lacuna::config::Config| -> Result<std::sync::Arc<dyn lacuna_inference::Backend>, String> {
            std::thread::sleep(Duration::from_millis(200));
            match fail.load(std::sync::atomic::Ordering::SeqCst) {
                true => Err("there is no such file".into()),
                false => Ok(std::sync::Arc::new(Scripted::says("1"))),
            }
        }
    };
    let client = Client::with_opener(std::sync::Arc::new(opener));
    client.initialize(&[], json!({ "statusNotifications": true }), inline_capabilities()).await;
    client.open(URI, "python", "x = ").await;
    assert!(client.inline(URI, 0, 4).await.is_empty(), "answered while the model loads");
    let message = client.wait_for("window/showMessage", |_| true).await;
    let text = message["params"]["message"].as_str().unwrap_or_default().to_string();
    assert!(text.contains("there is no such file") && text.contains("lacuna.restartEngine"), "{text}");
    assert_eq!(client.command("lacuna.status").await["state"], "error");
    client.wait_for("lacuna/status", |message| message["params"]["state"] == "error").await;

    fail.store(false, std::sync::atomic::Ordering::SeqCst);
    client.command("lacuna.restartEngine").await;
    client.ready(0).await;
    assert_eq!(client.inline(URI, 0, 4).await, ["1"]);
    assert_eq!(client.received("window/showMessage").len(), 1);
    let mut states: Vec<Value> =
        client.received("lacuna/status").iter().map(|message| message["params"]["state"].clone()).collect();
    // Other news, such as the built index, repeats the state.
    states.dedup();
    assert_eq!(states[..3], ["loading", "error", "loading"]);
    client.wait_for("$/progress", |message| message["params"]["value"]["kind"] == "end").await;
    client.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn context_comes_from_two_roots_and_follows_changes() {
    let first = Project::new(
        "//- shapes.py\nclass Circle:\n    def __init__(self, radius):\n        self.radius = radius\n\n    def area(self):\n        return 3 * self.radius\n",
    );
    let second = Project::new(
        "//- main.py\nfrom colours import mix\n\n\nprint(\n//- colours.py\ndef mix(first, second):\n    \"\"\"Blends two colours.\"\"\"\n    return first\n",
    );
    let backend = Scripted::says("1");
    let client = Client::in_memory(backend.clone());
    client.initialize(&[first.root(), second.root()], Value::Null, inline_capabilities()).await;
    client.ready(3).await;
    let main = second.uri("main.py");
    client.open(&main, "python", "from colours import mix\n\n\nx = mix(\n").await;
    client.inline(&main, 3, 8).await;
    assert!(backend.last_prompt().contains("Blends two colours"), "{}", backend.last_prompt());
    let explain = client.command("lacuna.explain").await;
    assert_eq!(explain["context"][0]["path"], "colours.py");

    // A deleted file is not shown any more.
    std::fs::remove_file(second.path("colours.py")).expect("removed");
    let changes = json!({ "changes": [{ "uri": second.uri("colours.py"), "type": 3 }] });
    client.notify("workspace/didChangeWatchedFiles", changes).await;
    client
        .status_where("without the deleted file", |status| status["index"]["files"].as_u64() <= Some(2))
        .await;
    client.change(&main, 2, [3, 0, 3, 8], "z = mix(").await;
    client.inline(&main, 3, 8).await;
    assert!(!backend.last_prompt().contains("Blends two colours"), "{}", backend.last_prompt());

    // The other root, from an open buffer with words that are not on disk.
    let shapes = first.uri("shapes.py");
    let text = "class Circle:\n    def grow(self, factor):\n        \"\"\"Larger than before.\"\"\"\n";
    client.open(&shapes, "python", text).await;
    let user = first.uri("user.py");
    client.open(&user, "python", "from shapes import Circle\n\n\nCircle(1).\n").await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    client.inline(&user, 3, 10).await;
    assert!(backend.last_prompt().contains("def grow(self, factor)"), "{}", backend.last_prompt());
    client.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_and_status_say_what_there_is_to_know() {
    let backend = Scripted::new(Script::Says("value +  \n".into()));
    let client = started(&backend).await;
    assert_eq!(client.command("lacuna.explain").await, Value::Null);
    client.open(URI, "python", "x = \n").await;
    client.inline(URI, 0, 4).await;
    let explain = client.command("lacuna.explain").await;
    for key in [
        "path",
        "line",
        "column",
        "model",
        "promptStyle",
        "source",
        "outcome",
        "shape",
        "promptTokens",
        "cachedTokens",
        "generatedTokens",
        "draftedTokens",
        "acceptedTokens",
        "stopReason",
        "milliseconds",
        "context",
        "raw",
        "postprocessing",
        "texts",
    ] {
        assert!(explain.get(key).is_some(), "{key} is missing in {explain}");
    }
    assert_eq!(
        (explain["line"].as_u64(), explain["column"].as_u64()),
        (Some(1), Some(5)),
        "from 1, for people"
    );
    let status = client.command("lacuna.status").await;
    for key in
        ["state", "model", "device", "lastLatencyMs", "index", "requests", "documents", "memory", "engine"]
    {
        assert!(status.get(key).is_some(), "{key} is missing in {status}");
    }
    assert_eq!(status["documents"], 1);
    client.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_press_keeps_the_beginning_of_the_prompt() {
    let backend = Scripted::says("pass_by");
    let client = started(&backend).await;
    let text: String = (0..400).map(|line| format!("value_{line} = compute({line})\n")).collect();
    client.open(URI, "python", &text).await;
    let mut before = String::new();
    let mut moved = 0;
    for number in 0..40u32 {
        client
            .change(
                URI,
                number as i32 + 2,
                [200 + number, 0, 200 + number, 0],
                &format!("typed_{number} = \n"),
            )
            .await;
        client.inline(URI, 200 + number, 8 + number.max(1).ilog10()).await;
        let prompt = backend.last_prompt();
        let common = prompt.bytes().zip(before.bytes()).take_while(|(left, right)| left == right).count();
        // The suffix lies before the prefix and stays; the prefix only grows, except when its beginning moves on.
        if !before.is_empty() && common < before.trim_end().len() {
            moved += 1;
        }
        before = prompt;
    }
    assert!(moved <= 40 / 16 + 1, "the prompt's beginning moved {moved} times in 40 lines");
    client.shut_down().await;
}
