//! Products with weights in tiles: how a group of matrices that read the same input is spread over the device.

use cudarc::driver::sys::CUdeviceptr;

use super::{
    Gpu, GpuError,
    buffers::DeviceMatrix,
    params::{
        Activations, GateInput, GatedParams, Layout, MAX_PARTS, MultiplyParams, Part, Partial, WideParams,
    },
    rows::{Precision, UNIT_BYTES, UNIT_ROWS},
    tiles::{COLUMN_UNIT, Format, TILE_FEATURES, padded_columns},
};

/// Warps of a block, each with its own 16 features.
const WARPS: usize = 8;
/// Warps of a block in decode steps, where that spreads the work more evenly.
const MOST_WARPS: usize = 9;
/// Blocks that a multiprocessor holds at once in a decode step.
const BLOCKS_PER_MULTIPROCESSOR: usize = 2;

/// A compiled variant of the product, as the end of `multiply.cu` lists them.
struct Variant {
    /// Rows of activations a block computes.
    tokens: usize,
    /// The most warps that a block may have.
    warps: usize,
    /// Bytes of weights in flight a warp, as whole stages.
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
    Variant { tokens: 8, warps: WARPS, ring: 5 << 10, chunk: 1, use_for: UseFor::SmallDevices },
    Variant { tokens: 8, warps: MOST_WARPS, ring: 10 << 10, chunk: 4, use_for: UseFor::AnyRows },
    Variant { tokens: 16, warps: MOST_WARPS, ring: 9728, chunk: 3, use_for: UseFor::AnyRows },
    Variant { tokens: 32, warps: WARPS, ring: 7296, chunk: 2, use_for: UseFor::AnyRows },
    Variant { tokens: 128, warps: WARPS, ring: 7296, chunk: 1, use_for: UseFor::AnyRows },
    Variant { tokens: 128, warps: WARPS, ring: 7296, chunk: 1, use_for: UseFor::ManyRows },
];
/// From this many rows on, blocks walk through the pieces: there are enough blocks without splitting, and partial sums
/// would cost more than they save.
const MANY_ROWS: usize = 768;

/// More rows than this are computed 128 at a time.
pub const LARGEST_NARROW_ROWS: usize = 32;

/// Rows that a step's activations are padded to: whole tiles of tokens in every variant that may compute it.
pub fn padded_rows(rows: usize) -> usize {
    match rows {
        0..=8 => 8,
        9..=16 => 16,
        17..=LARGEST_NARROW_ROWS => 32,
        _ => rows.next_multiple_of(128),
    }
}

impl Variant {
    /// Of the weights in flight of all warps of a block.
    fn ring_bytes(&self, format: Format, warps: usize) -> usize {
        let stages = (self.ring / format.tile_bytes()).clamp(2, self.chunk + 1);
        warps * stages * format.tile_bytes()
    }

    fn shared_bytes(&self, format: Format, warps: usize) -> usize {
        // Of a unit of columns; or the bf16 of a tile's columns.
        let activations = if format == Format::Bf16 { 64 * 2 } else { UNIT_BYTES / UNIT_ROWS };
        let totals =
            if self.use_for == UseFor::ManyRows { self.tokens * WARPS * TILE_FEATURES * 4 } else { 0 };
        self.ring_bytes(format, warps) + 2 * self.chunk * self.tokens * activations + totals
    }
}

/// What a block of `multiply_wide` computes at a time, as in `multiply_hopper.cu`.
const WIDE_TOKENS: usize = 128;
const WIDE_TILES: usize = 8;
/// Three warpgroups, one of which copies.
const WIDE_THREADS: u32 = 384;
/// Three units of the tokens' activations; two of weights, of Q6_K at most; the sums; barriers.
const WIDE_SHARED_BYTES: usize = 3 * WIDE_TOKENS / UNIT_ROWS * UNIT_BYTES
    + 2 * WIDE_TILES * 3360
    + WIDE_TOKENS * WIDE_TILES * TILE_FEATURES * 4
    + 128;

/// Rows of the product that gates its activations, and the variant that it is.
const GATED_ROWS: usize = 8;
const GATED_VARIANT: usize = 1;
/// Units of columns that a block of it has room for beside its weights.
const MOST_GATED_UNITS: usize = 9;
/// Gate and up that all its blocks may read together, bytes: the blocks of a piece read the same. Beyond it a kernel that
/// gates once costs less (measured on an H200 with 1 to 8 rows of a 1.5B and a 7B).
const MOST_GATED_BYTES: usize = 7 << 20;

/// How a product is spread over the device.
struct Spread {
    /// Of a block in decode steps.
    warps: usize,
    /// Pieces that the columns are summed in. Depends on the shapes and the device only, never on the rows, so that a
    /// row's sums are always made in the same order.
    splits: usize,
}

impl Spread {
    /// The fastest for matrices with these numbers of tiles, in `units` units of columns.
    fn new(gpu: &Gpu, tiles: &[usize], units: usize, most_splits: usize) -> Self {
        let at_once = gpu.multiprocessors * BLOCKS_PER_MULTIPROCESSOR;
        // A block's start and end cost about as much as a unit and a half (measured on an H200).
        let cost = |warps: usize, splits: usize| {
            let blocks: usize = tiles.iter().map(|tiles| tiles.div_ceil(warps)).sum();
            (blocks * splits).div_ceil(at_once) * warps * (2 * units.div_ceil(splits) + 3)
        };
        let choices =
            [WARPS, MOST_WARPS].into_iter().flat_map(|warps| (1..=most_splits).map(move |s| (warps, s)));
        let (warps, splits) =
            choices.min_by_key(|(warps, splits)| cost(*warps, *splits)).unwrap_or((WARPS, 1));
        Self { warps, splits }
    }
}

/// Matrices with a common input, computed by one launch: query, key and value; gate and up; or one alone.
pub struct Products {
    matrices: Vec<DeviceMatrix>,
    /// First column of each in an output row.
    pub columns: Vec<usize>,
    /// Floats of an output row.
    pub stride: usize,
    spread: Spread,
}

impl Products {
    pub fn new(gpu: &Gpu, matrices: Vec<DeviceMatrix>) -> Self {
        let units = padded_columns(matrices[0].columns) / COLUMN_UNIT;
        Self::in_pieces(gpu, matrices, units.div_ceil(2))
    }

    /// One matrix whose columns are summed in one piece, so that its output needs no adding up.
    pub fn whole(gpu: &Gpu, matrix: DeviceMatrix) -> Self {
        Self::in_pieces(gpu, vec![matrix], 1)
    }

    fn in_pieces(gpu: &Gpu, matrices: Vec<DeviceMatrix>, most_splits: usize) -> Self {
        assert!(!matrices.is_empty() && matrices.len() <= MAX_PARTS);
        assert!(matrices.iter().all(|matrix| matrix.columns == matrices[0].columns));
        let tiles: Vec<usize> = matrices.iter().map(|matrix| matrix.rows.div_ceil(TILE_FEATURES)).collect();
        let mut columns = Vec::new();
        let mut stride = 0;
        for tiles in &tiles {
            columns.push(stride);
            stride += tiles * TILE_FEATURES;
        }
        let units = padded_columns(matrices[0].columns) / COLUMN_UNIT;
        Self { columns, stride, spread: Spread::new(gpu, &tiles, units, most_splits), matrices }
    }

    /// The same matrices summed in another number of pieces: for measuring which is best.
    pub fn with_splits(self, splits: usize) -> Self {
        let units = padded_columns(self.matrices[0].columns) / COLUMN_UNIT;
        let spread = Spread { warps: WARPS, splits: splits.clamp(1, units) };
        Self { spread, ..self }
    }

    /// What these products read of their input.
    pub fn precision(&self) -> Precision {
        match self.matrices.iter().any(|matrix| matrix.format == Format::Bf16) {
            true => Precision::BytesAndHalves,
            false => Precision::Bytes,
        }
    }

    pub fn splits(&self) -> usize {
        self.spread.splits
    }

    /// Warps of a block in decode steps.
    pub fn warps(&self) -> usize {
        self.spread.warps
    }

    pub fn byte_length(&self) -> usize {
        self.matrices.iter().map(|matrix| matrix.tiles.len()).sum()
    }

    pub fn matrix(&self, index: usize) -> &DeviceMatrix {
        &self.matrices[index]
    }

    fn variant(&self, gpu: &Gpu, rows: usize) -> Result<usize, GpuError> {
        let fits = |variant: &Variant| {
            let bytes = |matrix: &DeviceMatrix| variant.shared_bytes(matrix.format, variant.warps);
            self.matrices.iter().all(|matrix| bytes(matrix) <= gpu.shared_bytes)
        };
        let suits = |variant: &Variant| match variant.use_for {
            UseFor::SmallDevices => false,
            UseFor::AnyRows => variant.tokens >= rows || variant.tokens == 128,
            UseFor::ManyRows => true,
        };
        let wanted = match rows >= MANY_ROWS && self.splits() > 1 {
            true => VARIANTS.len() - 1,
            false => VARIANTS.iter().position(suits).unwrap_or(0),
        };
        (0..=wanted).rev().find(|index| fits(&VARIANTS[*index])).ok_or_else(|| {
            GpuError::Unsupported(format!("{} gives a block only {} bytes", gpu.name, gpu.shared_bytes))
        })
    }

    /// How the input of `rows` rows must lie.
    pub fn layout(&self, gpu: &Gpu, rows: usize) -> Layout {
        let is_k_quant =
            |matrix: &DeviceMatrix| matches!(matrix.format, Format::Q4K | Format::Q5K | Format::Q6K);
        let is_wide = gpu.kernels.multiply_wide.is_some()
            && rows > LARGEST_NARROW_ROWS
            && self.matrices.iter().all(is_k_quant);
        if is_wide { Layout::Blocks } else { Layout::Fragments }
    }

    /// Blocks of `multiply_wide` along the features.
    fn wide_blocks(&self) -> usize {
        self.matrices.iter().map(|matrix| matrix.rows.div_ceil(WIDE_TILES * TILE_FEATURES)).sum()
    }

    /// Pieces that the output of `multiply_wide` comes in: those of the sum where they are needed to occupy the device.
    fn wide_pieces(&self, gpu: &Gpu, rows: usize) -> usize {
        let units = padded_columns(self.matrices[0].columns) / COLUMN_UNIT;
        let tiles = self.wide_blocks() * rows.div_ceil(WIDE_TOKENS);
        // Beginning an item costs about as much as two units, and reading the pieces up as much as another.
        let whole = tiles.div_ceil(gpu.multiprocessors) * (units + 2);
        let in_pieces =
            (tiles * self.splits()).div_ceil(gpu.multiprocessors) * (units.div_ceil(self.splits()) + 3);
        if whole <= in_pieces { 1 } else { self.splits() }
    }

    /// Pieces that the output of a variant comes in.
    fn pieces(&self, variant: usize) -> usize {
        if VARIANTS[variant].use_for == UseFor::ManyRows { 1 } else { self.splits() }
    }

    /// Floats that the output of `rows` rows takes.
    pub fn output_length(&self, gpu: &Gpu, rows: usize) -> Result<usize, GpuError> {
        let pieces = match self.layout(gpu, rows) {
            Layout::Fragments => self.pieces(self.variant(gpu, rows)?),
            Layout::Blocks => self.wide_pieces(gpu, rows),
        };
        Ok(pieces * rows * self.stride)
    }

    /// Units of columns of the longest piece.
    fn piece_units(&self) -> usize {
        (padded_columns(self.matrices[0].columns) / COLUMN_UNIT).div_ceil(self.splits())
    }

    fn gated_shared_bytes(&self) -> usize {
        let variant = &VARIANTS[GATED_VARIANT];
        let weights = |matrix: &DeviceMatrix| variant.ring_bytes(matrix.format, self.spread.warps);
        self.matrices.iter().map(weights).max().unwrap_or(0) + self.piece_units() * UNIT_BYTES
    }

    /// Whether blocks gate so many rows of their input themselves: where they can, and where that is faster.
    pub fn gates(&self, gpu: &Gpu, rows: usize) -> bool {
        let read = rows * self.matrices[0].columns * 2 * 4 * self.blocks(self.spread.warps);
        rows <= GATED_ROWS
            && read <= MOST_GATED_BYTES
            && self.precision() == Precision::Bytes
            && self.piece_units() <= MOST_GATED_UNITS
            && self.gated_shared_bytes() <= gpu.shared_bytes
    }

    /// Queues the products of `rows` rows that the blocks gate.
    ///
    /// # Safety
    /// This product [`Self::gates`] so many rows; `input` has its columns of them and does not lie in `out`, which has room
    /// for [`Self::output_length`] floats.
    pub unsafe fn launch_gated(
        &self,
        gpu: &Gpu,
        input: GateInput,
        rows: usize,
        out: CUdeviceptr,
    ) -> Result<Partial, GpuError> {
        assert!(self.gates(gpu, rows));
        let warps = self.spread.warps;
        let nowhere = Activations {
            units: 0,
            halves: 0,
            padded_rows: GATED_ROWS as u32,
            columns: padded_columns(self.matrices[0].columns) as u32,
            layout: Layout::Fragments,
        };
        let params = GatedParams { products: self.params(nowhere, rows, out, warps), input };
        let (grid, threads) = ([1, self.blocks(warps), self.splits()], 32 * warps as u32);
        // SAFETY: as in `launch`.
        unsafe {
            gpu.launch(&gpu.kernels.multiply_gated, grid, threads, self.gated_shared_bytes(), &params)?
        };
        Ok(self.partial(self.splits(), rows, out))
    }

    /// Blocks along the features, with a tile a warp.
    fn blocks(&self, warps: usize) -> usize {
        self.matrices.iter().map(|matrix| matrix.rows.div_ceil(TILE_FEATURES * warps)).sum()
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
        out: CUdeviceptr,
    ) -> Result<Partial, GpuError> {
        assert_eq!(x.columns as usize, padded_columns(self.matrices[0].columns));
        assert!(x.padded_rows as usize >= padded_rows(rows));
        assert!(x.halves != 0 || self.precision() == Precision::Bytes);
        assert_eq!(x.layout, self.layout(gpu, rows));
        if let (Layout::Blocks, Some(function)) = (x.layout, &gpu.kernels.multiply_wide) {
            let (blocks, pieces) = (self.wide_blocks(), self.wide_pieces(gpu, rows));
            let products = self.params(x, rows, out, WIDE_TILES);
            let params = WideParams { products, blocks: blocks as u32, pieces: pieces as u32 };
            let items = blocks * rows.div_ceil(WIDE_TOKENS) * pieces;
            let grid = [items.min(gpu.multiprocessors), 1, 1];
            // SAFETY: as below.
            unsafe { gpu.launch(function, grid, WIDE_THREADS, WIDE_SHARED_BYTES, &params)? };
            return Ok(self.partial(pieces, rows, out));
        }
        let index = self.variant(gpu, rows)?;
        let variant = &VARIANTS[index];
        let warps = self.spread.warps.min(variant.warps);
        let blocks = self.blocks(warps);
        let splits = self.pieces(index);
        let params = self.params(x, rows, out, warps);
        let shared =
            self.matrices.iter().map(|matrix| variant.shared_bytes(matrix.format, warps)).max().unwrap_or(0);
        let grid = [rows.div_ceil(variant.tokens), blocks, splits];
        let threads = 32 * warps as u32;
        // SAFETY: the caller's promise; the tiles live as long as `self`, which outlives the stream's use of them
        // because dropping a buffer is queued behind it.
        unsafe { gpu.launch(&gpu.kernels.multiply[index], grid, threads, shared, &params)? };
        Ok(self.partial(splits, rows, out))
    }

    fn partial(&self, pieces: usize, rows: usize, values: CUdeviceptr) -> Partial {
        Partial { values, splits: pieces as u32, rows: rows as u32, stride: self.stride as u32 }
    }

    /// The arguments of a kernel whose blocks compute `block_tiles` tiles of features.
    fn params(&self, x: Activations, rows: usize, out: CUdeviceptr, block_tiles: usize) -> MultiplyParams {
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
            first_block += tiles.div_ceil(block_tiles);
        }
        MultiplyParams {
            parts,
            x,
            out,
            part_count: self.matrices.len() as u32,
            rows: rows as u32,
            stride: self.stride as u32,
            splits: self.splits() as u32,
        }
    }
}
