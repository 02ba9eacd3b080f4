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
    k_quants::{FEATURES, MOST_ROWS, prefetch},
    q8_0,
    unpack_avx512::PairedBlock,
};

/// Weight row `p` shares registers with row `p + PAIRS`.
const PAIRS: usize = FEATURES / 2;

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
        let mut sums = [_mm256_setzero_ps(); ROWS];
        for block in 0..blocks {
            let at = weights.map(|weight| weight.add(block * W::BYTES));
            for weight in at {
                prefetch(weight.wrapping_add(FEATURES * blocks * W::BYTES), W::BYTES);
            }
            let mut totals = [[_mm512_setzero_si512(); PAIRS]; ROWS];
            let mut offsets = [[_mm512_setzero_si512(); PAIRS]; ROWS];
            for two in [0, 2] {
                let words = W::words([[at[two], at[two + PAIRS]], [at[two + 1], at[two + 1 + PAIRS]]]);
                for (pair, words) in (two..).zip(words) {
                    let values = W::pair_values(at[pair], at[pair + PAIRS]);
                    let multipliers = orders.map(|order| _mm512_permutexvar_epi16(order, words));
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
                        totals[row][pair] = total;
                        offsets[row][pair] = _mm512_madd_epi16(words, offset_sums::<W>(activation));
                    }
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
    // SAFETY: as the function's contract.
    unsafe {
        let half = _mm512_set1_epi8(-128);
        let mut sums = [_mm256_setzero_ps(); ROWS];
        for block in 0..blocks {
            let at = weights.map(|weight| weight.add(block * q8_0::BYTES));
            for weight in at {
                prefetch(weight.wrapping_add(FEATURES * blocks * q8_0::BYTES), q8_0::BYTES);
            }
            let values: [__m512i; PAIRS] = std::array::from_fn(|pair| {
                let at = |feature: usize| _mm256_loadu_si256(at[feature].add(2).cast());
                let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(at(pair)), at(pair + PAIRS));
                // 128 more, so that they have no sign.
                _mm512_xor_si512(both, half)
            });
            let scales = q8_0::scales(&at);
            for row in 0..ROWS {
                let activation = activations.get_unchecked(row * blocks + block);
                let part = _mm512_broadcast_i64x4(_mm256_load_si256(activation.values.as_ptr().cast()));
                let zero = _mm512_setzero_si512();
                let excess = _mm512_sub_epi32(zero, _mm512_dpbusd_epi32(zero, half, part));
                let totals = values.map(|values| _mm512_dpbusd_epi32(excess, values, part));
                let total = _mm256_cvtepi32_ps(sum_each(&totals));
                let scale = _mm256_set1_ps(activation.scale);
                sums[row] = _mm256_fmadd_ps(total, _mm256_mul_ps(scales, scale), sums[row]);
            }
        }
        for (sum, out) in sums.iter().zip(out) {
            _mm256_storeu_ps(out.as_mut_ptr(), *sum);
        }
    }
}

/// The sums of the lower halves' lanes, then those of the upper halves'.
#[inline]
#[target_feature(enable = "avx2,avx512f,avx512vl")]
fn sum_each(v: &[__m512i; PAIRS]) -> __m256i {
    let pair = |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    let (low, high) = (pair(v[0], v[1]), pair(v[2], v[3]));
    // Each lane of 128 bits: one number of each vector. Two lanes are a half.
    let four = _mm512_add_epi32(_mm512_unpacklo_epi64(low, high), _mm512_unpackhi_epi64(low, high));
    let both = _mm512_add_epi32(four, _mm512_shuffle_i32x4::<0b10_11_00_01>(four, four));
    _mm512_castsi512_si256(_mm512_shuffle_i32x4::<0b00_00_10_00>(both, both))
}
