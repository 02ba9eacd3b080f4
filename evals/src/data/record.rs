//! One JSON object kept as it was written: keys in order, values as their own text.
//!
//! Samples pass through the harness unchanged, with lone surrogates and numbers exactly as their author wrote them.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

#[derive(Debug, Clone)]
pub struct Record {
    fields: Vec<(String, Box<RawValue>)>,
}

impl Record {
    pub fn parse(line: &str) -> serde_json::Result<Self> {
        serde_json::from_str(line)
    }

    pub fn raw(&self, key: &str) -> Option<&RawValue> {
        self.fields.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_ref())
    }

    /// The value as Rust data, `None` when it is missing or of another type.
    pub fn get<'a, T: Deserialize<'a>>(&'a self, key: &str) -> Option<T> {
        serde_json::from_str(self.raw(key)?.get()).ok()
    }

    pub fn string(&self, key: &str) -> Option<String> {
        self.get(key)
    }

    pub fn has(&self, key: &str) -> bool {
        self.raw(key).is_some()
    }

    /// Replaces a value where it stands, or adds it at the end.
    pub fn set(&mut self, key: &str, value: Box<RawValue>) {
        match self.fields.iter_mut().find(|(name, _)| name == key) {
            Some((_, old)) => *old = value,
            None => self.fields.push((key.to_owned(), value)),
        }
    }

    /// One line, spaced as Python's `json.dumps` does it.
    pub fn to_line(&self) -> String {
        let mut line = String::from("{");
        for (index, (key, value)) in self.fields.iter().enumerate() {
            if index > 0 {
                line.push_str(", ");
            }
            line.push_str(&ascii_string(key));
            line.push_str(": ");
            line.push_str(value.get());
        }
        line.push('}');
        line
    }
}

/// A JSON string in ASCII, as Python's `json.dumps` writes it by default.
pub fn ascii_string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            ' '..='\u{7e}' => quoted.push(character),
            _ => {
                let mut units = [0; 2];
                for unit in character.encode_utf16(&mut units) {
                    quoted.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    quoted.push('"');
    quoted
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Record;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
                let mut record = Record { fields: Vec::new() };
                while let Some((key, value)) = map.next_entry::<String, Box<RawValue>>()? {
                    record.set(&key, value);
                }
                Ok(record)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &str) {
        let mut record = Record::parse(line).unwrap();
        record.set("passed", serde_json::value::to_raw_value(&true).unwrap());
        assert_eq!(record.to_line(), expected);
    }

    #[test]
    fn keeps_what_was_written() {
        check(r#"{"task_id": "a/0", "x": 1.50}"#, r#"{"task_id": "a/0", "x": 1.50, "passed": true}"#);
        check(r#"{"b":1,"a":2}"#, r#"{"b": 1, "a": 2, "passed": true}"#);
        check(r#"{"completion": "\ud800"}"#, r#"{"completion": "\ud800", "passed": true}"#);
        check(r#"{"passed": false, "é": null}"#, r#"{"passed": true, "\u00e9": null}"#);
        check(
            r#"{"n": 123456789012345678901234567890}"#,
            r#"{"n": 123456789012345678901234567890, "passed": true}"#,
        );
    }

    #[test]
    fn ascii_strings() {
        for (text, expected) in
            [("a\"\\\n", r#""a\"\\\n""#), ("é😀", r#""\u00e9\ud83d\ude00""#), ("\u{7f}", "\"\u{7f}\"")]
        {
            let expected = if text == "\u{7f}" { "\"\\u007f\"" } else { expected };
            assert_eq!(ascii_string(text), expected);
        }
    }
}
