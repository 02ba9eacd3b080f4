//! What a model file says of itself, for people: `lacuna model inspect`.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{Model, PromptStyle, models::ModelConfig, weights::Value};

/// A summary of a model file.
#[derive(Debug, Clone, Serialize)]
pub struct ModelFacts {
    pub name: String,
    /// The file's own title, when it has one.
    pub title: Option<String>,
    pub gguf_version: u32,
    pub bytes: u64,
    pub parameters: u64,
    pub config: ModelConfig,
    /// Bytes of keys and values a token of context takes.
    pub kv_bytes_per_token: usize,
    /// By quantization type: tensors, parameters, bytes.
    pub tensors: BTreeMap<String, TensorTotals>,
    pub tokenizer: TokenizerFacts,
    pub fim: Option<FimFacts>,
    pub has_chat_template: bool,
    /// The template or vocabulary knows `</think>`.
    pub thinks: bool,
    pub default_prompt_style: PromptStyle,
}

#[derive(Debug, Clone, Default, Serialize)]
pub struct TensorTotals {
    pub count: usize,
    pub parameters: u64,
    pub bytes: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct TokenizerFacts {
    pub model: String,
    pub pre_tokenizer: String,
    pub tokens: usize,
    pub merges: usize,
    pub special_tokens: usize,
    pub bos: Option<String>,
    pub eos: Option<String>,
}

#[derive(Debug, Clone, Serialize)]
pub struct FimFacts {
    pub family: &'static str,
    pub order: crate::fim::FimOrder,
    /// Role, spelling and id of each FIM token.
    pub tokens: Vec<(&'static str, String, u32)>,
    pub stops: Vec<(String, u32)>,
}

impl Model {
    pub fn facts(&self) -> ModelFacts {
        let (gguf, tokenizer) = (self.gguf(), self.tokenizer());
        let mut tensors: BTreeMap<String, TensorTotals> = BTreeMap::new();
        for info in gguf.tensors().values() {
            let totals = tensors.entry(info.kind.name()).or_default();
            totals.count += 1;
            totals.parameters += info.elements() as u64;
            totals.bytes += info.byte_length() as u64;
        }
        let spelling =
            |id: u32| tokenizer.special_spelling(id).map_or_else(|| tokenizer.decode(&[id]), str::to_string);
        let fim = self.fim().map(|fim| FimFacts {
            family: fim.family(),
            order: fim.order(),
            tokens: fim.tokens().into_iter().map(|(role, id)| (role, spelling(id), id)).collect(),
            stops: fim.stop_tokens().iter().map(|id| (spelling(*id), *id)).collect(),
        });
        let text = |key: &str| gguf.string(key).unwrap_or("unknown").to_string();
        ModelFacts {
            name: self.name().into(),
            title: gguf.string("general.name").map(str::to_string),
            gguf_version: gguf.version(),
            bytes: gguf.byte_length() as u64,
            parameters: tensors.values().map(|totals| totals.parameters).sum(),
            config: self.config().clone(),
            kv_bytes_per_token: self.config().kv_bytes_per_token(),
            tensors,
            tokenizer: TokenizerFacts {
                model: text("tokenizer.ggml.model"),
                pre_tokenizer: text("tokenizer.ggml.pre"),
                tokens: tokenizer.vocabulary_size(),
                merges: gguf.get("tokenizer.ggml.merges").and_then(Value::as_array).map_or(0, <[_]>::len),
                special_tokens: tokenizer.special_tokens().len(),
                bos: tokenizer.bos().map(spelling),
                eos: tokenizer.eos().map(spelling),
            },
            fim,
            has_chat_template: self.chat().is_some(),
            thinks: self.chat().is_some_and(|chat| chat.thinks()),
            default_prompt_style: self.default_prompt_style(),
        }
    }
}
