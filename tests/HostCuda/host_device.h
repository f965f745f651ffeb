// What platform.cuh includes when g++ compiles a kernel file: CUDA's names, implemented with the fiber scheduler in block.cpp.
// Static shared memory is a plain static variable: only one block runs at a time, and AddressSanitizer puts red zones around the variable.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

struct uint3 { unsigned x, y, z; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __constant__ static
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __align__(n) alignas(n)
#define __launch_bounds__(...)

namespace tillerhost
{
inline constexpr int maxExchangeBytes = 64;

// One thread's part in a warp-wide operation: the bytes that it gives and gets, and a number (a source lane or a predicate).
struct Exchange
{
    alignas(16) unsigned char in[maxExchangeBytes];
    alignas(16) unsigned char out[maxExchangeBytes];
    unsigned argument;
};

// Called once, by the last lane that arrives, for all lanes in the mask; lanes[i] is valid if bit i of the mask is set.
using WarpOperation = void (*)(Exchange* const lanes[32], unsigned mask);

extern uint3 currentThread, currentBlock, blockSize, gridSize;
void blockBarrier();
Exchange& exchange();                                      // that of the calling thread
void warpOperation(unsigned mask, WarpOperation operation); // returns when every lane of the mask has arrived and the operation has run
unsigned laneId();
unsigned threadId();                                       // in the block
void* dynamicShared();
void waitForPredecessor();
void fence();
unsigned atomicIncrement(unsigned* counter, unsigned last); // returns the value before; `last` is followed by zero
inline constexpr unsigned copyBytes = 16;
void copyAsync(void* to, const void* from);
void commitCopies();
void waitForCopies(unsigned pending);
[[noreturn]] void fault(int code, const char* what);        // ends the launch with a CUDA error, which is sticky if it is in CUDA

struct KernelEntry
{
    const char* name;
    const char* source;
    int parameters;
    const std::size_t* sizes;
    void (*invoke)(void (*function)(), void** parameters);
    void (*function)();
};
bool registerKernel(const KernelEntry& entry);

template <class... A> struct Signature
{
    static constexpr std::size_t sizes[sizeof...(A) + 1] = {sizeof(A)..., 0};
    template <std::size_t... I> static void call(void (*function)(A...), void** p, std::index_sequence<I...>)
    {
        function(*static_cast<std::remove_const_t<A>*>(p[I])...);
    }
    static void invoke(void (*function)(), void** p) { call(reinterpret_cast<void (*)(A...)>(function), p, std::index_sequence_for<A...>{}); }
};
template <class... A> bool registerKernel(const char* name, const char* source, void (*function)(A...))
{
    return registerKernel({name, source, int(sizeof...(A)), Signature<A...>::sizes, &Signature<A...>::invoke,
                           reinterpret_cast<void (*)()>(function)});
}

enum class Shuffle : unsigned { Index, Up, Down, Xor };

// CUDA's rule: lanes are divided into segments of `width`; if the source is outside the segment, a lane gets its own value.
template <Shuffle kind> void shuffleLanes(Exchange* const lanes[32], unsigned mask)
{
    for (unsigned lane = 0; lane < 32; lane++)
    {
        if (!(mask >> lane & 1)) { continue; }
        const unsigned width = lanes[lane]->argument >> 16, argument = lanes[lane]->argument & 0xffff;
        const unsigned first = lane & ~(width - 1);
        unsigned source = lane;
        if constexpr (kind == Shuffle::Index) { source = first + (argument & (width - 1)); }
        if constexpr (kind == Shuffle::Up) { source = lane - first >= argument ? lane - argument : lane; }
        if constexpr (kind == Shuffle::Down) { source = lane - first + argument < width ? lane + argument : lane; }
        if constexpr (kind == Shuffle::Xor) { source = (lane ^ argument) < first + width ? lane ^ argument : lane; }
        if (!(mask >> source & 1)) { fault(719, "a shuffle reads a lane that its mask leaves out"); }
        std::memcpy(lanes[lane]->out, lanes[source]->in, 8);
    }
}

template <Shuffle kind, class T> T shuffle(unsigned mask, T value, unsigned argument, int width)
{
    static_assert(sizeof(T) == 4 || sizeof(T) == 8);
    Exchange& mine = exchange();
    std::memcpy(mine.in, &value, sizeof(T));
    mine.argument = unsigned(width) << 16 | (argument & 0xffff);
    warpOperation(mask, &shuffleLanes<kind>);
    std::memcpy(&value, mine.out, sizeof(T));
    return value;
}

inline void ballotLanes(Exchange* const lanes[32], unsigned mask)
{
    unsigned votes = 0;
    for (unsigned lane = 0; lane < 32; lane++)
    {
        if (mask >> lane & 1) { votes |= unsigned(lanes[lane]->argument != 0) << lane; }
    }
    for (unsigned lane = 0; lane < 32; lane++)
    {
        if (mask >> lane & 1) { std::memcpy(lanes[lane]->out, &votes, sizeof votes); }
    }
}

inline void nothing(Exchange* const[32], unsigned) {}

// One lane's operands of mma.m16n8k16 for bf16, and the operation, which rounds as a GPU does (tensor_cores.cpp).
struct MmaOperands
{
    unsigned a[4], b[2];
    float c[4];
};
void mma16x8x16(Exchange* const lanes[32], unsigned mask);
}

#define threadIdx (tillerhost::currentThread)
#define blockIdx (tillerhost::currentBlock)
#define blockDim (tillerhost::blockSize)
#define gridDim (tillerhost::gridSize)
#define warpSize 32

inline void __syncthreads() { tillerhost::blockBarrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) { tillerhost::warpOperation(mask, &tillerhost::nothing); }
inline void __threadfence() { tillerhost::fence(); }
inline unsigned atomicInc(unsigned* counter, unsigned last) { return tillerhost::atomicIncrement(counter, last); }
template <class T> T __shfl_sync(unsigned mask, T v, unsigned lane, int width = 32)
{
    return tillerhost::shuffle<tillerhost::Shuffle::Index>(mask, v, lane, width);
}
template <class T> T __shfl_up_sync(unsigned mask, T v, unsigned delta, int width = 32)
{
    return tillerhost::shuffle<tillerhost::Shuffle::Up>(mask, v, delta, width);
}
template <class T> T __shfl_down_sync(unsigned mask, T v, unsigned delta, int width = 32)
{
    return tillerhost::shuffle<tillerhost::Shuffle::Down>(mask, v, delta, width);
}
template <class T> T __shfl_xor_sync(unsigned mask, T v, unsigned lanes, int width = 32)
{
    return tillerhost::shuffle<tillerhost::Shuffle::Xor>(mask, v, lanes, width);
}
inline unsigned __ballot_sync(unsigned mask, int predicate)
{
    tillerhost::Exchange& mine = tillerhost::exchange();
    mine.argument = predicate != 0;
    tillerhost::warpOperation(mask, &tillerhost::ballotLanes);
    unsigned votes;
    std::memcpy(&votes, mine.out, sizeof votes);
    return votes;
}

#define TILLER_KERNEL(name) \
    static const bool tillerRegistered_##name = tillerhost::registerKernel(#name, TILLER_KERNEL_SOURCE, &name);
#define TILLER_DYNAMIC_SHARED(type, name) type* const name = static_cast<type*>(tillerhost::dynamicShared())
