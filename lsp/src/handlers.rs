//! One file for each kind of message. Handlers change state before their first await, and never wait for the client.

pub mod command;
pub mod completion;
pub mod configuration;
pub mod cursor;
pub mod document;
pub mod inline_completion;
pub mod lifecycle;

use std::{sync::Arc, time::Duration};

use lacuna_inference::Priority;
use tokio::task::JoinHandle;

use crate::{
    complete::{Ask, Completed, Trigger},
    documents::Snapshot,
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

/// A cursor of somebody who waits.
fn ask(session: &Session, document: Snapshot, offset: usize, trigger: Trigger) -> Ask {
    let line = document.rope.byte_to_line(offset);
    Ask {
        recent: session.documents.recent_edits((&document.uri, line)),
        document,
        offset,
        selected: None,
        trigger,
        priority: Priority::Interactive,
        config: session.config(),
    }
}

/// Has the model read the text around a cursor before anybody asks there, once it is loaded.
fn warm_up(session: &Arc<Session>, document: Snapshot, offset: usize) {
    let ask = Ask { priority: Priority::Background, ..ask(session, document, offset, Trigger::Automatic) };
    if !ask.config.warm_up {
        return;
    }
    let waiting = Arc::clone(session);
    session.background.warm_up.start(async move {
        if let Some(completer) = waiting.engine.ready_within(LOADING_PATIENCE).await {
            completer.warm_up(ask).await;
        }
    });
}

/// Makes the completion that follows the acceptance of `text`.
fn prefetch(session: &Arc<Session>, ask: Ask, text: &str) {
    let Some(completer) = session.engine.ready().filter(|_| ask.config.prefetch) else { return };
    let text = text.to_string();
    session.background.prefetch.start(async move { completer.prefetch(ask, &text).await });
}

/// Runs a completion as the latest of its document. `None` when the model cannot be had, when a later request has
/// taken its place, or when it panicked. Nothing is awaited before the request is on the list.
async fn complete(session: &Arc<Session>, ask: Ask, channel: Channel) -> Option<Completed> {
    session.background.give_way();
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
    let asked = ask.clone();
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
            session.record(&asked.document, &completed);
            session.report_status();
            if let Some(text) = completed.texts.first()
                && channel == Channel::InlineCompletion
                && asked.selected.is_none()
            {
                prefetch(session, asked, text);
            }
            Some(completed)
        }
        Err(error) => {
            tracing::error!(%error, "a completion panicked; this is a bug, please report it");
            None
        }
    }
}
