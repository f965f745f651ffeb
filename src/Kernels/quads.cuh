// Rows read four columns at a time, and sums over a block. Loads have 16 bytes if all rows are 16-byte aligned (`wide`:
// columns % 4 == 0); otherwise numbers are loaded one by one. Columns beyond the end are read as 0 and never written.
#pragma once
#include "math.cuh"

static __device__ __forceinline__ float4 tillerLoad4(const float* row, int column, int columns, bool wide)
{
    float4 v = {0.0f, 0.0f, 0.0f, 0.0f};
    if (wide)
    {
        if (column < columns) { v = *reinterpret_cast<const float4*>(row + column); }
        return v;
    }
    if (column < columns) { v.x = row[column]; }
    if (column + 1 < columns) { v.y = row[column + 1]; }
    if (column + 2 < columns) { v.z = row[column + 2]; }
    if (column + 3 < columns) { v.w = row[column + 3]; }
    return v;
}

static __device__ __forceinline__ void tillerStore4(float* row, int column, int columns, bool wide, float4 v)
{
    if (wide)
    {
        if (column < columns) { *reinterpret_cast<float4*>(row + column) = v; }
        return;
    }
    if (column < columns) { row[column] = v.x; }
    if (column + 1 < columns) { row[column + 1] = v.y; }
    if (column + 2 < columns) { row[column + 2] = v.z; }
    if (column + 3 < columns) { row[column + 3] = v.w; }
}

static __device__ __forceinline__ float tillerDot4(float4 a, float4 b)
{
    return tillerFma(a.x, b.x, a.y * b.y) + tillerFma(a.z, b.z, a.w * b.w);
}

static __device__ __forceinline__ float4 tillerPlus4(float4 a, float4 b) { return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w}; }

static __device__ __forceinline__ float4 tillerTimes4(float s, float4 a) { return {s * a.x, s * a.y, s * a.z, s * a.w}; }

// a + s b
static __device__ __forceinline__ float4 tillerAddScaled4(float4 a, float s, float4 b)
{
    return {tillerFma(s, b.x, a.x), tillerFma(s, b.y, a.y), tillerFma(s, b.z, a.z), tillerFma(s, b.w, a.w)};
}

// N sums over a block of whole warps along x, in every thread, in an order that depends only on the number of threads.
// `scratch` is 32 N numbers of shared memory, and must not be written again before the block's next barrier.
template <int N, class T> static __device__ __forceinline__ void tillerBlockSums(T (&x)[N], T* scratch)
{
    const int lane = int(threadIdx.x) % 32, warps = int(blockDim.x) / 32;
    TILLER_UNROLL
    for (int i = 0; i < N; i++)
    {
        TILLER_UNROLL
        for (int lanes = 16; lanes > 0; lanes >>= 1) { x[i] += __shfl_xor_sync(0xffffffffu, x[i], lanes); }
        if (lane == 0) { scratch[32 * i + int(threadIdx.x) / 32] = x[i]; }
    }
    __syncthreads();
    TILLER_UNROLL
    for (int i = 0; i < N; i++)
    {
        x[i] = lane < warps ? scratch[32 * i + lane] : T(0);
        TILLER_UNROLL
        for (int lanes = 16; lanes > 0; lanes >>= 1) { x[i] += __shfl_xor_sync(0xffffffffu, x[i], lanes); }
    }
}
