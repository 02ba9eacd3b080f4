//! Attention over keys and values that live in fixed-size blocks: no score matrix, no copy of the cache.
//!
//! Each (sequence, key-value head, tile of query rows) is one piece of work. Positions are visited in chunks; a chunk
//! has a softmax of its own, and chunks are merged in order with the running maximum of FlashAttention (Dao et al.
//! 2022). All sums of a row run over positions in order, so the same row gives the same bits alone, in a prefill chunk
//! or beside other sequences. Inside, several queries share each load of a key or value, as in a matrix product.

#[cfg(target_arch = "x86_64")]
use half::f16;

#[cfg(target_arch = "x86_64")]
use super::{
    attention_x86::{self, avx2, avx512},
    instructions::Instructions,
};
use super::{
    kv_storage::{KvShape, KvStorage, Piece},
    ops::{fast_exp, fused},
    prefetch::{self, Ahead},
    shared_mut::SharedMut,
    threads::ThreadPool,
};
use crate::kv_cache::{BLOCK_SIZE, BlockId};

/// Queries (rows times query heads of a group) that share one conversion of a chunk of keys and values.
const QUERIES_PER_TILE: usize = 32;
/// Positions with a softmax of their own.
pub(super) const CHUNK: usize = 4 * BLOCK_SIZE;
/// Queries that are multiplied with a key together.
pub(super) const TOGETHER: usize = 4;
/// Lanes that sums run in, whether the CPU has vectors of them or not.
const LANES: usize = 8;

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
    let &KvShape { heads, head_dimension, .. } = kv.shape();
    let width = query_heads * head_dimension;
    let total_rows: usize = spans.iter().map(|span| span.rows).sum();
    assert!(query.len() >= total_rows * width && output.len() >= total_rows * width);
    let group = query_heads / heads;
    let most_rows = spans.iter().map(|span| span.rows).max().unwrap_or(1);
    let tile_rows = (QUERIES_PER_TILE / group).clamp(1, most_rows.max(1));
    let mut tiles = Vec::new();
    for span in spans {
        for head in 0..heads {
            for first in (0..span.rows).step_by(tile_rows) {
                let rows = first..span.rows.min(first + tile_rows);
                tiles.push(Tile { kv, layer, head, group, span, rows, query, width });
            }
        }
    }
    // Later tiles see more keys; taking them first keeps the threads' last pieces small.
    tiles.sort_by_key(|tile| std::cmp::Reverse(tile.span.start + tile.rows.end));
    let out = SharedMut::new(output);
    let mut scratches: Vec<Scratch> =
        (0..pool.threads()).map(|_| Scratch::new(head_dimension, tile_rows * group)).collect();
    let scratches = SharedMut::new(&mut scratches);
    pool.run_each(tiles.len(), &|thread, index, next| {
        let tile = &tiles[index];
        // SAFETY: each thread has its own.
        let scratch = unsafe { &mut scratches.slice(thread..thread + 1)[0] };
        attend_tile(tile, next.map(|next| &tiles[next]), scratch);
        let states = scratch.accumulated.chunks_exact(head_dimension).take(tile.rows.len() * group);
        for (state, sums) in states.enumerate() {
            let (row, member) = (tile.span.row + tile.rows.start + state / group, state % group);
            let scale = 1.0 / scratch.sum[state];
            let at = row * width + (tile.head * group + member) * head_dimension;
            // SAFETY: each (row, head) belongs to exactly one tile.
            let out = unsafe { out.slice(at..at + head_dimension) };
            for (out, sum) in out.iter_mut().zip(sums) {
                *out = sum * scale;
            }
        }
    });
}

/// A head's keys, or its values, in a layer and a block.
type PieceOf = fn(&KvStorage, usize, BlockId, usize) -> Piece<'_>;

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

/// What a tile computes with. A state is one query: a row and a member of the group of heads.
struct Scratch {
    /// `[four states][dimension][state]`, scaled; states that fill up the last four are zero.
    queries: Vec<[f32; TOGETHER]>,
    /// `[block][dimension][token]` of one chunk; empty until a chunk is converted.
    keys: Vec<f32>,
    /// `[token][dimension]` of one chunk; empty until a chunk is converted.
    values: Vec<f32>,
    /// `[state][token]` of one chunk: scores, then their exponentials.
    weights: Vec<[f32; CHUNK]>,
    /// What the state's older chunks and its newest one are multiplied with when they are merged.
    factors: Vec<(f32, f32)>,
    /// Over the chunks so far: maximum, sum of exponentials, weighted values.
    maximum: Vec<f32>,
    sum: Vec<f32>,
    accumulated: Vec<f32>,
}

impl Scratch {
    fn new(dimension: usize, states: usize) -> Self {
        Self {
            queries: vec![[0.0; TOGETHER]; states.div_ceil(TOGETHER) * dimension],
            keys: Vec::new(),
            values: Vec::new(),
            weights: vec![[0.0; CHUNK]; states.next_multiple_of(TOGETHER)],
            factors: vec![(0.0, 0.0); states],
            maximum: vec![0.0; states],
            sum: vec![0.0; states],
            accumulated: vec![0.0; states * dimension],
        }
    }
}

/// `next`: the tile after this, whose first keys and values are asked for.
fn attend_tile(tile: &Tile<'_>, next: Option<&Tile<'_>>, scratch: &mut Scratch) {
    let dimension = tile.kv.shape().head_dimension;
    let scale = 1.0 / (dimension as f32).sqrt();
    let states = tile.rows.len() * tile.group;
    for state in 0..states.next_multiple_of(TOGETHER) {
        let row = tile.span.row + tile.rows.start + state / tile.group;
        let at = row * tile.width + (tile.head * tile.group + state % tile.group) * dimension;
        let queries = &mut scratch.queries[state / TOGETHER * dimension..][..dimension];
        if state < states {
            for (to, from) in queries.iter_mut().zip(&tile.query[at..at + dimension]) {
                to[state % TOGETHER] = from * scale;
            }
        } else {
            queries.iter_mut().for_each(|to| to[state % TOGETHER] = 0.0);
        }
    }
    scratch.maximum[..states].fill(f32::NEG_INFINITY);
    scratch.sum[..states].fill(0.0);
    scratch.accumulated[..states * dimension].fill(0.0);
    let last = tile.span.start + tile.rows.end - 1;
    for chunk_start in (0..=last).step_by(CHUNK) {
        // Rows before the chunk see nothing of it.
        let first_row = tile.rows.start.max(chunk_start.saturating_sub(tile.span.start)) - tile.rows.start;
        let seen = first_row * tile.group..states;
        let count = CHUNK.min(last + 1 - chunk_start);
        let chunk_blocks = &tile.span.blocks[chunk_start / BLOCK_SIZE..=last / BLOCK_SIZE];
        let (blocks, later) = chunk_blocks.split_at(count.div_ceil(BLOCK_SIZE));
        let (later, head) = match next {
            Some(next) if later.is_empty() => (next.span.blocks, next.head),
            _ => (later, tile.head),
        };
        // The next chunk's keys are asked for now and its values after the scores: all at once would stop the processor.
        let ask = |piece: PieceOf| {
            for &block in later.iter().take(CHUNK / BLOCK_SIZE) {
                let piece = piece(tile.kv, tile.layer, block, head);
                prefetch::far(piece.address(), piece.byte_length());
            }
        };
        // Half floats are converted as they are read where one group of queries reads them, before where several do.
        #[cfg(target_arch = "x86_64")]
        let halves = tile.halves(states, blocks, count);
        #[cfg(target_arch = "x86_64")]
        let ahead = |piece: PieceOf| {
            let block = |index: usize| *later.get(index).or(later.last()).unwrap_or(&blocks[0]);
            let address = |index| piece(tile.kv, tile.layer, block(index), head).address();
            Some(Ahead::new(std::array::from_fn(address)))
        };
        #[cfg(target_arch = "x86_64")]
        if let Some(halves) = &halves {
            let keys = &halves.keys[..blocks.len()];
            scores(&scratch.queries[..dimension], keys, &mut scratch.weights, ahead(KvStorage::keys));
        }
        #[cfg(not(target_arch = "x86_64"))]
        let halves = None::<()>;
        if halves.is_none() {
            ask(KvStorage::keys);
            scratch.read_and_score(tile, blocks, count, seen.start / TOGETHER..states.div_ceil(TOGETHER));
            ask(KvStorage::values);
        }
        for state in seen.clone() {
            let position = tile.span.start + tile.rows.start + state / tile.group;
            let visible = CHUNK.min(position + 1 - chunk_start);
            let (maximum, sum) = exponentials(&mut scratch.weights[state], visible);
            let old = scratch.maximum[state];
            let new = old.max(maximum);
            let factors = if old == f32::NEG_INFINITY {
                (0.0, 1.0)
            } else {
                (fast_exp(old - new), fast_exp(maximum - new))
            };
            scratch.maximum[state] = new;
            scratch.sum[state] = scratch.sum[state] * factors.0 + sum * factors.1;
            scratch.factors[state] = factors;
        }
        #[cfg(target_arch = "x86_64")]
        if let Some(halves) = &halves {
            let values = &halves.values[..blocks.len()];
            weigh_all(scratch, seen, values, dimension, ahead(KvStorage::values));
            continue;
        }
        let values = std::mem::take(&mut scratch.values);
        weigh_all(scratch, seen, &[&values[..count * dimension]], dimension, None);
        scratch.values = values;
    }
}

/// A chunk's keys and values as they are stored.
#[cfg(target_arch = "x86_64")]
struct Halves<'a> {
    keys: [&'a [[f16; BLOCK_SIZE]]; CHUNK / BLOCK_SIZE],
    /// Without the tokens that are not there yet.
    values: [&'a [f16]; CHUNK / BLOCK_SIZE],
}

#[cfg(target_arch = "x86_64")]
impl Tile<'_> {
    /// The chunk's `count` tokens in place, if the few queries of this tile should read them there.
    fn halves(&self, states: usize, blocks: &[BlockId], count: usize) -> Option<Halves<'_>> {
        if states > TOGETHER || !super::ops::has_avx2() {
            return None;
        }
        let mut halves = Halves { keys: [&[]; CHUNK / BLOCK_SIZE], values: [&[]; CHUNK / BLOCK_SIZE] };
        for (index, &block) in blocks.iter().enumerate() {
            let pieces =
                (self.kv.keys(self.layer, block, self.head), self.kv.values(self.layer, block, self.head));
            let (Piece::F16(keys), Piece::F16(values)) = pieces else { return None };
            let tokens = BLOCK_SIZE.min(count - index * BLOCK_SIZE);
            halves.keys[index] = keys.as_chunks().0;
            halves.values[index] = &values[..tokens * self.kv.shape().head_dimension];
        }
        Some(halves)
    }
}

impl Scratch {
    /// Converts a chunk's `count` tokens, and computes the scores of some groups of states.
    fn read_and_score(
        &mut self,
        tile: &Tile<'_>,
        blocks: &[BlockId],
        count: usize,
        groups: std::ops::Range<usize>,
    ) {
        let dimension = tile.kv.shape().head_dimension;
        let length = BLOCK_SIZE * dimension;
        self.keys.resize(CHUNK * dimension, 0.0);
        self.values.resize(CHUNK * dimension, 0.0);
        for (index, &block) in blocks.iter().enumerate() {
            let first = index * length;
            tile.kv.keys(tile.layer, block, tile.head).read(&mut self.keys[first..first + length]);
            let end = (first + length).min(count * dimension);
            tile.kv.values(tile.layer, block, tile.head).read(&mut self.values[first..end]);
        }
        let mut keys: [&[[f32; BLOCK_SIZE]]; CHUNK / BLOCK_SIZE] = [&[]; CHUNK / BLOCK_SIZE];
        for (keys, block) in keys.iter_mut().zip(self.keys.chunks_exact(length)) {
            *keys = block.as_chunks().0;
        }
        for group in groups {
            let queries = &self.queries[group * dimension..(group + 1) * dimension];
            scores(queries, &keys[..blocks.len()], &mut self.weights[group * TOGETHER..], None);
        }
    }
}

fn weigh_all<T: Stored>(
    scratch: &mut Scratch,
    states: std::ops::Range<usize>,
    values: &[&[T]],
    dimension: usize,
    mut ahead: Option<Ahead>,
) {
    let mut state = states.start;
    while state < states.end {
        let weights = &scratch.weights[state..];
        let factors = &scratch.factors[state..];
        let sums = &mut scratch.accumulated[state * dimension..];
        state += match states.end - state {
            #[cfg(target_arch = "x86_64")]
            4.. if has_avx512() => weigh::<T, 4>(weights, factors, values, dimension, sums, ahead.take()),
            2.. => weigh::<T, 2>(weights, factors, values, dimension, sums, ahead.take()),
            _ => weigh::<T, 1>(weights, factors, values, dimension, sums, ahead.take()),
        };
    }
}

/// `weights[q][t] = queries[q] . keys[t]` for a few queries and the tokens of some blocks; both are given by dimension.
#[cfg_attr(not(target_arch = "x86_64"), allow(unused, reason = "nothing is asked for ahead elsewhere"))]
fn scores<T: Stored>(
    queries: &[[f32; TOGETHER]],
    blocks: &[&[[T; BLOCK_SIZE]]],
    weights: &mut [[f32; CHUNK]],
    mut ahead: Option<Ahead>,
) {
    #[cfg(target_arch = "x86_64")]
    if has_avx512() {
        // SAFETY: the CPU has AVX2, FMA, F16C and AVX-512.
        unsafe {
            if let &[a, b, c, d] = blocks {
                return avx512::scores(queries, [a, b, c, d], 0, weights, ahead);
            }
            for (index, keys) in blocks.iter().enumerate() {
                avx512::scores(queries, [keys], index * BLOCK_SIZE, weights, ahead.take());
            }
        }
        return;
    }
    for (index, keys) in blocks.iter().enumerate() {
        let at = index * BLOCK_SIZE;
        #[cfg(target_arch = "x86_64")]
        if super::ops::has_avx2() {
            // SAFETY: the CPU has AVX2, FMA and F16C.
            unsafe { avx2::scores(queries, [*keys], at, weights, ahead.take()) };
            continue;
        }
        let mut sums = [[0f32; BLOCK_SIZE]; TOGETHER];
        for (query, key) in queries.iter().zip(*keys) {
            for (sums, x) in sums.iter_mut().zip(query) {
                for (sum, key) in sums.iter_mut().zip(key) {
                    *sum = fused(*x, (*key).into(), *sum);
                }
            }
        }
        for (sums, weights) in sums.iter().zip(&mut *weights) {
            weights[at..at + BLOCK_SIZE].copy_from_slice(sums);
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn has_avx512() -> bool {
    Instructions::chosen() == Some(Instructions::Avx512Vnni)
}

/// Turns a chunk's scores into exponentials relative to their maximum; the ones from `visible` on become zero.
/// Returns the maximum and the sum.
pub(super) fn exponentials(scores: &mut [f32; CHUNK], visible: usize) -> (f32, f32) {
    scores[visible..].fill(f32::NEG_INFINITY);
    #[cfg(target_arch = "x86_64")]
    if has_avx512() {
        // SAFETY: the CPU has AVX2, FMA and AVX-512.
        return unsafe { avx512::exponentials(scores) };
    }
    #[cfg(target_arch = "x86_64")]
    if super::ops::has_avx2() {
        // SAFETY: the CPU has AVX2 and FMA.
        return unsafe { avx2::exponentials(scores) };
    }
    let maximum = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sums = [0f32; LANES];
    for chunk in scores.as_chunks_mut::<LANES>().0 {
        for (sum, score) in sums.iter_mut().zip(chunk) {
            // The exponential is clamped above zero; what is not visible must be zero exactly.
            *score = if *score == f32::NEG_INFINITY { 0.0 } else { fast_exp(*score - maximum) };
            *sum += *score;
        }
    }
    (maximum, sums.iter().sum())
}

/// `sums[q] = sums[q] * old factor + (weights[q] . values) * new factor` for `Q` queries; each part of `values` is
/// `[token][dimension]`. Returns `Q`.
#[cfg_attr(not(target_arch = "x86_64"), allow(unused, reason = "nothing is asked for ahead elsewhere"))]
fn weigh<T: Stored, const Q: usize>(
    weights: &[[f32; CHUNK]],
    factors: &[(f32, f32)],
    values: &[&[T]],
    dimension: usize,
    sums: &mut [f32],
    ahead: Option<Ahead>,
) -> usize {
    let mut at = 0;
    #[cfg(target_arch = "x86_64")]
    if has_avx512() {
        while at + 2 * LANES <= dimension {
            // SAFETY: the CPU has AVX2, FMA, F16C and AVX-512.
            unsafe {
                if at + 8 * LANES <= dimension {
                    avx512::weigh::<T, Q, 4>(weights, factors, values, dimension, at, sums, ahead);
                    at += 8 * LANES;
                } else {
                    avx512::weigh::<T, Q, 1>(weights, factors, values, dimension, at, sums, ahead);
                    at += 2 * LANES;
                }
            }
        }
    }
    #[cfg(target_arch = "x86_64")]
    if super::ops::has_avx2() {
        while at + LANES <= dimension {
            // SAFETY: the CPU has AVX2, FMA and F16C.
            unsafe {
                if at + 4 * LANES <= dimension {
                    avx2::weigh::<T, Q, 4>(weights, factors, values, dimension, at, sums, ahead);
                    at += 4 * LANES;
                } else {
                    avx2::weigh::<T, Q, 1>(weights, factors, values, dimension, at, sums, ahead);
                    at += LANES;
                }
            }
        }
    }
    for q in 0..Q {
        let (old, new) = factors[q];
        for element in at..dimension {
            let mut part = 0f32;
            let rows = values.iter().flat_map(|values| values.chunks_exact(dimension));
            for (value, weight) in rows.zip(&weights[q]) {
                part = fused(value[element].into(), *weight, part);
            }
            let sum = &mut sums[q * dimension + element];
            *sum = fused(part, new, *sum * old);
        }
    }
    Q
}

#[cfg(target_arch = "x86_64")]
use attention_x86::Element as Stored;

/// What keys and values are stored as.
#[cfg(not(target_arch = "x86_64"))]
trait Stored: Copy + Into<f32> {}
#[cfg(not(target_arch = "x86_64"))]
impl Stored for f32 {}

#[cfg(test)]
mod tests {
    use super::{super::kv_storage::KvPrecision, *};

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
        let total = start + rows;
        let blocks: Vec<BlockId> = (0..total.div_ceil(BLOCK_SIZE)).map(|i| (i * 7 % 64) as BlockId).collect();
        let shape = KvShape { layers: 2, blocks: 64, heads, head_dimension: dimension };
        let mut kv = KvStorage::new(shape, precision).unwrap();
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
    fn a_row_does_not_depend_on_the_rows_beside_it() {
        let (heads, group, dimension, total) = (2, 3, 40, 150usize);
        let mut seed = 11;
        let mut row = |n: usize| -> Vec<f32> { (0..n).map(|_| noise(&mut seed)).collect() };
        let blocks: Vec<BlockId> = (0..total.div_ceil(BLOCK_SIZE)).map(|i| (i * 5 % 16) as BlockId).collect();
        let shape = KvShape { layers: 1, blocks: 16, heads, head_dimension: dimension };
        let mut kv = KvStorage::new(shape, KvPrecision::F16).unwrap();
        for position in 0..total {
            let (key, value) = (row(heads * dimension), row(heads * dimension));
            kv.write(0, &blocks, position, &key, &value);
        }
        let width = heads * group * dimension;
        let query = row(total * width);
        let mut pool = ThreadPool::new(2).unwrap();
        let mut together = vec![0.0; query.len()];
        let span = Span { row: 0, rows: total, start: 0, blocks: &blocks };
        attend(&mut pool, &kv, 0, heads * group, &[span], &query, &mut together);
        for position in [0, 1, 15, 16, 63, 64, 65, 127, 149] {
            let at = position * width..(position + 1) * width;
            let mut alone = vec![0.0; width];
            let span = Span { row: 0, rows: 1, start: position, blocks: &blocks };
            attend(&mut pool, &kv, 0, heads * group, &[span], &query[at.clone()], &mut alone);
            let bits = |row: &[f32]| row.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&alone), bits(&together[at]), "position {position}");
        }
    }
}
