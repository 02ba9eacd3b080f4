//! Whatever bytes a client sends, the server tells what it cannot read and goes on serving.

use std::time::Duration;

use lacuna_tests::{
    client::{Client, inline_capabilities, inline_params},
    random::Random,
    scripted::Scripted,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const URI: &str = "file:///nowhere/file.py";
const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;

async fn started() -> Client {
    let client = Client::in_memory(Scripted::says("1"));
    client.initialize(&[], Value::Null, inline_capabilities()).await;
    client.ready(0).await;
    client.open(URI, "python", "x = \ny = \n").await;
    client
}

fn framed(body: &[u8]) -> Vec<u8> {
    [format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_answered_and_ends_nothing() {
    let client = started().await;
    for (bytes, code) in [
        (framed(b"{this is not JSON"), PARSE_ERROR),
        (framed(b""), PARSE_ERROR),
        (framed(b"\xff\xfe{}"), PARSE_ERROR),
        (framed(b"[]"), INVALID_REQUEST),
        (framed(b"7"), INVALID_REQUEST),
        (framed(b"{\"jsonrpc\":\"2.0\"}"), INVALID_REQUEST),
        (framed(b"{\"jsonrpc\":\"2.0\",\"id\":\"seven\",\"method\":7}"), INVALID_REQUEST),
        (framed(b"{\"jsonrpc\":\"1.0\",\"id\":\"old\",\"method\":\"shutdown\"}"), INVALID_REQUEST),
        (b"no header at all\r\n\r\n".to_vec(), PARSE_ERROR),
        (b"Content-Length: -3\r\n\r\n".to_vec(), PARSE_ERROR),
        (b"Content-Type: text/plain\r\n\r\n".to_vec(), PARSE_ERROR),
        // Its header promises less than it has.
        (b"Content-Length: 4\r\n\r\n{\"a\":1}\r\n".to_vec(), PARSE_ERROR),
    ] {
        let before = client.refusals().len();
        client.send_bytes(&bytes).await;
        assert_eq!(client.inline(URI, 0, 4).await, ["1"], "after {}", String::from_utf8_lossy(&bytes));
        let refusals = client.refusals();
        let codes: Vec<_> =
            refusals[before..].iter().map(|refusal| refusal["error"]["code"].clone()).collect();
        assert_eq!(codes.first(), Some(&json!(code)), "{}: {refusals:?}", String::from_utf8_lossy(&bytes));
    }
    let with_id: Vec<_> =
        client.refusals().iter().map(|refusal| refusal["id"].clone()).filter(|id| !id.is_null()).collect();
    assert_eq!(with_id, ["seven", "old"], "a request that can be told by its number is answered by it");
    client.shut_down().await;
}

/// Messages with some of their bytes changed, cut out or doubled, in frames of the right length.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_messages_end_nothing() {
    let client = started().await;
    let messages: Vec<Vec<u8>> = [
        json!({ "jsonrpc": "2.0", "id": "a", "method": "textDocument/inlineCompletion", "params": inline_params(URI, 0, 4, 1) }),
        json!({ "jsonrpc": "2.0", "id": "b", "method": "textDocument/completion", "params": { "textDocument": { "uri": URI }, "position": { "line": 1, "character": 2 } } }),
        json!({ "jsonrpc": "2.0", "method": "textDocument/didChange", "params": { "textDocument": { "uri": "file:///other.py", "version": 2 }, "contentChanges": [{ "range": { "start": { "line": 0, "character": 1 }, "end": { "line": 1, "character": 0 } }, "text": "z" }] } }),
        json!({ "jsonrpc": "2.0", "method": "textDocument/didOpen", "params": { "textDocument": { "uri": "file:///other.py", "languageId": "python", "version": 1, "text": "a = 1\nb = 2\n" } } }),
        json!({ "jsonrpc": "2.0", "id": "c", "method": "workspace/executeCommand", "params": { "command": "lacuna.status", "arguments": [] } }),
        json!({ "jsonrpc": "2.0", "method": "workspace/didChangeConfiguration", "params": { "settings": { "lacuna": { "maxTokens": 20 } } } }),
        json!({ "jsonrpc": "2.0", "method": "$/cancelRequest", "params": { "id": "a" } }),
    ]
    .iter()
    .map(|message| message.to_string().into_bytes())
    .collect();
    let mut random = Random(0x1234_5678_9ABC_DEF1);
    for round in 0..2000 {
        let mut body = messages[random.below(messages.len())].clone();
        for _ in 0..1 + random.below(3) {
            let at = random.below(body.len().max(2) - 1);
            match random.below(4) {
                0 => body[at] = random.below(256) as u8,
                1 => drop(body.remove(at)),
                2 => body.insert(at, b"{}[]\":,09"[random.below(9)]),
                _ => body.truncate(at.max(2)),
            }
        }
        let is_harmless = !String::from_utf8_lossy(&body).contains("\"exit\"");
        assert!(is_harmless, "no damage makes an `exit` of these");
        client.send_bytes(&framed(&body)).await;
        if round % 100 == 99 {
            let status = client.command("lacuna.status").await;
            assert!(status["state"] == "ready" || status["state"] == "busy", "round {round}: {status}");
        }
    }
    client.shut_down().await;
}

/// Streams of bytes in which the headers are damaged too: the server ends when its input does, and not in a panic.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_streams_end_with_their_input() {
    let mut random = Random(0xFEDC_BA98_7654_3210);
    let initialize =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": { "capabilities": {} } });
    let status = json!({ "jsonrpc": "2.0", "id": 2, "method": "workspace/executeCommand", "params": { "command": "lacuna.status" } });
    let backend = Scripted::says("1");
    for round in 0..200 {
        let mut bytes = framed(initialize.to_string().as_bytes());
        for _ in 0..4 {
            bytes.extend(framed(status.to_string().as_bytes()));
        }
        for _ in 0..1 + random.below(6) {
            let at = random.below(bytes.len());
            match random.below(3) {
                0 => bytes[at] = random.below(256) as u8,
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, random.below(256) as u8),
            }
        }
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (input, output) = tokio::io::split(theirs);
        let backend = backend.clone();
        let opener = std::sync::Arc::new(move |_: &lacuna::config::Config| {
            Ok(std::sync::Arc::new(backend.clone()) as std::sync::Arc<dyn lacuna_inference::Backend>)
        });
        let serving = tokio::spawn(lacuna::server::serve(input, output, opener, None));
        let (mut answers, mut questions) = tokio::io::split(ours);
        let reading = tokio::spawn(async move {
            let mut all = Vec::new();
            let _ = answers.read_to_end(&mut all).await;
        });
        let _ = questions.write_all(&bytes).await;
        let _ = questions.shutdown().await;
        let ended = tokio::time::timeout(Duration::from_secs(60), serving).await;
        assert!(
            matches!(ended, Ok(Ok(_))),
            "round {round}: {ended:?} after {}",
            String::from_utf8_lossy(&bytes)
        );
        reading.abort();
    }
}
