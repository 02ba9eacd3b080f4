// SwiGLU's elementwise part: a kernel of its own where there are many rows, and in the product that reads it where there
// are few.
#pragma once
#include "activations.cuh"

// How a product left gate and up. They are rounded in either case, so the bits do not depend on it.
enum GateStorage {
    FLOATS,  // in pieces
    HALVES,  // in one, as bf16
};

struct GateInput {
    Partial products;  // gate in the first columns, up from `up_column` on
    u32 up_column;     // a multiple of 8
    u32 columns;       // a multiple of 4

    // silu(gate) * up of columns `unit * 256` + 8 * lane and on, zeros beyond the matrix's.
    template <GateStorage STORAGE>
    __device__ __forceinline__ void read(u32 row, u32 unit, float (&out)[8]) const {
        const u32 column = unit * COLUMN_UNIT + threadIdx.x % 32 * 8;
        // Columns beyond the matrix's read its last ones.
        uint4 gates, ups;
        if constexpr (STORAGE == HALVES) {
            // Rows are padded to whole tiles of features.
            const u16* at = (const u16*)products.values + (u64)row * products.stride + min(column, (columns - 1) / 8 * 8);
            gates = *(const uint4*)at, ups = *(const uint4*)(at + up_column);
        } else {
            const u32 low = min(column, columns - 4), high = min(column + 4, columns - 4);
            const float* from = products.values + (u64)row * products.stride;
            const float* const at[4] = {from + low, from + high, from + up_column + low, from + up_column + high};
            float4 v[4];
            read_pieces<2>(products, at, v);
            gates = rounded(v[0], v[1]), ups = rounded(v[2], v[3]);
        }
        const u32 g[4] = {gates.x, gates.y, gates.z, gates.w}, u[4] = {ups.x, ups.y, ups.z, ups.w};
#pragma unroll
        for (u32 i = 0; i < 8; i++) {
            const float gate = i % 2 ? high_bf16(g[i / 2]) : low_bf16(g[i / 2]);
            const float up = i % 2 ? high_bf16(u[i / 2]) : low_bf16(u[i / 2]);
            out[i] = column + i < columns ? __fdiv_rn(gate, 1.0f + expf(-gate)) * up : 0.0f;
        }
    }

    __device__ static __forceinline__ uint4 rounded(float4 low, float4 high) {
        return make_uint4(pack_bf16x2(low.x, low.y), pack_bf16x2(low.z, low.w), pack_bf16x2(high.x, high.y),
                          pack_bf16x2(high.z, high.w));
    }
};
