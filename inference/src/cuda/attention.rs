//! Attention over pages of keys and values on the device.

use cudarc::driver::sys::CUdeviceptr;

use super::{
    Gpu, GpuError,
    buffers::Buffer,
    few_rows::FewRows,
    kernels::{AttentionKernels, HEAD_DIMENSIONS},
    pages::{AttentionShape, KvPages, PageFormat},
    params::{
        Activations, AttendParams, MergeParams, PackParams, Partial, RotateAttendParams, RotateParams,
        TurnsParams,
    },
    rows,
    step::{CHUNK, Step},
    tiles::COLUMN_UNIT,
};
use crate::kv_cache::BLOCK_SIZE;

/// Warps of an attention block, as in `attention.cu`.
const WARPS: usize = 4;
/// Threads of a block of `rotate`.
const ROTATE_THREADS: usize = 256;

/// Shared memory of `attend_prompt`: each warp's sums of 16 items, and two chunks of keys and values; in fp8 one that is
/// expanded, and two that are not.
fn prompt_shared_bytes(shape: &AttentionShape) -> usize {
    let sums = WARPS * 16 * shape.dimension * 4;
    let chunk = |format: PageFormat| 2 * (CHUNK / BLOCK_SIZE) * format.page_bytes(shape.dimension);
    match shape.format {
        PageFormat::Bf16 => sums + 2 * chunk(PageFormat::Bf16),
        PageFormat::Fp8 => sums + chunk(PageFormat::Bf16) + 2 * chunk(PageFormat::Fp8),
    }
}

/// Memory for unmerged spans; beyond it rows walk through their chunks.
const SPAN_BYTES: usize = 256 << 20;
/// Warps a multiprocessor needs to be busy: with so many tiles there is nothing to gain from splitting them.
const WARPS_PER_MULTIPROCESSOR: usize = 8;

/// Up to so many rows are rotated by the spans that need them; for more a kernel before them costs less (measured on an
/// H200 with 1 to 16 rows of a 1.5B and a 7B).
const ROTATING_ROWS: usize = 4;

/// Where a step finds its arrays on the device.
#[derive(Debug, Clone, Copy)]
pub struct StepAddresses {
    pub words: CUdeviceptr,
}

impl StepAddresses {
    pub fn section(self, first_word: usize) -> CUdeviceptr {
        self.words + 4 * first_word as CUdeviceptr
    }

    /// Of the step whose array lies behind that of `step`.
    pub fn behind(self, step: &Step) -> Self {
        Self { words: self.section(step.words.len()) }
    }
}

/// Buffers that attention needs between its kernels, kept from step to step.
pub struct AttentionScratch {
    turns: Buffer,
    query: Buffer,
    rows: Buffer,
    span_sums: Buffer,
    span_weights: Buffer,
}

/// What turns a row's projections into queries, keys and values.
#[derive(Debug, Clone, Copy)]
pub struct Rotation {
    /// Of query, key and value side by side; 0 for none.
    pub bias: CUdeviceptr,
    pub pairs_are_adjacent: u32,
}

impl AttentionScratch {
    pub fn new(gpu: &Gpu) -> Result<Self, GpuError> {
        let empty = || Buffer::new(gpu, "attention", 0);
        Ok(Self {
            turns: empty()?,
            query: empty()?,
            rows: empty()?,
            span_sums: empty()?,
            span_weights: empty()?,
        })
    }

    /// Where the buffers lie at present.
    pub(super) fn addresses(&self) -> [CUdeviceptr; 5] {
        [&self.turns, &self.query, &self.rows, &self.span_sums, &self.span_weights].map(Buffer::address)
    }

    /// Whether the step's attention is spread over chunks.
    fn uses_chunks(gpu: &Gpu, shape: &AttentionShape, step: &Step) -> bool {
        let bytes = step.spans() * step.rows * shape.heads * shape.dimension * 4;
        let busy = step.tile_count * shape.kv_heads >= WARPS_PER_MULTIPROCESSOR * gpu.multiprocessors;
        bytes <= SPAN_BYTES && !busy
    }

    pub fn reserve(&mut self, gpu: &Gpu, shape: &AttentionShape, step: &Step) -> Result<(), GpuError> {
        let width = shape.heads * shape.dimension;
        self.turns.reserve(gpu, "attention", step.rows * shape.dimension / 2 * 8)?;
        self.query.reserve(gpu, "attention", step.rows * width * 2)?;
        if Self::uses_chunks(gpu, shape, step) {
            let states = step.spans() * step.rows * shape.heads;
            self.span_sums.reserve(gpu, "attention", states * shape.dimension * 4)?;
            self.span_weights.reserve(gpu, "attention", states * 8)
        } else {
            self.rows.reserve(gpu, "attention", step.rows * width * 4)
        }
    }

    /// Computes by what angles the step's rows are rotated, for all layers; `frequencies` are radians a position,
    /// `dimension / 2` of them.
    ///
    /// # Safety
    /// `at` is the step's array on the device, and [`Self::reserve`] made room for the step.
    pub unsafe fn turn(
        &self,
        gpu: &Gpu,
        shape: &AttentionShape,
        step: &Step,
        at: StepAddresses,
        frequencies: CUdeviceptr,
    ) -> Result<(), GpuError> {
        let params = TurnsParams {
            frequencies,
            positions: at.section(step.positions),
            turns: self.turns.address(),
            half: shape.dimension as u32 / 2,
        };
        // SAFETY: the caller's promise.
        unsafe { gpu.launch(&gpu.kernels.turns, [step.rows, 1, 1], 64, 0, &params) }
    }

    /// Whether a step's attention rotates its queries, keys and values itself: every span does so for its tile.
    fn rotates(gpu: &Gpu, shape: &AttentionShape, step: &Step) -> bool {
        step.rows <= ROTATING_ROWS && Self::uses_chunks(gpu, shape, step)
    }

    fn rotation(
        &self,
        kv: &KvPages,
        layer: usize,
        step: &Step,
        at: StepAddresses,
        projections: Partial,
        rotation: Rotation,
    ) -> RotateParams {
        let shape = &kv.shape;
        RotateParams {
            products: projections,
            bias: rotation.bias,
            turns: self.turns.address(),
            positions: at.section(step.positions),
            table_starts: at.section(step.table_starts),
            tables: at.section(step.tables),
            query: self.query.address(),
            keys: kv.plane(layer, 0),
            values: kv.plane(layer, 1),
            heads: shape.heads as u32,
            kv_heads: shape.kv_heads as u32,
            dimension: shape.dimension as u32,
            adjacent: rotation.pairs_are_adjacent,
        }
    }

    /// Rotates and stores the step's keys and values, and no more.
    ///
    /// # Safety
    /// As for [`Self::attend`].
    #[allow(clippy::too_many_arguments, reason = "as `attend`")]
    pub unsafe fn store(
        &self,
        gpu: &Gpu,
        kv: &KvPages,
        layer: usize,
        step: &Step,
        at: StepAddresses,
        projections: Partial,
        rotation: Rotation,
    ) -> Result<(), GpuError> {
        let (kernels, variant) = kernels_of(gpu, &kv.shape)?;
        // SAFETY: the caller's promise.
        unsafe {
            launch_rotation(gpu, kernels, variant, &self.rotation(kv, layer, step, at, projections, rotation))
        }
    }

    /// Rotates and stores the step's keys and values, attends, and leaves the result in `out`.
    ///
    /// # Safety
    /// [`Self::turn`] came before it. `projections` holds query, key and value of the step's rows side by side; `at` is the
    /// step's array on the device, and its block tables name blocks of `kv`; `out` has room for `heads * dimension` columns.
    #[allow(clippy::too_many_arguments, reason = "one kernel call each; a structure would only rename them")]
    pub unsafe fn attend(
        &self,
        gpu: &Gpu,
        kv: &KvPages,
        layer: usize,
        step: &Step,
        at: StepAddresses,
        projections: Partial,
        rotation: Rotation,
        out: Activations,
    ) -> Result<(), GpuError> {
        let shape = &kv.shape;
        let rotate = self.rotation(kv, layer, step, at, projections, rotation);
        let (keys, values) = (rotate.keys, rotate.values);
        let (kernels, variant) = kernels_of(gpu, shape)?;
        let by_chunks = Self::uses_chunks(gpu, shape, step);
        let attend = AttendParams {
            query: self.query.address(),
            keys,
            values,
            tiles: at.section(step.tiles),
            tables: at.section(step.tables),
            out: if by_chunks { self.span_sums.address() } else { self.rows.address() },
            weights: self.span_weights.address(),
            tile_count: step.tile_count as u32,
            rows: step.rows as u32,
            heads: shape.heads as u32,
            kv_heads: shape.kv_heads as u32,
            chunks: step.chunks as u32,
            scale: std::f32::consts::LOG2_E / (shape.dimension as f32).sqrt(),
        };
        let width = shape.heads * shape.dimension;
        let threads = 32 * WARPS as u32;
        let few_rows = by_chunks.then(|| FewRows::of(shape, step, gpu.multiprocessors)).flatten();
        // SAFETY: the caller's promise; the scratch was sized by `reserve` for this step.
        unsafe {
            let spans = [step.tile_count, shape.kv_heads, step.spans()];
            if let Some((few_kernels, few_rows)) = kernels.few_rows.as_ref().zip(few_rows) {
                let attend = AttendParams { tiles: at.section(step.row_tiles), ..attend };
                let params = few_rows.params(shape, step, rotate, attend, out);
                let shared_bytes = few_rows.shared_bytes(shape, step.chunks);
                let function = &few_rows.kernels(few_kernels)[variant];
                gpu.launch(function, few_rows.grid(shape, step), few_rows.threads(), shared_bytes, &params)?;
                if let FewRows::Clusters { .. } = few_rows {
                    return Ok(());
                }
            } else if Self::rotates(gpu, shape, step) {
                let params = RotateAttendParams { rotate, attend };
                gpu.launch(&kernels.rotate_chunks[variant], spans, threads, 0, &params)?;
            } else {
                launch_rotation(gpu, kernels, variant, &rotate)?;
                if by_chunks {
                    gpu.launch(&kernels.chunks[variant], spans, threads, 0, &attend)?;
                } else {
                    let grid = [shape.kv_heads, step.tile_count.div_ceil(WARPS), 1];
                    let shared = prompt_shared_bytes(shape);
                    gpu.launch(&kernels.prompt[variant], grid, threads, shared, &attend)?;
                }
            }
            if by_chunks {
                let merge = MergeParams {
                    sums: self.span_sums.address(),
                    weights: self.span_weights.address(),
                    positions: at.section(step.positions),
                    out,
                    rows: step.rows as u32,
                    heads: shape.heads as u32,
                    dimension: shape.dimension as u32,
                };
                let grid = [out.columns as usize / COLUMN_UNIT, step.rows, 1];
                gpu.launch(&gpu.kernels.attend_merge, grid, 32, 0, &merge)
            } else {
                let params = PackParams { rows: self.rows.address(), out, columns: width as u32 };
                rows::pack(gpu, step.rows, &params)
            }
        }
    }
}

/// The kernels of a shape's format, and which of each is of its dimension.
fn kernels_of<'a>(gpu: &'a Gpu, shape: &AttentionShape) -> Result<(&'a AttentionKernels, usize), GpuError> {
    let variant = HEAD_DIMENSIONS.iter().position(|dimension| *dimension == shape.dimension);
    let variant = variant.ok_or_else(|| {
        GpuError::Unsupported(format!("no attention for heads of {} dimensions", shape.dimension))
    })?;
    Ok((gpu.kernels.attention(shape.format), variant))
}

/// Queues `rotate`.
///
/// # Safety
/// Addresses are of live buffers of the shapes that `RotateParams` states in `attention.cuh`; the kernels are of its format and
/// dimension.
unsafe fn launch_rotation(
    gpu: &Gpu,
    kernels: &AttentionKernels,
    variant: usize,
    params: &RotateParams,
) -> Result<(), GpuError> {
    let heads = (params.heads + 2 * params.kv_heads) as usize;
    let heads_at_once = ROTATE_THREADS / kernels.rotate_threads[variant];
    let grid = [heads.div_ceil(heads_at_once), params.products.rows as usize, 1];
    // SAFETY: the caller's promise.
    unsafe { gpu.launch(&kernels.rotate[variant], grid, ROTATE_THREADS as u32, 0, params) }
}

/// Query heads that share a key-value head.
pub fn group(shape: &AttentionShape) -> usize {
    shape.group()
}
