// Weights as the kernels read them: tiles of 16 features, in the order of the tensor cores' fragments.
// `inference/src/cuda/tiles.rs` writes the tiles; its comments have the byte layout of each format.
#pragma once
#include "ptx.cuh"

enum Format : u32 { FORMAT_BF16 = 0, FORMAT_Q8_0 = 1, FORMAT_Q4_K = 2, FORMAT_Q5_K = 3, FORMAT_Q6_K = 4 };

constexpr u32 TILE_FEATURES = 16;
// Columns of a matrix are padded to a multiple of this.
constexpr u32 COLUMN_UNIT = 256;
// Columns with one scale; activations are stored and summed in groups of this many.
constexpr u32 GROUP = 32;

// Where column `k` of a group of 32 stands in a row of activations, and in a lane's share of a tile: lane t of four
// holds k = 4t..4t+3 for the group's first product of 16 columns, and 16+4t..16+4t+3 for its second.
__host__ __device__ __forceinline__ u32 fragment_position(u32 k) { return (k % 16 / 4) * 8 + k / 16 * 4 + k % 4; }

// A byte of `word` as a float, plus 2^23.
__device__ __forceinline__ float biased_byte(u32 word, u32 index) {
    return __uint_as_float(__byte_perm(word, 0x4B000000u, 0x7440u | index));
}
constexpr float BIAS = 8388608.0f;

// Word `index` of four, without an array that would have to live in memory.
__device__ __forceinline__ u32 word_of(uint4 v, u32 index) {
    return index & 2 ? (index & 1 ? v.w : v.z) : (index & 1 ? v.y : v.x);
}

// 0x43xx is a bf16 of 128 + xx for xx below 128, so a few low bits become a number by setting the others.
constexpr u32 PLUS_128 = 0x43004300u;

// Each format has: BYTES of a tile; GROUPS of 32 columns in it; Row, what a lane keeps of the scales of its rows g and
// g+8; fragments(), the weights of one group as two products' operands; add(), which scales the products into sums.

struct TileQ4K {
    static constexpr u32 BYTES = 2368, GROUPS = 8;
    static constexpr bool NEEDS_SUMS = true;
    static constexpr u32 SCALES = 2048, DELTAS = 2304;

    struct Scales {
        uint4 row[2];  // eight scales, eight minimums, one byte each
        float delta[2], minimum[2];
    };
    __device__ static __forceinline__ Scales scales(const u8* tile, u32 lane, u32 at, u32 deltas_at) {
        Scales s;
        for (u32 half = 0; half < 2; half++) {
            u32 row = lane / 4 + half * 8;
            s.row[half] = *(const uint4*)(tile + at + row * 16);
            u32 pair = *(const u32*)(tile + deltas_at + row * 4);
            s.delta[half] = half_to_float((u16)(pair & 0xffff));
            s.minimum[half] = half_to_float((u16)(pair >> 16));
        }
        return s;
    }
    __device__ static __forceinline__ Scales scales(const u8* tile, u32 lane) {
        return scales(tile, lane, SCALES, DELTAS);
    }
    // Nibble s and nibble s + 4 of a word are operand s.
    __device__ static __forceinline__ void fragments(const u8* tile, u32 lane, u32 group, u32 (&a)[2][4]) {
        uint2 words = *(const uint2*)(tile + group / 2 * 512 + lane * 16 + group % 2 * 8);
#pragma unroll
        for (u32 s = 0; s < 4; s++) {
            a[0][s] = (words.x >> (4 * s) & 0x000F000Fu) | PLUS_128;
            a[1][s] = (words.y >> (4 * s) & 0x000F000Fu) | PLUS_128;
        }
    }
    // weight = delta * scale * q - minimum * m, and the operands are q + 128: both constants multiply the sum of x.
    struct Group {
        float scale[2], offset[2];
    };
    __device__ static __forceinline__ Group group(const Scales& s, u32 group) {
        Group out;
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            u32 scale = group < 4 ? s.row[half].x : s.row[half].y, minimum = group < 4 ? s.row[half].z : s.row[half].w;
            out.scale[half] = (biased_byte(scale, group % 4) - BIAS) * s.delta[half];
            out.offset[half] =
                -__fmaf_rn(128.0f, out.scale[half], (biased_byte(minimum, group % 4) - BIAS) * s.minimum[half]);
        }
        return out;
    }
    __device__ static __forceinline__ void add(const Group& s, const u32 (&a)[2][4], uint4 b, float2 sum,
                                               float (&acc)[4]) {
        float c[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        mma_bf16(c, a[0], b.x, b.y);
        mma_bf16(c, a[1], b.z, b.w);
        acc[0] = __fmaf_rn(s.offset[0], sum.x, __fmaf_rn(s.scale[0], c[0], acc[0]));
        acc[1] = __fmaf_rn(s.offset[0], sum.y, __fmaf_rn(s.scale[0], c[1], acc[1]));
        acc[2] = __fmaf_rn(s.offset[1], sum.x, __fmaf_rn(s.scale[1], c[2], acc[2]));
        acc[3] = __fmaf_rn(s.offset[1], sum.y, __fmaf_rn(s.scale[1], c[3], acc[3]));
    }
};

// Q4_K's tile with a fifth bit of each weight.
struct TileQ5K {
    static constexpr u32 BYTES = 2880, GROUPS = 8;
    static constexpr bool NEEDS_SUMS = true;
    static constexpr u32 HIGH = 2048, SCALES = 2560, DELTAS = 2816;
    using Scales = TileQ4K::Scales;
    using Group = TileQ4K::Group;
    __device__ static __forceinline__ Scales scales(const u8* tile, u32 lane) {
        return TileQ4K::scales(tile, lane, SCALES, DELTAS);
    }
    __device__ static __forceinline__ Group group(const Scales& s, u32 group) { return TileQ4K::group(s, group); }
    __device__ static __forceinline__ void fragments(const u8* tile, u32 lane, u32 group, u32 (&a)[2][4]) {
        TileQ4K::fragments(tile, lane, group, a);
        // Bits b and b + 16 of a word, b = 8 * (group % 2) + 4 * product + operand, are the fifth bits of an operand.
        u32 word = *(const u32*)(tile + HIGH + lane * 16 + group / 2 * 4);
#pragma unroll
        for (u32 product = 0; product < 2; product++)
#pragma unroll
            for (u32 s = 0; s < 4; s++) {
                u32 bit = group % 2 * 8 + product * 4 + s;
                u32 moved = bit >= 4 ? word >> (bit - 4) : word << (4 - bit);
                a[product][s] |= moved & 0x00100010u;
            }
    }
    __device__ static __forceinline__ void add(const Group& s, const u32 (&a)[2][4], uint4 b, float2 sum,
                                               float (&acc)[4]) {
        TileQ4K::add(s, a, b, sum, acc);
    }
};

struct TileQ6K {
    static constexpr u32 BYTES = 3360, GROUPS = 8;
    static constexpr bool NEEDS_SUMS = false;
    static constexpr u32 HIGH = 2048, SCALES = 3072, DELTAS = 3328;

    struct Scales {
        uint4 row[2];  // sixteen scales, one byte each, plus 128
        float delta[2];
    };
    __device__ static __forceinline__ Scales scales(const u8* tile, u32 lane) {
        Scales s;
        for (u32 half = 0; half < 2; half++) {
            u32 row = lane / 4 + half * 8;
            s.row[half] = *(const uint4*)(tile + SCALES + row * 16);
            s.delta[half] = half_to_float(*(const u16*)(tile + DELTAS + row * 2));
        }
        return s;
    }
    __device__ static __forceinline__ void fragments(const u8* tile, u32 lane, u32 group, u32 (&a)[2][4]) {
        TileQ4K::fragments(tile, lane, group, a);
        // Bits p, p + 1 and p + 16, p + 17 of a word, p = 8 * product + 2 * operand, are an operand's high bits.
        u32 word = *(const u32*)(tile + HIGH + group / 4 * 512 + lane * 16 + group % 4 * 4);
#pragma unroll
        for (u32 product = 0; product < 2; product++)
#pragma unroll
            for (u32 s = 0; s < 4; s++) {
                u32 bit = product * 8 + s * 2;
                u32 moved = bit >= 4 ? word >> (bit - 4) : word << (4 - bit);
                // 128 + q becomes q - 32, exactly: times one, minus 160.
                a[product][s] = fma_bf16x2(a[product][s] | (moved & 0x00300030u), 0x3F803F80u, 0xC320C320u);
            }
    }
    struct Group {
        float scale[2][2];  // [product][row half]
    };
    __device__ static __forceinline__ Group group(const Scales& s, u32 group) {
        Group out;
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
#pragma unroll
            for (u32 product = 0; product < 2; product++)
                out.scale[product][half] =
                    (biased_byte(word_of(s.row[half], group / 2), group % 2 * 2 + product) - (BIAS + 128.0f)) * s.delta[half];
        }
        return out;
    }
    __device__ static __forceinline__ void add(const Group& s, const u32 (&a)[2][4], uint4 b, float2, float (&acc)[4]) {
        float first[4] = {0.0f, 0.0f, 0.0f, 0.0f}, second[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        mma_bf16(first, a[0], b.x, b.y);
        mma_bf16(second, a[1], b.z, b.w);
#pragma unroll
        for (u32 i = 0; i < 4; i++)
            acc[i] = __fmaf_rn(s.scale[1][i / 2], second[i], __fmaf_rn(s.scale[0][i / 2], first[i], acc[i]));
    }
};

struct TileQ80 {
    static constexpr u32 BYTES = 4352, GROUPS = 8;
    static constexpr bool NEEDS_SUMS = false;
    static constexpr u32 SCALES = 4096;

    struct Scales {
        uint4 row[2];  // eight f16
    };
    __device__ static __forceinline__ Scales scales(const u8* tile, u32 lane) {
        Scales s;
        for (u32 half = 0; half < 2; half++) s.row[half] = *(const uint4*)(tile + SCALES + (lane / 4 + half * 8) * 16);
        return s;
    }
    __device__ static __forceinline__ void fragments(const u8* tile, u32 lane, u32 group, u32 (&a)[2][4]) {
        uint4 bytes = *(const uint4*)(tile + group * 512 + lane * 16);
        // [product][row half]; bytes are plus 128.
        const u32 words[2][2] = {{bytes.x, bytes.y}, {bytes.z, bytes.w}};
#pragma unroll
        for (u32 product = 0; product < 2; product++)
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                float v[4];
#pragma unroll
                for (u32 j = 0; j < 4; j++) v[j] = biased_byte(words[product][half], j) - (BIAS + 128.0f);
                a[product][half] = pack_bf16x2(v[0], v[1]);
                a[product][half + 2] = pack_bf16x2(v[2], v[3]);
            }
    }
    struct Group {
        float scale[2];
    };
    __device__ static __forceinline__ Group group(const Scales& s, u32 group) {
        Group out;
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            out.scale[half] = half_to_float((u16)(word_of(s.row[half], group / 2) >> (group % 2 * 16)));
        }
        return out;
    }
    __device__ static __forceinline__ void add(const Group& s, const u32 (&a)[2][4], uint4 b, float2, float (&acc)[4]) {
        float c[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        mma_bf16(c, a[0], b.x, b.y);
        mma_bf16(c, a[1], b.z, b.w);
#pragma unroll
        for (u32 i = 0; i < 4; i++) acc[i] = __fmaf_rn(s.scale[i / 2], c[i], acc[i]);
    }
};

struct TileBF16 {
    static constexpr u32 BYTES = 2048, GROUPS = 2;
    static constexpr bool NEEDS_SUMS = false;
    struct Scales {};
    struct Group {};
    __device__ static __forceinline__ Scales scales(const u8*, u32) { return {}; }
    __device__ static __forceinline__ Group group(const Scales&, u32) { return {}; }
    __device__ static __forceinline__ void fragments(const u8* tile, u32 lane, u32 group, u32 (&a)[2][4]) {
#pragma unroll
        for (u32 product = 0; product < 2; product++) {
            uint4 words = *(const uint4*)(tile + (group * 2 + product) * 512 + lane * 16);
            a[product][0] = words.x, a[product][1] = words.y, a[product][2] = words.z, a[product][3] = words.w;
        }
    }
    __device__ static __forceinline__ void add(const Group&, const u32 (&a)[2][4], uint4 b, float2, float (&acc)[4]) {
        mma_bf16(acc, a[0], b.x, b.y);
        mma_bf16(acc, a[1], b.z, b.w);
    }
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

__host__ __device__ __forceinline__ u32 tile_groups(u32 format) { return format == FORMAT_BF16 ? 2 : 8; }

// One weight: feature `row` of the tile, column `k` of it. For reading single rows; products use fragments().
template <class TILE>
__device__ __forceinline__ float weight_of(const u8* tile, u32 row, u32 k) {
    u32 half = row / 8, t = k % 16 / 4, product = k % 32 / 16, j = k % 4, group = k / 32;
    u32 lane = row % 8 * 4 + t;
    u32 a[2][4];
    TILE::fragments(tile, lane, group, a);
    u32 pair = a[product][half + j / 2 * 2];
    return j % 2 ? high_bf16(pair) : low_bf16(pair);
}

__device__ __forceinline__ float weight_at(u32 format, const u8* tile, u32 row, u32 k) {
    u32 lane = row % 8 * 4, half = row / 8, group = k / 32;
    switch (format) {
        case FORMAT_Q4_K: {
            auto g = TileQ4K::group(TileQ4K::scales(tile, lane), group);
            return __fmaf_rn(g.scale[half], weight_of<TileQ4K>(tile, row, k), g.offset[half]);
        }
        case FORMAT_Q5_K: {
            auto g = TileQ5K::group(TileQ5K::scales(tile, lane), group);
            return __fmaf_rn(g.scale[half], weight_of<TileQ5K>(tile, row, k), g.offset[half]);
        }
        case FORMAT_Q6_K: {
            auto g = TileQ6K::group(TileQ6K::scales(tile, lane), group);
            return g.scale[k % 32 / 16][half] * weight_of<TileQ6K>(tile, row, k);
        }
        case FORMAT_Q8_0: {
            auto g = TileQ80::group(TileQ80::scales(tile, lane), group);
            return g.scale[half] * weight_of<TileQ80>(tile, row, k);
        }
        default: return weight_of<TileBF16>(tile, row, k);
    }
}
