// Arithmetic with a prescribed rounding for every compiler: products and sums that are never contracted into a fused multiply-add, and
// float64 square roots.
#pragma once
#include "math.cuh"

#if defined(TILLER_HOST_CUDA)

static __device__ __forceinline__ float tillerProduct(float a, float b) { return a * b; } // g++ for x86-64 without -mfma contracts nothing
static __device__ __forceinline__ float tillerSum(float a, float b) { return a + b; }
static __device__ __forceinline__ float tillerQuotient(float a, float b) { return a / b; }
static __device__ __forceinline__ double tillerSqrt(double x) { return __builtin_sqrt(x); }
static __device__ __forceinline__ int tillerPopCount(unsigned x) { return __builtin_popcount(x); }

#elif defined(__clang__)

static __device__ __forceinline__ float tillerProduct(float a, float b) { return __nvvm_mul_rn_f(a, b); }
static __device__ __forceinline__ float tillerSum(float a, float b) { return __nvvm_add_rn_f(a, b); }
static __device__ __forceinline__ float tillerQuotient(float a, float b) { return __nvvm_div_rn_f(a, b); }
static __device__ __forceinline__ double tillerSqrt(double x) { return __nvvm_sqrt_rn_d(x); }
static __device__ __forceinline__ int tillerPopCount(unsigned x) { return __builtin_popcount(x); }

#else

static __device__ __forceinline__ float tillerProduct(float a, float b) { return __fmul_rn(a, b); }
static __device__ __forceinline__ float tillerSum(float a, float b) { return __fadd_rn(a, b); }
static __device__ __forceinline__ float tillerQuotient(float a, float b) { return __fdiv_rn(a, b); }
static __device__ __forceinline__ double tillerSqrt(double x) { return __dsqrt_rn(x); }
static __device__ __forceinline__ int tillerPopCount(unsigned x) { return __popc(x); }

#endif

// x as a float, rounded towards zero, so that the magnitude is never larger.
static __device__ __forceinline__ float tillerTruncate(double x)
{
    const float nearest = float(x);
    unsigned bits = tillerBits(nearest);
    const double exact = x < 0 ? -x : x, rounded = nearest < 0 ? -double(nearest) : double(nearest);
    bits -= rounded > exact ? 1u : 0u;
    return tillerFromBits(bits);
}

// x ≥ 0 as a float, rounded away from zero, so that it is never smaller.
static __device__ __forceinline__ float tillerRoundUp(double x)
{
    const float nearest = float(x);
    unsigned bits = tillerBits(nearest);
    bits += double(nearest) < x ? 1u : 0u;
    return tillerFromBits(bits);
}
