//! One resident model on the GPU: weights in tiles, paged keys and values, and the forward of a step.
//!
//! A step is one list of kernels on one stream without a wait in it: the batch's integers go up, the wanted logits come
//! down. A layer is normalize, query-key-value, attend, output, normalize, gate-up, down with few rows, where attend rotates
//! and merges and down gates by itself; with more rows those are kernels of their own. Each starts while the one before it
//! still runs, and the products begin to fetch their weights then.

use cudarc::driver::{DeviceRepr, PinnedHostSlice, sys::CUdeviceptr};

use super::{
    Gpu, GpuError,
    attention::{self, AttentionScratch, Rotation, StepAddresses},
    buffers::{Buffer, DeviceMatrix, Uploader},
    graphs::{Found, Graph, Graphs, MOST_ROWS},
    multiply::{LARGEST_NARROW_ROWS, Products},
    pace::Pace,
    pages::{AttentionShape, CacheWish, KvPages},
    params::{GateInput, GateParams, Layout, NormalizeParams, Partial},
    rows::{self, ActivationBuffer, ChoiceBuffer, NOTHING, Precision},
    step::Step,
};
use crate::{
    EngineError,
    cpu::ops::RopePairing,
    models::{ModelConfig, decoder},
    sampler::Choice,
    scheduler::{Batch, BatchEntry, BlockCopy},
    weights::{Gguf, Matrix, matrix::load_vector},
};

/// Tokens computed in one step: about what fills the device.
pub const STEP_TOKENS: usize = 2048;
/// The same of a step in which streams decode: a prompt delays their next token by so many.
pub const SHARED_STEP_TOKENS: usize = 512;
/// A row's normalization holds the row in shared memory, of which every device gives a block 48 KiB.
const LARGEST_EMBEDDING: usize = 11_000;

/// Rows that the products of prompts are computed in; a few more cost as much as so many.
const PROMPT_ROWS: usize = 128;
/// From so many bytes of weights on, a few rows are faster in a step of their own than as another block of a prompt's.
const TAIL_WEIGHTS: usize = 3 << 30;

struct Layer {
    attention_norm: Buffer,
    query_key_value: Products,
    bias: Option<Buffer>,
    output: Products,
    feed_forward_norm: Buffer,
    gate_up: Products,
    down: Products,
}

impl Layer {
    fn products(&self) -> [&Products; 4] {
        [&self.query_key_value, &self.output, &self.gate_up, &self.down]
    }

    fn byte_length(&self) -> usize {
        self.products().into_iter().map(Products::byte_length).sum()
    }
}

/// A model on a GPU. The CPU's counterpart is [`decoder::CpuRunner`].
///
/// Fields are dropped in order, the device last.
pub struct CudaRunner {
    embedding: Products,
    layers: Vec<Layer>,
    output_norm: Buffer,
    /// `None` when tied to the embedding.
    output: Option<Products>,
    frequencies: Buffer,
    kv: KvPages,
    blocks: usize,
    scratch: Scratch,
    graphs: Graphs,
    config: ModelConfig,
    gpu: Gpu,
}

/// Activations of a step, kept from step to step.
struct Scratch {
    words: Buffer,
    residual: Buffer,
    /// Rows of the residual and of the last layer's query, key and value whose logits are wanted.
    wanted_residual: Buffer,
    wanted_projections: Buffer,
    /// Output of the last product, read by the kernel after it.
    products: Buffer,
    /// Output of products that read `products` themselves.
    sums: Buffer,
    x: ActivationBuffer,
    attention: AttentionScratch,
    logits: Buffer,
    choices: ChoiceBuffer,
    /// Page-locked, so that the device writes it at full speed.
    host_logits: PinnedHostSlice<f32>,
    host_choices: PinnedHostSlice<u32>,
    chosen: Vec<Choice>,
}

impl CudaRunner {
    /// Loads a model. The cache gets the blocks that are wished for, or as many as fit.
    pub fn new(gpu: Gpu, gguf: &Gguf, config: &ModelConfig, cache: CacheWish) -> Result<Self, EngineError> {
        let c = config;
        let shape = AttentionShape {
            layers: c.layers,
            heads: c.heads,
            kv_heads: c.kv_heads,
            dimension: c.head_dimension,
            format: cache.format,
        };
        let unsupported = |detail: String| Err(GpuError::Unsupported(detail).into());
        if !shape.is_supported() {
            return unsupported(format!("heads of {} dimensions have no kernel yet", c.head_dimension));
        }
        if !c.embedding.is_multiple_of(4) || !c.feed_forward.is_multiple_of(4) {
            return unsupported("the model's widths are not multiples of 4".into());
        }
        if c.embedding > LARGEST_EMBEDDING {
            return unsupported(format!("an embedding of {} is too wide for its kernels", c.embedding));
        }
        let (free, _) = gpu.memory()?;
        let weights: usize = gguf.tensors().values().map(|tensor| tensor.byte_length()).sum();
        if free < weights {
            return Err(GpuError::OutOfMemory {
                what: "the model's weights",
                needed_mib: weights >> 20,
                free_mib: free >> 20,
            }
            .into());
        }
        let mut uploader = Uploader::new(&gpu)?;
        let mut load = |tensor: &str, rows: usize, columns: usize| -> Result<DeviceMatrix, EngineError> {
            Ok(uploader.upload(&gpu, &Matrix::load(gguf, tensor, rows, columns)?)?)
        };
        let vector = |tensor: &str, length: usize| -> Result<Buffer, EngineError> {
            Ok(Buffer::of(&gpu, "the model's weights", &load_vector(gguf, tensor, length)?)?)
        };
        let (attention_width, kv_width) = (c.heads * c.head_dimension, c.kv_heads * c.head_dimension);
        let mut layers = Vec::with_capacity(c.layers);
        for index in 0..c.layers {
            let name = |suffix: &str| format!("blk.{index}.{suffix}");
            let has_bias = c.architecture.has_query_key_value_bias()
                || gguf.tensors().contains_key(&name("attn_q.bias"));
            let bias = if has_bias {
                let mut all = load_vector(gguf, &name("attn_q.bias"), attention_width)?;
                all.extend(load_vector(gguf, &name("attn_k.bias"), kv_width)?);
                all.extend(load_vector(gguf, &name("attn_v.bias"), kv_width)?);
                Some(Buffer::of(&gpu, "the model's weights", &all)?)
            } else {
                None
            };
            let query_key_value = vec![
                load(&name("attn_q.weight"), attention_width, c.embedding)?,
                load(&name("attn_k.weight"), kv_width, c.embedding)?,
                load(&name("attn_v.weight"), kv_width, c.embedding)?,
            ];
            let gate_up = vec![
                load(&name("ffn_gate.weight"), c.feed_forward, c.embedding)?,
                load(&name("ffn_up.weight"), c.feed_forward, c.embedding)?,
            ];
            let output = vec![load(&name("attn_output.weight"), c.embedding, attention_width)?];
            let down = vec![load(&name("ffn_down.weight"), c.embedding, c.feed_forward)?];
            layers.push(Layer {
                attention_norm: vector(&name("attn_norm.weight"), c.embedding)?,
                query_key_value: Products::new(&gpu, query_key_value),
                bias,
                output: Products::new(&gpu, output),
                feed_forward_norm: vector(&name("ffn_norm.weight"), c.embedding)?,
                gate_up: Products::new(&gpu, gate_up),
                down: Products::new(&gpu, down),
            });
        }
        let embedding = Products::whole(&gpu, load("token_embd.weight", c.vocabulary, c.embedding)?);
        let output = match c.tied_embeddings {
            true => None,
            false => Some(Products::whole(&gpu, load("output.weight", c.vocabulary, c.embedding)?)),
        };
        let output_norm = vector("output_norm.weight", c.embedding)?;
        let frequencies =
            Buffer::of(&gpu, "the model's weights", decoder::load_rope(gguf, c)?.frequencies())?;
        drop(uploader);
        let blocks = blocks_that_fit(&gpu, c, &shape, cache)?;
        let kv = KvPages::new(&gpu, shape, blocks)?;
        let takes_halves = |products: &Products| products.precision() == Precision::BytesAndHalves;
        let precision = match layers
            .iter()
            .flat_map(Layer::products)
            .chain([&embedding])
            .chain(&output)
            .any(takes_halves)
        {
            true => Precision::BytesAndHalves,
            false => Precision::Bytes,
        };
        let scratch = Scratch::new(&gpu, precision)?;
        Ok(Self {
            embedding,
            layers,
            output_norm,
            output,
            frequencies,
            kv,
            blocks,
            scratch,
            graphs: Graphs::default(),
            config: config.clone(),
            gpu,
        })
    }

    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    /// Blocks of the cache.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    pub fn kv_bytes(&self) -> usize {
        self.kv.byte_length()
    }

    pub fn weights_bytes(&self) -> usize {
        let layers = self.layers.iter().flat_map(Layer::products);
        layers.chain([&self.embedding]).chain(&self.output).map(Products::byte_length).sum()
    }

    /// Shapes of steps that are recorded as graphs.
    pub fn recorded_steps(&self) -> usize {
        self.graphs.len()
    }

    /// Performs the copies that the scheduler asked for before the step.
    pub fn copy_blocks(&mut self, copies: &[BlockCopy]) -> Result<(), GpuError> {
        self.kv.copy_blocks(&self.gpu, copies)
    }

    /// Computes a step. Returns the wanted logits, `[wanted rows, vocabulary]`, in the batch's order; `None` when
    /// `abandoned` said between two parts of a layer that nobody wants the result any more.
    pub fn forward(
        &mut self,
        batch: &Batch,
        abandoned: &dyn Fn() -> bool,
    ) -> Result<Option<&[f32]>, GpuError> {
        match self.compute(batch, abandoned)? {
            Some(wanted_rows) => self.read_logits(wanted_rows).map(Some),
            None => Ok(None),
        }
    }

    /// Computes a step as [`Self::forward`] does, but reads back only the likeliest token of each wanted row.
    pub fn choose(
        &mut self,
        batch: &Batch,
        abandoned: &dyn Fn() -> bool,
    ) -> Result<Option<&[Choice]>, GpuError> {
        match self.compute(batch, abandoned)? {
            Some(wanted_rows) => self.read_choices(wanted_rows).map(Some),
            None => Ok(None),
        }
    }

    /// Runs a step on the device, the rows beyond whole blocks of a large model's products in a step of their own.
    /// Returns the number of rows whose results are wanted.
    fn compute(&mut self, batch: &Batch, abandoned: &dyn Fn() -> bool) -> Result<Option<usize>, GpuError> {
        let tail = batch.rows() % PROMPT_ROWS;
        let is_costly = batch.rows() > PROMPT_ROWS && (1..=LARGEST_NARROW_ROWS).contains(&tail);
        if is_costly
            && self.weights_bytes() >= TAIL_WEIGHTS
            && let Some([whole, rest]) = split_tail(batch, tail)
        {
            return match self.compute_step(&whole, abandoned)? {
                Some(_) => self.compute_step(&rest, abandoned),
                None => Ok(None),
            };
        }
        self.compute_step(batch, abandoned)
    }

    fn compute_step(
        &mut self,
        batch: &Batch,
        abandoned: &dyn Fn() -> bool,
    ) -> Result<Option<usize>, GpuError> {
        let group = attention::group(&self.kv.shape);
        let step = Step::new(batch, group);
        let vocabulary = self.config.vocabulary;
        assert!(step.words[..step.rows].iter().all(|token| (*token as usize) < vocabulary));
        assert!(step.words[step.tables..].iter().all(|block| (*block as usize) < self.blocks));
        let wanted = wanted_rows(batch).map(|wanted| Step::new(&wanted, group));
        self.reserve(&step, wanted.as_ref())?;
        match &wanted {
            None => self.scratch.words.write(&self.gpu, &step.words)?,
            Some(wanted) => {
                let words = [step.words.as_slice(), &wanted.words].concat();
                self.scratch.words.write(&self.gpu, &words)?;
            }
        }
        let finished = match self.graphs.find(&step) {
            Found::Ready(graph) => {
                graph.launch()?;
                true
            }
            Found::Worthwhile => match Graph::capture(&self.gpu, || self.queue(&step, None, &|| false)) {
                Ok(graph) => {
                    graph.launch()?;
                    self.graphs.keep(&step, graph);
                    true
                }
                Err(error) => {
                    tracing::warn!(%error, "steps cannot be recorded and take longer to start");
                    self.graphs.refuse();
                    self.queue(&step, None, abandoned)?
                }
            },
            Found::Rare => self.queue(&step, wanted.as_ref(), abandoned)?,
        };
        if !finished {
            // The words are overwritten by the next step; what was queued must have read them.
            self.gpu.synchronize()?;
            return Ok(None);
        }
        Ok(Some(step.wanted_rows))
    }

    fn read_logits(&mut self, wanted_rows: usize) -> Result<&[f32], GpuError> {
        let (stride, vocabulary) = (self.head().stride, self.config.vocabulary);
        let length = wanted_rows * stride;
        if self.scratch.host_logits.len() < length {
            self.scratch.host_logits = pinned(&self.gpu, length + length / 4)?;
        }
        let failed = GpuError::during("reading the logits");
        let host = self.scratch.host_logits.as_mut_slice().map_err(&failed)?;
        self.scratch.logits.read(&self.gpu, &mut host[..length])?;
        // Rows are padded to whole tiles of features on the device.
        if stride != vocabulary {
            for row in 1..wanted_rows {
                host.copy_within(row * stride..row * stride + vocabulary, row * vocabulary);
            }
        }
        Ok(&host[..wanted_rows * vocabulary])
    }

    fn read_choices(&mut self, wanted_rows: usize) -> Result<&[Choice], GpuError> {
        let s = &mut self.scratch;
        if s.host_choices.len() < wanted_rows * 2 {
            s.host_choices = pinned(&self.gpu, wanted_rows * 2)?;
        }
        let host = s.host_choices.as_mut_slice().map_err(GpuError::during("reading the choices"))?;
        s.choices.read(&self.gpu, &mut host[..wanted_rows * 2])?;
        s.chosen.clear();
        s.chosen.extend(
            host[..wanted_rows * 2]
                .chunks_exact(2)
                .map(|pair| Choice { token: pair[0], log_probability: f32::from_bits(pair[1]) }),
        );
        Ok(&s.chosen)
    }

    fn head(&self) -> &Products {
        self.output.as_ref().unwrap_or(&self.embedding)
    }

    /// Makes room for a step, and for its wanted rows alone. Allocates only when a step is larger than all before it.
    fn reserve(&mut self, step: &Step, wanted: Option<&Step>) -> Result<(), GpuError> {
        let logits = step.wanted_rows * self.head().stride;
        let (gpu, c, rows) = (&self.gpu, &self.config, step.rows);
        let s = &mut self.scratch;
        let before = s.addresses();
        let (mut words, mut floats, mut sums) = (0, 0, 0);
        for part in [Some(step), wanted].into_iter().flatten() {
            words += part.words.len();
            for layer in &self.layers {
                for products in layer.products() {
                    floats = floats.max(products.output_length(gpu, part.rows)?);
                }
                if layer.down.gates(gpu, part.rows) {
                    sums = sums.max(layer.down.output_length(gpu, part.rows)?);
                }
            }
            s.attention.reserve(gpu, &self.kv.shape, part)?;
        }
        if let (Some(wanted), Some(last)) = (wanted, self.layers.last()) {
            let projections = last.query_key_value.output_length(gpu, rows)? / rows * wanted.rows;
            s.wanted_residual.reserve(gpu, "activations", wanted.rows * c.embedding * 4)?;
            s.wanted_projections.reserve(gpu, "activations", projections * 4)?;
        }
        s.words.reserve(gpu, "a step", words * 4)?;
        s.residual.reserve(gpu, "activations", rows * c.embedding * 4)?;
        s.products.reserve(gpu, "activations", floats * 4)?;
        s.sums.reserve(gpu, "activations", sums * 4)?;
        let widest = c.embedding.max(c.feed_forward).max(c.heads * c.head_dimension);
        s.x.reserve(gpu, rows, widest)?;
        s.logits.reserve(gpu, "logits", logits * 4)?;
        s.choices.reserve(gpu, step.wanted_rows)?;
        if s.addresses() != before {
            // Recorded steps name the old buffers.
            self.graphs = Graphs::default();
        }
        Ok(())
    }

    /// Queues the kernels of a step; with `wanted`, its rows alone after the last layer's keys and values. `false` when it was
    /// abandoned.
    fn queue(
        &self,
        step: &Step,
        wanted: Option<&Step>,
        abandoned: &dyn Fn() -> bool,
    ) -> Result<bool, GpuError> {
        let Self { gpu, config: c, scratch: s, kv, .. } = self;
        let products = s.products.address();
        // What is being computed: all rows, then perhaps the wanted ones.
        let (mut step, mut at) = (step, StepAddresses { words: s.words.address() });
        let mut residual = s.residual.address();
        let attention_width = c.heads * c.head_dimension;
        let normalize = |residual,
                         update: Partial,
                         weight: &Buffer,
                         wanted: CUdeviceptr,
                         count: usize,
                         layout: Layout| {
            let out = s.x.shaped(count, c.embedding, layout);
            let params = NormalizeParams {
                residual,
                update,
                weight: weight.address(),
                wanted,
                out,
                columns: c.embedding as u32,
                epsilon: c.norm_epsilon,
            };
            // SAFETY: the residual has the step's rows, the weight and the update `embedding` columns.
            unsafe { rows::normalize(gpu, count, &params) }.map(|()| out)
        };
        // SAFETY: token ids were checked against the vocabulary; the residual was sized for the step.
        unsafe {
            rows::embed(gpu, self.embedding.matrix(0), at.section(0), step.rows, residual)?;
            s.attention.turn(gpu, &kv.shape, step, at, self.frequencies.address())?;
        }
        let layer_bytes = self.layers.first().map_or(0, Layer::byte_length);
        let mut pace = Pace::new(gpu, step.rows, layer_bytes);
        let mut update = NOTHING;
        for (index, layer) in self.layers.iter().enumerate() {
            if abandoned() {
                return Ok(false);
            }
            let layout = layer.query_key_value.layout(gpu, step.rows);
            let x = normalize(residual, update, &layer.attention_norm, 0, step.rows, layout)?;
            let rotation = Rotation {
                bias: layer.bias.as_ref().map_or(0, Buffer::address),
                pairs_are_adjacent: u32::from(c.architecture.rope_pairing() == RopePairing::Adjacent),
            };
            // SAFETY: `reserve` sized every buffer for this step; kernels run in this order, so a buffer is read
            // before the next kernel that writes it.
            let mut projections = unsafe { layer.query_key_value.launch(gpu, x, step.rows, products)? };
            if let Some(wanted) = wanted.filter(|_| index + 1 == self.layers.len()) {
                // SAFETY: as above; the wanted rows are rows of the step.
                unsafe {
                    s.attention.store(gpu, kv, index, step, at, projections, rotation)?;
                    if wanted.rows == 0 {
                        return Ok(true);
                    }
                    let (list, count) = (at.section(step.wanted), wanted.rows);
                    let all = Partial {
                        values: residual,
                        splits: 1,
                        rows: step.rows as u32,
                        stride: c.embedding as u32,
                    };
                    residual = rows::gather(gpu, all, list, count, s.wanted_residual.address())?.values;
                    let place = s.wanted_projections.address();
                    projections = rows::gather(gpu, projections, list, count, place)?;
                    (step, at) = (wanted, at.behind(step));
                    s.attention.turn(gpu, &kv.shape, step, at, self.frequencies.address())?;
                }
            }
            let rows = step.rows;
            let attended = s.x.shaped(rows, attention_width, layer.output.layout(gpu, rows));
            // SAFETY: as above.
            update = unsafe {
                s.attention.attend(gpu, kv, index, step, at, projections, rotation, attended)?;
                layer.output.launch(gpu, attended, rows, products)?
            };
            pace.part_queued()?;
            if abandoned() {
                return Ok(false);
            }
            let layout = layer.gate_up.layout(gpu, rows);
            let x = normalize(residual, update, &layer.feed_forward_norm, 0, rows, layout)?;
            let gated = s.x.shaped(rows, c.feed_forward, layer.down.layout(gpu, rows));
            // SAFETY: as above.
            let gate_up = unsafe { layer.gate_up.launch(gpu, x, rows, products)? };
            pace.part_queued()?;
            if abandoned() {
                return Ok(false);
            }
            // SAFETY: as above; `sums` is another buffer than `products`.
            update = unsafe {
                let input = GateInput {
                    products: gate_up,
                    up_column: layer.gate_up.columns[1] as u32,
                    columns: c.feed_forward as u32,
                };
                if layer.down.gates(gpu, rows) {
                    layer.down.launch_gated(gpu, input, rows, s.sums.address())?
                } else {
                    rows::gate(gpu, rows, &GateParams { input, out: gated })?;
                    layer.down.launch(gpu, gated, rows, products)?
                }
            };
            pace.part_queued()?;
        }
        if step.wanted_rows > 0 {
            let (wanted, count) = (at.section(step.wanted), step.wanted_rows);
            let layout = self.head().layout(gpu, count);
            let x = normalize(residual, update, &self.output_norm, wanted, count, layout)?;
            let (logits, stride) = (s.logits.address(), self.head().stride);
            // SAFETY: as above; the wanted rows are rows of the step.
            unsafe {
                self.head().launch(gpu, x, step.wanted_rows, logits)?;
                s.choices.choose(gpu, logits, step.wanted_rows, stride, c.vocabulary)?;
            }
        }
        Ok(true)
    }
}

/// The rows whose logits are wanted as a batch of their own, where they are few of many. Not of steps that are recorded as
/// graphs, which would have to be told apart by these rows too.
fn wanted_rows(batch: &Batch) -> Option<Batch> {
    let wanted: usize = batch.entries.iter().map(|entry| entry.logits.len()).sum();
    if batch.rows() <= MOST_ROWS || wanted > LARGEST_NARROW_ROWS {
        return None;
    }
    let entries = batch.entries.iter().filter(|entry| !entry.logits.is_empty()).map(|entry| BatchEntry {
        sequence: entry.sequence,
        tokens: entry.tokens[entry.logits.clone()].to_vec(),
        start: entry.start + entry.logits.start,
        blocks: entry.blocks.clone(),
        logits: 0..entry.logits.len(),
    });
    Some(Batch { copies: Vec::new(), entries: entries.collect() })
}

/// The batch without its last `tail` rows, then those; `None` unless they are of one sequence and the only wanted ones.
fn split_tail(batch: &Batch, tail: usize) -> Option<[Batch; 2]> {
    let (last, others) = batch.entries.split_last()?;
    let cut = last.tokens.len().checked_sub(tail)?;
    let nothing_before = others.iter().all(|entry| entry.logits.is_empty());
    if cut == 0 || !nothing_before || last.logits.is_empty() || last.logits.start < cut {
        return None;
    }
    let part = |tokens: std::ops::Range<usize>, logits| BatchEntry {
        tokens: last.tokens[tokens.clone()].to_vec(),
        start: last.start + tokens.start,
        logits,
        ..last.clone()
    };
    let rest = part(cut..last.tokens.len(), last.logits.start - cut..last.logits.end - cut);
    let whole = others.iter().cloned().chain([part(0..cut, 0..0)]).collect();
    Some([Batch { copies: Vec::new(), entries: whole }, Batch { copies: Vec::new(), entries: vec![rest] }])
}

impl Scratch {
    /// Of every buffer that kernels are given.
    fn addresses(&self) -> Vec<CUdeviceptr> {
        let own = [
            &self.words,
            &self.residual,
            &self.wanted_residual,
            &self.wanted_projections,
            &self.products,
            &self.sums,
            &self.logits,
        ]
        .map(Buffer::address);
        [&own[..], &self.x.addresses(), &self.attention.addresses(), &self.choices.addresses()].concat()
    }

    fn new(gpu: &Gpu, precision: Precision) -> Result<Self, GpuError> {
        let empty = |what| Buffer::new(gpu, what, 0);
        Ok(Self {
            words: empty("a step")?,
            residual: empty("activations")?,
            wanted_residual: empty("activations")?,
            wanted_projections: empty("activations")?,
            products: empty("activations")?,
            sums: empty("activations")?,
            x: ActivationBuffer::new(gpu, precision)?,
            attention: AttentionScratch::new(gpu)?,
            logits: empty("logits")?,
            choices: ChoiceBuffer::new(gpu)?,
            host_logits: pinned(gpu, 1)?,
            host_choices: pinned(gpu, 2)?,
            chosen: Vec::new(),
        })
    }
}

fn pinned<T: DeviceRepr>(gpu: &Gpu, length: usize) -> Result<PinnedHostSlice<T>, GpuError> {
    // SAFETY: numbers have no invalid bit patterns, and only what the device wrote is read.
    unsafe { gpu.context.alloc_pinned_with_flags(length, 0) }
        .map_err(GpuError::during("reserving page-locked memory"))
}

/// Blocks for the cache: as many as wanted if a full step's activations still fit beside them.
fn blocks_that_fit(
    gpu: &Gpu,
    c: &ModelConfig,
    shape: &AttentionShape,
    cache: CacheWish,
) -> Result<usize, GpuError> {
    let step = STEP_TOKENS * (8 * c.feed_forward + 2 * c.feed_forward + 16 * c.embedding) + (256 << 20);
    let (free, _) = gpu.memory()?;
    let (blocks, least) = (cache.blocks, cache.least_blocks);
    let blocks = blocks.min(free.saturating_sub(step) / shape.block_bytes());
    if blocks < least {
        return Err(GpuError::OutOfMemory {
            what: "the cache of keys and values with a step's activations",
            needed_mib: (least * shape.block_bytes() + step) >> 20,
            free_mib: free >> 20,
        });
    }
    Ok(blocks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(tokens: usize, start: usize, logits: std::ops::Range<usize>) -> BatchEntry {
        BatchEntry {
            sequence: 0,
            tokens: (0..tokens as u32).collect(),
            start,
            blocks: (0..40).collect(),
            logits,
        }
    }

    fn batch(entries: Vec<BatchEntry>) -> Batch {
        Batch { copies: Vec::new(), entries }
    }

    #[test]
    fn few_wanted_rows_of_many_become_a_batch() {
        let wanted = wanted_rows(&batch(vec![entry(100, 3, 0..0), entry(2, 50, 0..2), entry(90, 7, 87..90)]));
        let found: Vec<_> = wanted
            .expect("few of many")
            .entries
            .into_iter()
            .map(|entry| (entry.start, entry.tokens, entry.logits))
            .collect();
        assert_eq!(found, [(50, vec![0, 1], 0..2), (94, vec![87, 88, 89], 0..3)]);
        assert_eq!(wanted_rows(&batch(vec![entry(100, 0, 0..0)])), Some(Batch::default()));
        // Few rows in all, and many wanted ones.
        assert_eq!(wanted_rows(&batch(vec![entry(64, 0, 63..64)])), None);
        assert_eq!(wanted_rows(&batch(vec![entry(100, 0, 60..100)])), None);
    }

    #[test]
    fn a_tail_is_cut_off_where_only_its_rows_are_wanted() {
        let [whole, rest] =
            split_tail(&batch(vec![entry(100, 0, 0..0), entry(160, 7, 159..160)]), 4).expect("cut");
        assert_eq!((whole.rows(), rest.rows()), (256, 4));
        assert_eq!((whole.entries[1].start, whole.entries[1].logits.clone()), (7, 0..0));
        assert_eq!((rest.entries[0].start, rest.entries[0].logits.clone()), (163, 3..4));
        assert_eq!(rest.entries[0].tokens, [156, 157, 158, 159]);
        for kept in [
            // Another sequence's row is wanted; a row before the tail is; no row is; the tail is all of the sequence.
            vec![entry(1, 90, 0..1), entry(131, 0, 130..131)],
            vec![entry(132, 0, 100..132)],
            vec![entry(132, 0, 0..0)],
            vec![entry(128, 0, 0..0), entry(4, 0, 3..4)],
        ] {
            assert!(split_tail(&batch(kept), 4).is_none());
        }
    }
}
