//! A user who types: keys one by one into the middle of a long file, a completion asked for at each.

use serde_json::Value;

use crate::client::Client;

pub const URI: &str = "file:///nowhere/typed.py";

/// Typed into the middle of the file. Brackets and quotes are closed behind the cursor, lines are indented, and closers
/// that stand there are typed over, as editors do.
pub const TYPED: &str = "def merge(first, second):\n    result = dict(first)\n    for key, value in second.items():\n\
    if key in result and isinstance(value, dict):\nresult[key] = merge(result[key], value)\nreturn result\nprint(merge(left, right))\n";
/// Keys of it that a replay presses.
pub const KEYS: usize = 200;

/// A file of so many lines in which no function is like another.
pub fn file(lines: usize) -> String {
    let function = |number: usize| {
        format!(
            "def step_{number}(value, factor={number}):\n    \"\"\"Step {number} of many.\"\"\"\n    \
             total_{number} = value * factor + {}\n    return total_{number}\n\n\n",
            number * 7 % 13
        )
    };
    (0..lines / 6).map(function).collect()
}

/// Types a key; returns the cursor's line and column after it.
pub async fn press(
    client: &Client,
    version: i32,
    (line, column): (u32, u32),
    rest: &mut String,
    key: char,
) -> (u32, u32) {
    let closer = match key {
        '(' => ")",
        '[' => "]",
        _ => "",
    };
    if rest.starts_with(key) && matches!(key, ')' | ']') {
        rest.remove(0);
        return (line, column + 1);
    }
    if key == '\n' {
        let indentation = 4 * (1 + u32::from(column > 30));
        let text = format!("\n{}", " ".repeat(indentation as usize));
        client.change(URI, version, [line, column, line, column], &text).await;
        return (line + 1, indentation);
    }
    rest.insert_str(0, closer);
    client.change(URI, version, [line, column, line, column], &format!("{key}{closer}")).await;
    (line, column + 1)
}

/// What a replay cost.
#[derive(Debug, Default)]
pub struct Replay {
    /// Of all prompts.
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
    /// From a request's turn to its first token, for each prompt.
    pub prefill_ms: Vec<f64>,
}

impl Replay {
    /// Adds what the last completion cost, unless no model was asked for it.
    pub async fn add(&mut self, client: &Client) {
        let explain = client.command("lacuna.explain").await;
        if explain["source"] == "model" {
            let count = |key: &str| explain.pointer(key).and_then(Value::as_u64).expect("a number");
            self.prompt_tokens += count("/promptTokens/total");
            self.cached_tokens += count("/cachedTokens");
            let prefill = explain.pointer("/milliseconds/prefill").and_then(Value::as_f64);
            self.prefill_ms.push(prefill.expect("a number"));
        }
    }
}

/// Opens a file of so many lines and types into its line `at`.
pub async fn replay(client: &Client, lines: usize, at: u32) -> Replay {
    client.open(URI, "python", &file(lines)).await;
    let mut cursor = (at, 0);
    client.change(URI, 2, [at, 0, at, 0], "\n").await;
    // The first completion reads the file; the keys are what is measured.
    client.inline(URI, cursor.0, cursor.1).await;
    let mut replay = Replay::default();
    let mut rest = String::new();
    assert!(TYPED.chars().count() >= KEYS);
    for (number, key) in TYPED.chars().take(KEYS).enumerate() {
        cursor = press(client, number as i32 + 3, cursor, &mut rest, key).await;
        client.inline(URI, cursor.0, cursor.1).await;
        replay.add(client).await;
    }
    replay
}
