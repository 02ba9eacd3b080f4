//! The engine's thread, which owns the runner and turns requests into streams of tokens.
//!
//! A step reads: take commands -> end what nobody wants -> schedule -> run -> sample -> commit. Nothing in it waits
//! for anybody: events go into channels that are large enough for the whole answer.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use crossbeam_channel::{Receiver, RecvError, RecvTimeoutError, TryRecvError};
use tokio::sync::mpsc;

use super::{Arriving, EngineOptions, EngineStatus, Message, Submission, WAITING_LIMIT};
use crate::{
    Alternative, EngineError, Event, Model, Request, RequestStats, StopReason,
    answer::{Answer, Grown},
    beam_search::BeamSearch,
    cpu::threads::give_way,
    cuda::GpuError,
    kv_cache::BLOCK_SIZE,
    milliseconds,
    runner::{Runner, StepResult, Wanted},
    sampler::{Choice, Sampler},
    scheduler::{Limits, Scheduler, SequenceId},
    speculative::{
        DraftModel, Drafter, Experience, RowTimes, SessionMemory, Speculation, StepCost, Undrafted,
    },
    tokenizer::Tokenizer,
};

const RUNNING_LIMIT: usize = 16;
/// Answers that one request may follow.
const MOST_BEAMS: usize = 8;
/// Tokens of a prompt's end that are remembered with its answer, to find the answer by.
const REMEMBERED_BEFORE: usize = 8;

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
    answer: Answer,
    /// The prompt's end and the generated tokens.
    end_of_tokens: Vec<u32>,
    /// With several beams: `answer` is then made when the search is over.
    search: Option<BeamSearch>,
    stats: RequestStats,
    /// The device's choice was a closer that must not come: the step is computed again, with logits.
    choose_again: bool,
}

impl Active {
    /// Whether a sequence of the scheduler is this request's.
    fn has(&self, sequence: SequenceId) -> bool {
        self.search.as_ref().map_or(self.id == sequence, |search| search.has(sequence))
    }

    /// Whether the next token is chosen from the logits themselves, or the most likely one of all will do.
    fn needs_logits(&self) -> bool {
        !self.sampler.is_greedy()
            || self.answer.constraint.is_some()
            || self.search.is_some()
            || self.choose_again
    }

    /// Nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool {
        self.events.is_closed() || self.stop.load(Ordering::Relaxed)
    }

    /// Work on it need not end early: somebody waits, and nobody who goes before.
    fn is_wanted(&self, arriving: &Arriving) -> bool {
        !self.is_abandoned() && !arriving.anything_before(self.request.priority)
    }
}

pub(super) struct Worker {
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
    /// Loads the weights. The cache holds `cache_tokens`, or what the device has room for.
    pub(super) fn new(
        model: &Model,
        options: EngineOptions,
        context: usize,
        cache_tokens: usize,
        arriving: Arc<Arriving>,
    ) -> Result<Self, EngineError> {
        // One block more, for the copy of a partly shared block.
        let blocks = cache_tokens.div_ceil(BLOCK_SIZE) + 1;
        let runner = Runner::new(model, &options, blocks, least_blocks(context))?;
        let draft_model = load_draft_model(model, &options, context)?;
        let status = EngineStatus {
            model: model.name().into(),
            context,
            draft_model: draft_model.as_ref().map(|draft| draft.name().to_string()),
            ..EngineStatus::default()
        };
        let worker = Self {
            model: model.clone(),
            blocks: runner.blocks(),
            scheduler: Scheduler::new(limits(&runner)),
            runner: Some(runner),
            active: Vec::new(),
            next_id: 0,
            steps: 0,
            arriving,
            context,
            speculation: options.speculation,
            draft_model,
            experience: Experience::default(),
            row_times: RowTimes::default(),
            masked: Vec::new(),
            options,
            status: Arc::new(Mutex::new(status)),
        };
        worker.publish_status();
        Ok(worker)
    }

    /// What this thread publishes after each step.
    pub(super) fn status(&self) -> Arc<Mutex<EngineStatus>> {
        self.status.clone()
    }

    /// Works until the engine is dropped.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
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
        let is_search = request.sampling.temperature <= 0.0 && request.max_tokens > 0;
        request.beams = if is_search { request.beams.clamp(1, MOST_BEAMS) } else { 1 };
        let answer = Answer::new(&request);
        let search = (request.beams > 1).then(|| BeamSearch::new(id, request.beams, answer.clone()));
        let end_of_tokens = prompt[prompt.len().saturating_sub(REMEMBERED_BEFORE)..].to_vec();
        let stats =
            RequestStats { prompt_tokens: prompt.len(), beams: request.beams, ..RequestStats::default() };
        if !self.scheduler.add(id, prompt, request.priority, request.beams) {
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
            answer,
            end_of_tokens,
            search,
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
            // Answers that wait for others of their search hold the blocks that those need. The latest request's search
            // loses some; the next step tells whether that was enough.
            for active in self.active.iter_mut().rev() {
                let search = active.search.as_mut();
                let given_up = search.map_or(0, |search| search.narrow(&mut self.scheduler));
                active.stats.beams_given_up += given_up;
                if given_up > 0 {
                    break;
                }
            }
            self.search_on();
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
            let in_batch = |active: &Active| batch.entries.iter().any(|entry| active.has(entry.sequence));
            !active.iter().any(|active| in_batch(active) && active.is_wanted(arriving))
        };
        let decodes = batch.entries.iter().all(|entry| entry.logits.start == 0 && !entry.logits.is_empty());
        let needs_logits = active.iter().any(Active::needs_logits);
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
            let Some(active) = self.active.iter_mut().find(|active| active.has(entry.sequence)) else {
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
            if let (Some(search), StepResult::Logits(logits)) = (&mut active.search, &result) {
                active.first_token.get_or_insert_with(Instant::now);
                self.scheduler.commit(entry, &[]);
                let logits = &logits[rows.start * vocabulary..(rows.start + 1) * vocabulary];
                let (request, tokenizer) = (&active.request, self.model.tokenizer());
                search.record(entry.sequence, logits, request, tokenizer, &mut self.masked);
                continue;
            }
            let drafts = &entry.tokens[entry.logits.start + 1..];
            let mut accepted = Vec::with_capacity(rows.len());
            let mut reason = None;
            for (index, row) in rows.enumerate() {
                let choice = match result {
                    StepResult::Logits(logits) => {
                        let logits = &logits[row * vocabulary..(row + 1) * vocabulary];
                        active.choose_again = false;
                        choose(active, self.model.tokenizer(), logits, &mut self.masked)
                    }
                    StepResult::Likeliest(choices)
                        if active.answer.forbids(self.model.tokenizer(), choices[row].token) =>
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
        self.search_on();
    }

    /// Continues the searches of which all answers' next tokens are known.
    fn search_on(&mut self) {
        let mut ended = Vec::new();
        for active in &mut self.active {
            let Some(search) = active.search.as_mut().filter(|search| search.is_ready()) else { continue };
            let room = self.context.saturating_sub(active.stats.prompt_tokens);
            let tokenizer = self.model.tokenizer();
            let over =
                search.advance(&active.request, tokenizer, room, &mut self.scheduler, &mut self.next_id);
            ended.extend(over.map(|reason| (active.id, reason)));
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
        let mut step = StepCost::new(self.row_times, decoding.len());
        let mut unguessed = Vec::new();
        for id in decoding {
            let alone = |active: &&mut Active| active.id == id && active.search.is_none();
            let Some(active) = self.active.iter_mut().find(alone) else { continue };
            let missing = active.request.max_tokens.saturating_sub(active.answer.tokens);
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

    fn end(&mut self, id: SequenceId, mut reason: StopReason) {
        let Some(index) = self.active.iter().position(|active| active.id == id) else { return };
        let mut active = self.active.remove(index);
        let mut alternatives = Vec::new();
        if let Some(search) = active.search.take() {
            let mut found = search.finish(reason, &mut self.scheduler).into_iter();
            if let Some(best) = found.next() {
                for choice in best.choices {
                    emit(&mut active, self.model.tokenizer(), choice, false);
                }
                if reason != StopReason::Cancelled {
                    reason = best.reason;
                }
            }
            alternatives.extend(found.map(|other| Alternative {
                text: other.text,
                log_probability: other.score,
                mean_log_probability: other.mean_log_probability,
                reason: other.reason,
            }));
        }
        self.remember(&active);
        self.scheduler.finish(id);
        // Before the last event: who has read it finds the blocks free.
        self.publish_status();
        let now = Instant::now();
        let started = active.started.unwrap_or(now);
        let first = active.first_token.unwrap_or(now);
        active.stats.prefill_ms = milliseconds(first - started);
        active.stats.decode_ms = milliseconds(now - first);
        active.stats.mean_log_probability = active.answer.mean_log_probability();
        active.stats.constraint_dropped = active.answer.constraint_dropped;
        let text = if reason == StopReason::StopText { String::new() } else { active.answer.held_back() };
        let _ = active.events.try_send(Event::Finished { reason, text, alternatives, stats: active.stats });
    }

    /// Keeps an answer for speculation: the next request is likely to ask for much of it again.
    fn remember(&mut self, active: &Active) {
        if self.speculation == Speculation::Suffix && active.answer.tokens > 0 {
            self.experience.memory.remember(&active.end_of_tokens);
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

/// The next token from its row of logits, among those that may come.
fn choose(active: &mut Active, tokenizer: &Tokenizer, logits: &[f32], masked: &mut Vec<f32>) -> Choice {
    let Active { answer, sampler, request, .. } = active;
    let allowed = answer.allowed(&request.stop_tokens, tokenizer, logits, masked);
    let choice = sampler.choose(allowed);
    if answer.forbids(tokenizer, choice.token)
        && let Some(others) = answer.without_forbidden(tokenizer, logits, masked)
    {
        return sampler.choose(others);
    }
    choice
}

/// Takes a new token into the answer. Returns why the answer ends with it, if it does.
fn emit(
    active: &mut Active,
    tokenizer: &Tokenizer,
    choice: Choice,
    context_full: bool,
) -> Option<StopReason> {
    active.first_token.get_or_insert_with(Instant::now);
    active.end_of_tokens.push(choice.token);
    match active.answer.push(&active.request, tokenizer, choice, context_full) {
        Grown::Stop => Some(StopReason::StopToken),
        Grown::Text { text, end } => {
            active.stats.generated_tokens = active.answer.tokens;
            let Choice { token: id, log_probability } = choice;
            let _ = active.events.try_send(Event::Token { id, text, log_probability });
            end
        }
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".into())
}
