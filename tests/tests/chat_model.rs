//! A model without fill-in-the-middle training, asked through its chat template.

use std::process::Command;

use lacuna_inference::{Model, ModelSource};
use lacuna_tests::{
    chat_model,
    client::{Client, binary, inline_capabilities},
    scripted::{Script, Scripted},
};
use serde_json::Value;

#[test]
fn the_real_engine_answers_a_chat_prompt() {
    let directory = tempfile::tempdir().expect("a directory");
    let (model, file) = (directory.path().join("chat.gguf"), directory.path().join("a.py"));
    chat_model::write(&model);
    std::fs::write(&file, "def add(a, b):\n    return \n").expect("a file");
    let place = format!("{}:2:12", file.display());
    let complete = || {
        let output = Command::new(binary())
            .args(["complete", &place, "--json", "--max-tokens", "12", "--model"])
            .arg(&model)
            .output()
            .expect("lacuna runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")
    };
    let answer = complete();
    let explain = &answer["explain"];
    assert_eq!(explain["promptStyle"], "chat", "{explain}");
    assert!(explain["generatedTokens"].as_u64() > Some(0), "the model was run: {explain}");
    assert_eq!(answer["items"], complete()["items"], "the same call gives the same");

    let inspected =
        Command::new(binary()).args(["model", "inspect"]).arg(&model).output().expect("lacuna runs");
    let inspected = String::from_utf8_lossy(&inspected.stdout).into_owned();
    assert!(inspected.contains("asked by        chat"), "{inspected}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_prompt_closes_the_thinking_and_the_answer_is_joined_at_the_cursor() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("chat.gguf");
    chat_model::write(&path);
    let model = Model::open(&ModelSource::Path(path)).expect("the model opens");
    // The answer was begun with the cursor's line; the model goes on from there and closes its fence.
    let backend = Scripted::with_model(model, Script::Says("a + b\n```\nThis adds them.".into()));
    let client = Client::in_memory(backend.clone());
    client.initialize(&[], Value::Null, inline_capabilities()).await;
    client.ready(0).await;
    let uri = "file:///nowhere/a.py";
    client.open(uri, "python", "def add(a, b):\n    return \n\n\nprint(add(1, 2))\n").await;
    assert_eq!(client.inline(uri, 1, 11).await, ["a + b"]);
    let prompt = backend.last_prompt();
    assert!(prompt.contains("<｜User｜>") && prompt.contains("print(add(1, 2))"), "{prompt}");
    assert!(prompt.contains("</think>"), "{prompt}");
    assert!(prompt.trim_end().ends_with("return"), "the answer is begun with the cursor's line: {prompt}");
    client.shut_down().await;
}
