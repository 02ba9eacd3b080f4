//! The inner loops of attention for CPUs with AVX2: the same sums as the portable ones in `attention`, in the same
//! order, which the compiler does not turn into vectors by itself.

#![allow(clippy::needless_range_loop, reason = "kernels walk several arrays of registers by one index")]

use std::arch::x86_64::*;

use half::f16;

use super::attention::{CHUNK, TOGETHER};
use crate::kv_cache::BLOCK_SIZE;

/// What keys and values are stored as.
pub trait Element: Copy + Into<f32> {
    /// # Safety
    /// `at` points to eight readable elements; the CPU has AVX2 and F16C.
    unsafe fn load(at: *const Self) -> __m256;
    /// # Safety
    /// `at` points to sixteen readable elements; the CPU has AVX-512 F.
    unsafe fn load_long(at: *const Self) -> __m512;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load(at: *const Self) -> __m256 {
        // SAFETY: as the function's contract.
        unsafe { _mm256_loadu_ps(at) }
    }

    #[inline(always)]
    unsafe fn load_long(at: *const Self) -> __m512 {
        // SAFETY: as the function's contract.
        unsafe { _mm512_loadu_ps(at) }
    }
}

impl Element for f16 {
    #[inline(always)]
    unsafe fn load(at: *const Self) -> __m256 {
        // SAFETY: as the function's contract.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) }
    }

    #[inline(always)]
    unsafe fn load_long(at: *const Self) -> __m512 {
        // SAFETY: as the function's contract.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
    }
}

/// Half floats to floats; both slices are equally long.
#[target_feature(enable = "avx2,f16c")]
pub fn to_floats(halves: &[f16], floats: &mut [f32]) {
    let (wide, rest) = halves.as_chunks::<8>();
    let (wide_out, rest_out) = floats.as_chunks_mut::<8>();
    for (halves, floats) in wide.iter().zip(wide_out) {
        // SAFETY: eight elements each.
        unsafe {
            let halves = _mm_loadu_si128(halves.as_ptr().cast());
            _mm256_storeu_ps(floats.as_mut_ptr(), _mm256_cvtph_ps(halves));
        }
    }
    for (half, float) in rest.iter().zip(rest_out) {
        *float = half.to_f32();
    }
}

/// As [`super::attention::scores`].
#[target_feature(enable = "avx2,fma,f16c")]
pub fn scores<T: Element>(
    queries: &[[f32; TOGETHER]],
    keys: &[[T; BLOCK_SIZE]],
    at: usize,
    weights: &mut [[f32; CHUNK]],
) {
    const { assert!(BLOCK_SIZE == 16 && TOGETHER == 4) };
    let mut sums = [[_mm256_setzero_ps(); 2]; TOGETHER];
    for (query, key) in queries.iter().zip(keys) {
        // SAFETY: a key has sixteen elements.
        let (low, high) = unsafe { (T::load(key.as_ptr()), T::load(key.as_ptr().add(8))) };
        for (sums, x) in sums.iter_mut().zip(query) {
            let x = _mm256_set1_ps(*x);
            sums[0] = _mm256_fmadd_ps(x, low, sums[0]);
            sums[1] = _mm256_fmadd_ps(x, high, sums[1]);
        }
    }
    for (sums, weights) in sums.iter().zip(weights) {
        let to = weights[at..at + BLOCK_SIZE].as_mut_ptr();
        // SAFETY: sixteen elements.
        unsafe {
            _mm256_storeu_ps(to, sums[0]);
            _mm256_storeu_ps(to.add(8), sums[1]);
        }
    }
}

/// As [`super::attention::exponentials`], after what is not visible was made minus infinity.
#[target_feature(enable = "avx2,fma")]
pub fn exponentials(scores: &mut [f32; CHUNK]) -> (f32, f32) {
    let lanes = scores.as_chunks_mut::<8>().0;
    let mut maxima = _mm256_set1_ps(f32::NEG_INFINITY);
    for chunk in lanes.iter() {
        // SAFETY: eight elements.
        maxima = _mm256_max_ps(maxima, unsafe { _mm256_loadu_ps(chunk.as_ptr()) });
    }
    let mut eight = [0f32; 8];
    // SAFETY: eight elements.
    unsafe { _mm256_storeu_ps(eight.as_mut_ptr(), maxima) };
    let maximum = eight.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sums = _mm256_setzero_ps();
    for chunk in lanes {
        // SAFETY: eight elements.
        let score = unsafe { _mm256_loadu_ps(chunk.as_ptr()) };
        let visible = _mm256_cmp_ps::<_CMP_NEQ_OQ>(score, _mm256_set1_ps(f32::NEG_INFINITY));
        let weight = _mm256_and_ps(exp(_mm256_sub_ps(score, _mm256_set1_ps(maximum))), visible);
        // SAFETY: eight elements.
        unsafe { _mm256_storeu_ps(chunk.as_mut_ptr(), weight) };
        sums = _mm256_add_ps(sums, weight);
    }
    // SAFETY: eight elements.
    unsafe { _mm256_storeu_ps(eight.as_mut_ptr(), sums) };
    (maximum, eight.iter().sum())
}

/// As [`super::ops::fast_exp`].
#[inline]
#[target_feature(enable = "avx2,fma")]
fn exp(x: __m256) -> __m256 {
    let constant = |value| _mm256_set1_ps(value);
    let x = _mm256_min_ps(_mm256_max_ps(x, constant(-87.3)), constant(88.3));
    let shift = constant(12_582_912.0);
    let shifted = _mm256_fmadd_ps(x, constant(std::f32::consts::LOG2_E), shift);
    let n = _mm256_sub_ps(shifted, shift);
    let r = _mm256_fmadd_ps(n, constant(-0.693_359_4), x);
    let r = _mm256_fmadd_ps(n, constant(2.121_944_4e-4), r);
    let mut p = constant(1.987_569_1e-4);
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = _mm256_fmadd_ps(p, r, constant(coefficient));
    }
    let value = _mm256_add_ps(_mm256_fmadd_ps(_mm256_mul_ps(p, r), r, r), constant(1.0));
    let exponent = _mm256_add_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(127));
    _mm256_mul_ps(value, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)))
}

/// As [`super::attention::weigh`], for the elements from `at` on of `Q` queries, `V` vectors of eight. Each of `blocks` is
/// `[token][dimension]`; together they hold a chunk's tokens at most.
#[target_feature(enable = "avx2,fma,f16c")]
pub fn weigh<T: Element, const Q: usize, const V: usize>(
    weights: &[[f32; CHUNK]],
    factors: &[(f32, f32)],
    blocks: &[&[T]],
    dimension: usize,
    at: usize,
    sums: &mut [f32],
) {
    assert!(at + 8 * V <= dimension && weights.len() >= Q);
    assert!(blocks.iter().map(|block| block.len() / dimension).sum::<usize>() <= CHUNK);
    let mut parts = [[_mm256_setzero_ps(); V]; Q];
    let mut token = 0;
    for block in blocks {
        for values in block.chunks_exact(dimension) {
            for v in 0..V {
                // SAFETY: inside the token's row, as asserted.
                let value = unsafe { T::load(values.as_ptr().add(at + 8 * v)) };
                for q in 0..Q {
                    // SAFETY: `token` is below CHUNK, as asserted.
                    let weight = unsafe { _mm256_set1_ps(*weights.get_unchecked(q).get_unchecked(token)) };
                    parts[q][v] = _mm256_fmadd_ps(value, weight, parts[q][v]);
                }
            }
            token += 1;
        }
    }
    for (q, part) in parts.iter().enumerate() {
        let (old, new) = (_mm256_set1_ps(factors[q].0), _mm256_set1_ps(factors[q].1));
        for (sum, part) in sums[q * dimension + at..].as_chunks_mut::<8>().0.iter_mut().zip(part) {
            // SAFETY: eight elements.
            unsafe {
                let merged = _mm256_fmadd_ps(*part, new, _mm256_mul_ps(_mm256_loadu_ps(sum.as_ptr()), old));
                _mm256_storeu_ps(sum.as_mut_ptr(), merged);
            }
        }
    }
}
