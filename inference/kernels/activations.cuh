// Activations as the products read them: bf16, `[group of 32 columns][row][32]` with the columns of a group in fragment
// order, and the sum of each group for the formats whose weights have an offset.
#pragma once
#include "tiles.cuh"

struct Activations {
    u16* values;  // [columns / 32][padded_rows][32]
    float* sums;  // [columns / 32][padded_rows]
    u32 padded_rows;
    u32 columns;  // padded to COLUMN_UNIT; those beyond the matrix's are zeros
};

// Stores four columns from `column` (a multiple of 4) on. Eight consecutive lanes of a warp must store the eight
// quarters of one group together.
__device__ __forceinline__ void store_activations(const Activations& x, u32 row, u32 column, float4 v) {
    u32 group = column / GROUP;
    uint2 pairs = make_uint2(pack_bf16x2(v.x, v.y), pack_bf16x2(v.z, v.w));
    float sum = (low_bf16(pairs.x) + high_bf16(pairs.x)) + (low_bf16(pairs.y) + high_bf16(pairs.y));
    sum += __shfl_xor_sync(FULL_WARP, sum, 1);
    sum += __shfl_xor_sync(FULL_WARP, sum, 2);
    sum += __shfl_xor_sync(FULL_WARP, sum, 4);
    u64 at = (u64)group * x.padded_rows + row;
    *(uint2*)(x.values + at * GROUP + fragment_position(column % GROUP)) = pairs;
    if (column % GROUP == 0) x.sums[at] = sum;
}

// Results of a product whose columns were split among blocks: the sum of the pieces, always in the same order.
struct Partial {
    const float* values;  // [splits][rows][stride]
    u32 splits;
    u32 rows;
    u32 stride;
};

__device__ __forceinline__ float4 read_partial(const Partial& p, u32 row, u32 column) {
    const float* at = p.values + (u64)row * p.stride + column;
    float4 sum = *(const float4*)at;
    for (u32 split = 1; split < p.splits; split++) {
        at += (u64)p.rows * p.stride;
        float4 v = *(const float4*)at;
        sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
    }
    return sum;
}
