//! The loop between a client's bytes and the service: one message after another is read, handed over, and answered.
//!
//! tower-lsp's own loop ends at the first message that it cannot read; this one answers it with an error and goes on.

use std::{any::Any, panic::AssertUnwindSafe, task::Poll, time::Duration};

use futures_util::{FutureExt, Sink, SinkExt, Stream, StreamExt, future, stream::FuturesUnordered};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
};
use tower_lsp::{
    ClientSocket, LanguageServer, LspService,
    jsonrpc::{Error, Id, Request, Response},
};
use tower_service::Service;

use super::framing::{Decoder, Frame, encode};
use crate::engine_slot::panic_text;

/// Requests and notifications handled at the same time. Edits and cancellations share these places with waiting
/// completions, so there must be far more than documents that ask at once.
const CONCURRENCY: usize = 512;
/// Messages that wait to be written. Behind a client that does not read, the server stops reading too.
const OUTGOING: usize = 256;
/// How long requests still running when the input ends may take to be answered.
const FAREWELL: Duration = Duration::from_millis(300);
const READ_BYTES: usize = 64 << 10;

/// Serves until the client says `exit` or its end of the pipe closes.
pub async fn serve<S: LanguageServer>(
    input: impl AsyncRead + Unpin,
    output: impl AsyncWrite,
    service: LspService<S>,
    socket: ClientSocket,
) {
    let (requests, responses) = socket.split();
    let (outgoing, queued) = mpsc::channel(OUTGOING);
    let reading = read(input, service, responses, outgoing);
    let writing = write(output, queued, requests);
    tokio::pin!(reading, writing);
    // What was answered before the end is still written, if the client takes it.
    tokio::select! {
        () = &mut reading => { let _ = tokio::time::timeout(FAREWELL, writing).await; }
        () = &mut writing => tracing::info!("the client takes no more output"),
    }
}

async fn read<S: LanguageServer>(
    mut input: impl AsyncRead + Unpin,
    mut service: LspService<S>,
    mut responses: impl Sink<Response> + Unpin,
    outgoing: mpsc::Sender<Vec<u8>>,
) {
    let mut decoder = Decoder::default();
    let mut bytes = vec![0; READ_BYTES];
    let mut running = FuturesUnordered::new();
    loop {
        while let Some(frame) = decoder.next_frame() {
            let request = match understand(frame) {
                Understood::Request(request) => request,
                Understood::Response(response) => {
                    if responses.send(response).await.is_err() {
                        return;
                    }
                    continue;
                }
                Understood::Nothing(answer) => {
                    send(&outgoing, &answer).await;
                    continue;
                }
            };
            let is_exit = request.method() == "exit";
            // The service takes nothing while `initialize` runs, and at most so many at once.
            loop {
                let is_ready = running.len() < CONCURRENCY;
                tokio::select! {
                    ready = future::poll_fn(|context| service.poll_ready(context)), if is_ready => {
                        if ready.is_err() {
                            return;
                        }
                        break;
                    }
                    Some(answer) = running.next() => answered(&outgoing, answer).await,
                }
            }
            let id = request.id().cloned();
            let mut call = AssertUnwindSafe(service.call(request))
                .catch_unwind()
                .map(move |called| {
                    called.map_or_else(|panic| panicked(id, &*panic), Result::unwrap_or_default)
                })
                .boxed();
            // Polled at once, in the order of arrival: an edit is applied before the next message is looked at.
            match future::poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await {
                Poll::Ready(answer) => answered(&outgoing, answer).await,
                Poll::Pending => running.push(call),
            }
            if is_exit {
                return;
            }
        }
        tokio::select! {
            read = input.read(&mut bytes) => match read {
                Ok(0) | Err(_) => break,
                Ok(count) => decoder.push(&bytes[..count]),
            },
            Some(answer) = running.next() => answered(&outgoing, answer).await,
        }
    }
    tracing::info!("the input has ended");
    let _ = tokio::time::timeout(FAREWELL, async {
        while let Some(answer) = running.next().await {
            answered(&outgoing, answer).await;
        }
    })
    .await;
}

/// What a frame is to the server.
enum Understood {
    Request(Request),
    Response(Response),
    /// No message: the answer says so.
    Nothing(Response),
}

fn understand(frame: Frame) -> Understood {
    let body = match frame {
        Frame::Body(body) => body,
        Frame::Unreadable(problem) => return refuse(Id::Null, Error::parse_error(), problem),
    };
    // A response has no method, which reads as an empty one; it is much rarer than a request.
    let problem = match serde_json::from_slice::<Request>(&body) {
        Ok(request) if !request.method().is_empty() => return Understood::Request(request),
        Ok(_) => "there is no method".to_string(),
        Err(problem) => problem.to_string(),
    };
    if let Ok(response) = serde_json::from_slice::<Response>(&body) {
        return Understood::Response(response);
    }
    match serde_json::from_slice::<Value>(&body) {
        Err(problem) => refuse(Id::Null, Error::parse_error(), problem.to_string()),
        Ok(value) => {
            let id =
                value.get("id").and_then(|id| serde_json::from_value(id.clone()).ok()).unwrap_or(Id::Null);
            refuse(id, Error::invalid_request(), problem)
        }
    }
}

fn refuse(id: Id, mut error: Error, problem: String) -> Understood {
    tracing::warn!("a message could not be read: {problem}");
    error.data = Some(problem.into());
    Understood::Nothing(Response::from_error(id, error))
}

/// A panic ends one request, not the server.
fn panicked(id: Option<Id>, panic: &(dyn Any + Send)) -> Option<Response> {
    let text = panic_text(panic);
    tracing::error!("a handler panicked: {text}");
    let mut error = Error::internal_error();
    error.data = Some(format!("{text}; please report this").into());
    Some(Response::from_error(id?, error))
}

async fn answered(outgoing: &mpsc::Sender<Vec<u8>>, answer: Option<Response>) {
    if let Some(response) = answer {
        send(outgoing, &response).await;
    }
}

async fn send(outgoing: &mpsc::Sender<Vec<u8>>, response: &Response) {
    match serde_json::to_vec(response) {
        // Nobody takes it once the client's end is closed; reading notices that by itself.
        Ok(body) => drop(outgoing.send(body).await),
        Err(problem) => tracing::error!("an answer could not be written as JSON: {problem}"),
    }
}

/// Writes answers, and the server's own requests and notifications, until nobody can send more or the client's end is
/// closed.
async fn write(
    output: impl AsyncWrite,
    mut queued: mpsc::Receiver<Vec<u8>>,
    mut requests: impl Stream<Item = Request> + Unpin,
) {
    tokio::pin!(output);
    loop {
        let body = tokio::select! {
            body = queued.recv() => match body {
                Some(body) => body,
                None => return,
            },
            Some(request) = requests.next() => match serde_json::to_vec(&request) {
                Ok(body) => body,
                Err(problem) => {
                    tracing::error!("a message could not be written as JSON: {problem}");
                    continue;
                }
            },
        };
        if output.write_all(&encode(&body)).await.is_err() || output.flush().await.is_err() {
            return;
        }
    }
}
