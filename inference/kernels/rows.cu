// What is done to each row between two products: embedding, normalization, gate, packing.
#include "gate.cuh"
#include "hopper.cuh"

struct EmbedParams {
    const u8* weights;
    const u32* tokens;  // [rows]
    float* residual;    // [rows][columns]
    u32 format;
    u32 columns;
};

extern "C" __global__ void __launch_bounds__(256) embed(const __grid_constant__ EmbedParams p) {
    let_next_kernel_start();
    wait_for_previous_kernel();
    const u32 row = blockIdx.y, k = blockIdx.x * 256 + threadIdx.x;
    if (k >= p.columns) return;
    const u32 token = p.tokens[row], width = tile_columns(p.format);
    const u32 padded = (p.columns + COLUMN_UNIT - 1) / COLUMN_UNIT * COLUMN_UNIT;
    const u64 tile = (u64)(token / TILE_FEATURES) * (padded / width) + k / width;
    p.residual[(u64)row * p.columns + k] =
        weight_at(p.format, p.weights + tile * tile_bytes(p.format), token % TILE_FEATURES, k % width);
}

struct NormalizeParams {
    float* residual;  // [rows of the step][columns]
    Partial update;   // added to the residual first; no splits for none
    const float* weight;
    const u32* wanted;  // null: every row; otherwise output row i is row wanted[i]
    Activations out;
    u32 columns;
    float epsilon;
};

// Squares are added up as by so many threads, whatever the block has.
constexpr u32 NORMALIZE_THREADS = 1024;

// residual += update; out = residual / rms(residual) * weight. One block a row, the row in shared memory.
template <u32 THREADS>
__device__ __forceinline__ void normalize_row(const NormalizeParams& p) {
    constexpr u32 SHARE = NORMALIZE_THREADS / THREADS;
    SHARED_BYTES(shared);
    __shared__ float squares[NORMALIZE_THREADS / 32];
    float4* kept = (float4*)shared;
    let_next_kernel_start();
    const u32 row = p.wanted ? p.wanted[blockIdx.x] : blockIdx.x, quads = p.columns / 4;
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (u32 i = threadIdx.x; i < quads; i += THREADS) prefetch((const float4*)p.weight + i);
    wait_for_previous_kernel();
    float4* residual = (float4*)(p.residual + (u64)row * p.columns);
    float square[SHARE];
#pragma unroll
    for (u32 s = 0; s < SHARE; s++) square[s] = 0.0f;
    for (u32 first = threadIdx.x; first < quads; first += NORMALIZE_THREADS)
#pragma unroll
        for (u32 s = 0; s < SHARE; s++) {
            const u32 i = first + s * THREADS;
            if (i >= quads) continue;
            float4 v = residual[i];
            if (p.update.splits > 0) {
                const float* const at[1] = {p.update.values + (u64)row * p.update.stride + i * 4};
                float4 update[1];
                read_pieces<9>(p.update, at, update);
                add_to(v, update[0]);
                residual[i] = v;
            }
            kept[i] = v;
            square[s] =
                __fmaf_rn(v.x, v.x, __fmaf_rn(v.y, v.y, __fmaf_rn(v.z, v.z, __fmaf_rn(v.w, v.w, square[s]))));
        }
#pragma unroll
    for (u32 s = 0; s < SHARE; s++) {
        for (u32 distance = 16; distance > 0; distance /= 2) square[s] += __shfl_xor_sync(FULL_WARP, square[s], distance);
        if (lane == 0) squares[warp + s * (THREADS / 32)] = square[s];
    }
    __syncthreads();
    float sum = squares[lane];
    for (u32 distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(FULL_WARP, sum, distance);
    const float scale = 1.0f / sqrtf(sum / (float)p.columns + p.epsilon);
    for (u32 unit = warp; unit < p.out.columns / COLUMN_UNIT; unit += THREADS / 32) {
        float v[8];
#pragma unroll
        for (u32 i = 0; i < 2; i++) {
            const u32 quad = unit * (COLUMN_UNIT / 4) + lane * 2 + i;
            float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f), w = x;
            if (quad < quads) x = kept[quad], w = ((const float4*)p.weight)[quad];
            v[i * 4] = x.x * (scale * w.x), v[i * 4 + 1] = x.y * (scale * w.y);
            v[i * 4 + 2] = x.z * (scale * w.z), v[i * 4 + 3] = x.w * (scale * w.w);
        }
        store_activations(p.out, blockIdx.x, unit, v);
    }
}

// For few rows, and for many.
extern "C" __global__ void __launch_bounds__(NORMALIZE_THREADS) normalize(const __grid_constant__ NormalizeParams p) {
    normalize_row<NORMALIZE_THREADS>(p);
}
extern "C" __global__ void __launch_bounds__(256) normalize_many(const __grid_constant__ NormalizeParams p) {
    normalize_row<256>(p);
}

#if __CUDA_ARCH__ >= 900
// Blocks of a row, and threads of each.
constexpr u32 ROW_BLOCKS = 8, SHARE_THREADS = NORMALIZE_THREADS / ROW_BLOCKS;

// The same for few rows on Hopper, a row spread over the blocks of a cluster: one multiprocessor takes longer to read the
// pieces than all the rest takes. Block r does what threads r * 128 and on of `normalize` would do.
extern "C" __global__ void __cluster_dims__(ROW_BLOCKS, 1, 1) __launch_bounds__(SHARE_THREADS)
    normalize_cluster(const __grid_constant__ NormalizeParams p) {
    constexpr u32 WARPS = SHARE_THREADS / 32, UNIT_QUADS = COLUMN_UNIT / 4;
    // Units of 1024 threads' quads, and of those a block's.
    constexpr u32 ROUND_UNITS = NORMALIZE_THREADS / UNIT_QUADS, OWN_UNITS = ROUND_UNITS / ROW_BLOCKS;
    SHARED_BYTES(shared);
    __shared__ float squares[NORMALIZE_THREADS / 32];
    __shared__ __align__(8) u64 squares_here;
    __shared__ __align__(16) u8 nowhere[WARPS][UNIT_BYTES];
    float4* kept = (float4*)shared;
    const Barrier barrier = shared_address(&squares_here);
    let_next_kernel_start();
    if (threadIdx.x == 0) {
        barrier_init(barrier, 1);
        barriers_ready();
        barrier_arrive_and_expect(barrier, sizeof squares);
    }
    // A block's shared memory may be written once it runs.
    cluster_arrive();
    const u32 rank = cluster_rank(), index = blockIdx.x / ROW_BLOCKS;
    const u32 row = p.wanted ? p.wanted[index] : index, quads = p.columns / 4, units = p.out.columns / COLUMN_UNIT;
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    auto unit_of = [&](u32 n) { return n / OWN_UNITS * ROUND_UNITS + rank * OWN_UNITS + n % OWN_UNITS; };
    float4* residual = (float4*)(p.residual + (u64)row * p.columns);
    // Once for nothing, so that the instructions are at hand when the row is there: fetching them takes as long as what they
    // do. The compiler must not write the rounds out, so it is not told where they begin.
#pragma unroll 1
    for (u32 round = p.columns == 0; round < 2; round++) {
        const bool is_real = round == 1;
        if (is_real) {
            // The first round is over: its row is read.
            __syncthreads();
            wait_for_previous_kernel();
        }
        float square = 0.0f;
        u32 place = threadIdx.x;
#pragma unroll 1
        for (u32 i = rank * SHARE_THREADS + threadIdx.x; i < quads; i += NORMALIZE_THREADS, place += SHARE_THREADS) {
            float4 v = residual[i];
            if (p.update.splits > 0) {
                const float* const at[1] = {p.update.values + (u64)row * p.update.stride + i * 4};
                float4 update[1];
                read_pieces<9>(p.update, at, update);
                add_to(v, update[0]);
                if (is_real) residual[i] = v;
            }
            kept[place] = v;
            square = __fmaf_rn(v.x, v.x, __fmaf_rn(v.y, v.y, __fmaf_rn(v.z, v.z, __fmaf_rn(v.w, v.w, square))));
        }
        for (u32 distance = 16; distance > 0; distance /= 2) square += __shfl_xor_sync(FULL_WARP, square, distance);
        if (is_real) {
            cluster_wait();
            if (lane < ROW_BLOCKS)
                store_async(in_block(shared_address(squares + rank * WARPS + warp), lane), square, in_block(barrier, lane));
            barrier_wait(barrier, 0);
        }
        __syncthreads();
        float sum = squares[lane];
        for (u32 distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(FULL_WARP, sum, distance);
        const float scale = 1.0f / sqrtf(sum / (float)p.columns + p.epsilon);
        Activations out = p.out;
        if (!is_real) out.units = nowhere[warp], out.halves = nullptr, out.padded_rows = UNIT_ROWS;
#pragma unroll 1
        for (u32 n = warp; unit_of(n) < units; n += WARPS) {
            const u32 quad = unit_of(n) * UNIT_QUADS + lane * 2;
            float v[8];
#pragma unroll
            for (u32 i = 0; i < 2; i++) {
                float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f), w = x;
                if (quad + i < quads) x = kept[n * UNIT_QUADS + lane * 2 + i], w = ((const float4*)p.weight)[quad + i];
                v[i * 4] = x.x * (scale * w.x), v[i * 4 + 1] = x.y * (scale * w.y);
                v[i * 4 + 2] = x.z * (scale * w.z), v[i * 4 + 3] = x.w * (scale * w.w);
            }
            store_activations(out, is_real ? index : 0, is_real ? unit_of(n) : 0, v);
        }
    }
}
#endif

// The kernels below do 256 columns of a row a warp.
constexpr u32 ROW_WARPS = 4;

struct GateParams {
    GateInput input;
    Activations out;
};

// out = silu(gate) * up.
extern "C" __global__ void __launch_bounds__(ROW_WARPS * 32) gate(const __grid_constant__ GateParams p) {
    let_next_kernel_start();
    wait_for_previous_kernel();
    const u32 row = blockIdx.y, unit = blockIdx.x * ROW_WARPS + threadIdx.x / 32;
    if (unit >= p.out.columns / COLUMN_UNIT) return;
    float out[8];
    p.input.read(row, unit, out);
    store_activations(p.out, row, unit, out);
}

struct PackParams {
    const float* rows;  // [rows][columns]
    Activations out;
    u32 columns;
};

extern "C" __global__ void __launch_bounds__(ROW_WARPS * 32) pack(const __grid_constant__ PackParams p) {
    let_next_kernel_start();
    wait_for_previous_kernel();
    const u32 row = blockIdx.y, unit = blockIdx.x * ROW_WARPS + threadIdx.x / 32;
    if (unit >= p.out.columns / COLUMN_UNIT) return;
    const u32 column = unit * COLUMN_UNIT + threadIdx.x % 32 * 8;
    float v[8] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
#pragma unroll
    for (u32 i = 0; i < 8; i += 4) {
        if (column + i >= p.columns) continue;
        const float4 quad = *(const float4*)(p.rows + (u64)row * p.columns + column + i);
        v[i] = quad.x, v[i + 1] = quad.y, v[i + 2] = quad.z, v[i + 3] = quad.w;
    }
    store_activations(p.out, row, unit, v);
}

struct GatherParams {
    const float* from;  // [pieces][rows][stride]
    float* to;          // [pieces][wanted rows][stride]
    const u32* wanted;
    u32 rows;
    u32 stride;
};

constexpr u32 GATHER_THREADS = 128;

// Row i of each piece becomes its row wanted[i].
extern "C" __global__ void __launch_bounds__(GATHER_THREADS) gather(const __grid_constant__ GatherParams p) {
    // In this order, unlike elsewhere: attention of the rows reads keys before it waits, and those of the kernel before this one
    // must be there then.
    wait_for_previous_kernel();
    let_next_kernel_start();
    const u32 quad = blockIdx.x * GATHER_THREADS + threadIdx.x;
    if (quad >= p.stride / 4) return;
    const u64 from = ((u64)blockIdx.z * p.rows + p.wanted[blockIdx.y]) * p.stride;
    const u64 to = ((u64)blockIdx.z * gridDim.y + blockIdx.y) * p.stride;
    ((float4*)(p.to + to))[quad] = ((const float4*)(p.from + from))[quad];
}

struct ChooseParams {
    const float* logits;  // [rows][stride]
    float4* shares;       // [rows][CHOOSE_BLOCKS]: best logit, its token's bits, sum of exponentials relative to it
    float2* choices;      // [rows]: the token's bits, its natural-log probability
    u32* finished;        // [rows], zeros: how many blocks of a row are done; zeros again at the end
    u32 stride;
    u32 vocabulary;
};

constexpr u32 CHOOSE_BLOCKS = 32, CHOOSE_THREADS = 512;

// The better of two candidates: the lowest token among equals.
__device__ __forceinline__ void take_better(float& best, u32& token, float other, u32 other_token) {
    if (other > best || (other == best && other_token < token)) best = other, token = other_token;
}

// The most likely token of each row and its log probability. Blocks take shares of the vocabulary; the last one of a row
// to finish adds the shares up, in their order.
extern "C" __global__ void __launch_bounds__(CHOOSE_THREADS) choose(const __grid_constant__ ChooseParams p) {
    __shared__ float bests[CHOOSE_THREADS / 32], sums[CHOOSE_THREADS / 32];
    __shared__ u32 tokens[CHOOSE_THREADS / 32], is_last;
    let_next_kernel_start();
    wait_for_previous_kernel();
    const u32 row = blockIdx.y, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const float* logits = p.logits + (u64)row * p.stride;
    const u32 share = (p.vocabulary + CHOOSE_BLOCKS - 1) / CHOOSE_BLOCKS;
    const u32 begin = min(blockIdx.x * share, p.vocabulary), end = min(begin + share, p.vocabulary);
    float best = MINUS_INFINITY;
    u32 token = 0xffffffffu;
    for (u32 i = begin + threadIdx.x; i < end; i += CHOOSE_THREADS) take_better(best, token, logits[i], i);
    auto over_warp = [&] {
        for (u32 distance = 16; distance > 0; distance /= 2) {
            const float other = __shfl_xor_sync(FULL_WARP, best, distance);
            const u32 other_token = __float_as_uint(__shfl_xor_sync(FULL_WARP, __uint_as_float(token), distance));
            take_better(best, token, other, other_token);
        }
    };
    over_warp();
    if (lane == 0) bests[warp] = best, tokens[warp] = token;
    __syncthreads();
    best = bests[lane % (CHOOSE_THREADS / 32)], token = tokens[lane % (CHOOSE_THREADS / 32)];
    over_warp();
    float sum = 0.0f;
    for (u32 i = begin + threadIdx.x; i < end; i += CHOOSE_THREADS) sum += expf(logits[i] - best);
    for (u32 distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(FULL_WARP, sum, distance);
    if (lane == 0) sums[warp] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        sum = 0.0f;
        for (u32 i = 0; i < CHOOSE_THREADS / 32; i++) sum += sums[i];
        p.shares[row * CHOOSE_BLOCKS + blockIdx.x] = make_float4(best, __uint_as_float(token), sum, 0.0f);
        memory_fence();
        is_last = atomic_add(p.finished + row, 1) == CHOOSE_BLOCKS - 1;
        memory_fence();
    }
    __syncthreads();
    if (!is_last || warp > 0) return;
    const float4 mine = read_uncached(p.shares + row * CHOOSE_BLOCKS + lane);
    best = mine.x, token = __float_as_uint(mine.y);
    over_warp();
    // An empty share has a sum of zero and a logit of minus infinity.
    sum = mine.z > 0.0f ? mine.z * expf(mine.x - best) : 0.0f;
    for (u32 distance = 16; distance > 0; distance /= 2) sum += __shfl_xor_sync(FULL_WARP, sum, distance);
    if (lane == 0) {
        p.choices[row] = make_float2(__uint_as_float(token), -logf(sum));
        p.finished[row] = 0;
    }
}
