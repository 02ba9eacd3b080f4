//! What is done to each row between two products, and activations on the device.

use cudarc::driver::sys::CUdeviceptr;
use half::bf16;

use super::{
    Gpu, GpuError,
    buffers::{Buffer, DeviceMatrix},
    multiply::padded_rows,
    params::{Activations, EmbedParams, GateParams, NormalizeParams, PackParams, Partial},
    tiles::{GROUP, padded_columns},
};

/// Room for the activations that a product reads; each producer fills it anew.
pub struct ActivationBuffer {
    values: Buffer,
    sums: Buffer,
}

impl ActivationBuffer {
    pub fn new(gpu: &Gpu) -> Result<Self, GpuError> {
        Ok(Self { values: Buffer::new(gpu, "activations", 0)?, sums: Buffer::new(gpu, "activations", 0)? })
    }

    /// Where the buffer lies at present.
    pub(super) fn addresses(&self) -> [CUdeviceptr; 2] {
        [self.values.address(), self.sums.address()]
    }

    /// Makes room for `rows` rows of up to `columns` columns.
    pub fn reserve(&mut self, gpu: &Gpu, rows: usize, columns: usize) -> Result<(), GpuError> {
        let (rows, columns) = (padded_rows(rows), padded_columns(columns));
        self.values.reserve(gpu, "activations", rows * columns * 2)?;
        self.sums.reserve(gpu, "activations", rows * columns / GROUP * 4)
    }

    /// The buffer as `rows` rows of `columns` columns; [`Self::reserve`] must have made room for them.
    pub fn shaped(&self, rows: usize, columns: usize) -> Activations {
        let (rows, columns) = (padded_rows(rows), padded_columns(columns));
        assert!(self.values.len() >= rows * columns * 2 && self.sums.len() >= rows * columns / GROUP * 4);
        Activations {
            values: self.values.address(),
            sums: self.sums.address(),
            padded_rows: rows as u32,
            columns: columns as u32,
        }
    }

    /// The values and group sums of activations in this buffer, as they lie there.
    pub(super) fn read(&self, gpu: &Gpu, x: Activations) -> Result<(Vec<bf16>, Vec<f32>), GpuError> {
        let count = x.padded_rows as usize * x.columns as usize;
        let (mut values, mut sums) = (vec![bf16::ZERO; count], vec![0f32; count / GROUP]);
        self.values.read(gpu, &mut values)?;
        self.sums.read(gpu, &mut sums)?;
        Ok((values, sums))
    }
}

/// No update: the residual is complete already.
pub(super) const NOTHING: Partial = Partial { values: 0, splits: 0, rows: 0, stride: 0 };

/// Threads along the columns of `gate` and `pack`, four columns each.
const COLUMNS_PER_BLOCK: usize = 1024;

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

/// Adds the update to the residual, then normalizes `rows` rows of it.
///
/// # Safety
/// Addresses are of live buffers of the shapes that `NormalizeParams` states in `rows.cu`.
pub(super) unsafe fn normalize(gpu: &Gpu, rows: usize, params: &NormalizeParams) -> Result<(), GpuError> {
    let shared = params.columns as usize * 4;
    // SAFETY: the caller's promise.
    unsafe { gpu.launch(&gpu.kernels.normalize, [rows, 1, 1], 512, shared, params) }
}

/// SwiGLU's elementwise part over `rows` rows.
///
/// # Safety
/// As for [`normalize`], with `GateParams`.
pub(super) unsafe fn gate(gpu: &Gpu, rows: usize, params: &GateParams) -> Result<(), GpuError> {
    let grid = [(params.out.columns as usize).div_ceil(COLUMNS_PER_BLOCK), rows, 1];
    // SAFETY: the caller's promise.
    unsafe { gpu.launch(&gpu.kernels.gate, grid, 256, 0, params) }
}

/// Turns rows of floats into activations.
///
/// # Safety
/// As for [`normalize`], with `PackParams`.
pub(super) unsafe fn pack(gpu: &Gpu, rows: usize, params: &PackParams) -> Result<(), GpuError> {
    let grid = [(params.out.columns as usize).div_ceil(COLUMNS_PER_BLOCK), rows, 1];
    // SAFETY: the caller's promise.
    unsafe { gpu.launch(&gpu.kernels.pack, grid, 256, 0, params) }
}
