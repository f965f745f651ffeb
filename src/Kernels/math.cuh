// Elementary functions and reductions, with the same code for every compiler: no libdevice, no fast-math switch. Results are within 2 ulp, unless
// a comment says otherwise.
#pragma once
#include "platform.cuh"

#if defined(__CUDACC__) && !defined(__clang__)
#define TILLER_MATH(name) name
#else
#define TILLER_MATH(name) __builtin_##name
#endif

static __device__ __forceinline__ float tillerFma(float a, float b, float c) { return TILLER_MATH(fmaf)(a, b, c); }
static __device__ __forceinline__ float tillerSqrt(float x) { return TILLER_MATH(sqrtf)(x); }
static __device__ __forceinline__ float tillerAbs(float x) { return TILLER_MATH(fabsf)(x); }
static __device__ __forceinline__ float tillerRint(float x) { return TILLER_MATH(rintf)(x); }
static __device__ __forceinline__ float tillerFloor(float x) { return TILLER_MATH(floorf)(x); }
static __device__ __forceinline__ float tillerMax(float a, float b) { return a > b ? a : b; }
static __device__ __forceinline__ float tillerMin(float a, float b) { return a < b ? a : b; }
static __device__ __forceinline__ int tillerMax(int a, int b) { return a > b ? a : b; }
static __device__ __forceinline__ int tillerMin(int a, int b) { return a < b ? a : b; }
#if defined(__CUDACC__) && !defined(__clang__)
static __device__ __forceinline__ float tillerFromBits(unsigned bits) { return __uint_as_float(bits); }
static __device__ __forceinline__ unsigned tillerBits(float x) { return __float_as_uint(x); }
#else
static __device__ __forceinline__ float tillerFromBits(unsigned bits)
{
    float x;
    __builtin_memcpy(&x, &bits, 4);
    return x;
}
static __device__ __forceinline__ unsigned tillerBits(float x)
{
    unsigned bits;
    __builtin_memcpy(&bits, &x, 4);
    return bits;
}
#endif

// e^x = 2^n e^r, r = x − n ln 2 in [−0.35, 0.35]; 0 below −87.3, infinity above 88.7, NaN for NaN.
static __device__ __forceinline__ float tillerExp(float x)
{
    const float n = tillerRint(tillerMin(tillerMax(x, -126.0f), 128.0f) * 1.44269504089f);
    const float r = tillerFma(n, 2.12194440e-4f, tillerFma(n, -0.693359375f, x));
    float p = 1.9875691500e-4f;
    p = tillerFma(p, r, 1.3981999507e-3f);
    p = tillerFma(p, r, 8.3334519073e-3f);
    p = tillerFma(p, r, 4.1665795894e-2f);
    p = tillerFma(p, r, 1.6666665459e-1f);
    p = tillerFma(p, r, 5.0000001201e-1f);
    p = tillerFma(p, r * r, r + 1.0f);
    const int half = int(n) >> 1; // 2^n in two factors, because 2^128 is not a float
    const float y = p * tillerFromBits(unsigned(half + 127) << 23) * tillerFromBits(unsigned(int(n) - half + 127) << 23);
    return x > 88.72f ? tillerFromBits(0x7f800000u) : x < -87.3f ? 0.0f : x == x ? y : x;
}

static __device__ __forceinline__ float tillerSigmoid(float x) { return 1.0f / (1.0f + tillerExp(-x)); }

static __device__ __forceinline__ float tillerTanh(float x)
{
    const float a = tillerAbs(x);
    if (a < 0.625f)
    {
        const float z = x * x;
        float p = -5.70498872745e-3f;
        p = tillerFma(p, z, 2.06390887954e-2f);
        p = tillerFma(p, z, -5.37397155531e-2f);
        p = tillerFma(p, z, 1.33314422036e-1f);
        p = tillerFma(p, z, -3.33332819422e-1f);
        return tillerFma(p * z, x, x);
    }
    const float t = 1.0f - 2.0f / (tillerExp(2.0f * a) + 1.0f);
    return x != x ? x : x < 0 ? -t : t;
}

// Angles may have any size: the reduction to [−π/4, π/4] is in double.
static __device__ __forceinline__ void tillerSinCos(float angle, float& sine, float& cosine)
{
    const double turns = TILLER_MATH(rint)(double(angle) * 0.63661977236758134308);
    const float r = float(TILLER_MATH(fma)(turns, -6.12323399573676603587e-17, TILLER_MATH(fma)(turns, -1.57079632679489661923, double(angle))));
    const int quadrant = int(turns - 4.0 * TILLER_MATH(floor)(turns * 0.25));
    const float z = r * r;
    float s = -1.9515295891e-4f;
    s = tillerFma(s, z, 8.3321608736e-3f);
    s = tillerFma(s, z, -1.6666654611e-1f);
    s = tillerFma(s * z, r, r);
    float c = 2.443315711809948e-5f;
    c = tillerFma(c, z, -1.388731625493765e-3f);
    c = tillerFma(c, z, 4.166664568298827e-2f);
    c = tillerFma(c * z, z, tillerFma(-0.5f, z, 1.0f));
    sine = quadrant == 0 ? s : quadrant == 1 ? c : quadrant == 2 ? -s : -c;
    cosine = quadrant == 0 ? c : quadrant == 1 ? -s : quadrant == 2 ? -c : s;
}

// The sum over a warp, in every lane, always in the same order.
static __device__ __forceinline__ float tillerWarpSum(float x)
{
    for (int lanes = 16; lanes > 0; lanes >>= 1) { x += __shfl_xor_sync(0xffffffffu, x, lanes); }
    return x;
}
static __device__ __forceinline__ float tillerWarpMax(float x)
{
    for (int lanes = 16; lanes > 0; lanes >>= 1) { x = tillerMax(x, __shfl_xor_sync(0xffffffffu, x, lanes)); }
    return x;
}

// s = (mean x² + ε)^-1/2. NaN if the squares overflow: s = 0 would turn such a state into a text that looks like any other.
static __device__ __forceinline__ float tillerInverseRms(float squares, int n, float eps)
{
    const float mean = squares / float(n) + eps;
    return mean < tillerFromBits(0x7f800000u) ? 1.0f / tillerSqrt(mean) : tillerFromBits(0x7fc00000u);
}

// silu(a) = a σ(a); gelu_tanh(a) = a (1 + t)/2, t = tanh(κ (a + 0.044715 a³)), κ = sqrt(2/π). docs/math.md §9.
enum TillerActivation { TillerSilu = 0, TillerGeluTanh = 1 };
static __device__ __forceinline__ void tillerActivate(int kind, float a, float& value, float& slope)
{
    if (kind == TillerSilu)
    {
        const float s = tillerSigmoid(a);
        value = a * s;
        slope = s * (1.0f + a * (1.0f - s));
        return;
    }
    const float kappa = 0.7978845608028654f;
    const float t = tillerTanh(kappa * (a + 0.044715f * a * a * a));
    value = 0.5f * a * (1.0f + t);
    slope = 0.5f * (1.0f + t) + 0.5f * a * (1.0f - t * t) * kappa * (1.0f + 3.0f * 0.044715f * a * a);
}
