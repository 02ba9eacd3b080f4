//! Dot products of k-quantized weights with 8-bit activations for CPUs with AVX2, and the way to the kernels for more.
//!
//! candle's kernels unpack a weight block for every activation row. These read the file's own layout too, but unpack a
//! block once for all rows that are multiplied with it. For few rows (decoding), a vector holds parts of one row's sum,
//! and eight weight rows are summed up together; for many (prompts, batches, drafts), each lane holds a row of its own.
//! Either way a block's sum is one exact integer, and blocks are added in order with the same two roundings: a row's
//! result has the same bits whichever kernel computes it, and whatever rows are beside it.

#![allow(clippy::needless_range_loop, reason = "kernels walk several arrays of registers by one index")]

use std::arch::x86_64::*;

use candle_core::quantized::GgmlDType;

use super::{
    activations::{LONG_TILE_ROWS, TILE_ROWS, WideBlock, WideTile},
    instructions::Instructions,
    prefetch, rows_avx512, tiles_vnni,
    unpack::{Q4K, Q5K, Q6K, WeightBlock, spread},
    unpack_avx512::PairedBlock,
};

/// Whether these kernels handle this type on this CPU.
pub fn is_supported(dtype: GgmlDType) -> bool {
    matches!(dtype, GgmlDType::Q4K | GgmlDType::Q5K | GgmlDType::Q6K) && super::ops::has_avx2()
}

/// Most weight rows that one call takes.
pub const FEATURES: usize = 8;
/// Most activation rows that one call of [`dot_rows`] takes.
pub const MOST_ROWS: usize = 4;
/// Weight rows that a tile kernel multiplies at a time.
pub(super) const TILE_FEATURES: usize = 2;
/// Most tiles that one call of [`dot_tiles`] takes.
pub const MOST_TILES: usize = 4;

/// `[activation row][weight row]`, the rows of one tile after those of the other.
pub type TiledProducts = [[f32; FEATURES]; MOST_TILES * LONG_TILE_ROWS];
/// None yet.
pub const NO_PRODUCTS: TiledProducts = [[0.0; FEATURES]; MOST_TILES * LONG_TILE_ROWS];

/// `out[r][f] = weights[f] . activations[r]` for up to [`FEATURES`] weight rows and up to [`MOST_ROWS`] rows of
/// activations. `weights` are whole rows of the matrix in the file's layout, `activations` is `[row][block]`.
/// Requires [`is_supported`] and `instructions`; the result's bits do not depend on them.
pub fn dot_rows(
    dtype: GgmlDType,
    instructions: Instructions,
    weights: &[u8],
    features: usize,
    activations: &[WideBlock],
    rows: usize,
    out: &mut [[f32; FEATURES]; MOST_ROWS],
) {
    assert!(is_supported(dtype) && (1..=FEATURES).contains(&features));
    assert!(instructions.is_available());
    match dtype {
        GgmlDType::Q4K => rows_of::<Q4K>(instructions, weights, features, activations, rows, out),
        GgmlDType::Q5K => rows_of::<Q5K>(instructions, weights, features, activations, rows, out),
        _ => rows_of::<Q6K>(instructions, weights, features, activations, rows, out),
    }
}

/// `out[t * 8 + r][f] = weights[f] . row r of tiles[t]` for up to [`FEATURES`] weight rows and up to [`MOST_TILES`] tiles.
/// `tiles` is `[tile][block]`. Requires [`is_supported`] and `instructions`, of which those beyond AVX-VNNI have tiles of their
/// own (`tiles_avx512`); the result's bits do not depend on them.
pub fn dot_tiles(
    dtype: GgmlDType,
    instructions: Instructions,
    weights: &[u8],
    features: usize,
    tiles: &[WideTile<TILE_ROWS>],
    count: usize,
    out: &mut TiledProducts,
) {
    assert!(is_supported(dtype) && (1..=FEATURES).contains(&features));
    assert!(instructions.is_available());
    // SAFETY: the CPU has AVX2, FMA and F16C (`is_supported`) and `instructions`.
    unsafe {
        match dtype {
            GgmlDType::Q4K => tiles_of::<Q4K>(instructions, weights, features, tiles, count, out),
            GgmlDType::Q5K => tiles_of::<Q5K>(instructions, weights, features, tiles, count, out),
            _ => tiles_of::<Q6K>(instructions, weights, features, tiles, count, out),
        }
    }
}

/// Where each of `features` weight rows begins; missing ones repeat the last one.
pub(super) fn row_starts(weights: &[u8], features: usize) -> [*const u8; FEATURES] {
    let row_bytes = weights.len() / features;
    std::array::from_fn(|feature| weights[feature.min(features - 1) * row_bytes..].as_ptr())
}

/// The CPU has `instructions`.
fn rows_of<W: PairedBlock>(
    instructions: Instructions,
    weights: &[u8],
    features: usize,
    activations: &[WideBlock],
    rows: usize,
    out: &mut [[f32; FEATURES]; MOST_ROWS],
) {
    let row_bytes = weights.len() / features;
    let blocks = row_bytes / W::BYTES;
    assert!(weights.len() == features * blocks * W::BYTES && activations.len() == rows * blocks);
    let starts = row_starts(weights, features);
    macro_rules! run {
        ($rows:expr) => {
            // SAFETY: the caller vouches for the instructions; each start is followed by `blocks` blocks, and `activations`
            // holds `rows * blocks` (asserted).
            unsafe {
                match instructions {
                    Instructions::Avx512Vnni => {
                        rows_avx512::wide_kernel::<W, { $rows }>(&starts, activations, blocks, out)
                    }
                    _ => rows_kernel::<W, { $rows }>(&starts, activations, blocks, out),
                }
            }
        };
    }
    match rows {
        1 => run!(1),
        2 => run!(2),
        3 => run!(3),
        MOST_ROWS => run!(MOST_ROWS),
        _ => unreachable!("{rows} rows"),
    }
}

/// # Safety
/// Each of `weights` points to `blocks` blocks of `W`; `activations` holds `ROWS * blocks` blocks.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn rows_kernel<W: WeightBlock, const ROWS: usize>(
    weights: &[*const u8; FEATURES],
    activations: &[WideBlock],
    blocks: usize,
    out: &mut [[f32; FEATURES]; MOST_ROWS],
) {
    // SAFETY: as the function's contract.
    unsafe {
        let mut sums = [_mm256_setzero_ps(); ROWS];
        for block in 0..blocks {
            let mut totals = [[_mm256_setzero_si256(); FEATURES]; ROWS];
            let mut offsets = [[_mm256_setzero_si256(); FEATURES]; ROWS];
            let mut at = *weights;
            for feature in 0..FEATURES {
                let weight = weights[feature].add(block * W::BYTES);
                at[feature] = weight;
                prefetch::far(weight.wrapping_add(FEATURES * blocks * W::BYTES), W::BYTES);
                let weight_scales = W::scales(weight);
                let values = W::values(weight);
                let multipliers = spread(weight_scales.multipliers);
                let weight_offsets = _mm256_cvtepi8_epi16(weight_scales.offsets);
                for row in 0..ROWS {
                    let activation = activations.get_unchecked(row * blocks + block);
                    let part = activation.values.as_ptr().cast::<__m256i>();
                    // Two chains, so that additions do not wait for each other.
                    let mut sums = [_mm256_setzero_si256(); 2];
                    for j in 0..8 {
                        // At most 63 * 127 * 2, which fits 16 bits.
                        let products = _mm256_maddubs_epi16(values[j], _mm256_load_si256(part.add(j)));
                        sums[j % 2] =
                            _mm256_add_epi32(sums[j % 2], _mm256_madd_epi16(products, multipliers[j]));
                    }
                    totals[row][feature] = _mm256_add_epi32(sums[0], sums[1]);
                    let activation_sums = _mm256_load_si256(activation.sums.as_ptr().cast());
                    offsets[row][feature] = _mm256_madd_epi16(weight_offsets, activation_sums);
                }
            }
            let [scales, offset_scales] = W::float_scales(&at);
            for row in 0..ROWS {
                let scale = _mm256_set1_ps(activations.get_unchecked(row * blocks + block).scale);
                let total = _mm256_cvtepi32_ps(sum_each(&totals[row]));
                let offset = _mm256_cvtepi32_ps(sum_each(&offsets[row]));
                let sum = _mm256_fmadd_ps(total, _mm256_mul_ps(scales, scale), sums[row]);
                sums[row] = _mm256_fnmadd_ps(offset, _mm256_mul_ps(offset_scales, scale), sum);
            }
        }
        for (sum, out) in sums.iter().zip(out) {
            _mm256_storeu_ps(out.as_mut_ptr(), *sum);
        }
    }
}

/// The sum of each vector's lanes.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn sum_each(v: &[__m256i; 8]) -> __m256i {
    let pair = |a, b| _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let four = |a, b| _mm256_add_epi32(_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    let low = four(pair(v[0], v[1]), pair(v[2], v[3]));
    let high = four(pair(v[4], v[5]), pair(v[6], v[7]));
    _mm256_add_epi32(
        _mm256_permute2x128_si256::<0x20>(low, high),
        _mm256_permute2x128_si256::<0x31>(low, high),
    )
}

/// `out[i][j] = rows[j][i]`
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn transpose(rows: [__m256; 8], out: &mut [[f32; 8]; 8]) {
    let mut pairs = [_mm256_setzero_ps(); 8];
    for i in 0..4 {
        pairs[2 * i] = _mm256_unpacklo_ps(rows[2 * i], rows[2 * i + 1]);
        pairs[2 * i + 1] = _mm256_unpackhi_ps(rows[2 * i], rows[2 * i + 1]);
    }
    // Four elements of rows 0 to 3, and of rows 4 to 7, for each column and the one four further on.
    let mut fours = [_mm256_setzero_ps(); 8];
    for i in 0..2 {
        let (a, b) = (&pairs[4 * i..4 * i + 2], &pairs[4 * i + 2..4 * i + 4]);
        fours[4 * i] = _mm256_shuffle_ps::<0x44>(a[0], b[0]);
        fours[4 * i + 1] = _mm256_shuffle_ps::<0xee>(a[0], b[0]);
        fours[4 * i + 2] = _mm256_shuffle_ps::<0x44>(a[1], b[1]);
        fours[4 * i + 3] = _mm256_shuffle_ps::<0xee>(a[1], b[1]);
    }
    for column in 0..4 {
        let low = _mm256_permute2f128_ps::<0x20>(fours[column], fours[column + 4]);
        let high = _mm256_permute2f128_ps::<0x31>(fours[column], fours[column + 4]);
        // SAFETY: each row is eight floats.
        unsafe {
            _mm256_storeu_ps(out[column].as_mut_ptr(), low);
            _mm256_storeu_ps(out[column + 4].as_mut_ptr(), high);
        }
    }
}

/// Stores the sums of the first `count` tiles.
#[inline]
#[target_feature(enable = "avx2")]
pub(super) fn store(sums: &AllTileSums, count: usize, out: &mut TiledProducts) {
    let (out, _) = out.as_chunks_mut::<TILE_ROWS>();
    for tile in 0..count {
        let mut rows = [_mm256_setzero_ps(); FEATURES];
        for (feature, row) in rows.iter_mut().enumerate() {
            *row = sums[feature / TILE_FEATURES][feature % TILE_FEATURES][tile];
        }
        transpose(rows, &mut out[tile]);
    }
}

/// A weight block laid out so that any four values, and any pair of factors, can be sent to all lanes.
#[repr(C, align(32))]
pub(super) struct Spread {
    pub values: [i32; 64],
    /// Twice the 16-bit multiplier, for each group of values that has one.
    pub multipliers: [i32; 16],
    /// Two neighbours' 16-bit offsets.
    pub offsets: [i32; 8],
    pub scale: f32,
    pub offset_scale: f32,
}

/// `[weight row][tile]`, each lane a row of activations.
pub(super) type TileSums = [[__m256; MOST_TILES]; TILE_FEATURES];
/// Those of all weight rows.
pub(super) type AllTileSums = [TileSums; FEATURES / TILE_FEATURES];

impl Spread {
    const ZERO: Self =
        Self { values: [0; 64], multipliers: [0; 16], offsets: [0; 8], scale: 0.0, offset_scale: 0.0 };

    /// # Safety
    /// `block` points to a block of `W`.
    #[inline]
    #[target_feature(enable = "avx2,f16c")]
    unsafe fn fill<W: WeightBlock>(&mut self, block: *const u8) {
        // SAFETY: as the function's contract; the arrays have room for what is stored.
        unsafe {
            for (j, values) in W::values(block).into_iter().enumerate() {
                _mm256_store_si256(self.values.as_mut_ptr().cast::<__m256i>().add(j), values);
            }
            let scales = W::scales(block);
            let multipliers = self.multipliers.as_mut_ptr().cast::<__m256i>();
            let offsets = self.offsets.as_mut_ptr();
            if W::GROUPS == 8 {
                // The eight factors stand twice each in the sixteen bytes.
                _mm256_store_si256(multipliers, _mm256_cvtepi8_epi16(scales.multipliers));
                let every_second = _mm_set_epi8(-1, -1, -1, -1, -1, -1, -1, -1, 14, 12, 10, 8, 6, 4, 2, 0);
                let once = _mm_shuffle_epi8(scales.offsets, every_second);
                _mm_storeu_si128(offsets.cast(), _mm_cvtepi8_epi16(once));
            } else {
                let twice = |bytes| _mm256_cvtepi8_epi16(bytes);
                let m = scales.multipliers;
                _mm256_store_si256(multipliers, twice(_mm_unpacklo_epi8(m, m)));
                _mm256_store_si256(multipliers.add(1), twice(_mm_unpackhi_epi8(m, m)));
                _mm256_storeu_si256(offsets.cast(), _mm256_cvtepi8_epi16(scales.offsets));
            }
            self.scale = scales.scale;
            self.offset_scale = scales.offset_scale;
        }
    }
}

/// # Safety
/// The CPU has `instructions`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tiles_of<W: WeightBlock>(
    instructions: Instructions,
    weights: &[u8],
    features: usize,
    tiles: &[WideTile<TILE_ROWS>],
    count: usize,
    out: &mut TiledProducts,
) {
    let row_bytes = weights.len() / features;
    let blocks = row_bytes / W::BYTES;
    assert!(
        weights.len() == features * blocks * W::BYTES && tiles.len() == count * blocks && count <= MOST_TILES
    );
    let mut all_sums = [[[_mm256_setzero_ps(); MOST_TILES]; TILE_FEATURES]; FEATURES / TILE_FEATURES];
    let mut spread = [Spread::ZERO; TILE_FEATURES];
    for (pair, sums) in all_sums[..features.div_ceil(TILE_FEATURES)].iter_mut().enumerate() {
        let first = pair * TILE_FEATURES;
        // A missing weight row repeats the last one.
        let starts =
            [first, (first + 1).min(features - 1)].map(|feature| weights[feature * row_bytes..].as_ptr());
        for block in 0..blocks {
            // SAFETY: each start is followed by `blocks` blocks, and `tiles` holds `count * blocks` (asserted); the
            // caller vouches for `instructions`.
            unsafe {
                for (spread, start) in spread.iter_mut().zip(starts) {
                    let weight = start.add(block * W::BYTES);
                    prefetch::far(weight.wrapping_add(FEATURES * row_bytes), W::BYTES);
                    spread.fill::<W>(weight);
                }
                let mut tile = 0;
                while tile < count {
                    // The compiler would keep the values in registers, of which there are too few, and shuffle them
                    // about; a broadcast from memory is free.
                    let spread = std::hint::black_box(&spread);
                    let at = tiles.as_ptr().add(tile * blocks + block);
                    let two = || [at, at.add(blocks)];
                    let is_last = count - tile == 1;
                    tile += match (instructions, is_last) {
                        (Instructions::AvxVnni, false) => {
                            tiles_vnni::wide_kernel::<W, 2>(spread, two(), tile, sums)
                        }
                        (Instructions::AvxVnni, true) => {
                            tiles_vnni::wide_kernel::<W, 1>(spread, [at], tile, sums)
                        }
                        (_, false) => tile_kernel::<W, 2>(spread, two(), tile, sums),
                        (_, true) => tile_kernel::<W, 1>(spread, [at], tile, sums),
                    };
                }
            }
        }
    }
    store(&all_sums, count, out);
}

/// Adds one block of two weight rows times `TILES` tiles to `sums[..][first..]`. Returns `TILES`.
///
/// # Safety
/// `tiles` point to tiles.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tile_kernel<W: WeightBlock, const TILES: usize>(
    weights: &[Spread; TILE_FEATURES],
    tiles: [*const WideTile<TILE_ROWS>; TILES],
    first: usize,
    sums: &mut TileSums,
) -> usize {
    // SAFETY: indices stay inside the arrays of `Spread` and `WideTile`.
    unsafe {
        let zero = _mm256_setzero_si256();
        let mut totals = [[zero; TILES]; TILE_FEATURES];
        // The bound is hidden: unrolled as a whole, the loop would spill every register.
        for part in 0..std::hint::black_box(64 / W::RUN) {
            let mut products = [[zero; TILES]; TILE_FEATURES];
            for step in 0..W::RUN {
                let group = part * W::RUN + step;
                let activations: [__m256i; TILES] = std::array::from_fn(|t| {
                    _mm256_load_si256((&raw const (*tiles[t]).values).cast::<__m256i>().add(group))
                });
                for f in 0..TILE_FEATURES {
                    let weight = _mm256_set1_epi32(*weights[f].values.get_unchecked(group));
                    for t in 0..TILES {
                        let product = _mm256_maddubs_epi16(weight, activations[t]);
                        products[f][t] = _mm256_add_epi16(products[f][t], product);
                    }
                }
            }
            for f in 0..TILE_FEATURES {
                let multiplier =
                    _mm256_set1_epi32(*weights[f].multipliers.get_unchecked(part * W::RUN / W::GROUPS));
                for t in 0..TILES {
                    let scaled = _mm256_madd_epi16(products[f][t], multiplier);
                    totals[f][t] = _mm256_add_epi32(totals[f][t], scaled);
                }
            }
        }
        add_block::<W, TILES>(weights, tiles, &totals, sums, first);
        TILES
    }
}

/// Scales the integer sums of one block, takes the weights' constant offsets into account, and adds both to
/// `sums[..][first..]`.
///
/// # Safety
/// `tiles` point to tiles.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn add_block<W: WeightBlock, const TILES: usize>(
    weights: &[Spread; TILE_FEATURES],
    tiles: [*const WideTile<TILE_ROWS>; TILES],
    totals: &[[__m256i; TILES]; TILE_FEATURES],
    sums: &mut TileSums,
    first: usize,
) {
    // SAFETY: indices stay inside the arrays of `Spread` and `WideTile`.
    unsafe {
        for t in 0..TILES {
            let (pairs, activation_sums): (usize, *const __m256i) = if W::GROUPS == 8 {
                (4, (&raw const (*tiles[t]).sums_of_32).cast())
            } else {
                (8, (&raw const (*tiles[t]).sums_of_16).cast())
            };
            let activation_scales = _mm256_load_ps((&raw const (*tiles[t]).scales).cast());
            for f in 0..TILE_FEATURES {
                let mut offset = _mm256_setzero_si256();
                for pair in 0..pairs {
                    let weight = _mm256_set1_epi32(*weights[f].offsets.get_unchecked(pair));
                    let sum = _mm256_load_si256(activation_sums.add(pair));
                    offset = _mm256_add_epi32(offset, _mm256_madd_epi16(weight, sum));
                }
                let scale = _mm256_mul_ps(_mm256_set1_ps(weights[f].scale), activation_scales);
                let offset_scale = _mm256_mul_ps(_mm256_set1_ps(weights[f].offset_scale), activation_scales);
                let cell = &mut sums[f][first + t];
                let sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(totals[f][t]), scale, *cell);
                *cell = _mm256_fnmadd_ps(_mm256_cvtepi32_ps(offset), offset_scale, sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlType, k_quants};

    use super::*;
    use crate::cpu::{
        activations::{Activations, WIDE, packed},
        tiles_avx512,
    };

    fn available() -> impl Iterator<Item = Instructions> {
        Instructions::ALL.into_iter().filter(|instructions| instructions.is_available())
    }

    fn noise(seed: &mut u64) -> f32 {
        *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (*seed >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    }

    fn as_bytes<T>(blocks: &[T]) -> &[u8] {
        // SAFETY: block types are plain old data.
        unsafe { std::slice::from_raw_parts(blocks.as_ptr().cast(), size_of_val(blocks)) }
    }

    /// Against the dequantized weights times the dequantized activations, in f64: only the sums may round. Both
    /// kernels must give the same bits.
    fn check<T: GgmlType>(dtype: GgmlDType, blocks: usize, features: usize, rows: usize) {
        let mut seed = (blocks * 100 + rows * 10 + features) as u64;
        let floats: Vec<f32> = (0..features * blocks * WIDE).map(|_| noise(&mut seed)).collect();
        let mut weights = vec![T::zeros(); features * blocks];
        T::from_float(&floats, &mut weights);
        let mut exact_weights = vec![0f32; floats.len()];
        T::to_float(&weights, &mut exact_weights);
        let activations: Vec<WideBlock> = (0..rows * blocks)
            .map(|_| WideBlock::quantize(&(0..WIDE).map(|_| noise(&mut seed) * 3.0).collect::<Vec<_>>()))
            .collect();
        let mut ours = vec![vec![0f32; rows]; features];
        for first in (0..rows).step_by(MOST_ROWS) {
            let count = MOST_ROWS.min(rows - first);
            let mut out = [[0.0; FEATURES]; MOST_ROWS];
            let part = &activations[first * blocks..(first + count) * blocks];
            let instructions = Instructions::Avx2;
            dot_rows(dtype, instructions, as_bytes(&weights), features, part, count, &mut out);
            for (feature, ours) in ours.iter_mut().enumerate() {
                (0..count).for_each(|row| ours[first + row] = out[row][feature]);
            }
        }
        for (feature, ours) in ours.iter().enumerate() {
            for (row, ours) in ours.iter().enumerate() {
                let mut exact = 0f64;
                for i in 0..blocks * WIDE {
                    let block = &activations[row * blocks + i / WIDE];
                    let weight = exact_weights[feature * blocks * WIDE + i];
                    exact += f64::from(weight) * f64::from(block.values[i % WIDE]) * f64::from(block.scale);
                }
                assert!(
                    (f64::from(*ours) - exact).abs() < 2e-4,
                    "{dtype:?} {blocks}x{features}x{rows} row {row}: {ours} not {exact}"
                );
            }
        }
        for instructions in available() {
            let tiled = tiled(dtype, instructions, as_bytes(&weights), features, &activations, rows);
            for first in 0..rows {
                let count = MOST_ROWS.min(rows - first);
                let mut out = [[0.0; FEATURES]; MOST_ROWS];
                let part = &activations[first * blocks..(first + count) * blocks];
                dot_rows(dtype, instructions, as_bytes(&weights), features, part, count, &mut out);
                for (feature, ours) in ours.iter().enumerate() {
                    let expected = ours[first].to_bits();
                    assert_eq!(tiled[first][feature].to_bits(), expected, "{dtype:?}, {instructions:?}");
                    for (row, expected) in ours[first..first + count].iter().enumerate() {
                        let value = out[row][feature];
                        assert_eq!(value.to_bits(), expected.to_bits(), "{dtype:?}, {instructions:?}");
                    }
                }
            }
        }
    }

    /// The products by the tile kernels.
    fn tiled(
        dtype: GgmlDType,
        instructions: Instructions,
        weights: &[u8],
        features: usize,
        activations: &[WideBlock],
        rows: usize,
    ) -> TiledProducts {
        let mut out = NO_PRODUCTS;
        if instructions == Instructions::Avx512Vnni {
            let tiles: Vec<WideTile<LONG_TILE_ROWS>> = packed(activations, rows);
            tiles_avx512::dot_wide(dtype, weights, features, &tiles, rows.div_ceil(LONG_TILE_ROWS), &mut out);
        } else {
            let tiles: Vec<WideTile<TILE_ROWS>> = packed(activations, rows);
            let count = rows.div_ceil(TILE_ROWS);
            dot_tiles(dtype, instructions, weights, features, &tiles, count, &mut out);
        }
        out
    }

    #[test]
    fn matches_dequantized_weights_over_awkward_shapes() {
        if !is_supported(GgmlDType::Q4K) {
            eprintln!("this CPU has no AVX2, so these kernels are not used on it");
            return;
        }
        for blocks in [1, 2, 3, 7] {
            for (features, rows) in [(1, 1), (8, 2), (3, 4), (5, 5), (8, 8), (2, 15), (7, 32)] {
                check::<k_quants::BlockQ4K>(GgmlDType::Q4K, blocks, features, rows);
                check::<k_quants::BlockQ5K>(GgmlDType::Q5K, blocks, features, rows);
                check::<k_quants::BlockQ6K>(GgmlDType::Q6K, blocks, features, rows);
            }
        }
    }

    /// Weights and activations of the largest magnitudes: sixteen bits must hold the sums inside the kernels.
    #[test]
    fn the_largest_values_do_not_overflow() {
        if !is_supported(GgmlDType::Q4K) {
            return;
        }
        for (dtype, bytes, largest) in
            [(GgmlDType::Q4K, 144, 15.0), (GgmlDType::Q5K, 176, 31.0), (GgmlDType::Q6K, 210, 31.0)]
        {
            let mut block = vec![0xffu8; bytes];
            let one = half::f16::ONE.to_bits().to_le_bytes();
            let multiplier = if dtype == GgmlDType::Q6K {
                block[208..210].copy_from_slice(&one);
                block[192..208].fill(127);
                127.0
            } else {
                block[..2].copy_from_slice(&one);
                block[2..4].copy_from_slice(&[0, 0]);
                63.0
            };
            let activation = WideBlock::quantize(&[127.0; WIDE]);
            let exact = multiplier * largest * 127.0 * WIDE as f32;
            for instructions in available() {
                let mut out = [[0.0; FEATURES]; MOST_ROWS];
                dot_rows(dtype, instructions, &block, 1, &[activation], 1, &mut out);
                let tiled = tiled(dtype, instructions, &block, 1, &[activation; TILE_ROWS], TILE_ROWS);
                for value in [out[0][0], tiled[0][0], tiled[TILE_ROWS - 1][0]] {
                    assert!((value / exact - 1.0).abs() < 1e-6, "{dtype:?}: {value} not {exact}");
                }
            }
        }
    }
}
