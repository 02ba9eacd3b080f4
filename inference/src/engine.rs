//! The engine: one thread that owns the runner and turns requests into streams of tokens.
//!
//! A step reads: take commands -> end what nobody wants -> schedule -> run -> sample -> commit. Nothing in it waits
//! for anybody: events go into channels that are large enough for the whole answer.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, Sender, TryRecvError, TrySendError};
use serde::Serialize;
use tokio::sync::mpsc;

use crate::{
    Backend, Constraint, EngineError, Event, Generation, Model, Priority, Request, RequestStats, StopReason,
    closers::Verdict,
    cpu::{attention::KvPrecision, threads::give_way},
    cuda::GpuError,
    kv_cache::BLOCK_SIZE,
    milliseconds,
    models::decoder::WeightPrecision,
    runner::{Device, Runner, StepResult, Wanted},
    sampler::{Choice, Sampler},
    scheduler::{Limits, Scheduler, SequenceId},
    speculative::{
        DraftModel, Drafter, Experience, RowTimes, SessionMemory, Speculation, StepCost, Undrafted,
    },
    stop_text::StopText,
    tokenizer::{TextStream, Tokenizer},
};

const RUNNING_LIMIT: usize = 16;
const WAITING_LIMIT: usize = 64;
/// Longest context used unless asked for: R1 distills claim 131072, whose cache would not fit small machines.
const DEFAULT_CONTEXT: usize = 8192;
/// Tokens of a prompt's end that are remembered with its answer, to find the answer by.
const REMEMBERED_BEFORE: usize = 8;

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
    pub kv_precision: KvPrecision,
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
        // One block more than the context, for the copy of a partly shared block.
        let blocks = cache_tokens.div_ceil(BLOCK_SIZE) + 1;
        let runner = Runner::new(&model, &options, blocks, least_blocks(context))?;
        let blocks = runner.blocks();
        let draft_model = load_draft_model(&model, &options, context)?;
        let status = Arc::new(Mutex::new(EngineStatus {
            model: model.name().into(),
            device: runner.device().to_string(),
            threads: runner.threads(),
            context,
            draft_model: draft_model.as_ref().map(|draft| draft.name().to_string()),
            kv_blocks_total: blocks,
            ..EngineStatus::default()
        }));
        let (sender, receiver) = crossbeam_channel::bounded(WAITING_LIMIT);
        let arriving = Arc::new(Arriving::default());
        let worker = Worker {
            model: model.clone(),
            scheduler: Scheduler::new(limits(&runner)),
            runner: Some(runner),
            blocks,
            active: Vec::new(),
            next_id: 0,
            steps: 0,
            arriving: arriving.clone(),
            context,
            speculation: options.speculation,
            draft_model,
            experience: Experience::default(),
            row_times: RowTimes::default(),
            masked: Vec::new(),
            options,
            status: status.clone(),
        };
        worker.publish_status();
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

/// A request that the engine is working on.
struct Active {
    id: SequenceId,
    request: Request,
    events: mpsc::Sender<Event>,
    stop: Arc<AtomicBool>,
    submitted: Instant,
    /// First step that computed something for it.
    started: Option<Instant>,
    first_token: Option<Instant>,
    sampler: Sampler,
    /// From the first generated token on, when speculation is on.
    drafter: Option<Drafter>,
    text: TextStream,
    stop_text: StopText,
    log_probability_sum: f64,
    /// Tokens in that sum.
    scored_tokens: usize,
    stats: RequestStats,
    /// The device's choice was a closer that must not come: the step is computed again, with logits.
    choose_again: bool,
}

impl Active {
    /// Nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool {
        self.events.is_closed() || self.stop.load(Ordering::Relaxed)
    }

    /// Bytes of its constraint's literal that are still to come.
    fn hidden_bytes(&self) -> usize {
        self.request.constraint.as_ref().map_or(0, Constraint::hidden_bytes)
    }

    /// Work on it need not end early: somebody waits, and nobody who goes before.
    fn is_wanted(&self, arriving: &Arriving) -> bool {
        !self.is_abandoned() && !arriving.anything_before(self.request.priority)
    }
}

struct Worker {
    model: Model,
    options: EngineOptions,
    /// `None` while the model is out of memory: unused for long, or after the device failed.
    runner: Option<Runner>,
    /// That the cache gets when the model is loaded, if as many fit.
    blocks: usize,
    scheduler: Scheduler,
    active: Vec<Active>,
    next_id: SequenceId,
    steps: u64,
    arriving: Arc<Arriving>,
    context: usize,
    speculation: Speculation,
    draft_model: Option<DraftModel>,
    experience: Experience,
    row_times: RowTimes,
    /// Logits under a constraint, kept from step to step.
    masked: Vec<f32>,
    status: Arc<Mutex<EngineStatus>>,
}

impl Worker {
    fn run(mut self, messages: &Receiver<Message>) {
        give_way();
        loop {
            if self.active.is_empty() {
                match self.wait(messages) {
                    Ok(message) => self.take(message),
                    Err(_) => return,
                }
            }
            loop {
                match messages.try_recv() {
                    Ok(message) => self.take(message),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        self.fail_all(&EngineError::Stopped("it was shut down".into()));
                        return;
                    }
                }
            }
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.step())) {
                // What the broken step wrote into the cache cannot be trusted.
                let message = panic_message(panic.as_ref());
                tracing::error!(message, "a step of the engine panicked");
                self.fail_all(&EngineError::Internal(message));
                self.scheduler.reset();
                if let Some(model) = &mut self.draft_model {
                    model.reset();
                }
            }
            self.publish_status();
        }
    }

    /// Waits for a request; for long enough without one, unloads the model.
    fn wait(&mut self, messages: &Receiver<Message>) -> Result<Message, RecvError> {
        if let (Some(time), Some(_)) = (self.options.unload_after, &self.runner) {
            match messages.recv_timeout(time) {
                Ok(message) => return Ok(message),
                Err(RecvTimeoutError::Disconnected) => return Err(RecvError),
                Err(RecvTimeoutError::Timeout) => {
                    tracing::info!("the model is unloaded until the next request");
                    self.unload();
                    self.publish_status();
                }
            }
        }
        messages.recv()
    }

    /// Frees the memory of both models; what their caches held is lost.
    fn unload(&mut self) {
        self.runner = None;
        self.draft_model = None;
        self.scheduler.reset();
    }

    /// Loads the model again after it was unloaded, with a smaller cache where others took the memory meanwhile.
    fn load(&mut self) -> Result<(), EngineError> {
        if self.runner.is_none() {
            let start = Instant::now();
            let runner = Runner::new(&self.model, &self.options, self.blocks, least_blocks(self.context))?;
            self.scheduler.resize(limits(&runner));
            self.runner = Some(runner);
            self.draft_model = load_draft_model(&self.model, &self.options, self.context)?;
            tracing::info!(ms = milliseconds(start.elapsed()), "the model is loaded again");
        }
        Ok(())
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Generate(submission) => self.accept(*submission),
            Message::ClearCache(done) => {
                self.scheduler.clear_cache();
                self.experience.memory = SessionMemory::default();
                if let Some(draft_model) = &mut self.draft_model {
                    draft_model.reset();
                }
                self.publish_status();
                drop(done);
            }
        }
    }

    fn accept(&mut self, submission: Submission) {
        let Submission { mut request, events, stop, submitted } = submission;
        self.arriving.of(request.priority).fetch_sub(1, Ordering::Relaxed);
        let id = self.next_id;
        self.next_id += 1;
        let prompt = std::mem::take(&mut request.prompt);
        request.constraint = request.constraint.filter(|constraint| !constraint.is_fulfilled());
        let stats = RequestStats { prompt_tokens: prompt.len(), ..RequestStats::default() };
        if !self.scheduler.add(id, prompt, request.priority) {
            let waiting = self.scheduler.waiting();
            let _ = events.try_send(Event::Failed(EngineError::Overloaded { waiting }));
            return;
        }
        self.active.push(Active {
            id,
            events,
            stop,
            submitted,
            started: None,
            first_token: None,
            sampler: Sampler::new(request.sampling.clone()),
            drafter: None,
            text: TextStream::default(),
            stop_text: StopText::new(request.stop_texts.clone()),
            log_probability_sum: 0.0,
            scored_tokens: 0,
            stats,
            choose_again: false,
            request,
        });
    }

    fn step(&mut self) {
        self.end_unwanted();
        if self.active.is_empty() {
            return;
        }
        // Before anything is scheduled: how much fits is known only then.
        if let Err(error) = self.load() {
            tracing::error!(%error, "the model cannot be loaded again");
            self.fail_all(&error);
            self.scheduler.reset();
        }
        self.draft();
        let batch = self.scheduler.schedule();
        if batch.entries.is_empty() {
            return;
        }
        let Some(runner) = &mut self.runner else { return };
        self.steps += 1;
        let now = Instant::now();
        for entry in &batch.entries {
            let fresh = |active: &&mut Active| active.id == entry.sequence && active.started.is_none();
            if let Some(active) = self.active.iter_mut().find(fresh) {
                active.started = Some(now);
                active.stats.queue_ms = milliseconds(now - active.submitted);
                if let Some(found) = self.scheduler.found(active.id) {
                    active.stats.cached_tokens = found.cached;
                    active.stats.evicted_tokens = found.evicted;
                }
            }
        }
        let (active, arriving) = (&self.active, &self.arriving);
        let abandoned = || {
            let in_batch = |id| batch.entries.iter().any(|entry| entry.sequence == id);
            !active.iter().any(|active| in_batch(active.id) && active.is_wanted(arriving))
        };
        let decodes = batch.entries.iter().all(|entry| entry.logits.start == 0 && !entry.logits.is_empty());
        let needs_logits = active.iter().any(|active| active.request.needs_logits() || active.choose_again);
        let wanted = if needs_logits { Wanted::Logits } else { Wanted::Likeliest };
        let result = match runner.forward(&batch, wanted, &abandoned) {
            Ok(Some(result)) => result,
            Ok(None) => return,
            Err(error) => {
                // A lost device or a failed kernel leaves nothing usable behind: the next request starts anew.
                tracing::error!(%error, "the GPU failed; the next request loads the model again");
                if matches!(error, GpuError::OutOfMemory { .. }) {
                    self.blocks = fewer_blocks(self.blocks, least_blocks(self.context));
                }
                self.fail_all(&EngineError::Gpu(error));
                self.unload();
                return;
            }
        };
        if decodes {
            self.row_times.record(batch.rows(), milliseconds(now.elapsed()));
        }
        let vocabulary = self.model.config().vocabulary;
        let mut next_row = 0;
        let mut ended = Vec::new();
        for entry in &batch.entries {
            let rows = next_row..next_row + entry.logits.len();
            next_row = rows.end;
            let Some(active) = self.active.iter_mut().find(|active| active.id == entry.sequence) else {
                continue;
            };
            let known = if rows.is_empty() { entry.tokens.len() } else { entry.logits.start + 1 };
            let end = (entry.start + known).min(active.stats.prompt_tokens);
            active.stats.computed_tokens += end.saturating_sub(entry.start);
            if rows.is_empty() || active.request.max_tokens == 0 {
                self.scheduler.commit(entry, &[]);
                if !rows.is_empty() {
                    ended.push((active.id, StopReason::MaxTokens));
                }
                continue;
            }
            let drafts = &entry.tokens[entry.logits.start + 1..];
            let mut accepted = Vec::with_capacity(rows.len());
            let mut reason = None;
            for (index, row) in rows.enumerate() {
                let choice = match result {
                    StepResult::Logits(logits) => {
                        let logits = &logits[row * vocabulary..(row + 1) * vocabulary];
                        choose(active, self.model.tokenizer(), logits, &mut self.masked)
                    }
                    StepResult::Likeliest(choices)
                        if forbids(active, self.model.tokenizer(), choices[row]) =>
                    {
                        active.choose_again = true;
                        break;
                    }
                    StepResult::Likeliest(choices) => choices[row],
                };
                accepted.push(choice.token);
                let length = entry.start + entry.logits.start + 1 + accepted.len();
                reason = emit(active, self.model.tokenizer(), choice, length >= self.context);
                if reason.is_some() || drafts.get(index) != Some(&choice.token) {
                    break;
                }
            }
            if accepted.is_empty() {
                continue;
            }
            active.stats.drafted_tokens += drafts.len();
            active.stats.accepted_tokens += accepted.len() - 1;
            if let Some(drafter) = &mut active.drafter {
                drafter.advance(&accepted, &mut self.experience);
            }
            self.scheduler.commit(entry, &accepted);
            ended.extend(reason.map(|reason| (active.id, reason)));
        }
        for (id, reason) in ended {
            self.end(id, reason);
        }
    }

    /// Guesses the next tokens of the sequences that are past their prompt.
    fn draft(&mut self) {
        if self.speculation == Speculation::Off {
            return;
        }
        let decoding: Vec<SequenceId> = self.scheduler.decoding().collect();
        let mut step = StepCost::new(self.row_times.row(), decoding.len());
        let mut unguessed = Vec::new();
        for id in decoding {
            let Some(active) = self.active.iter_mut().find(|active| active.id == id) else { continue };
            let missing = active.request.max_tokens.saturating_sub(active.stats.generated_tokens);
            let Some(tokens) = self.scheduler.tokens(id) else { continue };
            let room = self.context.saturating_sub(tokens.len());
            let drafter = active.drafter.get_or_insert_with(|| Drafter::new(tokens));
            // The step yields one token more than it guesses.
            let most = missing.min(room).saturating_sub(1);
            let drafts = drafter.draft(tokens, most, &mut self.experience, &mut step);
            if drafts.is_empty()
                && let Some(model) = &self.draft_model
            {
                let length = self.experience.model_draft_length(most, model.cost(), &mut step);
                unguessed.push((id, length));
            }
            self.scheduler.set_drafts(id, drafts);
        }
        self.draft_by_model(&unguessed);
    }

    /// Has the draft model guess for these sequences, each so many tokens.
    fn draft_by_model(&mut self, sequences: &[(SequenceId, usize)]) {
        let Some(model) = &mut self.draft_model else { return };
        let tokens = |id| self.scheduler.tokens(id).unwrap_or_default();
        let wanted: Vec<Undrafted> =
            sequences.iter().map(|(id, length)| Undrafted { tokens: tokens(*id), length: *length }).collect();
        let (active, arriving) = (&self.active, &self.arriving);
        let abandoned = || !active.iter().any(|active| active.is_wanted(arriving));
        match model.draft(&wanted, &abandoned) {
            Ok(drafts) => {
                for ((id, _), drafts) in sequences.iter().zip(drafts) {
                    let active = self.active.iter_mut().find(|active| active.id == *id);
                    if let Some(drafter) = active.and_then(|active| active.drafter.as_mut())
                        && !drafts.is_empty()
                    {
                        drafter.follow_model(&drafts);
                        self.scheduler.set_drafts(*id, drafts);
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, "the draft model failed and is not asked any more");
                self.draft_model = None;
            }
        }
    }

    /// Ends requests that were dropped, stopped or have run out of time.
    fn end_unwanted(&mut self) {
        let now = Instant::now();
        let reason = |active: &Active| {
            if active.is_abandoned() {
                Some(StopReason::Cancelled)
            } else if active.request.deadline.is_some_and(|deadline| deadline <= now) {
                Some(StopReason::Deadline)
            } else {
                None
            }
        };
        let ended: Vec<_> = self
            .active
            .iter()
            .filter_map(|active| reason(active).map(|reason| (active.id, reason)))
            .collect();
        for (id, reason) in ended {
            self.end(id, reason);
        }
    }

    fn end(&mut self, id: SequenceId, reason: StopReason) {
        self.remember(id);
        self.scheduler.finish(id);
        // Before the last event: who has read it finds the blocks free.
        self.publish_status();
        let Some(index) = self.active.iter().position(|active| active.id == id) else { return };
        let mut active = self.active.remove(index);
        let now = Instant::now();
        let started = active.started.unwrap_or(now);
        let first = active.first_token.unwrap_or(now);
        active.stats.prefill_ms = milliseconds(first - started);
        active.stats.decode_ms = milliseconds(now - first);
        if active.scored_tokens > 0 {
            let mean = active.log_probability_sum / active.scored_tokens as f64;
            active.stats.mean_log_probability = Some(mean as f32);
        }
        let text = if reason == StopReason::StopText { String::new() } else { active.stop_text.finish() };
        let _ = active.events.try_send(Event::Finished { reason, text, stats: active.stats });
    }

    /// Keeps an answer for speculation: the next request is likely to ask for much of it again.
    fn remember(&mut self, id: SequenceId) {
        let prompt = self.active.iter().find(|active| active.id == id).map(|a| a.stats.prompt_tokens);
        if let (Speculation::Suffix, Some(prompt), Some(tokens)) =
            (self.speculation, prompt, self.scheduler.tokens(id))
            && tokens.len() > prompt
        {
            self.experience.memory.remember(&tokens[prompt.saturating_sub(REMEMBERED_BEFORE)..]);
        }
    }

    fn fail_all(&mut self, error: &EngineError) {
        for active in self.active.drain(..) {
            self.scheduler.finish(active.id);
            let _ = active.events.try_send(Event::Failed(error.clone()));
        }
    }

    fn publish_status(&self) {
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.running = self.scheduler.running();
        status.waiting = self.scheduler.waiting();
        status.kv_blocks_total = self.scheduler.blocks_total();
        status.kv_blocks_used = self.scheduler.blocks_used();
        status.kv_blocks_running = self.scheduler.blocks_running();
        status.kv_blocks_cached = self.scheduler.blocks_cached();
        status.steps = self.steps;
        (status.weights_bytes, status.kv_bytes) = (0, 0);
        if let Some(runner) = &self.runner {
            // After a failure `auto` may have gone on elsewhere.
            status.device = runner.device().to_string();
            status.threads = runner.threads();
            status.weights_bytes = runner.weights_bytes(&self.model) as u64;
            status.kv_bytes = runner.kv_bytes() as u64;
        }
        if let (Some(drafter), Some(model)) = (&self.draft_model, &self.options.draft_model) {
            status.weights_bytes += drafter.weights_bytes(model) as u64;
            status.kv_bytes += drafter.kv_bytes() as u64;
        }
    }
}

/// A sequence of the whole context must fit, with one block more for the copy of a partly shared block.
fn least_blocks(context: usize) -> usize {
    context.div_ceil(BLOCK_SIZE) + 1
}

/// Of the cache when the device's memory ran out with `blocks`: some must be left for others.
fn fewer_blocks(blocks: usize, least: usize) -> usize {
    (blocks / 2).max(least)
}

fn limits(runner: &Runner) -> Limits {
    Limits {
        blocks: runner.blocks(),
        step_tokens: runner.step_tokens(),
        shared_step_tokens: runner.shared_step_tokens(),
        running: RUNNING_LIMIT,
        waiting: WAITING_LIMIT,
    }
}

/// The draft model that the options name, unless speculation is off.
fn load_draft_model(
    model: &Model,
    options: &EngineOptions,
    context: usize,
) -> Result<Option<DraftModel>, EngineError> {
    let draft = options.draft_model.as_ref().filter(|_| options.speculation != Speculation::Off);
    draft.map(|draft| DraftModel::new(draft, model, options, context, RUNNING_LIMIT)).transpose()
}

/// The next token from its row of logits, among those that the request's constraint allows and that close nothing that
/// is not open. A constraint that no token fits is given up.
fn choose(active: &mut Active, tokenizer: &Tokenizer, logits: &[f32], masked: &mut Vec<f32>) -> Choice {
    active.choose_again = false;
    masked.clear();
    if let Some(constraint) = &active.request.constraint
        && !constraint.mask(tokenizer.vocabulary(), &active.request.stop_tokens, logits, masked)
    {
        active.request.constraint = None;
        active.stats.constraint_dropped = true;
        masked.clear();
    }
    let choice = active.sampler.choose(if masked.is_empty() { logits } else { masked });
    if !forbids(active, tokenizer, choice) {
        return choice;
    }
    if masked.is_empty() {
        masked.extend_from_slice(logits);
    }
    let hidden = active.hidden_bytes();
    let closers = active.request.closers.as_ref();
    if closers.is_some_and(|closers| closers.mask(tokenizer.vocabulary(), hidden, masked)) {
        return active.sampler.choose(masked);
    }
    active.request.closers = None;
    choice
}

/// Whether a token would close what is not open.
fn forbids(active: &Active, tokenizer: &Tokenizer, choice: Choice) -> bool {
    let bytes = tokenizer.token_bytes(choice.token);
    let bytes = &bytes[active.hidden_bytes().min(bytes.len())..];
    active.request.closers.as_ref().is_some_and(|closers| closers.verdict(bytes) == Verdict::Forbidden)
}

/// Takes a new token into the answer. Returns why the answer ends with it, if it does.
fn emit(
    active: &mut Active,
    tokenizer: &Tokenizer,
    choice: Choice,
    context_full: bool,
) -> Option<StopReason> {
    let Choice { token, log_probability } = choice;
    active.first_token.get_or_insert_with(Instant::now);
    if active.request.stop_tokens.contains(&token) {
        return Some(StopReason::StopToken);
    }
    active.stats.generated_tokens += 1;
    let bytes = tokenizer.token_bytes(token);
    let hidden = active.request.constraint.as_mut().map_or(0, |constraint| constraint.advance(bytes));
    active.request.constraint.take_if(|constraint| constraint.is_fulfilled());
    let mut shown = &bytes[hidden..];
    let verdict = active.request.closers.as_mut().map(|closers| closers.advance(shown));
    let is_closed = matches!(verdict, Some(Verdict::Ends(_)));
    if let Some(Verdict::Ends(at)) = verdict {
        shown = &shown[..at];
    }
    if !shown.is_empty() || hidden == 0 && !is_closed {
        active.log_probability_sum += f64::from(log_probability);
        active.scored_tokens += 1;
    }
    let completed = active.text.push(shown);
    let (text, stopped) = active.stop_text.push(&completed);
    let _ = active.events.try_send(Event::Token { id: token, text, log_probability });
    if stopped {
        Some(StopReason::StopText)
    } else if is_closed {
        Some(StopReason::Closed)
    } else if active.stats.generated_tokens >= active.request.max_tokens {
        Some(StopReason::MaxTokens)
    } else if context_full {
        Some(StopReason::ContextFull)
    } else {
        None
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
}
