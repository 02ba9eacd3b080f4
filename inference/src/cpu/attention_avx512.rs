//! The inner loops of attention for CPUs with AVX-512: those of `attention_avx2` in registers of twice the length, with the
//! same sums in the same order and thus the same bits.

#![allow(clippy::needless_range_loop, reason = "kernels walk several arrays of registers by one index")]

use std::arch::x86_64::*;

use super::{
    attention::{CHUNK, TOGETHER},
    attention_avx2::Element,
};
use crate::kv_cache::BLOCK_SIZE;

/// As [`super::attention::scores`], for `BLOCKS` blocks together: each shares the loads of the queries.
#[target_feature(enable = "avx2,fma,f16c,avx512f")]
pub fn scores<T: Element, const BLOCKS: usize>(
    queries: &[[f32; TOGETHER]],
    keys: [&[[T; BLOCK_SIZE]]; BLOCKS],
    at: usize,
    weights: &mut [[f32; CHUNK]],
) {
    const { assert!(BLOCK_SIZE == 16) };
    assert!(keys.iter().all(|keys| keys.len() >= queries.len()));
    let mut sums = [[_mm512_setzero_ps(); BLOCKS]; TOGETHER];
    for (dimension, query) in queries.iter().enumerate() {
        // SAFETY: there are as many keys (asserted), of sixteen elements.
        let keys = keys.map(|keys| unsafe { T::load_long(keys.get_unchecked(dimension).as_ptr()) });
        for (sums, x) in sums.iter_mut().zip(query) {
            let x = _mm512_set1_ps(*x);
            for block in 0..BLOCKS {
                sums[block] = _mm512_fmadd_ps(x, keys[block], sums[block]);
            }
        }
    }
    for (sums, weights) in sums.iter().zip(weights) {
        let (to, _) = weights[at..at + BLOCKS * BLOCK_SIZE].as_chunks_mut::<BLOCK_SIZE>();
        for (sum, to) in sums.iter().zip(to) {
            // SAFETY: sixteen elements.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), *sum) };
        }
    }
}

/// As [`super::attention_avx2::exponentials`].
#[target_feature(enable = "avx2,fma,avx512f")]
pub fn exponentials(scores: &mut [f32; CHUNK]) -> (f32, f32) {
    const { assert!(CHUNK == 64) };
    let chunks = scores.as_chunks_mut::<16>().0;
    let mut parts = [_mm512_setzero_ps(); CHUNK / 16];
    for (part, chunk) in parts.iter_mut().zip(chunks.iter()) {
        // SAFETY: sixteen elements.
        *part = unsafe { _mm512_loadu_ps(chunk.as_ptr()) };
    }
    let maximum = _mm512_reduce_max_ps(_mm512_max_ps(
        _mm512_max_ps(parts[0], parts[1]),
        _mm512_max_ps(parts[2], parts[3]),
    ));
    // Eight sums, as without AVX-512.
    let mut sums = _mm256_setzero_ps();
    for (part, chunk) in parts.into_iter().zip(chunks) {
        let visible = _mm512_cmp_ps_mask::<_CMP_NEQ_OQ>(part, _mm512_set1_ps(f32::NEG_INFINITY));
        let weight = exp(_mm512_sub_ps(part, _mm512_set1_ps(maximum)));
        let weight = _mm512_maskz_mov_ps(visible, weight);
        // SAFETY: sixteen elements.
        unsafe { _mm512_storeu_ps(chunk.as_mut_ptr(), weight) };
        let upper = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(weight));
        sums = _mm256_add_ps(sums, _mm512_castps512_ps256(weight));
        sums = _mm256_add_ps(sums, _mm256_castpd_ps(upper));
    }
    let mut eight = [0f32; 8];
    // SAFETY: eight elements.
    unsafe { _mm256_storeu_ps(eight.as_mut_ptr(), sums) };
    (maximum, eight.iter().sum())
}

/// As `exp` of `attention_avx2`.
#[inline]
#[target_feature(enable = "avx512f")]
fn exp(x: __m512) -> __m512 {
    let constant = |value| _mm512_set1_ps(value);
    let x = _mm512_min_ps(_mm512_max_ps(x, constant(-87.3)), constant(88.3));
    let shift = constant(12_582_912.0);
    let shifted = _mm512_fmadd_ps(x, constant(std::f32::consts::LOG2_E), shift);
    let n = _mm512_sub_ps(shifted, shift);
    let r = _mm512_fmadd_ps(n, constant(-0.693_359_4), x);
    let r = _mm512_fmadd_ps(n, constant(2.121_944_4e-4), r);
    let mut p = constant(1.987_569_1e-4);
    for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = _mm512_fmadd_ps(p, r, constant(coefficient));
    }
    let value = _mm512_add_ps(_mm512_fmadd_ps(_mm512_mul_ps(p, r), r, r), constant(1.0));
    let exponent = _mm512_add_epi32(_mm512_castps_si512(shifted), _mm512_set1_epi32(127));
    _mm512_mul_ps(value, _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent)))
}

/// As [`super::attention_avx2::weigh`], `V` vectors of sixteen.
#[target_feature(enable = "avx2,fma,f16c,avx512f")]
pub fn weigh<T: Element, const Q: usize, const V: usize>(
    weights: &[[f32; CHUNK]],
    factors: &[(f32, f32)],
    blocks: &[&[T]],
    dimension: usize,
    at: usize,
    sums: &mut [f32],
) {
    assert!(at + 16 * V <= dimension && weights.len() >= Q);
    assert!(blocks.iter().map(|block| block.len() / dimension).sum::<usize>() <= CHUNK);
    let mut parts = [[_mm512_setzero_ps(); V]; Q];
    let mut token = 0;
    for block in blocks {
        for values in block.chunks_exact(dimension) {
            // SAFETY: inside the token's row, as asserted.
            let values: [__m512; V] =
                std::array::from_fn(|v| unsafe { T::load_long(values.as_ptr().add(at + 16 * v)) });
            for q in 0..Q {
                // SAFETY: `token` is below CHUNK, as asserted.
                let weight = unsafe { _mm512_set1_ps(*weights.get_unchecked(q).get_unchecked(token)) };
                for v in 0..V {
                    parts[q][v] = _mm512_fmadd_ps(values[v], weight, parts[q][v]);
                }
            }
            token += 1;
        }
    }
    for (q, part) in parts.iter().enumerate() {
        let (old, new) = (_mm512_set1_ps(factors[q].0), _mm512_set1_ps(factors[q].1));
        for (sum, part) in sums[q * dimension + at..].as_chunks_mut::<16>().0.iter_mut().zip(part) {
            // SAFETY: sixteen elements.
            unsafe {
                let merged = _mm512_fmadd_ps(*part, new, _mm512_mul_ps(_mm512_loadu_ps(sum.as_ptr()), old));
                _mm512_storeu_ps(sum.as_mut_ptr(), merged);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use half::f16;

    use super::{super::attention_avx2, *};

    fn noise(seed: &mut u64) -> f32 {
        *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((*seed >> 40) as f32 / (1u64 << 24) as f32 - 0.5) * 4.0
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|value| value.to_bits()).collect()
    }

    fn check<T: Element>(dimension: usize, tokens: usize, from: fn(f32) -> T) {
        let mut seed = (dimension * 100 + tokens) as u64;
        let queries: Vec<[f32; TOGETHER]> =
            (0..dimension).map(|_| [(); 4].map(|()| noise(&mut seed))).collect();
        let keys: [Vec<[T; BLOCK_SIZE]>; 4] =
            [(); 4].map(|()| (0..dimension).map(|_| [(); 16].map(|()| from(noise(&mut seed)))).collect());
        let values: Vec<T> = (0..tokens * dimension).map(|_| from(noise(&mut seed))).collect();
        let mut short = [[0f32; CHUNK]; TOGETHER];
        let (mut one, mut all) = (short, short);
        // SAFETY: the caller looked whether the CPU has the instructions.
        unsafe {
            for (index, keys) in keys.iter().enumerate() {
                attention_avx2::scores(&queries, keys, index * BLOCK_SIZE, &mut short);
                scores(&queries, [&keys[..]], index * BLOCK_SIZE, &mut one);
            }
            scores(&queries, keys.each_ref().map(|keys| &keys[..]), 0, &mut all);
        }
        for query in 0..TOGETHER {
            assert_eq!(bits(&short[query]), bits(&one[query]));
            assert_eq!(bits(&short[query]), bits(&all[query]));
            for scores in [&mut short[query], &mut all[query]] {
                scores[tokens..].fill(f32::NEG_INFINITY);
            }
            // SAFETY: as above.
            let (ours, theirs) =
                unsafe { (exponentials(&mut all[query]), attention_avx2::exponentials(&mut short[query])) };
            assert_eq!(bits(&[ours.0, ours.1]), bits(&[theirs.0, theirs.1]));
            assert_eq!(bits(&short[query]), bits(&all[query]));
        }
        let factors = [(0.5, 2.0), (1.0, 0.25), (0.0, 1.0), (0.125, 1.5)];
        let (mut sums, mut short_sums) = (vec![1f32; 4 * dimension], vec![1f32; 4 * dimension]);
        // SAFETY: as above.
        unsafe {
            for at in (0..dimension).step_by(16) {
                weigh::<T, 4, 1>(&all, &factors, &[&values], dimension, at, &mut sums);
            }
            for at in (0..dimension).step_by(8) {
                attention_avx2::weigh::<T, 4, 1>(
                    &short,
                    &factors,
                    &[&values],
                    dimension,
                    at,
                    &mut short_sums,
                );
            }
        }
        assert_eq!(bits(&sums), bits(&short_sums));
        if dimension >= 64 {
            let mut long_sums = vec![1f32; 4 * dimension];
            // SAFETY: as above.
            unsafe { weigh::<T, 4, 4>(&all, &factors, &[&values], dimension, 0, &mut long_sums) };
            for query in (0..4).map(|query| query * dimension) {
                assert_eq!(bits(&long_sums[query..query + 64]), bits(&short_sums[query..query + 64]));
            }
        }
    }

    #[test]
    fn gives_the_bits_of_shorter_registers() {
        if !super::super::instructions::Instructions::Avx512Vnni.is_available() {
            eprintln!("this CPU has no AVX-512, so these loops are not used on it");
            return;
        }
        for (dimension, tokens) in [(16, 1), (64, 64), (128, 17), (80, 63)] {
            check::<f32>(dimension, tokens, |value| value);
            check::<f16>(dimension, tokens, f16::from_f32);
        }
    }
}
