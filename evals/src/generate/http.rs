//! Servers on this machine as generators: OpenAI's completion and chat routes, llama.cpp's `/infill`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Ask, Generated, Prompt};

/// A server that has not answered by then does not answer.
const TIMEOUT: Duration = Duration::from_secs(600);

pub struct Server {
    base: String,
    agent: ureq::Agent,
}

impl Server {
    pub fn new(address: &str) -> Self {
        let agent = ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).build().new_agent();
        Self { base: address.trim_end_matches('/').trim_end_matches("/v1").to_owned(), agent }
    }

    pub fn generate(&self, ask: &Ask) -> Result<Generated> {
        let (route, body) = request(ask);
        let started = Instant::now();
        let url = format!("{}{route}", self.base);
        let answer: Value = self
            .agent
            .post(&url)
            .send_json(&body)
            .with_context(|| format!("{url} did not answer; is the server running there?"))?
            .body_mut()
            .read_json()
            .with_context(|| format!("{url} did not answer with JSON"))?;
        let text =
            answer_text(&answer).with_context(|| format!("{url} answered without a text: {answer}"))?;
        let count = |path: &str| answer.pointer(path).and_then(Value::as_u64).unwrap_or(0) as usize;
        Ok(Generated {
            text: cut(text, &ask.stops).to_owned(),
            tokens: count("/usage/completion_tokens").max(count("/tokens_predicted")),
            prompt_tokens: count("/usage/prompt_tokens").max(count("/tokens_evaluated")),
            milliseconds: started.elapsed().as_secs_f64() * 1e3,
            stop: answer
                .pointer("/choices/0/finish_reason")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
        })
    }
}

fn request(ask: &Ask) -> (&'static str, Value) {
    // OpenAI takes at most four stops; all of them are cut off here again.
    let stops = &ask.stops[..ask.stops.len().min(4)];
    let sampling = json!({
        "temperature": ask.sampling.temperature, "top_p": ask.sampling.top_p, "seed": ask.sampling.seed,
        "max_tokens": ask.max_tokens, "n_predict": ask.max_tokens, "stop": stops, "stream": false,
    });
    let (route, mut body) = match &ask.prompt {
        Prompt::Text(text) => ("/v1/completions", json!({ "prompt": text })),
        Prompt::Fim { prefix, suffix, context, .. } => {
            let extra: Vec<Value> =
                context.iter().map(|text| json!({ "filename": "context", "text": text })).collect();
            ("/infill", json!({ "input_prefix": prefix, "input_suffix": suffix, "input_extra": extra }))
        }
        Prompt::Efim { prefix, suffix } => {
            ("/infill", json!({ "input_prefix": prefix, "input_suffix": suffix, "input_extra": [] }))
        }
        Prompt::Chat { user, answer_start, .. } => {
            let mut messages = vec![json!({ "role": "user", "content": user })];
            if !answer_start.is_empty() {
                messages.push(json!({ "role": "assistant", "content": answer_start }));
            }
            ("/v1/chat/completions", json!({ "messages": messages }))
        }
    };
    if let (Some(body), Some(sampling)) = (body.as_object_mut(), sampling.as_object()) {
        body.extend(sampling.clone());
    }
    (route, body)
}

fn answer_text(answer: &Value) -> Option<&str> {
    ["/content", "/choices/0/text", "/choices/0/message/content"]
        .iter()
        .find_map(|path| answer.pointer(path)?.as_str())
}

fn cut<'a>(text: &'a str, stops: &[String]) -> &'a str {
    let end = stops.iter().filter_map(|stop| text.find(stop.as_str())).min();
    &text[..end.unwrap_or(text.len())]
}
