// What the kernels of attention share: pages, tiles of queries, rotation, and how parts of a softmax are merged.
//
// Keys and values are attended in chunks of 64 positions, four of them a span. A chunk's softmax is complete in itself;
// chunks are merged into their span in order of position, then spans into the result; a row's result so depends on its own
// scores only, and every kernel has the same bits.
#pragma once
#include "pages.cuh"

constexpr u32 CHUNK_PAGES = 4;
constexpr u32 CHUNK = PAGE * CHUNK_PAGES;
constexpr u32 TILE_ITEMS = 16;
// Chunks of a span.
constexpr u32 SPAN_CHUNKS = 4;

struct RotateParams {
    Partial products;          // query, key, value side by side
    const float* bias;         // as the columns, or null
    const float2* turns;       // [rows][dimension / 2], what `turns` wrote
    const u32* positions;      // [rows]
    const u32* table_starts;   // [rows], where the row's block table begins in `tables`
    const u32* tables;
    u16* query;  // bf16 [rows][heads * dimension]
    u8* keys;    // this layer's plane
    u8* values;
    u32 heads;
    u32 kv_heads;
    u32 dimension;
    u32 adjacent;  // pairs are 2i and 2i+1; otherwise i and i + dimension / 2
};

// Sixteen (row, query head) items of one sequence that share a key-value head: item i is row i / group, member i % group.
struct ItemTile {
    u32 first_row;    // of the sequence's rows in the step
    u32 first_item;   // of this tile
    u32 items;        // of the sequence
    u32 start;        // position of the sequence's first row
    u32 table_start;  // in `tables`
};

struct AttendParams {
    const u16* query;
    const u8* keys;
    const u8* values;
    const ItemTile* tiles;
    const u32* tables;
    float* out;       // attend_chunks: [span][rows][heads][dimension]; attend_prompt: [rows][heads][dimension]
    float2* weights;  // attend_chunks: [span][rows][heads], a span's maximum and sum
    u32 tile_count;
    u32 rows;
    u32 heads;
    u32 kv_heads;
    u32 chunks;
    float scale;  // of scores, times log2(e)
};

template <int DIMENSION>
struct TileQuery {
    u32 fragments[DIMENSION / 16][4];
    u32 position[2], row[2], head[2];
    bool real[2];
    u32 last_page;
};

// The last page that a tile's items see.
__device__ __forceinline__ u32 last_page(const ItemTile& tile, u32 group) {
    const u32 last_item = min(tile.first_item + TILE_ITEMS, tile.items) - 1;
    return (tile.start + last_item / group) / PAGE;
}

// Where a tile's queries are.
enum Queries {
    FROM_MEMORY,  // as `rotate` left them
    FROM_SHARED,  // [item of the tile][dimension], as `rotate_tile` left them
};

// Sixteen bytes more than a query, so that the lanes of a load do not meet.
template <int DIMENSION>
constexpr u32 SHARED_QUERY = DIMENSION + 8;

// Lane t holds dimensions 8t..8t+7 of each 32, for queries and keys alike.
template <int DIMENSION>
__device__ __forceinline__ void load_fragments(const uint4* const (&rows)[2], TileQuery<DIMENSION>& q) {
    const u32 quarter = threadIdx.x % 4;
#pragma unroll
    for (u32 i = 0; i < DIMENSION / 32; i++) {
        const uint4 low = rows[0][i * 4 + quarter], high = rows[1][i * 4 + quarter];
        q.fragments[2 * i][0] = low.x, q.fragments[2 * i][1] = high.x;
        q.fragments[2 * i][2] = low.y, q.fragments[2 * i][3] = high.y;
        q.fragments[2 * i + 1][0] = low.z, q.fragments[2 * i + 1][1] = high.z;
        q.fragments[2 * i + 1][2] = low.w, q.fragments[2 * i + 1][3] = high.w;
    }
}

template <int DIMENSION, Queries QUERIES>
__device__ __forceinline__ void load_query(const AttendParams& p, const ItemTile& tile, u32 kv_head, const u16* shared,
                                           TileQuery<DIMENSION>& q) {
    const u32 lane = threadIdx.x % 32, group = p.heads / p.kv_heads;
    const uint4* rows[2];
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
        u32 item = tile.first_item + lane / 4 + half * 8;
        q.real[half] = item < tile.items;
        item = q.real[half] ? item : tile.items - 1;
        q.row[half] = tile.first_row + item / group;
        q.head[half] = kv_head * group + item % group;
        q.position[half] = tile.start + item / group;
        rows[half] = QUERIES == FROM_SHARED
                         ? (const uint4*)(shared + (item - tile.first_item) * SHARED_QUERY<DIMENSION>)
                         : (const uint4*)(p.query + ((u64)q.row[half] * p.heads + q.head[half]) * DIMENSION);
    }
    load_fragments<DIMENSION>(rows, q);
    q.last_page = last_page(tile, group);
}

// Where a head's page lies in a plane.
template <int DIMENSION, PageFormat FORMAT>
__device__ __forceinline__ u64 page_offset(u32 block, u32 kv_heads, u32 kv_head) {
    return ((u64)block * kv_heads + kv_head) * PAGE_BYTES<DIMENSION, FORMAT>;
}

// Where the pages of a chunk lie in a plane, the last one for those beyond it.
template <int DIMENSION, PageFormat FORMAT>
__device__ __forceinline__ void chunk_pages(const AttendParams& p, const u32* table, u32 kv_head, u32 chunk, u32 last,
                                            u64 (&pages)[CHUNK_PAGES]) {
#pragma unroll
    for (u32 page = 0; page < CHUNK_PAGES; page++)
        pages[page] = page_offset<DIMENSION, FORMAT>(table[min(chunk * CHUNK_PAGES + page, last)], p.kv_heads, kv_head);
}

// Where 16 bytes of a key lie in shared memory: they change places from token to token, so that the lanes that read one
// dimension of several tokens do not meet.
template <int DIMENSION, PageFormat FORMAT>
__device__ __forceinline__ u32 key_place(u32 token, u32 sixteen_bytes) {
    if (FORMAT == FP8_PAGES)
        return token * (DIMENSION / 16) +
               (DIMENSION >= 128 ? sixteen_bytes ^ token % 4 * 2 : DIMENSION >= 64 ? sixteen_bytes ^ token / 2 % 2 * 2 : sixteen_bytes);
    return token * (DIMENSION / 8) + (DIMENSION >= 64 ? sixteen_bytes ^ token % 2 * 4 : sixteen_bytes);
}
// The same for eight elements.
template <int DIMENSION, PageFormat FORMAT>
__device__ __forceinline__ u32 key_eight(u32 token, u32 eight) {
    if (FORMAT == FP8_PAGES) return key_place<DIMENSION, FORMAT>(token, eight / 2) * 2 + eight % 2;
    return key_place<DIMENSION, FORMAT>(token, eight);
}

// A tile's scores of a page: of its first and its last eight keys.
template <int DIMENSION>
__device__ __forceinline__ void page_scores(const AttendParams& p, const TileQuery<DIMENSION>& q,
                                            const uint4 (&keys)[DIMENSION / 16], u32 page, float (&scores)[2][4]) {
#pragma unroll
    for (u32 part = 0; part < 2; part++)
#pragma unroll
        for (u32 i = 0; i < 4; i++) scores[part][i] = 0.0f;
    if (page <= q.last_page)
#pragma unroll
        for (u32 i = 0; i < DIMENSION / 32; i++)
#pragma unroll
            for (u32 part = 0; part < 2; part++) {
                const uint4 b = keys[part * (DIMENSION / 32) + i];
                mma_bf16(scores[part], q.fragments[2 * i], b.x, b.y);
                mma_bf16(scores[part], q.fragments[2 * i + 1], b.z, b.w);
            }
#pragma unroll
    for (u32 part = 0; part < 2; part++)
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const u32 position = page * PAGE + part * 8 + threadIdx.x % 4 * 2 + i % 2;
            scores[part][i] = position <= q.position[i / 2] ? scores[part][i] * p.scale : MINUS_INFINITY;
        }
}

__device__ __forceinline__ void chunk_maximum(const float (&scores)[CHUNK_PAGES][2][4], float (&maximum)[2]) {
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
        float largest = MINUS_INFINITY;
#pragma unroll
        for (u32 part = 0; part < CHUNK_PAGES * 2; part++)
            largest = fmaxf(largest, fmaxf(scores[part / 2][part % 2][half * 2], scores[part / 2][part % 2][half * 2 + 1]));
        largest = fmaxf(largest, __shfl_xor_sync(FULL_WARP, largest, 1));
        maximum[half] = fmaxf(largest, __shfl_xor_sync(FULL_WARP, largest, 2));
    }
}

// The weights of a page's values, as an operand, of the scores of its first and last eight keys.
__device__ __forceinline__ void page_weights(const float (&first)[4], const float (&last)[4], const float (&maximum)[2],
                                             u32 (&weights)[4]) {
#pragma unroll
    for (u32 i = 0; i < 4; i++) {
        const float(&score)[4] = i < 2 ? first : last;
        const u32 half = i % 2;
        // A row that sees nothing of the chunk has only weights of zero.
        const float from = maximum[half] == MINUS_INFINITY ? 0.0f : maximum[half];
        weights[i] = pack_bf16x2(exp2_fast(score[half * 2] - from), exp2_fast(score[half * 2 + 1] - from));
    }
}

// A lane's share of the sum of a chunk's weights, page after page.
__device__ __forceinline__ void add_weights(const u32 (&weights)[4], float (&total)[2]) {
#pragma unroll
    for (u32 i = 0; i < 4; i++) total[i % 2] += low_bf16(weights[i]) + high_bf16(weights[i]);
}

__device__ __forceinline__ void chunk_total(float (&total)[2]) {
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
        total[half] += __shfl_xor_sync(FULL_WARP, total[half], 1);
        total[half] += __shfl_xor_sync(FULL_WARP, total[half], 2);
    }
}

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

// Eight dimensions of one row's head, rotated, of the sums that a product left in pieces: thread `part` of DIMENSION / 8.
// Pairs are either side by side, and the eight too, or lie in `v[0]` and `v[1]`, half a head apart.
template <int DIMENSION>
__device__ __forceinline__ void read_rotated(const RotateParams& p, u32 row, u32 head, u32 part, u32& first, u32& second,
                                             float4 (&v)[2]) {
    const u32 column = head * DIMENSION, half = DIMENSION / 2;
    first = p.adjacent ? part * 8 : part * 4, second = p.adjacent ? first + 4 : first + half;
    const float* products = p.products.values + (u64)row * p.products.stride + column;
    const float* const at[2] = {products + first, products + second};
    float4 bias[2] = {make_float4(0.0f, 0.0f, 0.0f, 0.0f), make_float4(0.0f, 0.0f, 0.0f, 0.0f)};
    if (p.bias) bias[0] = *(const float4*)(p.bias + column + first), bias[1] = *(const float4*)(p.bias + column + second);
    const float4* turns = (const float4*)(p.turns + row * half + part * 4);
    const float4 turn[2] = {turns[0], turns[1]};
    read_pieces<8>(p.products, at, v);
    add_to(v[0], bias[0]), add_to(v[1], bias[1]);
    if (head >= p.heads + p.kv_heads) return;
    auto rotate_pair = [](float& a, float& b, float cosine, float sine) {
        const float turned = a * cosine - b * sine;
        b = b * cosine + a * sine;
        a = turned;
    };
    if (p.adjacent) {
        rotate_pair(v[0].x, v[0].y, turn[0].x, turn[0].y), rotate_pair(v[0].z, v[0].w, turn[0].z, turn[0].w);
        rotate_pair(v[1].x, v[1].y, turn[1].x, turn[1].y), rotate_pair(v[1].z, v[1].w, turn[1].z, turn[1].w);
    } else {
        rotate_pair(v[0].x, v[1].x, turn[0].x, turn[0].y), rotate_pair(v[0].y, v[1].y, turn[0].z, turn[0].w);
        rotate_pair(v[0].z, v[1].z, turn[1].x, turn[1].y), rotate_pair(v[0].w, v[1].w, turn[1].z, turn[1].w);
    }
}

