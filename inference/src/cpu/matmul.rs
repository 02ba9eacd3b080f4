//! Matrix products of activations with weights in any stored type.
//!
//! Activations are quantized once per input to the form that the weight type's dot product wants, then shared by
//! all matrices that read the same input (query, key and value; gate and up).

#![allow(
    clippy::type_complexity,
    clippy::needless_range_loop,
    reason = "the kernels' own signatures, and tiles walked by index"
)]

use std::ops::Range;

use candle_core::quantized::{
    GgmlDType, GgmlType,
    k_quants::{BlockQ8_0, BlockQ8_1, BlockQ8K},
};
use half::slice::HalfFloatSliceExt;

#[cfg(target_arch = "x86_64")]
use super::{
    activations::{Activations, LONG_TILE_ROWS, NarrowBlock, TILE_ROWS, Tile, WideBlock},
    instructions::Instructions,
    k_quants::{self, FEATURES, MOST_ROWS, MOST_TILES, TiledProducts},
    q8_0, tiles_avx512,
};
use super::{ops::dot, shared_mut::SharedMut, threads::ThreadPool};
use crate::weights::{Matrix, matrix::with_blocks};

/// Rows that one thread fills and quantizes at a time, where tiles are not longer.
const FILLED_ROWS: usize = 8;
/// Inputs with fewer rows are filled by the calling thread: waking others would take longer.
const PARALLEL_ROWS: usize = 8;
/// Weight rows that are given to a thread together.
const FEATURE_GROUP: usize = 8;
/// Bytes of weights that stay in a core's second-level cache while all rows of the input pass by.
#[cfg(target_arch = "x86_64")]
const WEIGHTS_AT_A_TIME: usize = 128 << 10;

/// A block of input rows in every form that its matrices need. Reused from step to step.
#[derive(Default)]
pub struct Input {
    rows: usize,
    columns: usize,
    /// `[rows, columns]`; empty where rows are many and no matrix reads floats.
    float: Vec<f32>,
    #[cfg(target_arch = "x86_64")]
    wide: Quantized<WideBlock>,
    #[cfg(target_arch = "x86_64")]
    narrow: Quantized<NarrowBlock>,
    q8_k: Vec<BlockQ8K>,
    q8_0: Vec<BlockQ8_0>,
    q8_1: Vec<BlockQ8_1>,
}

/// Rows for our own kernels: `blocks` is `[row][block]` for few rows, the others are `[tile][block]` for many.
#[cfg(target_arch = "x86_64")]
struct Quantized<A: Activations> {
    blocks: Vec<A>,
    tiles: Vec<A::Tile>,
    long_tiles: Vec<A::LongTile>,
}

/// Which of a [`Quantized`]'s layouts an input has: a matter of its rows and of the CPU.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    Blocks,
    Tiles,
    LongTiles,
}

#[cfg(target_arch = "x86_64")]
impl Layout {
    fn of(rows: usize) -> Self {
        match Instructions::chosen() {
            // Padding a tile costs less than going row by row from here on.
            _ if rows <= MOST_ROWS => Self::Blocks,
            Some(Instructions::Avx512Vnni) => Self::LongTiles,
            _ => Self::Tiles,
        }
    }
}

/// Rows that one thread fills and quantizes at a time.
fn filled_rows(rows: usize) -> usize {
    #[cfg(target_arch = "x86_64")]
    if Layout::of(rows) == Layout::LongTiles {
        return LONG_TILE_ROWS;
    }
    let _ = rows;
    FILLED_ROWS
}

#[cfg(target_arch = "x86_64")]
impl<A: Activations> Default for Quantized<A> {
    fn default() -> Self {
        Self { blocks: Vec::new(), tiles: Vec::new(), long_tiles: Vec::new() }
    }
}

/// The form of activations that a weight type multiplies with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Float,
    /// Own kernels for k-quants.
    #[cfg(target_arch = "x86_64")]
    Wide,
    /// Own kernels for Q8_0.
    #[cfg(target_arch = "x86_64")]
    Narrow,
    Q8K,
    Q8_0,
    Q8_1,
}

fn form_of(dtype: GgmlDType) -> Form {
    #[cfg(target_arch = "x86_64")]
    if k_quants::is_supported(dtype) {
        return Form::Wide;
    } else if q8_0::is_supported(dtype) {
        return Form::Narrow;
    }
    match dtype {
        GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 => Form::Float,
        GgmlDType::Q4_0 | GgmlDType::Q5_0 | GgmlDType::Q8_0 => Form::Q8_0,
        GgmlDType::Q4_1 | GgmlDType::Q5_1 | GgmlDType::Q8_1 => Form::Q8_1,
        GgmlDType::Q2K
        | GgmlDType::Q3K
        | GgmlDType::Q4K
        | GgmlDType::Q5K
        | GgmlDType::Q6K
        | GgmlDType::Q8K => Form::Q8K,
    }
}

impl Input {
    /// Makes an input of `[rows, columns]` for `matrices`. `fill(row, out)` computes one row.
    pub fn fill(
        &mut self,
        pool: &mut ThreadPool,
        rows: usize,
        columns: usize,
        matrices: &[&Matrix],
        fill: &(dyn Fn(usize, &mut [f32]) + Sync),
    ) {
        (self.rows, self.columns) = (rows, columns);
        let needs = |form| matrices.iter().any(|matrix| form_of(matrix.dtype()) == form);
        let group_rows = filled_rows(rows);
        let groups = rows.div_ceil(group_rows);
        let is_parallel = rows >= PARALLEL_ROWS;
        // Too few groups to keep all threads busy: rows are filled by themselves, then tiled block by block.
        let is_split = is_parallel && groups < 2 * pool.threads();
        // Long prompts' floats are wanted only until they are quantized: threads then keep a group each.
        let keeps_floats = needs(Form::Float) || !is_parallel || is_split;
        self.float.resize(if keeps_floats { rows * columns } else { 0 }, 0.0);
        let float = SharedMut::new(&mut self.float);
        #[cfg(target_arch = "x86_64")]
        let wide = needs(Form::Wide).then(|| self.wide.reset(rows, columns));
        #[cfg(target_arch = "x86_64")]
        let narrow = needs(Form::Narrow).then(|| self.narrow.reset(rows, columns));
        let q8_k = needs(Form::Q8K).then(|| reset(&mut self.q8_k, rows, columns));
        let q8_0 = needs(Form::Q8_0).then(|| reset(&mut self.q8_0, rows, columns));
        let q8_1 = needs(Form::Q8_1).then(|| reset(&mut self.q8_1, rows, columns));
        let fill_rows = |group: Range<usize>, floats: &mut [f32]| {
            for (row, out) in group.clone().zip(floats.chunks_exact_mut(columns)) {
                fill(row, out);
            }
            // SAFETY: each row is filled by one thread.
            unsafe {
                quantize(&q8_k, group.clone(), columns, floats);
                quantize(&q8_0, group.clone(), columns, floats);
                quantize(&q8_1, group, columns, floats);
            }
        };
        if is_split {
            pool.run_chunked(rows, &|range| {
                // SAFETY: each row is filled by one thread.
                let floats = unsafe { float.slice(range.start * columns..range.end * columns) };
                fill_rows(range, floats);
            });
            #[cfg(target_arch = "x86_64")]
            for group in 0..groups {
                let rows = group * group_rows..rows.min((group + 1) * group_rows);
                let floats = &self.float[rows.start * columns..rows.end * columns];
                if let Some(wide) = &wide {
                    wide.quantize_in_parallel(pool, rows.clone(), columns, floats);
                }
                if let Some(narrow) = &narrow {
                    narrow.quantize_in_parallel(pool, rows.clone(), columns, floats);
                }
            }
            return;
        }
        let body = |range: Range<usize>| {
            let mut passing = vec![0f32; if keeps_floats { 0 } else { group_rows * columns }];
            for group in range {
                let group = group * group_rows..rows.min((group + 1) * group_rows);
                // SAFETY: groups of rows are disjoint, and each is taken by one thread.
                unsafe {
                    let floats = match keeps_floats {
                        true => float.slice(group.start * columns..group.end * columns),
                        false => &mut passing[..group.len() * columns],
                    };
                    fill_rows(group.clone(), floats);
                    #[cfg(target_arch = "x86_64")]
                    if let Some(wide) = &wide {
                        wide.quantize(group.clone(), 0..columns / WideBlock::ELEMENTS, columns, floats);
                    }
                    #[cfg(target_arch = "x86_64")]
                    if let Some(narrow) = &narrow {
                        narrow.quantize(group.clone(), 0..columns / NarrowBlock::ELEMENTS, columns, floats);
                    }
                }
            }
        };
        if is_parallel { pool.run_chunked(groups, &body) } else { body(0..groups) }
    }
}

fn reset<T: GgmlType>(blocks: &mut Vec<T>, rows: usize, columns: usize) -> SharedMut<'_, T> {
    blocks.resize_with(rows * columns / T::BLCK_SIZE, T::zeros);
    SharedMut::new(blocks)
}

/// # Safety
/// No other thread uses these rows meanwhile.
unsafe fn quantize<T: GgmlType>(
    out: &Option<SharedMut<'_, T>>,
    rows: Range<usize>,
    columns: usize,
    floats: &[f32],
) {
    let Some(out) = out else { return };
    let per_row = columns / T::BLCK_SIZE;
    // SAFETY: as the function's contract.
    T::from_float(floats, unsafe { out.slice(rows.start * per_row..rows.end * per_row) });
}

#[cfg(target_arch = "x86_64")]
struct QuantizedWriter<'a, A: Activations> {
    blocks: SharedMut<'a, A>,
    tiles: SharedMut<'a, A::Tile>,
    long_tiles: SharedMut<'a, A::LongTile>,
    layout: Layout,
}

#[cfg(target_arch = "x86_64")]
impl<A: Activations> Quantized<A> {
    fn reset(&mut self, rows: usize, columns: usize) -> QuantizedWriter<'_, A> {
        let per_row = columns / A::ELEMENTS;
        let layout = Layout::of(rows);
        match layout {
            Layout::Blocks => self.blocks.resize(rows * per_row, A::ZERO),
            Layout::Tiles => self.tiles.resize(rows.div_ceil(TILE_ROWS) * per_row, A::Tile::ZERO),
            Layout::LongTiles => {
                self.long_tiles.resize(rows.div_ceil(LONG_TILE_ROWS) * per_row, A::LongTile::ZERO);
            }
        }
        QuantizedWriter {
            blocks: SharedMut::new(&mut self.blocks),
            tiles: SharedMut::new(&mut self.tiles),
            long_tiles: SharedMut::new(&mut self.long_tiles),
            layout,
        }
    }
}

#[cfg(target_arch = "x86_64")]
impl<A: Activations> QuantizedWriter<'_, A> {
    /// Quantizes some blocks of a group of rows, which is a tile where there are tiles.
    ///
    /// # Safety
    /// No other thread uses these blocks of these rows meanwhile.
    unsafe fn quantize(&self, rows: Range<usize>, blocks: Range<usize>, columns: usize, floats: &[f32]) {
        const { assert!(FILLED_ROWS == TILE_ROWS) };
        let per_row = columns / A::ELEMENTS;
        for block in blocks {
            let mut quantized = [A::ZERO; LONG_TILE_ROWS];
            let quantized = &mut quantized[..rows.len()];
            for (row, quantized) in quantized.iter_mut().enumerate() {
                *quantized = A::quantize(&floats[row * columns + block * A::ELEMENTS..][..A::ELEMENTS]);
            }
            // SAFETY: as the function's contract.
            unsafe {
                match self.layout {
                    Layout::Blocks => {
                        for (row, quantized) in rows.clone().zip(quantized) {
                            self.blocks.write(row * per_row + block, *quantized);
                        }
                    }
                    Layout::Tiles => {
                        let at = rows.start / TILE_ROWS * per_row + block;
                        self.tiles.slice(at..at + 1)[0].pack(quantized);
                    }
                    Layout::LongTiles => {
                        let at = rows.start / LONG_TILE_ROWS * per_row + block;
                        self.long_tiles.slice(at..at + 1)[0].pack(quantized);
                    }
                }
            }
        }
    }

    /// Quantizes a group of rows, several threads taking some blocks each.
    fn quantize_in_parallel(
        &self,
        pool: &mut ThreadPool,
        rows: Range<usize>,
        columns: usize,
        floats: &[f32],
    ) {
        pool.run_chunked(columns / A::ELEMENTS, &|blocks| {
            // SAFETY: each block is taken by one thread.
            unsafe { self.quantize(rows.clone(), blocks, columns, floats) };
        });
    }
}

/// What happens to the product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Store {
    Replace,
    /// Residual connections.
    Add,
}

/// One product of a group: `output[row, feature] (+)= input[row] . matrix[feature] + bias[feature]`.
pub struct Product<'a> {
    pub matrix: &'a Matrix,
    pub bias: Option<&'a [f32]>,
    /// `[rows, matrix.rows()]`
    pub output: &'a mut [f32],
    pub store: Store,
}

/// Computes all products of one input in a single parallel section. The input was made for these matrices.
pub fn multiply(pool: &mut ThreadPool, input: &Input, products: &mut [Product<'_>]) {
    let mut targets = Vec::with_capacity(products.len());
    let mut groups = 0;
    for product in products.iter_mut() {
        assert_eq!(product.matrix.columns(), input.columns, "input width does not match the weights");
        assert_eq!(product.output.len(), input.rows * product.matrix.rows());
        let first = groups;
        groups += product.matrix.rows().div_ceil(FEATURE_GROUP);
        targets.push(Target {
            matrix: product.matrix,
            bias: product.bias,
            output: SharedMut::new(product.output),
            store: product.store,
            groups: first..groups,
        });
    }
    pool.run_chunked(groups, &|range| {
        for target in &targets {
            let start = range.start.max(target.groups.start);
            let end = range.end.min(target.groups.end);
            if start < end {
                let features = (start - target.groups.start) * FEATURE_GROUP
                    ..((end - target.groups.start) * FEATURE_GROUP).min(target.matrix.rows());
                target.run(input, features);
            }
        }
    });
}

struct Target<'a> {
    matrix: &'a Matrix,
    bias: Option<&'a [f32]>,
    output: SharedMut<'a, f32>,
    store: Store,
    groups: Range<usize>,
}

impl Target<'_> {
    fn run(&self, input: &Input, features: Range<usize>) {
        match form_of(self.matrix.dtype()) {
            Form::Float => self.run_float(input, features),
            #[cfg(target_arch = "x86_64")]
            Form::Wide => {
                let dtype = self.matrix.dtype();
                let instructions = Instructions::chosen().unwrap_or(Instructions::Avx2);
                match Layout::of(input.rows) {
                    Layout::Blocks => {
                        self.run_rows(&input.wide, input, features, &|weights, count, rows, of_rows, out| {
                            k_quants::dot_rows(dtype, instructions, weights, count, rows, of_rows, out);
                        })
                    }
                    Layout::Tiles => self.run_tiles(
                        &input.wide.tiles,
                        input,
                        features,
                        &|weights, features, tiles, count, out| {
                            k_quants::dot_tiles(dtype, instructions, weights, features, tiles, count, out);
                        },
                    ),
                    Layout::LongTiles => self.run_tiles(
                        &input.wide.long_tiles,
                        input,
                        features,
                        &|weights, features, tiles, count, out| {
                            tiles_avx512::dot_wide(dtype, weights, features, tiles, count, out);
                        },
                    ),
                }
            }
            #[cfg(target_arch = "x86_64")]
            Form::Narrow => {
                let instructions = Instructions::chosen().unwrap_or(Instructions::Avx2);
                match Layout::of(input.rows) {
                    Layout::Blocks => self.run_rows(
                        &input.narrow,
                        input,
                        features,
                        &|weights, count, rows, of_rows, out| {
                            q8_0::dot_rows(instructions, weights, count, rows, of_rows, out);
                        },
                    ),
                    Layout::Tiles => self.run_tiles(
                        &input.narrow.tiles,
                        input,
                        features,
                        &|weights, features, tiles, count, out| {
                            q8_0::dot_tiles(instructions, weights, features, tiles, count, out);
                        },
                    ),
                    Layout::LongTiles => {
                        self.run_tiles(&input.narrow.long_tiles, input, features, &tiles_avx512::dot_narrow);
                    }
                }
            }
            Form::Q8K => {
                with_blocks!(self.matrix, blocks => self.run_blocks(blocks, &input.q8_k, input, features))
            }
            Form::Q8_0 => {
                with_blocks!(self.matrix, blocks => self.run_blocks(blocks, &input.q8_0, input, features))
            }
            Form::Q8_1 => {
                with_blocks!(self.matrix, blocks => self.run_blocks(blocks, &input.q8_1, input, features))
            }
        }
    }

    /// Stores the products of one row with the features from `feature` on, at most
    /// [`FEATURE_GROUP`] of them.
    #[inline(always)]
    fn write(&self, row: usize, feature: usize, values: &[f32]) {
        let at = row * self.matrix.rows() + feature;
        // SAFETY: `multiply` gives each range of features to one thread.
        let cells = unsafe { self.output.slice(at..at + values.len()) };
        let bias = self.bias.map(|bias| &bias[feature..][..values.len()]);
        if let (Ok(cells), Ok(values)) =
            (<&mut [f32; FEATURE_GROUP]>::try_from(&mut *cells), <&[f32; FEATURE_GROUP]>::try_from(values))
        {
            return self.store_group(cells, values, bias.and_then(|bias| bias.try_into().ok()));
        }
        for (index, (cell, value)) in cells.iter_mut().zip(values).enumerate() {
            let sum = value + bias.map_or(0.0, |bias| bias[index]);
            *cell = if self.store == Store::Add { *cell + sum } else { sum };
        }
    }

    /// A whole group, in one register: everything is read before anything is written, as the compiler does not know
    /// that the arrays lie apart.
    #[inline(always)]
    fn store_group(
        &self,
        cells: &mut [f32; FEATURE_GROUP],
        values: &[f32; FEATURE_GROUP],
        bias: Option<&[f32; FEATURE_GROUP]>,
    ) {
        let bias = bias.copied().unwrap_or_default();
        let before = if self.store == Store::Add { *cells } else { [0.0; FEATURE_GROUP] };
        let values = *values;
        *cells = std::array::from_fn(|index| before[index] + (values[index] + bias[index]));
    }

    fn run_blocks<T: GgmlType, A: 'static>(
        &self,
        weights: &[T],
        activations: &[A],
        input: &Input,
        features: Range<usize>,
    ) where
        T::VecDotType: 'static,
    {
        // `form_of` names `T::VecDotType`; the cast only tells the compiler so.
        let activations: &[T::VecDotType] = same_type(activations);
        let (columns, per_row) = (input.columns, input.columns / T::BLCK_SIZE);
        let weight = |feature: usize| &weights[feature * per_row..(feature + 1) * per_row];
        let mut feature = features.start;
        while feature + 4 <= features.end {
            let (w0, w1, w2, w3) =
                (weight(feature), weight(feature + 1), weight(feature + 2), weight(feature + 3));
            for row in 0..input.rows {
                let x = &activations[row * per_row..(row + 1) * per_row];
                let (d0, d1, d2, d3) = T::vec_dot_4(columns, w0, w1, w2, w3, x);
                self.write(row, feature, &[d0, d1, d2, d3]);
            }
            feature += 4;
        }
        for feature in feature..features.end {
            for row in 0..input.rows {
                let x = &activations[row * per_row..(row + 1) * per_row];
                self.write(row, feature, &[T::vec_dot(columns, weight(feature), x)]);
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn run_rows<A: Activations>(
        &self,
        activations: &Quantized<A>,
        input: &Input,
        features: Range<usize>,
        dot: &dyn Fn(&[u8], usize, &[A], usize, &mut [[f32; FEATURES]; MOST_ROWS]),
    ) {
        let row_bytes = self.matrix.as_bytes().len() / self.matrix.rows();
        let activations = &activations.blocks[..input.rows * input.columns / A::ELEMENTS];
        for first in features.clone().step_by(FEATURES) {
            let end = features.end.min(first + FEATURES);
            let weights = &self.matrix.as_bytes()[first * row_bytes..end * row_bytes];
            let mut out = [[0f32; FEATURES]; MOST_ROWS];
            dot(weights, end - first, activations, input.rows, &mut out);
            for (row, values) in out[..input.rows].iter().enumerate() {
                self.write(row, first, &values[..end - first]);
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn run_tiles<A: Activations, T: Tile<A>>(
        &self,
        tiles: &[T],
        input: &Input,
        features: Range<usize>,
        dot: &dyn Fn(&[u8], usize, &[T], usize, &mut TiledProducts),
    ) {
        let row_bytes = self.matrix.as_bytes().len() / self.matrix.rows();
        let per_tile = input.columns / A::ELEMENTS;
        let all_tiles = input.rows.div_ceil(T::ROWS);
        let at_a_time = (WEIGHTS_AT_A_TIME / row_bytes).max(1).next_multiple_of(FEATURES);
        let mut out = k_quants::NO_PRODUCTS;
        for part in features.clone().step_by(at_a_time) {
            let part = part..features.end.min(part + at_a_time);
            for first_tile in (0..all_tiles).step_by(MOST_TILES) {
                let count = MOST_TILES.min(all_tiles - first_tile);
                let tiles = &tiles[first_tile * per_tile..(first_tile + count) * per_tile];
                for first in part.clone().step_by(FEATURES) {
                    let end = part.end.min(first + FEATURES);
                    let weights = &self.matrix.as_bytes()[first * row_bytes..end * row_bytes];
                    dot(weights, end - first, tiles, count, &mut out);
                    let rows = first_tile * T::ROWS..input.rows.min((first_tile + count) * T::ROWS);
                    for (row, values) in rows.zip(&out) {
                        self.write(row, first, &values[..end - first]);
                    }
                }
            }
        }
    }

    fn run_float(&self, input: &Input, features: Range<usize>) {
        let columns = input.columns;
        let mut converted = vec![0f32; columns];
        for feature in features {
            let range = feature * columns..(feature + 1) * columns;
            let weights = match self.matrix.dtype() {
                GgmlDType::F16 => {
                    self.matrix.blocks::<half::f16>()[range].convert_to_f32_slice(&mut converted);
                    converted.as_slice()
                }
                GgmlDType::BF16 => {
                    self.matrix.blocks::<half::bf16>()[range].convert_to_f32_slice(&mut converted);
                    converted.as_slice()
                }
                _ => &self.matrix.blocks::<f32>()[range],
            };
            for row in 0..input.rows {
                self.write(row, feature, &[dot(weights, &input.float[row * columns..(row + 1) * columns])]);
            }
        }
    }
}

fn same_type<A: 'static, B: 'static>(slice: &[A]) -> &[B] {
    assert_eq!(
        std::any::TypeId::of::<A>(),
        std::any::TypeId::of::<B>(),
        "activation form does not fit the weights"
    );
    // SAFETY: A and B are the same type.
    unsafe { std::slice::from_raw_parts(slice.as_ptr().cast(), slice.len()) }
}
