// Products of many rows with k-quants on Hopper's warpgroup instructions, which take weights from registers.
//
// A block computes 128 features of 128 tokens: two warpgroups of 64 features each, and a thread of a third one that copies
// ahead. Blocks stay and take one such item after the other, so that the next one's copies run beside the last one's end.
//
// Scales are multiplied into the weights. The result does not fit a byte, so it is made as two digits: 256 columns, which
// share a scale of the activations, are summed with the high ones, the sum multiplied by the radix, then the low ones are
// added. Sums are integers and exact. From there on all is added in the order of multiply.cu: the same bits.
#include "hopper.cuh"
#include "products.cuh"

constexpr u32 TOKENS = 128;
constexpr u32 WARPGROUPS = 2, GROUP_TILES = 4, BLOCK_TILES = WARPGROUPS * GROUP_TILES;
constexpr u32 WORKERS = WARPGROUPS * 128;
constexpr u32 MOST_TILE_BYTES = TileQ6K::BYTES;
constexpr u32 X_BYTES = TOKENS / UNIT_ROWS * UNIT_BYTES, X_STAGES = 3;
constexpr u32 WEIGHT_BYTES = GROUP_TILES * MOST_TILE_BYTES, WEIGHT_STAGES = 2;
// Shared memory: activations, each warpgroup's weights, sums of the pieces so far, barriers.
constexpr u32 WEIGHTS = X_STAGES * X_BYTES, TOTALS = WEIGHTS + WARPGROUPS * WEIGHT_STAGES * WEIGHT_BYTES;
constexpr u32 BARRIERS = TOTALS + WORKERS * TOKENS / 2 * 4;

struct WideParams {
    MultiplyParams products;  // blocks of `first_block` do BLOCK_TILES tiles
    u32 blocks;               // along features
    u32 pieces;               // of the output: 1, or one for each split
};

// What a block does at a time.
struct Item {
    Part part;
    u32 first_tile, first_row;
    u32 piece;
    u32 begin, end;  // units of columns
};

__device__ __forceinline__ u32 boundary(const MultiplyParams& p, u32 split) {
    return split * (p.x.columns / COLUMN_UNIT) / p.splits;
}

// Blocks that run together share weights: tokens change first.
__device__ __forceinline__ bool find_item(const WideParams& w, u32 index, Item& item) {
    const MultiplyParams& p = w.products;
    const u32 token_tiles = (p.rows + TOKENS - 1) / TOKENS, rest = index / token_tiles;
    if (rest >= w.blocks * w.pieces) return false;
    const u32 block = rest / w.pieces;
    u32 part = 0;
    while (part + 1 < p.part_count && block >= p.parts[part + 1].first_block) part++;
    item.part = p.parts[part];
    item.first_tile = (block - item.part.first_block) * BLOCK_TILES;
    item.first_row = index % token_tiles * TOKENS;
    item.piece = rest % w.pieces;
    item.begin = w.pieces > 1 ? boundary(p, item.piece) : 0;
    item.end = w.pieces > 1 ? boundary(p, item.piece + 1) : p.x.columns / COLUMN_UNIT;
    return true;
}

// A ring of stages in shared memory: what was filled, and what may be filled again.
template <u32 STAGES>
struct Ring {
    Barrier full, empty;
    u32 stage = 0, parity = 0;

    __device__ __forceinline__ Ring(Barrier first) : full(first), empty(first + STAGES * 8) {}
    __device__ __forceinline__ void init(u32 readers) {
        for (u32 i = 0; i < STAGES; i++) barrier_init(full + i * 8, 1), barrier_init(empty + i * 8, readers);
    }
    __device__ __forceinline__ void next() {
        stage++;
        if (stage == STAGES) stage = 0, parity ^= 1;
    }
    __device__ __forceinline__ void wait_full() { barrier_wait(full + stage * 8, parity); }
    __device__ __forceinline__ void wait_empty() { barrier_wait(empty + stage * 8, parity ^ 1); }
    // By every reader for itself, so that a checker of races can follow.
    __device__ __forceinline__ void release() { barrier_arrive(empty + stage * 8); }
};
using XRing = Ring<X_STAGES>;
using WeightRing = Ring<WEIGHT_STAGES>;
constexpr u32 WEIGHT_BARRIERS = BARRIERS + 2 * X_STAGES * 8;

enum Digit { HIGH, LOW };

// A lane's weights of 256 columns as they are stored: nibbles, and the bits above them.
template <class TILE>
struct Packed {
    uint4 nibbles[4];
    uint2 upper[4];

    __device__ __forceinline__ Packed(const u8* tile, u32 lane) {
#pragma unroll
        for (u32 pair = 0; pair < 4; pair++) {
            nibbles[pair] = *(const uint4*)(tile + pair * 512 + lane * 16);
            if constexpr (TILE::BYTES == TileQ5K::BYTES)
                upper[pair].x = *(const u32*)(tile + TILE::HIGH + pair * 128 + lane * 4);
            if constexpr (TILE::BYTES == TileQ6K::BYTES)
                upper[pair] = *(const uint2*)(tile + TILE::HIGH + pair * 256 + lane * 8);
        }
    }
    // Nibbles of operand `i` of a pair's eight, a byte each.
    __device__ __forceinline__ u32 low(u32 pair, u32 i) const {
        const u32 word = word_of(nibbles[pair], i / 2);
        return (i % 2 ? word >> 4 : word) & 0x0F0F0F0Fu;
    }
};

// Weights times their scales as digits, in the order of the operands: RADIX * high + low is the product, times 4 for
// Q6_K, whose factors make up for it.
template <class TILE, Digit DIGIT>
struct Digits {
    static constexpr int RADIX = 8;
    static constexpr bool HAS_MINIMUMS = true;
    // q < 32 and half a scale < 8: a byte's product does not reach the next byte.
    __device__ static __forceinline__ void of(const typename TILE::Head& h, const Packed<TILE>& packed, u32 pair,
                                              u32 (&out)[2][4]) {
#pragma unroll
        for (u32 i = 0; i < 8; i++) {
            u32 q = packed.low(pair, i);
            if constexpr (TILE::BYTES == TileQ5K::BYTES)
                q |= (i > 4 ? packed.upper[pair].x >> (i - 4) : packed.upper[pair].x << (4 - i)) & 0x10101010u;
            const u32 group = pair * 2 + i / 4;
            const u32 scale = unsigned_byte(group < 4 ? h.scales[i % 2].x : h.scales[i % 2].y, group % 4);
            out[i / 4][i % 4] = q * (DIGIT == HIGH ? scale >> 3 : scale & 7);
        }
    }
    __device__ static __forceinline__ void add(int (&c)[64], const u32 (&a)[4], MatrixDescriptor x, bool adds) {
        products_u8(c, a, x, adds);
    }
};

template <Digit DIGIT>
struct Digits<TileQ6K, DIGIT> {
    static constexpr int RADIX = 256;
    static constexpr bool HAS_MINIMUMS = false;
    // Products of two weights in 16-bit halves of a word: 4 * scale * (q - 32) + 2^15 is positive and below 2^16.
    __device__ static __forceinline__ void of(const TileQ6K::Head& h, const Packed<TileQ6K>& packed, u32 pair,
                                              u32 (&out)[2][4]) {
        // The upper bit was inverted for the two's complement.
        const u32 top[2] = {packed.upper[pair].x ^ 0xAAAAAAAAu, packed.upper[pair].y ^ 0xAAAAAAAAu};
#pragma unroll
        for (u32 i = 0; i < 8; i++) {
            const u32 operand = i % 4, t = top[i / 4];
            const u32 upper = operand == 0 ? t << 4 : operand == 1 ? t << 2 : operand == 2 ? t : t >> 2;
            const u32 q = packed.low(pair, i) | (upper & 0x30303030u);
            const int scale = signed_byte(word_of(h.scales[operand % 2], pair), i / 2) * 4;
            const u32 offset = 0x80008000u - (u32)(scale * 32) * 0x10001u;
            const u32 even = (q & 0x00FF00FFu) * (u32)scale + offset, odd = (q >> 8 & 0x00FF00FFu) * (u32)scale + offset;
            out[i / 4][operand] =
                DIGIT == ::HIGH ? __byte_perm(even, odd, 0x7351) ^ 0x80808080u : __byte_perm(even, odd, 0x6240);
        }
    }
    __device__ static __forceinline__ void add(int (&c)[64], const u32 (&a)[4], MatrixDescriptor x, bool adds) {
        if constexpr (DIGIT == ::HIGH)
            products_s8(c, a, x, adds);
        else
            products_u8(c, a, x, adds);
    }
};

// Queues the products of one digit of 256 columns.
template <class TILE, Digit DIGIT>
__device__ __forceinline__ void add_digit(const typename TILE::Head& head, const Packed<TILE>& packed, MatrixDescriptor x,
                                          int (&sum)[64]) {
    using DIGITS = Digits<TILE, DIGIT>;
#pragma unroll
    for (u32 pair = 0; pair < 4; pair++) {
        u32 a[2][4];
        DIGITS::of(head, packed, pair, a);
#pragma unroll
        for (u32 group = 0; group < 2; group++) {
            const u32 at = (pair * 2 + group) * (UNIT_ROWS * GROUP / 16);
            products_begin();
            DIGITS::add(sum, a[group], x + at, DIGIT == LOW || at > 0);
            products_commit();
        }
        // The registers of the pair before this one are free again.
        if (pair < 3) products_wait<2>();
    }
}

// Adds 256 columns of one item. Stages are given back as soon as they were read.
template <class TILE>
__device__ __forceinline__ void add_unit(const u8* shared, XRing& xs, WeightRing& weights, u32 warp, u32 lane,
                                         float (&acc)[64]) {
    using DIGITS = Digits<TILE, HIGH>;
    weights.wait_full();
    const u8* tile = shared + WEIGHTS + (warp / GROUP_TILES * WEIGHT_STAGES + weights.stage) * WEIGHT_BYTES +
                     warp % GROUP_TILES * TILE::BYTES;
    const typename TILE::Head head = TILE::head(tile, lane);
    const Packed<TILE> packed(tile, lane);
    weights.release();
    weights.next();
    const u8* x = shared + xs.stage * X_BYTES;
    const MatrixDescriptor bytes = matrix_descriptor(shared_address(x), UNIT_ROWS * 16, UNIT_BYTES);
    int whole[64];
    xs.wait_full();
    add_digit<TILE, HIGH>(head, packed, bytes, whole);
    products_wait<0>();
#pragma unroll
    for (u32 i = 0; i < 64; i++) whole[i] *= DIGITS::RADIX;
    float offset[64];
    add_digit<TILE, LOW>(head, packed, bytes, whole);
    if constexpr (DIGITS::HAS_MINIMUMS) {
        const u32 a[4] = {head.minimums[0], head.minimums[1], head.minimums[0], head.minimums[1]};
        products_begin();
        products_bf16(offset, a, matrix_descriptor(shared_address(x + UNIT_SUMS), UNIT_ROWS * 16, UNIT_BYTES), false);
        products_commit();
    }
    products_wait<0>();
    float sum[64];
#pragma unroll
    for (u32 i = 0; i < 64; i++) sum[i] = (float)whole[i];
#pragma unroll
    for (u32 n = 0; n < TOKENS / 8; n++) {
        const float2 scale = *(const float2*)(x + n * UNIT_BYTES + UNIT_SCALES + lane % 4 * 8);
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            const u32 i = n * 4 + j;
            float value;
            if constexpr (DIGITS::HAS_MINIMUMS)
                value = __fmaf_rn(head.factor[j / 2], sum[i], -__fmul_rn(head.minimum_factor[j / 2], offset[i]));
            else
                value = __fmul_rn(head.factor[j / 2], sum[i]);
            acc[i] = __fmaf_rn(j % 2 ? scale.y : scale.x, value, acc[i]);
        }
    }
    xs.release();
    xs.next();
}

// Computes one item.
template <class TILE>
__device__ __forceinline__ void work(const WideParams& w, const Item& item, u8* shared, XRing& xs, WeightRing& weights,
                                     u32 warp, u32 lane) {
    const MultiplyParams& p = w.products;
    float4* totals = (float4*)(shared + TOTALS) + threadIdx.x;
    float acc[64];
    u32 unit = item.begin;
    for (u32 split = item.piece;; split++) {
        const u32 end = boundary(p, split + 1);
#pragma unroll
        for (u32 i = 0; i < 64; i++) acc[i] = 0.0f;
        for (; unit < end; unit++) add_unit<TILE>(shared, xs, weights, warp, lane, acc);
        if (split > item.piece)
#pragma unroll
            for (u32 n = 0; n < TOKENS / 8; n++) {
                const float4 t = totals[n * WORKERS];
                acc[n * 4] = t.x + acc[n * 4], acc[n * 4 + 1] = t.y + acc[n * 4 + 1];
                acc[n * 4 + 2] = t.z + acc[n * 4 + 2], acc[n * 4 + 3] = t.w + acc[n * 4 + 3];
            }
        if (end == item.end) break;
#pragma unroll
        for (u32 n = 0; n < TOKENS / 8; n++)
            totals[n * WORKERS] = make_float4(acc[n * 4], acc[n * 4 + 1], acc[n * 4 + 2], acc[n * 4 + 3]);
    }
    if (item.first_tile + warp >= item.part.tiles) return;
    const u32 feature = item.part.column + (item.first_tile + warp) * TILE_FEATURES + lane / 4;
    float* out = p.out + (u64)item.piece * p.rows * p.stride + feature;
#pragma unroll
    for (u32 i = 0; i < 64; i++) {
        const u32 row = item.first_row + i / 4 * 8 + lane % 4 * 2 + i % 2;
        if (row < p.rows) out[(u64)row * p.stride + i % 4 / 2 * 8] = acc[i];
    }
}

// Copies an item's weights and activations, unit after unit.
__device__ __forceinline__ void copy(const MultiplyParams& p, const Item& item, SharedAddress shared, XRing& xs,
                                     WeightRing (&weights)[WARPGROUPS], bool is_first) {
    const u32 bytes = tile_bytes(item.part.format), units = p.x.columns / COLUMN_UNIT;
    const u32 tiles = min(BLOCK_TILES, item.part.tiles - item.first_tile);
    const u64 row_bytes = (u64)units * bytes, x_stride = (u64)(p.x.padded_rows / UNIT_ROWS) * UNIT_BYTES;
    const u8* from = item.part.weights + item.first_tile * row_bytes;
    const u8* x = p.x.units + (u64)(item.first_row / UNIT_ROWS) * UNIT_BYTES;
    for (u32 unit = item.begin; unit < item.end; unit++) {
#pragma unroll
        for (u32 group = 0; group < WARPGROUPS; group++) {
            WeightRing& ring = weights[group];
            // A group without features has nothing to copy, but keeps step.
            const u32 first = group * GROUP_TILES, count = tiles > first ? min(GROUP_TILES, tiles - first) : 0;
            ring.wait_empty();
            const Barrier full = ring.full + ring.stage * 8;
            const SharedAddress to = shared + WEIGHTS + (group * WEIGHT_STAGES + ring.stage) * WEIGHT_BYTES;
            barrier_arrive_and_expect(full, count * bytes);
            for (u32 i = 0; i < count; i++)
                copy_bulk(to + i * bytes, from + (first + i) * row_bytes + (u64)unit * bytes, bytes, full);
            ring.next();
        }
        if (is_first && unit == item.begin) wait_for_previous_kernel();
        xs.wait_empty();
        const Barrier full = xs.full + xs.stage * 8;
        barrier_arrive_and_expect(full, X_BYTES);
        copy_bulk(shared + xs.stage * X_BYTES, x + unit * x_stride, X_BYTES, full);
        xs.next();
    }
}

// `inference/src/cuda/multiply.rs` has the block's sizes, too.
extern "C" __global__ void __launch_bounds__(WORKERS + 128, 1) multiply_wide(const __grid_constant__ WideParams w) {
    SHARED_BYTES(shared);
    const SharedAddress at = shared_address(shared);
    const u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    XRing xs(at + BARRIERS);
    if (threadIdx.x == 0) {
        xs.init(WORKERS);
        for (u32 group = 0; group < WARPGROUPS; group++)
            WeightRing(at + WEIGHT_BARRIERS + group * 2 * WEIGHT_STAGES * 8).init(GROUP_TILES * 32);
        barriers_ready();
    }
    __syncthreads();
    let_next_kernel_start();
    Item item;
    if (warp >= WORKERS / 32) {
        shrink_registers<24>();
        if (threadIdx.x == WORKERS) {
            WeightRing weights[WARPGROUPS] = {WeightRing(at + WEIGHT_BARRIERS),
                                              WeightRing(at + WEIGHT_BARRIERS + 2 * WEIGHT_STAGES * 8)};
            for (u32 index = blockIdx.x; find_item(w, index, item); index += gridDim.x)
                copy(w.products, item, at, xs, weights, index == blockIdx.x);
        }
    } else {
        grow_registers<240>();
        const u32 group = warp / GROUP_TILES;
        WeightRing weights(at + WEIGHT_BARRIERS + group * 2 * WEIGHT_STAGES * 8);
        // The one before reads what this one writes.
        wait_for_previous_kernel();
        for (u32 index = blockIdx.x; find_item(w, index, item); index += gridDim.x) switch (item.part.format) {
                case FORMAT_Q4_K: work<TileQ4K>(w, item, shared, xs, weights, warp, lane); break;
                case FORMAT_Q5_K: work<TileQ5K>(w, item, shared, xs, weights, warp, lane); break;
                default: work<TileQ6K>(w, item, shared, xs, weights, warp, lane); break;
            }
    }
}
