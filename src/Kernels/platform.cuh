// One page that hides the differences of three compilers, so that a kernel file is plain CUDA C++ and includes nothing else:
//   NVRTC and nvcc              everything below is built in;
//   clang's NVPTX back end      no CUDA header at all: the names come from __nvvm_* builtins (-x cuda -nocudainc -nocudalib);
//   g++ with TILLER_HOST_CUDA   the threads of a block are fibers on the CPU (tests/HostCuda).
//
// A kernel is written   extern "C" __global__ void name(...) { ... }   and followed by   TILLER_KERNEL(name)
// Dynamic shared memory: TILLER_DYNAMIC_SHARED(float, tile);   gives `float* tile`, 16-byte aligned.
// Names of kernels are unique over all files, because functions of a module are found by name.
#pragma once

#if defined(TILLER_HOST_CUDA)

#include "host_device.h"

#elif defined(__clang__) && defined(__CUDA__)

#define __global__ __attribute__((global))
#define __device__ __attribute__((device))
#define __host__ __attribute__((host))
#define __shared__ __attribute__((shared))
#define __constant__ __attribute__((constant))
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __launch_bounds__(...) __attribute__((launch_bounds(__VA_ARGS__)))

struct uint3 { unsigned x, y, z; };
struct __align__(8) float2 { float x, y; };
struct __align__(16) float4 { float x, y, z, w; };
struct __align__(8) uint2 { unsigned x, y; };
struct __align__(16) uint4 { unsigned x, y, z, w; };

static __device__ __forceinline__ uint3 tillerThreadIdx()
{
    return {unsigned(__nvvm_read_ptx_sreg_tid_x()), unsigned(__nvvm_read_ptx_sreg_tid_y()), unsigned(__nvvm_read_ptx_sreg_tid_z())};
}
static __device__ __forceinline__ uint3 tillerBlockIdx()
{
    return {unsigned(__nvvm_read_ptx_sreg_ctaid_x()), unsigned(__nvvm_read_ptx_sreg_ctaid_y()), unsigned(__nvvm_read_ptx_sreg_ctaid_z())};
}
static __device__ __forceinline__ uint3 tillerBlockDim()
{
    return {unsigned(__nvvm_read_ptx_sreg_ntid_x()), unsigned(__nvvm_read_ptx_sreg_ntid_y()), unsigned(__nvvm_read_ptx_sreg_ntid_z())};
}
static __device__ __forceinline__ uint3 tillerGridDim()
{
    return {unsigned(__nvvm_read_ptx_sreg_nctaid_x()), unsigned(__nvvm_read_ptx_sreg_nctaid_y()), unsigned(__nvvm_read_ptx_sreg_nctaid_z())};
}
#define threadIdx (tillerThreadIdx())
#define blockIdx (tillerBlockIdx())
#define blockDim (tillerBlockDim())
#define gridDim (tillerGridDim())

// PTX shfl.sync: the last operand packs the segment mask (32 - width) << 8 and the clamp lane (31; 0 for up).
#define TILLER_SHUFFLE(name, builtin, clamp)                                                                                        \
    static __device__ __forceinline__ int name(unsigned mask, int v, unsigned lane, int width = 32)                                 \
    {                                                                                                                               \
        return builtin(mask, v, int(lane), ((32 - width) << 8) | clamp);                                                            \
    }                                                                                                                               \
    static __device__ __forceinline__ unsigned name(unsigned mask, unsigned v, unsigned lane, int width = 32)                       \
    {                                                                                                                               \
        return unsigned(name(mask, int(v), lane, width));                                                                           \
    }                                                                                                                               \
    static __device__ __forceinline__ float name(unsigned mask, float v, unsigned lane, int width = 32)                             \
    {                                                                                                                               \
        return __builtin_bit_cast(float, name(mask, __builtin_bit_cast(int, v), lane, width));                                      \
    }                                                                                                                               \
    static __device__ __forceinline__ double name(unsigned mask, double v, unsigned lane, int width = 32)                           \
    {                                                                                                                               \
        const unsigned long long bits = __builtin_bit_cast(unsigned long long, v);                                                  \
        const unsigned long long low = name(mask, unsigned(bits), lane, width);                                                     \
        const unsigned long long high = name(mask, unsigned(bits >> 32), lane, width);                                              \
        return __builtin_bit_cast(double, high << 32 | low);                                                                        \
    }
TILLER_SHUFFLE(__shfl_sync, __nvvm_shfl_sync_idx_i32, 31)
TILLER_SHUFFLE(__shfl_up_sync, __nvvm_shfl_sync_up_i32, 0)
TILLER_SHUFFLE(__shfl_down_sync, __nvvm_shfl_sync_down_i32, 31)
TILLER_SHUFFLE(__shfl_xor_sync, __nvvm_shfl_sync_bfly_i32, 31)
#undef TILLER_SHUFFLE

static __device__ __forceinline__ unsigned __ballot_sync(unsigned mask, int predicate)
{
    return unsigned(__nvvm_vote_ballot_sync(mask, predicate != 0));
}
static __device__ __forceinline__ void __syncwarp(unsigned mask = 0xffffffffu) { __nvvm_bar_warp_sync(mask); }

#endif

// Before a loop: unrolls all of its iterations, or n of them.
#if defined(TILLER_HOST_CUDA)

#define TILLER_UNROLL
#define TILLER_UNROLL_BY(n)

#else

#define TILLER_UNROLL _Pragma("unroll")
#define TILLER_UNROLL_BY(n) TILLER_PRAGMA(unroll n)
#define TILLER_PRAGMA(words) _Pragma(#words)

#define TILLER_KERNEL(name)
#define TILLER_DYNAMIC_SHARED(type, name)                              \
    extern __shared__ __align__(16) unsigned char tillerDynamicShared[]; \
    type* const name = reinterpret_cast<type*>(tillerDynamicShared)

#endif

// Programmatic dependent launch: the first function waits for the writes of the previous kernel in the stream, the second lets
// the next kernel start. Both do nothing in a launch without the attribute, and on GPUs before sm_90.
static __device__ __forceinline__ void tillerWaitForPredecessor()
{
#if defined(TILLER_HOST_CUDA)
    tillerhost::waitForPredecessor();
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
static __device__ __forceinline__ void tillerReleaseSuccessor()
{
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}
