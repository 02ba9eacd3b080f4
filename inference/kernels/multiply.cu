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
#include "gate.cuh"
#include "products.cuh"

// Warps of a block, where the launch does not say otherwise.
constexpr u32 WARPS = 8;

// TOKENS a block; RING bytes of weights a warp, as whole stages; CHUNK columns' steps of activations held at once, twice.
template <int TOKENS_, int RING, int CHUNK_, bool WALKS_SPLITS_>
struct Variant {
    static constexpr u32 TOKENS = TOKENS_, CHUNK = CHUNK_;
    static constexpr bool WALKS_SPLITS = WALKS_SPLITS_;
    // With many tokens a warp has two tiles of features and half of the tokens, so that activations are read less often.
    static constexpr u32 TILES = TOKENS == 128 ? 2 : 1;
    static constexpr u32 TOKEN_TILES = TOKENS / 8 / TILES;
    template <class TILE>
    static constexpr int FITTING = RING / (int)TILE::BYTES;
    template <class TILE>
    static constexpr int STAGES = FITTING<TILE> < 2 ? 2 : FITTING<TILE> > CHUNK_ + 1 ? CHUNK_ + 1 : FITTING<TILE>;
};

// What a step of columns reads of the activations, and its products.
template <class TILE>
struct Step {
    static constexpr u32 COLUMNS = 256;
    // Of eight tokens.
    static constexpr u32 X_BYTES = UNIT_BYTES;

    __device__ static __forceinline__ const u8* x_of(const Activations& x, u32 step, u32 first_row) {
        return x.units + step * x_stride(x) + (u64)(first_row / UNIT_ROWS) * UNIT_BYTES;
    }
    // From a step to the next.
    __device__ static __forceinline__ u64 x_stride(const Activations& x) { return (u64)(x.padded_rows / UNIT_ROWS) * UNIT_BYTES; }

    template <u32 TOKENS>
    __device__ static __forceinline__ void load_x(SharedAddress to, const u8* from, const Activations&) {
        constexpr u32 COPIES = TOKENS / UNIT_ROWS * UNIT_BYTES / 16;
        const u32 at = threadIdx.x * 16;
#pragma unroll
        for (u32 i = 0; i < COPIES; i += WARPS * 32)
            if (threadIdx.x < min(WARPS * 32, COPIES - i)) copy_async_16(to + at + i * 16, from + at + i * 16);
    }

    // `tiles` is the warp's first tile, the next one lies TILE_STRIDE after it.
    template <class VARIANT, u32 TILE_STRIDE>
    __device__ static __forceinline__ void add(const u8* tiles, const u8* x, u32 lane,
                                               float (&acc)[VARIANT::TILES][VARIANT::TOKEN_TILES][4]) {
        constexpr u32 TILES = VARIANT::TILES, TOKEN_TILES = VARIANT::TOKEN_TILES;
        typename TILE::Head head[TILES];
        typename TILE::Sum sum[TILES][TOKEN_TILES][4];
#pragma unroll
        for (u32 f = 0; f < TILES; f++) {
            head[f] = TILE::head(tiles + f * TILE_STRIDE, lane);
#pragma unroll
            for (u32 n = 0; n < TOKEN_TILES; n++)
#pragma unroll
                for (u32 i = 0; i < 4; i++) sum[f][n][i] = 0;
        }
#pragma unroll
        for (u32 pair = 0; pair < 4; pair++) {
            u32 a[TILES][2][4];
#pragma unroll
            for (u32 f = 0; f < TILES; f++) TILE::operands(tiles + f * TILE_STRIDE, lane, pair, a[f]);
#pragma unroll
            for (u32 n = 0; n < TOKEN_TILES; n++) {
                const uint4 b = *(const uint4*)(x + n * UNIT_BYTES + pair * UNIT_ROWS * PAIR + lane * 16);
#pragma unroll
                for (u32 f = 0; f < TILES; f++) TILE::add(head[f], pair, a[f], b, sum[f][n]);
            }
        }
#pragma unroll
        for (u32 n = 0; n < TOKEN_TILES; n++) {
            const float2 scale = *(const float2*)(x + n * UNIT_BYTES + UNIT_SCALES + lane % 4 * 8);
            const uint2 sums = *(const uint2*)(x + n * UNIT_BYTES + UNIT_SUMS + lane * 8);
#pragma unroll
            for (u32 f = 0; f < TILES; f++) TILE::finish(head[f], scale, sums, sum[f][n], acc[f][n]);
        }
    }
};

template <>
struct Step<TileBF16> {
    static constexpr u32 COLUMNS = 64;
    static constexpr u32 X_BYTES = 8 * 128;

    __device__ static __forceinline__ const u8* x_of(const Activations& x, u32 step, u32 first_row) {
        return (const u8*)x.halves + step * x_stride(x) + (u64)first_row * GROUP * 2;
    }
    __device__ static __forceinline__ u64 x_stride(const Activations& x) { return (u64)x.padded_rows * GROUP * 4; }

    // In shared memory [eight tokens][group][token][32].
    template <u32 TOKENS>
    __device__ static __forceinline__ void load_x(SharedAddress to, const u8* from, const Activations& x) {
        for (u32 i = threadIdx.x; i < TOKENS * 8; i += blockDim.x) {
            const u32 tile = i / 64, group = i / 32 % 2, rest = i % 32;
            copy_async_16(to + i * 16, from + (u64)group * x.padded_rows * GROUP * 2 + (tile * 32 + rest) * 16);
        }
    }

    // `tiles` is the warp's first tile, the next one lies TILE_STRIDE after it.
    template <class VARIANT, u32 TILE_STRIDE>
    __device__ static __forceinline__ void add(const u8* tiles, const u8* x, u32 lane,
                                               float (&acc)[VARIANT::TILES][VARIANT::TOKEN_TILES][4]) {
#pragma unroll
        for (u32 group = 0; group < 2; group++)
#pragma unroll
            for (u32 f = 0; f < VARIANT::TILES; f++) {
                const u8* tile = tiles + f * TILE_STRIDE + group * 1024 + lane * 16;
                const uint4 low = *(const uint4*)tile, high = *(const uint4*)(tile + 512);
                const u32 first[4] = {low.x, low.y, low.z, low.w}, second[4] = {high.x, high.y, high.z, high.w};
#pragma unroll
                for (u32 n = 0; n < VARIANT::TOKEN_TILES; n++) {
                    const uint4 b = *(const uint4*)(x + n * X_BYTES + group * 512 + lane * 16);
                    mma_bf16(acc[f][n], first, b.x, b.y);
                    mma_bf16(acc[f][n], second, b.z, b.w);
                }
            }
    }
};

// Activations that lie in memory, and come through shared memory in chunks.
struct StoredInput {
    static constexpr bool IS_MADE = false;
};

// Activations that each block makes for itself of gate and up, for the columns of its piece.
struct GatedInput {
    static constexpr bool IS_MADE = true;
    const GateInput& input;

    __device__ __forceinline__ void make(u8* xs, u32 first_unit, u32 units, u32 rows) const {
        for (u32 i = threadIdx.x / 32; i < units * rows; i += blockDim.x / 32) {
            const u32 unit = i % units, row = i / units;
            float v[8];
            input.read(row, first_unit + unit, v);
            store_in_unit(xs + unit * UNIT_BYTES, row, false, v);
        }
        __syncthreads();
    }
};

template <class TILE, class VARIANT, class SOURCE>
__device__ __forceinline__ void multiply_part(const MultiplyParams& p, const Part& part, const SOURCE& source,
                                              u8* shared) {
    using STEP = Step<TILE>;
    constexpr u32 TOKENS = VARIANT::TOKENS, TILES = VARIANT::TILES, TOKEN_TILES = VARIANT::TOKEN_TILES;
    constexpr u32 CHUNK = VARIANT::CHUNK, STEPS_PER_UNIT = COLUMN_UNIT / STEP::COLUMNS;
    constexpr int STAGES = VARIANT::template STAGES<TILE>;
    constexpr u32 RING_BYTES = STAGES * TILE::BYTES;
    constexpr u32 X_BYTES = TOKENS / 8 * STEP::X_BYTES, XS_BYTES = 2 * CHUNK * X_BYTES;
    static_assert(TILES == 1 || CHUNK == 1, "warps that share tiles meet at every step");
    static_assert(!SOURCE::IS_MADE || (TOKENS == UNIT_ROWS && STEPS_PER_UNIT == 1 && !VARIANT::WALKS_SPLITS));

    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    const u32 first_tile = (blockIdx.y - part.first_block) * warps, first_row = blockIdx.x * TOKENS;
    const u32 units = p.x.columns / COLUMN_UNIT, steps = units * STEPS_PER_UNIT;
    // What this warp loads, and what it computes: its own tile, or two tiles for half of the tokens.
    const u32 own_tile = first_tile + warp;
    const u32 slot = TILES == 1 ? warp : warp * TILES % WARPS, token_tile = TILES == 1 ? 0 : warp * TILES / WARPS * TOKEN_TILES;
    const bool loads = own_tile < part.tiles, computes = first_tile + slot < part.tiles;

    auto boundary = [&](u32 split) { return split * units / p.splits * STEPS_PER_UNIT; };
    u32 split = VARIANT::WALKS_SPLITS ? 0 : blockIdx.z;
    const u32 begin = boundary(split), end = VARIANT::WALKS_SPLITS ? steps : boundary(split + 1);
    u32 split_end = boundary(split + 1);

    u8* xs = shared + warps * RING_BYTES;
    float4* totals = (float4*)(xs + XS_BYTES) + threadIdx.x;
    // Where the next stage goes and comes from.
    u32 weights_at = 0, weights_left = loads ? end - begin : 0;
    const SharedAddress ring_to = shared_address(shared) + warp * RING_BYTES + lane * 16;
    const u8* weights = part.weights + ((u64)(loads ? own_tile : 0) * steps + begin) * TILE::BYTES + lane * 16;
    // Weights of few rows, read by one block. Keys, values and instructions then stay in the device's cache from step to step.
    const CachePolicy policy = read_once();
    auto load_weights = [&] {
        constexpr u32 COPIES = TILE::BYTES / 16;
        if (weights_left > 0) {
            weights_left--;
#pragma unroll
            for (u32 i = 0; i < COPIES; i += 32)
                if (i + 32 <= COPIES || lane < COPIES - i) {
                    if constexpr (TOKENS <= 32)
                        copy_async_16(ring_to + weights_at + i * 16, weights + i * 16, policy);
                    else
                        copy_async_16(ring_to + weights_at + i * 16, weights + i * 16);
                }
        }
        weights += TILE::BYTES;
        weights_at = weights_at == RING_BYTES - TILE::BYTES ? 0 : weights_at + TILE::BYTES;
    };
    u32 x_at = 0, x_left = end - begin;
    const SharedAddress xs_to = shared_address(xs);
    const u8* x_from = STEP::x_of(p.x, begin, first_row);
    const u64 x_stride = STEP::x_stride(p.x);
    auto load_chunk = [&] {
#pragma unroll
        for (u32 i = 0; i < CHUNK; i++)
            if (i < x_left) STEP::template load_x<TOKENS>(xs_to + x_at + i * X_BYTES, x_from + i * x_stride, p.x);
        x_left -= min(x_left, CHUNK);
        x_from += CHUNK * x_stride;
        x_at = CHUNK * X_BYTES - x_at;
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

#pragma unroll
    for (u32 i = 0; i + 1 < STAGES; i++) {
        load_weights();
        copy_async_commit();
    }
    let_next_kernel_start();
    wait_for_previous_kernel();
    if constexpr (SOURCE::IS_MADE) {
        source.make(xs, begin, end - begin, p.rows);
    } else {
        load_chunk();
        copy_async_commit();
        copy_async_wait<0>();
    }
    // From here on a group of copies is committed at each step. Those for a step were committed STAGES - 1 steps before
    // it, activations for a chunk CHUNK steps before it.
    static_assert(CHUNK + 1 >= STAGES);
    u32 stage = 0, x = 0, chunk_step = 0;
    for (u32 step = begin; step < end; step++) {
        copy_async_wait<STAGES - 2>();
        if (!SOURCE::IS_MADE && chunk_step == 0) {
            __syncthreads();
            load_chunk();
        } else {
            warp_barrier();
        }
        chunk_step = chunk_step == CHUNK - 1 ? 0 : chunk_step + 1;
        load_weights();
        copy_async_commit();

        if (computes)
            STEP::template add<VARIANT, RING_BYTES>(shared + slot * RING_BYTES + stage,
                                                    xs + x + token_tile * STEP::X_BYTES, lane, acc);
        stage = stage == RING_BYTES - TILE::BYTES ? 0 : stage + TILE::BYTES;
        x = !SOURCE::IS_MADE && x == XS_BYTES - X_BYTES ? 0 : x + X_BYTES;
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
                const u32 row = first_row + (token_tile + n) * 8 + lane % 4 * 2 + i % 2;
                if (row < p.rows) out[(u64)row * p.stride + feature + i / 2 * 8] = result[i];
            }
        }
    }
}

template <class VARIANT, class SOURCE>
__device__ __forceinline__ void multiply(const MultiplyParams& p, const SOURCE& source) {
    SHARED_BYTES(shared);
    u32 index = 0;
    while (index + 1 < p.part_count && blockIdx.y >= p.parts[index + 1].first_block) index++;
    const Part part = p.parts[index];
    switch (part.format) {
        case FORMAT_Q4_K: return multiply_part<TileQ4K, VARIANT>(p, part, source, shared);
        case FORMAT_Q5_K: return multiply_part<TileQ5K, VARIANT>(p, part, source, shared);
        case FORMAT_Q6_K: return multiply_part<TileQ6K, VARIANT>(p, part, source, shared);
        case FORMAT_Q8_0: return multiply_part<TileQ80, VARIANT>(p, part, source, shared);
        default:
            // Their activations are not made here.
            if constexpr (!SOURCE::IS_MADE) multiply_part<TileBF16, VARIANT>(p, part, source, shared);
    }
}

struct GatedParams {
    MultiplyParams products;
    GateInput input;
};

// The most warps of a block in decode steps: nine fill a device of 132 multiprocessors evenly with a 7B model's layers.
constexpr u32 MOST_WARPS = 9;

// `inference/src/cuda/multiply.rs` has the same numbers, and sizes the shared memory.
extern "C" __global__ void __launch_bounds__(WARPS * 32, 1) multiply_8_small(const __grid_constant__ MultiplyParams p) {
    multiply<Variant<8, 5 << 10, 1, false>>(p, StoredInput());
}
extern "C" __global__ void __launch_bounds__(MOST_WARPS * 32, 2) multiply_8(const __grid_constant__ MultiplyParams p) {
    multiply<Variant<8, 10 << 10, 4, false>>(p, StoredInput());
}
extern "C" __global__ void __launch_bounds__(MOST_WARPS * 32, 2)
    multiply_8_gated(const __grid_constant__ GatedParams p) {
    multiply<Variant<8, 10 << 10, 4, false>>(p.products, GatedInput{p.input});
}
extern "C" __global__ void __launch_bounds__(MOST_WARPS * 32, 2) multiply_16(const __grid_constant__ MultiplyParams p) {
    multiply<Variant<16, 9728, 3, false>>(p, StoredInput());
}
extern "C" __global__ void __launch_bounds__(WARPS * 32, 2) multiply_32(const __grid_constant__ MultiplyParams p) {
    multiply<Variant<32, 7296, 2, false>>(p, StoredInput());
}
extern "C" __global__ void __launch_bounds__(WARPS * 32, 1) multiply_128(const __grid_constant__ MultiplyParams p) {
    multiply<Variant<128, 7296, 1, false>>(p, StoredInput());
}
extern "C" __global__ void __launch_bounds__(WARPS * 32, 1) multiply_128_walk(const __grid_constant__ MultiplyParams p) {
    multiply<Variant<128, 7296, 1, true>>(p, StoredInput());
}
