//! A small model with random weights that can only be asked by chat, as R1's distilled models can.

use std::{fs, path::Path};

/// What R1's own template does with one user message: it opens the thinking.
const TEMPLATE: &str = "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}\
    <｜User｜>{{ message['content'] }}{% endif %}{% endfor %}\
    {% if add_generation_prompt %}<｜Assistant｜><think>\n{% endif %}";
const ALIGNMENT: usize = 32;
const STRING: u32 = 8;

/// Writes the recorded tiny model to `path` with a chat template, and with its fill-in-the-middle tokens renamed.
pub fn write(path: &Path) {
    let recorded =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../inference/tests/reference/recorded/qwen2-tied.gguf");
    let bytes = fs::read(recorded).expect("the recorded model");
    let mut bytes = rename(bytes, b"<|fim_", b"<|nim_");
    // GGUF: magic, version, tensor count, key count, then the keys. A key of a length that keeps the data's alignment
    // moves everything behind it and changes nothing else.
    let count = u64::from_le_bytes(bytes[16..24].try_into().expect("eight bytes"));
    bytes[16..24].copy_from_slice(&(count + 1).to_le_bytes());
    let entry = |template: &str| {
        let name = "tokenizer.chat_template";
        let mut entry = (name.len() as u64).to_le_bytes().to_vec();
        entry.extend(name.as_bytes());
        entry.extend(STRING.to_le_bytes());
        entry.extend((template.len() as u64).to_le_bytes());
        entry.extend(template.as_bytes());
        entry
    };
    let padding = entry(TEMPLATE).len().next_multiple_of(ALIGNMENT) - entry(TEMPLATE).len();
    let comment = format!("{{#{}#}}", " ".repeat(padding + ALIGNMENT - 4));
    bytes.splice(24..24, entry(&(comment + TEMPLATE)));
    fs::write(path, bytes).expect("a file");
}

fn rename(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    let places: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|&at| bytes[at..].starts_with(from)).collect();
    assert!(!places.is_empty(), "the model has what is renamed");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
    bytes
}
