// Attention over pages of 16 tokens: rotary positions and page writes, then flash attention on the tensor cores.
//
// `attend_chunks` spreads the chunks over the device (few rows), `attend_prompt` walks through them (many rows).
#include "attention.cuh"

// Of attend_chunks, a warp each.
constexpr u32 ATTEND_WARPS = SPAN_CHUNKS;

struct TurnsParams {
    const float* frequencies;  // radians a position, by pair of dimensions
    const u32* positions;      // [rows]
    float2* turns;             // [rows][half]: cosine and sine
    u32 half;
};

// The angles of a step's rows, for all heads and layers. One block a row.
extern "C" __global__ void __launch_bounds__(64) turns(const __grid_constant__ TurnsParams p) {
    let_next_kernel_start();
    wait_for_previous_kernel();
    if (threadIdx.x >= p.half) return;
    float sine, cosine;
    sincosf((float)p.positions[blockIdx.x] * p.frequencies[threadIdx.x], &sine, &cosine);
    p.turns[blockIdx.x * p.half + threadIdx.x] = make_float2(cosine, sine);
}

constexpr u32 ROTATE_HEADS = 4;

// Heads of the query, then of keys, then of values; a block does some of them of one row, a thread a pair of dimensions.
extern "C" __global__ void __launch_bounds__(64 * ROTATE_HEADS) rotate(const __grid_constant__ RotateParams p) {
    let_next_kernel_start();
    const u32 head = blockIdx.x * ROTATE_HEADS + threadIdx.x / 64, row = blockIdx.y;
    const u32 pair = threadIdx.x % 64, half = p.dimension / 2;
    if (pair >= half || head >= p.heads + 2 * p.kv_heads) {
        wait_for_previous_kernel();
        return;
    }
    // What the batch and the model say is there before the products are.
    const bool is_query = head < p.heads, is_value = head >= p.heads + p.kv_heads;
    const u32 position = p.positions[row];
    const u32 first = p.adjacent ? pair * 2 : pair, second = p.adjacent ? pair * 2 + 1 : pair + half;
    const u32 column = head * p.dimension;
    const float bias[2] = {p.bias ? p.bias[column + first] : 0.0f, p.bias ? p.bias[column + second] : 0.0f};
    const u32 block = is_query ? 0 : p.tables[p.table_starts[row] + position / PAGE], token = position % PAGE;
    wait_for_previous_kernel();
    const float* products = p.products.values + (u64)row * p.products.stride + column;
    const float* const at[2] = {products + first, products + second};
    float sums[2];
    read_pieces<8>(p.products, at, sums);
    float a = sums[0] + bias[0], b = sums[1] + bias[1];
    if (!is_value) {
        const float2 turn = p.turns[row * half + pair];
        const float turned = a * turn.x - b * turn.y;
        b = b * turn.x + a * turn.y;
        a = turned;
    }
    if (is_query) {
        u16* out = p.query + (u64)row * p.heads * p.dimension + column;
        out[first] = to_bf16(a), out[second] = to_bf16(b);
        return;
    }
    const u32 kv_head = head - p.heads - (is_value ? p.kv_heads : 0);
    const u64 page = ((u64)block * p.kv_heads + kv_head) * PAGE * p.dimension;
    u16* to = (u16*)(is_value ? p.values : p.keys) + page;
    if (is_value) {
        to[value_position(token, first)] = to_bf16(a), to[value_position(token, second)] = to_bf16(b);
    } else {
        to[token * p.dimension + first] = to_bf16(a), to[token * p.dimension + second] = to_bf16(b);
    }
}

// The same for pages in fp8, for which a head's values have to be known together: DIMENSION / 8 threads a head.
template <int DIMENSION>
__device__ __forceinline__ void rotate_to_fp8(const RotateParams& p) {
    constexpr u32 PARTS = DIMENSION / 8, HEADS = 64 * ROTATE_HEADS / PARTS;
    let_next_kernel_start();
    wait_for_previous_kernel();
    const u32 head = blockIdx.x * HEADS + threadIdx.x / PARTS, row = blockIdx.y;
    if (head >= p.heads + 2 * p.kv_heads) return;
    u32 first, second;
    float4 v[2];
    read_rotated<DIMENSION>(p, row, head, threadIdx.x % PARTS, first, second, v);
    if (head < p.heads) {
        u16* out = p.query + ((u64)row * p.heads + head) * DIMENSION;
        *(uint2*)(out + first) = make_uint2(pack_bf16x2(v[0].x, v[0].y), pack_bf16x2(v[0].z, v[0].w));
        *(uint2*)(out + second) = make_uint2(pack_bf16x2(v[1].x, v[1].y), pack_bf16x2(v[1].z, v[1].w));
        return;
    }
    const bool is_value = head >= p.heads + p.kv_heads;
    const u32 position = p.positions[row], block = p.tables[p.table_starts[row] + position / PAGE];
    const u64 page = page_offset<DIMENSION, FP8_PAGES>(block, p.kv_heads, head - p.heads - (is_value ? p.kv_heads : 0));
    if (is_value)
        store_value<DIMENSION, FP8_PAGES>(p.values + page, position % PAGE, first, second, v);
    else
        store_key<DIMENSION, FP8_PAGES>(p.keys + page, position % PAGE, first, second, v);
}

template <int DIMENSION>
struct ChunkResult {
    float sums[DIMENSION / 8][4];
    float maximum[2], total[2];  // of rows g and g + 8
};

// Where a chunk is read from.
enum Source {
    PAGES,   // memory: all keys, then all values are in flight at once
    SHARED,  // shared memory, as `copy_chunk` left it
};

// Copies a chunk's keys, then its values, with a whole block.
template <int DIMENSION>
__device__ __forceinline__ void copy_chunk(const AttendParams& p, const u64 (&pages)[CHUNK_PAGES], SharedAddress to) {
    constexpr u32 THREADS = ATTEND_WARPS * 32, OF_PAGE = PAGE * DIMENSION / 8;
    constexpr u32 PAGES_AT_ONCE = THREADS > OF_PAGE ? THREADS / OF_PAGE : 1;
#pragma unroll
    for (u32 i = 0; i < CHUNK_PAGES * OF_PAGE / THREADS; i++) {
        const u32 at = i * THREADS + threadIdx.x, first = i * THREADS / OF_PAGE;
        u64 page = pages[first];
        if (PAGES_AT_ONCE > 1 && threadIdx.x >= OF_PAGE) page = pages[first + PAGES_AT_ONCE - 1];
        page += at % OF_PAGE * 16;
        copy_async_16(to + key_place<DIMENSION, BF16_PAGES>(at / (DIMENSION / 8), at % (DIMENSION / 8)) * 16, p.keys + page);
        copy_async_16(to + (CHUNK_PAGES * OF_PAGE + at) * 16, p.values + page);
    }
}

// A chunk in fp8 on its way to shared memory: each warp copies a page of keys and the one of values, and expands them to where
// `copy_chunk` would have put them.
template <int DIMENSION>
struct Fp8Chunk {
    static constexpr u32 BYTES = PAGE_BYTES<DIMENSION, FP8_PAGES>, OF_PAGE = PAGE * DIMENSION / 8;
    u8 pages[CHUNK_PAGES][2][BYTES];

    __device__ __forceinline__ void copy(const AttendParams& p, u64 page) {
        const SharedAddress to = shared_address(pages[threadIdx.x / 32]);
        for (u32 at = threadIdx.x % 32 * 16; at < BYTES; at += 32 * 16) {
            copy_async_16(to + at, p.keys + page + at);
            copy_async_16(to + BYTES + at, p.values + page + at);
        }
    }

    __device__ __forceinline__ void expand_to(uint4* chunk) const {
        const u32 lane = threadIdx.x % 32, page = threadIdx.x / 32;
        const uint2 *keys = (const uint2*)pages[page][0], *values = (const uint2*)pages[page][1];
        const u16 *key_factors = (const u16*)(keys + OF_PAGE), *value_factors = (const u16*)(values + OF_PAGE);
        const u32 even = even_factors(value_factors), odd = odd_factors(value_factors);
#pragma unroll 4
        for (u32 i = lane; i < OF_PAGE; i += 32) {
            const u32 token = i / (DIMENSION / 8), factors = token_factors(key_factors, token);
            chunk[key_place<DIMENSION, BF16_PAGES>(page * PAGE + token, i % (DIMENSION / 8))] = expand(keys[i], factors, factors);
            chunk[(CHUNK_PAGES + page) * OF_PAGE + i] = expand(values[i], even, odd);
        }
    }
};

template <int DIMENSION>
using PageKeys = uint4[DIMENSION / 16];
template <int DIMENSION>
using ChunkKeys = PageKeys<DIMENSION>[CHUNK_PAGES];

// A lane's keys of a page in memory.
template <int DIMENSION, PageFormat FORMAT>
__device__ __forceinline__ void fetch_keys(const u8* page, PageKeys<DIMENSION>& to) {
    const u32 lane = threadIdx.x % 32;
    const u16* factors = (const u16*)(page + PAGE_ELEMENTS<DIMENSION, FORMAT>);
#pragma unroll
    for (u32 part = 0; part < 2; part++) {
        const u32 token = part * 8 + lane / 4;
        const auto* key = (const typename Eight<FORMAT>::Type*)page + token * (DIMENSION / 8);
        const u32 own = FORMAT == FP8_PAGES ? token_factors(factors, token) : 0;
#pragma unroll
        for (u32 i = 0; i < DIMENSION / 32; i++) to[part * (DIMENSION / 32) + i] = expand(key[i * 4 + lane % 4], own, own);
    }
}

// The same of a chunk that `copy_chunk` or `Fp8Chunk` left in shared memory.
template <int DIMENSION>
__device__ __forceinline__ void fetch_keys(const uint4* chunk, u32 page, PageKeys<DIMENSION>& to) {
    const u32 lane = threadIdx.x % 32;
#pragma unroll
    for (u32 part = 0; part < 2; part++)
#pragma unroll
        for (u32 i = 0; i < DIMENSION / 32; i++)
            to[part * (DIMENSION / 32) + i] =
                chunk[key_place<DIMENSION, BF16_PAGES>(page * PAGE + part * 8 + lane / 4, i * 4 + lane % 4)];
}

template <int DIMENSION, PageFormat FORMAT>
__device__ __forceinline__ void fetch_chunk_keys(const AttendParams& p, const u64 (&pages)[CHUNK_PAGES],
                                                 ChunkKeys<DIMENSION>& keys) {
#pragma unroll
    for (u32 page = 0; page < CHUNK_PAGES; page++) fetch_keys<DIMENSION, FORMAT>(p.keys + pages[page], keys[page]);
}

// A lane's values of a page in memory.
template <int DIMENSION, PageFormat FORMAT>
__device__ __forceinline__ void fetch_values(const u8* page, PageKeys<DIMENSION>& to) {
    const u16* factors = (const u16*)(page + PAGE_ELEMENTS<DIMENSION, FORMAT>);
    const u32 even = FORMAT == FP8_PAGES ? even_factors(factors) : 0, odd = FORMAT == FP8_PAGES ? odd_factors(factors) : 0;
#pragma unroll
    for (u32 i = 0; i < DIMENSION / 16; i++)
        to[i] = expand(((const typename Eight<FORMAT>::Type*)page)[i * 32 + threadIdx.x % 32], even, odd);
}

// `fetched` has the keys already where they come from pages.
template <int DIMENSION, Source SOURCE, PageFormat FORMAT>
__device__ __forceinline__ void attend_chunk(const AttendParams& p, const TileQuery<DIMENSION>& q,
                                             const u64 (&pages)[CHUNK_PAGES], const uint4* shared, u32 chunk,
                                             ChunkKeys<DIMENSION>& fetched, ChunkResult<DIMENSION>& out) {
    constexpr bool FETCHES_AHEAD = SOURCE == PAGES;
    constexpr u32 AHEAD = FETCHES_AHEAD ? CHUNK_PAGES : 1;
    float scores[CHUNK_PAGES][2][4];
#pragma unroll
    for (u32 page = 0; page < CHUNK_PAGES; page++) {
        const u32 index = chunk * CHUNK_PAGES + page;
        if (!FETCHES_AHEAD && index <= q.last_page) fetch_keys<DIMENSION>(shared, page, fetched[0]);
        page_scores<DIMENSION>(p, q, fetched[page % AHEAD], index, scores[page]);
    }
    if (FETCHES_AHEAD)
#pragma unroll
        for (u32 page = 0; page < AHEAD; page++)
            fetch_values<DIMENSION, FORMAT>(p.values + pages[page], fetched[page]);
    chunk_maximum(scores, out.maximum);
    out.total[0] = out.total[1] = 0.0f;
#pragma unroll
    for (u32 i = 0; i < DIMENSION / 8; i++)
#pragma unroll
        for (u32 j = 0; j < 4; j++) out.sums[i][j] = 0.0f;
#pragma unroll
    for (u32 page = 0; page < CHUNK_PAGES; page++) {
        u32 weights[4];
        page_weights(scores[page][0], scores[page][1], out.maximum, weights);
        add_weights(weights, out.total);
        if (chunk * CHUNK_PAGES + page <= q.last_page) {
            if (!FETCHES_AHEAD)
                fetch_values<DIMENSION, BF16_PAGES>((const u8*)(shared + (CHUNK_PAGES + page) * (PAGE * DIMENSION / 8)), fetched[0]);
#pragma unroll
            for (u32 i = 0; i < DIMENSION / 16; i++) {
                const uint4 b = fetched[page % AHEAD][i];
                mma_bf16(out.sums[2 * i], weights, b.x, b.y);
                mma_bf16(out.sums[2 * i + 1], weights, b.z, b.w);
            }
        }
    }
    chunk_total(out.total);
}

// What `rotate` does, for one tile and span: its queries go to shared memory, and the keys and values of the step's rows
// that lie in the span and that the tile sees go to their pages. Other tiles of the sequence write the same there.
template <int DIMENSION, PageFormat FORMAT>
__device__ __forceinline__ void rotate_tile(const RotateParams& p, const ItemTile& tile, u32 kv_head, u32 span,
                                            u16* queries) {
    constexpr u32 THREADS = ATTEND_WARPS * 32, PARTS = DIMENSION / 8, SPAN = SPAN_CHUNKS * CHUNK;
    const u32 group = p.heads / p.kv_heads, items = min(TILE_ITEMS, tile.items - tile.first_item);
    const u32 last_row = (tile.first_item + items - 1) / group, part = threadIdx.x % PARTS;
    const u32 begin = max(tile.start, span * SPAN), end = max(begin, min(tile.start + last_row + 1, (span + 1) * SPAN));
    const u32 heads = items + (end - begin) * 2;
    for (u32 i = threadIdx.x / PARTS; i < heads; i += THREADS / PARTS) {
        u32 first, second;
        float4 v[2];
        if (i < items) {
            const u32 item = tile.first_item + i;
            read_rotated<DIMENSION>(p, tile.first_row + item / group, kv_head * group + item % group, part, first, second, v);
            u16* to = queries + i * SHARED_QUERY<DIMENSION>;
            *(uint2*)(to + first) = make_uint2(pack_bf16x2(v[0].x, v[0].y), pack_bf16x2(v[0].z, v[0].w));
            *(uint2*)(to + second) = make_uint2(pack_bf16x2(v[1].x, v[1].y), pack_bf16x2(v[1].z, v[1].w));
            continue;
        }
        const bool is_value = (i - items) % 2;
        const u32 position = begin + (i - items) / 2, token = position % PAGE;
        const u32 head = p.heads + kv_head + (is_value ? p.kv_heads : 0);
        read_rotated<DIMENSION>(p, tile.first_row + position - tile.start, head, part, first, second, v);
        const u64 page = page_offset<DIMENSION, FORMAT>(p.tables[tile.table_start + position / PAGE], p.kv_heads, kv_head);
        if (is_value)
            store_value<DIMENSION, FORMAT>(p.values + page, token, first, second, v);
        else
            store_key<DIMENSION, FORMAT>(p.keys + page, token, first, second, v);
    }
}

// A warp does one chunk of one tile and key-value head; a block, one span. `rotation` is for queries that are rotated here.
template <int DIMENSION, PageFormat FORMAT, Queries QUERIES>
__device__ __forceinline__ void chunks(const AttendParams& p, const RotateParams* rotation) {
    // Rows apart by 8 banks, so that the lanes of a store do not meet.
    constexpr u32 ROW = DIMENSION + 8;
    __shared__ __align__(16) float sums[SPAN_CHUNKS * TILE_ITEMS * ROW];
    __shared__ float2 weights[SPAN_CHUNKS * TILE_ITEMS];
    __shared__ __align__(16) u16 queries[QUERIES == FROM_SHARED ? TILE_ITEMS * SHARED_QUERY<DIMENSION> : 8];
    let_next_kernel_start();
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, kv_head = blockIdx.y, group = p.heads / p.kv_heads;
    const u32 span = blockIdx.z, chunk = span * SPAN_CHUNKS + warp;
    const ItemTile tile = p.tiles[blockIdx.x];
    const u32 last = last_page(tile, group), chunk_count = last / CHUNK_PAGES + 1;
    u64 pages[CHUNK_PAGES];
    chunk_pages<DIMENSION, FORMAT>(p, p.tables + tile.table_start, kv_head, chunk, last, pages);
    ChunkKeys<DIMENSION> keys;
    // Keys of earlier steps are there before this step's are.
    const bool is_old = QUERIES == FROM_SHARED && (chunk + 1) * CHUNK <= tile.start;
    if (is_old) {
        fetch_chunk_keys<DIMENSION, FORMAT>(p, pages, keys);
        if (lane == 0)
#pragma unroll
            for (u32 page = 0; page < CHUNK_PAGES; page++)
                prefetch_bytes(p.values + pages[page], PAGE_BYTES<DIMENSION, FORMAT>);
    }
    // A block that returns must have waited too: the next kernel takes its end for the end of all before it.
    wait_for_previous_kernel();
    if (span * SPAN_CHUNKS >= chunk_count) return;
    if (QUERIES == FROM_SHARED) {
        rotate_tile<DIMENSION, FORMAT>(*rotation, tile, kv_head, span, queries);
        __syncthreads();
    }
    TileQuery<DIMENSION> q;
    load_query<DIMENSION, QUERIES>(p, tile, kv_head, queries, q);
    if (chunk < chunk_count) {
        if (!is_old) fetch_chunk_keys<DIMENSION, FORMAT>(p, pages, keys);
        ChunkResult<DIMENSION> result;
        attend_chunk<DIMENSION, PAGES, FORMAT>(p, q, pages, nullptr, chunk, keys, result);
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            const u32 item = warp * TILE_ITEMS + lane / 4 + half * 8;
            if (lane % 4 == 0) weights[item] = make_float2(result.maximum[half], result.total[half]);
#pragma unroll
            for (u32 i = 0; i < DIMENSION / 8; i++)
                *(float2*)(sums + item * ROW + i * 8 + lane % 4 * 2) =
                    make_float2(result.sums[i][half * 2], result.sums[i][half * 2 + 1]);
        }
    }
    __syncthreads();
    const u32 count = min(SPAN_CHUNKS, chunk_count - span * SPAN_CHUNKS);
    for (u32 i = threadIdx.x; i < TILE_ITEMS * DIMENSION / 4; i += ATTEND_WARPS * 32) {
        const u32 item = i / (DIMENSION / 4), column = i % (DIMENSION / 4) * 4;
        const u32 index = tile.first_item + item;
        if (index >= tile.items) continue;
        float maximum = MINUS_INFINITY, total = 0.0f;
        float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        for (u32 c = 0; c < count; c++) {
            const float2 weight = weights[c * TILE_ITEMS + item];
            float keep, take;
            merge_factors(maximum, total, weight.x, weight.y, keep, take);
            sum = merged(sum, keep, *(const float4*)(sums + (c * TILE_ITEMS + item) * ROW + column), take);
        }
        const u32 row = tile.first_row + index / group, head = kv_head * group + index % group;
        const u64 at = ((u64)span * p.rows + row) * p.heads + head;
        if (column == 0) p.weights[at] = make_float2(maximum, total);
        *(float4*)(p.out + at * DIMENSION + column) = sum;
    }
}

// A warp does one tile and key-value head, chunk after chunk; the block reads each chunk once for its warps of the same
// sequence. Late tiles see the most, so they go first.
template <int DIMENSION, PageFormat FORMAT>
__device__ __forceinline__ void prompt(const AttendParams& p) {
    SHARED_BYTES(shared);
    // Of the spans so far; each thread has its own places. Then two chunks of keys and values; of fp8 one, and two that are not
    // expanded yet.
    float4* totals = (float4*)shared + threadIdx.x;
    constexpr u32 CHUNKS_AT = DIMENSION / 8 * ATTEND_WARPS * 32 * 16, CHUNK_BYTES = 2 * CHUNK * DIMENSION * 2;
    let_next_kernel_start();
    wait_for_previous_kernel();
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, kv_head = blockIdx.x, group = p.heads / p.kv_heads;
    const u32 first_index = blockIdx.y * ATTEND_WARPS, tiles = min(ATTEND_WARPS, p.tile_count - first_index);
    auto tile_of = [&](u32 index) { return p.tiles[p.tile_count - 1 - first_index - index]; };
    const ItemTile tile = tile_of(min(warp, tiles - 1));
    TileQuery<DIMENSION> q;
    load_query<DIMENSION, FROM_MEMORY>(p, tile, kv_head, nullptr, q);
    float maximum[2], total[2], sums[DIMENSION / 8][4], span_maximum[2], span_total[2];
#pragma unroll
    for (u32 half = 0; half < 2; half++) maximum[half] = MINUS_INFINITY, total[half] = 0.0f;
#pragma unroll
    for (u32 i = 0; i < DIMENSION / 8; i++) totals[i * ATTEND_WARPS * 32] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    const u32 own_count = q.last_page / CHUNK_PAGES + 1;
    for (u32 begin = 0, end = 0; begin < tiles; begin = end) {
        // Of the tiles from `begin` on that are of one sequence.
        const u32 table_start = tile_of(begin).table_start;
        u32 last = 0;
        for (; end < tiles && tile_of(end).table_start == table_start; end++)
            last = max(last, last_page(tile_of(end), group));
        const u32 chunk_count = last / CHUNK_PAGES + 1;
        const u32 count = warp >= begin && warp < end ? own_count : 0;
        const u32* table = p.tables + table_start;
        auto* compact = (Fp8Chunk<DIMENSION>*)(shared + CHUNKS_AT + CHUNK_BYTES);
        auto copy = [&](u32 chunk) {
            if constexpr (FORMAT == FP8_PAGES) {
                const u32 block = table[min(chunk * CHUNK_PAGES + warp, last)];
                compact[chunk % 2].copy(p, page_offset<DIMENSION, FORMAT>(block, p.kv_heads, kv_head));
            } else {
                u64 pages[CHUNK_PAGES];
                chunk_pages<DIMENSION, FORMAT>(p, table, kv_head, chunk, last, pages);
                copy_chunk<DIMENSION>(p, pages, shared_address(shared) + CHUNKS_AT + chunk % 2 * CHUNK_BYTES);
            }
        };
        // The sequence before was read to its end.
        __syncthreads();
        copy(0);
        copy_async_commit();
        for (u32 chunk = 0; chunk < chunk_count; chunk++) {
            copy_async_wait<0>();
            __syncthreads();
            if (chunk + 1 < chunk_count) copy(chunk + 1);
            copy_async_commit();
            if constexpr (FORMAT == FP8_PAGES) {
                compact[chunk % 2].expand_to((uint4*)(shared + CHUNKS_AT));
                __syncthreads();
            }
            if (chunk >= count) continue;
            if (chunk % SPAN_CHUNKS == 0) {
#pragma unroll
                for (u32 half = 0; half < 2; half++) span_maximum[half] = MINUS_INFINITY, span_total[half] = 0.0f;
#pragma unroll
                for (u32 i = 0; i < DIMENSION / 8; i++)
#pragma unroll
                    for (u32 j = 0; j < 4; j++) sums[i][j] = 0.0f;
            }
            ChunkResult<DIMENSION> result;
            ChunkKeys<DIMENSION> fetched;
            const u64 nowhere[CHUNK_PAGES] = {};
            const uint4* copied = (const uint4*)(shared + CHUNKS_AT + (FORMAT == FP8_PAGES ? 0 : chunk % 2 * CHUNK_BYTES));
            attend_chunk<DIMENSION, SHARED, FORMAT>(p, q, nowhere, copied, chunk, fetched, result);
#pragma unroll
            for (u32 half = 0; half < 2; half++) {
                float keep, take;
                merge_factors(span_maximum[half], span_total[half], result.maximum[half], result.total[half], keep, take);
#pragma unroll
                for (u32 i = 0; i < DIMENSION / 8; i++)
#pragma unroll
                    for (u32 j = half * 2; j < half * 2 + 2; j++)
                        sums[i][j] = merged(sums[i][j], keep, result.sums[i][j], take);
            }
            if (chunk % SPAN_CHUNKS != SPAN_CHUNKS - 1 && chunk + 1 != count) continue;
            float keep[2], take[2];
#pragma unroll
            for (u32 half = 0; half < 2; half++)
                merge_factors(maximum[half], total[half], span_maximum[half], span_total[half], keep[half], take[half]);
#pragma unroll
            for (u32 i = 0; i < DIMENSION / 8; i++) {
                float4& t = totals[i * ATTEND_WARPS * 32];
                t = make_float4(merged(t.x, keep[0], sums[i][0], take[0]), merged(t.y, keep[0], sums[i][1], take[0]),
                                merged(t.z, keep[1], sums[i][2], take[1]), merged(t.w, keep[1], sums[i][3], take[1]));
            }
        }
    }
    if (warp >= tiles) return;
    const float scale[2] = {__fdiv_rn(1.0f, total[0]), __fdiv_rn(1.0f, total[1])};
    float* rows[2];
#pragma unroll
    for (u32 half = 0; half < 2; half++)
        rows[half] = p.out + ((u64)q.row[half] * p.heads + q.head[half]) * DIMENSION + lane % 4 * 2;
#pragma unroll
    for (u32 i = 0; i < DIMENSION / 8; i++) {
        const float4 t = totals[i * ATTEND_WARPS * 32];
        if (q.real[0]) *(float2*)(rows[0] + i * 8) = make_float2(t.x * scale[0], t.y * scale[0]);
        if (q.real[1]) *(float2*)(rows[1] + i * 8) = make_float2(t.z * scale[1], t.w * scale[1]);
    }
}

// `rotate` and `attend_chunks` in one.
struct RotateAttendParams {
    RotateParams rotate;
    AttendParams attend;
};

#define ATTEND(name, format, dimension)                                                                              \
    extern "C" __global__ void __launch_bounds__(128) attend_chunks_##name(const __grid_constant__ AttendParams p) {       \
        chunks<dimension, format, FROM_MEMORY>(p, nullptr);                                                          \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(128) rotate_attend_##name(const __grid_constant__ RotateAttendParams p) { \
        chunks<dimension, format, FROM_SHARED>(p.attend, &p.rotate);                                                 \
    }                                                                                                                \
    extern "C" __global__ void __launch_bounds__(128) attend_prompt_##name(const __grid_constant__ AttendParams p) {       \
        prompt<dimension, format>(p);                                                                                \
    }
ATTEND(32, BF16_PAGES, 32)
ATTEND(64, BF16_PAGES, 64)
ATTEND(128, BF16_PAGES, 128)
ATTEND(fp8_32, FP8_PAGES, 32)
ATTEND(fp8_64, FP8_PAGES, 64)
ATTEND(fp8_128, FP8_PAGES, 128)

#define ROTATE_TO_FP8(dimension)                                                                             \
    extern "C" __global__ void __launch_bounds__(64 * ROTATE_HEADS)                                          \
        rotate_fp8_##dimension(const __grid_constant__ RotateParams p) {                                     \
        rotate_to_fp8<dimension>(p);                                                                         \
    }
ROTATE_TO_FP8(32)
ROTATE_TO_FP8(64)
ROTATE_TO_FP8(128)

struct MergeParams {
    const float* sums;      // [span][rows][heads][dimension]
    const float2* weights;  // [span][rows][heads]
    const u32* positions;   // [rows]
    Activations out;
    u32 rows;
    u32 heads;
    u32 dimension;
};

// A warp merges 256 columns of one row over the spans that the row sees.
extern "C" __global__ void __launch_bounds__(32) attend_merge(const __grid_constant__ MergeParams p) {
    constexpr u32 AT_ONCE = 8;
    let_next_kernel_start();
    const u32 row = blockIdx.y, unit = blockIdx.x, column = unit * COLUMN_UNIT + threadIdx.x * 8;
    const u32 span_count = p.positions[row] / (CHUNK * SPAN_CHUNKS) + 1;
    wait_for_previous_kernel();
    float4 v[2] = {make_float4(0.0f, 0.0f, 0.0f, 0.0f), make_float4(0.0f, 0.0f, 0.0f, 0.0f)};
    if (column < p.heads * p.dimension) {
        const u32 head = column / p.dimension;
        const u64 step = (u64)p.rows * p.heads, first = (u64)row * p.heads + head;
        const float* sums = p.sums + first * p.dimension + column % p.dimension;
        float maximum = MINUS_INFINITY, total = 0.0f;
        for (u32 from = 0; from < span_count; from += AT_ONCE) {
            float2 weights[AT_ONCE];
            float4 s[AT_ONCE][2];
#pragma unroll
            for (u32 i = 0; i < AT_ONCE; i++)
                if (from + i < span_count) {
                    weights[i] = p.weights[first + (from + i) * step];
                    const float4* at = (const float4*)(sums + (from + i) * step * p.dimension);
                    s[i][0] = at[0], s[i][1] = at[1];
                }
#pragma unroll
            for (u32 i = 0; i < AT_ONCE; i++)
                if (from + i < span_count) {
                    float keep, take;
                    merge_factors(maximum, total, weights[i].x, weights[i].y, keep, take);
                    v[0] = merged(v[0], keep, s[i][0], take), v[1] = merged(v[1], keep, s[i][1], take);
                }
        }
        const float scale = __fdiv_rn(1.0f, total);
        v[0].x *= scale, v[0].y *= scale, v[0].z *= scale, v[0].w *= scale;
        v[1].x *= scale, v[1].y *= scale, v[1].z *= scale, v[1].w *= scale;
    }
    const float row_values[8] = {v[0].x, v[0].y, v[0].z, v[0].w, v[1].x, v[1].y, v[1].z, v[1].w};
    store_activations(p.out, row, unit, row_values);
}

struct CopyPagesParams {
    u8* cache;
    const u32* copies;  // [copies][2]: source, destination
    u64 plane_bytes;
    u32 page_bytes;
};

// One block a (copy, plane); a plane is the keys or the values of one layer.
extern "C" __global__ void __launch_bounds__(128) copy_pages(const __grid_constant__ CopyPagesParams p) {
    let_next_kernel_start();
    wait_for_previous_kernel();
    const u32 source = p.copies[blockIdx.x * 2], destination = p.copies[blockIdx.x * 2 + 1];
    u8* plane = p.cache + blockIdx.y * p.plane_bytes;
    const uint4* from = (const uint4*)(plane + (u64)source * p.page_bytes);
    uint4* to = (uint4*)(plane + (u64)destination * p.page_bytes);
    for (u32 i = threadIdx.x; i < p.page_bytes / 16; i += 128) to[i] = from[i];
}
