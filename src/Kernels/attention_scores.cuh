// Scores of up to 8 query heads of one group for 32 keys at a time, by 256 threads. 8 threads share a key (128 contiguous bytes for each
// load, E/32 16-byte loads in flight per thread). Each key is read once for all heads, and a butterfly of three shuffles adds the eight parts.
#pragma once
#include "attention.cuh"

// Width 4 requires E % 4 == 0 and uses 16-byte loads. Width 1 is for any E.
template <int Width>
struct TillerVector
{
    float x[Width];
};

template <int Width>
static __device__ __forceinline__ TillerVector<Width> tillerLoadVector(const float* from)
{
    TillerVector<Width> v;
    if constexpr (Width == 4)
    {
        const float4 x = *reinterpret_cast<const float4*>(from);
        v.x[0] = x.x;
        v.x[1] = x.y;
        v.x[2] = x.z;
        v.x[3] = x.w;
    }
    else { v.x[0] = *from; }
    return v;
}
template <int Width>
static __device__ __forceinline__ void tillerStoreVector(float* to, TillerVector<Width> v)
{
    if constexpr (Width == 4) { *reinterpret_cast<float4*>(to) = {v.x[0], v.x[1], v.x[2], v.x[3]}; }
    else { *to = v.x[0]; }
}
template <int Width>
static __device__ __forceinline__ TillerVector<Width> tillerZeroVector()
{
    TillerVector<Width> v;
    TILLER_UNROLL
    for (int i = 0; i < Width; i++) { v.x[i] = 0.0f; }
    return v;
}

// A thread's eighth part of a key.
template <int Width>
struct TillerKeyPart
{
    static constexpr int Slices = 32 / Width; // E <= 256
    TillerVector<Width> x[Slices];

    __device__ __forceinline__ void load(const float* key, int E)
    {
        const int columns = E / Width, lane = int(threadIdx.x) % 8;
        TILLER_UNROLL
        for (int i = 0; i < Slices; i++)
        {
            const int column = lane + 8 * i;
            x[i] = key && column < columns ? tillerLoadVector<Width>(key + column * Width) : tillerZeroVector<Width>();
        }
    }
};

// Copies the queries of `heads` heads to shared memory, (Heads, 256), with zeros beyond E and beyond the last head.
template <int Heads>
static __device__ __forceinline__ void tillerLoadQueries(float* q, const float* from, int heads, int E)
{
    for (int i = int(threadIdx.x); i < Heads * 256; i += 256)
    {
        const int h = i / 256, e = i % 256;
        q[i] = h < heads && e < E ? from[h * E + e] : 0.0f;
    }
}

// z of this thread's key for head threadIdx.x % 8. For heads beyond the last, the result has no meaning.
template <int Heads, int Width>
static __device__ __forceinline__ float tillerScore(const TillerAttention& p, const float* q, const TillerKeyPart<Width>& key)
{
    const int lane = int(threadIdx.x) % 8, slices = (p.E / Width + 7) / 8;
    float sums[Heads];
    TILLER_UNROLL
    for (int h = 0; h < Heads; h++) { sums[h] = 0.0f; }
    TILLER_UNROLL
    for (int i = 0; i < TillerKeyPart<Width>::Slices; i++)
    {
        if (i < slices)
        {
            TILLER_UNROLL
            for (int h = 0; h < Heads; h++)
            {
                const TillerVector<Width> w = tillerLoadVector<Width>(q + h * 256 + (lane + 8 * i) * Width);
                TILLER_UNROLL
                for (int u = 0; u < Width; u++) { sums[h] = tillerFma(w.x[u], key.x[i].x[u], sums[h]); }
            }
        }
    }
    float mine = 0.0f;
    TILLER_UNROLL
    for (int h = 0; h < Heads; h++)
    {
        float sum = sums[h];
        sum += __shfl_xor_sync(0xffffffffu, sum, 4);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        if (lane == h) { mine = sum; }
    }
    return tillerCapped(p, p.scale * mine);
}
