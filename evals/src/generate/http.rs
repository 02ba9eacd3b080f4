//! Servers on this machine as generators: OpenAI's completion and chat routes, llama.cpp's `/infill`.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Ask, Chunk, Generated, Prompt};

/// A server that has not answered by then does not answer.
const TIMEOUT: Duration = Duration::from_secs(600);
/// Of a server's complaint, this much is shown.
const SHOWN_CHARACTERS: usize = 500;
const NOT_FOUND: u16 = 404;

/// What a server wants besides the prompt.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The `model` field of requests; `None`: the first that the server lists, if it lists any.
    pub model: Option<String>,
    /// Sent as a bearer token.
    pub key: Option<String>,
}

pub struct Server {
    base: String,
    agent: ureq::Agent,
    model: Option<String>,
    key: Option<String>,
    /// Set once the server said that it has no `/infill`: holes go to the completion route with a `suffix`.
    lacks_infill: AtomicBool,
}

impl Server {
    pub fn new(address: &str, settings: &Settings) -> Result<Self> {
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            // The reason of a refusal is in its body.
            .http_status_as_error(false)
            .build()
            .new_agent();
        let base = address.trim_end_matches('/').trim_end_matches("/v1").to_owned();
        let mut server = Self {
            base,
            agent,
            model: settings.model.clone(),
            key: settings.key.clone(),
            lacks_infill: AtomicBool::new(false),
        };
        if server.model.is_none() {
            server.model = server.first_listed()?;
        }
        Ok(server)
    }

    /// What the server is asked for.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The first model that the server lists; `None` of a server without such a list.
    fn first_listed(&self) -> Result<Option<String>> {
        let url = format!("{}/v1/models", self.base);
        let mut request = self.agent.get(&url);
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let mut answer =
            request.call().with_context(|| format!("{url} did not answer; is the server running there?"))?;
        let listed: Option<Value> = answer.body_mut().read_json().ok();
        Ok(listed.and_then(|list| Some(list.pointer("/data/0/id")?.as_str()?.to_owned())))
    }

    pub fn generate(&self, ask: &Ask) -> Result<Generated> {
        let started = Instant::now();
        let hole = matches!(ask.prompt, Prompt::Fim { .. } | Prompt::Efim { .. });
        let mut answer = Answer::NotFound;
        if !hole || !self.lacks_infill.load(Ordering::Relaxed) {
            let (route, body) = request(ask);
            answer = self.post(route, body)?;
        }
        let answer = match answer {
            Answer::Json(answer) => answer,
            Answer::NotFound if hole => {
                self.lacks_infill.store(true, Ordering::Relaxed);
                match self.post("/v1/completions", suffix_request(ask))? {
                    Answer::Json(answer) => answer,
                    Answer::NotFound => bail!("{} has neither /infill nor /v1/completions", self.base),
                }
            }
            Answer::NotFound => bail!("{} has no {}; try another --style", self.base, request(ask).0),
        };
        let text = answer_text(&answer)
            .with_context(|| format!("{} answered without a text: {answer}", self.base))?;
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

    fn post(&self, route: &str, mut body: Value) -> Result<Answer> {
        let url = format!("{}{route}", self.base);
        if let Some(model) = &self.model {
            body["model"] = model.as_str().into();
        }
        let mut request = self.agent.post(&url);
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        let mut answer = request
            .send_json(&body)
            .with_context(|| format!("{url} did not answer; is the server running there?"))?;
        let status = answer.status();
        if status == NOT_FOUND {
            return Ok(Answer::NotFound);
        }
        if !status.is_success() {
            let reason = answer.body_mut().read_to_string().unwrap_or_default();
            let reason: String = reason.chars().take(SHOWN_CHARACTERS).collect();
            bail!("{url} refused with {status}: {}", reason.trim());
        }
        let answer =
            answer.body_mut().read_json().with_context(|| format!("{url} did not answer with JSON"))?;
        Ok(Answer::Json(answer))
    }
}

enum Answer {
    Json(Value),
    NotFound,
}

/// A hole for servers that take a `suffix` beside the prompt.
fn suffix_request(ask: &Ask) -> Value {
    let (prefix, suffix) = match &ask.prompt {
        Prompt::Fim { prefix, suffix, surroundings, .. } => {
            let context: String = surroundings.chunks.iter().map(Chunk::as_comments).collect();
            (context + prefix, suffix.as_str())
        }
        Prompt::Efim { prefix, suffix } => (prefix.clone(), suffix.as_str()),
        Prompt::Text(text) | Prompt::Chat { user: text, .. } => (text.clone(), ""),
    };
    with_sampling(ask, json!({ "prompt": prefix, "suffix": suffix }))
}

fn request(ask: &Ask) -> (&'static str, Value) {
    let (route, body) = match &ask.prompt {
        Prompt::Text(text) => ("/v1/completions", json!({ "prompt": text })),
        Prompt::Fim { prefix, suffix, surroundings, .. } => {
            let extra: Vec<Value> = surroundings
                .chunks
                .iter()
                .map(|chunk| json!({ "filename": chunk.path, "text": chunk.text }))
                .collect();
            ("/infill", json!({ "input_prefix": prefix, "input_suffix": suffix, "input_extra": extra }))
        }
        Prompt::Efim { prefix, suffix } => {
            ("/infill", json!({ "input_prefix": prefix, "input_suffix": suffix, "input_extra": [] }))
        }
        // The beginning of an answer is not sent: most servers would close it and begin another.
        Prompt::Chat { user, .. } => {
            ("/v1/chat/completions", json!({ "messages": [{ "role": "user", "content": user }] }))
        }
    };
    (route, with_sampling(ask, body))
}

fn with_sampling(ask: &Ask, mut body: Value) -> Value {
    // OpenAI takes at most four stops; all of them are cut off here again.
    let stops = &ask.stops[..ask.stops.len().min(4)];
    let sampling = json!({
        "temperature": ask.sampling.temperature, "top_p": ask.sampling.top_p, "seed": ask.sampling.seed,
        "max_tokens": ask.max_tokens, "n_predict": ask.max_tokens, "stop": stops, "stream": false,
    });
    if let (Some(body), Some(sampling)) = (body.as_object_mut(), sampling.as_object()) {
        body.extend(sampling.clone());
    }
    body
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

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead, BufReader, Read, Write},
        net::TcpListener,
    };

    use lacuna_inference::Sampling;

    use super::*;
    use crate::generate::Surroundings;

    /// Answers requests with what `respond` says to route and body, until the test ends.
    fn serve(respond: fn(&str, &Value) -> (u16, Value)) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                let (mut line, mut length) = (String::new(), 0);
                reader.read_line(&mut line).unwrap();
                let route = line.split(' ').nth(1).unwrap_or_default().to_owned();
                loop {
                    let mut header = String::new();
                    reader.read_line(&mut header).unwrap();
                    if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                    if header.trim().is_empty() {
                        break;
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let (status, answer) = respond(&route, &serde_json::from_slice(&body).unwrap_or_default());
                let answer = answer.to_string();
                let head =
                    format!("HTTP/1.1 {status} x\r\nContent-Length: {}\r\nConnection: close", answer.len());
                write!(stream, "{head}\r\n\r\n{answer}").unwrap();
            }
        });
        address
    }

    fn llama_cpp(route: &str, body: &Value) -> (u16, Value) {
        match route {
            "/infill" => {
                (200, json!({ "content": format!("{}|", body["input_suffix"]), "tokens_predicted": 7 }))
            }
            "/v1/completions" => {
                (200, json!({ "choices": [{ "text": "a\nSTOPb", "finish_reason": "length" }] }))
            }
            _ => (404, json!({})),
        }
    }

    fn open_ai(route: &str, body: &Value) -> (u16, Value) {
        let asked = body["model"].as_str().unwrap_or_default();
        match route {
            "/v1/models" => (200, json!({ "data": [{ "id": "first" }, { "id": "second" }] })),
            "/v1/completions" => {
                (200, json!({ "choices": [{ "text": format!("{asked} {}", body["suffix"]) }] }))
            }
            "/v1/chat/completions" if body["messages"][0]["content"] == "too long" => {
                (400, json!({ "error": "the context is full" }))
            }
            "/v1/chat/completions" => {
                (200, json!({ "choices": [{ "message": { "content": format!("{asked} says") } }] }))
            }
            _ => (404, json!({})),
        }
    }

    #[test]
    fn servers_of_both_kinds() {
        let text = || Prompt::Text("p".into());
        let hole = || Prompt::Fim {
            prefix: "p".into(),
            suffix: "s".into(),
            order: None,
            surroundings: Surroundings::default(),
        };
        let chat = |user: &str| Prompt::Chat {
            user: user.into(),
            answer_start: String::new(),
            thinking: super::super::Thinking::Closed,
        };
        type Respond = fn(&str, &Value) -> (u16, Value);
        type Row = (Respond, Option<&'static str>, Prompt, Result<&'static str, &'static str>);
        let table: [Row; 7] = [
            (llama_cpp, None, hole(), Ok("\"s\"|")),
            (llama_cpp, None, text(), Ok("a\n")),
            (llama_cpp, None, chat("q"), Err("try another --style")),
            (open_ai, None, hole(), Ok("first \"s\"")),
            (open_ai, Some("second"), hole(), Ok("second \"s\"")),
            (open_ai, None, chat("q"), Ok("first says")),
            (open_ai, None, chat("too long"), Err("the context is full")),
        ];
        for (respond, model, prompt, expected) in table {
            let settings = Settings { model: model.map(str::to_owned), key: None };
            let server = Server::new(&serve(respond), &settings).unwrap();
            let ask = Ask {
                prompt,
                max_tokens: 4,
                prompt_tokens: None,
                sampling: Sampling::GREEDY,
                stops: vec!["STOP".into()],
            };
            match (server.generate(&ask), expected) {
                (Ok(generated), Ok(expected)) => assert_eq!(generated.text, expected, "{:?}", ask.prompt),
                (Err(error), Err(words)) => {
                    assert!(format!("{error:#}").contains(words), "{error:#} for {:?}", ask.prompt)
                }
                (found, expected) => panic!("{found:?} instead of {expected:?}"),
            }
        }
        let nobody = Server::new("http://127.0.0.1:9", &Settings::default());
        assert!(nobody.is_err_and(|error| format!("{error:#}").contains("is the server running there?")));
    }
}
