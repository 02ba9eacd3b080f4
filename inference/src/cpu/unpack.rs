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
}

pub struct Q4K;
pub struct Q5K;
pub struct Q6K;

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

/// A 16-bit multiplier for each pair of values.
///
/// # Safety
/// The CPU has AVX2. `scales` holds sixteen 8-bit multipliers, one for each 16 values.
#[inline(always)]
pub unsafe fn spread(scales: __m128i) -> [__m256i; 8] {
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

/// The beginning of Q4_K and Q5_K blocks: two halves, then 12 bytes with eight 6-bit scales and eight 6-bit minima.
///
/// # Safety
/// `block` points to 16 readable bytes; the CPU has AVX2 and F16C.
#[inline(always)]
unsafe fn scales_and_minima(block: *const u8) -> Scales {
    // SAFETY: as the function's contract.
    unsafe {
        let read = |i: usize| block.add(4).cast::<u32>().add(i).read_unaligned();
        let (u0, u1, u2) = (read(0), read(1), read(2));
        let scales_low = u0 & 0x3f3f_3f3f;
        let minima_low = u1 & 0x3f3f_3f3f;
        let scales_high = (u2 & 0x0f0f_0f0f) | (((u0 >> 6) & 0x0303_0303) << 4);
        let minima_high = ((u2 >> 4) & 0x0f0f_0f0f) | (((u1 >> 6) & 0x0303_0303) << 4);
        let pack = |low: u32, high: u32| _mm_cvtsi64_si128((u64::from(low) | u64::from(high) << 32) as i64);
        let (scales, minima) = (pack(scales_low, scales_high), pack(minima_low, minima_high));
        Scales {
            multipliers: _mm_unpacklo_epi8(scales, scales),
            offsets: _mm_unpacklo_epi8(minima, minima),
            scale: half_at(block),
            offset_scale: half_at(block.add(2)),
        }
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
}
