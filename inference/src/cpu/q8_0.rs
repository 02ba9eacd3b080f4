//! Dot products of Q8_0 weights with 8-bit activations for CPUs with AVX2: the same two kernels as in `k_quants`, with
//! the same promise of equal bits, over blocks of 32.

#![allow(clippy::needless_range_loop, reason = "kernels walk several arrays of registers by one index")]

use std::arch::x86_64::*;

use candle_core::quantized::GgmlDType;

use super::{
    activations::{NARROW, NarrowBlock, NarrowTile},
    instructions::Instructions,
    k_quants::{
        FEATURES, MOST_ROWS, MOST_TILES, TILE_FEATURES, TileSums, TiledProducts, row_starts, store, sum_each,
    },
    prefetch, rows_avx512, tiles_vnni,
    unpack::half_at,
};

/// A half-precision scale, then 32 signed bytes.
pub(super) const BYTES: usize = 2 + NARROW;

/// Whether these kernels handle this type on this CPU.
pub fn is_supported(dtype: GgmlDType) -> bool {
    dtype == GgmlDType::Q8_0 && super::ops::has_avx2()
}

/// As [`super::k_quants::dot_rows`].
pub fn dot_rows(
    instructions: Instructions,
    weights: &[u8],
    features: usize,
    activations: &[NarrowBlock],
    rows: usize,
    out: &mut [[f32; FEATURES]; MOST_ROWS],
) {
    assert!(is_supported(GgmlDType::Q8_0) && (1..=FEATURES).contains(&features));
    assert!(instructions.is_available());
    let row_bytes = weights.len() / features;
    let blocks = row_bytes / BYTES;
    assert!(weights.len() == features * blocks * BYTES && activations.len() == rows * blocks);
    let starts = row_starts(weights, features);
    macro_rules! run {
        ($rows:expr) => {
            // SAFETY: the CPU has the instructions (asserted); each start is followed by `blocks` blocks, and `activations`
            // holds `rows * blocks` (asserted).
            unsafe {
                match instructions {
                    Instructions::Avx512Vnni => {
                        rows_avx512::narrow_kernel::<{ $rows }>(&starts, activations, blocks, out)
                    }
                    _ => rows_kernel::<{ $rows }>(&starts, activations, blocks, out),
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

/// The scales of eight blocks.
///
/// # Safety
/// Each points to a block.
#[inline]
#[target_feature(enable = "avx2,f16c")]
pub(super) unsafe fn scales(blocks: &[*const u8; FEATURES]) -> __m256 {
    // SAFETY: as the function's contract.
    let half = |feature: usize| unsafe { blocks[feature].cast::<i16>().read_unaligned() };
    _mm256_cvtph_ps(_mm_set_epi16(half(7), half(6), half(5), half(4), half(3), half(2), half(1), half(0)))
}

/// # Safety
/// Each of `weights` points to `blocks` blocks; `activations` holds `ROWS * blocks` blocks.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn rows_kernel<const ROWS: usize>(
    weights: &[*const u8; FEATURES],
    activations: &[NarrowBlock],
    blocks: usize,
    out: &mut [[f32; FEATURES]; MOST_ROWS],
) {
    // SAFETY: as the function's contract.
    unsafe {
        let ones = _mm256_set1_epi16(1);
        let mut sums = [_mm256_setzero_ps(); ROWS];
        for block in 0..blocks {
            let mut totals = [[_mm256_setzero_si256(); FEATURES]; ROWS];
            for feature in 0..FEATURES {
                let weight = weights[feature].add(block * BYTES);
                prefetch::far(weight.wrapping_add(FEATURES * blocks * BYTES), BYTES);
                let values = _mm256_loadu_si256(weight.add(2).cast());
                let magnitudes = _mm256_sign_epi8(values, values);
                for row in 0..ROWS {
                    let activation = activations.get_unchecked(row * blocks + block);
                    let signed =
                        _mm256_sign_epi8(_mm256_load_si256(activation.values.as_ptr().cast()), values);
                    // At most 128 * 127 * 2, which fits 16 bits.
                    let products = _mm256_maddubs_epi16(magnitudes, signed);
                    totals[row][feature] = _mm256_madd_epi16(products, ones);
                }
            }
            let scales = scales(&weights.map(|weight| weight.add(block * BYTES)));
            for row in 0..ROWS {
                let scale = _mm256_set1_ps(activations.get_unchecked(row * blocks + block).scale);
                let total = _mm256_cvtepi32_ps(sum_each(&totals[row]));
                sums[row] = _mm256_fmadd_ps(total, _mm256_mul_ps(scales, scale), sums[row]);
            }
        }
        for (sum, out) in sums.iter().zip(out) {
            _mm256_storeu_ps(out.as_mut_ptr(), *sum);
        }
    }
}

/// As [`super::k_quants::dot_tiles`].
pub fn dot_tiles(
    instructions: Instructions,
    weights: &[u8],
    features: usize,
    tiles: &[NarrowTile],
    count: usize,
    out: &mut TiledProducts,
) {
    assert!(is_supported(GgmlDType::Q8_0) && (1..=FEATURES).contains(&features));
    assert!(count <= MOST_TILES && instructions.is_available());
    let blocks = weights.len() / features / BYTES;
    assert!(weights.len() == features * blocks * BYTES && tiles.len() == count * blocks);
    // SAFETY: the CPU has AVX2, FMA and F16C (`is_supported`) and `instructions`; lengths are asserted above.
    unsafe { tiles_of(instructions, weights, features, tiles, count, blocks, out) }
}

/// Weights as pairs of 16-bit integers, each pair to be sent to all lanes.
#[repr(C, align(32))]
pub(super) struct Spread {
    pub values: [i32; NARROW / 2],
    pub scale: f32,
}

/// # Safety
/// `weights` holds `features * blocks` blocks, `tiles` `count * blocks`; the CPU has `instructions`.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn tiles_of(
    instructions: Instructions,
    weights: &[u8],
    features: usize,
    tiles: &[NarrowTile],
    count: usize,
    blocks: usize,
    out: &mut TiledProducts,
) {
    let mut all_sums = [[[_mm256_setzero_ps(); MOST_TILES]; TILE_FEATURES]; FEATURES / TILE_FEATURES];
    let mut spread = [const { Spread { values: [0; NARROW / 2], scale: 0.0 } }; TILE_FEATURES];
    for (pair, sums) in all_sums[..features.div_ceil(TILE_FEATURES)].iter_mut().enumerate() {
        let first = pair * TILE_FEATURES;
        // A missing weight row repeats the last one.
        let starts = [first, (first + 1).min(features - 1)]
            .map(|feature| weights[feature * blocks * BYTES..].as_ptr());
        for block in 0..blocks {
            // SAFETY: as the function's contract.
            unsafe {
                for (spread, start) in spread.iter_mut().zip(starts) {
                    let weight = start.add(block * BYTES);
                    prefetch::far(weight.wrapping_add(FEATURES * blocks * BYTES), BYTES);
                    spread.scale = half_at(weight);
                    let to = spread.values.as_mut_ptr().cast::<__m256i>();
                    for half in 0..2 {
                        let bytes = _mm_loadu_si128(weight.add(2 + 16 * half).cast());
                        _mm256_store_si256(to.add(half), _mm256_cvtepi8_epi16(bytes));
                    }
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
                            tiles_vnni::narrow_kernel::<2>(spread, two(), tile, sums)
                        }
                        (Instructions::AvxVnni, true) => {
                            tiles_vnni::narrow_kernel::<1>(spread, [at], tile, sums)
                        }
                        (_, false) => tile_kernel::<2>(spread, two(), tile, sums),
                        (_, true) => tile_kernel::<1>(spread, [at], tile, sums),
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
unsafe fn tile_kernel<const TILES: usize>(
    weights: &[Spread; TILE_FEATURES],
    tiles: [*const NarrowTile; TILES],
    first: usize,
    sums: &mut TileSums,
) -> usize {
    // SAFETY: indices stay inside the arrays of `Spread` and `NarrowTile`.
    unsafe {
        let mut totals = [[_mm256_setzero_si256(); TILES]; TILE_FEATURES];
        // The bound is hidden: unrolled as a whole, the loop would spill every register.
        for pair in 0..std::hint::black_box(NARROW / 2) {
            let activations: [__m256i; TILES] = std::array::from_fn(|t| {
                _mm256_load_si256((&raw const (*tiles[t]).values).cast::<__m256i>().add(pair))
            });
            for f in 0..TILE_FEATURES {
                let weight = _mm256_set1_epi32(*weights[f].values.get_unchecked(pair));
                for t in 0..TILES {
                    totals[f][t] = _mm256_add_epi32(totals[f][t], _mm256_madd_epi16(weight, activations[t]));
                }
            }
        }
        add_block::<TILES>(weights, tiles, &totals, sums, first);
        TILES
    }
}

/// Scales the integer sums of one block and adds them to `sums[..][first..]`.
///
/// # Safety
/// `tiles` point to tiles.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn add_block<const TILES: usize>(
    weights: &[Spread; TILE_FEATURES],
    tiles: [*const NarrowTile; TILES],
    totals: &[[__m256i; TILES]; TILE_FEATURES],
    sums: &mut TileSums,
    first: usize,
) {
    // SAFETY: as the function's contract.
    unsafe {
        for t in 0..TILES {
            let activation_scales = _mm256_load_ps((&raw const (*tiles[t]).scales).cast());
            for f in 0..TILE_FEATURES {
                let scale = _mm256_mul_ps(_mm256_set1_ps(weights[f].scale), activation_scales);
                let cell = &mut sums[f][first + t];
                *cell = _mm256_fmadd_ps(_mm256_cvtepi32_ps(totals[f][t]), scale, *cell);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlType, k_quants::BlockQ8_0};

    use super::*;
    use crate::cpu::{
        activations::{Activations, ByteTile, LONG_TILE_ROWS, TILE_ROWS, packed},
        k_quants::NO_PRODUCTS,
        tiles_avx512,
    };

    /// Against the dequantized weights times the dequantized activations, in f64; both kernels must give the same bits.
    fn check(blocks: usize, features: usize, rows: usize) {
        let mut seed = (blocks * 100 + rows * 10 + features) as u64;
        let mut noise = || {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (seed >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let floats: Vec<f32> = (0..features * blocks * NARROW).map(|_| noise()).collect();
        let mut weights = vec![BlockQ8_0::zeros(); features * blocks];
        BlockQ8_0::from_float(&floats, &mut weights);
        let mut exact_weights = vec![0f32; floats.len()];
        BlockQ8_0::to_float(&weights, &mut exact_weights);
        let activations: Vec<NarrowBlock> = (0..rows * blocks)
            .map(|_| NarrowBlock::quantize(&(0..NARROW).map(|_| noise()).collect::<Vec<_>>()))
            .collect();
        // SAFETY: block types are plain old data.
        let bytes =
            unsafe { std::slice::from_raw_parts(weights.as_ptr().cast::<u8>(), size_of_val(&weights[..])) };
        let rows_of = |instructions, bytes: &[u8], features, first: usize, count: usize| {
            let mut out = [[0.0; FEATURES]; MOST_ROWS];
            let part = &activations[first * blocks..(first + count) * blocks];
            dot_rows(instructions, bytes, features, part, count, &mut out);
            out
        };
        let weight_row = |feature: usize| &bytes[feature * blocks * BYTES..(feature + 1) * blocks * BYTES];
        let mut ours = vec![vec![0f32; rows]; features];
        for (feature, ours) in ours.iter_mut().enumerate() {
            for (row, ours) in ours.iter_mut().enumerate() {
                let mut exact = 0f64;
                for i in 0..blocks * NARROW {
                    let block = &activations[row * blocks + i / NARROW];
                    let weight = exact_weights[feature * blocks * NARROW + i];
                    exact += f64::from(weight) * f64::from(block.values[i % NARROW]) * f64::from(block.scale);
                }
                *ours = rows_of(Instructions::Avx2, weight_row(feature), 1, row, 1)[0][0];
                assert!((f64::from(*ours) - exact).abs() < 1e-4, "row {row}: {ours} not {exact}");
            }
        }
        for instructions in Instructions::ALL.into_iter().filter(|one| one.is_available()) {
            let mut tiled = NO_PRODUCTS;
            if instructions == Instructions::Avx512Vnni {
                let tiles: Vec<ByteTile> = packed(&activations, rows);
                tiles_avx512::dot_narrow(bytes, features, &tiles, rows.div_ceil(LONG_TILE_ROWS), &mut tiled);
            } else {
                let tiles: Vec<NarrowTile> = packed(&activations, rows);
                dot_tiles(instructions, bytes, features, &tiles, rows.div_ceil(TILE_ROWS), &mut tiled);
            }
            for first in 0..rows {
                let count = MOST_ROWS.min(rows - first);
                let out = rows_of(instructions, bytes, features, first, count);
                for (feature, ours) in ours.iter().enumerate() {
                    let expected = ours[first].to_bits();
                    assert_eq!(tiled[first][feature].to_bits(), expected, "{instructions:?}");
                    for row in 0..count {
                        let expected = ours[first + row].to_bits();
                        assert_eq!(out[row][feature].to_bits(), expected, "{instructions:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn matches_dequantized_weights_over_awkward_shapes() {
        if !is_supported(GgmlDType::Q8_0) {
            eprintln!("this CPU has no AVX2, so these kernels are not used on it");
            return;
        }
        for (blocks, features, rows) in [(1, 1, 1), (2, 8, 3), (3, 7, 4), (11, 2, 9), (5, 3, 17), (1, 8, 32)]
        {
            check(blocks, features, rows);
        }
    }
}
