// Stored weights as floats, a float as the sum of three bf16 numbers, and the product of tensor cores, 16×16 by 16×8.
#pragma once
#include "math.cuh"

// bfloat16 is the upper half of a float32. A word has two of them, the first in its lower half.
static __device__ __forceinline__ float tillerLowBf16(unsigned pair) { return tillerFromBits(pair << 16); }
static __device__ __forceinline__ float tillerHighBf16(unsigned pair) { return tillerFromBits(pair & 0xffff0000u); }

// IEEE half to float, exactly, including subnormal numbers, infinities and NaN.
static __device__ __forceinline__ float tillerFromHalf(unsigned half)
{
#if defined(TILLER_HOST_CUDA)
    const unsigned magnitude = (half & 0x7fffu) << 13;
    const float scaled = tillerFromBits(magnitude) * 0x1p112f; // the exponents' offsets differ by 112
    const unsigned finite = magnitude >= 0x0f800000u ? magnitude | 0x7f800000u : tillerBits(scaled);
    return tillerFromBits(finite | (half & 0x8000u) << 16);
#else
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"((unsigned short)half));
    return x;
#endif
}

// Rounded to nearest, ties to even; NaN stays NaN.
static __device__ __forceinline__ unsigned tillerToBf16(float x)
{
    const unsigned bits = tillerBits(x);
    return x == x ? (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16 : bits >> 16 | 0x40u;
}

// x = high + middle + low. The sum is exact for |x| from 2^-110 on: each piece has eight bits, and a float32 has 24. |x - high - middle| <= 2^-17
// |x|.
// Infinity and NaN are in the high piece alone. A number that would round to infinity is truncated.
static __device__ __forceinline__ void tillerSplitBf16(float x, unsigned& high, unsigned& middle, unsigned& low)
{
    const unsigned bits = tillerBits(x);
    const bool finite = (bits & 0x7f800000u) != 0x7f800000u;
    high = tillerToBf16(x);
    high = finite && (high & 0x7f80u) == 0x7f80u ? bits >> 16 : high;
    const float rest = finite ? x - tillerFromBits(high << 16) : 0.0f; // exact, like the next difference
    middle = tillerToBf16(rest);
    low = tillerToBf16(rest - tillerFromBits(middle << 16));
}

// ---- stored types: a quad is four consecutive weights; a lane has eight weights in a step of 256 ----------------------

struct TillerEight16 { uint4 q; };
struct TillerEight32 { uint4 q0, q1; };

// slot(k) is the place of number k of a chunk of activations in shared memory. It lets every lane read its quads as float4 without bank conflicts:
// quad h of lane l is at 128 h + 4 l of its step. For sixteen-bit types, lane l has the numbers 8 l .. 8 l + 7 in two quads.
struct TillerBF16
{
    static constexpr int size = 2;
    using Eight = TillerEight16;
    static __device__ __forceinline__ int slot(int k) { return (k & ~255) | (k & 4) << 5 | (k >> 1 & 0x7c) | (k & 3); }
    static __device__ __forceinline__ int first(int lane, int h) { return 8 * lane + 4 * h; }
    static __device__ __forceinline__ void quad(const Eight& e, int h, float (&w)[4])
    {
        const unsigned a = h ? e.q.z : e.q.x, b = h ? e.q.w : e.q.y;
        w[0] = tillerLowBf16(a);
        w[1] = tillerHighBf16(a);
        w[2] = tillerLowBf16(b);
        w[3] = tillerHighBf16(b);
    }
};
struct TillerF16
{
    static constexpr int size = 2;
    using Eight = TillerEight16;
    static __device__ __forceinline__ int slot(int k) { return TillerBF16::slot(k); }
    static __device__ __forceinline__ int first(int lane, int h) { return TillerBF16::first(lane, h); }
    static __device__ __forceinline__ void quad(const Eight& e, int h, float (&w)[4])
    {
        const unsigned a = h ? e.q.z : e.q.x, b = h ? e.q.w : e.q.y;
        w[0] = tillerFromHalf(a & 0xffffu);
        w[1] = tillerFromHalf(a >> 16);
        w[2] = tillerFromHalf(b & 0xffffu);
        w[3] = tillerFromHalf(b >> 16);
    }
};
struct TillerF32
{
    static constexpr int size = 4;
    using Eight = TillerEight32;
    static __device__ __forceinline__ int slot(int k) { return k; }
    static __device__ __forceinline__ int first(int lane, int h) { return 128 * h + 4 * lane; }
    static __device__ __forceinline__ void quad(const Eight& e, int h, float (&w)[4])
    {
        w[0] = tillerFromBits(h ? e.q1.x : e.q0.x);
        w[1] = tillerFromBits(h ? e.q1.y : e.q0.y);
        w[2] = tillerFromBits(h ? e.q1.z : e.q0.z);
        w[3] = tillerFromBits(h ? e.q1.w : e.q0.w);
    }
};

// ---- tensor cores -------------------------------------------------------------------------------------------------------

// C (16, 8) += A (16, 16) B (16, 8) with bf16 factors. Products are exact; FP32 sums are truncated instead of rounded to nearest, so that long sums
// shrink (docs/cuda.md). All lanes of the warp must call it.
static __device__ __forceinline__ void tillerMma(float (&c)[4], unsigned a0, unsigned a1, unsigned a2, unsigned a3, unsigned b0, unsigned b1)
{
#if defined(TILLER_HOST_CUDA)
    const tillerhost::MmaOperands in{{a0, a1, a2, a3}, {b0, b1}, {c[0], c[1], c[2], c[3]}};
    static_assert(sizeof in <= tillerhost::maxExchangeBytes);
    tillerhost::Exchange& mine = tillerhost::exchange();
    std::memcpy(mine.in, &in, sizeof in);
    tillerhost::warpOperation(0xffffffffu, &tillerhost::mma16x8x16);
    std::memcpy(c, mine.out, sizeof c);
#else
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#endif
}
