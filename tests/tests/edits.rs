//! Ten thousand random edits interleaved with completions: the server's text never diverges from a plain string, nothing
//! panics, and every request is answered.

use std::time::Duration;

use lacuna_inference::Priority;
use lacuna_tests::{
    client::{Client, Pending, inline_capabilities},
    random::Random,
    scripted::{Script, Scripted},
};
use serde_json::{Value, json};

const EDITS: usize = 10_000;
const URI: &str = "file:///nowhere/random.py";
const PIECES: [&str; 14] = [
    "x",
    "name",
    " = ",
    "(",
    ")",
    "\n",
    "\r\n",
    "\n    ",
    "def f(a):\n    return a\n",
    "é",
    "漢字",
    "😀",
    "'",
    "",
];
/// Larger texts are cut down again, so that the test's own bookkeeping stays quick.
const LARGEST_TEXT: usize = 4000;

/// The test's own idea of positions: lines split at CRLF, LF and CR, columns in UTF-16 or UTF-8 units.
fn position(text: &str, offset: usize, unit: fn(char) -> usize) -> (u32, u32) {
    let (mut line, mut column) = (0, 0);
    let mut characters = text[..offset].chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\r' if characters.peek() == Some(&'\n') => {}
            '\n' | '\r' => (line, column) = (line + 1, 0),
            other => column += unit(other) as u32,
        }
    }
    (line, column)
}

fn boundary(text: &str, mut at: usize) -> usize {
    // Nor between the two characters of a line break: no editor has a position there.
    while !text.is_char_boundary(at) || text[..at].ends_with('\r') && text[at..].starts_with('\n') {
        at -= 1;
    }
    at
}

async fn run(encoding: &str, unit: fn(char) -> usize) {
    let backend = Scripted::says("value\n    and = more\n");
    let client = Client::in_memory(backend.clone());
    let mut capabilities = inline_capabilities();
    capabilities["general"]["positionEncodings"] = json!([encoding]);
    client.initialize(&[], json!({ "logLevel": "error" }), capabilities).await;
    client.ready(0).await;
    let mut text = String::new();
    client.open(URI, "python", &text).await;
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut pending: Vec<Pending> = Vec::new();
    let mut asked = 0;
    for number in 0..EDITS {
        let start = boundary(&text, random.below(text.len() + 1));
        // Fewer bytes go than come, on average, so that the text grows until it is cut down.
        let longest = if text.len() > LARGEST_TEXT { 2000 } else { 6 };
        let end = boundary(&text, (start + random.below(longest)).min(text.len())).max(start);
        let piece = PIECES[random.below(PIECES.len())];
        let (from, to) = (position(&text, start, unit), position(&text, end, unit));
        text.replace_range(start..end, piece);
        client.change(URI, number as i32 + 2, [from.0, from.1, to.0, to.1], piece).await;

        if random.below(10) == 0 {
            let (line, column) = position(&text, boundary(&text, random.below(text.len() + 1)), unit);
            let one = client.start_inline(URI, line, column).await;
            if random.below(4) == 0 {
                client.cancel(one.id).await;
            }
            pending.push(one);
            asked += 1;
            // Most are superseded before the model is asked; some get the time that they need.
            if random.below(4) == 0 {
                answered(&mut pending).await;
            }
        }
        if random.below(200) == 0 {
            backend.set(match random.below(4) {
                0 => Script::Dawdles(Duration::from_millis(1)),
                1 => Script::Fails,
                2 => Script::Panics,
                _ => Script::Says("value\n    and = more\n".into()),
            });
        }
        if number % 500 == 499 {
            answered(&mut pending).await;
            compare(&client, &backend, &mut text, unit, number as i32 + 3).await;
        }
    }
    println!("{encoding}: {EDITS} edits, {asked} completions, {} reached the model", backend.requests());
    assert_eq!(client.unanswered(), 0);
    client.shut_down().await;
}

async fn answered(pending: &mut Vec<Pending>) {
    for pending in pending.drain(..) {
        let answer = pending.answer().await;
        assert!(answer.get("result").is_some() || answer["error"]["code"] == -32800, "{answer}");
    }
}

/// The server's text is what a prompt over all of it shows: ask at the end of a word put in the middle.
async fn compare(
    client: &Client,
    backend: &Scripted,
    text: &mut String,
    unit: fn(char) -> usize,
    version: i32,
) {
    backend.set(Script::Says("1".into()));
    let middle = boundary(text, text.len() / 2);
    let (line, column) = position(text, middle, unit);
    text.insert_str(middle, "\nprobe = ");
    client.change(URI, version, [line, column, line, column], "\nprobe = ").await;
    let at = middle + "\nprobe = ".len();
    let (line, column) = position(text, at, unit);
    let mut params = lacuna_tests::client::inline_params(URI, line, column, 1);
    params["context"]["triggerKind"] = Value::from(1);
    let before = backend.requests();
    client.request("textDocument/inlineCompletion", params).await;
    assert!(backend.requests() > before, "the model was asked");
    // The tail of the prefix that every budget holds, and all of the suffix's beginning. A request that was given up
    // may reach the model after this one, with an older text.
    let tail = &text[boundary(text, at.saturating_sub(300))..at];
    let asked = backend.requests_of(Priority::Interactive);
    let prompts: Vec<String> = asked[before..].iter().map(|request| backend.prompt(request)).collect();
    let prompt = prompts.iter().find(|prompt| prompt.contains(tail));
    let prompt = prompt.unwrap_or_else(|| {
        panic!("the server's text differs before the cursor:\n{tail:?}\n{prompts:?}");
    });
    // The prompt leaves out brackets and quotes that the editor may have closed right behind the cursor; whether they
    // count as such depends on the cursors before, and so on which requests were answered in time.
    let head = &text[at..boundary(text, (at + 100).min(text.len()))];
    let first_lines: String = head.split_inclusive('\n').take(2).collect();
    let behind_closed = first_lines.trim_start_matches([')', '\'']);
    assert!(
        prompt.contains(behind_closed),
        "the server's text differs after the cursor:\n{head:?}\n{prompt:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_edits_in_utf_16() {
    run("utf-16", char::len_utf16).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_edits_in_utf_8() {
    run("utf-8", char::len_utf8).await;
}
