// Types, and the machine instructions that C++ has no word for.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

constexpr u32 FULL_WARP = 0xffffffffu;
constexpr float MINUS_INFINITY = -__builtin_huge_valf();

// Dynamic shared memory of a kernel, 128-byte aligned.
#define SHARED_BYTES(name) extern __shared__ __align__(128) u8 name[]

// c += a . b for a 16x16 tile of features and a 16x8 tile of tokens, bf16 in, f32 sums.
// Lane l holds, with g = l / 4 and t = l % 4: a = (g; 2t, 2t+1), (g+8; 2t, 2t+1), (g; 2t+8, 2t+9), (g+8; 2t+8, 2t+9),
// b = (2t, 2t+1; g), (2t+8, 2t+9; g), c = (g; 2t), (g; 2t+1), (g+8; 2t), (g+8; 2t+1).
// Source: PTX ISA, "Matrix Fragments for mma.m16n8k16 with floating point type".
__device__ __forceinline__ void mma_bf16(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// c = a . b for a 16x32 tile of features and a 32x8 tile of tokens, signed bytes in, exact sums. Lane l holds, with
// g = l / 4 and t = l % 4, four bytes a word: a = (g; 4t..), (g+8; 4t..), (g; 16+4t..), (g+8; 16+4t..),
// b = (4t..; g), (16+4t..; g), c as mma_bf16. Source: PTX ISA, "Matrix Fragments for mma.m16n8k32".
__device__ __forceinline__ void mma_s8(int (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm(
        "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%10,%10,%10,%10};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "r"(0));
}

// The same for 16 columns: a = (g; 4t..), (g+8; 4t..), b = (4t..; g).
__device__ __forceinline__ void mma_s8(int (&c)[4], u32 a0, u32 a1, u32 b) {
    asm(
        "mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%7,%7,%7};"
        : "=r"(c[0]), "=r"(c[1]), "=r"(c[2]), "=r"(c[3])
        : "r"(a0), "r"(a1), "r"(b), "r"(0));
}

// Byte `index` of a word, unsigned and signed.
__device__ __forceinline__ int unsigned_byte(u32 word, u32 index) { return (int)__byte_perm(word, 0, 0x4440u | index); }
__device__ __forceinline__ int signed_byte(u32 word, u32 index) {
    int byte;
    // Selector 8 + i is the sign of byte i.
    asm("prmt.b32 %0, %1, 0, %2;" : "=r"(byte) : "r"(word), "r"(0x8880u + 0x1111u * index));
    return byte;
}

__device__ __forceinline__ void warp_barrier() { __syncwarp(); }

// Between blocks: everything written before is seen before anything written after.
__device__ __forceinline__ void memory_fence() { __threadfence(); }
__device__ __forceinline__ u32 atomic_add(u32* at, u32 value) { return atomicAdd(at, value); }
// What another block wrote, past this multiprocessor's cache.
__device__ __forceinline__ float4 read_uncached(const float4* at) { return __ldcg(at); }

// Has the device's cache fetch the line of an address.
__device__ __forceinline__ void prefetch(const void* at) { asm volatile("prefetch.global.L2 [%0];" ::"l"(at)); }

// Has it fetch many bytes, of a multiple of 16, where the machine has one instruction for it.
__device__ __forceinline__ void prefetch_bytes(const void* at, u32 bytes) {
#if __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(at), "r"(bytes) : "memory");
#endif
}

// A kernel may start while the one before it in the stream still runs. It may read weights then, and nothing else.
__device__ __forceinline__ void wait_for_previous_kernel() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ __forceinline__ void let_next_kernel_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

typedef u32 SharedAddress;
__device__ __forceinline__ SharedAddress shared_address(const void* at) { return (u32)__cvta_generic_to_shared(at); }

// Copies 16 bytes to shared memory without passing through registers; both addresses are multiples of 16.
__device__ __forceinline__ void copy_async_16(SharedAddress to, const void* global) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(global) : "memory");
}

// Says that what is read will not be read again soon, so that it displaces nothing else from the device's cache.
typedef u64 CachePolicy;
__device__ __forceinline__ CachePolicy read_once() {
    CachePolicy policy;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}
__device__ __forceinline__ void copy_async_16(SharedAddress to, const void* global, CachePolicy policy) {
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(to), "l"(global), "l"(policy) : "memory");
}

__device__ __forceinline__ void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most PENDING of this thread's groups of copies are unfinished.
template <int PENDING>
__device__ __forceinline__ void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

// a * b + c on two bf16 values at once.
__device__ __forceinline__ u32 fma_bf16x2(u32 a, u32 b, u32 c) {
    u32 d;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(c));
    return d;
}

// Rounds to nearest even; `low` goes into the low half.
__device__ __forceinline__ u32 pack_bf16x2(float low, float high) {
    u32 d;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(d) : "f"(high), "f"(low));
    return d;
}

__device__ __forceinline__ float half_to_float(u16 bits) {
    float f;
    asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(bits));
    return f;
}

// 2^x to 2 ulp; 0 for minus infinity.
__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float low_bf16(u32 pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high_bf16(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }

#if __CUDA_ARCH__ >= 900
// Blocks that run side by side and write into each other's shared memory.
__device__ __forceinline__ u32 cluster_rank() {
    u32 rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
// All threads of all blocks arrive, then wait: what a block made known of its barriers before is known after.
__device__ __forceinline__ void cluster_arrive() { asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory"); }
__device__ __forceinline__ void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }
// The place in block `rank` that `at` is in this one.
__device__ __forceinline__ SharedAddress in_block(SharedAddress at, u32 rank) {
    SharedAddress there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(at), "r"(rank));
    return there;
}
// Stores in another block, whose barrier counts the bytes: no fence, unlike with a barrier of the cluster.
__device__ __forceinline__ void store_async(SharedAddress there, float value, SharedAddress barrier) {
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.f32 [%0], %1, [%2];" ::"r"(there), "f"(value),
                 "r"(barrier)
                 : "memory");
}
__device__ __forceinline__ void store_async(SharedAddress there, float first, float second, SharedAddress barrier) {
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, [%3];" ::"r"(there),
                 "f"(first), "f"(second), "r"(barrier)
                 : "memory");
}
#endif
