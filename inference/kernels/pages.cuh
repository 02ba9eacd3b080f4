// How keys and values lie in pages of 16 tokens, in one of two formats. Attention computes with bf16 whichever it is: fp8 is
// expanded exactly where it is read, so what follows is the same, bit for bit.
//
// fp8 is e4m3 (1 sign, 4 exponent, 3 mantissa bits; source: "FP8 Formats for Deep Learning", arXiv 2209.05433) times a power
// of two for each token's head, the least with which the largest value is in range. Nothing is a NaN here: the bits of one are 480.
#pragma once
#include "activations.cuh"

enum PageFormat { BF16_PAGES, FP8_PAGES };

constexpr u32 PAGE = 16;

// Bytes of a head's page: elements, then in fp8 its tokens' factors, bf16.
template <int DIMENSION, PageFormat FORMAT>
constexpr u32 PAGE_ELEMENTS = PAGE * DIMENSION * (FORMAT == FP8_PAGES ? 1 : 2);
template <int DIMENSION, PageFormat FORMAT>
constexpr u32 PAGE_BYTES = PAGE_ELEMENTS<DIMENSION, FORMAT> + (FORMAT == FP8_PAGES ? PAGE * 2 : 0);

// Keys of a page: [kv head][token][dimension]. Values: [kv head], then in fragment order: 16 dimensions, lane, and in
// a lane two times 8 dimensions of tokens 2t, 2t+1, 2t+8, 2t+9.
__device__ __forceinline__ u32 value_position(u32 token, u32 dimension) {
    u32 lane = dimension % 8 * 4 + token % 8 / 2;
    return (dimension / 16 * 32 + lane) * 8 + dimension % 16 / 8 * 4 + token / 8 * 2 + token % 2;
}

// Eight elements side by side.
template <PageFormat FORMAT>
struct Eight;
template <>
struct Eight<BF16_PAGES> {
    using Type = uint4;
};
template <>
struct Eight<FP8_PAGES> {
    using Type = uint2;
};

__device__ __forceinline__ u16 to_bf16(float x) { return (u16)pack_bf16x2(x, 0.0f); }

// Where element i of fp8 stands: of four the second and the third change places, so that pairs are halves of a word.
__device__ __forceinline__ u32 byte_place(u32 i) { return (i & ~3u) | (i & 1) << 1 | (i >> 1 & 1); }

// Two numbers, in the high bytes of a word's halves, times two factors. Their bits, shifted to where bf16 has its exponent, are
// the number times 2^-120; factors are greater by as much.
__device__ __forceinline__ u32 expand_pair(u32 bytes, u32 factors) {
    constexpr u32 MINUS_ZERO = 0x80008000u;
    return fma_bf16x2((bytes & 0x80008000u) | (bytes >> 4 & 0x07f007f0u), factors, MINUS_ZERO);
}
// `even` are the factors of elements 0, 1, 4 and 5, `odd` of the others.
__device__ __forceinline__ uint4 expand(uint2 eight, u32 even, u32 odd) {
    return make_uint4(expand_pair(eight.x << 8, even), expand_pair(eight.x, odd), expand_pair(eight.y << 8, even),
                      expand_pair(eight.y, odd));
}
__device__ __forceinline__ uint4 expand(uint4 eight, u32, u32) { return eight; }

// A page's factors as `expand` takes them: of one token's eight dimensions, and of a lane's eight of `value_position`.
__device__ __forceinline__ u32 token_factors(const u16* factors, u32 token) { return factors[token] * 0x10001u; }
__device__ __forceinline__ u32 even_factors(const u16* factors) { return *(const u32*)(factors + threadIdx.x % 4 * 2); }
__device__ __forceinline__ u32 odd_factors(const u16* factors) { return *(const u32*)(factors + 8 + threadIdx.x % 4 * 2); }

// Rounds to the nearest number, to even between two; beyond 448 to that. `x` is the value times 2^-120.
__device__ __forceinline__ u32 fp8_bits(float x) {
    const u32 bits = __float_as_uint(x);
    const u32 rounded = (bits & 0x7fffffffu) + 0x7ffffu + (bits >> 20 & 1);
    return min(rounded >> 20, 0x7eu) | (bits >> 24 & 0x80u);
}

// A token's head in fp8: DIMENSION / 8 threads side by side have eight values each, two times four dimensions.
struct Fp8Share {
    u32 words[2];
    u16 factor;
};
template <int DIMENSION>
__device__ __forceinline__ Fp8Share to_fp8(const float4 (&v)[2]) {
    constexpr u32 PARTS = DIMENSION / 8;
    const u32 together = ((1u << PARTS) - 1) << (threadIdx.x % 32 / PARTS * PARTS);
    float largest = 0.0f;
#pragma unroll
    for (u32 i = 0; i < 2; i++)
        largest = fmaxf(fmaxf(fmaxf(largest, fabsf(v[i].x)), fmaxf(fabsf(v[i].y), fabsf(v[i].z))), fabsf(v[i].w));
#pragma unroll
    for (u32 distance = PARTS / 2; distance > 0; distance /= 2)
        largest = fmaxf(largest, __shfl_xor_sync(together, largest, distance));
    // The power of two, as the exponent's bits: from 2^-100, so that all are normal numbers, to 2^7, the most that a factor holds.
    const u32 above = (__float_as_uint(largest * (1.0f / 448.0f)) + 0x7fffffu) >> 23;
    const u32 exponent = min(max(above, 27u), 134u);
    const float inverse = __uint_as_float((254 - exponent) << 23), shift = __uint_as_float(7u << 23);
    Fp8Share out;
    out.factor = (u16)((exponent + 120) << 7);
#pragma unroll
    for (u32 i = 0; i < 2; i++)
        out.words[i] = fp8_bits(v[i].x * inverse * shift) | fp8_bits(v[i].y * inverse * shift) << 16 |
                       fp8_bits(v[i].z * inverse * shift) << 8 | fp8_bits(v[i].w * inverse * shift) << 24;
    return out;
}

// Stores a token's key in its page: all its threads, each with dimensions `first` and the next three, and `second` likewise.
template <int DIMENSION, PageFormat FORMAT>
__device__ __forceinline__ void store_key(u8* page, u32 token, u32 first, u32 second, const float4 (&v)[2]) {
    if constexpr (FORMAT == FP8_PAGES) {
        const Fp8Share share = to_fp8<DIMENSION>(v);
        *(u32*)(page + token * DIMENSION + first) = share.words[0];
        *(u32*)(page + token * DIMENSION + second) = share.words[1];
        if (first == 0) ((u16*)(page + PAGE_ELEMENTS<DIMENSION, FORMAT>))[token] = share.factor;
    } else {
        u16* to = (u16*)page + token * DIMENSION;
        *(uint2*)(to + first) = make_uint2(pack_bf16x2(v[0].x, v[0].y), pack_bf16x2(v[0].z, v[0].w));
        *(uint2*)(to + second) = make_uint2(pack_bf16x2(v[1].x, v[1].y), pack_bf16x2(v[1].z, v[1].w));
    }
}

// The same of its value.
template <int DIMENSION, PageFormat FORMAT>
__device__ __forceinline__ void store_value(u8* page, u32 token, u32 first, u32 second, const float4 (&v)[2]) {
    if constexpr (FORMAT == FP8_PAGES) {
        const Fp8Share share = to_fp8<DIMENSION>(v);
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            page[byte_place(value_position(token, first + j))] = (u8)(share.words[0] >> byte_place(j) * 8);
            page[byte_place(value_position(token, second + j))] = (u8)(share.words[1] >> byte_place(j) * 8);
        }
        if (first == 0) ((u16*)(page + PAGE_ELEMENTS<DIMENSION, FORMAT>))[token] = share.factor;
    } else {
        const float low[4] = {v[0].x, v[0].y, v[0].z, v[0].w}, high[4] = {v[1].x, v[1].y, v[1].z, v[1].w};
#pragma unroll
        for (u32 j = 0; j < 4; j++) {
            ((u16*)page)[value_position(token, first + j)] = to_bf16(low[j]);
            ((u16*)page)[value_position(token, second + j)] = to_bf16(high[j]);
        }
    }
}
