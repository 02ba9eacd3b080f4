// What makes 256 columns of a row of activations out of the results before it: a kernel of its own where there are many
// rows, and the product that reads them where there are few.
#pragma once
#include "activations.cuh"

// Of attention: positions of a span, which is what partial results are kept for.
constexpr u32 PAGE = 16;
constexpr u32 CHUNK_PAGES = 4;
constexpr u32 CHUNK = PAGE * CHUNK_PAGES;
constexpr u32 SPAN_CHUNKS = 4;

struct GateInput {
    Partial products;  // gate in the first columns, up from `up_column` on
    u32 up_column;
    u32 columns;

    // silu(gate) * up of columns `unit * 256` + 8 * lane and on, zeros beyond the matrix's.
    __device__ __forceinline__ void read(u32 row, u32 unit, float (&out)[8]) const {
        const u32 column = unit * COLUMN_UNIT + threadIdx.x % 32 * 8;
        // Columns beyond the matrix's read its last ones; the width is a multiple of 4.
        const u32 low = min(column, columns - 4), high = min(column + 4, columns - 4);
        const float* gates = products.values + (u64)row * products.stride;
        const float* ups = gates + up_column;
        const float* const at[4] = {gates + low, gates + high, ups + low, ups + high};
        float4 v[4];
        read_pieces<2>(products, at, v);
        const float g[8] = {v[0].x, v[0].y, v[0].z, v[0].w, v[1].x, v[1].y, v[1].z, v[1].w};
        const float u[8] = {v[2].x, v[2].y, v[2].z, v[2].w, v[3].x, v[3].y, v[3].z, v[3].w};
#pragma unroll
        for (u32 i = 0; i < 8; i++) out[i] = column + i < columns ? __fdiv_rn(g[i], 1.0f + expf(-g[i])) * u[i] : 0.0f;
    }
};

// Running softmax: factors for what there is and for what is added.
__device__ __forceinline__ void merge_factors(float& maximum, float& total, float added_maximum, float added_total,
                                              float& keep, float& take) {
    const float next = fmaxf(maximum, added_maximum);
    keep = 1.0f, take = 0.0f;
    // Both see nothing: all is zero and stays it.
    if (next == MINUS_INFINITY) return;
    keep = exp2_fast(maximum - next);
    take = exp2_fast(added_maximum - next);
    total = __fmaf_rn(total, keep, __fmul_rn(added_total, take));
    maximum = next;
}
__device__ __forceinline__ float merged(float sum, float keep, float added, float take) {
    return __fmaf_rn(sum, keep, __fmul_rn(added, take));
}
__device__ __forceinline__ float4 merged(float4 sum, float keep, float4 added, float take) {
    return make_float4(merged(sum.x, keep, added.x, take), merged(sum.y, keep, added.y, take),
                       merged(sum.z, keep, added.z, take), merged(sum.w, keep, added.w, take));
}

// What `attend_chunks` left of each span.
struct SpanInput {
    const float* sums;      // [span][rows][heads][dimension]
    const float2* weights;  // [span][rows][heads]
    const u32* positions;   // [rows]
    u32 rows;
    u32 heads;
    u32 dimension;

    // The spans that a row sees, merged in order: columns `unit * 256` + 8 * lane and on. Spans are read AT_ONCE together.
    template <u32 AT_ONCE = 4>
    __device__ __forceinline__ void read(u32 row, u32 unit, float (&out)[8]) const {
        const u32 column = unit * COLUMN_UNIT + threadIdx.x % 32 * 8;
        const u32 span_count = positions[row] / (CHUNK * SPAN_CHUNKS) + 1;
        float4 v[2] = {make_float4(0.0f, 0.0f, 0.0f, 0.0f), make_float4(0.0f, 0.0f, 0.0f, 0.0f)};
        if (column < heads * dimension) {
            const u32 head = column / dimension;
            const u64 step = (u64)rows * heads, first = (u64)row * heads + head;
            const float* at_row = sums + first * dimension + column % dimension;
            float maximum = MINUS_INFINITY, total = 0.0f;
            for (u32 from = 0; from < span_count; from += AT_ONCE) {
                float2 weight[AT_ONCE];
                float4 s[AT_ONCE][2];
#pragma unroll
                for (u32 i = 0; i < AT_ONCE; i++)
                    if (from + i < span_count) {
                        weight[i] = weights[first + (from + i) * step];
                        const float4* at = (const float4*)(at_row + (from + i) * step * dimension);
                        s[i][0] = at[0], s[i][1] = at[1];
                    }
#pragma unroll
                for (u32 i = 0; i < AT_ONCE; i++)
                    if (from + i < span_count) {
                        float keep, take;
                        merge_factors(maximum, total, weight[i].x, weight[i].y, keep, take);
                        v[0] = merged(v[0], keep, s[i][0], take), v[1] = merged(v[1], keep, s[i][1], take);
                    }
            }
            const float scale = __fdiv_rn(1.0f, total);
            v[0].x *= scale, v[0].y *= scale, v[0].z *= scale, v[0].w *= scale;
            v[1].x *= scale, v[1].y *= scale, v[1].z *= scale, v[1].w *= scale;
        }
        out[0] = v[0].x, out[1] = v[0].y, out[2] = v[0].z, out[3] = v[0].w;
        out[4] = v[1].x, out[5] = v[1].y, out[6] = v[1].z, out[7] = v[1].w;
    }
};
