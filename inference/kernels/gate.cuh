// SwiGLU's elementwise part: a kernel of its own where there are many rows, and in the product that reads it where there
// are few.
#pragma once
#include "activations.cuh"

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
