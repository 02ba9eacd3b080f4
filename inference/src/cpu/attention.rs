//! Attention over keys and values that live in fixed-size blocks: no score matrix, no copy of the cache.
//!
//! Each (sequence, key-value head, tile of query rows) is one piece of work. Blocks are visited in order with the
//! running-maximum softmax of FlashAttention (Dao et al. 2022), so a row's result depends on its own scores only:
//! the same row gives the same bits alone, in a prefill chunk or beside other sequences.

use half::{f16, slice::HalfFloatSliceExt};

use super::{
    matmul::SharedMut,
    ops::{dispatched, dot_body, fast_exp, fused},
    threads::ThreadPool,
};
use crate::kv_cache::BlockId;

/// Query rows that share one read of a block of keys and values.
const ROWS_PER_TILE: usize = 8;

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvPrecision {
    F16,
    /// For comparisons with F32 references.
    F32,
}

/// Sizes of the cache of one model.
#[derive(Debug, Clone, Copy)]
pub struct KvShape {
    pub layers: usize,
    pub blocks: usize,
    /// Tokens a block.
    pub block_size: usize,
    pub heads: usize,
    pub head_dimension: usize,
}

enum Plane {
    F16(Vec<f16>),
    F32(Vec<f32>),
}

/// Keys and values of all layers: each plane is `[block][head][token][dimension]`.
/// Pages of the planes are committed by the system when first written.
pub struct KvStorage {
    shape: KvShape,
    keys: Vec<Plane>,
    values: Vec<Plane>,
}

impl KvStorage {
    pub fn new(shape: KvShape, precision: KvPrecision) -> Self {
        let length = shape.blocks * shape.heads * shape.block_size * shape.head_dimension;
        let plane = || match precision {
            KvPrecision::F16 => Plane::F16(bytemuck::zeroed_vec(length)),
            KvPrecision::F32 => Plane::F32(bytemuck::zeroed_vec(length)),
        };
        let planes = || (0..shape.layers).map(|_| plane()).collect();
        Self { shape, keys: planes(), values: planes() }
    }

    pub fn blocks(&self) -> usize {
        self.shape.blocks
    }

    pub fn byte_length(&self) -> usize {
        let plane = |plane: &Plane| match plane {
            Plane::F16(values) => values.len() * 2,
            Plane::F32(values) => values.len() * 4,
        };
        self.keys.iter().chain(&self.values).map(plane).sum()
    }

    fn offset(&self, block: BlockId, head: usize) -> usize {
        (block as usize * self.shape.heads + head) * self.shape.block_size * self.shape.head_dimension
    }

    /// Stores one token's key and value rows (`heads * head_dimension` each) of a layer.
    pub fn write(&mut self, layer: usize, blocks: &[BlockId], position: usize, key: &[f32], value: &[f32]) {
        let KvShape { block_size, head_dimension, heads, .. } = self.shape;
        let (block, slot) = (blocks[position / block_size], position % block_size);
        for head in 0..heads {
            let at = self.offset(block, head) + slot * head_dimension;
            let part = head * head_dimension..(head + 1) * head_dimension;
            write(&mut self.keys[layer], at, &key[part.clone()]);
            write(&mut self.values[layer], at, &value[part]);
        }
    }

    /// Copies the first `tokens` tokens of a block into another, in all layers.
    pub fn copy_block(&mut self, source: BlockId, destination: BlockId, tokens: usize) {
        let length = tokens.min(self.shape.block_size) * self.shape.head_dimension;
        for head in 0..self.shape.heads {
            let (from, to) = (self.offset(source, head), self.offset(destination, head));
            for plane in self.keys.iter_mut().chain(&mut self.values) {
                match plane {
                    Plane::F16(values) => values.copy_within(from..from + length, to),
                    Plane::F32(values) => values.copy_within(from..from + length, to),
                }
            }
        }
    }
}

fn write(plane: &mut Plane, at: usize, row: &[f32]) {
    match plane {
        Plane::F16(values) => values[at..at + row.len()].convert_from_f32_slice(row),
        Plane::F32(values) => values[at..at + row.len()].copy_from_slice(row),
    }
}

/// Reads `length` elements at `at` as floats, through `buffer` where they are stored narrower.
fn read<'a>(plane: &'a Plane, at: usize, length: usize, buffer: &'a mut [f32]) -> &'a [f32] {
    match plane {
        Plane::F16(values) => {
            values[at..at + length].convert_to_f32_slice(&mut buffer[..length]);
            &buffer[..length]
        }
        Plane::F32(values) => &values[at..at + length],
    }
}

/// The new rows of one sequence in a step.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    /// First row in the batch.
    pub row: usize,
    pub rows: usize,
    /// Position of the first row in its sequence.
    pub start: usize,
    pub blocks: &'a [BlockId],
}

/// `output[row] = softmax(query[row] . keys / sqrt(d)) . values` for all rows and heads, causal.
/// `query` and `output` are `[rows, query_heads * head_dimension]`; keys and values of the rows are already written.
pub fn attend(
    pool: &mut ThreadPool,
    kv: &KvStorage,
    layer: usize,
    query_heads: usize,
    spans: &[Span<'_>],
    query: &[f32],
    output: &mut [f32],
) {
    let KvShape { heads, head_dimension, .. } = kv.shape;
    let width = query_heads * head_dimension;
    let total_rows: usize = spans.iter().map(|span| span.rows).sum();
    assert!(query.len() >= total_rows * width && output.len() >= total_rows * width);
    let mut tiles = Vec::new();
    for span in spans {
        for head in 0..heads {
            for first in (0..span.rows).step_by(ROWS_PER_TILE) {
                tiles.push((span, head, first..span.rows.min(first + ROWS_PER_TILE)));
            }
        }
    }
    // Later tiles see more keys; taking them first keeps the threads' last pieces small.
    tiles.reverse();
    let out = SharedMut(output.as_mut_ptr());
    let group = query_heads / heads;
    pool.run_chunked(tiles.len(), &|range| {
        let mut scratch = Scratch::new(kv.shape.block_size, head_dimension, ROWS_PER_TILE * group);
        for (span, head, rows) in &tiles[range] {
            scratch.reset(rows.len() * group);
            let tile = Tile { kv, layer, head: *head, group, span, rows: rows.clone(), query, width };
            attend_tile(&tile, &mut scratch);
            for (index, row) in rows.clone().enumerate() {
                for member in 0..group {
                    let state = index * group + member;
                    let scale = 1.0 / scratch.sum[state];
                    let at = (span.row + row) * width + (head * group + member) * head_dimension;
                    let source = &scratch.accumulated[state * head_dimension..(state + 1) * head_dimension];
                    for (i, value) in source.iter().enumerate() {
                        // SAFETY: bounds were asserted above; each (row, head) belongs to exactly one tile.
                        unsafe { *out.get().add(at + i) = value * scale };
                    }
                }
            }
        }
    });
}

struct Tile<'a> {
    kv: &'a KvStorage,
    layer: usize,
    head: usize,
    /// Query heads that share one key-value head.
    group: usize,
    span: &'a Span<'a>,
    rows: std::ops::Range<usize>,
    query: &'a [f32],
    width: usize,
}

struct Scratch {
    keys: Vec<f32>,
    values: Vec<f32>,
    scores: Vec<f32>,
    /// Per (row, member of the group): running maximum, sum of exponentials, weighted values.
    maximum: Vec<f32>,
    sum: Vec<f32>,
    accumulated: Vec<f32>,
}

impl Scratch {
    fn new(block_size: usize, head_dimension: usize, states: usize) -> Self {
        Self {
            keys: vec![0.0; block_size * head_dimension],
            values: vec![0.0; block_size * head_dimension],
            scores: vec![0.0; block_size],
            maximum: vec![0.0; states],
            sum: vec![0.0; states],
            accumulated: vec![0.0; states * head_dimension],
        }
    }

    fn reset(&mut self, states: usize) {
        let dimension = self.accumulated.len() / self.sum.len();
        self.maximum[..states].fill(f32::NEG_INFINITY);
        self.sum[..states].fill(0.0);
        self.accumulated[..states * dimension].fill(0.0);
    }
}

dispatched! {
    fn attend_tile(tile: &Tile<'_>, scratch: &mut Scratch) {
        let KvShape { block_size, head_dimension, .. } = tile.kv.shape;
        let scale = 1.0 / (head_dimension as f32).sqrt();
        let Scratch { keys, values, scores, maximum, sum, accumulated } = scratch;
        let last_position = tile.span.start + tile.rows.end - 1;
        for (index, &block) in tile.span.blocks[..=last_position / block_size].iter().enumerate() {
            let block_start = index * block_size;
            let filled = block_size.min(last_position + 1 - block_start);
            let at = tile.kv.offset(block, tile.head);
            let keys = read(&tile.kv.keys[tile.layer], at, filled * head_dimension, keys);
            let values = read(&tile.kv.values[tile.layer], at, filled * head_dimension, values);
            for (row_index, row) in tile.rows.clone().enumerate() {
                let position = tile.span.start + row;
                if position < block_start {
                    continue;
                }
                let visible = filled.min(position + 1 - block_start);
                for member in 0..tile.group {
                    let state = row_index * tile.group + member;
                    let query_at = (tile.span.row + row) * tile.width
                        + (tile.head * tile.group + member) * head_dimension;
                    let query = &tile.query[query_at..query_at + head_dimension];
                    let mut block_maximum = f32::NEG_INFINITY;
                    for (token, score) in scores[..visible].iter_mut().enumerate() {
                        *score = dot_body(query, &keys[token * head_dimension..][..head_dimension]) * scale;
                        block_maximum = block_maximum.max(*score);
                    }
                    let sums = &mut accumulated[state * head_dimension..][..head_dimension];
                    let old_maximum = maximum[state];
                    let new_maximum = old_maximum.max(block_maximum);
                    if new_maximum > old_maximum {
                        let shrink = if old_maximum == f32::NEG_INFINITY { 0.0 } else { fast_exp(old_maximum - new_maximum) };
                        sum[state] *= shrink;
                        for value in sums.iter_mut() {
                            *value *= shrink;
                        }
                        maximum[state] = new_maximum;
                    }
                    for (token, score) in scores[..visible].iter().enumerate() {
                        let weight = fast_exp(*score - new_maximum);
                        sum[state] += weight;
                        for (o, v) in sums.iter_mut().zip(&values[token * head_dimension..][..head_dimension]) {
                            *o = fused(*v, weight, *o);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: &mut u64) -> f32 {
        *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((*seed >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 4.0
    }

    /// Attention by its definition, in f64, over contiguous rows.
    fn reference(q: &[f32], k: &[Vec<f32>], v: &[Vec<f32>], visible: usize) -> Vec<f32> {
        let scale = 1.0 / (q.len() as f64).sqrt();
        let score =
            |k: &Vec<f32>| q.iter().zip(k).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() * scale;
        let scores: Vec<f64> = k[..visible].iter().map(score).collect();
        let maximum = scores.iter().copied().fold(f64::MIN, f64::max);
        let weights: Vec<f64> = scores.iter().map(|s| (s - maximum).exp()).collect();
        let total: f64 = weights.iter().sum();
        (0..q.len())
            .map(|i| (weights.iter().zip(v).map(|(w, v)| w * f64::from(v[i])).sum::<f64>() / total) as f32)
            .collect()
    }

    fn check(
        heads: usize,
        group: usize,
        dimension: usize,
        start: usize,
        rows: usize,
        precision: KvPrecision,
        bound: f32,
    ) {
        let mut seed = (heads * 31 + group * 7 + dimension + start * 3 + rows) as u64;
        let block_size = 16;
        let total = start + rows;
        let blocks: Vec<BlockId> = (0..total.div_ceil(block_size)).map(|i| (i * 7 % 64) as BlockId).collect();
        let shape = KvShape { layers: 2, blocks: 64, block_size, heads, head_dimension: dimension };
        let mut kv = KvStorage::new(shape, precision);
        let mut row = |n: usize| -> Vec<f32> { (0..n).map(|_| noise(&mut seed)).collect() };
        let keys: Vec<Vec<f32>> = (0..total).map(|_| row(heads * dimension)).collect();
        let values: Vec<Vec<f32>> = (0..total).map(|_| row(heads * dimension)).collect();
        let query: Vec<f32> = row(rows * heads * group * dimension);
        for position in 0..total {
            kv.write(1, &blocks, position, &keys[position], &values[position]);
        }
        let mut output = vec![0.0; query.len()];
        let mut pool = ThreadPool::new(2).unwrap();
        let span = Span { row: 0, rows, start, blocks: &blocks };
        attend(&mut pool, &kv, 1, heads * group, &[span], &query, &mut output);
        for row in 0..rows {
            for head in 0..heads * group {
                let at = (row * heads * group + head) * dimension;
                let part = (head / group) * dimension..(head / group + 1) * dimension;
                let slice =
                    |rows: &[Vec<f32>]| rows.iter().map(|r| r[part.clone()].to_vec()).collect::<Vec<_>>();
                let expected =
                    reference(&query[at..at + dimension], &slice(&keys), &slice(&values), start + row + 1);
                for (ours, exact) in output[at..at + dimension].iter().zip(&expected) {
                    assert!((ours - exact).abs() < bound, "row {row} head {head}: {ours} instead of {exact}");
                }
            }
        }
    }

    #[test]
    fn matches_the_definition_over_awkward_shapes() {
        for (heads, group, dimension, start, rows) in [
            (1, 1, 32, 0, 1),
            (2, 4, 64, 0, 17),
            (2, 4, 64, 15, 1),
            (2, 3, 32, 16, 2),
            (1, 7, 128, 31, 9),
            (4, 1, 40, 100, 33),
        ] {
            check(heads, group, dimension, start, rows, KvPrecision::F32, 1e-5);
            check(heads, group, dimension, start, rows, KvPrecision::F16, 5e-3);
        }
    }

    #[test]
    fn copied_blocks_hold_the_same_tokens() {
        let shape = KvShape { layers: 1, blocks: 3, block_size: 4, heads: 2, head_dimension: 8 };
        let mut kv = KvStorage::new(shape, KvPrecision::F32);
        for position in 0..4 {
            let row: Vec<f32> = (0..16).map(|i| (position * 16 + i) as f32).collect();
            kv.write(0, &[0], position, &row, &row);
        }
        kv.copy_block(0, 2, 3);
        let Plane::F32(keys) = &kv.keys[0] else { unreachable!() };
        for head in 0..2 {
            let (from, to) = (kv.offset(0, head), kv.offset(2, head));
            assert_eq!(keys[from..from + 24], keys[to..to + 24]);
            assert!(keys[to + 24..to + 32].iter().all(|v| *v == 0.0));
        }
    }
}
