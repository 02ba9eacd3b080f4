//! Matrix products of activations with weights in any stored type.
//!
//! Activations are quantized once per input to the form that the weight type's dot product wants, then shared by
//! all matrices that read the same input (query, key and value; gate and up).

use candle_core::quantized::{
    GgmlDType, GgmlType,
    k_quants::{BlockQ8_0, BlockQ8_1, BlockQ8K},
};
use half::slice::HalfFloatSliceExt;

#[cfg(target_arch = "x86_64")]
use super::k_quants::{self, ActivationBlock};
use super::{ops::dot, threads::ThreadPool};
use crate::weights::{Matrix, matrix::with_blocks};

/// A block of input rows in every form asked for so far. Reused from step to step.
#[derive(Default)]
pub struct Input {
    rows: usize,
    columns: usize,
    float: Vec<f32>,
    #[cfg(target_arch = "x86_64")]
    wide: Vec<ActivationBlock>,
    q8_k: Vec<BlockQ8K>,
    q8_0: Vec<BlockQ8_0>,
    q8_1: Vec<BlockQ8_1>,
}

/// The form of activations that a weight type multiplies with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Float,
    /// Own kernels for k-quants.
    #[cfg(target_arch = "x86_64")]
    Wide,
    Q8K,
    Q8_0,
    Q8_1,
}

fn form_of(dtype: GgmlDType) -> Form {
    #[cfg(target_arch = "x86_64")]
    if k_quants::is_supported(dtype) {
        return Form::Wide;
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
    /// Starts a new input of `[rows, columns]`; the caller fills the returned floats, then calls [`Self::prepare`].
    pub fn reset(&mut self, rows: usize, columns: usize) -> &mut [f32] {
        (self.rows, self.columns) = (rows, columns);
        self.float.resize(rows * columns, 0.0);
        &mut self.float
    }

    /// Makes the forms that `matrices` need.
    pub fn prepare(&mut self, pool: &mut ThreadPool, matrices: &[&Matrix]) {
        let needs = |form| matrices.iter().any(|matrix| form_of(matrix.dtype()) == form);
        let (rows, columns) = (self.rows, self.columns);
        #[cfg(target_arch = "x86_64")]
        if needs(Form::Wide) {
            quantize_wide(pool, &self.float, rows, columns, &mut self.wide);
        }
        if needs(Form::Q8K) {
            quantize(pool, &self.float, rows, columns, &mut self.q8_k);
        }
        if needs(Form::Q8_0) {
            quantize(pool, &self.float, rows, columns, &mut self.q8_0);
        }
        if needs(Form::Q8_1) {
            quantize(pool, &self.float, rows, columns, &mut self.q8_1);
        }
    }
}

fn quantize<T: GgmlType>(
    pool: &mut ThreadPool,
    float: &[f32],
    rows: usize,
    columns: usize,
    out: &mut Vec<T>,
) {
    let blocks_per_row = columns / T::BLCK_SIZE;
    out.resize_with(rows * blocks_per_row, T::zeros);
    if rows < 4 {
        return T::from_float(&float[..rows * columns], out);
    }
    let out = SharedMut(out.as_mut_ptr());
    pool.run_chunked(rows, &|range| {
        for row in range {
            // SAFETY: rows are disjoint and each is taken by one thread.
            let blocks = unsafe {
                std::slice::from_raw_parts_mut(out.get().add(row * blocks_per_row), blocks_per_row)
            };
            T::from_float(&float[row * columns..(row + 1) * columns], blocks);
        }
    });
}

#[cfg(target_arch = "x86_64")]
fn quantize_wide(
    pool: &mut ThreadPool,
    float: &[f32],
    rows: usize,
    columns: usize,
    out: &mut Vec<ActivationBlock>,
) {
    let blocks = rows * columns / k_quants::BLOCK;
    out.resize(blocks, ActivationBlock::ZERO);
    let (chunks, _) = float[..rows * columns].as_chunks::<{ k_quants::BLOCK }>();
    if blocks < 32 {
        for (out, chunk) in out.iter_mut().zip(chunks) {
            *out = ActivationBlock::quantize(chunk);
        }
        return;
    }
    let out = SharedMut(out.as_mut_ptr());
    pool.run_chunked(blocks, &|range| {
        for index in range {
            // SAFETY: `out` has `blocks` elements; each index is taken by one thread.
            unsafe { *out.get().add(index) = ActivationBlock::quantize(&chunks[index]) };
        }
    });
}

/// A pointer that threads share while they write disjoint elements behind it.
pub(crate) struct SharedMut<T>(pub *mut T);
// SAFETY: users of the pointer write disjoint elements; each use says why.
unsafe impl<T> Sync for SharedMut<T> {}
impl<T> SharedMut<T> {
    pub(crate) fn get(&self) -> *mut T {
        self.0
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

/// Weight rows that one dot-product call handles.
const QUAD: usize = 4;

/// Computes all products of one prepared input in a single parallel section.
pub fn multiply(pool: &mut ThreadPool, input: &Input, products: &mut [Product<'_>]) {
    let mut targets = Vec::with_capacity(products.len());
    let mut quads = 0;
    for product in products.iter_mut() {
        assert_eq!(product.matrix.columns(), input.columns, "input width does not match the weights");
        assert_eq!(product.output.len(), input.rows * product.matrix.rows());
        let first = quads;
        quads += product.matrix.rows().div_ceil(QUAD);
        targets.push(Target {
            matrix: product.matrix,
            bias: product.bias,
            output: SharedMut(product.output.as_mut_ptr()),
            store: product.store,
            quads: first..quads,
        });
    }
    pool.run_chunked(quads, &|range| {
        for target in &targets {
            let start = range.start.max(target.quads.start);
            let end = range.end.min(target.quads.end);
            if start < end {
                let features = (start - target.quads.start) * QUAD
                    ..((end - target.quads.start) * QUAD).min(target.matrix.rows());
                target.run(input, features);
            }
        }
    });
}

struct Target<'a> {
    matrix: &'a Matrix,
    bias: Option<&'a [f32]>,
    output: SharedMut<f32>,
    store: Store,
    quads: std::ops::Range<usize>,
}

impl Target<'_> {
    fn run(&self, input: &Input, features: std::ops::Range<usize>) {
        match form_of(self.matrix.dtype()) {
            Form::Float => self.run_float(input, features),
            #[cfg(target_arch = "x86_64")]
            Form::Wide => self.run_wide(input, features),
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

    fn write(&self, row: usize, feature: usize, value: f32) {
        let value = value + self.bias.map_or(0.0, |bias| bias[feature]);
        // SAFETY: `multiply` checked the output's size, and each feature range belongs to one thread.
        unsafe {
            let cell = self.output.get().add(row * self.matrix.rows() + feature);
            match self.store {
                Store::Replace => *cell = value,
                Store::Add => *cell += value,
            }
        }
    }

    fn run_blocks<T: GgmlType, A: 'static>(
        &self,
        weights: &[T],
        activations: &[A],
        input: &Input,
        features: std::ops::Range<usize>,
    ) where
        T::VecDotType: 'static,
    {
        // `form_of` names `T::VecDotType`; the cast only tells the compiler so.
        let activations: &[T::VecDotType] = same_type(activations);
        let (columns, per_row) = (input.columns, input.columns / T::BLCK_SIZE);
        let weight = |feature: usize| &weights[feature * per_row..(feature + 1) * per_row];
        let mut feature = features.start;
        while feature + QUAD <= features.end {
            let (w0, w1, w2, w3) =
                (weight(feature), weight(feature + 1), weight(feature + 2), weight(feature + 3));
            for row in 0..input.rows {
                let x = &activations[row * per_row..(row + 1) * per_row];
                let (d0, d1, d2, d3) = T::vec_dot_4(columns, w0, w1, w2, w3, x);
                self.write(row, feature, d0);
                self.write(row, feature + 1, d1);
                self.write(row, feature + 2, d2);
                self.write(row, feature + 3, d3);
            }
            feature += QUAD;
        }
        for feature in feature..features.end {
            for row in 0..input.rows {
                let x = &activations[row * per_row..(row + 1) * per_row];
                self.write(row, feature, T::vec_dot(columns, weight(feature), x));
            }
        }
    }

    #[cfg(target_arch = "x86_64")]
    fn run_wide(&self, input: &Input, features: std::ops::Range<usize>) {
        let blocks = input.columns / k_quants::BLOCK;
        let row_bytes = self.matrix.as_bytes().len() / self.matrix.rows();
        // Row tiles outside, so that a tile's activations stay in the first-level cache for all features.
        for first in (0..input.rows).step_by(k_quants::MAX_ROWS) {
            let count = k_quants::MAX_ROWS.min(input.rows - first);
            let activations = &input.wide[first * blocks..(first + count) * blocks];
            let mut out = [0f32; k_quants::MAX_ROWS];
            for feature in features.clone() {
                let weights = &self.matrix.as_bytes()[feature * row_bytes..(feature + 1) * row_bytes];
                k_quants::dot_rows(self.matrix.dtype(), weights, activations, blocks, &mut out[..count]);
                for (row, value) in out[..count].iter().enumerate() {
                    self.write(first + row, feature, *value);
                }
            }
        }
    }

    fn run_float(&self, input: &Input, features: std::ops::Range<usize>) {
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
                self.write(row, feature, dot(weights, &input.float[row * columns..(row + 1) * columns]));
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
