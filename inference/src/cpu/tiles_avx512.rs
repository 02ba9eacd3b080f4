//! The kernels for more than four rows (prompts, batches, drafts) for CPUs with AVX-512 VNNI: tiles of sixteen rows, and
//! eight weight rows unpacked at a time, so that a tile's part is read once for all of them.
//!
//! Q8_0 is multiplied in bytes here. The instruction wants one side without a sign: 128 is added to each weight, and a row's
//! sum starts with what that adds, negated. A block's sum is the same exact integer as in `k_quants` and `q8_0`, and blocks
//! are added with the same roundings: results have the same bits.

#![allow(clippy::needless_range_loop, reason = "kernels walk several arrays of registers by one index")]

use std::{arch::x86_64::*, mem::MaybeUninit};

use candle_core::quantized::GgmlDType;

use super::{
    activations::{ByteTile, LONG_TILE_ROWS, NARROW, TILE_ROWS, WideTile},
    instructions::Instructions,
    k_quants::{self, FEATURES, MOST_TILES, TiledProducts, row_starts},
    prefetch, q8_0,
    unpack::{Q4K, Q5K, Q6K, half_at},
    unpack_avx512::PairedBlock,
};

type Tile = WideTile<LONG_TILE_ROWS>;
/// Each lane a row of activations, of `M` tiles.
type Sums<const M: usize> = [[__m512; M]; FEATURES];

/// `out[t * 16 + r][f] = weights[f] . row r of tiles[t]`, as [`k_quants::dot_tiles`]. Requires
/// [`Instructions::Avx512Vnni`].
pub fn dot_wide(
    dtype: GgmlDType,
    weights: &[u8],
    features: usize,
    tiles: &[Tile],
    count: usize,
    out: &mut TiledProducts,
) {
    assert!(k_quants::is_supported(dtype) && (1..=FEATURES).contains(&features));
    assert!(Instructions::Avx512Vnni.is_available());
    // SAFETY: the CPU has these instructions.
    unsafe {
        match (dtype, count) {
            (GgmlDType::Q4K, 1) => wide_of::<Q4K, 1>(weights, features, tiles, count, out),
            (GgmlDType::Q4K, _) => wide_of::<Q4K, MOST_TILES>(weights, features, tiles, count, out),
            (GgmlDType::Q5K, 1) => wide_of::<Q5K, 1>(weights, features, tiles, count, out),
            (GgmlDType::Q5K, _) => wide_of::<Q5K, MOST_TILES>(weights, features, tiles, count, out),
            (_, 1) => wide_of::<Q6K, 1>(weights, features, tiles, count, out),
            _ => wide_of::<Q6K, MOST_TILES>(weights, features, tiles, count, out),
        }
    }
}

/// As [`dot_wide`], for Q8_0.
pub fn dot_narrow(
    weights: &[u8],
    features: usize,
    tiles: &[ByteTile],
    count: usize,
    out: &mut TiledProducts,
) {
    assert!((1..=FEATURES).contains(&features) && Instructions::Avx512Vnni.is_available());
    // SAFETY: the CPU has these instructions.
    unsafe {
        match count {
            1 => narrow_of::<1>(weights, features, tiles, count, out),
            _ => narrow_of::<MOST_TILES>(weights, features, tiles, count, out),
        }
    }
}

/// For up to `M` tiles.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn wide_of<W: PairedBlock, const M: usize>(
    weights: &[u8],
    features: usize,
    tiles: &[Tile],
    count: usize,
    out: &mut TiledProducts,
) {
    let row_bytes = weights.len() / features;
    let blocks = row_bytes / W::BYTES;
    assert!(weights.len() == features * blocks * W::BYTES && tiles.len() == count * blocks && count <= M);
    let mut sums: Sums<M> = [[_mm512_setzero_ps(); M]; FEATURES];
    let mut spread = MaybeUninit::<Spread>::uninit();
    let starts = row_starts(weights, features);
    for block in 0..blocks {
        // SAFETY: each weight row has `blocks` blocks, and `tiles` holds `count * blocks` (asserted).
        unsafe {
            let at = starts.map(|start| start.add(block * W::BYTES));
            let next = starts[0].wrapping_add(FEATURES * (row_bytes + block * W::BYTES));
            prefetch::near(next, FEATURES * W::BYTES);
            fill::<W>(spread.as_mut_ptr(), &at);
            // As in `k_quants`: a broadcast from memory is free.
            let spread = std::hint::black_box(spread.assume_init_ref());
            let mut tile = 0;
            while tile < count {
                let at = tiles.as_ptr().add(tile * blocks + block);
                if count - tile == 1 {
                    wide_kernel::<W, FEATURES, 1, M>(spread, [at], 0, tile, &mut sums);
                    tile += 1;
                } else {
                    for first in [0, PAIRS] {
                        wide_kernel::<W, PAIRS, 2, M>(spread, [at, at.add(blocks)], first, tile, &mut sums);
                    }
                    tile += 2;
                }
            }
        }
    }
    store(&sums, count, out);
}

/// Weight row `p` is unpacked together with row `p + PAIRS`.
const PAIRS: usize = FEATURES / 2;

/// One block of eight weight rows, laid out so that any four values, and any factor, can be sent to all lanes.
#[repr(C, align(64))]
struct Spread {
    pairs: [Pair; PAIRS],
    scales: [f32; FEATURES],
    offset_scales: [f32; FEATURES],
}

#[repr(C, align(64))]
struct Pair {
    /// `[32 values][row of the pair][four values]`
    values: [[[i32; 8]; 2]; 8],
    /// `[row of the pair][group]`
    multipliers: [[i32; 16]; 2],
    /// [`PairedBlock::words`]: `[row of the pair][two words]`
    words: [[i32; 8]; 2],
}

/// # Safety
/// `spread` may be written, all `blocks` point to blocks of `W`.
#[inline]
#[target_feature(enable = "avx2,f16c,avx512f,avx512bw")]
unsafe fn fill<W: PairedBlock>(spread: *mut Spread, blocks: &[*const u8; FEATURES]) {
    // SAFETY: as the function's contract; the arrays have room for what is stored.
    unsafe {
        for two in [0, 2] {
            let [a, b] = [two, two + 1].map(|pair| [blocks[pair], blocks[pair + PAIRS]]);
            for (pair, words) in (two..).zip(W::words([a, b])) {
                let to = &raw mut (*spread).pairs[pair];
                let values = (&raw mut (*to).values).cast::<__m512i>();
                for (j, part) in W::pair_values(blocks[pair], blocks[pair + PAIRS]).into_iter().enumerate() {
                    _mm512_store_si512(values.add(j), part);
                }
                let multipliers = (&raw mut (*to).multipliers).cast::<__m512i>();
                let (lower, upper) = (_mm512_castsi512_si256(words), _mm512_extracti64x4_epi64::<1>(words));
                _mm512_store_si512(multipliers, _mm512_cvtepi16_epi32(lower));
                _mm512_store_si512(multipliers.add(1), _mm512_cvtepi16_epi32(upper));
                _mm512_store_si512((&raw mut (*to).words).cast(), words);
            }
        }
        let [scales, offset_scales] = W::float_scales(blocks);
        _mm256_store_ps((&raw mut (*spread).scales).cast(), scales);
        _mm256_store_ps((&raw mut (*spread).offset_scales).cast(), offset_scales);
    }
}

/// Adds one block of `F` weight rows from `feature` on, times `T` tiles, to `sums[feature..][first..]`.
///
/// # Safety
/// `tiles` point to tiles.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn wide_kernel<W: PairedBlock, const F: usize, const T: usize, const M: usize>(
    weights: &Spread,
    tiles: [*const Tile; T],
    feature: usize,
    first: usize,
    sums: &mut Sums<M>,
) {
    // SAFETY: indices stay inside the arrays of `Spread` and `WideTile`; `feature + F` is at most FEATURES.
    unsafe {
        let pair = |f: usize| weights.pairs.get_unchecked((feature + f) % PAIRS);
        let half = |f: usize| (feature + f) / PAIRS;
        let zero = _mm512_setzero_si512();
        let mut totals = [[zero; T]; F];
        // The bound is hidden: unrolled as a whole, the loop would spill every register.
        for part in 0..std::hint::black_box(64 / W::GROUPS) {
            let mut products = [[zero; T]; F];
            for step in 0..W::GROUPS {
                let group = part * W::GROUPS + step;
                let activations: [__m512i; T] = std::array::from_fn(|t| {
                    _mm512_load_si512((&raw const (*tiles[t]).values).cast::<__m512i>().add(group))
                });
                for f in 0..F {
                    let values = pair(f).values.as_ptr().cast::<i32>();
                    let weight = *values.add(group / 8 * 16 + half(f) * 8 + group % 8);
                    let weight = _mm512_set1_epi32(weight);
                    for t in 0..T {
                        products[f][t] = _mm512_dpbusd_epi32(products[f][t], weight, activations[t]);
                    }
                }
            }
            for f in 0..F {
                let multipliers = pair(f).multipliers.as_ptr().cast::<i32>();
                let multiplier = _mm512_set1_epi32(*multipliers.add(half(f) * 16 + part));
                for t in 0..T {
                    let scaled = _mm512_mullo_epi32(products[f][t], multiplier);
                    totals[f][t] = _mm512_add_epi32(totals[f][t], scaled);
                }
            }
        }
        for t in 0..T {
            // Where offsets are not the multipliers, they come after them.
            let (words, activation_sums): (_, *const __m512i) = if W::GROUPS == 8 {
                (4..8, (&raw const (*tiles[t]).sums_of_32).cast())
            } else {
                (0..8, (&raw const (*tiles[t]).sums_of_16).cast())
            };
            let activation_scales = _mm512_load_ps((&raw const (*tiles[t]).scales).cast());
            for f in 0..F {
                let mut offset = zero;
                for (index, word) in words.clone().enumerate() {
                    let weight = *pair(f).words.as_ptr().cast::<i32>().add(half(f) * 8 + word);
                    let weight = _mm512_set1_epi32(weight);
                    let sum = _mm512_load_si512(activation_sums.add(index));
                    offset = _mm512_dpwssd_epi32(offset, sum, weight);
                }
                let scale = *weights.scales.get_unchecked(feature + f);
                let scale = _mm512_mul_ps(_mm512_set1_ps(scale), activation_scales);
                let offset_scale = *weights.offset_scales.get_unchecked(feature + f);
                let offset_scale = _mm512_mul_ps(_mm512_set1_ps(offset_scale), activation_scales);
                let cell = &mut sums.get_unchecked_mut(feature + f)[first + t];
                let sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(totals[f][t]), scale, *cell);
                *cell = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(offset), offset_scale, sum);
            }
        }
    }
}

/// Weights plus 128, four together.
#[repr(C, align(64))]
struct Bytes {
    values: [i32; NARROW / 4],
    scale: f32,
}

/// For up to `M` tiles.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
fn narrow_of<const M: usize>(
    weights: &[u8],
    features: usize,
    tiles: &[ByteTile],
    count: usize,
    out: &mut TiledProducts,
) {
    let row_bytes = weights.len() / features;
    let blocks = row_bytes / q8_0::BYTES;
    assert!(weights.len() == features * blocks * q8_0::BYTES && tiles.len() == count * blocks && count <= M);
    let mut sums: Sums<M> = [[_mm512_setzero_ps(); M]; FEATURES];
    // Those of missing weight rows stay zero.
    let mut spread = [const { Bytes { values: [0; NARROW / 4], scale: 0.0 } }; FEATURES];
    for block in 0..blocks {
        // SAFETY: each weight row has `blocks` blocks, and `tiles` holds `count * blocks` (asserted).
        unsafe {
            let next = weights.as_ptr().wrapping_add(FEATURES * (row_bytes + block * q8_0::BYTES));
            prefetch::near(next, FEATURES * q8_0::BYTES);
            for (feature, spread) in spread[..features].iter_mut().enumerate() {
                let weight = weights.as_ptr().add(feature * row_bytes + block * q8_0::BYTES);
                spread.scale = half_at(weight);
                let values = _mm256_loadu_si256(weight.add(2).cast());
                let values = _mm256_xor_si256(values, _mm256_set1_epi8(-128));
                _mm256_store_si256(spread.values.as_mut_ptr().cast(), values);
            }
            let spread = std::hint::black_box(&spread);
            let mut tile = 0;
            while tile < count {
                let at = tiles.as_ptr().add(tile * blocks + block);
                tile += match count - tile {
                    1 => narrow_kernel::<1, M>(spread, [at], tile, &mut sums),
                    _ => narrow_kernel::<2, M>(spread, [at, at.add(blocks)], tile, &mut sums),
                };
            }
        }
    }
    store(&sums, count, out);
}

/// Adds one block of all weight rows times `T` tiles to `sums[..][first..]`. Returns `T`.
///
/// # Safety
/// `tiles` point to tiles.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
unsafe fn narrow_kernel<const T: usize, const M: usize>(
    weights: &[Bytes; FEATURES],
    tiles: [*const ByteTile; T],
    first: usize,
    sums: &mut Sums<M>,
) -> usize {
    // SAFETY: indices stay inside the arrays of `Bytes` and `ByteTile`.
    unsafe {
        let mut totals = [[_mm512_setzero_si512(); T]; FEATURES];
        for t in 0..T {
            let excess = _mm512_load_si512((&raw const (*tiles[t]).excess).cast());
            (0..FEATURES).for_each(|f| totals[f][t] = excess);
        }
        for group in 0..NARROW / 4 {
            let activations: [__m512i; T] = std::array::from_fn(|t| {
                _mm512_load_si512((&raw const (*tiles[t]).values).cast::<__m512i>().add(group))
            });
            for f in 0..FEATURES {
                let weight = _mm512_set1_epi32(*weights[f].values.get_unchecked(group));
                for t in 0..T {
                    totals[f][t] = _mm512_dpbusd_epi32(totals[f][t], weight, activations[t]);
                }
            }
        }
        for t in 0..T {
            let activation_scales = _mm512_load_ps((&raw const (*tiles[t]).scales).cast());
            for f in 0..FEATURES {
                let scale = _mm512_mul_ps(_mm512_set1_ps(weights[f].scale), activation_scales);
                let cell = &mut sums[f][first + t];
                *cell = _mm512_fmadd_ps(_mm512_cvtepi32_ps(totals[f][t]), scale, *cell);
            }
        }
        T
    }
}

/// Stores the sums of the first `count` tiles.
#[inline]
#[target_feature(enable = "avx2,avx512f")]
fn store<const M: usize>(sums: &Sums<M>, count: usize, out: &mut TiledProducts) {
    let (rows, _) = out.as_chunks_mut::<TILE_ROWS>();
    for tile in 0..count {
        for half in 0..2 {
            let eight = std::array::from_fn(|feature| {
                let sum = _mm512_castps_pd(sums[feature][tile]);
                _mm256_castpd_ps(match half {
                    0 => _mm512_castpd512_pd256(sum),
                    _ => _mm512_extractf64x4_pd::<1>(sum),
                })
            });
            k_quants::transpose(eight, &mut rows[2 * tile + half]);
        }
    }
}
