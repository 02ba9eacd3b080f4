//! The CPU forward of decoder-only transformers (Qwen2, Llama) over a batch of sequences with paged keys and values.

use crate::{
    cpu::{
        attention::{Span, attend},
        kv_storage::{KvPrecision, KvShape, KvStorage},
        matmul::{Input, Product, Store, multiply},
        ops::{Rope, rms_norm, swiglu},
        shared_mut::SharedMut,
        threads::ThreadPool,
    },
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
    /// The heads' outputs.
    attended: Vec<f32>,
    gate: Vec<f32>,
    up: Vec<f32>,
    logits: Vec<f32>,
    /// By row: its sequence's span, and its position there.
    places: Vec<(usize, usize)>,
    /// By row and pair of dimensions: sine and cosine of the position.
    angles: Vec<(f32, f32)>,
}

/// Steps with fewer rows turn and store them on the calling thread.
const PARALLEL_ROWS: usize = 16;

impl CpuRunner {
    /// `blocks` is the number of KV blocks of [`crate::kv_cache::BLOCK_SIZE`] tokens.
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
        let shape = KvShape { layers: c.layers, blocks, heads: c.kv_heads, head_dimension: c.head_dimension };
        Ok(Self {
            embedding: load("token_embd.weight", c.vocabulary, c.embedding)?,
            layers,
            output_norm: load_vector(gguf, "output_norm.weight", c.embedding)?,
            output,
            rope,
            kv: KvStorage::new(shape, kv_precision).map_err(|error| ModelError::Unsupported {
                name: gguf.name().into(),
                detail: format!("{blocks} blocks of keys and values ({error}); free some memory"),
            })?,
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
        self.kv.shape().blocks
    }

    pub fn kv_bytes(&self) -> usize {
        self.kv.byte_length()
    }

    /// Performs the copies that the scheduler asked for before the step.
    pub fn copy_blocks(&mut self, copies: &[BlockCopy]) {
        for copy in copies {
            self.kv.copy_block(copy.source, copy.destination);
        }
    }

    /// Computes a step. Returns the wanted logits, `[wanted rows, vocabulary]`, in the batch's order; `None` when
    /// `abandoned` said between two layers that nobody wants the result any more.
    pub fn forward(&mut self, batch: &Batch, abandoned: &dyn Fn() -> bool) -> Option<&[f32]> {
        let Self { config: c, layers, pool, kv, scratch: s, rope, .. } = self;
        let rows = batch.rows();
        let e = c.embedding;

        let mut spans = Vec::with_capacity(batch.entries.len());
        s.residual.resize(rows * e, 0.0);
        s.places.clear();
        for entry in &batch.entries {
            let row = s.places.len();
            spans.push(Span { row, rows: entry.tokens.len(), start: entry.start, blocks: &entry.blocks });
            for (offset, token) in entry.tokens.iter().enumerate() {
                let row = s.places.len();
                s.places.push((spans.len() - 1, entry.start + offset));
                self.embedding.row_to_floats(*token as usize, &mut s.residual[row * e..(row + 1) * e]);
            }
        }
        let half = rope.frequencies().len();
        s.angles.resize(rows * half, (0.0, 0.0));
        for ((_, position), angles) in s.places.iter().zip(s.angles.chunks_exact_mut(half)) {
            rope.angles(*position, angles);
        }
        let wanted: Vec<usize> = spans
            .iter()
            .zip(&batch.entries)
            .flat_map(|(span, entry)| entry.logits.clone().map(move |index| span.row + index))
            .collect();

        for (index, layer) in layers.iter().enumerate() {
            if abandoned() {
                return None;
            }
            s.attention(c, pool, kv, rope, index, layer, &spans);
            if index + 1 == layers.len() && wanted.len() < rows {
                // Only keys and values of the other rows are still of use, and they are in the cache.
                keep_rows(&mut s.residual, e, &wanted);
                keep_rows(&mut s.attended, c.heads * c.head_dimension, &wanted);
            }
            if !s.residual.is_empty() {
                s.feed_forward(c, pool, layer);
            }
        }

        s.logits.resize(wanted.len() * c.vocabulary, 0.0);
        if !wanted.is_empty() {
            let matrix = self.output.as_ref().unwrap_or(&self.embedding);
            let (residual, norm) = (&s.residual, &self.output_norm);
            s.input.fill(pool, wanted.len(), e, &[matrix], &|row, out| {
                rms_norm(&residual[row * e..(row + 1) * e], norm, c.norm_epsilon, out);
            });
            let output = &mut s.logits;
            multiply(pool, &s.input, &mut [Product { matrix, bias: None, output, store: Store::Replace }]);
        }
        Some(&s.logits)
    }
}

impl Scratch {
    /// A layer up to the heads' outputs: `residual` to `attended`, and the rows' keys and values into the cache.
    #[allow(clippy::too_many_arguments, reason = "the parts of a runner, borrowed apart")]
    fn attention(
        &mut self,
        c: &ModelConfig,
        pool: &mut ThreadPool,
        kv: &mut KvStorage,
        rope: &Rope,
        index: usize,
        layer: &Layer,
        spans: &[Span<'_>],
    ) {
        let rows = self.places.len();
        let (e, attention_width, kv_width) =
            (c.embedding, c.heads * c.head_dimension, c.kv_heads * c.head_dimension);
        self.query.resize(rows * attention_width, 0.0);
        self.key.resize(rows * kv_width, 0.0);
        self.value.resize(rows * kv_width, 0.0);
        self.attended.resize(rows * attention_width, 0.0);
        let residual = &self.residual;
        self.input.fill(pool, rows, e, &[&layer.query, &layer.key, &layer.value], &|row, out| {
            rms_norm(&residual[row * e..(row + 1) * e], &layer.attention_norm, c.norm_epsilon, out);
        });
        let mut products = [
            (&layer.query, &layer.query_bias, &mut self.query),
            (&layer.key, &layer.key_bias, &mut self.key),
            (&layer.value, &layer.value_bias, &mut self.value),
        ]
        .map(|(matrix, bias, output)| Product {
            matrix,
            bias: bias.as_deref(),
            output,
            store: Store::Replace,
        });
        multiply(pool, &self.input, &mut products);

        let (query, key) = (SharedMut::new(&mut self.query), SharedMut::new(&mut self.key));
        let (places, angles, value) = (&self.places, &self.angles, &self.value);
        let writer = kv.writer(index);
        let turn_and_store = |range: std::ops::Range<usize>| {
            let half = rope.frequencies().len();
            for row in range {
                let (span, position) = places[row];
                let angles = &angles[row * half..(row + 1) * half];
                // SAFETY: each row is taken by one thread, and no two rows have the same place in the cache.
                unsafe {
                    rope.apply(query.slice(row * attention_width..(row + 1) * attention_width), angles);
                    let key = key.slice(row * kv_width..(row + 1) * kv_width);
                    rope.apply(key, angles);
                    writer.write(
                        spans[span].blocks,
                        position,
                        key,
                        &value[row * kv_width..(row + 1) * kv_width],
                    );
                }
            }
        };
        if rows < PARALLEL_ROWS {
            turn_and_store(0..rows)
        } else {
            pool.run_chunked(rows, &turn_and_store)
        }
        attend(pool, kv, index, c.heads, spans, &self.query, &mut self.attended);
    }

    /// The rest of a layer: `attended` is added to `residual`, then the feed-forward network's output.
    fn feed_forward(&mut self, c: &ModelConfig, pool: &mut ThreadPool, layer: &Layer) {
        let (e, attention_width, width) = (c.embedding, c.heads * c.head_dimension, c.feed_forward);
        let rows = self.residual.len() / e;
        let attended = &self.attended;
        self.input.fill(pool, rows, attention_width, &[&layer.output], &|row, out| {
            out.copy_from_slice(&attended[row * attention_width..(row + 1) * attention_width]);
        });
        let output = &mut self.residual;
        let mut product = [Product { matrix: &layer.output, bias: None, output, store: Store::Add }];
        multiply(pool, &self.input, &mut product);

        let residual = &self.residual;
        self.input.fill(pool, rows, e, &[&layer.gate, &layer.up], &|row, out| {
            rms_norm(&residual[row * e..(row + 1) * e], &layer.feed_forward_norm, c.norm_epsilon, out);
        });
        self.gate.resize(rows * width, 0.0);
        self.up.resize(rows * width, 0.0);
        let mut products = [(&layer.gate, &mut self.gate), (&layer.up, &mut self.up)]
            .map(|(matrix, output)| Product { matrix, bias: None, output, store: Store::Replace });
        multiply(pool, &self.input, &mut products);
        let (gate, up) = (&self.gate, &self.up);
        self.input.fill(pool, rows, width, &[&layer.down], &|row, out| {
            let row = row * width..(row + 1) * width;
            swiglu(&gate[row.clone()], &up[row], out);
        });
        let output = &mut self.residual;
        let mut product = [Product { matrix: &layer.down, bias: None, output, store: Store::Add }];
        multiply(pool, &self.input, &mut product);
    }
}

/// Keeps the given rows, in ascending order, and moves them to the front.
fn keep_rows(values: &mut Vec<f32>, width: usize, rows: &[usize]) {
    for (to, from) in rows.iter().enumerate() {
        values.copy_within(from * width..(from + 1) * width, to * width);
    }
    values.truncate(rows.len() * width);
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
