//! A model that says what a test tells it to, and records what it was asked. It has the embedded model's vocabulary
//! and templates, and no weights.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use lacuna_inference::{
    Backend, EngineError, EngineStatus, Event, Generation, Model, ModelSource, Priority, Request,
    RequestStats, StopReason,
};
use tokio::sync::mpsc;

/// What the model answers to a request.
#[derive(Debug, Clone)]
pub enum Script {
    /// This text, one token after another.
    Says(String),
    /// This text, with a pause before each token.
    SaysSlowly(String, Duration),
    /// One token after another with a pause before each, without end.
    Dawdles(Duration),
    /// This text to those who wait; what is made ahead of need goes on without end, with a pause before each token.
    DawdlesAhead(String, Duration),
    /// The request fails.
    Fails,
    /// Submitting panics.
    Panics,
}

#[derive(Clone)]
pub struct Scripted {
    model: Model,
    script: Arc<Mutex<Script>>,
    asked: Arc<Mutex<Vec<Request>>>,
    running: Arc<AtomicUsize>,
}

impl Scripted {
    pub fn new(script: Script) -> Self {
        Self::with_model(Model::open(&ModelSource::Embedded).expect("the embedded model opens"), script)
    }

    /// With another model's vocabulary and templates.
    pub fn with_model(model: Model, script: Script) -> Self {
        Self { model, script: Arc::new(Mutex::new(script)), asked: Arc::default(), running: Arc::default() }
    }

    pub fn says(text: &str) -> Self {
        Self::new(Script::Says(text.into()))
    }

    pub fn set(&self, script: Script) {
        *self.script.lock().expect("not poisoned") = script;
    }

    /// Requests so far that somebody waited for.
    pub fn requests(&self) -> usize {
        self.requests_of(Priority::Interactive).len()
    }

    /// Requests so far, of one kind.
    pub fn requests_of(&self, priority: Priority) -> Vec<Request> {
        let asked = self.asked.lock().expect("not poisoned");
        asked.iter().filter(|request| request.priority == priority).cloned().collect()
    }

    /// The prompt of the last request that somebody waited for, with the text that its answer has to begin with.
    pub fn last_prompt(&self) -> String {
        self.requests_of(Priority::Interactive).last().map(|request| self.prompt(request)).unwrap_or_default()
    }

    /// A prompt as text, with the special tokens in their spelling, and the text that the answer has to begin with.
    pub fn prompt(&self, request: &Request) -> String {
        let tokenizer = self.model.tokenizer();
        let ids = request.prompt.as_slice();
        // A character may take several tokens: only whole runs of ordinary ones can be decoded.
        ids.chunk_by(|&left, &right| {
            tokenizer.special_spelling(left).is_none() && tokenizer.special_spelling(right).is_none()
        })
        .map(|run| match run {
            [id] => tokenizer.special_spelling(*id).map_or_else(|| tokenizer.decode(run), String::from),
            run => tokenizer.decode(run),
        })
        .chain(request.constraint.iter().map(|constraint| constraint.hidden_text()))
        .collect()
    }

    /// Generations that somebody still waits for.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }
}

impl Backend for Scripted {
    fn submit(&self, request: Request) -> Result<Generation, EngineError> {
        self.asked.lock().expect("not poisoned").push(request.clone());
        let script = self.script.lock().expect("not poisoned").clone();
        let (events, receiver) = mpsc::channel(1);
        let (text, pause) = match script {
            Script::Says(text) => (text, Duration::ZERO),
            Script::SaysSlowly(text, pause) => (text, pause),
            Script::DawdlesAhead(text, _) if request.priority == Priority::Interactive => {
                (text, Duration::ZERO)
            }
            Script::Dawdles(pause) | Script::DawdlesAhead(_, pause) => ("x".repeat(100_000), pause),
            Script::Fails => return Err(EngineError::Overloaded { waiting: 64 }),
            Script::Panics => panic!("the script says so"),
        };
        let (tokenizer, running) = (self.model.tokenizer().clone(), Arc::clone(&self.running));
        running.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            tell(&events, &request, &text, pause, &tokenizer).await;
            running.fetch_sub(1, Ordering::SeqCst);
        });
        Ok(Generation::from_events(receiver))
    }

    fn model(&self) -> &Model {
        &self.model
    }

    fn status(&self) -> EngineStatus {
        EngineStatus {
            model: "scripted".into(),
            device: "none".into(),
            context: self.model.context_length(),
            running: self.running(),
            ..EngineStatus::default()
        }
    }
}

/// Sends the text as the engine would: token by token, ended by stop texts and limits.
async fn tell(
    events: &mpsc::Sender<Event>,
    request: &Request,
    text: &str,
    pause: Duration,
    tokenizer: &lacuna_inference::tokenizer::Tokenizer,
) {
    let end = request.stop_texts.iter().filter_map(|stop| text.find(stop.as_str())).min();
    let said = &text[..end.unwrap_or(text.len())];
    let mut reason = if end.is_some() { StopReason::StopText } else { StopReason::StopToken };
    let mut generated = 0;
    for character in said.chars() {
        if generated >= request.max_tokens {
            reason = StopReason::MaxTokens;
            break;
        }
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
        let piece = character.to_string();
        let id = tokenizer.encode(&piece).first().copied().unwrap_or(0);
        generated += 1;
        if events.send(Event::Token { id, text: piece, log_probability: -0.1 }).await.is_err() {
            return;
        }
    }
    let stats = RequestStats {
        prompt_tokens: request.prompt.len(),
        generated_tokens: generated,
        mean_log_probability: (generated > 0).then_some(-0.1),
        ..RequestStats::default()
    };
    let _ =
        events.send(Event::Finished { reason, text: String::new(), alternatives: Vec::new(), stats }).await;
}
