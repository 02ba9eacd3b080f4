//! Why the engine had to compute more of a prompt than what was typed since the last one.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use lacuna_inference::{CacheMiss as Missed, RequestStats};
use serde::Serialize;

use super::prompt::Prompt;

/// Documents whose last prompt is remembered.
const REMEMBERED_DOCUMENTS: usize = 16;
/// Typing may respell the last word: so many tokens at the end of a prompt may differ from the one before.
const RESPELLED_TOKENS: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CacheMiss {
    /// Nothing was computed before.
    FirstRequest,
    /// Nothing was computed for this document lately.
    AnotherFile,
    /// Other definitions of other files are shown.
    ContextChanged,
    /// The text after the cursor is another one, or the cursor has moved.
    SuffixChanged,
    /// The shown text before the cursor begins elsewhere.
    WindowMoved,
    /// The text before the cursor was edited.
    PrefixEdited,
    /// The engine no longer had what it once computed.
    Evicted,
    /// The engine was stopped before it had computed what the last prompt begins with.
    NotComputed,
}

/// The last prompt of each document that the engine has computed, the latest first.
#[derive(Debug, Default)]
pub struct Prompts {
    last: Mutex<VecDeque<(String, Vec<u32>)>>,
}

impl Prompts {
    /// Takes note of a prompt and what it cost. Returns what kept its tokens from the cache; `None` when only those
    /// typed since were missing.
    pub fn note(&self, path: &str, prompt: &Prompt, stats: &RequestStats) -> Option<CacheMiss> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = last.is_empty();
        let before = last.iter().position(|(other, _)| other == path).and_then(|at| last.remove(at));
        last.push_front((path.to_string(), prompt.tokens.clone()));
        last.truncate(REMEMBERED_DOCUMENTS);
        let common = before.as_ref().map(|(_, before)| {
            before.iter().zip(&prompt.tokens).take_while(|(left, right)| left == right).count()
        });
        match stats.cache_miss(common) {
            Missed::None => None,
            Missed::NeverSeen if is_first => Some(CacheMiss::FirstRequest),
            Missed::NeverSeen => Some(CacheMiss::AnotherFile),
            Missed::Evicted { .. } => Some(CacheMiss::Evicted),
            Missed::NotComputed => Some(CacheMiss::NotComputed),
            Missed::Changed { at } => changed(before.map_or(0, |(_, before)| before.len()), prompt, at),
        }
    }
}

/// What differs from token `at` on, when the prompt before had `before` tokens.
fn changed(before: usize, prompt: &Prompt, at: usize) -> Option<CacheMiss> {
    if at + RESPELLED_TOKENS >= before.min(prompt.tokens.len()) {
        return None;
    }
    Some(if at < prompt.suffix.start.min(prompt.prefix.start) {
        CacheMiss::ContextChanged
    } else if at == prompt.prefix.start && !prompt.prefix.is_empty() {
        CacheMiss::WindowMoved
    } else if prompt.suffix.contains(&at) || at == prompt.suffix.end {
        CacheMiss::SuffixChanged
    } else {
        CacheMiss::PrefixEdited
    })
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use lacuna_inference::PromptStyle;

    use super::*;
    use crate::complete::prompt::Sections;

    /// Words are tokens; `|` stands before the suffix, `>` before the prefix.
    fn prompt(words: &str) -> Prompt {
        let tokens: Vec<u32> = words.bytes().filter(|byte| *byte != b' ').map(u32::from).collect();
        let at = |mark: u8| tokens.iter().position(|token| *token == u32::from(mark)).unwrap_or(0) + 1;
        let (suffix, prefix) = (at(b'|'), at(b'>'));
        let end = |start: usize, other: usize| if start < other { other - 1 } else { tokens.len() };
        let ranges: [Range<usize>; 2] = [suffix..end(suffix, prefix), prefix..end(prefix, suffix)];
        Prompt {
            style: PromptStyle::Fim,
            sections: Sections::default(),
            stop_tokens: Vec::new(),
            stop_texts: Vec::new(),
            suffix: ranges[0].clone(),
            prefix: ranges[1].clone(),
            literal: String::new(),
            rejoin: None,
            tokens,
        }
    }

    #[test]
    fn the_reason_is_where_the_prompts_part() {
        use CacheMiss::*;
        // the prompt before, the prompt, tokens from the cache, the reason
        let cases = [
            ("CCCCCC|ssssss>pppppp", "CCCCCC|ssssss>pppppptt", 20, None),
            ("CCCCCC|ssssss>pppppp", "CCCCCC|ssssss>pppppx", 19, None),
            ("CCCCCC|ssssss>pppppp", "CCCCCC|ssssss>pppp", 17, None),
            ("CCCCCC|ssssss>pppppp", "CCCCCC|ssssss>pppppptt", 0, Some(NotComputed)),
            ("CCCCCC|ssssss>pppppp", "CCCXXX|ssssss>pppppp", 3, Some(ContextChanged)),
            ("CCCCCC|ssssss>pppppp", "CCCCCC|tsssss>pppppp", 7, Some(SuffixChanged)),
            ("CCCCCC|ssssss>pppppp", "CCCCCC|ssstss>pppppp", 10, Some(SuffixChanged)),
            ("CCCCCC|ssssss>pppppp", "CCCCCC|sss>pppppp", 10, Some(SuffixChanged)),
            ("CCCCCC|ssssss>pppppp", "CCCCCC|ssssss>qppppp", 14, Some(WindowMoved)),
            ("CCCCCC|ssssss>pppppp", "CCCCCC|ssssss>pqpppp", 15, Some(PrefixEdited)),
            // Prefix first, the typed text last.
            ("CCCCCC>pppppp|ssssss!tttt", "CCCCCC>pppppp|ssssss!ttttttt", 25, None),
            ("CCCCCC>pppppp|ssssss!tttt", "CCCCCC>pppppp|sstsss!tttt", 16, Some(SuffixChanged)),
            ("CCCCCC>pppppp|ssssss!tttt", "CCCCCC>ppqppp|ssssss!tttt", 9, Some(PrefixEdited)),
            ("CCCCCC>pppppp|ssssss!tttt", "CCCCCC>qppppp|ssssss!tttt", 7, Some(WindowMoved)),
        ];
        let stats = |prompt: &Prompt, cached_tokens, evicted_tokens| RequestStats {
            prompt_tokens: prompt.tokens.len(),
            cached_tokens,
            evicted_tokens,
            ..RequestStats::default()
        };
        for (before, now, cached, expected) in cases {
            let prompts = Prompts::default();
            let (before, now) = (prompt(before), prompt(now));
            assert_eq!(prompts.note("a", &before, &stats(&before, 0, 0)), Some(FirstRequest));
            let name =
                String::from_utf8_lossy(&now.tokens.iter().map(|token| *token as u8).collect::<Vec<u8>>())
                    .into_owned();
            assert_eq!(prompts.note("a", &now, &stats(&now, cached, 0)), expected, "{name}");
            assert_eq!(prompts.note("b", &now, &stats(&now, 0, 0)), Some(AnotherFile));
            assert_eq!(prompts.note("a", &now, &stats(&now, 0, 16)), Some(Evicted));
        }
    }
}
