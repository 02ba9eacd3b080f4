//! The engine: a model resident in memory, asked from any thread. Its own thread does the work (`engine/worker.rs`).

mod worker;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Sender, TrySendError};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::{
    Backend, EngineError, Event, Generation, Model, Priority, Request, cpu::kv_storage::KvPrecision,
    cuda::PageFormat, models::decoder::WeightPrecision, runner::Device, speculative::Speculation,
};
use worker::Worker;

const WAITING_LIMIT: usize = 64;
/// Longest context used unless asked for: R1 distills claim 131072, whose cache would not fit small machines.
pub const DEFAULT_CONTEXT: usize = 8192;

/// How the engine runs a model.
#[derive(Debug, Clone)]
pub struct EngineOptions {
    pub device: Device,
    /// Threads for computation; 0 takes the number of physical cores.
    pub threads: usize,
    /// Tokens of context a request may use; 0 takes the model's, at most 8192.
    pub context: usize,
    /// Tokens that the KV cache holds; 0 takes twice the context, at least 8192.
    pub cache_tokens: usize,
    /// How the CPU keeps keys and values.
    pub kv_precision: KvPrecision,
    /// How a GPU keeps them.
    pub page_format: PageFormat,
    pub weight_precision: WeightPrecision,
    pub speculation: Speculation,
    /// A smaller model of the same vocabulary that guesses where nothing repeats, unless speculation is off.
    pub draft_model: Option<Model>,
    /// After so long without a request the model leaves the device's memory; the next request loads it again. `None` keeps
    /// it. On the CPU weights stay in the file's mapping and only the cache is freed.
    pub unload_after: Option<Duration>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            device: Device::Auto,
            threads: 0,
            context: 0,
            cache_tokens: 0,
            kv_precision: KvPrecision::F16,
            page_format: PageFormat::default(),
            weight_precision: WeightPrecision::Stored,
            speculation: Speculation::default(),
            draft_model: None,
            unload_after: None,
        }
    }
}

/// A snapshot of the engine's load and memory.
#[derive(Debug, Clone, Default, Serialize)]
pub struct EngineStatus {
    pub model: String,
    /// `cpu`; on a GPU `cuda:` and its index.
    pub device: String,
    pub threads: usize,
    pub context: usize,
    /// Name of the model that guesses, if there is one.
    pub draft_model: Option<String>,
    pub running: usize,
    pub waiting: usize,
    pub weights_bytes: u64,
    pub kv_bytes: u64,
    pub kv_blocks_total: usize,
    /// Blocks that hold something: for running requests or in the prefix cache.
    pub kv_blocks_used: usize,
    /// Blocks of running requests; one that several share counts for each.
    pub kv_blocks_running: usize,
    /// Blocks that the prefix cache knows; those that nobody runs with can be given up at any time.
    pub kv_blocks_cached: usize,
    /// Steps computed so far.
    pub steps: u64,
}

/// Requests on their way to the engine's thread, by priority: work that they would push aside stops between two
/// layers instead of at the end of the step.
#[derive(Debug, Default)]
struct Arriving([AtomicUsize; 3]);

impl Arriving {
    fn of(&self, priority: Priority) -> &AtomicUsize {
        &self.0[priority as usize]
    }

    fn anything_before(&self, priority: Priority) -> bool {
        self.0[..priority as usize].iter().any(|count| count.load(Ordering::Relaxed) > 0)
    }
}

/// What the engine's thread is asked.
enum Message {
    Generate(Box<Submission>),
    /// Answered by dropping the sender.
    ClearCache(Sender<()>),
}

struct Submission {
    request: Request,
    events: mpsc::Sender<Event>,
    stop: Arc<AtomicBool>,
    submitted: Instant,
}

/// A model resident in memory with its thread. Dropping it ends the thread after the current step.
pub struct Engine {
    model: Model,
    context: usize,
    messages: Option<Sender<Message>>,
    arriving: Arc<Arriving>,
    status: Arc<Mutex<EngineStatus>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Engine {
    /// Loads the weights and starts the engine's thread.
    pub fn start(model: Model, options: EngineOptions) -> Result<Self, EngineError> {
        let config = model.config();
        let wanted = if options.context == 0 { DEFAULT_CONTEXT } else { options.context };
        let context = wanted.min(config.context_length);
        let cache_tokens = match options.cache_tokens {
            0 => (2 * context).max(DEFAULT_CONTEXT),
            tokens => tokens.max(context),
        };
        let (sender, receiver) = crossbeam_channel::bounded(WAITING_LIMIT);
        let arriving = Arc::new(Arriving::default());
        let worker = Worker::new(&model, options, context, cache_tokens, arriving.clone())?;
        let status = worker.status();
        let thread = std::thread::Builder::new()
            .name("lacuna-engine".into())
            .spawn(move || worker.run(&receiver))
            .map_err(|error| EngineError::Stopped(format!("its thread did not start: {error}")))?;
        Ok(Self { model, context, messages: Some(sender), arriving, status, thread: Some(thread) })
    }

    /// Forgets what earlier requests computed, and what they were answered; running ones go on. For measurements, which
    /// must not find their prompts in the cache.
    pub fn clear_cache(&self) -> Result<(), EngineError> {
        let (done, cleared) = crossbeam_channel::bounded(0);
        let messages = self.messages.as_ref().ok_or_else(gone)?;
        messages.send(Message::ClearCache(done)).map_err(|_| gone())?;
        // Its sender is dropped when it is done.
        let _ = cleared.recv();
        Ok(())
    }
}

impl Backend for Engine {
    fn submit(&self, request: Request) -> Result<Generation, EngineError> {
        let vocabulary = self.model.config().vocabulary;
        if request.prompt.is_empty() {
            return Err(EngineError::EmptyPrompt);
        }
        if request.prompt.len() >= self.context {
            return Err(EngineError::PromptTooLong { prompt: request.prompt.len(), limit: self.context });
        }
        if let Some(&id) = request.prompt.iter().find(|id| **id as usize >= vocabulary) {
            return Err(EngineError::TokenOutOfRange { id, vocabulary });
        }
        // Room for every token and the last event, so that the engine never waits for a reader.
        let capacity = request.max_tokens.min(self.context) + 2;
        let (events, receiver) = mpsc::channel(capacity);
        let stop = Arc::new(AtomicBool::new(false));
        let generation = Generation::new(receiver, stop.clone());
        let submission = Submission { request, events, stop, submitted: Instant::now() };
        let messages = self.messages.as_ref().ok_or_else(gone)?;
        let arriving = self.arriving.of(submission.request.priority);
        arriving.fetch_add(1, Ordering::Relaxed);
        let error = match messages.try_send(Message::Generate(Box::new(submission))) {
            Ok(()) => return Ok(generation),
            Err(TrySendError::Full(_)) => EngineError::Overloaded { waiting: WAITING_LIMIT },
            Err(TrySendError::Disconnected(_)) => gone(),
        };
        arriving.fetch_sub(1, Ordering::Relaxed);
        Err(error)
    }

    fn model(&self) -> &Model {
        &self.model
    }

    fn status(&self) -> EngineStatus {
        self.status.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn gone() -> EngineError {
    EngineError::Stopped("it was shut down; restart it".into())
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.messages = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
