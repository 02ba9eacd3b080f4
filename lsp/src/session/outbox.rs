//! Everything the server says without being asked. No caller ever waits for the client: messages go through a
//! bounded queue, requests to the client run in tasks of their own with a time-out.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde_json::Value;
use tokio::sync::mpsc;
use tower_lsp::{
    Client,
    ls_types::{ConfigurationItem, MessageType, ProgressToken, Registration, notification::Notification},
};

/// Messages waiting for a client that does not read. More are dropped, with a line in the log.
const WAITING_MESSAGES: usize = 256;
/// Progress reports waiting; a report more or less is no loss.
const WAITING_REPORTS: usize = 8;
/// How long the client may take to answer a request.
const CLIENT_TIME_OUT: Duration = Duration::from_secs(10);

pub struct Outbox {
    client: Client,
    queue: mpsc::Sender<Message>,
    next_token: AtomicU64,
}

enum Message {
    Log(MessageType, String),
    Show(MessageType, String),
    Status(Value),
}

/// `lacuna/status`: the JSON of the command `lacuna.status`.
enum StatusNotification {}

impl Notification for StatusNotification {
    type Params = Value;
    const METHOD: &'static str = "lacuna/status";
}

/// A piece of long work shown in the editor; dropping it ends it.
#[derive(Debug, Clone)]
pub struct Progress {
    reports: mpsc::Sender<(String, u32)>,
}

impl Outbox {
    /// Must be called inside the runtime.
    pub fn new(client: Client) -> Self {
        let (queue, mut messages) = mpsc::channel(WAITING_MESSAGES);
        let sender = client.clone();
        tokio::spawn(async move {
            while let Some(message) = messages.recv().await {
                match message {
                    Message::Log(kind, text) => sender.log_message(kind, text).await,
                    Message::Show(kind, text) => sender.show_message(kind, text).await,
                    Message::Status(status) => sender.send_notification::<StatusNotification>(status).await,
                }
            }
        });
        Self { client, queue, next_token: AtomicU64::new(0) }
    }

    pub fn log(&self, kind: MessageType, text: String) {
        self.enqueue(Message::Log(kind, text));
    }

    pub fn show(&self, kind: MessageType, text: String) {
        self.enqueue(Message::Show(kind, text));
    }

    pub fn status(&self, status: Value) {
        self.enqueue(Message::Status(status));
    }

    fn enqueue(&self, message: Message) {
        if self.queue.try_send(message).is_err() {
            tracing::warn!("the client does not read its messages; one was dropped");
        }
    }

    /// Begins a piece of long work, if the client agrees to show it.
    pub fn progress(&self, title: &str, message: &str) -> Progress {
        let (reports, mut received) = mpsc::channel::<(String, u32)>(WAITING_REPORTS);
        let (client, title, message) = (self.client.clone(), title.to_string(), message.to_string());
        let number = self.next_token.fetch_add(1, Ordering::Relaxed);
        let token = ProgressToken::String(format!("lacuna/{number}"));
        tokio::spawn(async move {
            let created =
                tokio::time::timeout(CLIENT_TIME_OUT, client.create_work_done_progress(token.clone()));
            if !matches!(created.await, Ok(Ok(()))) {
                return;
            }
            let progress =
                client.progress(token, title).with_percentage(0).with_message(message).begin().await;
            while let Some((message, percentage)) = received.recv().await {
                progress.report_with_message(message, percentage).await;
            }
            progress.finish().await;
        });
        Progress { reports }
    }

    /// Registers capabilities at the client; a refusal is logged.
    pub fn register(&self, registrations: Vec<Registration>) {
        if registrations.is_empty() {
            return;
        }
        let client = self.client.clone();
        tokio::spawn(async move {
            match tokio::time::timeout(CLIENT_TIME_OUT, client.register_capability(registrations)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the client refused a registration"),
                Err(_) => tracing::warn!("the client did not answer a registration"),
            }
        });
    }

    /// Asks the client for its settings; `None` when it does not answer.
    pub async fn settings(&self) -> Option<Value> {
        let item = ConfigurationItem { scope_uri: None, section: Some(crate::config::SECTION.into()) };
        let asked = tokio::time::timeout(CLIENT_TIME_OUT, self.client.configuration(vec![item])).await;
        asked.ok()?.ok()?.into_iter().next()
    }
}

impl Progress {
    /// Never waits; a report that does not fit is dropped.
    pub fn report(&self, message: String, percentage: u32) {
        let _ = self.reports.try_send((message, percentage.min(100)));
    }
}
