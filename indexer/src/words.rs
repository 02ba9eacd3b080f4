//! Identifiers of a text by lexical scan: no parser, works on broken code, several hundred megabytes a second.

use rustc_hash::FxHashSet;

use crate::symbols::name_hash;

/// Different identifiers of one file that are kept.
const MAX_DISTINCT: usize = 16_384;

/// Hashes of the identifiers of `text`, sorted, each once; those of one letter are left out.
pub(crate) fn distinct_hashes(text: &str) -> Box<[u32]> {
    let mut seen = FxHashSet::default();
    for word in words(text).filter(|word| word.text.len() >= 2) {
        seen.insert(name_hash(word.text));
        if seen.len() >= MAX_DISTINCT {
            break;
        }
    }
    let mut hashes: Box<[u32]> = seen.into_iter().collect();
    hashes.sort_unstable();
    hashes
}

/// One identifier and what stands before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word<'a> {
    pub text: &'a str,
    pub start: usize,
    /// The identifier before a `.`, `::` or `->` that leads to this one; empty where the receiver is no plain name.
    pub qualifier: Option<&'a str>,
}

fn is_word_byte(byte: u8) -> bool {
    // Bytes of multi-byte characters count as letters: identifiers may be non-ASCII, and operators are not.
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

/// The identifiers of `text` in order. Numbers are not identifiers.
pub(crate) fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    let bytes = text.as_bytes();
    let mut position = 0;
    let mut previous: Option<(usize, usize)> = None;
    std::iter::from_fn(move || {
        loop {
            while position < bytes.len() && !is_word_byte(bytes[position]) {
                position += 1;
            }
            if position >= bytes.len() {
                return None;
            }
            let start = position;
            while position < bytes.len() && is_word_byte(bytes[position]) {
                position += 1;
            }
            if bytes[start].is_ascii_digit() {
                previous = None;
                continue;
            }
            let separator = match previous {
                Some((_, end)) => &bytes[end..start],
                None => &bytes[start.saturating_sub(2)..start],
            };
            let qualifier = match separator {
                b"." | b"::" | b"->" | b"?." | b"!." => {
                    Some(previous.and_then(|(from, to)| text.get(from..to)).unwrap_or(""))
                }
                other if other.ends_with(b".") || other.ends_with(b"::") || other.ends_with(b"->") => {
                    Some("")
                }
                _ => None,
            };
            previous = Some((start, position));
            // Slices at ASCII boundaries are always on character boundaries.
            if let Some(word) = text.get(start..position) {
                return Some(Word { text: word, start, qualifier });
            }
        }
    })
}

/// What stands before `::` in a text, each path once, as far as it is made of plain names: `a::b` of `a::b::C`, and
/// `a::b::C` where something follows that too.
pub(crate) fn paths(text: &str) -> Vec<&str> {
    let mut paths: Vec<&str> = Vec::new();
    for (end, _) in text.match_indices("::") {
        let head = &text[..end];
        let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
        let path = head[head.trim_end_matches(is_path).len()..].trim_start_matches(':');
        if !path.is_empty() && !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_what_stands_before_their_last_name() {
        assert_eq!(
            paths("a::b::C::new(x::y, a::b::d) ::e Vec::<u8>::new() é::f"),
            ["a", "a::b", "a::b::C", "x", "Vec", "é"]
        );
        assert!(paths(":: : a:b").is_empty());
    }

    #[test]
    fn words_carry_their_qualifier() {
        let found: Vec<_> =
            words("a.b(c)->d; x::Y 12ab f().g näme ..z").map(|word| (word.text, word.qualifier)).collect();
        assert_eq!(
            found,
            [
                ("a", None),
                ("b", Some("a")),
                ("c", None),
                ("d", Some("")),
                ("x", None),
                ("Y", Some("x")),
                ("f", None),
                ("g", Some("")),
                ("näme", None),
                ("z", Some("")),
            ]
        );
    }
}
