//! Unpacks blocks of k-quantized weights into AVX2 registers.
//!
//! Layouts: ggml's `block_q4_K`, `block_q5_K`, `block_q6_K`. In all of them
//! weight = scale * (multiplier * value) - offset_scale * offset, with unsigned values and small integer multipliers
//! and offsets for each 16 or 32 values.

use std::arch::x86_64::*;

/// The integers and factors beside a block's values.
pub struct Scales {
    /// One signed byte for each 16 values.
    pub multipliers: __m128i,
    pub offsets: __m128i,
    pub scale: f32,
    pub offset_scale: f32,
}

/// A k-quantized block type that can be unpacked.
pub trait WeightBlock {
    const BYTES: usize;
    /// Groups of four values that share a multiplier: 4 or 8.
    const GROUPS: usize;
    /// How many products of two pairs fit 16 bits together: largest value * 127 * 2 * RUN < 32768.
    const RUN: usize;
    /// Eight times 32 values, in order.
    ///
    /// # Safety
    /// `block` points to `BYTES` readable bytes; the CPU has AVX2.
    unsafe fn values(block: *const u8) -> [__m256i; 8];
    /// # Safety
    /// As [`Self::values`].
    unsafe fn scales(block: *const u8) -> Scales;
    /// `scale` and `offset_scale` of eight blocks.
    ///
    /// # Safety
    /// As [`Self::values`], for each block.
    unsafe fn float_scales(blocks: &[*const u8; 8]) -> [__m256; 2];
}

pub struct Q4K;
pub struct Q5K;
pub struct Q6K;

/// Index patterns that repeat the 16-bit word `j` of each half.
const WORD_PATTERNS: [[u8; 32]; 8] = {
    let mut patterns = [[0u8; 32]; 8];
    let mut j = 0;
    while j < 8 {
        let mut i = 0;
        while i < 32 {
            patterns[j][i] = (2 * j + i % 2) as u8;
            i += 1;
        }
        j += 1;
    }
    patterns
};

/// A 16-bit multiplier for each pair of values.
///
/// # Safety
/// The CPU has AVX2. `scales` holds sixteen 8-bit multipliers, one for each 16 values.
#[inline(always)]
pub unsafe fn spread(scales: __m128i) -> [__m256i; 8] {
    // SAFETY: the caller vouches for AVX2; the patterns are 32 bytes each.
    unsafe {
        // Even ones to the lower half, odd ones to the upper: where the values that they belong to are.
        let order = _mm_set_epi8(15, 13, 11, 9, 7, 5, 3, 1, 14, 12, 10, 8, 6, 4, 2, 0);
        let words = _mm256_cvtepi8_epi16(_mm_shuffle_epi8(scales, order));
        let mut out = [_mm256_setzero_si256(); 8];
        for (j, out) in out.iter_mut().enumerate() {
            *out = _mm256_shuffle_epi8(words, _mm256_loadu_si256(WORD_PATTERNS[j].as_ptr().cast()));
        }
        out
    }
}

/// The beginning of Q4_K and Q5_K blocks: two halves, then 12 bytes with eight 6-bit scales and eight 6-bit minima.
///
/// # Safety
/// `block` points to 16 readable bytes; the CPU has AVX2 and F16C.
#[inline(always)]
unsafe fn scales_and_minima(block: *const u8) -> Scales {
    // SAFETY: as the function's contract.
    unsafe {
        // Four bytes each: u0 and u1 hold the low 6 bits of scales and minima 0 to 3, u2 the low 4 bits of both, 4 to 7;
        // the top 2 bits of u0 and u1 are the upper 2 of those.
        let bytes = _mm_loadu_si128(block.add(4).cast());
        let [u0, u1, u2, none] = [0x0302_0100, 0x0706_0504, 0x0b0a_0908, -1];
        let low = _mm_shuffle_epi8(bytes, _mm_setr_epi32(u0, u2, u1, u2));
        let low = _mm_srlv_epi32(low, _mm_setr_epi32(0, 0, 0, 4));
        let low = _mm_and_si128(low, _mm_setr_epi32(0x3f3f_3f3f, 0x0f0f_0f0f, 0x3f3f_3f3f, 0x0f0f_0f0f));
        let high = _mm_shuffle_epi8(bytes, _mm_setr_epi32(none, u0, none, u1));
        let high = _mm_and_si128(_mm_srli_epi32::<2>(high), _mm_set1_epi8(0x30));
        let both = _mm_or_si128(low, high);
        Scales {
            multipliers: _mm_unpacklo_epi8(both, both),
            offsets: _mm_unpackhi_epi8(both, both),
            scale: half_at(block),
            offset_scale: half_at(block.add(2)),
        }
    }
}

/// Two half-precision numbers at the start of each block.
///
/// # Safety
/// Each block begins with four readable bytes; the CPU has AVX2 and F16C.
#[inline(always)]
unsafe fn scale_pairs(blocks: &[*const u8; 8]) -> [__m256; 2] {
    // SAFETY: as the function's contract.
    unsafe {
        let pair = |i: usize| blocks[i].cast::<i32>().read_unaligned();
        let low = _mm_set_epi32(pair(3), pair(2), pair(1), pair(0));
        let high = _mm_set_epi32(pair(7), pair(6), pair(5), pair(4));
        let firsts = _mm_set_epi8(13, 12, 9, 8, 5, 4, 1, 0, 13, 12, 9, 8, 5, 4, 1, 0);
        let seconds = _mm_set_epi8(15, 14, 11, 10, 7, 6, 3, 2, 15, 14, 11, 10, 7, 6, 3, 2);
        [
            _mm256_cvtph_ps(_mm_unpacklo_epi64(
                _mm_shuffle_epi8(low, firsts),
                _mm_shuffle_epi8(high, firsts),
            )),
            _mm256_cvtph_ps(_mm_unpacklo_epi64(
                _mm_shuffle_epi8(low, seconds),
                _mm_shuffle_epi8(high, seconds),
            )),
        ]
    }
}

/// # Safety
/// `at` points to a readable half-precision number; the CPU has F16C.
#[inline(always)]
pub unsafe fn half_at(at: *const u8) -> f32 {
    // SAFETY: as the function's contract.
    unsafe {
        let bits = i32::from(at.cast::<u16>().read_unaligned());
        _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(bits)))
    }
}

impl WeightBlock for Q4K {
    const BYTES: usize = 144;
    const GROUPS: usize = 8;
    const RUN: usize = 8;

    #[inline(always)]
    unsafe fn values(block: *const u8) -> [__m256i; 8] {
        // SAFETY: offsets stay inside the block's 144 bytes.
        unsafe {
            let low = _mm256_set1_epi8(0x0f);
            let mut values = [_mm256_setzero_si256(); 8];
            for j in 0..4 {
                let nibbles = _mm256_loadu_si256(block.add(16 + 32 * j).cast());
                values[2 * j] = _mm256_and_si256(nibbles, low);
                values[2 * j + 1] = _mm256_and_si256(_mm256_srli_epi16::<4>(nibbles), low);
            }
            values
        }
    }

    #[inline(always)]
    unsafe fn scales(block: *const u8) -> Scales {
        // SAFETY: as above.
        unsafe { scales_and_minima(block) }
    }

    #[inline(always)]
    unsafe fn float_scales(blocks: &[*const u8; 8]) -> [__m256; 2] {
        // SAFETY: as above.
        unsafe { scale_pairs(blocks) }
    }
}

impl WeightBlock for Q5K {
    const BYTES: usize = 176;
    const GROUPS: usize = 8;
    const RUN: usize = 4;

    #[inline(always)]
    unsafe fn values(block: *const u8) -> [__m256i; 8] {
        // SAFETY: offsets stay inside the block's 176 bytes.
        unsafe {
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
            values
        }
    }

    #[inline(always)]
    unsafe fn scales(block: *const u8) -> Scales {
        // SAFETY: as above.
        unsafe { scales_and_minima(block) }
    }

    #[inline(always)]
    unsafe fn float_scales(blocks: &[*const u8; 8]) -> [__m256; 2] {
        // SAFETY: as above.
        unsafe { scale_pairs(blocks) }
    }
}

impl WeightBlock for Q6K {
    const BYTES: usize = 210;
    const GROUPS: usize = 4;
    const RUN: usize = 2;

    #[inline(always)]
    unsafe fn values(block: *const u8) -> [__m256i; 8] {
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
            values
        }
    }

    #[inline(always)]
    unsafe fn scales(block: *const u8) -> Scales {
        // SAFETY: as above.
        unsafe {
            let multipliers = _mm_loadu_si128(block.add(192).cast());
            let scale = half_at(block.add(208));
            // Stored values are 32 too high.
            Scales { multipliers, offsets: multipliers, scale, offset_scale: 32.0 * scale }
        }
    }

    #[inline(always)]
    unsafe fn float_scales(blocks: &[*const u8; 8]) -> [__m256; 2] {
        // SAFETY: as above.
        unsafe {
            let half = |i: usize| blocks[i].add(208).cast::<i16>().read_unaligned();
            let halves =
                _mm_set_epi16(half(7), half(6), half(5), half(4), half(3), half(2), half(1), half(0));
            let scales = _mm256_cvtph_ps(halves);
            [scales, _mm256_mul_ps(scales, _mm256_set1_ps(32.0))]
        }
    }
}
