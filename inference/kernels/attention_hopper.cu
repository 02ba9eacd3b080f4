// Attention of steps with few rows on Hopper, in one kernel from the products to what the output product reads: rotation,
// page writes, all chunks of a sequence, and their merge.
//
// A cluster of blocks has one tile of queries and one or a few key-value heads; the blocks of a head share its chunks and
// send each chunk's sums to the block that merges those columns. Of long sequences a block does a span by itself, and
// `attend_merge` the rest. What is there before the step's products (keys and values of earlier steps) is copied before they
// are; the step's own keys and values take their places among them.
//
// Loops are not written out where registers do not need it: each block runs this once, and fetching instructions takes
// longer than they do (evals/results/gpu/step-costs.txt).
#include "attention.cuh"
#include "hopper.cuh"

// Blocks of a cluster, and warps of a chunk, each with a page.
constexpr u32 CLUSTER = 16, GROUP_WARPS = CHUNK_PAGES;
// The most rows of a sequence.
constexpr u32 CLUSTER_ROWS = 8;
// Chunks that a block has at once: of a cluster, for short contexts and for longer ones, and by itself.
constexpr u32 NARROW_GROUPS = 2, WIDE_GROUPS = 4, SPAN_GROUPS = SPAN_CHUNKS;

struct AttendFewParams {
    RotateParams rotate;
    AttendParams attend;  // tiles are of whole rows, and `items` of those before the tile and its own
    Activations out;
    // Divisors that are known before, and 65536 / divisor + 1.
    u32 group, group_inverse;  // query heads of a key-value head
    u32 units, units_inverse;  // units of columns of a cluster's queries, of one row
    u32 heads_at_once;         // key-value heads of a cluster: their columns are whole units, or all there are
    u32 blocks_log2;           // blocks of a key-value head
    u32 capacity;              // chunks that there is room for
};

// n / divisor, for n * divisor < 65536.
__device__ __forceinline__ u32 divide(u32 n, u32 inverse) { return n * inverse >> 16; }

// A tile of whole rows of one sequence: the rows before it in this step, its own, and the position after them.
struct RowTile {
    ItemTile tile;
    u32 before, rows, items, end;

    __device__ __forceinline__ RowTile(const ItemTile& t, u32 group_inverse) : tile(t) {
        before = divide(t.first_item, group_inverse);
        rows = divide(t.items, group_inverse) - before;
        items = t.items - t.first_item;
        end = t.start + before + rows;
    }
    __device__ __forceinline__ u32 chunk_count() const { return (end - 1) / CHUNK + 1; }
};

// Shared memory of a block whose warps do GROUPS chunks at once.
template <int DIMENSION, PageFormat FORMAT, u32 GROUPS>
struct ChunkMemory {
    u16 queries[TILE_ITEMS * SHARED_QUERY<DIMENSION>];
    // Keys, then values of the sequence's rows up to the tile's last, and their factors.
    typename Eight<FORMAT>::Type fresh[2][CLUSTER_ROWS * DIMENSION / 8];
    u16 fresh_factors[2][CLUSTER_ROWS];
    uint4 weights[GROUPS][GROUP_WARPS][32];
    float maxima[GROUPS][GROUP_WARPS][TILE_ITEMS];
};

// Bytes of a chunk: its keys, its values, then in fp8 the factors of the keys and of the values.
template <int DIMENSION, PageFormat FORMAT>
constexpr u32 CHUNK_BYTES = 2 * CHUNK_PAGES * PAGE_BYTES<DIMENSION, FORMAT>;

// Attends with a tile's queries to GROUPS chunks of a key-value head, `stride` apart from `first` on, those before
// `chunk_end`. `ready` is called by all before the first `emit`, which is given a lane's share of a chunk's result: item, row
// of the tile, chunk, maximum, sum of weights, and sums of dimensions `8 * i + 2 * (lane % 4)` and the next from `slice * 16`
// on.
template <int DIMENSION, PageFormat FORMAT, u32 GROUPS, class READY, class EMIT>
__device__ __forceinline__ void attend_block_chunks(const AttendFewParams& c, const RowTile& t, u32 kv_head, u32 first,
                                                    u32 stride, u32 chunk_end, u8* copied,
                                                    ChunkMemory<DIMENSION, FORMAT, GROUPS>& memory, const READY& ready,
                                                    const EMIT& emit) {
    constexpr u32 THREADS = GROUPS * GROUP_WARPS * 32, PARTS = DIMENSION / 8, OF_PAGE = PAGE * DIMENSION / 8;
    constexpr u32 SLICES = DIMENSION / 16, OWN_SLICES = (SLICES + GROUP_WARPS - 1) / GROUP_WARPS;
    const AttendParams& p = c.attend;
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const u32 own_group = warp / GROUP_WARPS, own_warp = warp % GROUP_WARPS, in_group = threadIdx.x % (GROUP_WARPS * 32);
    const u32 start = t.tile.start, fresh_rows = t.before + t.rows, last = (t.end - 1) / PAGE;
    const u32* table = p.tables + t.tile.table_start;
    using Elements = typename Eight<FORMAT>::Type;
    constexpr u32 IN_PAGE = PAGE_ELEMENTS<DIMENSION, FORMAT>;
    Elements* keys = (Elements*)(copied + own_group * CHUNK_BYTES<DIMENSION, FORMAT>);
    Elements* values = keys + CHUNK_PAGES * OF_PAGE;
    u16 *key_factors = (u16*)(values + CHUNK_PAGES * OF_PAGE), *value_factors = key_factors + CHUNK;
    auto page_at = [&](u32 page) { return page_offset<DIMENSION, FORMAT>(table[page], p.kv_heads, kv_head); };
    const u32 chunk = first + own_group * stride;
    const bool is_real = chunk < chunk_end;
    // Each warp copies one page. Places of the step's own rows are read too, and replaced later.
    if (is_real) {
        const u64 page = page_at(min(chunk * CHUNK_PAGES + own_warp, last));
        const SharedAddress to = shared_address(keys) + own_warp * IN_PAGE;
        constexpr u32 OF_TOKEN = IN_PAGE / PAGE / 16;
#pragma unroll
        for (u32 i = 0; i < IN_PAGE / 16 / 32; i++) {
            const u32 at = i * 32 + lane;
            copy_async_16(to + key_place<DIMENSION, FORMAT>(at / OF_TOKEN, at % OF_TOKEN) * 16, p.keys + page + at * 16);
            copy_async_16(to + CHUNK_PAGES * IN_PAGE + at * 16, p.values + page + at * 16);
        }
        // Of a page 32 bytes of factors each.
        if (FORMAT == FP8_PAGES && lane < 4) {
            const u32 at = lane % 2 * 16;
            const SharedAddress factors = shared_address(lane < 2 ? key_factors : value_factors) + own_warp * PAGE * 2;
            copy_async_16(factors + at, (lane < 2 ? p.keys : p.values) + page + IN_PAGE + at);
        }
        copy_async_commit();
    }
    if (c.rotate.bias)
#pragma unroll 1
        for (u32 i = threadIdx.x; i < (c.group + 2) * DIMENSION / 32; i += THREADS) {
            const u32 index = i / (DIMENSION / 32);
            const u32 head = index < c.group ? kv_head * c.group + index : p.heads + kv_head + (index - c.group) * p.kv_heads;
            prefetch(c.rotate.bias + head * DIMENSION + i % (DIMENSION / 32) * 32);
        }
    wait_for_previous_kernel();

    // Queries, then keys and values of the step's rows.
#pragma unroll 1
    for (u32 i = threadIdx.x / PARTS; i < t.items + 2 * fresh_rows; i += THREADS / PARTS) {
        u32 low, high;
        float4 v[2];
        const bool is_query = i < t.items, is_value = i >= t.items + fresh_rows;
        const u32 query_row = divide(i, c.group_inverse);
        const u32 row = is_query ? t.before + query_row : i - t.items - (is_value ? fresh_rows : 0);
        const u32 head = is_query ? kv_head * c.group + i - query_row * c.group : p.heads + kv_head + (is_value ? p.kv_heads : 0);
        read_rotated<DIMENSION>(c.rotate, t.tile.first_row + row, head, threadIdx.x % PARTS, low, high, v);
        if (FORMAT == FP8_PAGES && !is_query) {
            const Fp8Share share = to_fp8<DIMENSION>(v);
            u8* to = (u8*)memory.fresh[is_value] + row * DIMENSION;
            *(u32*)(to + low) = share.words[0], *(u32*)(to + high) = share.words[1];
            if (low == 0) memory.fresh_factors[is_value][row] = share.factor;
            continue;
        }
        u16* to = is_query ? memory.queries + i * SHARED_QUERY<DIMENSION> : (u16*)memory.fresh[is_value] + row * DIMENSION;
        *(uint2*)(to + low) = make_uint2(pack_bf16x2(v[0].x, v[0].y), pack_bf16x2(v[0].z, v[0].w));
        *(uint2*)(to + high) = make_uint2(pack_bf16x2(v[1].x, v[1].y), pack_bf16x2(v[1].z, v[1].w));
    }
    copy_async_wait<0>();
    __syncthreads();
    TileQuery<DIMENSION> q;
    q.last_page = last;
    const uint4* query_rows[2];
    u32 item_rows[2];
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
        const u32 item = min(lane / 4 + half * 8, t.items - 1);
        item_rows[half] = divide(item, c.group_inverse);
        q.position[half] = start + t.before + item_rows[half];
        query_rows[half] = (const uint4*)(memory.queries + item * SHARED_QUERY<DIMENSION>);
    }
    load_fragments<DIMENSION>(query_rows, q);

    // The step's own keys and values, where one of the block's chunks has some.
    bool has_fresh = false;
#pragma unroll
    for (u32 i = 0; i < GROUPS; i++) {
        const u32 index = first + i * stride;
        has_fresh |= index * CHUNK < t.end && (index + 1) * CHUNK > start;
    }
    if (has_fresh) {
        const u32 to = min(t.end, (chunk + 1) * CHUNK);
#pragma unroll 1
        for (u32 position = max(start, chunk * CHUNK); position < to; position++) {
            const u32 row = position - start, in_chunk = position % CHUNK, token = position % PAGE;
            const u64 page = page_at(position / PAGE);
            // Each tile stores its own rows.
            const bool is_own = row >= t.before;
            if (in_group < PARTS) {
                const Elements key = memory.fresh[0][row * PARTS + in_group];
                keys[key_eight<DIMENSION, FORMAT>(in_chunk, in_group)] = key;
                if (is_own) ((Elements*)(c.rotate.keys + page))[token * PARTS + in_group] = key;
            }
            if (in_group < DIMENSION) {
                const u32 at = value_position(token, in_group);
                if constexpr (FORMAT == FP8_PAGES) {
                    const u8 value = ((const u8*)memory.fresh[1])[row * DIMENSION + byte_place(in_group)];
                    ((u8*)(values + in_chunk / PAGE * OF_PAGE))[byte_place(at)] = value;
                    if (is_own) (c.rotate.values + page)[byte_place(at)] = value;
                } else {
                    const u16 value = ((const u16*)memory.fresh[1])[row * DIMENSION + in_group];
                    ((u16*)(values + in_chunk / PAGE * OF_PAGE))[at] = value;
                    if (is_own) ((u16*)(c.rotate.values + page))[at] = value;
                }
            }
            if (FORMAT == FP8_PAGES && in_group < 2) {
                const u16 factor = memory.fresh_factors[in_group][row];
                (in_group == 0 ? key_factors : value_factors)[in_chunk] = factor;
                if (is_own) ((u16*)((in_group == 0 ? c.rotate.keys : c.rotate.values) + page + IN_PAGE))[token] = factor;
            }
        }
        __syncthreads();
    }
    float scores[2][4];
    if (is_real) {
        uint4 own_keys[DIMENSION / 16];
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            const u32 token = own_warp * PAGE + half * 8 + lane / 4;
            const u32 factors = FORMAT == FP8_PAGES ? token_factors(key_factors, token) : 0;
#pragma unroll
            for (u32 i = 0; i < DIMENSION / 32; i++)
                own_keys[half * (DIMENSION / 32) + i] =
                    expand(keys[key_eight<DIMENSION, FORMAT>(token, i * 4 + lane % 4)], factors, factors);
        }
        page_scores<DIMENSION>(p, q, own_keys, chunk * CHUNK_PAGES + own_warp, scores);
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            float largest = fmaxf(fmaxf(scores[0][half * 2], scores[0][half * 2 + 1]),
                                  fmaxf(scores[1][half * 2], scores[1][half * 2 + 1]));
            largest = fmaxf(largest, __shfl_xor_sync(FULL_WARP, largest, 1));
            largest = fmaxf(largest, __shfl_xor_sync(FULL_WARP, largest, 2));
            if (lane % 4 == 0) memory.maxima[own_group][own_warp][lane / 4 + half * 8] = largest;
        }
    }
    __syncthreads();
    float maximum[2], total[2] = {0.0f, 0.0f}, sums[OWN_SLICES * 2][4];
    if (is_real) {
        const float(&maxima)[GROUP_WARPS][TILE_ITEMS] = memory.maxima[own_group];
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            const u32 item = lane / 4 + half * 8;
            maximum[half] = fmaxf(fmaxf(maxima[0][item], maxima[1][item]), fmaxf(maxima[2][item], maxima[3][item]));
        }
        u32 weights[4];
        page_weights(scores[0], scores[1], maximum, weights);
        memory.weights[own_group][own_warp][lane] = make_uint4(weights[0], weights[1], weights[2], weights[3]);
    }
    __syncthreads();
    ready();
    if (!is_real) return;
#pragma unroll
    for (u32 i = 0; i < OWN_SLICES * 2; i++)
#pragma unroll
        for (u32 j = 0; j < 4; j++) sums[i][j] = 0.0f;
#pragma unroll
    for (u32 page = 0; page < CHUNK_PAGES; page++) {
        const uint4 packed = memory.weights[own_group][page][lane];
        const u32 weights[4] = {packed.x, packed.y, packed.z, packed.w};
        add_weights(weights, total);
        if (chunk * CHUNK_PAGES + page > last) continue;
        const u32 even = FORMAT == FP8_PAGES ? even_factors(value_factors + page * PAGE) : 0;
        const u32 odd = FORMAT == FP8_PAGES ? odd_factors(value_factors + page * PAGE) : 0;
#pragma unroll
        for (u32 i = 0; i < OWN_SLICES; i++) {
            const u32 slice = own_warp * OWN_SLICES + i;
            if (slice >= SLICES) continue;
            const uint4 b = expand(values[page * OF_PAGE + slice * 32 + lane], even, odd);
            mma_bf16(sums[2 * i], weights, b.x, b.y);
            mma_bf16(sums[2 * i + 1], weights, b.z, b.w);
        }
    }
    chunk_total(total);
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
        const u32 item = lane / 4 + half * 8;
        if (item >= t.items) continue;
        float2 pairs[OWN_SLICES * 2];
#pragma unroll
        for (u32 i = 0; i < OWN_SLICES * 2; i++) pairs[i] = make_float2(sums[i][half * 2], sums[i][half * 2 + 1]);
        emit(item, item_rows[half], chunk, maximum[half], total[half], own_warp * OWN_SLICES, pairs);
    }
}

template <int DIMENSION, PageFormat FORMAT, u32 GROUPS>
__device__ __forceinline__ void attend_in_cluster(const AttendFewParams& c) {
    constexpr u32 WARPS = GROUPS * GROUP_WARPS, UNIT_HEADS = COLUMN_UNIT / DIMENSION;
    constexpr u32 SLICES = DIMENSION / 16;
    // Keys and values of GROUPS chunks; then what the cluster's blocks send here for one unit of one row: [chunk][256
    // columns], then maxima and sums by chunk and head.
    SHARED_BYTES(shared);
    __shared__ __align__(16) ChunkMemory<DIMENSION, FORMAT, GROUPS> memory;
    __shared__ __align__(8) u64 pieces_here;
    const Barrier barrier = shared_address(&pieces_here);
    let_next_kernel_start();
    if (threadIdx.x == 0) {
        barrier_init(barrier, 1);
        barriers_ready();
    }
    // A block's shared memory may be written once it runs.
    cluster_arrive();
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, rank = cluster_rank(), part = blockIdx.x / CLUSTER;
    const u32 blocks = 1 << c.blocks_log2, place = rank & (blocks - 1), local_head = rank >> c.blocks_log2;
    const RowTile t(c.attend.tiles[blockIdx.y], c.group_inverse);
    const u32 chunk_count = t.chunk_count();
    u8* pieces = shared + GROUPS * CHUNK_BYTES<DIMENSION, FORMAT>;
    float2* piece_weights = (float2*)(pieces + c.capacity * COLUMN_UNIT * 4);
    // What comes here: of each chunk its columns' sums, and two numbers a head.
    const u32 row = divide(rank, c.units_inverse), unit = rank - row * c.units;
    const u32 columns = min(COLUMN_UNIT, c.heads_at_once * c.group * DIMENSION - unit * COLUMN_UNIT);
    const bool merges = rank < t.rows * c.units;
    if (threadIdx.x == 0 && merges) barrier_arrive_and_expect(barrier, chunk_count * (columns * 4 + columns / DIMENSION * 8));

    // To the blocks that merge them.
    auto send = [&](u32 item, u32 item_row, u32 chunk, float maximum, float total, u32 slice, const auto& pairs) {
        const u32 head = local_head * c.group + item - item_row * c.group;
        const u32 to = item_row * c.units + head / UNIT_HEADS, in_unit = head % UNIT_HEADS;
        const Barrier there = in_block(barrier, to);
        if (slice == 0 && lane % 4 == 0)
            store_async(in_block(shared_address(piece_weights + chunk * UNIT_HEADS + in_unit), to), maximum, total, there);
        const u32 column = in_unit * DIMENSION + slice * 16 + lane % 4 * 2;
        const SharedAddress at = in_block(shared_address(pieces) + (chunk * COLUMN_UNIT + column) * 4, to);
#pragma unroll
        for (u32 i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
            if (slice * 2 + i < SLICES * 2) store_async(at + i * 32, pairs[i].x, pairs[i].y, there);
    };
    attend_block_chunks<DIMENSION, FORMAT, GROUPS>(c, t, part * c.heads_at_once + local_head, place, blocks, chunk_count, shared, memory,
                                           [] { cluster_wait(); }, send);
    if (!merges) return;
    barrier_wait(barrier, 0);

    const u32 column = lane * 8, span_count = (chunk_count + SPAN_CHUNKS - 1) / SPAN_CHUNKS;
    float4* sums = (float4*)pieces + lane * 2;
    float2* weights = piece_weights + column / DIMENSION;
    const bool is_column = column < columns;
    // A span's result takes the place of its first chunk.
#pragma unroll 1
    for (u32 span = warp; is_column && span < span_count; span += WARPS) {
        const u32 begin = span * SPAN_CHUNKS, count = min(SPAN_CHUNKS, chunk_count - begin);
        float4 sum[2] = {make_float4(0.0f, 0.0f, 0.0f, 0.0f), make_float4(0.0f, 0.0f, 0.0f, 0.0f)};
        float maximum = MINUS_INFINITY, total = 0.0f;
#pragma unroll 1
        for (u32 i = begin; i < begin + count; i++) {
            const float2 weight = weights[i * UNIT_HEADS];
            float keep, take;
            merge_factors(maximum, total, weight.x, weight.y, keep, take);
            sum[0] = merged(sum[0], keep, sums[i * (COLUMN_UNIT / 4)], take);
            sum[1] = merged(sum[1], keep, sums[i * (COLUMN_UNIT / 4) + 1], take);
        }
        // Lanes of a head read one place and write the same there.
        __syncwarp(__activemask());
        weights[begin * UNIT_HEADS] = make_float2(maximum, total);
        sums[begin * (COLUMN_UNIT / 4)] = sum[0], sums[begin * (COLUMN_UNIT / 4) + 1] = sum[1];
    }
    __syncthreads();
    if (warp > 0) return;
    float4 v[2] = {make_float4(0.0f, 0.0f, 0.0f, 0.0f), make_float4(0.0f, 0.0f, 0.0f, 0.0f)};
    float maximum = MINUS_INFINITY, total = 0.0f, scale = 0.0f;
    if (is_column) {
#pragma unroll 1
        for (u32 i = 0; i < chunk_count; i += SPAN_CHUNKS) {
            const float2 weight = weights[i * UNIT_HEADS];
            float keep, take;
            merge_factors(maximum, total, weight.x, weight.y, keep, take);
            v[0] = merged(v[0], keep, sums[i * (COLUMN_UNIT / 4)], take);
            v[1] = merged(v[1], keep, sums[i * (COLUMN_UNIT / 4) + 1], take);
        }
        scale = __fdiv_rn(1.0f, total);
    }
    const float row_values[8] = {v[0].x * scale, v[0].y * scale, v[0].z * scale, v[0].w * scale,
                                 v[1].x * scale, v[1].y * scale, v[1].z * scale, v[1].w * scale};
    store_activations(c.out, t.tile.first_row + t.before + row, part * c.units + unit, row_values);
}

// A block does one span of a tile and key-value head, which it leaves as `attend_chunks` does.
template <int DIMENSION, PageFormat FORMAT>
__device__ __forceinline__ void attend_span(const AttendFewParams& c) {
    constexpr u32 GROUPS = SPAN_GROUPS, THREADS = GROUPS * GROUP_WARPS * 32, SLICES = DIMENSION / 16;
    // Rows apart by 8 banks, so that the lanes of a store do not meet.
    constexpr u32 ROW = DIMENSION + 8;
    // Keys and values of GROUPS chunks; then their sums.
    SHARED_BYTES(shared);
    __shared__ __align__(16) ChunkMemory<DIMENSION, FORMAT, GROUPS> memory;
    __shared__ float2 weights[GROUPS * TILE_ITEMS];
    float* sums = (float*)(shared + GROUPS * CHUNK_BYTES<DIMENSION, FORMAT>);
    let_next_kernel_start();
    const AttendParams& p = c.attend;
    const u32 lane = threadIdx.x % 32, kv_head = blockIdx.x, span = blockIdx.z, begin = span * SPAN_CHUNKS;
    const RowTile t(p.tiles[blockIdx.y], c.group_inverse);
    const u32 chunk_end = min(t.chunk_count(), begin + SPAN_CHUNKS);
    // A block that returns must have waited too: the next kernel takes its end for the end of all before it.
    if (begin >= chunk_end) {
        wait_for_previous_kernel();
        return;
    }
    auto keep_here = [&](u32 item, u32, u32 chunk, float maximum, float total, u32 slice, const auto& pairs) {
        const u32 at = (chunk - begin) * TILE_ITEMS + item;
        if (slice == 0 && lane % 4 == 0) weights[at] = make_float2(maximum, total);
#pragma unroll
        for (u32 i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
            if (slice * 2 + i < SLICES * 2) *(float2*)(sums + at * ROW + (slice * 2 + i) * 8 + lane % 4 * 2) = pairs[i];
    };
    attend_block_chunks<DIMENSION, FORMAT, GROUPS>(c, t, kv_head, begin, 1, chunk_end, shared, memory, [] {}, keep_here);
    __syncthreads();
#pragma unroll 1
    for (u32 i = threadIdx.x; i < t.items * (DIMENSION / 4); i += THREADS) {
        const u32 item = i / (DIMENSION / 4), column = i % (DIMENSION / 4) * 4, item_row = divide(item, c.group_inverse);
        float maximum = MINUS_INFINITY, total = 0.0f;
        float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
#pragma unroll 1
        for (u32 at = item; at < (chunk_end - begin) * TILE_ITEMS; at += TILE_ITEMS) {
            float keep, take;
            merge_factors(maximum, total, weights[at].x, weights[at].y, keep, take);
            sum = merged(sum, keep, *(const float4*)(sums + at * ROW + column), take);
        }
        const u32 row = t.tile.first_row + t.before + item_row, head = kv_head * c.group + item - item_row * c.group;
        const u64 at = ((u64)span * p.rows + row) * p.heads + head;
        if (column == 0) p.weights[at] = make_float2(maximum, total);
        *(float4*)(p.out + at * DIMENSION + column) = sum;
    }
}

#define ATTEND_FEW(name, format, dimension)                                                                  \
    extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(NARROW_GROUPS * 128, 2)     \
        attend_cluster_##name(const __grid_constant__ AttendFewParams c) {                                   \
        attend_in_cluster<dimension, format, NARROW_GROUPS>(c);                                              \
    }                                                                                                        \
    extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(WIDE_GROUPS * 128, 1)       \
        attend_wide_cluster_##name(const __grid_constant__ AttendFewParams c) {                              \
        attend_in_cluster<dimension, format, WIDE_GROUPS>(c);                                                \
    }                                                                                                        \
    extern "C" __global__ void __launch_bounds__(SPAN_GROUPS * 128, 1)                                       \
        attend_span_##name(const __grid_constant__ AttendFewParams c) {                                      \
        attend_span<dimension, format>(c);                                                                   \
    }
ATTEND_FEW(32, BF16_PAGES, 32)
ATTEND_FEW(64, BF16_PAGES, 64)
ATTEND_FEW(128, BF16_PAGES, 128)
ATTEND_FEW(fp8_32, FP8_PAGES, 32)
ATTEND_FEW(fp8_64, FP8_PAGES, 64)
ATTEND_FEW(fp8_128, FP8_PAGES, 128)
