// Products of activations with quantized weights on the tensor cores, from 1 row to thousands.
//
// Weights are the 16-row operand, tokens the 8-column one, so a row (token) is a column of the product and its result
// does not depend on its neighbours. k-quants are summed exactly, in integers, over the 256 columns that share a scale of
// the activations; from there on every variant adds up in the same order: units of 256 columns, then the fixed splits of
// the columns. So a token has the same bits in a decode step, a verified draft and a prompt.
//
// Variants by tokens a block: 8, 16, 32 and 128. The columns' splits are either blocks of their own, with partial sums to
// memory, or walked through by one block. Weights come through a ring of stages in shared memory that each warp fills
// for itself; it is filled before the kernel waits for the one that makes the activations.
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

// TOKENS a block; RING bytes of weights, as whole stages; CHUNK columns' steps of activations held at once, twice.
template <int TOKENS_, int RING, int CHUNK_, bool WALKS_SPLITS_>
struct Variant {
    static constexpr u32 TOKENS = TOKENS_, CHUNK = CHUNK_;
    static constexpr bool WALKS_SPLITS = WALKS_SPLITS_;
    // With many tokens a warp has two tiles of features and half of the tokens, so that activations are read less often.
    static constexpr u32 TILES = TOKENS == 128 ? 2 : 1;
    static constexpr u32 TOKEN_TILES = TOKENS / 8 / TILES;
    template <class TILE>
    static constexpr int FITTING = RING / (int)(WARPS * TILE::BYTES);
    template <class TILE>
    static constexpr int STAGES = FITTING<TILE> < 2 ? 2 : FITTING<TILE> > CHUNK_ + 1 ? CHUNK_ + 1 : FITTING<TILE>;
};

// Both operands of one step of columns, and the sums of the columns since the last whole unit.
template <class TILE>
struct Step {
    static constexpr u32 COLUMNS = 256;
    // Of activations a token.
    static constexpr u32 X_BYTES = 256 + 4 + 32;

    template <u32 TOKENS>
    __device__ static __forceinline__ void load_x(u8* to, const Activations& x, u32 step, u32 first_row) {
        for (u32 i = threadIdx.x; i < TOKENS * 16; i += WARPS * 32) {
            const u32 pair = i / (TOKENS * 4), rest = i % (TOKENS * 4);
            copy_async_16(to + i * 16, x.values + ((u64)(step * 4 + pair) * x.padded_rows + first_row) * PAIR + rest * 16);
        }
        const u64 at = (u64)step * x.padded_rows + first_row;
        // Scales and sums by the last threads, which have copied the least.
        const u32 index = WARPS * 32 - 1 - threadIdx.x;
        if (index < TOKENS * 2) copy_async_16(to + TOKENS * 260 + index * 16, (const u8*)(x.sums + at * 16) + index * 16);
        if (index < TOKENS / 4) copy_async_16(to + TOKENS * 256 + index * 16, x.scales + at + index * 4);
    }

    template <class VARIANT>
    __device__ static __forceinline__ void add(const u8* tiles, const u8* x, u32 lane, u32 token,
                                               float (&acc)[VARIANT::TILES][VARIANT::TOKEN_TILES][4]) {
        constexpr u32 TILES = VARIANT::TILES, TOKEN_TILES = VARIANT::TOKEN_TILES, TOKENS = VARIANT::TOKENS;
        typename TILE::Head head[TILES];
        typename TILE::Sum sum[TILES][TOKEN_TILES][4];
#pragma unroll
        for (u32 f = 0; f < TILES; f++) {
            head[f] = TILE::head(tiles + f * TILE::BYTES, lane);
#pragma unroll
            for (u32 n = 0; n < TOKEN_TILES; n++)
#pragma unroll
                for (u32 i = 0; i < 4; i++) sum[f][n][i] = 0;
        }
#pragma unroll
        for (u32 pair = 0; pair < 4; pair++) {
            u32 a[TILES][2][4];
#pragma unroll
            for (u32 f = 0; f < TILES; f++) TILE::operands(tiles + f * TILE::BYTES, lane, pair, a[f]);
#pragma unroll
            for (u32 n = 0; n < TOKEN_TILES; n++) {
                const uint4 b = *(const uint4*)(x + (pair * TOKENS + token + n * 8) * PAIR + lane * 16);
#pragma unroll
                for (u32 f = 0; f < TILES; f++) TILE::add(head[f], pair, a[f], b, sum[f][n]);
            }
        }
#pragma unroll
        for (u32 n = 0; n < TOKEN_TILES; n++) {
            const u32 first = token + n * 8;
            const float2 scale = *(const float2*)(x + TOKENS * 256 + (first + lane % 4 * 2) * 4);
            const uint2 sums = *(const uint2*)(x + TOKENS * 260 + first * 32 + lane * 8);
#pragma unroll
            for (u32 f = 0; f < TILES; f++) TILE::finish(head[f], scale, sums, sum[f][n], acc[f][n]);
        }
    }
};

template <>
struct Step<TileBF16> {
    static constexpr u32 COLUMNS = 64;
    static constexpr u32 X_BYTES = 128;

    template <u32 TOKENS>
    __device__ static __forceinline__ void load_x(u8* to, const Activations& x, u32 step, u32 first_row) {
        for (u32 i = threadIdx.x; i < TOKENS * 8; i += WARPS * 32) {
            const u32 group = i / (TOKENS * 4), rest = i % (TOKENS * 4);
            copy_async_16(to + i * 16, x.halves + ((u64)(step * 2 + group) * x.padded_rows + first_row) * GROUP + rest * 8);
        }
    }

    template <class VARIANT>
    __device__ static __forceinline__ void add(const u8* tiles, const u8* x, u32 lane, u32 token,
                                               float (&acc)[VARIANT::TILES][VARIANT::TOKEN_TILES][4]) {
#pragma unroll
        for (u32 group = 0; group < 2; group++)
#pragma unroll
            for (u32 f = 0; f < VARIANT::TILES; f++) {
                const u8* tile = tiles + f * TileBF16::BYTES + group * 1024 + lane * 16;
                const uint4 low = *(const uint4*)tile, high = *(const uint4*)(tile + 512);
                const u32 first[4] = {low.x, low.y, low.z, low.w}, second[4] = {high.x, high.y, high.z, high.w};
#pragma unroll
                for (u32 n = 0; n < VARIANT::TOKEN_TILES; n++) {
                    const uint4 b = *(const uint4*)(x + (group * VARIANT::TOKENS + token + n * 8) * 64 + lane * 16);
                    mma_bf16(acc[f][n], first, b.x, b.y);
                    mma_bf16(acc[f][n], second, b.z, b.w);
                }
            }
    }
};

template <class TILE, class VARIANT>
__device__ __forceinline__ void multiply_part(const MultiplyParams& p, const Part& part, u8* shared) {
    using STEP = Step<TILE>;
    constexpr u32 TOKENS = VARIANT::TOKENS, TILES = VARIANT::TILES, TOKEN_TILES = VARIANT::TOKEN_TILES;
    constexpr u32 CHUNK = VARIANT::CHUNK, STEPS_PER_UNIT = COLUMN_UNIT / STEP::COLUMNS;
    constexpr int STAGES = VARIANT::template STAGES<TILE>;
    constexpr u32 STAGE_BYTES = WARPS * TILE::BYTES, X_BYTES = TOKENS * STEP::X_BYTES;
    static_assert(TILES == 1 || CHUNK == 1, "warps that share tiles meet at every step");

    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const u32 first_tile = (blockIdx.y - part.first_block) * WARPS, first_row = blockIdx.x * TOKENS;
    const u32 units = p.x.columns / COLUMN_UNIT, steps = units * STEPS_PER_UNIT;
    // What this warp loads, and what it computes: its own tile, or two tiles for half of the tokens.
    const u32 own_tile = first_tile + warp, slot = warp * TILES % WARPS, token = warp * TILES / WARPS * (TOKENS / 2);
    const bool loads = own_tile < part.tiles, computes = first_tile + slot < part.tiles;
    const u8* weights = part.weights + (u64)(loads ? own_tile : 0) * steps * TILE::BYTES;
    u8* ring = shared;
    u8* xs = shared + STAGES * STAGE_BYTES;
    float4* totals = (float4*)(xs + 2 * CHUNK * X_BYTES) + threadIdx.x;

    auto boundary = [&](u32 split) { return (u32)((u64)split * units / p.splits) * STEPS_PER_UNIT; };
    u32 split = VARIANT::WALKS_SPLITS ? 0 : blockIdx.z;
    const u32 begin = boundary(split), end = VARIANT::WALKS_SPLITS ? steps : boundary(split + 1);
    u32 split_end = boundary(split + 1);

    auto load_weights = [&](u32 step) {
        if (!loads || step >= end) return;
        u8* to = ring + (step - begin) % STAGES * STAGE_BYTES + warp * TILE::BYTES;
        const u8* from = weights + (u64)step * TILE::BYTES;
#pragma unroll
        for (u32 i = 0; i < (TILE::BYTES / 16 + 31) / 32; i++)
            if (i * 32 + lane < TILE::BYTES / 16) copy_async_16(to + (i * 32 + lane) * 16, from + (i * 32 + lane) * 16);
    };
    auto load_x = [&](u32 chunk) {
        for (u32 i = 0; i < CHUNK; i++) {
            const u32 step = begin + chunk * CHUNK + i;
            if (step < end) STEP::template load_x<TOKENS>(xs + (chunk % 2 * CHUNK + i) * X_BYTES, p.x, step, first_row);
        }
    };

    float acc[TILES][TOKEN_TILES][4];
    auto clear = [&] {
#pragma unroll
        for (u32 f = 0; f < TILES; f++)
#pragma unroll
            for (u32 n = 0; n < TOKEN_TILES; n++)
#pragma unroll
                for (u32 i = 0; i < 4; i++) acc[f][n][i] = 0.0f;
    };
    clear();

    for (u32 i = 0; i + 1 < STAGES; i++) {
        load_weights(begin + i);
        copy_async_commit();
    }
    let_next_kernel_start();
    wait_for_previous_kernel();
    load_x(0);
    copy_async_commit();
    copy_async_wait<0>();
    // From here on a group of copies is committed at each step. Those for a step were committed STAGES - 1 steps before
    // it, activations for a chunk CHUNK steps before it.
    static_assert(CHUNK + 1 >= STAGES);
    for (u32 step = begin; step < end; step++) {
        const u32 index = step - begin;
        if (index > 0) copy_async_wait<STAGES - 2>();
        if (index % CHUNK == 0) {
            __syncthreads();
            load_x(index / CHUNK + 1);
        } else {
            warp_barrier();
        }
        load_weights(step + STAGES - 1);
        copy_async_commit();

        if (computes)
            STEP::template add<VARIANT>(ring + index % STAGES * STAGE_BYTES + slot * TILE::BYTES,
                                        xs + index % (2 * CHUNK) * X_BYTES, lane, token, acc);
        if (VARIANT::WALKS_SPLITS && step + 1 == split_end) {
#pragma unroll
            for (u32 f = 0; f < TILES; f++)
#pragma unroll
                for (u32 n = 0; n < TOKEN_TILES; n++) {
                    float(&a)[4] = acc[f][n];
                    float4* total = totals + (f * TOKEN_TILES + n) * WARPS * 32;
                    float4 sum = make_float4(a[0], a[1], a[2], a[3]);
                    if (split > 0) {
                        const float4 t = *total;
                        sum = make_float4(t.x + a[0], t.y + a[1], t.z + a[2], t.w + a[3]);
                    }
                    *total = sum;
                }
            clear();
            split++;
            split_end = boundary(split + 1);
        }
    }
    if (!computes) return;
    float* out = p.out + (u64)(VARIANT::WALKS_SPLITS ? 0 : blockIdx.z) * p.rows * p.stride;
#pragma unroll
    for (u32 f = 0; f < TILES; f++) {
        if (first_tile + slot + f >= part.tiles) continue;
        const u32 feature = part.column + (first_tile + slot + f) * TILE_FEATURES + lane / 4;
#pragma unroll
        for (u32 n = 0; n < TOKEN_TILES; n++) {
            float result[4] = {acc[f][n][0], acc[f][n][1], acc[f][n][2], acc[f][n][3]};
            if (VARIANT::WALKS_SPLITS) {
                const float4 t = totals[(f * TOKEN_TILES + n) * WARPS * 32];
                result[0] = t.x, result[1] = t.y, result[2] = t.z, result[3] = t.w;
            }
#pragma unroll
            for (u32 i = 0; i < 4; i++) {
                const u32 row = first_row + token + n * 8 + lane % 4 * 2 + i % 2;
                if (row < p.rows) out[(u64)row * p.stride + feature + i / 2 * 8] = result[i];
            }
        }
    }
}

template <class VARIANT>
__device__ __forceinline__ void multiply(const MultiplyParams& p) {
    SHARED_BYTES(shared);
    u32 index = 0;
    while (index + 1 < p.part_count && blockIdx.y >= p.parts[index + 1].first_block) index++;
    const Part part = p.parts[index];
    switch (part.format) {
        case FORMAT_Q4_K: return multiply_part<TileQ4K, VARIANT>(p, part, shared);
        case FORMAT_Q5_K: return multiply_part<TileQ5K, VARIANT>(p, part, shared);
        case FORMAT_Q6_K: return multiply_part<TileQ6K, VARIANT>(p, part, shared);
        case FORMAT_Q8_0: return multiply_part<TileQ80, VARIANT>(p, part, shared);
        default: return multiply_part<TileBF16, VARIANT>(p, part, shared);
    }
}

// `inference/src/cuda/multiply.rs` has the same numbers, and sizes the shared memory.
extern "C" __global__ void __launch_bounds__(WARPS * 32, 1) multiply_8_small(const __grid_constant__ MultiplyParams p) {
    multiply<Variant<8, 40 << 10, 1, false>>(p);
}
extern "C" __global__ void __launch_bounds__(WARPS * 32, 2) multiply_8(const __grid_constant__ MultiplyParams p) {
    multiply<Variant<8, 96 << 10, 4, false>>(p);
}
extern "C" __global__ void __launch_bounds__(WARPS * 32, 2) multiply_16(const __grid_constant__ MultiplyParams p) {
    multiply<Variant<16, 76 << 10, 3, false>>(p);
}
extern "C" __global__ void __launch_bounds__(WARPS * 32, 2) multiply_32(const __grid_constant__ MultiplyParams p) {
    multiply<Variant<32, 57 << 10, 2, false>>(p);
}
extern "C" __global__ void __launch_bounds__(WARPS * 32, 1) multiply_128(const __grid_constant__ MultiplyParams p) {
    multiply<Variant<128, 57 << 10, 1, false>>(p);
}
extern "C" __global__ void __launch_bounds__(WARPS * 32, 1) multiply_128_walk(const __grid_constant__ MultiplyParams p) {
    multiply<Variant<128, 57 << 10, 1, true>>(p);
}
