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

// The row's block norms it, g0 being the thread's first four weights; `scratch` is shared, 64 floats.
static __device__ __forceinline__ void tillerNormRow(const TillerNormParameters& p, int row, float4 g0, float* scratch)
{
    const int first = 4 * int(threadIdx.x), step = 4 * int(blockDim.x);
    const bool wide = p.d % 4 == 0, tangent = row >= p.values;
    const long long line = (long long)row * p.d;
    const float* dx = p.x + line;
    const float* x = tangent ? p.x + (long long)p.owners[row - p.values] * p.d : dx;
    const float4 x0 = tillerLoad4(x, first, p.d, wide), dx0 = tillerLoad4(dx, first, p.d, wide);
    float sums[2] = {tillerDot4(x0, x0), tillerDot4(dx0, x0)}; // Σ x², Σ dx x
    for (int c = first + step; c < p.d; c += step)
    {
        const float4 xc = tillerLoad4(x, c, p.d, wide), dxc = tillerLoad4(dx, c, p.d, wide);
        sums[0] += tillerDot4(xc, xc);
        sums[1] += tillerDot4(dxc, xc);
    }
    tillerReleaseSuccessor();
    tillerBlockSums(sums, scratch);
    const float s = tillerInverseRms(sums[0], p.d, p.eps);
    const float along = tangent ? -s * s * sums[1] / float(p.d) : 0.0f;
    for (int c = first; c < p.d; c += step)
    {
        const float4 xc = c == first ? x0 : tillerLoad4(x, c, p.d, wide), g = c == first ? g0 : tillerLoad4(p.weight, c, p.d, wide);
        float4 v = c == first ? dx0 : tillerLoad4(dx, c, p.d, wide);
        if (tangent) { v = tillerAddScaled4(v, along, xc); }
        v = {s * v.x * g.x, s * v.y * g.y, s * v.z * g.z, s * v.w * g.w};
        if (p.residual)
        {
            const float4 r = tillerLoad4(p.residual + line, c, p.d, wide);
            v = {r.x + v.x, r.y + v.y, r.z + v.z, r.w + v.w};
        }
        tillerStore4(p.y + line, c, p.d, wide, v);
    }
}
