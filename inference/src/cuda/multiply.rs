//! Products with weights in tiles: how a group of matrices that read the same input is spread over the device.

use super::{
    Gpu, GpuError,
    buffers::DeviceMatrix,
    params::{Activations, MAX_PARTS, MultiplyParams, Part, Partial},
    rows::{Precision, UNIT_BYTES, UNIT_ROWS},
    tiles::{COLUMN_UNIT, Format, TILE_FEATURES, padded_columns},
};

/// Warps of a block, each with its own 16 features.
const WARPS: usize = 8;
const THREADS: u32 = 32 * WARPS as u32;
/// Blocks that a multiprocessor holds at once in a decode step.
const BLOCKS_PER_MULTIPROCESSOR: usize = 2;

/// A compiled variant of the product, as the end of `multiply.cu` lists them.
struct Variant {
    /// Rows of activations a block computes.
    tokens: usize,
    /// Bytes of weights in flight, as whole stages.
    ring: usize,
    /// Steps of columns whose activations are held at once, twice.
    chunk: usize,
    use_for: UseFor,
}

#[derive(PartialEq, Eq)]
enum UseFor {
    /// Devices whose blocks get too little shared memory for the others.
    SmallDevices,
    AnyRows,
    /// Many rows in several pieces: one block walks through all pieces, so that partial sums need no memory.
    ManyRows,
}

const VARIANTS: [Variant; 6] = [
    Variant { tokens: 8, ring: 40 << 10, chunk: 1, use_for: UseFor::SmallDevices },
    Variant { tokens: 8, ring: 96 << 10, chunk: 4, use_for: UseFor::AnyRows },
    Variant { tokens: 16, ring: 76 << 10, chunk: 3, use_for: UseFor::AnyRows },
    Variant { tokens: 32, ring: 57 << 10, chunk: 2, use_for: UseFor::AnyRows },
    Variant { tokens: 128, ring: 57 << 10, chunk: 1, use_for: UseFor::AnyRows },
    Variant { tokens: 128, ring: 57 << 10, chunk: 1, use_for: UseFor::ManyRows },
];
/// From this many rows on, blocks walk through the pieces: there are enough blocks without splitting, and partial sums
/// would cost more than they save.
const MANY_ROWS: usize = 768;

/// Rows that a step's activations are padded to: whole tiles of tokens in every variant that may compute it.
pub fn padded_rows(rows: usize) -> usize {
    match rows {
        0..=8 => 8,
        9..=16 => 16,
        17..=32 => 32,
        _ => rows.next_multiple_of(128),
    }
}

impl Variant {
    fn shared_bytes(&self, format: Format) -> usize {
        let stage = WARPS * format.tile_bytes();
        let stages = (self.ring / stage).clamp(2, (self.chunk + 1).max(2));
        // Of a unit of columns; or the bf16 of a tile's columns.
        let activations = if format == Format::Bf16 { 64 * 2 } else { UNIT_BYTES / UNIT_ROWS };
        let totals = if self.use_for == UseFor::ManyRows { self.tokens * WARPS * TILE_FEATURES * 4 } else { 0 };
        stages * stage + 2 * self.chunk * self.tokens * activations + totals
    }
}

/// Pieces of `units` units of columns that give the shortest time when `blocks` blocks do one piece each and the device
/// holds `at_once` blocks. A block's start and end cost about as much as a unit and a half (measured on an H200).
fn best_splits(at_once: usize, blocks: usize, units: usize) -> usize {
    let half_units = |splits: usize| (blocks * splits).div_ceil(at_once) * (2 * units.div_ceil(splits) + 3);
    (1..=units.div_ceil(2)).min_by_key(|splits| half_units(*splits)).unwrap_or(1)
}

/// Matrices with a common input, computed by one launch: query, key and value; gate and up; or one alone.
pub struct Products {
    matrices: Vec<DeviceMatrix>,
    /// First column of each in an output row.
    pub columns: Vec<usize>,
    /// Floats of an output row.
    pub stride: usize,
    /// Pieces that the columns are summed in. Depends on the shapes and the device only, never on the rows, so that a
    /// row's sums are always made in the same order.
    splits: usize,
    blocks: usize,
}

impl Products {
    pub fn new(gpu: &Gpu, matrices: Vec<DeviceMatrix>) -> Self {
        assert!(!matrices.is_empty() && matrices.len() <= MAX_PARTS);
        assert!(matrices.iter().all(|matrix| matrix.columns == matrices[0].columns));
        let tiles = |matrix: &DeviceMatrix| matrix.rows.div_ceil(TILE_FEATURES);
        let mut columns = Vec::new();
        let (mut stride, mut blocks) = (0, 0);
        for matrix in &matrices {
            columns.push(stride);
            stride += tiles(matrix) * TILE_FEATURES;
            blocks += tiles(matrix).div_ceil(WARPS);
        }
        let units = padded_columns(matrices[0].columns) / COLUMN_UNIT;
        let splits = best_splits(gpu.multiprocessors * BLOCKS_PER_MULTIPROCESSOR, blocks, units);
        Self { matrices, columns, stride, splits, blocks }
    }

    /// One matrix whose columns are summed in one piece, so that its output needs no adding up.
    pub fn whole(gpu: &Gpu, matrix: DeviceMatrix) -> Self {
        Self { splits: 1, ..Self::new(gpu, vec![matrix]) }
    }

    /// The same matrices summed in another number of pieces: for measuring which is best.
    pub fn with_splits(self, splits: usize) -> Self {
        let units = padded_columns(self.matrices[0].columns) / COLUMN_UNIT;
        Self { splits: splits.clamp(1, units), ..self }
    }

    /// What these products read of their input.
    pub fn precision(&self) -> Precision {
        match self.matrices.iter().any(|matrix| matrix.format == Format::Bf16) {
            true => Precision::BytesAndHalves,
            false => Precision::Bytes,
        }
    }

    pub fn splits(&self) -> usize {
        self.splits
    }

    pub fn byte_length(&self) -> usize {
        self.matrices.iter().map(|matrix| matrix.tiles.len()).sum()
    }

    pub fn matrix(&self, index: usize) -> &DeviceMatrix {
        &self.matrices[index]
    }

    fn variant(&self, gpu: &Gpu, rows: usize) -> Result<usize, GpuError> {
        let fits = |variant: &Variant| {
            self.matrices.iter().all(|matrix| variant.shared_bytes(matrix.format) <= gpu.shared_bytes)
        };
        let suits = |variant: &Variant| match variant.use_for {
            UseFor::SmallDevices => false,
            UseFor::AnyRows => variant.tokens >= rows || variant.tokens == 128,
            UseFor::ManyRows => true,
        };
        let wanted = match rows >= MANY_ROWS && self.splits > 1 {
            true => VARIANTS.len() - 1,
            false => VARIANTS.iter().position(suits).unwrap_or(0),
        };
        (0..=wanted).rev().find(|index| fits(&VARIANTS[*index])).ok_or_else(|| {
            GpuError::Unsupported(format!("{} gives a block only {} bytes", gpu.name, gpu.shared_bytes))
        })
    }

    /// Pieces that the output of a variant comes in.
    fn pieces(&self, variant: usize) -> usize {
        if VARIANTS[variant].use_for == UseFor::ManyRows { 1 } else { self.splits }
    }

    /// Floats that the output of `rows` rows takes.
    pub fn output_length(&self, gpu: &Gpu, rows: usize) -> Result<usize, GpuError> {
        Ok(self.pieces(self.variant(gpu, rows)?) * rows * self.stride)
    }

    /// Queues the products of `rows` rows.
    ///
    /// # Safety
    /// `x` must hold [`padded_rows`] of this input's columns, and `out` have room for [`Self::output_length`] floats.
    pub unsafe fn launch(
        &self,
        gpu: &Gpu,
        x: Activations,
        rows: usize,
        out: cudarc::driver::sys::CUdeviceptr,
    ) -> Result<Partial, GpuError> {
        assert_eq!(x.columns as usize, padded_columns(self.matrices[0].columns));
        assert!(x.padded_rows as usize >= padded_rows(rows));
        assert!(x.halves != 0 || self.precision() == Precision::Bytes);
        let index = self.variant(gpu, rows)?;
        let variant = &VARIANTS[index];
        let mut parts = [Part::default(); MAX_PARTS];
        let mut first_block = 0;
        for ((part, matrix), column) in parts.iter_mut().zip(&self.matrices).zip(&self.columns) {
            let tiles = matrix.rows.div_ceil(TILE_FEATURES);
            *part = Part {
                weights: matrix.tiles.address(),
                format: matrix.format as u32,
                tiles: tiles as u32,
                first_block: first_block as u32,
                column: *column as u32,
            };
            first_block += tiles.div_ceil(WARPS);
        }
        let splits = self.pieces(index);
        let params = MultiplyParams {
            parts,
            x,
            out,
            part_count: self.matrices.len() as u32,
            rows: rows as u32,
            stride: self.stride as u32,
            splits: self.splits as u32,
        };
        let shared =
            self.matrices.iter().map(|matrix| variant.shared_bytes(matrix.format)).max().unwrap_or(0);
        let grid = [rows.div_ceil(variant.tokens), self.blocks, splits];
        // SAFETY: the caller's promise; the tiles live as long as `self`, which outlives the stream's use of them
        // because dropping a buffer is queued behind it.
        unsafe { gpu.launch(&gpu.kernels.multiply[index], grid, THREADS, shared, &params)? };
        Ok(Partial { values: out, splits: splits as u32, rows: rows as u32, stride: self.stride as u32 })
    }
}
