//! What is done to each row between two products, and activations on the device.

use cudarc::driver::sys::CUdeviceptr;
use half::bf16;

use super::{
    Gpu, GpuError,
    buffers::{Buffer, DeviceMatrix},
    multiply::{LARGEST_NARROW_ROWS, padded_rows},
    params::{
        Activations, ChooseParams, EmbedParams, GateParams, GatherParams, Layout, NormalizeParams,
        PackParams, Partial,
    },
    tiles::{COLUMN_UNIT, padded_columns},
};

/// What the products read of activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// Signed bytes with a scale for 256 columns, for quantized weights.
    Bytes,
    /// Those, and bf16 for weights that are not quantized.
    BytesAndHalves,
}

/// Rows whose 256 columns lie together.
pub(super) const UNIT_ROWS: usize = 8;
/// Bytes of such rows: their values, scales, and sums of groups of columns in 16 terms, as `activations.cuh` has them.
pub(super) const UNIT_BYTES: usize = UNIT_ROWS * (COLUMN_UNIT + 4 + 32);

/// Room for the activations that a product reads; each producer fills it anew.
pub struct ActivationBuffer {
    units: Buffer,
    halves: Option<Buffer>,
}

impl ActivationBuffer {
    pub fn new(gpu: &Gpu, precision: Precision) -> Result<Self, GpuError> {
        let empty = || Buffer::new(gpu, "activations", 0);
        let halves = match precision {
            Precision::Bytes => None,
            Precision::BytesAndHalves => Some(empty()?),
        };
        Ok(Self { units: empty()?, halves })
    }

    /// Where the buffer lies at present.
    pub(super) fn addresses(&self) -> [CUdeviceptr; 2] {
        [self.units.address(), self.halves.as_ref().map_or(0, Buffer::address)]
    }

    /// Makes room for `rows` rows of up to `columns` columns.
    pub fn reserve(&mut self, gpu: &Gpu, rows: usize, columns: usize) -> Result<(), GpuError> {
        let (rows, columns) = (padded_rows(rows), padded_columns(columns));
        self.units.reserve(gpu, "activations", rows / UNIT_ROWS * columns / COLUMN_UNIT * UNIT_BYTES)?;
        self.halves.as_mut().map_or(Ok(()), |halves| halves.reserve(gpu, "activations", rows * columns * 2))
    }

    /// The buffer as `rows` rows of `columns` columns; [`Self::reserve`] must have made room for them.
    pub fn shaped(&self, rows: usize, columns: usize, layout: Layout) -> Activations {
        let (rows, columns) = (padded_rows(rows), padded_columns(columns));
        assert!(self.units.len() >= rows / UNIT_ROWS * columns / COLUMN_UNIT * UNIT_BYTES);
        let [units, halves] = self.addresses();
        Activations { units, halves, padded_rows: rows as u32, columns: columns as u32, layout }
    }

    /// The units and halves of activations in this buffer, as they lie there.
    pub(super) fn read(&self, gpu: &Gpu, x: Activations) -> Result<(Vec<u8>, Vec<bf16>), GpuError> {
        let count = x.padded_rows as usize * x.columns as usize;
        let mut units = vec![0; count / UNIT_ROWS / COLUMN_UNIT * UNIT_BYTES];
        let mut halves = vec![bf16::ZERO; if self.halves.is_some() { count } else { 0 }];
        self.units.read(gpu, &mut units)?;
        if let Some(buffer) = &self.halves {
            buffer.read(gpu, &mut halves)?;
        }
        Ok((units, halves))
    }
}

/// No update: the residual is complete already.
pub(super) const NOTHING: Partial = Partial { values: 0, splits: 0, rows: 0, stride: 0 };

/// Warps of `gate` and `pack`, 256 columns each.
const ROW_WARPS: usize = 4;

fn row_grid(out: &Activations, rows: usize) -> [usize; 3] {
    [(out.columns as usize).div_ceil(ROW_WARPS * COLUMN_UNIT), rows, 1]
}

/// residual[row] = embedding[tokens[row]].
///
/// # Safety
/// `tokens` holds `rows` ids below the matrix's rows; `residual` has room for `rows` rows of its columns.
pub(super) unsafe fn embed(
    gpu: &Gpu,
    embedding: &DeviceMatrix,
    tokens: CUdeviceptr,
    rows: usize,
    residual: CUdeviceptr,
) -> Result<(), GpuError> {
    let params = EmbedParams {
        weights: embedding.tiles.address(),
        tokens,
        residual,
        format: embedding.format as u32,
        columns: embedding.columns as u32,
    };
    let grid = [embedding.columns.div_ceil(256), rows, 1];
    // SAFETY: the caller's promise.
    unsafe { gpu.launch(&gpu.kernels.embed, grid, 256, 0, &params) }
}

/// Threads of a row in `normalize`, each with four columns at a time, and blocks that share it on Hopper, as in `rows.cu`.
const NORMALIZE_THREADS: usize = 1024;
const ROW_BLOCKS: usize = 8;
/// More rows than this occupy enough multiprocessors without being shared (measured on an H200).
const CLUSTERED_ROWS: usize = 8;

/// Adds the update to the residual, then normalizes `rows` rows of it.
///
/// # Safety
/// Addresses are of live buffers of the shapes that `NormalizeParams` states in `rows.cu`.
pub(super) unsafe fn normalize(gpu: &Gpu, rows: usize, params: &NormalizeParams) -> Result<(), GpuError> {
    let shared = params.columns as usize * 4;
    let (function, blocks, threads, shared) = match &gpu.kernels.normalize_cluster {
        _ if rows > LARGEST_NARROW_ROWS => (&gpu.kernels.normalize_many, 1, 256, shared),
        Some(function) if rows <= CLUSTERED_ROWS => {
            let threads = NORMALIZE_THREADS / ROW_BLOCKS;
            let rounds = (params.columns as usize).div_ceil(NORMALIZE_THREADS * 4);
            (function, ROW_BLOCKS, threads, rounds * threads * 16)
        }
        _ => (&gpu.kernels.normalize, 1, NORMALIZE_THREADS, shared),
    };
    // SAFETY: the caller's promise.
    unsafe { gpu.launch(function, [rows * blocks, 1, 1], threads as u32, shared, params) }
}

/// SwiGLU's elementwise part over `rows` rows.
///
/// # Safety
/// As for [`normalize`], with `GateParams`.
pub(super) unsafe fn gate(gpu: &Gpu, rows: usize, params: &GateParams) -> Result<(), GpuError> {
    // SAFETY: the caller's promise.
    unsafe { gpu.launch(&gpu.kernels.gate, row_grid(&params.out, rows), 32 * ROW_WARPS as u32, 0, params) }
}

/// Turns rows of floats into activations.
///
/// # Safety
/// As for [`normalize`], with `PackParams`.
pub(super) unsafe fn pack(gpu: &Gpu, rows: usize, params: &PackParams) -> Result<(), GpuError> {
    // SAFETY: the caller's promise.
    unsafe { gpu.launch(&gpu.kernels.pack, row_grid(&params.out, rows), 32 * ROW_WARPS as u32, 0, params) }
}

/// Copies the rows that `wanted` lists, `count` of them, of each piece of `from` to `to`.
///
/// # Safety
/// `wanted` names rows of `from`, whose stride is a multiple of 4; `to` has room for as many pieces of `count` rows.
pub(super) unsafe fn gather(
    gpu: &Gpu,
    from: Partial,
    wanted: CUdeviceptr,
    count: usize,
    to: CUdeviceptr,
) -> Result<Partial, GpuError> {
    const THREADS: usize = 128;
    let params = GatherParams { from: from.values, to, wanted, rows: from.rows, stride: from.stride };
    let grid = [(from.stride as usize).div_ceil(4 * THREADS), count, from.splits as usize];
    // SAFETY: the caller's promise.
    unsafe { gpu.launch(&gpu.kernels.gather, grid, THREADS as u32, 0, &params)? };
    Ok(Partial { values: to, rows: count as u32, ..from })
}

/// Blocks that share a row's vocabulary in [`choose`].
const CHOOSE_BLOCKS: usize = 32;

/// Where the likeliest token of each row is found.
pub(super) struct ChoiceBuffer {
    shares: Buffer,
    choices: Buffer,
    finished: Buffer,
}

impl ChoiceBuffer {
    pub fn new(gpu: &Gpu) -> Result<Self, GpuError> {
        let empty = || Buffer::new(gpu, "choices", 0);
        Ok(Self { shares: empty()?, choices: empty()?, finished: empty()? })
    }

    pub fn addresses(&self) -> [CUdeviceptr; 3] {
        [&self.shares, &self.choices, &self.finished].map(Buffer::address)
    }

    pub fn reserve(&mut self, gpu: &Gpu, rows: usize) -> Result<(), GpuError> {
        self.shares.reserve(gpu, "choices", rows * CHOOSE_BLOCKS * 16)?;
        self.choices.reserve(gpu, "choices", rows * 8)?;
        // Zeros, which the kernel leaves behind too.
        self.finished.reserve(gpu, "choices", rows * 4)
    }

    /// Finds the likeliest token of each of `rows` rows of logits, `stride` apart, and its log probability.
    ///
    /// # Safety
    /// `logits` holds the rows; [`Self::reserve`] made room for them.
    pub unsafe fn choose(
        &self,
        gpu: &Gpu,
        logits: CUdeviceptr,
        rows: usize,
        stride: usize,
        vocabulary: usize,
    ) -> Result<(), GpuError> {
        let [shares, choices, finished] = self.addresses();
        let (stride, vocabulary) = (stride as u32, vocabulary as u32);
        let params = ChooseParams { logits, shares, choices, finished, stride, vocabulary };
        // SAFETY: the caller's promise.
        unsafe { gpu.launch(&gpu.kernels.choose, [CHOOSE_BLOCKS, rows, 1], 512, 0, &params) }
    }

    /// Token and bits of the log probability, row after row, after everything queued before.
    pub fn read(&self, gpu: &Gpu, choices: &mut [u32]) -> Result<(), GpuError> {
        self.choices.read(gpu, choices)
    }
}
