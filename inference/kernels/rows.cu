// What is done to each row between two products: embedding, normalization, gate, packing.
#include "activations.cuh"

struct EmbedParams {
    const u8* weights;
    const u32* tokens;  // [rows]
    float* residual;    // [rows][columns]
    u32 format;
    u32 columns;
};

extern "C" __global__ void __launch_bounds__(256) embed(const __grid_constant__ EmbedParams p) {
    u32 row = blockIdx.y, k = blockIdx.x * 256 + threadIdx.x;
    if (k >= p.columns) return;
    u32 token = p.tokens[row], tile_columns = tile_groups(p.format) * GROUP;
    u32 padded = (p.columns + COLUMN_UNIT - 1) / COLUMN_UNIT * COLUMN_UNIT;
    u64 tile = (u64)(token / TILE_FEATURES) * (padded / tile_columns) + k / tile_columns;
    p.residual[(u64)row * p.columns + k] =
        weight_at(p.format, p.weights + tile * tile_bytes(p.format), token % TILE_FEATURES, k % tile_columns);
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

constexpr u32 NORMALIZE_THREADS = 512;

// residual += update; out = residual / rms(residual) * weight. One block a row, the row in shared memory.
extern "C" __global__ void __launch_bounds__(NORMALIZE_THREADS)
    normalize(const __grid_constant__ NormalizeParams p) {
    SHARED_BYTES(shared);
    __shared__ float squares[NORMALIZE_THREADS / 32];
    float4* kept = (float4*)shared;
    const u32 row = p.wanted ? p.wanted[blockIdx.x] : blockIdx.x, quads = p.columns / 4;
    float4* residual = (float4*)(p.residual + (u64)row * p.columns);
    float square = 0.0f;
    for (u32 i = threadIdx.x; i < quads; i += NORMALIZE_THREADS) {
        float4 v = residual[i];
        if (p.update.splits > 0) {
            float4 u = read_partial(p.update, row, i * 4);
            v.x += u.x, v.y += u.y, v.z += u.z, v.w += u.w;
            residual[i] = v;
        }
        kept[i] = v;
        square = __fmaf_rn(v.x, v.x, __fmaf_rn(v.y, v.y, __fmaf_rn(v.z, v.z, __fmaf_rn(v.w, v.w, square))));
    }
    for (u32 distance = 16; distance > 0; distance /= 2) square += __shfl_xor_sync(FULL_WARP, square, distance);
    if (threadIdx.x % 32 == 0) squares[threadIdx.x / 32] = square;
    __syncthreads();
    float sum = 0.0f;
    for (u32 i = 0; i < NORMALIZE_THREADS / 32; i++) sum += squares[i];
    const float scale = 1.0f / sqrtf(sum / (float)p.columns + p.epsilon);
    for (u32 i = threadIdx.x; i < p.out.columns / 4; i += NORMALIZE_THREADS) {
        float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (i < quads) {
            float4 w = ((const float4*)p.weight)[i];
            v = kept[i];
            v.x *= scale * w.x, v.y *= scale * w.y, v.z *= scale * w.z, v.w *= scale * w.w;
        }
        store_activations(p.out, blockIdx.x, i * 4, v);
    }
}

struct GateParams {
    Partial products;  // gate in the first columns, up from `up_column` on
    Activations out;
    u32 up_column;
    u32 columns;
};

// out = silu(gate) * up.
extern "C" __global__ void __launch_bounds__(256) gate(const __grid_constant__ GateParams p) {
    u32 row = blockIdx.y, column = (blockIdx.x * 256 + threadIdx.x) * 4;
    // The padded width is a multiple of 256 columns: eight lanes that store a group together are all inside.
    if (column >= p.out.columns) return;
    float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (column < p.columns) {
        float4 g = read_partial(p.products, row, column), u = read_partial(p.products, row, p.up_column + column);
        auto silu = [](float x) { return x / (1.0f + expf(-x)); };
        v = make_float4(silu(g.x) * u.x, silu(g.y) * u.y, silu(g.z) * u.z, silu(g.w) * u.w);
    }
    store_activations(p.out, row, column, v);
}

struct PackParams {
    const float* rows;  // [rows][columns]
    Activations out;
    u32 columns;
};

extern "C" __global__ void __launch_bounds__(256) pack(const __grid_constant__ PackParams p) {
    u32 row = blockIdx.y, column = (blockIdx.x * 256 + threadIdx.x) * 4;
    if (column >= p.out.columns) return;
    float4 v = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (column < p.columns) v = *(const float4*)(p.rows + (u64)row * p.columns + column);
    store_activations(p.out, row, column, v);
}
