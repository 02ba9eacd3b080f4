//! The tile kernels of `k_quants` and `q8_0` for CPUs with AVX-VNNI: one instruction multiplies and adds.
//!
//! The sums are the same exact integers as without it and blocks are added with the same roundings, so results have the
//! same bits.

#![allow(clippy::needless_range_loop, reason = "kernels walk several arrays of registers by one index")]

use std::arch::x86_64::*;

use super::{
    activations::{NarrowTile, TILE_ROWS, WideTile},
    k_quants::{self, TILE_FEATURES},
    q8_0,
    unpack::WeightBlock,
};

/// # Safety
/// `tiles` point to tiles.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
pub unsafe fn wide_kernel<W: WeightBlock, const TILES: usize>(
    weights: &[k_quants::Spread; TILE_FEATURES],
    tiles: [*const WideTile<TILE_ROWS>; TILES],
    first: usize,
    sums: &mut k_quants::TileSums,
) -> usize {
    // SAFETY: indices stay inside the arrays of `Spread` and `WideTile`.
    unsafe {
        let zero = _mm256_setzero_si256();
        let mut totals = [[zero; TILES]; TILE_FEATURES];
        // The bound is hidden: unrolled as a whole, the loop would spill every register.
        for part in 0..std::hint::black_box(64 / W::GROUPS) {
            let mut products = [[zero; TILES]; TILE_FEATURES];
            for step in 0..W::GROUPS {
                let group = part * W::GROUPS + step;
                for t in 0..TILES {
                    let values = (&raw const (*tiles[t]).values).cast::<__m256i>();
                    let activations = _mm256_load_si256(values.add(group));
                    for f in 0..TILE_FEATURES {
                        let weight = _mm256_set1_epi32(*weights[f].values.get_unchecked(group));
                        products[f][t] = _mm256_dpbusd_avx_epi32(products[f][t], weight, activations);
                    }
                }
            }
            for f in 0..TILE_FEATURES {
                // It stands there twice.
                let multiplier = *weights[f].multipliers.get_unchecked(part) as i16;
                let multiplier = _mm256_set1_epi32(i32::from(multiplier));
                for t in 0..TILES {
                    let scaled = _mm256_mullo_epi32(products[f][t], multiplier);
                    totals[f][t] = _mm256_add_epi32(totals[f][t], scaled);
                }
            }
        }
        k_quants::add_block::<W, TILES>(weights, tiles, &totals, sums, first);
        TILES
    }
}

/// # Safety
/// `tiles` point to tiles.
#[target_feature(enable = "avx2,fma,f16c,avxvnni")]
pub unsafe fn narrow_kernel<const TILES: usize>(
    weights: &[q8_0::Spread; TILE_FEATURES],
    tiles: [*const NarrowTile; TILES],
    first: usize,
    sums: &mut k_quants::TileSums,
) -> usize {
    // SAFETY: indices stay inside the arrays of `Spread` and `NarrowTile`.
    unsafe {
        let mut totals = [[_mm256_setzero_si256(); TILES]; TILE_FEATURES];
        for pair in 0..std::hint::black_box(weights[0].values.len()) {
            for t in 0..TILES {
                let values = (&raw const (*tiles[t]).values).cast::<__m256i>();
                let activations = _mm256_load_si256(values.add(pair));
                for f in 0..TILE_FEATURES {
                    let weight = _mm256_set1_epi32(*weights[f].values.get_unchecked(pair));
                    totals[f][t] = _mm256_dpwssd_avx_epi32(totals[f][t], weight, activations);
                }
            }
        }
        q8_0::add_block::<TILES>(weights, tiles, &totals, sums, first);
        TILES
    }
}
