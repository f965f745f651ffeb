// RMSNorm of one row of a dual batch by one block: norm.cu tells the equations. A kernel of its own, and the end of the one that
// reads the sensors of the same row.
#pragma once
#include "math.cuh"
#include "quads.cuh"

struct TillerNormParameters
{
    const float* x;        // (values + tangents, D)
    const float* residual; // (values + tangents, D), or null
    const float* weight;   // (D) g
    float* y;              // (values + tangents, D)
    const int* owners;     // (tangents)
    int values;
    int d;
    float eps;
};

// The row's block norms it, g0 being the thread's first four weights; `scratch` is shared, 64 floats. Four columns at c of a row are read(row, c),
// again(row, c) in the second turn; store(c, v) takes those of the result, up to `width`, past the end zero.
template <class Read, class Again, class Store> static __device__ __forceinline__ void tillerNormRow(
    const TillerNormParameters& p, int row, int width, float4 g0, float* scratch, Read read, Again again, Store store)
{
    const int first = 4 * int(threadIdx.x), step = 4 * int(blockDim.x);
    const bool wide = p.d % 4 == 0, tangent = row >= p.values;
    const int owner = tangent ? p.owners[row - p.values] : row;
    const float4 dx0 = read(row, first), x0 = tangent ? read(owner, first) : dx0;
    float sums[2] = {tillerDot4(x0, x0), tillerDot4(dx0, x0)}; // Σ x², Σ dx x
    for (int c = first + step; c < p.d; c += step)
    {
        const float4 dxc = read(row, c), xc = tangent ? read(owner, c) : dxc;
        sums[0] += tillerDot4(xc, xc);
        sums[1] += tillerDot4(dxc, xc);
    }
    tillerReleaseSuccessor();
    tillerBlockSums(sums, scratch);
    const float s = tillerInverseRms(sums[0], p.d, p.eps);
    const float along = tangent ? -s * s * sums[1] / float(p.d) : 0.0f;
    for (int c = first; c < width; c += step)
    {
        const float4 g = c == first ? g0 : tillerLoad4(p.weight, c, p.d, wide);
        float4 v = c == first ? dx0 : again(row, c);
        if (tangent) { v = tillerAddScaled4(v, along, c == first ? x0 : again(owner, c)); }
        store(c, {s * v.x * g.x, s * v.y * g.y, s * v.z * g.z, s * v.w * g.w});
    }
}

// Rows to rows, added to a residual where there is one.
static __device__ __forceinline__ void tillerNormRow(const TillerNormParameters& p, int row, float4 g0, float* scratch)
{
    const bool wide = p.d % 4 == 0;
    const long long line = (long long)row * p.d;
    const auto read = [&](int m, int c) { return tillerLoad4(p.x + (long long)m * p.d, c, p.d, wide); };
    const auto store = [&](int c, float4 v)
    {
        if (p.residual) { v = tillerPlus4(tillerLoad4(p.residual + line, c, p.d, wide), v); }
        tillerStore4(p.y + line, c, p.d, wide, v);
    };
    tillerNormRow(p, row, p.d, g0, scratch, read, read, store);
}
