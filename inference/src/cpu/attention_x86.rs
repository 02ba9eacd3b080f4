//! The inner loops of attention for CPUs with AVX2 and for those with AVX-512: one text for registers of eight and of sixteen
//! floats, with the same sums in the same order and thus the same bits.

#![allow(clippy::needless_range_loop, reason = "kernels walk several arrays of registers by one index")]

use std::arch::x86_64::*;

use half::f16;

use super::{
    attention::{CHUNK, TOGETHER},
    prefetch::Ahead,
};
use crate::kv_cache::BLOCK_SIZE;

/// What keys and values are stored as.
pub trait Element: Copy + Into<f32> {
    /// # Safety
    /// `at` points to eight readable elements; the CPU has AVX2 and F16C.
    unsafe fn load_8(at: *const Self) -> __m256;
    /// # Safety
    /// `at` points to sixteen readable elements; the CPU has AVX-512 F.
    unsafe fn load_16(at: *const Self) -> __m512;
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load_8(at: *const Self) -> __m256 {
        // SAFETY: as the function's contract.
        unsafe { _mm256_loadu_ps(at) }
    }

    #[inline(always)]
    unsafe fn load_16(at: *const Self) -> __m512 {
        // SAFETY: as the function's contract.
        unsafe { _mm512_loadu_ps(at) }
    }
}

impl Element for f16 {
    #[inline(always)]
    unsafe fn load_8(at: *const Self) -> __m256 {
        // SAFETY: as the function's contract.
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(at.cast())) }
    }

    #[inline(always)]
    unsafe fn load_16(at: *const Self) -> __m512 {
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
        unsafe { _mm256_storeu_ps(floats.as_mut_ptr(), f16::load_8(halves.as_ptr())) };
    }
    for (half, float) in rest.iter().zip(rest_out) {
        *float = half.to_f32();
    }
}

/// The loops over what a module says of its registers: `Vector` and what is done with it.
macro_rules! loops {
    ($features:literal) => {
        const VECTORS: usize = BLOCK_SIZE / LANES;

        /// As `scores` of `attention`, for `BLOCKS` blocks together: each shares the loads of the queries. `ahead`: what is
        /// read next, of two lines a dimension.
        #[target_feature(enable = $features)]
        pub fn scores<T: Element, const BLOCKS: usize>(
            queries: &[[f32; TOGETHER]],
            keys: [&[[T; BLOCK_SIZE]]; BLOCKS],
            at: usize,
            weights: &mut [[f32; CHUNK]],
            ahead: Option<Ahead>,
        ) {
            const { assert!(BLOCK_SIZE.is_multiple_of(LANES)) };
            assert!(keys.iter().all(|keys| keys.len() >= queries.len()));
            let mut sums = [[[splat(0.0); VECTORS]; BLOCKS]; TOGETHER];
            for (dimension, query) in queries.iter().enumerate() {
                if let Some(ahead) = ahead {
                    ahead.ask(dimension);
                }
                let mut key = [[splat(0.0); VECTORS]; BLOCKS];
                for block in 0..BLOCKS {
                    for v in 0..VECTORS {
                        // SAFETY: there are as many keys (asserted), of BLOCK_SIZE elements.
                        let at = unsafe { keys[block].get_unchecked(dimension).as_ptr().add(v * LANES) };
                        // SAFETY: as above.
                        key[block][v] = unsafe { load(at) };
                    }
                }
                for (sums, x) in sums.iter_mut().zip(query) {
                    let x = splat(*x);
                    for block in 0..BLOCKS {
                        for v in 0..VECTORS {
                            sums[block][v] = fused(x, key[block][v], sums[block][v]);
                        }
                    }
                }
            }
            for (sums, weights) in sums.iter().zip(weights) {
                let to = weights[at..at + BLOCKS * BLOCK_SIZE].as_chunks_mut::<LANES>().0;
                for (sum, to) in sums.as_flattened().iter().zip(to) {
                    store(to, *sum);
                }
            }
        }

        /// As `exponentials` of `attention`, after what is not visible was made minus infinity.
        #[target_feature(enable = $features)]
        pub fn exponentials(scores: &mut [f32; CHUNK]) -> (f32, f32) {
            let parts = scores.as_chunks_mut::<LANES>().0;
            let mut maxima = splat(f32::NEG_INFINITY);
            for part in parts.iter() {
                // SAFETY: so many elements.
                maxima = max(maxima, unsafe { load(part.as_ptr()) });
            }
            let mut lanes = [0f32; LANES];
            store(&mut lanes, maxima);
            let maximum = lanes.into_iter().fold(f32::NEG_INFINITY, f32::max);
            let mut sums = _mm256_setzero_ps();
            for part in parts {
                // SAFETY: so many elements.
                let score = unsafe { load(part.as_ptr()) };
                let weight = where_finite(score, exp(difference(score, splat(maximum))));
                store(part, weight);
                sums = add_eights(sums, weight);
            }
            let mut eight = [0f32; 8];
            // SAFETY: eight elements.
            unsafe { _mm256_storeu_ps(eight.as_mut_ptr(), sums) };
            (maximum, eight.iter().sum())
        }

        /// As `fast_exp` of `ops`.
        #[inline]
        #[target_feature(enable = $features)]
        fn exp(x: Vector) -> Vector {
            let x = min(max(x, splat(-87.3)), splat(88.3));
            let shift = splat(12_582_912.0);
            let shifted = fused(x, splat(std::f32::consts::LOG2_E), shift);
            let n = difference(shifted, shift);
            let r = fused(n, splat(-0.693_359_4), x);
            let r = fused(n, splat(2.121_944_4e-4), r);
            let mut p = splat(1.987_569_1e-4);
            for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
                p = fused(p, r, splat(coefficient));
            }
            let value = sum(fused(product(p, r), r, r), splat(1.0));
            product(value, power_of_two(shifted))
        }

        /// As `weigh` of `attention`, for the elements from `at` on of `Q` queries, `V` vectors of them. `ahead`: what is
        /// read next, of two lines a token. Each
        /// of `blocks` is `[token][dimension]`; together they hold a chunk's tokens at most.
        #[target_feature(enable = $features)]
        pub fn weigh<T: Element, const Q: usize, const V: usize>(
            weights: &[[f32; CHUNK]],
            factors: &[(f32, f32)],
            blocks: &[&[T]],
            dimension: usize,
            at: usize,
            sums: &mut [f32],
            ahead: Option<Ahead>,
        ) {
            assert!(at + LANES * V <= dimension && weights.len() >= Q);
            assert!(blocks.iter().map(|block| block.len() / dimension).sum::<usize>() <= CHUNK);
            let mut parts = [[splat(0.0); V]; Q];
            let mut token = 0;
            for block in blocks {
                for values in block.chunks_exact(dimension) {
                    if let Some(ahead) = ahead {
                        ahead.ask(at + token);
                    }
                    let mut value = [splat(0.0); V];
                    for v in 0..V {
                        // SAFETY: inside the token's row, as asserted.
                        value[v] = unsafe { load(values.as_ptr().add(at + LANES * v)) };
                    }
                    for q in 0..Q {
                        // SAFETY: `token` is below CHUNK, as asserted.
                        let weight = splat(unsafe { *weights.get_unchecked(q).get_unchecked(token) });
                        for v in 0..V {
                            parts[q][v] = fused(value[v], weight, parts[q][v]);
                        }
                    }
                    token += 1;
                }
            }
            for (q, part) in parts.iter().enumerate() {
                let (old, new) = (splat(factors[q].0), splat(factors[q].1));
                for (to, part) in sums[q * dimension + at..].as_chunks_mut::<LANES>().0.iter_mut().zip(part) {
                    // SAFETY: so many elements.
                    let before = unsafe { load(to.as_ptr()) };
                    store(to, fused(*part, new, product(before, old)));
                }
            }
        }
    };
}

/// Names for the instructions of one length of registers, and the loops over them.
macro_rules! registers {
    ($features:literal, $vector:ident, $lanes:literal, $load:ident, $store:ident, $splat:ident, $fused:ident,
     $($name:ident = $instruction:ident),+) => {
        use super::*;

        type Vector = $vector;
        pub const LANES: usize = $lanes;

        /// # Safety
        /// `at` points to so many readable elements.
        #[inline]
        #[target_feature(enable = $features)]
        unsafe fn load<T: Element>(at: *const T) -> Vector {
            // SAFETY: as the function's contract.
            unsafe { T::$load(at) }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn store(to: &mut [f32; LANES], vector: Vector) {
            // SAFETY: so many elements.
            unsafe { $store(to.as_mut_ptr(), vector) }
        }

        #[inline]
        #[target_feature(enable = $features)]
        fn splat(value: f32) -> Vector {
            $splat(value)
        }

        /// `a * b + c`, rounded once.
        #[inline]
        #[target_feature(enable = $features)]
        fn fused(a: Vector, b: Vector, c: Vector) -> Vector {
            $fused(a, b, c)
        }

        $(
            #[inline]
            #[target_feature(enable = $features)]
            fn $name(a: Vector, b: Vector) -> Vector {
                $instruction(a, b)
            }
        )+

        loops!($features);
    };
}

pub mod avx2 {
    registers!(
        "avx2,fma,f16c",
        __m256,
        8,
        load_8,
        _mm256_storeu_ps,
        _mm256_set1_ps,
        _mm256_fmadd_ps,
        sum = _mm256_add_ps,
        difference = _mm256_sub_ps,
        product = _mm256_mul_ps,
        min = _mm256_min_ps,
        max = _mm256_max_ps
    );

    /// `value` where `score` is not minus infinity, else zero.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn where_finite(score: Vector, value: Vector) -> Vector {
        let finite = _mm256_cmp_ps::<_CMP_NEQ_OQ>(score, _mm256_set1_ps(f32::NEG_INFINITY));
        _mm256_and_ps(value, finite)
    }

    /// Adds each eight of the vector's lanes, in order.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn add_eights(sums: __m256, vector: Vector) -> __m256 {
        _mm256_add_ps(sums, vector)
    }

    /// Two to the power of the integer in the low bits.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn power_of_two(shifted: Vector) -> Vector {
        let exponent = _mm256_add_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(127));
        _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
    }
}

pub mod avx512 {
    registers!(
        "avx2,fma,f16c,avx512f",
        __m512,
        16,
        load_16,
        _mm512_storeu_ps,
        _mm512_set1_ps,
        _mm512_fmadd_ps,
        sum = _mm512_add_ps,
        difference = _mm512_sub_ps,
        product = _mm512_mul_ps,
        min = _mm512_min_ps,
        max = _mm512_max_ps
    );

    /// As in `avx2`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn where_finite(score: Vector, value: Vector) -> Vector {
        let finite = _mm512_cmp_ps_mask::<_CMP_NEQ_OQ>(score, _mm512_set1_ps(f32::NEG_INFINITY));
        _mm512_maskz_mov_ps(finite, value)
    }

    /// As in `avx2`.
    #[inline]
    #[target_feature(enable = "avx2,avx512f")]
    fn add_eights(sums: __m256, vector: Vector) -> __m256 {
        let upper = _mm512_extractf64x4_pd::<1>(_mm512_castps_pd(vector));
        _mm256_add_ps(_mm256_add_ps(sums, _mm512_castps512_ps256(vector)), _mm256_castpd_ps(upper))
    }

    /// As in `avx2`.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn power_of_two(shifted: Vector) -> Vector {
        let exponent = _mm512_add_epi32(_mm512_castps_si512(shifted), _mm512_set1_epi32(127));
        _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
                avx2::scores(&queries, [&keys[..]], index * BLOCK_SIZE, &mut short, None);
                avx512::scores(&queries, [&keys[..]], index * BLOCK_SIZE, &mut one, None);
            }
            avx512::scores(&queries, keys.each_ref().map(|keys| &keys[..]), 0, &mut all, None);
        }
        for query in 0..TOGETHER {
            assert_eq!(bits(&short[query]), bits(&one[query]));
            assert_eq!(bits(&short[query]), bits(&all[query]));
            for scores in [&mut short[query], &mut all[query]] {
                scores[tokens..].fill(f32::NEG_INFINITY);
            }
            // SAFETY: as above.
            let (ours, theirs) =
                unsafe { (avx512::exponentials(&mut all[query]), avx2::exponentials(&mut short[query])) };
            assert_eq!(bits(&[ours.0, ours.1]), bits(&[theirs.0, theirs.1]));
            assert_eq!(bits(&short[query]), bits(&all[query]));
        }
        let factors = [(0.5, 2.0), (1.0, 0.25), (0.0, 1.0), (0.125, 1.5)];
        let (mut sums, mut short_sums) = (vec![1f32; 4 * dimension], vec![1f32; 4 * dimension]);
        // SAFETY: as above.
        unsafe {
            for at in (0..dimension).step_by(16) {
                avx512::weigh::<T, 4, 1>(&all, &factors, &[&values], dimension, at, &mut sums, None);
            }
            for at in (0..dimension).step_by(8) {
                avx2::weigh::<T, 4, 1>(&short, &factors, &[&values], dimension, at, &mut short_sums, None);
            }
        }
        assert_eq!(bits(&sums), bits(&short_sums));
        if dimension >= 64 {
            let mut long_sums = vec![1f32; 4 * dimension];
            // SAFETY: as above.
            unsafe {
                avx512::weigh::<T, 4, 4>(&all, &factors, &[&values], dimension, 0, &mut long_sums, None)
            };
            for query in (0..4).map(|query| query * dimension) {
                assert_eq!(bits(&long_sums[query..query + 64]), bits(&short_sums[query..query + 64]));
            }
        }
    }

    #[test]
    fn registers_of_both_lengths_give_the_same_bits() {
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
