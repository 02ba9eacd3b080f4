// Weights as the kernels read them: tiles of 16 features, in the order of the tensor cores' fragments.
// `inference/src/cuda/tiles.rs` writes the tiles; its comments have the byte layout of each format.
#pragma once
#include "ptx.cuh"

enum Format : u32 { FORMAT_BF16 = 0, FORMAT_Q8_0 = 1, FORMAT_Q4_K = 2, FORMAT_Q5_K = 3, FORMAT_Q6_K = 4 };

constexpr u32 TILE_FEATURES = 16;
// Columns of a matrix are padded to a multiple of this; activations have one scale for so many.
constexpr u32 COLUMN_UNIT = 256;
// Columns with one scale of the weights.
constexpr u32 GROUP = 32;
// Columns whose operands a lane reads at once.
constexpr u32 PAIR = 64;

// Word `index` of four, without an array that would have to live in memory.
__device__ __forceinline__ u32 word_of(uint4 v, u32 index) {
    return index & 2 ? (index & 1 ? v.w : v.z) : (index & 1 ? v.y : v.x);
}

// Each format of 256 columns has: BYTES of a tile; Head, what a lane keeps of the factors of its rows g and g + 8;
// operands(), the weights of two groups as signed bytes; add(), which sums products of those groups (exactly, for the
// k-quants); finish(), which scales the sums of 256 columns into the result.

// weight = factor * scale * q - minimum_factor * minimum
struct TileQ4K {
    static constexpr u32 BYTES = 2368;
    static constexpr u32 SCALES = 2048, FACTORS = 2304;
    using Sum = int;

    struct Head {
        uint2 scales[2];        // of eight groups, one byte each
        u32 minimums[2];        // of groups 2t and 2t + 1, bf16
        float factor[2], minimum_factor[2];
    };
    __device__ static __forceinline__ Head head(const u8* tile, u32 lane, u32 scales_at, u32 factors_at) {
        Head h;
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            const u32 row = lane / 4 + half * 8;
            const uint4 bytes = *(const uint4*)(tile + scales_at + row * 16);
            h.scales[half] = make_uint2(bytes.x, bytes.y);
            const u32 word = lane & 2 ? bytes.w : bytes.z, first = lane % 2 * 2;
            // 0x43xx is a bf16 of 128 + xx for xx below 128.
            h.minimums[half] =
                fma_bf16x2(__byte_perm(word, 0x43434343u, 0x4040u | (first + 1) << 8 | first), 0x3F803F80u, 0xC300C300u);
            const u32 pair = *(const u32*)(tile + factors_at + row * 4);
            h.factor[half] = half_to_float((u16)(pair & 0xffff));
            h.minimum_factor[half] = half_to_float((u16)(pair >> 16));
        }
        return h;
    }
    __device__ static __forceinline__ Head head(const u8* tile, u32 lane) { return head(tile, lane, SCALES, FACTORS); }

    // The low nibbles of a word's bytes are row g, the high ones row g + 8.
    __device__ static __forceinline__ void operands(const u8* tile, u32 lane, u32 pair, u32 (&a)[2][4]) {
        const uint4 words = *(const uint4*)(tile + pair * 512 + lane * 16);
        const u32 word[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            a[i / 2][i % 2 * 2] = word[i] & 0x0F0F0F0Fu;
            a[i / 2][i % 2 * 2 + 1] = word[i] >> 4 & 0x0F0F0F0Fu;
        }
    }
    __device__ static __forceinline__ void add(const Head& h, u32 pair, const u32 (&a)[2][4], uint4 b, int (&sum)[4]) {
        const u32 words[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
        for (u32 i = 0; i < 2; i++) {
            int c[4];
            mma_s8(c, a[i], words[i * 2], words[i * 2 + 1]);
            const u32 group = pair * 2 + i;
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                const int scale = unsigned_byte(group < 4 ? h.scales[half].x : h.scales[half].y, group % 4);
                sum[half * 2] += c[half * 2] * scale;
                sum[half * 2 + 1] += c[half * 2 + 1] * scale;
            }
        }
    }
    // `sums` are the activations' group sums as two bf16 operands, which together are exact.
    __device__ static __forceinline__ void finish(const Head& h, float2 scale, uint2 sums, const int (&sum)[4],
                                                  float (&acc)[4]) {
        float offsets[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        const u32 a[4] = {h.minimums[0], h.minimums[1], h.minimums[0], h.minimums[1]};
        mma_bf16(offsets, a, sums.x, sums.y);
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const float value = __fmaf_rn(h.factor[i / 2], (float)sum[i], -__fmul_rn(h.minimum_factor[i / 2], offsets[i]));
            acc[i] = __fmaf_rn(i % 2 ? scale.y : scale.x, value, acc[i]);
        }
    }
};

// Q4_K's tile with a fifth bit of each weight.
struct TileQ5K {
    static constexpr u32 BYTES = 2880;
    static constexpr u32 HIGH = 2048, SCALES = 2560, FACTORS = 2816;
    using Sum = int;
    using Head = TileQ4K::Head;
    __device__ static __forceinline__ Head head(const u8* tile, u32 lane) {
        return TileQ4K::head(tile, lane, SCALES, FACTORS);
    }
    // Bit `operand` of each byte, counted over the eight operands of a pair of groups.
    __device__ static __forceinline__ void operands(const u8* tile, u32 lane, u32 pair, u32 (&a)[2][4]) {
        TileQ4K::operands(tile, lane, pair, a);
        const u32 word = *(const u32*)(tile + HIGH + pair * 128 + lane * 4);
#pragma unroll
        for (u32 i = 0; i < 8; i++) a[i / 4][i % 4] |= (i > 4 ? word >> (i - 4) : word << (4 - i)) & 0x10101010u;
    }
    __device__ static __forceinline__ void add(const Head& h, u32 pair, const u32 (&a)[2][4], uint4 b, int (&sum)[4]) {
        TileQ4K::add(h, pair, a, b, sum);
    }
    __device__ static __forceinline__ void finish(const Head& h, float2 scale, uint2 sums, const int (&sum)[4],
                                                  float (&acc)[4]) {
        TileQ4K::finish(h, scale, sums, sum, acc);
    }
};

// weight = factor * scale * (q - 32), a scale for 16 columns; the operands are 4 * (q - 32).
struct TileQ6K {
    static constexpr u32 BYTES = 3360;
    static constexpr u32 HIGH = 2048, SCALES = 3072, FACTORS = 3328;
    using Sum = int;

    struct Head {
        uint4 scales[2];  // sixteen signed bytes
        float factor[2];
    };
    __device__ static __forceinline__ Head head(const u8* tile, u32 lane) {
        Head h;
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            const u32 row = lane / 4 + half * 8;
            h.scales[half] = *(const uint4*)(tile + SCALES + row * 16);
            h.factor[half] = half_to_float(*(const u16*)(tile + FACTORS + row * 2)) * 0.25f;
        }
        return h;
    }
    // Bits 2i, 2i + 1 of each byte of a group's high word belong to its operand i.
    __device__ static __forceinline__ void operands(const u8* tile, u32 lane, u32 pair, u32 (&a)[2][4]) {
        const uint4 low = *(const uint4*)(tile + pair * 512 + lane * 16);
        const uint2 high = *(const uint2*)(tile + HIGH + pair * 256 + lane * 8);
        const u32 word[4] = {low.x, low.y, low.z, low.w};
#pragma unroll
        for (u32 i = 0; i < 8; i++) {
            const u32 nibbles = (i % 2 ? word[i / 2] >> 2 : word[i / 2] << 2) & 0x3C3C3C3Cu;
            a[i / 4][i % 4] = nibbles | ((i / 4 ? high.y : high.x) << (6 - i % 4 * 2) & 0xC0C0C0C0u);
        }
    }
    __device__ static __forceinline__ void add(const Head& h, u32 pair, const u32 (&a)[2][4], uint4 b, int (&sum)[4]) {
        const u32 words[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            int c[4];
            mma_s8(c, a[i / 2][i % 2 * 2], a[i / 2][i % 2 * 2 + 1], words[i]);
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                const int scale = signed_byte(word_of(h.scales[half], pair), i);
                sum[half * 2] += c[half * 2] * scale;
                sum[half * 2 + 1] += c[half * 2 + 1] * scale;
            }
        }
    }
    __device__ static __forceinline__ void finish(const Head& h, float2 scale, uint2, const int (&sum)[4], float (&acc)[4]) {
#pragma unroll
        for (u32 i = 0; i < 4; i++)
            acc[i] = __fmaf_rn(i % 2 ? scale.y : scale.x, __fmul_rn(h.factor[i / 2], (float)sum[i]), acc[i]);
    }
};

// weight = scale * q, a scale for 32 columns.
struct TileQ80 {
    static constexpr u32 BYTES = 4352;
    static constexpr u32 SCALES = 4096;
    using Sum = float;

    struct Head {
        uint4 scales[2];  // eight f16
    };
    __device__ static __forceinline__ Head head(const u8* tile, u32 lane) {
        Head h;
#pragma unroll
        for (u32 half = 0; half < 2; half++) h.scales[half] = *(const uint4*)(tile + SCALES + (lane / 4 + half * 8) * 16);
        return h;
    }
    __device__ static __forceinline__ void operands(const u8* tile, u32 lane, u32 pair, u32 (&a)[2][4]) {
#pragma unroll
        for (u32 i = 0; i < 2; i++) {
            const uint4 words = *(const uint4*)(tile + (pair * 2 + i) * 512 + lane * 16);
            a[i][0] = words.x, a[i][1] = words.y, a[i][2] = words.z, a[i][3] = words.w;
        }
    }
    __device__ static __forceinline__ void add(const Head& h, u32 pair, const u32 (&a)[2][4], uint4 b, float (&sum)[4]) {
        const u32 words[4] = {b.x, b.y, b.z, b.w};
#pragma unroll
        for (u32 i = 0; i < 2; i++) {
            int c[4];
            mma_s8(c, a[i], words[i * 2], words[i * 2 + 1]);
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                const float scale = half_to_float((u16)(word_of(h.scales[half], pair) >> (i * 16)));
                sum[half * 2] = __fmaf_rn(scale, (float)c[half * 2], sum[half * 2]);
                sum[half * 2 + 1] = __fmaf_rn(scale, (float)c[half * 2 + 1], sum[half * 2 + 1]);
            }
        }
    }
    __device__ static __forceinline__ void finish(const Head&, float2 scale, uint2, const float (&sum)[4], float (&acc)[4]) {
#pragma unroll
        for (u32 i = 0; i < 4; i++) acc[i] = __fmaf_rn(i % 2 ? scale.y : scale.x, sum[i], acc[i]);
    }
};

// Weights as they are, with activations in bf16. Tiles of 64 columns, in four products' operands.
struct TileBF16 {
    static constexpr u32 BYTES = 2048;
};

__host__ __device__ __forceinline__ u32 tile_bytes(u32 format) {
    switch (format) {
        case FORMAT_Q8_0: return TileQ80::BYTES;
        case FORMAT_Q4_K: return TileQ4K::BYTES;
        case FORMAT_Q5_K: return TileQ5K::BYTES;
        case FORMAT_Q6_K: return TileQ6K::BYTES;
        default: return TileBF16::BYTES;
    }
}

__host__ __device__ __forceinline__ u32 tile_columns(u32 format) { return format == FORMAT_BF16 ? 64 : COLUMN_UNIT; }

// One weight: feature `row` of the tile, column `k` of it. For reading single rows; products use operands().
__device__ __forceinline__ float weight_at(u32 format, const u8* tile, u32 row, u32 k) {
    const u32 lane = row % 8 * 4 + k % 16 / 4, half = row / 8, product = k % 32 / 16, j = k % 4;
    const u32 group = k / 32, pair = k / 64, operand = product * 2 + half;
    // The byte of low nibbles, and this row's.
    auto nibble = [&] { return tile[pair * 512 + lane * 16 + group % 2 * 8 + product * 4 + j] >> (half * 4) & 15; };
    auto factor = [&](u32 at) { return half_to_float(*(const u16*)(tile + at)); };
    auto scaled = [&](u32 q, u32 scales, u32 factors) {
        const u8* row_scales = tile + scales + row * 16;
        return __fmaf_rn(factor(factors + row * 4), (float)(int)(row_scales[group] * q),
                         -__fmul_rn(factor(factors + row * 4 + 2), (float)row_scales[8 + group]));
    };
    switch (format) {
        case FORMAT_Q4_K: return scaled(nibble(), TileQ4K::SCALES, TileQ4K::FACTORS);
        case FORMAT_Q5_K: {
            u32 high = tile[TileQ5K::HIGH + pair * 128 + lane * 4 + j] >> (group % 2 * 4 + operand) & 1;
            return scaled(nibble() | high << 4, TileQ5K::SCALES, TileQ5K::FACTORS);
        }
        case FORMAT_Q6_K: {
            u32 high = tile[TileQ6K::HIGH + pair * 256 + lane * 8 + group % 2 * 4 + j] >> (operand * 2) & 3;
            // Two bits' complement of the six-bit number q - 32.
            int q = (int)(nibble() | (high ^ 2) << 4) - 32;
            int scale = (signed char)tile[TileQ6K::SCALES + row * 16 + group * 2 + product];
            return factor(TileQ6K::FACTORS + row * 2) * (float)(q * scale);
        }
        case FORMAT_Q8_0: {
            int q = (signed char)tile[group * 512 + lane * 16 + operand * 4 + j];
            return factor(TileQ80::SCALES + row * 16 + group * 2) * (float)q;
        }
        default: {
            const u8* at = tile + (group * 2 + product) * 512 + lane * 16 + (half + j / 2 * 2) * 4 + j % 2 * 2;
            return low_bf16(*(const u16*)at);
        }
    }
}
