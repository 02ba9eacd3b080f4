//! What a key press costs beside a cold start: `cargo bench --bench typing -- [MODEL]`.
//!
//! Types into a 300-line file through the whole server with the embedded model, or the one given; then asks again at
//! other places of other files with the engine's cache emptied before each. Prints the share of prompt tokens that came
//! from the cache, and the median time to the first token of both. The server's reading ahead is off.

use std::sync::Arc;

use lacuna_inference::{Backend, Engine, EngineOptions, Model, ModelSource};
use lacuna_tests::{
    client::{Client, inline_capabilities},
    typing::{Replay, file, replay},
};
use serde_json::json;

const LINES: usize = 300;
const COLD_STARTS: i32 = 9;

#[tokio::main]
async fn main() {
    let given = std::env::args().skip(1).find(|argument| argument != "--bench");
    let source = given.map_or(ModelSource::Embedded, |path| ModelSource::Path(path.into()));
    let model = Model::open(&source).expect("the model opens");
    let engine = Arc::new(Engine::start(model, EngineOptions::default()).expect("the engine starts"));
    let backend: Arc<dyn Backend> = engine.clone();
    let client = Client::with_opener(Arc::new(move |_| Ok(Arc::clone(&backend))));
    client.initialize(&[], json!({ "warmUp": false, "prefetch": false }), inline_capabilities()).await;
    client.ready(0).await;

    let mut warm = replay(&client, LINES, 150).await;
    let mut cold = Replay::default();
    for number in 0..COLD_STARTS {
        let uri = format!("file:///nowhere/cold_{number}.py");
        client.open(&uri, "python", &file(LINES)).await;
        let line = 120 + 6 * number as u32;
        client.change(&uri, 2, [line, 0, line, 0], "x = \n").await;
        engine.clear_cache().expect("the engine runs");
        client.inline(&uri, line, 4).await;
        cold.add(&client).await;
    }
    client.shut_down().await;

    let share = 100.0 * warm.cached_tokens as f64 / warm.prompt_tokens as f64;
    let (warm_ms, cold_ms) = (median(&mut warm.prefill_ms), median(&mut cold.prefill_ms));
    println!(
        "{} prompts at key presses, {} tokens, {share:.1} % cached",
        warm.prefill_ms.len(),
        warm.prompt_tokens
    );
    println!("{} prompts on an empty cache, {} tokens", cold.prefill_ms.len(), cold.prompt_tokens);
    println!(
        "time to the first token: {warm_ms:.1} ms while typing, {cold_ms:.1} ms cold; {:.1} times",
        cold_ms / warm_ms
    );
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
