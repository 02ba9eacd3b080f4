// Activations as the products read them: signed bytes with a scale for 256 columns, as the k-quants' arithmetic on the
// CPU has them too, and the sum of each 32 for weights with an offset. Weights that are not quantized take bf16.
#pragma once
#include "tiles.cuh"

// Eight rows of 256 columns: bytes `[pair of groups][row][64]` in fragment order, a scale a row, and the sums of the rows,
// 16 bf16 each: group g's sum in two terms at g / 2 * 4 + g % 2 and 2 after it.
constexpr u32 UNIT_ROWS = 8;
constexpr u32 UNIT_SCALES = UNIT_ROWS * COLUMN_UNIT, UNIT_SUMS = UNIT_SCALES + UNIT_ROWS * 4;
constexpr u32 UNIT_BYTES = UNIT_SUMS + UNIT_ROWS * 32;

// What a reader's instructions take: one warp's, or a warpgroup's. Those want the bytes as `[16 columns][row][16]`, and the
// sums' first terms of all groups and rows before the second ones.
enum Layout : u32 { LAYOUT_FRAGMENTS = 0, LAYOUT_BLOCKS = 1 };

struct Activations {
    u8* units;    // [columns / 256][padded_rows / 8][UNIT_BYTES]
    u16* halves;  // bf16 [columns / 32][padded_rows][32], in fragment order; null where nobody reads them
    u32 padded_rows;
    u32 columns;  // padded to COLUMN_UNIT; those beyond the matrix's are zeros
    u32 layout;
};

__device__ __forceinline__ float warp_maximum(float value) {
    for (u32 distance = 16; distance > 0; distance /= 2)
        value = fmaxf(value, __shfl_xor_sync(FULL_WARP, value, distance));
    return value;
}

// Stores a row's 256 columns in a unit, in memory or shared memory: a whole warp, lane l with columns 8l..8l+7 of them.
__device__ __forceinline__ void store_in_unit(u8* unit, u32 row_in_unit, bool in_blocks, const float (&v)[8]) {
    const u32 lane = threadIdx.x % 32, quarter = lane % 4;
    float largest = 0.0f;
#pragma unroll
    for (u32 i = 0; i < 8; i++) largest = fmaxf(largest, fabsf(v[i]));
    largest = warp_maximum(largest);
    const float inverse = largest > 0.0f ? __fdiv_rn(127.0f, largest) : 0.0f;
    int sum = 0;
    u32 words[2] = {0, 0};
#pragma unroll
    for (u32 i = 0; i < 8; i++) {
        const int q = __float2int_rn(v[i] * inverse);
        sum += q;
        words[i / 4] |= (u32)(q & 255) << (i % 4 * 8);
    }
    sum += __shfl_xor_sync(FULL_WARP, sum, 1);
    sum += __shfl_xor_sync(FULL_WARP, sum, 2);
    // Words 2q and 2q + 1 of the group's eight: word w is (t = w % 4) of product w / 4.
    if (in_blocks) {
        *(uint2*)(unit + (lane / 2 * UNIT_ROWS + row_in_unit) * 16 + lane % 2 * 8) = make_uint2(words[0], words[1]);
    } else {
        u8* to = unit + (lane / 8 * UNIT_ROWS + row_in_unit) * PAIR + lane % 8 / 4 * 8 + quarter / 2 * 4 + quarter % 2 * 32;
        *(u32*)to = words[0];
        *(u32*)(to + 16) = words[1];
    }
    if (lane == 0) *(float*)(unit + UNIT_SCALES + row_in_unit * 4) = __fdiv_rn(largest, 127.0f);
    if (quarter == 0) {
        const int high = (sum + 16) & ~31;
        u16* sums = (u16*)(unit + UNIT_SUMS) + row_in_unit * (in_blocks ? 8 : 16) +
                    (in_blocks ? lane / 4 : lane / 8 * 4 + lane / 4 % 2);
        sums[0] = (u16)(__float_as_uint((float)high) >> 16);
        sums[in_blocks ? UNIT_ROWS * 8 : 2] = (u16)(__float_as_uint((float)(sum - high)) >> 16);
    }
}

// Stores 256 columns from `unit * 256` on, as `store_in_unit` does, and as bf16 where someone reads them.
__device__ __forceinline__ void store_activations(const Activations& x, u32 row, u32 unit, const float (&v)[8]) {
    const u32 lane = threadIdx.x % 32, quarter = lane % 4;
    u8* at = x.units + ((u64)unit * (x.padded_rows / UNIT_ROWS) + row / UNIT_ROWS) * UNIT_BYTES;
    store_in_unit(at, row % UNIT_ROWS, x.layout == LAYOUT_BLOCKS, v);
    if (x.halves) {
        // Column k of 32 stands at k % 16 / 4 * 8 + k / 16 * 4 + k % 4.
        u16* halves = x.halves + ((u64)(unit * 8 + lane / 4) * x.padded_rows + row) * GROUP;
        halves += quarter % 2 * 16 + quarter / 2 * 4;
        *(uint2*)halves = make_uint2(pack_bf16x2(v[0], v[1]), pack_bf16x2(v[2], v[3]));
        *(uint2*)(halves + 8) = make_uint2(pack_bf16x2(v[4], v[5]), pack_bf16x2(v[6], v[7]));
    }
}

// Results of a product whose columns were split among blocks: the sum of the pieces, always in the same order.
struct Partial {
    const float* values;  // [splits][rows][stride]
    u32 splits;
    u32 rows;
    u32 stride;
};

__device__ __forceinline__ void add_to(float4& sum, float4 v) { sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w; }
__device__ __forceinline__ void add_to(float& sum, float v) { sum += v; }

// COUNT values from `at` on, each the sum of its pieces. Pieces are read AT_ONCE together: each alone takes as long.
template <u32 AT_ONCE, u32 COUNT, class VALUE>
__device__ __forceinline__ void read_pieces(const Partial& p, const float* const (&at)[COUNT], VALUE (&sum)[COUNT]) {
    const u64 step = (u64)p.rows * p.stride;
    u64 offset = 0;
#pragma unroll
    for (u32 n = 0; n < COUNT; n++) sum[n] = VALUE();
    if (p.splits == 1) {
#pragma unroll
        for (u32 n = 0; n < COUNT; n++) add_to(sum[n], *(const VALUE*)at[n]);
        return;
    }
    for (u32 first = 0; first < p.splits; first += AT_ONCE) {
        VALUE v[AT_ONCE][COUNT];
#pragma unroll
        for (u32 i = 0; i < AT_ONCE; i++) {
#pragma unroll
            for (u32 n = 0; n < COUNT; n++) v[i][n] = first + i < p.splits ? *(const VALUE*)(at[n] + offset) : VALUE();
            offset += step;
        }
#pragma unroll
        for (u32 i = 0; i < AT_ONCE; i++)
#pragma unroll
            for (u32 n = 0; n < COUNT; n++) add_to(sum[n], v[i][n]);
    }
}
