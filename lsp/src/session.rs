//! All state of one running server: documents, settings, engine, index, and what the client can do.

pub mod outbox;

use std::{
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use lacuna_indexer::Workspace;
use serde_json::Value;
use tower_lsp::ls_types::{ClientCapabilities, InitializeParams, MessageType, PositionEncodingKind, Uri};

use crate::{
    background::Background,
    complete::Completed,
    config::{self, Config},
    documents::{Documents, Snapshot},
    engine_slot::{EngineSlot, Opener, State},
    in_flight::InFlight,
    indexing::Indexing,
    logging,
    position::Encoding,
    status::{Activity, Counters, IndexStatus, MemoryStatus, Status, process_bytes},
};
use outbox::Outbox;

pub struct Session {
    pub documents: Arc<Documents>,
    pub in_flight: InFlight,
    pub background: Background,
    pub engine: EngineSlot,
    pub workspace: Workspace,
    pub outbox: Outbox,
    pub counters: Counters,
    indexing: OnceLock<Indexing>,
    config: ArcSwap<Config>,
    client: OnceLock<ClientFacts>,
    shutdown_requested: AtomicBool,
}

/// What the client said about itself in `initialize`.
#[derive(Debug, Clone, Default)]
pub struct ClientFacts {
    pub encoding: Encoding,
    pub inline_completion: Support,
    pub progress: bool,
    pub watches_files: bool,
    pub pulls_configuration: bool,
    pub registers_configuration: bool,
}

/// How far a client supports a feature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Support {
    #[default]
    None,
    Static,
    Dynamic,
}

impl Session {
    /// `cache_directory`: where the index is kept for the next start; `None` for nowhere.
    pub fn new(outbox: Outbox, opener: Opener, cache_directory: Option<PathBuf>) -> Arc<Self> {
        let options = lacuna_indexer::Options { cache_directory, ..lacuna_indexer::Options::default() };
        let workspace = Workspace::new(Vec::new(), options);
        Arc::new(Self {
            documents: Arc::default(),
            in_flight: InFlight::default(),
            background: Background::default(),
            engine: EngineSlot::new(opener, workspace.clone()),
            workspace,
            outbox,
            counters: Counters::default(),
            indexing: OnceLock::new(),
            config: ArcSwap::default(),
            client: OnceLock::new(),
            shutdown_requested: AtomicBool::new(false),
        })
    }

    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Facts before `initialize` are those of a client that can do nothing.
    pub fn client(&self) -> ClientFacts {
        self.client.get().cloned().unwrap_or_default()
    }

    pub fn encoding(&self) -> Encoding {
        self.client.get().map_or_else(Encoding::default, |client| client.encoding)
    }

    /// The document as it is now, to be taken before a handler's first await.
    pub fn snapshot(&self, uri: &Uri) -> Option<Snapshot> {
        self.documents.snapshot(uri.as_str())
    }

    /// Takes in what `initialize` says.
    pub fn introduce(&self, params: &InitializeParams) {
        let _ = self.client.set(ClientFacts::read(&params.capabilities));
        for root in roots(params) {
            self.workspace.add_root(root);
        }
        if let Some(options) = &params.initialization_options {
            self.configure(options);
        }
    }

    /// Resolves and applies settings; what is wrong with them is told in the log. Returns the settings before.
    pub fn configure(&self, wire: &Value) -> Arc<Config> {
        let resolved = config::resolve(wire);
        for problem in &resolved.problems {
            tracing::warn!("{problem}");
            self.outbox.log(MessageType::WARNING, problem.clone());
        }
        logging::set_level(resolved.config.log_level);
        self.config.swap(Arc::new(resolved.config))
    }

    /// The index thread, once `initialized` has started it.
    pub fn indexing(&self) -> Option<&Indexing> {
        self.indexing.get()
    }

    pub fn set_indexing(&self, indexing: Indexing) {
        let _ = self.indexing.set(indexing);
    }

    /// Loads the configured model in the background and tells the client how that went.
    pub fn load_model(self: &Arc<Self>) {
        let config = self.config();
        let number = self.engine.begin();
        let progress =
            self.client().progress.then(|| self.outbox.progress("Lacuna: loading the model", &config.model));
        self.report_status();
        let session = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let loaded = session.engine.load(number, &config);
            drop(progress);
            match loaded {
                Ok(true) => tracing::info!(model = %config.model, "model loaded"),
                Ok(false) => return,
                Err(problem) => {
                    tracing::error!("the model could not be loaded: {problem}");
                    session.outbox.show(
                        MessageType::ERROR,
                        format!(
                            "Lacuna has no completions: {problem}. Check the setting lacuna.model, then run \
                             lacuna.restartEngine."
                        ),
                    );
                }
            }
            session.report_status();
        });
    }

    /// Takes note of an answer: the parsed tree, the counts.
    pub fn record(&self, document: &Snapshot, completed: &Completed) {
        if let Some(tree) =
            completed.tree.clone().filter(|tree| tree.root_node().end_byte() == document.rope.len_bytes())
        {
            self.documents.adopt(&document.uri, document.revision, tree);
        }
        self.counters.answered(completed.texts.len(), completed.explain.milliseconds.total);
    }

    pub fn status(&self) -> Status {
        let state = self.engine.state();
        let engine = match &*state {
            State::Ready(completer) => Some(completer.backend().status()),
            State::NotStarted | State::Loading | State::Failed(_) => None,
        };
        let (activity, message) = match &*state {
            State::NotStarted | State::Loading => (Activity::Loading, Some("loading the model".to_string())),
            State::Ready(_) if self.counters.running() > 0 => (Activity::Busy, None),
            State::Ready(_) => (Activity::Ready, None),
            State::Failed(problem) => (Activity::Error, Some(problem.clone())),
        };
        let index = self.workspace.snapshot();
        Status {
            state: activity,
            message,
            version: env!("CARGO_PKG_VERSION"),
            model: engine.as_ref().map_or_else(|| self.config().model.clone(), |engine| engine.model.clone()),
            device: engine.as_ref().map(|engine| engine.device.clone()),
            last_latency_ms: self.counters.last_latency_ms(),
            index: IndexStatus {
                files: index.file_count(),
                symbols: index.symbol_count(),
                roots: self.workspace.roots().iter().map(|root| root.display().to_string()).collect(),
            },
            requests: self.counters.requests(),
            documents: self.documents.count(),
            memory: MemoryStatus {
                process_bytes: process_bytes(),
                weights_bytes: engine.as_ref().map(|engine| engine.weights_bytes),
                kv_bytes: engine.as_ref().map(|engine| engine.kv_bytes),
                documents_bytes: self.documents.bytes(),
            },
            engine,
        }
    }

    /// Sends `lacuna/status` if the client asked for it.
    pub fn report_status(&self) {
        if self.config().status_notifications
            && let Ok(status) = serde_json::to_value(self.status())
        {
            self.outbox.status(status);
        }
    }

    pub fn request_shutdown(&self) {
        self.shutdown_requested.store(true, Ordering::Relaxed);
    }

    pub fn shutdown_requested(&self) -> bool {
        self.shutdown_requested.load(Ordering::Relaxed)
    }
}

impl ClientFacts {
    fn read(capabilities: &ClientCapabilities) -> Self {
        let text_document = capabilities.text_document.as_ref();
        let workspace = capabilities.workspace.as_ref();
        let inline_completion = match text_document.and_then(|document| document.inline_completion.as_ref()) {
            None => Support::None,
            Some(feature) if feature.dynamic_registration == Some(true) => Support::Dynamic,
            Some(_) => Support::Static,
        };
        Self {
            encoding: encoding(capabilities),
            inline_completion,
            progress: capabilities.window.as_ref().and_then(|window| window.work_done_progress) == Some(true),
            watches_files: workspace
                .and_then(|workspace| workspace.did_change_watched_files.as_ref())
                .and_then(|feature| feature.dynamic_registration)
                == Some(true),
            pulls_configuration: workspace.and_then(|workspace| workspace.configuration) == Some(true),
            registers_configuration: workspace
                .and_then(|workspace| workspace.did_change_configuration.as_ref())
                .and_then(|feature| feature.dynamic_registration)
                == Some(true),
        }
    }
}

/// UTF-8 when the client can (the rope's own unit), else UTF-16 unless the client cannot do even that.
fn encoding(capabilities: &ClientCapabilities) -> Encoding {
    let offered = capabilities.general.as_ref().and_then(|general| general.position_encodings.as_ref());
    let offers = |kind: PositionEncodingKind| offered.is_some_and(|offered| offered.contains(&kind));
    if offers(PositionEncodingKind::UTF8) {
        Encoding::Utf8
    } else if offers(PositionEncodingKind::UTF32) && !offers(PositionEncodingKind::UTF16) {
        Encoding::Utf32
    } else {
        Encoding::Utf16
    }
}

fn roots(params: &InitializeParams) -> Vec<PathBuf> {
    let folders: Vec<PathBuf> =
        params.workspace_folders.iter().flatten().filter_map(|folder| path_of(&folder.uri)).collect();
    if !folders.is_empty() {
        return folders;
    }
    #[allow(deprecated, reason = "older clients send nothing else")]
    params.root_uri.as_ref().and_then(path_of).into_iter().collect()
}

/// The path of a `file:` URI.
pub fn path_of(uri: &Uri) -> Option<PathBuf> {
    if !uri.as_str().starts_with("file:") {
        return None;
    }
    uri.to_file_path().map(|path| path.into_owned())
}
