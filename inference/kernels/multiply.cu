// Products of activations with quantized weights on the tensor cores, from 1 row to thousands.
//
// Weights are the 16-row operand, tokens the 8-column one, so a row (token) is a column of the product and its result
// does not depend on its neighbours. Every variant adds up in the same order: groups of 32 columns, then the fixed
// splits of the columns. So a token has the same bits in a decode step, a verified draft and a prompt.
//
// Variants by tokens a block: 8, 16, 32 and 128. The columns' splits are either blocks of their own, with partial sums to
// memory, or walked through by one block.
#include "activations.cuh"

constexpr u32 WARPS = 8;
constexpr u32 MAX_PARTS = 3;

// One matrix of those that read the same activations: query, key and value; gate and up.
struct Part {
    const u8* weights;  // [tiles][columns / tile columns] tiles
    u32 format;
    u32 tiles;
    u32 first_block;  // along grid y; each block does WARPS tiles
    u32 column;       // of the output
};

struct MultiplyParams {
    Part parts[MAX_PARTS];
    Activations x;
    float* out;  // [splits or 1][rows][stride]
    u32 part_count;
    u32 rows;
    u32 stride;
    u32 splits;
};

template <class TILE, int TOKEN_TILES, int STAGES, bool WALKS_SPLITS>
__device__ __forceinline__ void multiply_part(const MultiplyParams& p, const Part& part, u8* shared) {
    constexpr u32 TOKENS = TOKEN_TILES * 8, GROUPS = TILE::GROUPS;
    constexpr u32 WEIGHT_BYTES = WARPS * TILE::BYTES, VALUE_BYTES = GROUPS * TOKENS * GROUP * 2;
    constexpr u32 SUM_BYTES = TILE::NEEDS_SUMS ? GROUPS * TOKENS * 4 : 0;
    constexpr u32 STAGE_BYTES = WEIGHT_BYTES + VALUE_BYTES + SUM_BYTES;
    constexpr u32 STEPS_PER_UNIT = COLUMN_UNIT / (GROUPS * GROUP);

    // With many tokens a group is work enough by itself, and registers are short.
    constexpr int UNROLL = TOKEN_TILES >= 16 ? 1 : GROUPS;

    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const u32 tile = (blockIdx.y - part.first_block) * WARPS + warp;
    const bool active = tile < part.tiles;
    const u32 first_row = blockIdx.x * TOKENS;
    const u32 units = p.x.columns / COLUMN_UNIT, steps = units * STEPS_PER_UNIT;
    const u8* weights = part.weights + (u64)(active ? tile : 0) * steps * TILE::BYTES;

    auto boundary = [&](u32 split) { return (u32)((u64)split * units / p.splits) * STEPS_PER_UNIT; };
    u32 split = WALKS_SPLITS ? 0 : blockIdx.z;
    const u32 begin = boundary(split), end = WALKS_SPLITS ? steps : boundary(split + 1);
    u32 split_end = boundary(split + 1);

    auto load = [&](u32 step) {
        u8* stage = shared + (step - begin) % STAGES * STAGE_BYTES;
        if (active) {
            const u8* from = weights + (u64)step * TILE::BYTES;
            for (u32 i = lane; i < TILE::BYTES / 16; i += 32)
                copy_async_16(stage + warp * TILE::BYTES + i * 16, from + i * 16);
        }
        u8* values = stage + WEIGHT_BYTES;
        for (u32 i = threadIdx.x; i < VALUE_BYTES / 16; i += WARPS * 32) {
            u32 group = i / (TOKENS * 4), rest = i % (TOKENS * 4);
            u64 row = (u64)(step * GROUPS + group) * p.x.padded_rows + first_row;
            copy_async_16(values + i * 16, p.x.values + row * GROUP + rest * 8);
        }
        if constexpr (TILE::NEEDS_SUMS) {
            for (u32 i = threadIdx.x; i < SUM_BYTES / 16; i += WARPS * 32) {
                u32 group = i / (TOKENS / 4), rest = i % (TOKENS / 4);
                u64 row = (u64)(step * GROUPS + group) * p.x.padded_rows + first_row;
                copy_async_16(values + VALUE_BYTES + i * 16, p.x.sums + row + rest * 4);
            }
        }
    };

    float acc[TOKEN_TILES][4], total[WALKS_SPLITS ? TOKEN_TILES : 1][4];
#pragma unroll
    for (int n = 0; n < TOKEN_TILES; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) acc[n][i] = 0.0f;

    for (u32 i = 0; i + 1 < STAGES; i++) {
        if (begin + i < end) load(begin + i);
        copy_async_commit();
    }
    for (u32 step = begin; step < end; step++) {
        copy_async_wait<STAGES - 2>();
        __syncthreads();
        if (step + STAGES - 1 < end) load(step + STAGES - 1);
        copy_async_commit();

        if (active) {
            const u8* stage = shared + (step - begin) % STAGES * STAGE_BYTES;
            const u8* own = stage + warp * TILE::BYTES;
            const uint4* values = (const uint4*)(stage + WEIGHT_BYTES);
            const float* sums = (const float*)(stage + WEIGHT_BYTES + VALUE_BYTES);
            const typename TILE::Scales scales = TILE::scales(own, lane);
#pragma unroll UNROLL
            for (u32 group = 0; group < GROUPS; group++) {
                u32 a[2][4];
                TILE::fragments(own, lane, group, a);
                const typename TILE::Group scale = TILE::group(scales, group);
#pragma unroll
                for (int n = 0; n < TOKEN_TILES; n++) {
                    uint4 b = values[(group * TOKENS + n * 8) * 4 + lane];
                    float2 sum = make_float2(0.0f, 0.0f);
                    if (TILE::NEEDS_SUMS) sum = *(const float2*)(sums + group * TOKENS + n * 8 + lane % 4 * 2);
                    TILE::add(scale, a, b, sum, acc[n]);
                }
            }
        }
        if (WALKS_SPLITS && step + 1 == split_end) {
#pragma unroll
            for (int n = 0; n < TOKEN_TILES; n++)
#pragma unroll
                for (int i = 0; i < 4; i++) {
                    total[n][i] = split == 0 ? acc[n][i] : total[n][i] + acc[n][i];
                    acc[n][i] = 0.0f;
                }
            split++;
            split_end = boundary(split + 1);
        }
    }
    if (!active) return;
    const u32 feature = part.column + tile * TILE_FEATURES + lane / 4;
    float* out = p.out + (u64)(WALKS_SPLITS ? 0 : blockIdx.z) * p.rows * p.stride;
#pragma unroll
    for (int n = 0; n < TOKEN_TILES; n++) {
        const float(&result)[4] = WALKS_SPLITS ? total[WALKS_SPLITS ? n : 0] : acc[n];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            u32 row = first_row + n * 8 + lane % 4 * 2 + i % 2;
            if (row < p.rows) out[(u64)row * p.stride + feature + i / 2 * 8] = result[i];
        }
    }
}

template <int TOKEN_TILES, int STAGES, bool WALKS_SPLITS>
__device__ __forceinline__ void multiply(const MultiplyParams& p) {
    SHARED_BYTES(shared);
    u32 index = 0;
    while (index + 1 < p.part_count && blockIdx.y >= p.parts[index + 1].first_block) index++;
    const Part part = p.parts[index];
    switch (part.format) {
        case FORMAT_Q4_K: return multiply_part<TileQ4K, TOKEN_TILES, STAGES, WALKS_SPLITS>(p, part, shared);
        case FORMAT_Q5_K: return multiply_part<TileQ5K, TOKEN_TILES, STAGES, WALKS_SPLITS>(p, part, shared);
        case FORMAT_Q6_K: return multiply_part<TileQ6K, TOKEN_TILES, STAGES, WALKS_SPLITS>(p, part, shared);
        case FORMAT_Q8_0: return multiply_part<TileQ80, TOKEN_TILES, STAGES, WALKS_SPLITS>(p, part, shared);
        default: return multiply_part<TileBF16, TOKEN_TILES, STAGES, WALKS_SPLITS>(p, part, shared);
    }
}

// The numbers of stages are repeated in `inference/src/cuda/multiply.rs`, which sizes the shared memory.
extern "C" __global__ void __launch_bounds__(WARPS * 32, 1) multiply_8_small(const __grid_constant__ MultiplyParams p) {
    multiply<1, 2, false>(p);
}
extern "C" __global__ void __launch_bounds__(WARPS * 32, 3) multiply_8(const __grid_constant__ MultiplyParams p) {
    multiply<1, 3, false>(p);
}
extern "C" __global__ void __launch_bounds__(WARPS * 32, 2) multiply_16(const __grid_constant__ MultiplyParams p) {
    multiply<2, 3, false>(p);
}
extern "C" __global__ void __launch_bounds__(WARPS * 32, 1) multiply_32(const __grid_constant__ MultiplyParams p) {
    multiply<4, 3, false>(p);
}
extern "C" __global__ void __launch_bounds__(WARPS * 32, 1) multiply_128(const __grid_constant__ MultiplyParams p) {
    multiply<16, 2, false>(p);
}
extern "C" __global__ void __launch_bounds__(WARPS * 32, 1) multiply_128_walk(const __grid_constant__ MultiplyParams p) {
    multiply<16, 2, true>(p);
}
