// Loads of weights, which are read once and are not kept in the L1 cache, and copies to shared memory that run beside the arithmetic. Addresses of
// the wide forms are multiples of the width.
#pragma once
#include "platform.cuh"

// The words at p; or zeros if `wanted` is false, in which case nothing is read.
static __device__ __forceinline__ uint4 tillerLoad16(const void* p, bool wanted)
{
#if defined(TILLER_HOST_CUDA)
    return wanted ? *static_cast<const uint4*>(p) : uint4{0, 0, 0, 0};
#else
    uint4 v;
    asm volatile("{ .reg .pred wanted; setp.ne.u32 wanted, %5, 0;\n"
                 "  mov.b32 %0, 0; mov.b32 %1, 0; mov.b32 %2, 0; mov.b32 %3, 0;\n"
                 "  @wanted ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4]; }"
        : "=&r"(v.x), "=&r"(v.y), "=&r"(v.z), "=&r"(v.w)
        : "l"(p), "r"(unsigned(wanted)));
    return v;
#endif
}
static __device__ __forceinline__ uint2 tillerLoad8(const void* p, bool wanted)
{
#if defined(TILLER_HOST_CUDA)
    return wanted ? *static_cast<const uint2*>(p) : uint2{0, 0};
#else
    uint2 v;
    asm volatile("{ .reg .pred wanted; setp.ne.u32 wanted, %3, 0;\n"
                 "  mov.b32 %0, 0; mov.b32 %1, 0;\n"
                 "  @wanted ld.global.nc.L1::no_allocate.v2.u32 {%0, %1}, [%2]; }"
        : "=&r"(v.x), "=&r"(v.y)
        : "l"(p), "r"(unsigned(wanted)));
    return v;
#endif
}

// Prefetches `bytes` of global memory from p on to the L2 cache; both are multiples of 16. One thread requests all of it, and no thread waits. GPUs
// before sm_90 have no such instruction, and do nothing.
static __device__ __forceinline__ void tillerPrefetch(const void* p, unsigned bytes)
{
#if defined(TILLER_HOST_CUDA)
    // Reads the first and the last byte, so that tools that check addresses notice a wrong range.
    static_cast<void>(*static_cast<const volatile unsigned char*>(p));
    static_cast<void>(static_cast<const volatile unsigned char*>(p)[bytes - 1]);
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(p), "r"(bytes) : "memory");
#endif
}

// Two neighbouring 16-bit numbers of a row as one word, from any even address; zero from `count` on.
static __device__ __forceinline__ unsigned tillerPair16(const unsigned short* p, int count)
{
    return (count > 0 ? unsigned(p[0]) : 0u) | (count > 1 ? unsigned(p[1]) << 16 : 0u);
}

// Copies 16 bytes from global to shared memory, without waiting.
static __device__ __forceinline__ void tillerCopyAsync(void* shared, const void* global)
{
#if defined(TILLER_HOST_CUDA)
    tillerhost::copyAsync(shared, global);
#else
    asm volatile("{ .reg .u64 generic; .reg .u32 at;\n"
                 "  cvta.to.shared.u64 generic, %0; cvt.u32.u64 at, generic;\n"
                 "  cp.async.cg.shared.global [at], [%1], 16; }" ::"l"(shared), "l"(global) : "memory");
#endif
}
// The first closes a group of this thread's copies. The second waits until all except the latest `pending` groups of this thread are complete.
static __device__ __forceinline__ void tillerCommitCopies()
{
#if defined(TILLER_HOST_CUDA)
    tillerhost::commitCopies();
#else
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int pending> static __device__ __forceinline__ void tillerWaitForCopies()
{
#if defined(TILLER_HOST_CUDA)
    tillerhost::waitForCopies(pending);
#else
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}
