//! Where to cut tokens that end inside a word, so that the model may choose another token for it.

use crate::tokenizer::Tokenizer;

/// Tokens taken back at most: each may cost a step to spell again.
const MOST_TOKENS: usize = 4;

/// Tokens before the cursor, cut where more typing would not have moved the cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healed<'a> {
    /// What the prompt should end with.
    pub kept: &'a [u32],
    /// Text of the tokens taken back, for [`crate::Constraint::literal`]; empty when there are none.
    pub literal: String,
}

impl Tokenizer {
    /// Backs up over the tokens of an unfinished word at the end of `ids`.
    ///
    /// Text that ends in a letter, a digit or `_` may end inside a word, and the tokens of `schedul` are not the
    /// first tokens of `scheduler`. So the last token is taken back, and further ones while the cut is between two
    /// letters or two digits, where no pre-tokenizer would cut: at most four. Other endings are left alone. Special
    /// tokens are never taken back, and the bytes of a character that tokens split stay together.
    pub fn heal<'a>(&self, ids: &'a [u32]) -> Healed<'a> {
        let mut healed = Healed { kept: ids, literal: String::new() };
        let mut taken: Vec<u8> = Vec::new();
        for at in (ids.len().saturating_sub(MOST_TOKENS)..ids.len()).rev() {
            if self.special_spelling(ids[at]).is_some() {
                break;
            }
            taken.splice(0..0, self.token_bytes(ids[at]).iter().copied());
            let Ok(text) = std::str::from_utf8(&taken) else { continue };
            if !text.ends_with(|last: char| last.is_alphanumeric() || last == '_') {
                break;
            }
            healed = Healed { kept: &ids[..at], literal: text.to_string() };
            // A character is in four tokens at most.
            let before = ids[at.saturating_sub(4)..at].iter().flat_map(|id| self.token_bytes(*id)).copied();
            let before = last_character(&before.collect::<Vec<u8>>());
            let inside = |kind: fn(char) -> bool| before.is_some_and(kind) && text.starts_with(kind);
            if !inside(char::is_alphabetic) && !inside(char::is_numeric) {
                break;
            }
        }
        healed
    }
}

/// The character that `bytes` end with; they may begin inside another one.
fn last_character(bytes: &[u8]) -> Option<char> {
    (1..=bytes.len().min(4))
        .find_map(|length| std::str::from_utf8(&bytes[bytes.len() - length..]).ok())
        .and_then(|text| text.chars().next_back())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::{Model, ModelSource};

    #[test]
    fn backs_up_to_where_words_are_cut() {
        let model = Model::open(&ModelSource::Embedded).unwrap();
        let tokenizer = model.tokenizer();
        for (text, expected) in [
            ("let x = schedul", " schedul"),
            ("self.na", ".na"),
            ("self.", ""),
            ("if x {\n    ", ""),
            ("foo(", ""),
            ("a_b", "_b"),
            ("aïv", "aïv"),
            ("def", "def"),
            ("x = 12", "12"),
            ("", ""),
        ] {
            let ids = tokenizer.encode(text);
            let healed = tokenizer.heal(&ids);
            assert_eq!(healed.literal, expected, "{text:?}");
            assert_eq!(tokenizer.decode(healed.kept) + expected, text);
        }
        let special = model.fim().unwrap().stop_tokens()[0];
        let ids = [vec![special], tokenizer.encode("nam")].concat();
        assert_eq!(tokenizer.heal(&ids).kept, [special]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn nothing_is_lost(text in "[a-zA-Z0-9_. é語\\n(🦀]{0,30}") {
            let model = Model::open(&ModelSource::Embedded).unwrap();
            let tokenizer = model.tokenizer();
            let ids = tokenizer.encode(&text);
            let healed = tokenizer.heal(&ids);
            prop_assert!(healed.kept.len() + 4 >= ids.len());
            prop_assert_eq!(tokenizer.decode(healed.kept) + &healed.literal, text);
        }
    }
}
