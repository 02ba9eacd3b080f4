//! One file for each kind of message. Handlers change state before their first await, and never wait for the client.

pub mod command;
pub mod completion;
pub mod configuration;
pub mod document;
pub mod inline_completion;
pub mod lifecycle;

use std::{sync::Arc, time::Duration};

use tokio::task::JoinHandle;

use crate::{
    complete::{Ask, Completed, Trigger},
    in_flight::Channel,
    session::Session,
};

/// How long a request is held while the model loads. The next key press takes its place long before, as a rule.
const LOADING_PATIENCE: Duration = Duration::from_secs(60);

/// A task that ends when nobody waits for it any more: the request was cancelled or superseded.
struct AbortOnDrop<T>(JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs a completion as the latest of its document. `None` when the model cannot be had, when a later request has
/// taken its place, or when it panicked. Nothing is awaited before the request is on the list.
async fn complete(session: &Arc<Session>, ask: Ask, channel: Channel) -> Option<Completed> {
    let mut ticket = session.in_flight.enter(&ask.document.uri, channel);
    let completer = tokio::select! {
        biased;
        () = ticket.superseded() => {
            session.counters.superseded();
            return None;
        }
        ready = session.engine.ready_within(LOADING_PATIENCE) => ready?,
    };
    let running = session.counters.start();
    let document = ask.document.clone();
    let debounce = match ask.trigger {
        Trigger::Automatic => Duration::from_millis(ask.config.debounce_ms),
        Trigger::Invoked => Duration::ZERO,
    };
    let mut task = AbortOnDrop(tokio::spawn(async move {
        if !debounce.is_zero() {
            tokio::time::sleep(debounce).await;
        }
        completer.complete(ask).await
    }));
    let completed = tokio::select! {
        biased;
        () = ticket.superseded() => {
            session.counters.superseded();
            return None;
        }
        completed = &mut task.0 => completed,
    };
    drop(running);
    match completed {
        Ok(completed) => {
            session.record(&document, &completed);
            session.report_status();
            Some(completed)
        }
        Err(error) => {
            tracing::error!(%error, "a completion panicked; this is a bug, please report it");
            None
        }
    }
}
