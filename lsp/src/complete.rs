//! The whole way from a cursor to the text that belongs there: reuse, shape, context, prompt, engine,
//! post-processing. No LSP types; the server and the command line share it.

mod answer;
mod cache_miss;
pub mod closers;
pub mod context;
pub mod explain;
mod flight;
pub mod line_tokens;
pub mod lines;
mod member_list;
pub mod postprocess;
pub mod prompt;
pub mod reuse;
pub mod shape;
mod site;
pub mod split;
mod window;

use std::{
    ops::Range,
    panic::AssertUnwindSafe,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use lacuna_indexer::{RecentEdit, Workspace};
use lacuna_inference::{
    Backend, Closers, Constraint, EngineError, Priority, PromptStyle, Request, Sampling, milliseconds,
};
use ropey::Rope;
use tokio::sync::{Semaphore, oneshot};
use tracing::Instrument;
use tree_sitter::Tree;

use crate::{config::Config, documents::Snapshot};
use answer::{Answer, Fitted};
use explain::{Explain, Explained, Source, Stop};
use flight::{Demand, Pilot};
use line_tokens::LineTokens;
use member_list::MemberList;
use postprocess::{Around, Known, Step, TRUSTED, is_sound, postprocess};
use prompt::{Prompt, Shown};
use shape::Shape;
use site::Site;

/// Larger documents are not completed: they are data or generated, and copying them would cost more than it helps.
pub const LARGEST_DOCUMENT_BYTES: usize = 4 << 20;
/// Threads that parse, query the index and tokenize at the same time.
const WORKERS: usize = 2;
/// Beyond the request's own deadline, how long a silent engine is waited for.
const ENGINE_GRACE: Duration = Duration::from_millis(1500);
/// Generations on their way that a request waits for, one after another, before it starts its own.
const MOST_FOLLOWED: usize = 4;
/// Completions made ahead of need are short: most of them are never asked for.
const AHEAD_TOKENS: usize = 32;
/// Answers followed side by side with models of up to [`SMALL_MODEL_BYTES`], whose steps take a few milliseconds: the gain is
/// in `evals/results/embedded.md`.
const BEAMS: usize = 4;
/// They also take what a context shows of a type for all that it has: where a list of members says what it has, they are shown no
/// context (`evals/results/index.md`).
const SMALL_MODEL_BYTES: usize = 256 << 20;

/// What made the editor ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// The user pressed the key for it: several alternatives are offered.
    Invoked,
    /// Typing.
    Automatic,
}

/// A cursor that wants a completion.
#[derive(Debug, Clone)]
pub struct Ask {
    pub document: Snapshot,
    /// The cursor, a byte offset into the document.
    pub offset: usize,
    /// The item selected in the editor's menu: the completion continues `text`, which replaces `range`.
    pub selected: Option<Selected>,
    pub trigger: Trigger,
    /// [`Priority::Background`] asks ahead of need: the answer is short, and only remembered.
    pub priority: Priority,
    pub config: Arc<Config>,
    /// What was edited lately in any document, the latest first.
    pub recent: Vec<RecentEdit>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    pub range: Range<usize>,
    pub text: String,
}

/// The texts to insert at the cursor, best first, and how they came about. No text: nothing is worth showing.
#[derive(Debug, Clone)]
pub struct Completed {
    pub texts: Vec<String>,
    pub explain: Explain,
    /// The document's tree, when it was parsed for this.
    pub tree: Option<Tree>,
}

/// Completes with one model over one workspace. Holds the caches that belong to that pair.
pub struct Completer {
    backend: Arc<dyn Backend>,
    workspace: Workspace,
    /// Tokens of prompt and answer together.
    context_length: usize,
    tokens: LineTokens,
    contexts: context::Contexts,
    splits: split::Splits,
    prompts: cache_miss::Prompts,
    reuse: Mutex<reuse::Reuse>,
    flights: flight::Flights,
    explained: Explained,
    workers: Arc<Semaphore>,
}

/// What is known before the model is asked.
enum Look {
    Answered(Box<Site>, Vec<String>, Box<Explain>),
    Open(Box<Site>, Box<Explain>),
}

/// What the prepared half of the pipeline hands to the engine.
struct Prepared {
    site: Site,
    shape: Shape,
    prompt: Prompt,
    /// What the answer may close; `None` where that is not sure.
    closers: Option<Closers>,
    /// What the answer begins with; `None` where that is not sure.
    members: Option<MemberList>,
    explain: Explain,
}

enum Layout {
    /// There is nothing to ask the model.
    Nothing(Box<Site>, Box<Explain>),
    Model(Box<Prepared>),
}

/// What a generation came to.
struct Landed {
    site: Site,
    texts: Vec<String>,
    explain: Explain,
}

impl Completer {
    pub fn new(backend: Arc<dyn Backend>, workspace: Workspace) -> Self {
        let tokens = LineTokens::new(backend.model().tokenizer().clone());
        let context_length = backend.status().context.min(backend.model().context_length());
        Self {
            backend,
            workspace,
            context_length,
            tokens,
            contexts: context::Contexts::default(),
            splits: split::Splits::default(),
            prompts: cache_miss::Prompts::default(),
            reuse: Mutex::default(),
            flights: flight::Flights::default(),
            explained: Explained::default(),
            workers: Arc::new(Semaphore::new(WORKERS)),
        }
    }

    pub fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    pub fn explained(&self) -> &Explained {
        &self.explained
    }

    /// The document at `path` was edited: a generation that says something else is ended.
    pub fn edited(&self, path: &Path, rope: &Rope) {
        self.flights.edited(&site::key(path), rope);
    }

    /// The document at `path` was closed.
    pub fn closed(&self, path: &Path) {
        self.flights.forget(&site::key(path));
    }

    /// The whole pipeline. When the future is dropped, and nobody asks there again soon, the engine stops.
    pub async fn complete(self: &Arc<Self>, ask: Ask) -> Completed {
        let span = tracing::info_span!("complete", path = %ask.document.path.display(), offset = ask.offset);
        self.run(ask).instrument(span).await
    }

    async fn run(self: &Arc<Self>, ask: Ask) -> Completed {
        let started = Instant::now();
        let mut hold = self.flights.hold(&site::key(&ask.document.path));
        self.encode_ahead(&ask);
        let look = {
            let (completer, ask) = (Arc::clone(self), ask.clone());
            self.on_worker(move || completer.look(&ask, started)).await
        };
        let (site, mut explain) = match look {
            Some(Look::Open(site, explain)) => (site, explain),
            Some(Look::Answered(site, texts, explain)) => {
                return self.finish(&ask, started, *site, texts, *explain);
            }
            None => return Completed::nothing(),
        };
        for _ in 0..MOST_FOLLOWED {
            let Some(reader) = self.flights.follow(&site.cursor(&ask)) else { break };
            drop(hold.take());
            reader.ended().await;
            if let Some(known) = self.known(&ask, &site) {
                explain.source = Source::InFlight;
                explain.outcome = outcome(&known.texts, "the model had nothing worth showing here");
                return self.finish(&ask, started, *site, known.texts, *explain);
            }
        }
        drop(hold);
        let layout = {
            let (completer, ask) = (Arc::clone(self), ask.clone());
            self.on_worker(move || completer.lay_out(&ask, *site, *explain)).await
        };
        let prepared = match layout {
            Some(Layout::Model(prepared)) => prepared,
            Some(Layout::Nothing(site, explain)) => {
                return self.finish(&ask, started, *site, Vec::new(), *explain);
            }
            None => return Completed::nothing(),
        };

        let (pilot, demand, _reader) = self.flights.start(&prepared.site.cursor(&ask));
        let (landing, landed) = oneshot::channel();
        let flight = Arc::clone(self).fly(ask.clone(), *prepared, pilot, demand, landing);
        tokio::spawn(flight.instrument(tracing::Span::current()));
        match landed.await {
            Ok(Landed { site, texts, explain }) => self.finish(&ask, started, site, texts, explain),
            // Another place of the document was asked for, the text was edited, or it panicked.
            Err(_) => Completed::nothing(),
        }
    }

    /// Completes the state after `text` was accepted, so that the answer is known when it is.
    pub async fn prefetch(self: &Arc<Self>, ask: Ask, text: &str) {
        let ahead = Ask {
            document: ask.document.with_inserted(ask.offset, text),
            offset: ask.offset + text.len(),
            selected: None,
            trigger: Trigger::Automatic,
            priority: Priority::Background,
            ..ask
        };
        self.complete(ahead).await;
    }

    /// Computes the prompt for a cursor into the engine's cache, for the request that may come there, and the one that a member
    /// would be asked for by where that is another. Returns the tokens computed.
    pub async fn warm_up(self: &Arc<Self>, ask: Ask) -> Option<usize> {
        let (computed, shows_context) = self.warm_up_one(&ask).await?;
        let has_lists = ask.document.language.is_some_and(|language| TRUSTED.contains(&language));
        if !(shows_context && has_lists && self.is_small()) {
            return Some(computed);
        }
        let config = Arc::new(Config { context_tokens: 0, ..(*ask.config).clone() });
        let (more, _) = self.warm_up_one(&Ask { config, ..ask }).await?;
        Some(computed + more)
    }

    /// Returns the tokens computed, and whether there is context among the prompt's.
    async fn warm_up_one(self: &Arc<Self>, ask: &Ask) -> Option<(usize, bool)> {
        let completer = Arc::clone(self);
        let ahead = ask.clone();
        let prepared = self.on_worker(move || match completer.look(&ahead, Instant::now()) {
            Look::Open(site, explain) => match completer.lay_out(&ahead, *site, *explain) {
                Layout::Model(prepared) => Some(prepared),
                Layout::Nothing(..) => None,
            },
            Look::Answered(..) => None,
        });
        let prepared = prepared.await??;
        let request = Request { max_tokens: 0, constraint: None, ..self.request(ask, &prepared, 0) };
        let output = self.backend.submit(request).ok()?.collect().await.ok()?;
        let cached = output.stats.cached_tokens;
        self.prompts.note(&prepared.site.key, &prepared.prompt, &output.stats);
        tracing::debug!(prompt_tokens = output.stats.prompt_tokens, cached_tokens = cached, "warmed up");
        Some((output.stats.prompt_tokens.saturating_sub(cached), !prepared.explain.context.is_empty()))
    }

    /// Has the text around the cursor encoded while it is parsed, where it is the document's first time: either takes
    /// milliseconds then. What comes of it lies in the cache of `tokens`.
    fn encode_ahead(self: &Arc<Self>, ask: &Ask) {
        if self.splits.knows(&site::key(&ask.document.path)) {
            return;
        }
        let (completer, ask) = (Arc::clone(self), ask.clone());
        tokio::spawn(async move {
            let encoder = Arc::clone(&completer);
            let work = move || {
                if site::unwanted(&ask).is_some() {
                    return;
                }
                let text = ask.document.rope.to_string();
                let cursor = window::char_boundary(&text, ask.offset.min(text.len()));
                let budgets = prompt::budgets(&ask.config, encoder.context_length);
                split::fresh(&text, cursor, &budgets, &encoder.tokens);
            };
            completer.on_worker(work).await
        });
    }

    /// What needs no model: the text, and whether the answer is known.
    fn look(&self, ask: &Ask, started: Instant) -> Look {
        let mut clock = Clock { last: started };
        let site = Site::new(ask, &self.workspace);
        let mut explain = self.explanation(ask, &site);
        explain.milliseconds.text = clock.lap();
        if let Some(reason) = site::unwanted(ask) {
            explain.outcome = format!("nothing: {reason}");
            return Look::Answered(Box::new(site), Vec::new(), Box::new(explain));
        }
        let known = self.known(ask, &site);
        explain.milliseconds.reuse = clock.lap();
        match known {
            Some(known) => {
                explain.source = if known.typed == 0 { Source::Cache } else { Source::TypedInto };
                explain.outcome = outcome(&known.texts, "the model had nothing worth showing here");
                Look::Answered(Box::new(site), known.texts, Box::new(explain))
            }
            None => Look::Open(Box::new(site), Box::new(explain)),
        }
    }

    fn known(&self, ask: &Ask, site: &Site) -> Option<reuse::Reused> {
        self.reuse.lock().unwrap_or_else(PoisonError::into_inner).lookup(&site.cursor(ask))
    }

    /// Shape, context and prompt.
    fn lay_out(&self, ask: &Ask, site: Site, mut explain: Explain) -> Layout {
        let mut clock = Clock { last: Instant::now() };
        let decision = shape::decide(
            site.prefix(),
            site.suffix(),
            site.language,
            site.tree.as_ref(),
            ask.trigger,
            ask.config.multi_line,
        );
        explain.shape = Some(decision);
        explain.milliseconds.shape = clock.lap();
        if decision.shape == Shape::Nothing {
            explain.outcome = format!("nothing: {}", decision.reason);
            return Layout::Nothing(Box::new(site), Box::new(explain));
        }

        let model = self.backend.model();
        let style = match prompt::style(model, ask.config.prompt_style) {
            Ok(style) => style,
            Err(problem) => {
                explain.outcome = format!("nothing: {problem}");
                return Layout::Nothing(Box::new(site), Box::new(explain));
            }
        };
        let members = match style {
            PromptStyle::Fim => {
                let around = around(&site, decision.shape, &ask.config, Stop::Cancelled);
                member_list::at_cursor(&site, &around, &self.workspace.snapshot())
            }
            PromptStyle::Chat => None,
        };
        explain.members = members.as_ref().map(|members| members.names.len());
        explain.milliseconds.members = clock.lap();

        let mut budgets = prompt::budgets(&ask.config, self.context_length);
        let split = self.splits.split(&site.key, &site.text, site.offset, &budgets, &self.tokens);
        explain.milliseconds.window = clock.lap();
        if members.is_some() && self.is_small() {
            budgets.context = 0;
        }
        let place = context::Place {
            path: &site.path,
            text: &site.text,
            offset: site.offset,
            visible: split.visible(),
            budget: budgets.context,
            recent: &ask.recent,
        };
        let items = self.contexts.choose(&self.workspace, &place, &self.tokens);
        explain.context = items.iter().map(Into::into).collect();
        explain.milliseconds.context = clock.lap();

        let shown = Shown { path: &site.relative_path, text: &site.text, split };
        let shape = decision.shape;
        let prompt = match (style, model.fim()) {
            (PromptStyle::Fim, Some(template)) => {
                let repository = site.repository.as_deref();
                Ok(prompt::fim(template, &self.tokens, repository, &items, &shown, shape))
            }
            _ => prompt::chat(model, &self.tokens, site.language, &items, &shown, shape),
        };
        explain.milliseconds.prompt = clock.lap();
        match prompt {
            Ok(prompt) => {
                explain.prompt_tokens = prompt.sections;
                explain.prompt_style = Some(match prompt.style {
                    PromptStyle::Fim => "fim",
                    PromptStyle::Chat => "chat",
                });
                let closers = match (prompt.style, site.language, &site.tree) {
                    (PromptStyle::Fim, Some(language), Some(tree)) => {
                        closers::at_cursor(language, &site.text, site.offset, tree)
                    }
                    _ => None,
                };
                Layout::Model(Box::new(Prepared { site, shape, prompt, closers, members, explain }))
            }
            Err(problem) => {
                explain.outcome = format!("nothing: {problem}");
                Layout::Nothing(Box::new(site), Box::new(explain))
            }
        }
    }

    /// Generates while somebody wants it.
    async fn fly(
        self: Arc<Self>,
        ask: Ask,
        prepared: Prepared,
        pilot: Pilot,
        demand: Demand,
        landing: oneshot::Sender<Landed>,
    ) {
        let work = AssertUnwindSafe(self.land(ask, prepared, pilot)).catch_unwind();
        tokio::select! {
            biased;
            () = demand.ceased() => {}
            landed = work => match landed {
                Ok(Some(landed)) => {
                    let _ = landing.send(landed);
                }
                // Reported where it happened.
                Ok(None) => {}
                Err(_) => tracing::error!("a completion panicked; this is a bug, please report it"),
            }
        }
    }

    /// What came of the generation is remembered before `pilot` is dropped: that wakes those who look for it.
    async fn land(self: Arc<Self>, ask: Ask, mut prepared: Prepared, pilot: Pilot) -> Option<Landed> {
        match self.generate(&ask, &prepared, &pilot).await {
            Ok(answers) => {
                let completer = Arc::clone(&self);
                self.on_worker(move || completer.judge(&ask, prepared, answers)).await
            }
            Err(error) => {
                tracing::warn!(%error, "no completion");
                prepared.explain.outcome = format!("nothing: {error}");
                Some(Landed { site: prepared.site, texts: Vec::new(), explain: prepared.explain })
            }
        }
    }

    fn request(&self, ask: &Ask, prepared: &Prepared, number: usize) -> Request {
        let Prepared { prompt, closers, members, .. } = prepared;
        let answer = prompt::budgets(&ask.config, self.context_length).answer;
        Request {
            prompt: prompt.tokens.clone(),
            max_tokens: match ask.priority {
                Priority::Background => answer.min(AHEAD_TOKENS),
                Priority::Interactive | Priority::Batch => answer,
            },
            deadline: Some(Instant::now() + Duration::from_millis(ask.config.deadline_ms)),
            sampling: sampling(number),
            stop_tokens: prompt.stop_tokens.clone(),
            stop_texts: prompt.stop_texts.clone(),
            constraint: match members {
                Some(members) => {
                    Some(Constraint::literal(&prompt.literal).completing(&members.typed, &members.names))
                }
                None => (!prompt.literal.is_empty()).then(|| Constraint::literal(&prompt.literal)),
            },
            closers: closers.clone(),
            beams: if number == 0 { self.beams(&ask.config, prepared) } else { 1 },
            priority: ask.priority,
        }
    }

    fn is_small(&self) -> bool {
        self.backend.model().gguf().byte_length() <= SMALL_MODEL_BYTES
    }

    /// Answers to follow side by side: a short one is worth a search where a step takes little time.
    fn beams(&self, config: &Config, prepared: &Prepared) -> usize {
        let is_short = prepared.shape == Shape::SingleLine && prepared.prompt.style == PromptStyle::Fim;
        match config.beams {
            _ if !is_short => 1,
            0 if self.is_small() => BEAMS,
            0 => 1,
            beams => beams,
        }
    }

    /// Asks the engine, once for each alternative, and reads until nothing more can be of use.
    async fn generate(
        &self,
        ask: &Ask,
        prepared: &Prepared,
        pilot: &Pilot,
    ) -> Result<Vec<Answer>, EngineError> {
        let give_up = Instant::now() + Duration::from_millis(ask.config.deadline_ms) + ENGINE_GRACE;
        let mut generations = Vec::new();
        for number in 0..wanted(ask) {
            match self.backend.submit(self.request(ask, prepared, number)) {
                Ok(generation) => generations.push(generation),
                // One answer is better than an error because a second one did not fit.
                Err(_) if number > 0 => break,
                Err(error) => return Err(error),
            }
        }
        let around = prepared.around(&ask.config, Stop::Cancelled);
        let mut answers = Vec::new();
        for (number, generation) in generations.into_iter().enumerate() {
            let pilot = (number == 0).then_some(pilot);
            let reading = answer::read(generation, &around, &prepared.prompt, pilot);
            match tokio::time::timeout_at(give_up.into(), reading).await {
                Ok(Ok(answer)) => answers.push(answer),
                Ok(Err(error)) if answers.is_empty() => return Err(error),
                Ok(Err(_)) => break,
                Err(_) if answers.is_empty() => {
                    return Err(EngineError::Internal("it did not answer in time".into()));
                }
                Err(_) => break,
            }
        }
        Ok(answers)
    }

    /// Post-processes the answers, drops the ones that say the same, and remembers the rest.
    fn judge(&self, ask: &Ask, prepared: Prepared, answers: Vec<Answer>) -> Landed {
        let mut clock = Clock { last: Instant::now() };
        let mut explain = prepared.explain.clone();
        let mut texts: Vec<String> = Vec::new();
        let least_confidence = match ask.trigger {
            Trigger::Automatic => ask.config.least_confidence as f32 / 100.0,
            // Who asks wants to see the best there is.
            Trigger::Invoked => 0.0,
        };
        let mut is_withheld = false;
        let mut sound = 0;
        let snapshot = self.workspace.snapshot();
        for (number, answer) in answers.iter().enumerate() {
            let known = Some(Known { path: &prepared.site.path, snapshot: &snapshot });
            let Fitted { text, steps, confidence } = answer.fitted(|text, stop| {
                postprocess(text, &Around { known, ..prepared.around(&ask.config, stop) })
            });
            let is_sound = is_sound(&steps);
            if number == 0 {
                answer.describe(&mut explain);
                explain.postprocessing = steps;
                explain.cache_miss = self.prompts.note(&prepared.site.key, &prepared.prompt, &answer.stats);
            }
            if text.is_empty() || texts.contains(&text) {
                continue;
            }
            if confidence < least_confidence {
                is_withheld = true;
                explain.postprocessing.push(Step {
                    step: "confidence",
                    why: "the model is less sure of it than leastConfidence asks",
                    removed: text,
                });
                continue;
            }
            // Behind those that nothing is wrong with.
            let at = if is_sound { sound } else { texts.len() };
            sound += usize::from(is_sound);
            texts.insert(at, text);
            explain.confidence.insert(at, confidence);
        }
        explain.source = Source::Model;
        let why = explain.postprocessing.last().map_or("the model ended at once", |step| step.why);
        explain.outcome = outcome(&texts, why);
        // Short for having been made ahead of need: whoever asks there gets the whole one. What is withheld from one who
        // only types is not withheld from one who asks.
        let is_cut = ask.priority == Priority::Background
            && answers.iter().any(|answer| answer.stop == Stop::MaxTokens);
        if !is_cut && !is_withheld {
            self.reuse
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remember(&prepared.site.cursor(ask), texts.clone());
        }
        explain.milliseconds.postprocess = clock.lap();
        Landed { site: prepared.site, texts, explain }
    }

    fn finish(
        &self,
        ask: &Ask,
        started: Instant,
        site: Site,
        texts: Vec<String>,
        mut explain: Explain,
    ) -> Completed {
        explain.milliseconds.total = milliseconds(started.elapsed());
        explain.texts = texts.clone();
        let stages = &explain.milliseconds;
        tracing::info!(
            outcome = %explain.outcome,
            source = ?explain.source,
            priority = ?ask.priority,
            prompt_tokens = explain.prompt_tokens.total,
            cached_tokens = explain.cached_tokens,
            cache_miss = ?explain.cache_miss,
            generated_tokens = explain.generated_tokens,
            text_ms = stages.text,
            shape_ms = stages.shape,
            window_ms = stages.window,
            context_ms = stages.context,
            prompt_ms = stages.prompt,
            members_ms = stages.members,
            queue_ms = stages.queue,
            prefill_ms = stages.prefill,
            decode_ms = stages.decode,
            postprocess_ms = stages.postprocess,
            total_ms = stages.total,
            "completed"
        );
        // What nobody asked for explains nothing.
        if ask.priority != Priority::Background {
            self.explained.add(explain.clone());
        }
        Completed { texts, explain, tree: site.tree }
    }

    fn explanation(&self, ask: &Ask, site: &Site) -> Explain {
        let (line, column) = crate::position::to_human(&ask.document.rope, ask.offset);
        Explain {
            path: site.relative_path.clone(),
            line,
            column,
            model: self.backend.model().name().to_string(),
            ..Explain::default()
        }
    }

    /// Runs on a thread for work that takes milliseconds, a few at a time. `None` when it panicked.
    async fn on_worker<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let permit = Arc::clone(&self.workers).acquire_owned().await.ok()?;
        let span = tracing::Span::current();
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            span.in_scope(work)
        });
        match work.await {
            Ok(done) => Some(done),
            Err(error) => {
                tracing::error!(%error, "a completion panicked; this is a bug, please report it");
                None
            }
        }
    }
}

impl Completed {
    fn nothing() -> Self {
        Self { texts: Vec::new(), explain: Explain::default(), tree: None }
    }
}

impl Prepared {
    fn around<'a>(&'a self, config: &Config, stop: Stop) -> Around<'a> {
        around(&self.site, self.shape, config, stop)
    }
}

/// What an answer at the cursor is looked at in.
fn around<'a>(site: &'a Site, shape: Shape, config: &Config, stop: Stop) -> Around<'a> {
    Around {
        text: &site.text,
        offset: site.offset,
        language: site.language,
        tree: site.tree.as_ref(),
        shape,
        max_characters: config.max_characters,
        broken_off: matches!(stop, Stop::MaxTokens | Stop::Deadline | Stop::ContextFull),
        known: None,
    }
}

fn wanted(ask: &Ask) -> usize {
    match ask.trigger {
        Trigger::Invoked => ask.config.alternatives.max(1),
        Trigger::Automatic => 1,
    }
}

/// The first answer is the most likely text; the others are drawn, each with its own seed.
fn sampling(number: usize) -> Sampling {
    match number {
        0 => Sampling::GREEDY,
        number => Sampling { temperature: 0.8, top_k: 40, top_p: 0.95, min_p: 0.05, seed: number as u64 },
    }
}

fn outcome(texts: &[String], why_nothing: &str) -> String {
    if texts.is_empty() { format!("nothing: {why_nothing}") } else { "shown".to_string() }
}

struct Clock {
    last: Instant,
}

impl Clock {
    /// Milliseconds since the last lap.
    fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let lap = milliseconds(now - self.last);
        self.last = now;
        lap
    }
}
