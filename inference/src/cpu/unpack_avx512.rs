//! Unpacks blocks of k-quantized weights into AVX-512 registers, two weight rows at a time: the lower half of a register
//! holds values of one, the upper half the same values of the other.

use std::arch::x86_64::*;

use super::unpack::{Q4K, Q5K, Q6K, WeightBlock};

/// A k-quantized block type of which pairs can be unpacked. The CPU has AVX-512 F, BW and VL wherever these are called.
pub trait PairedBlock: WeightBlock {
    /// For values `2j` and `2j + 1` of [`Self::pair_values`], whose sums of four are packed to words: the places of their
    /// multipliers in [`Self::words`].
    const ORDERS: [[u16; 32]; 4];

    /// Eight times 32 values of two blocks, in order.
    ///
    /// # Safety
    /// Both point to `BYTES` readable bytes.
    unsafe fn pair_values(first: *const u8, second: *const u8) -> [__m512i; 8];

    /// The multipliers and offsets of two pairs of blocks, as 16-bit words, the first block's in the lower half. Sixteen of a
    /// block: where `GROUPS` is 8, multipliers and then offsets; where it is 4, they are the same numbers.
    ///
    /// # Safety
    /// As [`Self::pair_values`], for each block.
    unsafe fn words(blocks: [[*const u8; 2]; 2]) -> [__m512i; 2];

    /// `scale` and `offset_scale` of the first block, then of the second.
    ///
    /// # Safety
    /// As [`Self::pair_values`].
    unsafe fn pair_scales(first: *const u8, second: *const u8) -> __m128;
}

/// Packing interleaves by lanes of 128 bits: four sums of the first register, then four of the second, eight values to two
/// sums. In each half, a group of 32 values spans both lanes, a group of 16 has one.
const fn orders(groups: usize) -> [[u16; 32]; 4] {
    let mut orders = [[0u16; 32]; 4];
    let mut j = 0;
    while j < 4 {
        let mut word = 0;
        while word < 32 {
            let (half, lane, register) = (word / 16, word / 8 % 2, word / 4 % 2);
            let values = 2 * j + register;
            let group = if groups == 8 { values } else { 2 * values + lane };
            orders[j][word] = (16 * half + group) as u16;
            word += 1;
        }
        j += 1;
    }
    orders
}

/// # Safety
/// Both point to 32 readable bytes.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn pair_at(first: *const u8, second: *const u8, offset: usize) -> __m512i {
    // SAFETY: as the function's contract.
    unsafe {
        let lower = _mm512_castsi256_si512(_mm256_loadu_si256(first.add(offset).cast()));
        _mm512_inserti64x4::<1>(lower, _mm256_loadu_si256(second.add(offset).cast()))
    }
}

/// [`PairedBlock::words`] of Q4_K and Q5_K: as `scales_and_minima` of `unpack`, four blocks at once.
///
/// # Safety
/// Each points to 20 readable bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn scales_and_minima(blocks: [[*const u8; 2]; 2]) -> [__m512i; 2] {
    // SAFETY: as the function's contract.
    unsafe {
        let at = |pair: usize, half: usize| _mm_loadu_si128(blocks[pair][half].add(4).cast());
        let bytes = _mm512_castsi128_si512(at(0, 0));
        let bytes = _mm512_inserti32x4::<1>(bytes, at(0, 1));
        let bytes = _mm512_inserti32x4::<2>(bytes, at(1, 0));
        let bytes = _mm512_inserti32x4::<3>(bytes, at(1, 1));
        let four = |a, b, c, d| _mm512_set4_epi32(d, c, b, a);
        let [u0, u1, u2, none] = [0x0302_0100, 0x0706_0504, 0x0b0a_0908, -1];
        let low = _mm512_shuffle_epi8(bytes, four(u0, u2, u1, u2));
        let low = _mm512_srlv_epi32(low, four(0, 0, 0, 4));
        let low = _mm512_and_si512(low, four(0x3f3f_3f3f, 0x0f0f_0f0f, 0x3f3f_3f3f, 0x0f0f_0f0f));
        let high = _mm512_shuffle_epi8(bytes, four(none, u0, none, u1));
        let high = _mm512_and_si512(_mm512_srli_epi32::<2>(high), _mm512_set1_epi8(0x30));
        let both = _mm512_or_si512(low, high);
        [
            _mm512_cvtepu8_epi16(_mm512_castsi512_si256(both)),
            _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64::<1>(both)),
        ]
    }
}

/// Two half-precision numbers at the start of each block.
///
/// # Safety
/// Each begins with four readable bytes.
#[inline]
#[target_feature(enable = "f16c")]
unsafe fn two_scales(first: *const u8, second: *const u8) -> __m128 {
    // SAFETY: as the function's contract.
    let two = |block: *const u8| _mm_cvtsi32_si128(unsafe { block.cast::<i32>().read_unaligned() });
    _mm_cvtph_ps(_mm_unpacklo_epi32(two(first), two(second)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn low_nibbles(bytes: __m512i) -> __m512i {
    _mm512_and_si512(bytes, _mm512_set1_epi8(0x0f))
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw")]
fn high_nibbles(bytes: __m512i) -> __m512i {
    low_nibbles(_mm512_srli_epi16::<4>(bytes))
}

impl PairedBlock for Q4K {
    const ORDERS: [[u16; 32]; 4] = orders(8);

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn pair_values(first: *const u8, second: *const u8) -> [__m512i; 8] {
        let mut values = [_mm512_setzero_si512(); 8];
        for j in 0..4 {
            // SAFETY: inside the block's 144 bytes.
            let nibbles = unsafe { pair_at(first, second, 16 + 32 * j) };
            values[2 * j] = low_nibbles(nibbles);
            values[2 * j + 1] = high_nibbles(nibbles);
        }
        values
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn words(blocks: [[*const u8; 2]; 2]) -> [__m512i; 2] {
        // SAFETY: as the function's contract.
        unsafe { scales_and_minima(blocks) }
    }

    #[inline]
    #[target_feature(enable = "f16c")]
    unsafe fn pair_scales(first: *const u8, second: *const u8) -> __m128 {
        // SAFETY: as the function's contract.
        unsafe { two_scales(first, second) }
    }
}

impl PairedBlock for Q5K {
    const ORDERS: [[u16; 32]; 4] = orders(8);

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn pair_values(first: *const u8, second: *const u8) -> [__m512i; 8] {
        let fifth = |bits| _mm512_and_si512(bits, _mm512_set1_epi8(0x10));
        // SAFETY: inside the block's 176 bytes.
        let (high, nibbles) = unsafe {
            (pair_at(first, second, 16), [48, 80, 112, 144].map(|offset| pair_at(first, second, offset)))
        };
        // Bit i belongs to values i; it is moved to bit 4.
        [
            _mm512_or_si512(low_nibbles(nibbles[0]), fifth(_mm512_slli_epi16::<4>(high))),
            _mm512_or_si512(high_nibbles(nibbles[0]), fifth(_mm512_slli_epi16::<3>(high))),
            _mm512_or_si512(low_nibbles(nibbles[1]), fifth(_mm512_slli_epi16::<2>(high))),
            _mm512_or_si512(high_nibbles(nibbles[1]), fifth(_mm512_slli_epi16::<1>(high))),
            _mm512_or_si512(low_nibbles(nibbles[2]), fifth(high)),
            _mm512_or_si512(high_nibbles(nibbles[2]), fifth(_mm512_srli_epi16::<1>(high))),
            _mm512_or_si512(low_nibbles(nibbles[3]), fifth(_mm512_srli_epi16::<2>(high))),
            _mm512_or_si512(high_nibbles(nibbles[3]), fifth(_mm512_srli_epi16::<3>(high))),
        ]
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn words(blocks: [[*const u8; 2]; 2]) -> [__m512i; 2] {
        // SAFETY: as the function's contract.
        unsafe { scales_and_minima(blocks) }
    }

    #[inline]
    #[target_feature(enable = "f16c")]
    unsafe fn pair_scales(first: *const u8, second: *const u8) -> __m128 {
        // SAFETY: as the function's contract.
        unsafe { two_scales(first, second) }
    }
}

impl PairedBlock for Q6K {
    const ORDERS: [[u16; 32]; 4] = orders(4);

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn pair_values(first: *const u8, second: *const u8) -> [__m512i; 8] {
        let top = |bits| _mm512_and_si512(bits, _mm512_set1_epi8(0x30));
        let mut values = [_mm512_setzero_si512(); 8];
        for n in 0..2 {
            // SAFETY: inside the block's 210 bytes.
            let (a, b, high) = unsafe {
                (
                    pair_at(first, second, 64 * n),
                    pair_at(first, second, 64 * n + 32),
                    pair_at(first, second, 128 + 32 * n),
                )
            };
            values[4 * n] = _mm512_or_si512(low_nibbles(a), top(_mm512_slli_epi16::<4>(high)));
            values[4 * n + 1] = _mm512_or_si512(low_nibbles(b), top(_mm512_slli_epi16::<2>(high)));
            values[4 * n + 2] = _mm512_or_si512(high_nibbles(a), top(high));
            values[4 * n + 3] = _mm512_or_si512(high_nibbles(b), top(_mm512_srli_epi16::<2>(high)));
        }
        values
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw")]
    unsafe fn words(blocks: [[*const u8; 2]; 2]) -> [__m512i; 2] {
        blocks.map(|[first, second]| {
            // SAFETY: inside the block's 210 bytes.
            let at = |block: *const u8| unsafe { _mm_loadu_si128(block.add(192).cast()) };
            _mm512_cvtepi8_epi16(_mm256_set_m128i(at(second), at(first)))
        })
    }

    #[inline]
    #[target_feature(enable = "f16c")]
    unsafe fn pair_scales(first: *const u8, second: *const u8) -> __m128 {
        // SAFETY: inside the block's 210 bytes.
        let scale = |block: *const u8| unsafe { i32::from(block.add(208).cast::<u16>().read_unaligned()) };
        let twice = |half: i32| _mm_cvtsi32_si128(half | half << 16);
        let scales = _mm_cvtph_ps(_mm_unpacklo_epi32(twice(scale(first)), twice(scale(second))));
        _mm_mul_ps(scales, _mm_set_ps(32.0, 1.0, 32.0, 1.0))
    }
}
