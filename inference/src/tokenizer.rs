//! The model's own vocabulary and merges, through the `tokenizers` crate.
//!
//! Text is always ordinary text here: a file that spells out `<|endoftext|>` cannot end a prompt. Only
//! [`Tokenizer::encode_with_special`] recognises such spellings, for rendered chat templates.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tokenizers::{
    ModelWrapper, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer as HfTokenizer,
    models::bpe::BPE,
    pre_tokenizers::{
        byte_level::ByteLevel,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
};

use crate::{
    token_bytes::{TokenBytes, TokenKind},
    weights::{Gguf, ModelError, Value},
};

/// How text is cut into words before merging, by the name that GGUF files give it (`tokenizer.ggml.pre`).
/// Source: the `tokenizer.json` of each family.
struct PreTokenizer {
    names: &'static [&'static str],
    splits: &'static [&'static str],
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK_V3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

const PRE_TOKENIZERS: &[PreTokenizer] = &[
    PreTokenizer { names: &["qwen2", "deepseek-r1-qwen"], splits: &[QWEN2] },
    PreTokenizer { names: &["llama-bpe", "llama3", "llama-v3"], splits: &[LLAMA3] },
    PreTokenizer {
        names: &["deepseek-v3"], splits: &[r"\p{N}{1,3}", r"[一-龥぀-ゟ゠-ヿ]+", DEEPSEEK_V3]
    },
    PreTokenizer {
        names: &["deepseek-coder"],
        splits: &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}"],
    },
    PreTokenizer {
        names: &["starcoder", "refact", "command-r", "smollm", "codeshell"],
        splits: &[r"\p{N}", GPT2],
    },
    PreTokenizer { names: &["default", "gpt-2", "gpt2"], splits: &[GPT2] },
];

/// Encodes text to token ids and decodes them. Cheap to clone.
#[derive(Clone)]
pub struct Tokenizer {
    inner: Arc<Inner>,
}

struct Inner {
    bpe: HfTokenizer,
    bytes: TokenBytes,
    /// Control and user-defined tokens by spelling, longest first.
    special: Vec<(String, u32)>,
    ids: FxHashMap<String, u32>,
    add_bos: bool,
    bos: Option<u32>,
    eos: Option<u32>,
}

/// GGUF's token types: 1 is an ordinary token, 6 a raw byte.
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;

impl Tokenizer {
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, ModelError> {
        let broken = |detail: String| ModelError::Tokenizer { name: gguf.name().into(), detail };
        let kind = gguf.require_string("tokenizer.ggml.model")?;
        if kind != "gpt2" {
            return Err(broken(format!(
                "`{kind}` vocabularies are not supported, only byte-level BPE (`gpt2`); use another model"
            )));
        }
        let array = |key: &str| gguf.get(key).and_then(Value::as_array).ok_or_else(|| gguf.missing(key));
        let tokens = array("tokenizer.ggml.tokens")?;
        let types = array("tokenizer.ggml.token_type").unwrap_or(&[]);
        let mut vocabulary = tokenizers::models::bpe::Vocab::default();
        let mut ids = FxHashMap::default();
        let mut special = Vec::new();
        let mut bytes = TokenBytes::default();
        let byte_of = byte_alphabet();
        for (id, token) in tokens.iter().enumerate() {
            let spelling = token.as_str().ok_or_else(|| broken(format!("token {id} is not a string")))?;
            let id = id as u32;
            let kind = types.get(id as usize).and_then(Value::as_u64).unwrap_or(1);
            if matches!(kind, CONTROL | USER_DEFINED) {
                special.push((spelling.to_string(), id));
                let shown = if kind == USER_DEFINED { spelling } else { "" };
                bytes.push(shown.as_bytes(), TokenKind::Special);
            } else {
                let mut spelled = Vec::with_capacity(spelling.len());
                for character in spelling.chars() {
                    match byte_of.get(&character) {
                        Some(byte) => spelled.push(*byte),
                        None => spelled.extend(character.to_string().as_bytes()),
                    }
                }
                bytes.push(&spelled, TokenKind::Ordinary);
            }
            ids.entry(spelling.to_string()).or_insert(id);
            vocabulary.entry(spelling.to_string()).or_insert(id);
        }
        special.sort_by_key(|(spelling, _)| std::cmp::Reverse(spelling.len()));
        let mut merges = Vec::new();
        for merge in array("tokenizer.ggml.merges")? {
            let pair = merge.as_str().and_then(|merge| {
                // A merged token may itself start with a space in some converters; the separator is never first.
                let at = merge.char_indices().skip(1).find(|(_, c)| *c == ' ')?.0;
                Some((merge[..at].to_string(), merge[at + 1..].to_string()))
            });
            merges.push(pair.ok_or_else(|| broken(format!("merge {merge:?} is not a pair")))?);
        }
        let bpe = BPE::builder().vocab_and_merges(vocabulary, merges).build();
        let bpe = bpe.map_err(|error| broken(format!("the merges do not fit the vocabulary: {error}")))?;
        let mut bpe = HfTokenizer::new(ModelWrapper::BPE(bpe));
        bpe.with_pre_tokenizer(Some(pre_tokenizer(gguf)?));
        let id_key = |key: &str| gguf.usize(key).and_then(|id| u32::try_from(id).ok());
        let known = |id: &u32| (*id as usize) < tokens.len();
        let inner = Inner {
            bpe,
            bytes,
            special,
            ids,
            add_bos: gguf.get("tokenizer.ggml.add_bos_token").and_then(Value::as_bool).unwrap_or(false),
            bos: id_key("tokenizer.ggml.bos_token_id").filter(known),
            eos: id_key("tokenizer.ggml.eos_token_id").filter(known),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Encodes plain text; special-token spellings inside it stay ordinary text.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        // Byte-level BPE has a token for every byte, so encoding fails only on a vocabulary without them; such text
        // is left out rather than ending the request.
        match self.inner.bpe.encode_fast(text, false) {
            Ok(encoding) => encoding.get_ids().to_vec(),
            Err(error) => {
                tracing::warn!(%error, "text could not be encoded");
                Vec::new()
            }
        }
    }

    /// As [`Self::encode`], with special-token spellings recognised: for rendered chat templates.
    pub fn encode_with_special(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let found = self.inner.special.iter().filter_map(|(spelling, id)| {
                rest.find(spelling.as_str()).map(|at| (at, std::cmp::Reverse(spelling.len()), *id))
            });
            let Some((at, length, id)) = found.min() else {
                ids.extend(self.encode(rest));
                break;
            };
            ids.extend(self.encode(&rest[..at]));
            ids.push(id);
            rest = &rest[at + length.0..];
        }
        ids
    }

    /// The text of `ids`; control tokens are left out, invalid UTF-8 becomes U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| self.token_bytes(*id)).copied().collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The bytes of one token (byte-level vocabularies split characters); empty for control tokens and unknown ids.
    pub fn token_bytes(&self, id: u32) -> &[u8] {
        self.inner.bytes.get(id)
    }

    /// The bytes of all tokens, for lookups by prefix.
    pub(crate) fn vocabulary(&self) -> &TokenBytes {
        &self.inner.bytes
    }

    /// The id of a token spelled exactly so, special ones included.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.ids.get(token).copied()
    }

    /// The spelling of a control or user-defined token.
    pub fn special_spelling(&self, id: u32) -> Option<&str> {
        self.inner.special.iter().find(|(_, special)| *special == id).map(|(spelling, _)| spelling.as_str())
    }

    pub fn special_tokens(&self) -> &[(String, u32)] {
        &self.inner.special
    }

    pub fn vocabulary_size(&self) -> usize {
        self.inner.bytes.len()
    }

    /// The beginning-of-sequence token, when prompts of this model start with one.
    pub fn leading_bos(&self) -> Option<u32> {
        self.inner.bos.filter(|_| self.inner.add_bos)
    }

    pub fn bos(&self) -> Option<u32> {
        self.inner.bos
    }

    pub fn eos(&self) -> Option<u32> {
        self.inner.eos
    }
}

fn pre_tokenizer(gguf: &Gguf) -> Result<PreTokenizerWrapper, ModelError> {
    let broken = |detail: String| ModelError::Tokenizer { name: gguf.name().into(), detail };
    let name = gguf.string("tokenizer.ggml.pre").unwrap_or("default");
    let row = PRE_TOKENIZERS.iter().find(|row| row.names.contains(&name)).ok_or_else(|| {
        let known: Vec<_> = PRE_TOKENIZERS.iter().flat_map(|row| row.names).copied().collect();
        broken(format!("its pre-tokenizer `{name}` is not known; known are {}", known.join(", ")))
    })?;
    let mut steps = Vec::new();
    for pattern in row.splits {
        let pattern = SplitPattern::Regex((*pattern).to_string());
        let split = Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
            .map_err(|error| broken(format!("pre-tokenizer `{name}`: {error}")))?;
        steps.push(PreTokenizerWrapper::Split(split));
    }
    steps.push(PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, false, false)));
    Ok(PreTokenizerWrapper::Sequence(Sequence::new(steps)))
}

/// GPT-2's spelling of bytes as printable characters.
fn byte_alphabet() -> FxHashMap<char, u8> {
    let printable = |byte: &u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let others = (0u8..=255).filter(|byte| !printable(byte));
    let shifted = others.zip(256u32..).filter_map(|(byte, code)| char::from_u32(code).map(|c| (c, byte)));
    (0u8..=255).filter(printable).map(|byte| (char::from(byte), byte)).chain(shifted).collect()
}

/// Turns the bytes of a stream of tokens into text, holding back those of unfinished characters.
#[derive(Debug, Clone, Default)]
pub struct TextStream {
    pending: Vec<u8>,
}

impl TextStream {
    /// The text that these bytes complete.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.pending.extend(bytes);
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.pending) {
                Ok(valid) => {
                    text.push_str(valid);
                    self.pending.clear();
                    return text;
                }
                Err(error) => {
                    let valid = error.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.pending[..valid]));
                    match error.error_len() {
                        // The character may still be completed by the next token.
                        None => {
                            self.pending.drain(..valid);
                            return text;
                        }
                        Some(invalid) => {
                            text.push(char::REPLACEMENT_CHARACTER);
                            self.pending.drain(..valid + invalid);
                        }
                    }
                }
            }
        }
    }
}
