//! Which completion request of a document is the latest: a new one supersedes the one before it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use dashmap::DashMap;
use tokio::sync::oneshot;

/// The channels on which a document is asked; one does not supersede the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    InlineCompletion,
    Completion,
}

type Key = (String, Channel);

/// At most one live request for each document and channel.
#[derive(Debug, Clone, Default)]
pub struct InFlight {
    latest: Arc<DashMap<Key, Latest>>,
    next: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Latest {
    number: u64,
    /// Dropping it tells the request's [`Ticket`].
    _superseded: oneshot::Sender<()>,
}

/// Held by a running request; dropping it (answer sent, request cancelled) takes the request off the list.
#[derive(Debug)]
pub struct Ticket {
    list: InFlight,
    key: Key,
    number: u64,
    superseded: oneshot::Receiver<()>,
}

impl InFlight {
    /// Enters a request and supersedes the one before it. Never waits.
    pub fn enter(&self, uri: &str, channel: Channel) -> Ticket {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, superseded) = oneshot::channel();
        let key = (uri.to_string(), channel);
        self.latest.insert(key.clone(), Latest { number, _superseded: sender });
        Ticket { list: self.clone(), key, number, superseded }
    }

    /// Ends a document's requests: it was closed.
    pub fn forget(&self, uri: &str) {
        for channel in [Channel::InlineCompletion, Channel::Completion] {
            self.latest.remove(&(uri.to_string(), channel));
        }
    }

    pub fn count(&self) -> usize {
        self.latest.len()
    }
}

impl Ticket {
    /// Returns when a later request has taken this one's place.
    pub async fn superseded(&mut self) {
        // The sender is only ever dropped, so the error is the message.
        let _ = (&mut self.superseded).await;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.list.latest.remove_if(&self.key, |_, latest| latest.number == self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_latest_request_supersedes_and_leaves_nothing_behind() {
        let list = InFlight::default();
        let mut first = list.enter("file:///a", Channel::InlineCompletion);
        let other = list.enter("file:///b", Channel::InlineCompletion);
        let menu = list.enter("file:///a", Channel::Completion);
        assert_eq!(list.count(), 3);

        let second = list.enter("file:///a", Channel::InlineCompletion);
        first.superseded().await;
        drop(first);
        assert_eq!(list.count(), 3, "a superseded ticket does not remove its successor");
        drop((second, other, menu));
        assert_eq!(list.count(), 0);
    }

    #[tokio::test]
    async fn closing_a_document_ends_its_requests() {
        let list = InFlight::default();
        let mut ticket = list.enter("file:///a", Channel::InlineCompletion);
        list.forget("file:///a");
        ticket.superseded().await;
    }
}
