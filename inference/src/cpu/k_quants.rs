//! Dot products of k-quantized weights with 8-bit activations for CPUs with AVX2.
//!
//! candle's kernels unpack a weight block for every activation row. These unpack it once for up to sixteen rows,
//! which is what prompt processing needs, and keep one row's arithmetic the same whatever rows are beside it.
//! Block layouts: ggml's `block_q4_K`, `block_q5_K`, `block_q6_K`.

use std::arch::x86_64::*;

use candle_core::quantized::GgmlDType;
use half::f16;

/// Elements of a block of weights or activations.
pub const BLOCK: usize = 256;

/// 256 activations as 8-bit integers.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub struct ActivationBlock {
    values: [i8; BLOCK],
    /// Sum of each 16 values: what a weight's constant offset multiplies with.
    sums: [i16; 16],
    scale: f32,
}

impl ActivationBlock {
    pub const ZERO: Self = Self { values: [0; BLOCK], sums: [0; 16], scale: 0.0 };

    /// Quantizes 256 floats: `float = scale * value`, the largest magnitude becomes 127.
    pub fn quantize(floats: &[f32; BLOCK]) -> Self {
        super::ops::quantize_block(floats)
    }

    pub(super) fn from_parts(values: [i8; BLOCK], scale: f32) -> Self {
        let mut sums = [0i16; 16];
        for (sum, group) in sums.iter_mut().zip(values.as_chunks::<16>().0) {
            *sum = group.iter().map(|value| i16::from(*value)).sum();
        }
        Self { values, sums, scale }
    }
}

/// A weight block in registers: unsigned values, a 16-bit multiplier for each pair product, and the constant part.
/// weight = scale * (multiplier * value) - offset_scale * offset
struct Unpacked {
    /// Eight times 32 values.
    values: [__m256i; 8],
    multipliers: [__m256i; 8],
    /// One 16-bit offset for each 16 values.
    offsets: __m256i,
    scale: f32,
    offset_scale: f32,
}

/// A k-quantized block type that can be unpacked.
trait WeightBlock {
    const BYTES: usize;
    /// # Safety
    /// `block` points to `BYTES` readable bytes; the CPU has AVX2.
    unsafe fn unpack(block: *const u8) -> Unpacked;
}

struct Q4K;
struct Q5K;
struct Q6K;

/// Index patterns that repeat byte `2 * j` eight times, then byte `2 * j + 1` eight times.
const PAIR_PATTERNS: [[u8; 16]; 8] = {
    let mut patterns = [[0u8; 16]; 8];
    let mut j = 0;
    while j < 8 {
        let mut i = 0;
        while i < 16 {
            patterns[j][i] = (2 * j + i / 8) as u8;
            i += 1;
        }
        j += 1;
    }
    patterns
};

/// # Safety
/// The CPU has AVX2. `scales` holds sixteen 8-bit multipliers, one for each 16 values.
#[inline(always)]
unsafe fn multipliers(scales: __m128i) -> [__m256i; 8] {
    // SAFETY: the caller vouches for AVX2; the patterns are 16 bytes each.
    unsafe {
        let mut out = [_mm256_setzero_si256(); 8];
        for (j, out) in out.iter_mut().enumerate() {
            let pattern = _mm_loadu_si128(PAIR_PATTERNS[j].as_ptr().cast());
            *out = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(scales, pattern));
        }
        out
    }
}

/// # Safety
/// `bytes` points to the 12 packed bytes of 6-bit scales and minima; the CPU has AVX2.
/// Returns scales and minima, each of the eight doubled to sixteen.
#[inline(always)]
unsafe fn scales_and_minima(bytes: *const u8) -> (__m128i, __m128i) {
    // SAFETY: as the function's contract.
    unsafe {
        let read = |i: usize| bytes.cast::<u32>().add(i).read_unaligned();
        let (u0, u1, u2) = (read(0), read(1), read(2));
        let scales_low = u0 & 0x3f3f_3f3f;
        let minima_low = u1 & 0x3f3f_3f3f;
        let scales_high = (u2 & 0x0f0f_0f0f) | (((u0 >> 6) & 0x0303_0303) << 4);
        let minima_high = ((u2 >> 4) & 0x0f0f_0f0f) | (((u1 >> 6) & 0x0303_0303) << 4);
        let pack = |low: u32, high: u32| _mm_cvtsi64_si128((u64::from(low) | u64::from(high) << 32) as i64);
        let (scales, minima) = (pack(scales_low, scales_high), pack(minima_low, minima_high));
        (_mm_unpacklo_epi8(scales, scales), _mm_unpacklo_epi8(minima, minima))
    }
}

/// # Safety
/// `at` points to a readable half-precision number.
#[inline(always)]
unsafe fn half_at(at: *const u8) -> f32 {
    // SAFETY: as the function's contract.
    f16::from_bits(unsafe { at.cast::<u16>().read_unaligned() }).to_f32()
}

impl WeightBlock for Q4K {
    const BYTES: usize = 144;

    #[inline(always)]
    unsafe fn unpack(block: *const u8) -> Unpacked {
        // SAFETY: offsets stay inside the block's 144 bytes.
        unsafe {
            let (scales, minima) = scales_and_minima(block.add(4));
            let low = _mm256_set1_epi8(0x0f);
            let mut values = [_mm256_setzero_si256(); 8];
            for j in 0..4 {
                let nibbles = _mm256_loadu_si256(block.add(16 + 32 * j).cast());
                values[2 * j] = _mm256_and_si256(nibbles, low);
                values[2 * j + 1] = _mm256_and_si256(_mm256_srli_epi16::<4>(nibbles), low);
            }
            Unpacked {
                values,
                multipliers: multipliers(scales),
                offsets: _mm256_cvtepi8_epi16(minima),
                scale: half_at(block),
                offset_scale: half_at(block.add(2)),
            }
        }
    }
}

impl WeightBlock for Q5K {
    const BYTES: usize = 176;

    #[inline(always)]
    unsafe fn unpack(block: *const u8) -> Unpacked {
        // SAFETY: offsets stay inside the block's 176 bytes.
        unsafe {
            let (scales, minima) = scales_and_minima(block.add(4));
            let low = _mm256_set1_epi8(0x0f);
            let fifth = _mm256_set1_epi8(0x10);
            let high = _mm256_loadu_si256(block.add(16).cast());
            let mut values = [_mm256_setzero_si256(); 8];
            // Bit 2j of `high` belongs to the low nibbles of part j, bit 2j + 1 to the high ones; each is moved to bit 4.
            macro_rules! part {
                ($j:literal, $first:expr, $second:expr) => {
                    let nibbles = _mm256_loadu_si256(block.add(48 + 32 * $j).cast());
                    let first = _mm256_and_si256($first, fifth);
                    let second = _mm256_and_si256($second, fifth);
                    values[2 * $j] = _mm256_or_si256(_mm256_and_si256(nibbles, low), first);
                    let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(nibbles), low);
                    values[2 * $j + 1] = _mm256_or_si256(upper, second);
                };
            }
            part!(0, _mm256_slli_epi16::<4>(high), _mm256_slli_epi16::<3>(high));
            part!(1, _mm256_slli_epi16::<2>(high), _mm256_slli_epi16::<1>(high));
            part!(2, high, _mm256_srli_epi16::<1>(high));
            part!(3, _mm256_srli_epi16::<2>(high), _mm256_srli_epi16::<3>(high));
            Unpacked {
                values,
                multipliers: multipliers(scales),
                offsets: _mm256_cvtepi8_epi16(minima),
                scale: half_at(block),
                offset_scale: half_at(block.add(2)),
            }
        }
    }
}

impl WeightBlock for Q6K {
    const BYTES: usize = 210;

    #[inline(always)]
    unsafe fn unpack(block: *const u8) -> Unpacked {
        // SAFETY: offsets stay inside the block's 210 bytes.
        unsafe {
            let low = _mm256_set1_epi8(0x0f);
            let top = _mm256_set1_epi8(0x30);
            let mut values = [_mm256_setzero_si256(); 8];
            for n in 0..2 {
                let a = _mm256_loadu_si256(block.add(64 * n).cast());
                let b = _mm256_loadu_si256(block.add(64 * n + 32).cast());
                let high = _mm256_loadu_si256(block.add(128 + 32 * n).cast());
                let upper = |nibbles| _mm256_and_si256(_mm256_srli_epi16::<4>(nibbles), low);
                let join = |nibbles, bits| _mm256_or_si256(nibbles, _mm256_and_si256(bits, top));
                values[4 * n] = join(_mm256_and_si256(a, low), _mm256_slli_epi16::<4>(high));
                values[4 * n + 1] = join(_mm256_and_si256(b, low), _mm256_slli_epi16::<2>(high));
                values[4 * n + 2] = join(upper(a), high);
                values[4 * n + 3] = join(upper(b), _mm256_srli_epi16::<2>(high));
            }
            let scales = _mm_loadu_si128(block.add(192).cast());
            let scale = half_at(block.add(208));
            // Stored values are 32 too high.
            Unpacked {
                values,
                multipliers: multipliers(scales),
                offsets: _mm256_cvtepi8_epi16(scales),
                scale,
                offset_scale: 32.0 * scale,
            }
        }
    }
}

/// Whether [`dot_rows`] handles this type on this CPU.
pub fn is_supported(dtype: GgmlDType) -> bool {
    matches!(dtype, GgmlDType::Q4K | GgmlDType::Q5K | GgmlDType::Q6K) && super::ops::has_avx2()
}

/// Most rows that one call of [`dot_rows`] takes.
pub const MAX_ROWS: usize = 16;

/// `out[r] = weights . activations[r]` for up to [`MAX_ROWS`] rows of `blocks` activation blocks each.
/// `weights` is one row of the weight matrix in the file's layout. Requires [`is_supported`].
pub fn dot_rows(
    dtype: GgmlDType,
    weights: &[u8],
    activations: &[ActivationBlock],
    blocks: usize,
    out: &mut [f32],
) {
    assert!(is_supported(dtype) && out.len() <= MAX_ROWS && activations.len() == blocks * out.len());
    // SAFETY: the CPU has AVX2 and FMA (`is_supported`); `dispatch_rows` checks the length of `weights`.
    unsafe {
        match dtype {
            GgmlDType::Q4K => dispatch_rows::<Q4K>(weights, activations, blocks, out),
            GgmlDType::Q5K => dispatch_rows::<Q5K>(weights, activations, blocks, out),
            _ => dispatch_rows::<Q6K>(weights, activations, blocks, out),
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c")]
fn dispatch_rows<W: WeightBlock>(
    weights: &[u8],
    activations: &[ActivationBlock],
    blocks: usize,
    out: &mut [f32],
) {
    assert_eq!(weights.len(), blocks * W::BYTES);
    let mut row = 0;
    while row < out.len() {
        let rest = &activations[row * blocks..];
        // SAFETY: `weights` holds `blocks` blocks (asserted), `rest` at least the rows that each call takes.
        unsafe {
            row += match out.len() - row {
                16.. => dot::<W, 16>(weights, rest, blocks, &mut out[row..]),
                4.. => dot::<W, 4>(weights, rest, blocks, &mut out[row..]),
                _ => dot::<W, 1>(weights, rest, blocks, &mut out[row..]),
            };
        }
    }
}

/// # Safety
/// `weights` holds `blocks` blocks of `W`, `activations` at least `ROWS * blocks` blocks, `out` `ROWS` elements.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn dot<W: WeightBlock, const ROWS: usize>(
    weights: &[u8],
    activations: &[ActivationBlock],
    blocks: usize,
    out: &mut [f32],
) -> usize {
    // SAFETY: as the function's contract.
    unsafe {
        let mut sums = [_mm256_setzero_ps(); ROWS];
        for block in 0..blocks {
            let weight = W::unpack(weights.as_ptr().add(block * W::BYTES));
            for (row, sum) in sums.iter_mut().enumerate() {
                let activation = activations.get_unchecked(row * blocks + block);
                let values = activation.values.as_ptr().cast::<__m256i>();
                // Two chains, so that additions do not wait for each other.
                let mut totals = [_mm256_setzero_si256(); 2];
                for j in 0..8 {
                    // At most 63 * 127 * 2, which fits 16 bits.
                    let products = _mm256_maddubs_epi16(weight.values[j], _mm256_load_si256(values.add(j)));
                    let scaled = _mm256_madd_epi16(products, weight.multipliers[j]);
                    totals[j % 2] = _mm256_add_epi32(totals[j % 2], scaled);
                }
                let total = _mm256_cvtepi32_ps(_mm256_add_epi32(totals[0], totals[1]));
                let sums16 = _mm256_load_si256(activation.sums.as_ptr().cast());
                let offset = _mm256_cvtepi32_ps(_mm256_madd_epi16(weight.offsets, sums16));
                let scaled = _mm256_fmadd_ps(total, _mm256_set1_ps(weight.scale * activation.scale), *sum);
                *sum =
                    _mm256_fnmadd_ps(offset, _mm256_set1_ps(weight.offset_scale * activation.scale), scaled);
            }
        }
        for (sum, out) in sums.iter().zip(out) {
            let half = _mm_add_ps(_mm256_castps256_ps128(*sum), _mm256_extractf128_ps::<1>(*sum));
            let quarter = _mm_add_ps(half, _mm_movehl_ps(half, half));
            *out = _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)));
        }
        ROWS
    }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::{GgmlType, k_quants};

    use super::*;

    fn noise(seed: &mut u64) -> f32 {
        *seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (*seed >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    }

    fn as_bytes<T>(blocks: &[T]) -> &[u8] {
        // SAFETY: block types are plain old data.
        unsafe { std::slice::from_raw_parts(blocks.as_ptr().cast(), size_of_val(blocks)) }
    }

    /// Against the dequantized weights times the dequantized activations, in f64: only the sums may round.
    fn check<T: GgmlType>(dtype: GgmlDType, blocks: usize, rows: usize) {
        let mut seed = (blocks * 100 + rows) as u64;
        let floats: Vec<f32> = (0..blocks * BLOCK).map(|_| noise(&mut seed)).collect();
        let mut weights = vec![T::zeros(); blocks];
        T::from_float(&floats, &mut weights);
        let mut exact_weights = vec![0f32; blocks * BLOCK];
        T::to_float(&weights, &mut exact_weights);
        let activations: Vec<ActivationBlock> = (0..rows * blocks)
            .map(|_| ActivationBlock::quantize(&std::array::from_fn(|_| noise(&mut seed) * 3.0)))
            .collect();
        let mut out = vec![0f32; rows];
        dot_rows(dtype, as_bytes(&weights), &activations, blocks, &mut out);
        for (row, ours) in out.iter().enumerate() {
            let mut exact = 0f64;
            for (i, weight) in exact_weights.iter().enumerate() {
                let block = &activations[row * blocks + i / BLOCK];
                exact += f64::from(*weight) * f64::from(block.values[i % BLOCK]) * f64::from(block.scale);
            }
            assert!(
                (f64::from(*ours) - exact).abs() < 2e-4,
                "{dtype:?} {blocks}x{rows} row {row}: {ours} not {exact}"
            );
            let mut alone = [0f32];
            dot_rows(
                dtype,
                as_bytes(&weights),
                &activations[row * blocks..(row + 1) * blocks],
                blocks,
                &mut alone,
            );
            assert_eq!(alone[0].to_bits(), ours.to_bits(), "a row's result depends on its neighbours");
        }
    }

    #[test]
    fn matches_dequantized_weights_over_awkward_shapes() {
        if !is_supported(GgmlDType::Q4K) {
            eprintln!("this CPU has no AVX2, so these kernels are not used on it");
            return;
        }
        for blocks in [1, 2, 3, 7] {
            for rows in [1, 2, 4, 5, 15, 16] {
                check::<k_quants::BlockQ4K>(GgmlDType::Q4K, blocks, rows);
                check::<k_quants::BlockQ5K>(GgmlDType::Q5K, blocks, rows);
                check::<k_quants::BlockQ6K>(GgmlDType::Q6K, blocks, rows);
            }
        }
    }

    #[test]
    fn quantized_activations_are_close() {
        let mut seed = 5;
        let floats: [f32; BLOCK] = std::array::from_fn(|_| noise(&mut seed) * 10.0);
        let block = ActivationBlock::quantize(&floats);
        for (value, float) in block.values.iter().zip(floats) {
            assert!((f32::from(*value) * block.scale - float).abs() <= block.scale * 0.5 + 1e-6);
        }
        assert_eq!(ActivationBlock::quantize(&[0.0; BLOCK]).values, [0; BLOCK]);
    }
}
