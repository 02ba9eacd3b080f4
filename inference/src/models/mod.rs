//! Model architectures: their settings as model files state them, and the CPU forward.

pub mod decoder;

use serde::Serialize;

use crate::{
    cpu::ops::RopePairing,
    weights::{Gguf, ModelError},
};

/// Decoder-only transformers with grouped-query attention, rotary positions and SwiGLU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Architecture {
    /// Qwen2 and Qwen2.5: R1-Distill-Qwen, Qwen2.5-Coder, the embedded model.
    Qwen2,
    /// Llama 2 and 3: R1-Distill-Llama, DeepSeek-Coder v1.
    Llama,
}

const ARCHITECTURES: &[(&str, Architecture)] =
    &[("qwen2", Architecture::Qwen2), ("llama", Architecture::Llama)];

impl Architecture {
    pub fn rope_pairing(self) -> RopePairing {
        match self {
            Self::Qwen2 => RopePairing::Halves,
            Self::Llama => RopePairing::Adjacent,
        }
    }

    pub fn has_query_key_value_bias(self) -> bool {
        matches!(self, Self::Qwen2)
    }
}

/// Sizes and constants of one model.
#[derive(Debug, Clone, Serialize)]
pub struct ModelConfig {
    pub architecture: Architecture,
    pub layers: usize,
    pub embedding: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dimension: usize,
    pub feed_forward: usize,
    pub vocabulary: usize,
    pub context_length: usize,
    pub rope_base: f32,
    /// Positions are divided by this (linear rope scaling); 1 for none.
    pub rope_scale: f32,
    pub norm_epsilon: f32,
    /// Output projection shares the embedding's weights.
    pub tied_embeddings: bool,
}

impl ModelConfig {
    pub fn read(gguf: &Gguf) -> Result<Self, ModelError> {
        let prefix = gguf.require_string("general.architecture")?.to_string();
        let known = ARCHITECTURES.iter().find(|(name, _)| *name == prefix);
        let Some(&(_, architecture)) = known else {
            let supported: Vec<_> = ARCHITECTURES.iter().map(|(name, _)| *name).collect();
            return Err(ModelError::Architecture {
                name: gguf.name().into(),
                architecture: prefix,
                supported: supported.join(", "),
            });
        };
        let key = |suffix: &str| format!("{prefix}.{suffix}");
        let heads = gguf.require_usize(&key("attention.head_count"))?;
        let embedding = gguf.require_usize(&key("embedding_length"))?;
        let kv_heads = gguf.usize(&key("attention.head_count_kv")).unwrap_or(heads);
        let invalid = |detail: String| ModelError::Damaged { name: gguf.name().into(), detail };
        if heads == 0 || kv_heads == 0 || heads % kv_heads != 0 {
            return Err(invalid(format!("{heads} attention heads cannot share {kv_heads} key-value heads")));
        }
        let head_dimension = gguf.usize(&key("attention.key_length")).unwrap_or(embedding / heads);
        if head_dimension == 0 || !head_dimension.is_multiple_of(2) || head_dimension > 1024 {
            return Err(invalid(format!("a head dimension of {head_dimension} is not usable")));
        }
        let rope_scale = match gguf.string(&key("rope.scaling.type")).unwrap_or("none") {
            "none" => 1.0,
            "linear" => gguf.f32(&key("rope.scaling.factor")).unwrap_or(1.0),
            other => {
                return Err(ModelError::Unsupported {
                    name: gguf.name().into(),
                    detail: format!("rope scaling `{other}`; use a file converted without it"),
                });
            }
        };
        let (_, vocabulary) = match gguf.tensors().get("token_embd.weight").map(|info| info.shape.as_slice())
        {
            Some([rows, columns]) if *columns == embedding => (columns, *rows),
            Some(shape) => {
                return Err(ModelError::Shape {
                    name: gguf.name().into(),
                    tensor: "token_embd.weight".into(),
                    found: shape.to_vec(),
                    expected: vec![0, embedding],
                });
            }
            None => return Err(gguf.missing("token_embd.weight")),
        };
        Ok(Self {
            architecture,
            layers: gguf.require_usize(&key("block_count"))?,
            embedding,
            heads,
            kv_heads,
            head_dimension,
            feed_forward: gguf.require_usize(&key("feed_forward_length"))?,
            vocabulary,
            context_length: gguf.require_usize(&key("context_length"))?,
            rope_base: gguf.f32(&key("rope.freq_base")).unwrap_or(10_000.0),
            rope_scale,
            norm_epsilon: gguf.f32(&key("attention.layer_norm_rms_epsilon")).unwrap_or(1e-6),
            tied_embeddings: !gguf.tensors().contains_key("output.weight"),
        })
    }

    /// Bytes of keys and values that one token takes with 2-byte elements.
    pub fn kv_bytes_per_token(&self) -> usize {
        self.layers * self.kv_heads * self.head_dimension * 2 * 2
    }
}
