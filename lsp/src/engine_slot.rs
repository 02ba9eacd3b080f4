//! The model behind the server: loading in the background, ready, or failed with what to do about it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lacuna_indexer::Workspace;
use lacuna_inference::Backend;
use tokio::sync::watch;

use crate::{complete::Completer, config::Config};

/// Opens the model that the settings ask for; blocking. The error says what to do.
pub type Opener = Arc<dyn Fn(&Config) -> Result<Arc<dyn Backend>, String> + Send + Sync>;

/// One model at a time; replaced as a whole when it is loaded anew.
pub struct EngineSlot {
    open: Opener,
    workspace: Workspace,
    state: watch::Sender<Arc<State>>,
    /// Counts loads, so that a slow one cannot overwrite a later one.
    load: AtomicU64,
}

#[derive(Clone)]
pub enum State {
    NotStarted,
    Loading,
    Ready(Arc<Completer>),
    Failed(String),
}

impl EngineSlot {
    pub fn new(open: Opener, workspace: Workspace) -> Self {
        Self {
            open,
            workspace,
            state: watch::Sender::new(Arc::new(State::NotStarted)),
            load: AtomicU64::new(0),
        }
    }

    pub fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.borrow())
    }

    pub fn ready(&self) -> Option<Arc<Completer>> {
        match &*self.state() {
            State::Ready(completer) => Some(Arc::clone(completer)),
            State::NotStarted | State::Loading | State::Failed(_) => None,
        }
    }

    /// The model, waited for while it loads, at most so long. `None` when it cannot be loaded.
    pub async fn ready_within(&self, limit: Duration) -> Option<Arc<Completer>> {
        let mut states = self.state.subscribe();
        let settled = states.wait_for(|state| matches!(**state, State::Ready(_) | State::Failed(_)));
        match &**tokio::time::timeout(limit, settled).await.ok()?.ok()? {
            State::Ready(completer) => Some(Arc::clone(completer)),
            State::NotStarted | State::Loading | State::Failed(_) => None,
        }
    }

    /// Marks the model as loading; returns the number to pass to [`Self::load`]. The old model is let go at once,
    /// so that two never lie in memory longer than running requests need the first.
    pub fn begin(&self) -> u64 {
        self.state.send_replace(Arc::new(State::Loading));
        self.load.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Loads the model; takes as long as it takes. `Err` says why there is none; `Ok(false)` means that a later
    /// load has begun meanwhile and this one's result was dropped.
    pub fn load(&self, number: u64, config: &Config) -> Result<bool, String> {
        let opened = catch_unwind(AssertUnwindSafe(|| {
            (self.open)(config).map(|backend| Arc::new(Completer::new(backend, self.workspace.clone())))
        }))
        .unwrap_or_else(|panic| {
            Err(format!("loading panicked ({}); please report this", panic_text(&*panic)))
        });
        if self.load.load(Ordering::SeqCst) != number {
            return Ok(false);
        }
        match opened {
            Ok(completer) => {
                self.state.send_replace(Arc::new(State::Ready(completer)));
                Ok(true)
            }
            Err(problem) => {
                self.state.send_replace(Arc::new(State::Failed(problem.clone())));
                Err(problem)
            }
        }
    }
}

/// What a panic said.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}
