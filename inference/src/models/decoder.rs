//! The CPU forward of decoder-only transformers (Qwen2, Llama) over a batch of sequences with paged keys and values.

use crate::{
    cpu::{
        attention::{KvPrecision, KvShape, KvStorage, Span, attend},
        matmul::{Input, Product, Store, multiply},
        ops::{Rope, rms_norm, swiglu},
        threads::ThreadPool,
    },
    kv_cache::BLOCK_SIZE,
    models::ModelConfig,
    scheduler::{Batch, BlockCopy},
    weights::{Gguf, Matrix, ModelError, matrix::load_vector},
};

/// How weights are held while running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightPrecision {
    /// As the file stores them, read in place.
    Stored,
    /// Converted to F32 at load: for comparisons with F32 references; takes memory.
    Dequantized,
}

struct Layer {
    attention_norm: Vec<f32>,
    query: Matrix,
    key: Matrix,
    value: Matrix,
    query_bias: Option<Vec<f32>>,
    key_bias: Option<Vec<f32>>,
    value_bias: Option<Vec<f32>>,
    output: Matrix,
    feed_forward_norm: Vec<f32>,
    gate: Matrix,
    up: Matrix,
    down: Matrix,
}

/// Weights, cache and scratch space of one resident model on the CPU.
pub struct CpuRunner {
    config: ModelConfig,
    embedding: Matrix,
    layers: Vec<Layer>,
    output_norm: Vec<f32>,
    /// `None` when tied to the embedding.
    output: Option<Matrix>,
    rope: Rope,
    kv: KvStorage,
    pool: ThreadPool,
    scratch: Scratch,
}

/// Activations of a step, `[rows, width]` each, kept from step to step.
#[derive(Default)]
struct Scratch {
    input: Input,
    residual: Vec<f32>,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    logits: Vec<f32>,
    angles: Vec<(f32, f32)>,
}

impl CpuRunner {
    /// `blocks` is the number of KV blocks of [`BLOCK_SIZE`] tokens.
    pub fn new(
        gguf: &Gguf,
        config: &ModelConfig,
        blocks: usize,
        threads: usize,
        kv_precision: KvPrecision,
        weight_precision: WeightPrecision,
    ) -> Result<Self, ModelError> {
        let load = |tensor: &str, rows: usize, columns: usize| -> Result<Matrix, ModelError> {
            let matrix = Matrix::load(gguf, tensor, rows, columns)?;
            Ok(match weight_precision {
                WeightPrecision::Stored => matrix,
                WeightPrecision::Dequantized => matrix.dequantized(),
            })
        };
        let c = config;
        let (attention_width, kv_width) = (c.heads * c.head_dimension, c.kv_heads * c.head_dimension);
        let mut layers = Vec::with_capacity(c.layers);
        for index in 0..c.layers {
            let name = |suffix: &str| format!("blk.{index}.{suffix}");
            let bias = |suffix: &str, length| {
                let required = c.architecture.has_query_key_value_bias();
                match (required, gguf.tensors().contains_key(&name(suffix))) {
                    (false, false) => Ok(None),
                    _ => load_vector(gguf, &name(suffix), length).map(Some),
                }
            };
            layers.push(Layer {
                attention_norm: load_vector(gguf, &name("attn_norm.weight"), c.embedding)?,
                query: load(&name("attn_q.weight"), attention_width, c.embedding)?,
                key: load(&name("attn_k.weight"), kv_width, c.embedding)?,
                value: load(&name("attn_v.weight"), kv_width, c.embedding)?,
                query_bias: bias("attn_q.bias", attention_width)?,
                key_bias: bias("attn_k.bias", kv_width)?,
                value_bias: bias("attn_v.bias", kv_width)?,
                output: load(&name("attn_output.weight"), c.embedding, attention_width)?,
                feed_forward_norm: load_vector(gguf, &name("ffn_norm.weight"), c.embedding)?,
                gate: load(&name("ffn_gate.weight"), c.feed_forward, c.embedding)?,
                up: load(&name("ffn_up.weight"), c.feed_forward, c.embedding)?,
                down: load(&name("ffn_down.weight"), c.embedding, c.feed_forward)?,
            });
        }
        let output = match c.tied_embeddings {
            true => None,
            false => Some(load("output.weight", c.vocabulary, c.embedding)?),
        };
        let rope = load_rope(gguf, c)?;
        let shape = KvShape {
            layers: c.layers,
            blocks,
            block_size: BLOCK_SIZE,
            heads: c.kv_heads,
            head_dimension: c.head_dimension,
        };
        Ok(Self {
            embedding: load("token_embd.weight", c.vocabulary, c.embedding)?,
            layers,
            output_norm: load_vector(gguf, "output_norm.weight", c.embedding)?,
            output,
            rope,
            kv: KvStorage::new(shape, kv_precision),
            pool: ThreadPool::new(threads).map_err(|error| ModelError::Unsupported {
                name: gguf.name().into(),
                detail: format!("{threads} threads ({error}); set `threads` lower"),
            })?,
            scratch: Scratch::default(),
            config: config.clone(),
        })
    }

    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// Blocks of the cache.
    pub fn blocks(&self) -> usize {
        self.kv.blocks()
    }

    pub fn kv_bytes(&self) -> usize {
        self.kv.byte_length()
    }

    /// Performs the copies that the scheduler asked for before the step.
    pub fn copy_blocks(&mut self, copies: &[BlockCopy]) {
        for copy in copies {
            self.kv.copy_block(copy.source, copy.destination, copy.tokens);
        }
    }

    /// Computes a step. Returns the wanted logits, `[wanted rows, vocabulary]`, in the batch's order; `None` when
    /// `abandoned` said between two layers that nobody wants the result any more.
    pub fn forward(&mut self, batch: &Batch, abandoned: &dyn Fn() -> bool) -> Option<&[f32]> {
        let Self { config: c, layers, pool, kv, scratch: s, rope, .. } = self;
        let rows = batch.rows();
        let (e, attention_width, kv_width) =
            (c.embedding, c.heads * c.head_dimension, c.kv_heads * c.head_dimension);

        let mut spans = Vec::with_capacity(batch.entries.len());
        s.residual.resize(rows * e, 0.0);
        let mut row = 0;
        for entry in &batch.entries {
            spans.push(Span { row, rows: entry.tokens.len(), start: entry.start, blocks: &entry.blocks });
            for token in &entry.tokens {
                self.embedding.row_to_floats(*token as usize, &mut s.residual[row * e..(row + 1) * e]);
                row += 1;
            }
        }
        s.query.resize(rows * attention_width, 0.0);
        s.key.resize(rows * kv_width, 0.0);
        s.value.resize(rows * kv_width, 0.0);
        s.gate.resize(rows * c.feed_forward, 0.0);
        s.up.resize(rows * c.feed_forward, 0.0);

        for (index, layer) in layers.iter().enumerate() {
            if abandoned() {
                return None;
            }
            normalize(&s.residual, &layer.attention_norm, c.norm_epsilon, s.input.reset(rows, e));
            s.input.prepare(pool, &[&layer.query, &layer.key, &layer.value]);
            let mut products = [
                (&layer.query, &layer.query_bias, &mut s.query),
                (&layer.key, &layer.key_bias, &mut s.key),
                (&layer.value, &layer.value_bias, &mut s.value),
            ]
            .map(|(matrix, bias, output)| Product {
                matrix,
                bias: bias.as_deref(),
                output,
                store: Store::Replace,
            });
            multiply(pool, &s.input, &mut products);

            for span in &spans {
                for offset in 0..span.rows {
                    let (row, position) = (span.row + offset, span.start + offset);
                    let (q, k) = (row * attention_width, row * kv_width);
                    rope.apply(&mut s.query[q..q + attention_width], position, &mut s.angles);
                    rope.apply(&mut s.key[k..k + kv_width], position, &mut s.angles);
                    kv.write(
                        index,
                        span.blocks,
                        position,
                        &s.key[k..k + kv_width],
                        &s.value[k..k + kv_width],
                    );
                }
            }
            attend(pool, kv, index, c.heads, &spans, &s.query, s.input.reset(rows, attention_width));
            s.input.prepare(pool, &[&layer.output]);
            let output = &mut s.residual;
            multiply(
                pool,
                &s.input,
                &mut [Product { matrix: &layer.output, bias: None, output, store: Store::Add }],
            );

            normalize(&s.residual, &layer.feed_forward_norm, c.norm_epsilon, s.input.reset(rows, e));
            s.input.prepare(pool, &[&layer.gate, &layer.up]);
            let mut products = [(&layer.gate, &mut s.gate), (&layer.up, &mut s.up)]
                .map(|(matrix, output)| Product { matrix, bias: None, output, store: Store::Replace });
            multiply(pool, &s.input, &mut products);
            swiglu(&s.gate, &s.up, s.input.reset(rows, c.feed_forward));
            s.input.prepare(pool, &[&layer.down]);
            let output = &mut s.residual;
            multiply(
                pool,
                &s.input,
                &mut [Product { matrix: &layer.down, bias: None, output, store: Store::Add }],
            );
        }

        let wanted: Vec<usize> = spans
            .iter()
            .zip(&batch.entries)
            .flat_map(|(span, entry)| entry.logits.clone().map(move |index| span.row + index))
            .collect();
        s.logits.resize(wanted.len() * c.vocabulary, 0.0);
        if !wanted.is_empty() {
            let input = s.input.reset(wanted.len(), e);
            for (to, row) in wanted.iter().enumerate() {
                let residual = &s.residual[row * e..(row + 1) * e];
                rms_norm(residual, &self.output_norm, c.norm_epsilon, &mut input[to * e..(to + 1) * e]);
            }
            let matrix = self.output.as_ref().unwrap_or(&self.embedding);
            s.input.prepare(pool, &[matrix]);
            let output = &mut s.logits;
            multiply(pool, &s.input, &mut [Product { matrix, bias: None, output, store: Store::Replace }]);
        }
        Some(&s.logits)
    }
}

/// The rotary angles of a model, with its scaling and the factors that some files carry.
pub(crate) fn load_rope(gguf: &Gguf, config: &ModelConfig) -> Result<Rope, ModelError> {
    let c = config;
    let mut factors = match gguf.tensors().contains_key("rope_freqs.weight") {
        true => load_vector(gguf, "rope_freqs.weight", c.head_dimension / 2)?,
        false => vec![1.0; c.head_dimension / 2],
    };
    for factor in &mut factors {
        *factor *= c.rope_scale;
    }
    Ok(Rope::new(c.head_dimension, c.rope_base, Some(&factors), c.architecture.rope_pairing()))
}

fn normalize(rows: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    for (row, out) in rows.chunks_exact(weight.len()).zip(out.chunks_exact_mut(weight.len())) {
        rms_norm(row, weight, epsilon, out);
    }
}
