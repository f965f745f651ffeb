// RMSNorm of one row of a dual batch by one block; norm.cu has the equations. It is a kernel of its own, and the end of the kernel that reads the
// sensors of the same row.
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

// Norms the block's row. g0 has the thread's first four weights, and `scratch` is 64 floats of shared memory. read(row, c) gives four columns of a
// row from c on, and again(row, c) gives them a second time. store(c, v) gets four columns of the result, for c up to `width`; beyond the end they
// are zero.
template <class Read, class Again, class Store> static __device__ __forceinline__ void tillerNormRow(
    const TillerNormParameters& p, int row, int width, float4 g0, float* scratch, Read read, Again again, Store store)
{
    const int first = 4 * int(threadIdx.x), step = 4 * int(blockDim.x);
    const bool tangent = row >= p.values;
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
        const float4 g = c == first ? g0 : tillerLoad4(p.weight, c, p.d, p.d % 4 == 0);
        float4 v = c == first ? dx0 : again(row, c);
        if (tangent) { v = tillerAddScaled4(v, along, c == first ? x0 : again(owner, c)); }
        store(c, {s * v.x * g.x, s * v.y * g.y, s * v.z * g.z, s * v.w * g.w});
    }
}

// Reads rows and writes rows, and adds the residual if there is one.
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
