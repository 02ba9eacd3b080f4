//! Identifiers of a text by lexical scan: no parser, works on broken code, several hundred megabytes a second.

use rustc_hash::{FxBuildHasher, FxHashSet};

use crate::symbols::name_hash;

/// Different identifiers of one file that are kept.
const MAX_DISTINCT: usize = 16_384;

/// Hashes of the identifiers of `text`, sorted, each once; those of one letter are left out.
pub(crate) fn distinct_hashes(text: &str) -> Box<[u32]> {
    let bytes = text.as_bytes();
    let mut seen = FxHashSet::with_capacity_and_hasher((text.len() / 64).min(MAX_DISTINCT), FxBuildHasher);
    let mut at = 0;
    while seen.len() < MAX_DISTINCT {
        while at < bytes.len() && !is_word(bytes[at]) {
            at += 1;
        }
        let start = at;
        while at < bytes.len() && is_word(bytes[at]) {
            at += 1;
        }
        if start == at {
            break;
        }
        if at - start >= 2
            && !bytes[start].is_ascii_digit()
            && let Some(word) = text.get(start..at)
        {
            seen.insert(name_hash(word));
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

/// Whether identifiers may consist of such bytes. Those of multi-byte characters count as letters: identifiers may be
/// non-ASCII, and operators are not.
pub(crate) fn is_word(byte: u8) -> bool {
    IS_WORD[byte as usize]
}

static IS_WORD: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = byte >= 0x80 || byte as u8 == b'_' || (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    table
};

/// The identifiers of `text` in order. Numbers are not identifiers.
pub(crate) fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    let bytes = text.as_bytes();
    let mut position = 0;
    let mut previous: Option<(usize, usize)> = None;
    std::iter::from_fn(move || {
        loop {
            while position < bytes.len() && !is_word(bytes[position]) {
                position += 1;
            }
            if position >= bytes.len() {
                return None;
            }
            let start = position;
            while position < bytes.len() && is_word(bytes[position]) {
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
