//! Work ahead of need: the prompt at the cursor's place is computed before a key is pressed, and the completion after the
//! one that is shown before that is accepted. One of each at most; a real request ends both.

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
};

use tokio::task::JoinHandle;

#[derive(Debug, Default)]
pub struct Background {
    pub warm_up: Slot,
    pub prefetch: Slot,
}

/// At most one task; a later one takes its place.
#[derive(Debug, Default)]
pub struct Slot {
    running: Mutex<Option<JoinHandle<()>>>,
}

impl Background {
    /// Somebody waits for a completion: nothing else matters now.
    pub fn give_way(&self) {
        self.warm_up.end();
        self.prefetch.end();
    }
}

impl Slot {
    pub fn start(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.put(Some(tokio::spawn(work)));
    }

    pub fn end(&self) {
        self.put(None);
    }

    fn put(&self, task: Option<JoinHandle<()>>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = std::mem::replace(&mut *running, task) {
            before.abort();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.end();
    }
}
