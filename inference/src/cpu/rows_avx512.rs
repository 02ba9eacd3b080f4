//! The kernels for up to four rows (decoding) for CPUs with AVX-512 VNNI: twice the values in a register, a multiplication
//! and its additions in one instruction, and no unpacking of each weight row alone.
//!
//! A register holds 32 values of two weight rows. Sums of four products fit 16 bits; those of two registers are packed
//! into one, and a second instruction multiplies them with their groups' multipliers and adds. A block's sum is the same
//! exact integer as in `k_quants` and `q8_0`, and blocks are added with the same roundings: results have the same bits.

#![allow(clippy::needless_range_loop, reason = "kernels walk several arrays of registers by one index")]

use std::arch::x86_64::*;

use super::{
    activations::{NarrowBlock, WideBlock},
    k_quants::{FEATURES, MOST_ROWS},
    prefetch, q8_0,
    unpack_avx512::PairedBlock,
};

/// How far ahead of what is multiplied weights are asked for. Rows are read in pairs, one pair after the other, so this is a
/// distance in one stream, which memory serves best; reading eight rows side by side costs a sixth of the speed where
/// memory is the limit.
const AHEAD: usize = 8 << 10;

/// # Safety
/// Each of `weights` points to `blocks` blocks of `W`; `activations` holds `ROWS * blocks` blocks.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn wide_kernel<W: PairedBlock, const ROWS: usize>(
    weights: &[*const u8; FEATURES],
    activations: &[WideBlock],
    blocks: usize,
    out: &mut [[f32; FEATURES]; MOST_ROWS],
) {
    // SAFETY: as the function's contract; orders are 64 bytes each.
    unsafe {
        let orders = W::ORDERS.each_ref().map(|order| _mm512_loadu_si512(order.as_ptr().cast()));
        for (pair, rows) in weights.as_chunks::<2>().0.iter().enumerate() {
            let at = |block: usize| rows.map(|row| row.add(block * W::BYTES));
            // The sums of the pair's rows in lanes 0 and 2.
            let mut sums = [_mm_setzero_ps(); ROWS];
            for two in (0..blocks).step_by(2) {
                let ahead = rows[0].wrapping_add(2 * two * W::BYTES + AHEAD);
                prefetch::near(ahead, 4 * W::BYTES);
                let words = W::words([at(two), at((two + 1).min(blocks - 1))]);
                for (block, words) in (two..blocks).zip(words) {
                    let [first, second] = at(block);
                    let values = W::pair_values(first, second);
                    let multipliers = orders.map(|order| _mm512_permutexvar_epi16(order, words));
                    let scales = W::pair_scales(first, second);
                    for row in 0..ROWS {
                        let activation = activations.get_unchecked(row * blocks + block);
                        let part = activation.values.as_ptr().cast::<__m256i>();
                        let mut total = _mm512_setzero_si512();
                        for j in 0..4 {
                            // At most 63 * 127 * 4, which fits 16 bits.
                            let four = [2 * j, 2 * j + 1].map(|i| {
                                let activations = _mm512_broadcast_i64x4(_mm256_load_si256(part.add(i)));
                                _mm512_dpbusd_epi32(_mm512_setzero_si512(), values[i], activations)
                            });
                            let packed = _mm512_packs_epi32(four[0], four[1]);
                            total = _mm512_dpwssd_epi32(total, packed, multipliers[j]);
                        }
                        let offset = _mm512_madd_epi16(words, offset_sums::<W>(activation));
                        let both = _mm_cvtepi32_ps(sum_both(total, offset));
                        let scales = _mm_mul_ps(scales, _mm_set1_ps(activation.scale));
                        let sum = _mm_fmadd_ps(both, scales, sums[row]);
                        sums[row] = _mm_fnmadd_ps(_mm_movehdup_ps(both), _mm_movehdup_ps(scales), sum);
                    }
                }
            }
            for (sum, out) in sums.iter().zip(&mut *out) {
                out[2 * pair] = _mm_cvtss_f32(*sum);
                out[2 * pair + 1] = _mm_cvtss_f32(_mm_movehl_ps(*sum, *sum));
            }
        }
    }
}

/// The sums of the lower halves' lanes, `a`'s and then `b`'s, then those of the upper halves'.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512vl")]
fn sum_both(a: __m512i, b: __m512i) -> __m128i {
    let both = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (lower, upper) = (_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64::<1>(both));
    let both = _mm256_add_epi32(_mm256_unpacklo_epi64(lower, upper), _mm256_unpackhi_epi64(lower, upper));
    _mm_add_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256::<1>(both))
}

/// What the words of a pair of blocks are multiplied with for their offsets' sake: sums of groups of activations, and zero
/// where the words are multipliers.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
fn offset_sums<W: PairedBlock>(activation: &WideBlock) -> __m512i {
    // SAFETY: sixteen sums; blocks are aligned.
    let sums = unsafe { _mm256_load_si256(activation.sums.as_ptr().cast()) };
    if W::GROUPS == 8 {
        let sums_of_32 = _mm256_cvtepi32_epi16(_mm256_madd_epi16(sums, _mm256_set1_epi16(1)));
        _mm512_maskz_broadcast_i32x4(0xf0f0, sums_of_32)
    } else {
        _mm512_broadcast_i64x4(sums)
    }
}

/// # Safety
/// Each of `weights` points to `blocks` blocks; `activations` holds `ROWS * blocks` blocks.
#[inline]
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512vnni")]
pub unsafe fn narrow_kernel<const ROWS: usize>(
    weights: &[*const u8; FEATURES],
    activations: &[NarrowBlock],
    blocks: usize,
    out: &mut [[f32; FEATURES]; MOST_ROWS],
) {
    // SAFETY: as the function's contract; places beyond the last block are moved back to it.
    unsafe {
        for (pair, rows) in weights.as_chunks::<2>().0.iter().enumerate() {
            // The sums of the pair's rows in lanes 0 and 1.
            let mut sums = [_mm_setzero_ps(); ROWS];
            for first in (0..blocks).step_by(FOUR) {
                prefetch::near(rows[0].wrapping_add(2 * first * q8_0::BYTES + AHEAD), 2 * FOUR * q8_0::BYTES);
                let four: [usize; FOUR] = std::array::from_fn(|i| (first + i).min(blocks - 1));
                let at = |row: usize, i: usize| rows[row].add(four[i] * q8_0::BYTES);
                let values: [__m512i; FOUR] = std::array::from_fn(|i| {
                    let part = |row: usize| _mm256_loadu_si256(at(row, i).add(2).cast());
                    let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(part(0)), part(1));
                    // 128 more, so that they have no sign.
                    _mm512_xor_si512(both, _mm512_set1_epi8(-128))
                });
                let scales = q8_0::scales(&std::array::from_fn(|i| at(i / FOUR, i % FOUR)));
                for row in 0..ROWS {
                    let activation = four.map(|block| activations.as_ptr().add(row * blocks + block));
                    let totals: [__m512i; FOUR] = std::array::from_fn(|i| {
                        let part = _mm256_load_si256((&raw const (*activation[i]).values).cast());
                        let part = _mm512_broadcast_i64x4(part);
                        _mm512_dpbusd_epi32(_mm512_setzero_si512(), values[i], part)
                    });
                    let activation_scales = activation.map(|block| (*block).scale);
                    let excesses = activation.map(|block| (*block).excess);
                    let excesses = _mm_loadu_si128(excesses.as_ptr().cast());
                    let total = _mm256_add_epi32(sum_each(&totals), _mm256_broadcastsi128_si256(excesses));
                    let total = in_pairs(_mm256_cvtepi32_ps(total));
                    let activation_scales = _mm_loadu_ps(activation_scales.as_ptr());
                    let scale = in_pairs(_mm256_mul_ps(
                        scales,
                        _mm256_set_m128(activation_scales, activation_scales),
                    ));
                    for (total, scale) in total.into_iter().zip(scale).take(blocks - first) {
                        sums[row] = _mm_fmadd_ps(total, scale, sums[row]);
                    }
                }
            }
            for (sum, out) in sums.iter().zip(&mut *out) {
                out[2 * pair] = _mm_cvtss_f32(*sum);
                out[2 * pair + 1] = _mm_cvtss_f32(_mm_movehdup_ps(*sum));
            }
        }
    }
}

/// Blocks of Q8_0 that are summed up together.
const FOUR: usize = 4;

/// Element `i` of each half, in lanes 0 and 1.
#[inline]
#[target_feature(enable = "avx2")]
fn in_pairs(v: __m256) -> [__m128; FOUR] {
    let (lower, upper) = (_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
    let (low, high) = (_mm_unpacklo_ps(lower, upper), _mm_unpackhi_ps(lower, upper));
    [low, _mm_movehl_ps(low, low), high, _mm_movehl_ps(high, high)]
}

/// The sums of the lower halves' lanes, then those of the upper halves'.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512vl")]
fn sum_each(v: &[__m512i; FOUR]) -> __m256i {
    let pair = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (low, high) = (pair(v[0], v[1]), pair(v[2], v[3]));
    // Each lane of 128 bits: one number of each vector. Two lanes are a half.
    let four = _mm512_add_epi32(_mm512_unpacklo_epi64(low, high), _mm512_unpackhi_epi64(low, high));
    let both = _mm512_add_epi32(four, _mm512_shuffle_i32x4::<0b10_11_00_01>(four, four));
    _mm512_castsi512_si256(_mm512_shuffle_i32x4::<0b00_00_10_00>(both, both))
}
