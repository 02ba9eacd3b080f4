//! What typing costs: keys typed one by one into a long file, work done ahead of need, generations that go on while the
//! user types what they say. Counted in tokens and requests, never in time.

use std::{sync::Arc, time::Duration};

use lacuna_inference::{Backend, Engine, EngineOptions, Model, ModelSource, Priority};
use lacuna_tests::{
    client::{Client, inline_capabilities},
    scripted::{Script, Scripted},
    typing::{KEYS, URI, file, replay},
};
use serde_json::{Value, json};

const PAUSE: Duration = Duration::from_millis(20);

/// A server with a real engine.
async fn real(source: ModelSource) -> Client {
    let model = Model::open(&source).expect("the model opens");
    let engine: Arc<dyn Backend> =
        Arc::new(Engine::start(model, EngineOptions::default()).expect("the engine starts"));
    let client = Client::with_opener(Arc::new(move |_| Ok(Arc::clone(&engine))));
    client.initialize(&[], Value::Null, inline_capabilities()).await;
    client.ready(0).await;
    client
}

async fn scripted(script: Script, options: Value) -> (Scripted, Client) {
    let backend = Scripted::new(script);
    let client = Client::in_memory(backend.clone());
    client.initialize(&[], options, inline_capabilities()).await;
    client.ready(0).await;
    (backend, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn nearly_all_of_a_prompt_comes_from_the_cache_while_typing() {
    let client = real(ModelSource::Embedded).await;
    let replayed = replay(&client, 300, 150).await;
    let (total, cached, prompts) =
        (replayed.prompt_tokens, replayed.cached_tokens, replayed.prefill_ms.len());
    // What is typed into a known completion needs no model.
    assert!(prompts >= KEYS / 5, "the model was asked at {prompts} of {KEYS} keys");
    println!("{cached} of {total} prompt tokens in {prompts} prompts");
    assert!(cached * 100 >= total * 95, "{cached} of {total} prompt tokens in {prompts} prompts");
    client.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn models_that_see_the_prefix_first_are_spared_as_much() {
    let recorded =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../inference/tests/reference/recorded/qwen2-tied.gguf");
    let client = real(ModelSource::Path(recorded.into())).await;
    let replayed = replay(&client, 300, 150).await;
    let (total, cached, prompts) =
        (replayed.prompt_tokens, replayed.cached_tokens, replayed.prefill_ms.len());
    assert!(prompts >= KEYS / 5, "the model was asked at {prompts} of {KEYS} keys");
    println!("{cached} of {total} prompt tokens in {prompts} prompts");
    assert!(cached * 100 >= total * 95, "{cached} of {total} prompt tokens in {prompts} prompts");
    let explain = client.command("lacuna.explain").await;
    assert!(explain["promptTokens"]["typed"].as_u64() > Some(0), "{explain}");
    client.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_place_where_the_cursor_rests_is_read_ahead() {
    let client = real(ModelSource::Embedded).await;
    client.open(URI, "python", &file(300)).await;
    client
        .notify(
            "lacuna/cursorMoved",
            json!({ "textDocument": { "uri": URI }, "position": { "line": 148, "character": 0 } }),
        )
        .await;
    // More than the beginning of the file needs, which was read when it was opened.
    client
        .status_where("warmed up", |status| {
            let engine = |key: &str| status["engine"][key].as_u64();
            engine("kv_blocks_used") > Some(48) && engine("running") == Some(0)
        })
        .await;
    client.change(URI, 2, [148, 0, 148, 0], "x").await;
    client.inline(URI, 148, 1).await;
    let explain = client.command("lacuna.explain").await;
    let count = |key: &str| explain.pointer(key).and_then(Value::as_u64).expect("a number");
    assert!(count("/cachedTokens") + 4 >= count("/promptTokens/total"), "{explain}");
    assert_eq!(explain["cacheMiss"], Value::Null, "{explain}");
    client.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_ahead_can_be_turned_off() {
    for (options, expected) in [(Value::Null, true), (json!({ "warmUp": false }), false)] {
        let (backend, client) = scripted(Script::Says("1".into()), options).await;
        client.open(URI, "python", "x = \n").await;
        // The server reads its messages in order: after this one it has dealt with the first.
        client.inline(URI, 0, 4).await;
        let asked = backend.requests_of(Priority::Background);
        let ahead = asked.iter().filter(|request| request.max_tokens == 0).count();
        assert!(expected || ahead == 0, "{ahead} requests ahead of need");
        assert!(asked.len() <= 2, "one at a time, and none while somebody waits: {}", asked.len());
        client.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn typing_what_is_being_generated_lets_it_go_on() {
    let script = Script::SaysSlowly("merge(first, second)\n".into(), PAUSE);
    let (backend, client) = scripted(script, json!({ "prefetch": false })).await;
    client.open(URI, "python", "x = \n").await;
    let first = client.start_inline(URI, 0, 4).await;
    client.status_where("asked", |_| backend.running() > 0).await;
    client.change(URI, 2, [0, 4, 0, 4], "m").await;
    let second = client.start_inline(URI, 0, 5).await;
    client.change(URI, 3, [0, 5, 0, 5], "erge()").await;
    assert_eq!(client.inline(URI, 0, 10).await, ["first, second"], "the bracket is closed already");
    assert_eq!(client.command("lacuna.explain").await["source"], "inFlight");
    for superseded in [first, second] {
        assert_eq!(superseded.answer().await.get("result"), Some(&Value::Null));
    }
    assert_eq!(backend.requests(), 1, "one generation served three requests");
    client.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_nobody_wants_ends() {
    let (backend, client) = scripted(Script::Dawdles(PAUSE), json!({ "prefetch": false })).await;
    client.open(URI, "python", "x = \n").await;
    // Cancelled, contradicted by an edit, closed.
    for case in 0..3 {
        let pending = client.start_inline(URI, 0, 4).await;
        client.status_where("asked", |_| backend.running() > 0).await;
        match case {
            0 => client.cancel(pending.id).await,
            1 => {
                client.change(URI, 2, [0, 4, 0, 4], "y").await;
                assert_eq!(pending.answer().await.get("result"), Some(&Value::Null));
                client.change(URI, 3, [0, 4, 0, 5], "").await;
            }
            _ => client.notify("textDocument/didClose", json!({ "textDocument": { "uri": URI } })).await,
        }
        client.status_where("ended", |_| backend.running() == 0).await;
    }
    assert_eq!(backend.requests(), 3);
    client.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_completion_after_an_accepted_one_is_there_already() {
    let (backend, client) = scripted(Script::Says("value\n".into()), json!({ "warmUp": false })).await;
    client.open(URI, "python", "x = \n").await;
    assert_eq!(client.inline(URI, 0, 4).await, ["value"]);
    let ahead = || backend.requests_of(Priority::Background).len();
    client.status_where("prefetched", |_| ahead() == 1 && backend.running() == 0).await;
    let asked = backend.requests_of(Priority::Background);
    assert!(backend.prompt(&asked[0]).ends_with("x = value"), "{}", backend.prompt(&asked[0]));
    client.change(URI, 2, [0, 4, 0, 4], "value").await;
    client.inline(URI, 0, 9).await;
    assert_eq!(backend.requests(), 1, "the second answer was known");
    assert_eq!(client.command("lacuna.explain").await["source"], "cache");
    client.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefetch_gives_way_and_can_be_turned_off() {
    let script = Script::DawdlesAhead("value\n".into(), PAUSE);
    let (backend, client) = scripted(script, json!({ "warmUp": false })).await;
    let other = "file:///nowhere/other.py";
    client.open(URI, "python", "x = \n").await;
    client.open(other, "python", "y = \n").await;
    let ahead = || backend.requests_of(Priority::Background).len();
    for (number, uri) in [URI, other].into_iter().enumerate() {
        assert_eq!(client.inline(uri, 0, 4).await, ["value"]);
        client.status_where("one at a time", |_| ahead() == number + 1 && backend.running() == 1).await;
    }
    client.notify("textDocument/didClose", json!({ "textDocument": { "uri": other } })).await;
    client.status_where("ended", |_| backend.running() == 0).await;
    client.shut_down().await;

    let options = json!({ "warmUp": false, "prefetch": false });
    let (backend, client) = scripted(Script::Says("value\n".into()), options).await;
    client.open(URI, "python", "x = \n").await;
    client.inline(URI, 0, 4).await;
    client.inline(URI, 0, 4).await;
    assert!(backend.requests_of(Priority::Background).is_empty());
    client.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unsure_completions_are_left_out_where_that_is_wished() {
    // The script's tokens have a probability of e^-0.1, 90%.
    for (least, expected) in [(0, vec!["value"]), (90, vec!["value"]), (91, vec![])] {
        let (_backend, client) =
            scripted(Script::Says("value\n".into()), json!({ "leastConfidence": least })).await;
        client.open(URI, "python", "x = \n").await;
        assert_eq!(client.inline(URI, 0, 4).await, expected, "{least}");
        let explain = client.command("lacuna.explain").await;
        assert_eq!(explain["confidence"].as_array().map(Vec::len), Some(expected.len()), "{explain}");
        assert_eq!(client.invoke(URI, 0, 4).await, ["value"], "what is asked for is shown");
        client.shut_down().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_of_other_files_are_shown() {
    let project = lacuna_tests::project::Project::new(
        "//- a.py\nimport b\n\n\nx = \n//- b.py\ndef scale(value):\n    return value\n",
    );
    let backend = Scripted::says("1");
    let client = Client::in_memory(backend.clone());
    client.initialize(&[project.root()], Value::Null, inline_capabilities()).await;
    client.ready(2).await;
    let (a, b) = (project.uri("a.py"), project.uri("b.py"));
    client.open(&b, "python", "def scale(value):\n    return value\n").await;
    client.change(&b, 2, [0, 15, 0, 15], ", by").await;
    client.open(&a, "python", "import b\n\n\nx = \n").await;
    client.inline(&a, 3, 4).await;
    let prompt = backend.last_prompt();
    assert!(prompt.contains("-def scale(value):\n+def scale(value, by):\n"), "{prompt}");
    client.shut_down().await;
}
