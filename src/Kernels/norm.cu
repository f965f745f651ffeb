// RMSNorm forward on the rows of a dual batch, and its pullback (docs/math.md §9). With s = (mean x² + ε)^-1/2 and h = s x:
//   value    y  = g ∘ h                               tangent  dy = s g ∘ (dx − (dx·h) h / D), where x is the tangent's value row
//   output   = residual + y if there is a residual (post-norms)
//   pull     x̄ (+)= s (z − (z·h) h / D),  z = g ∘ ȳ
// One block for each row, with min(1024, ⌈D/4⌉ rounded up to whole warps) threads; a thread has four columns in each iteration. The first iteration's
// stay in registers, the others are read again from L1. Shared memory: 256 bytes. Bytes for a value row: 8 D from memory, and g from L2; 4 D FLOPs.
// y must not overlap x, because a tangent's block reads the x of its value row while another block norms that row.
//
// Between two maps on tensor cores, one kernel adds up the partial sums of the first map, writes x, norms it, and writes the panels of the second
// map.
// Bytes for a value row: 4 D (parts + 2), of which 6 D are panels; for a tangent about twice as many, of which 4 D to 6 D are panels.
#include "norm.cuh"
#include "panels.cuh"
#include "sums.cuh"

// The thread's first four weights, which are loaded before the previous kernel has ended.
static __device__ __forceinline__ float4 tillerFirstWeights(const TillerNormParameters& p, bool wide)
{
    const float4 g0 = tillerLoad4(p.weight, 4 * int(threadIdx.x), p.d, wide);
    tillerWaitForPredecessor();
    return g0;
}

extern "C" __global__ void __launch_bounds__(1024) tillerNorm(const TillerNormParameters p)
{
    __shared__ float scratch[64];
    const float4 g0 = tillerFirstWeights(p, p.d % 4 == 0);
    tillerNormRow(p, int(blockIdx.x), g0, scratch);
}
TILLER_KERNEL(tillerNorm)

struct TillerNormPanelsParameters
{
    TillerNormParameters norm; // without residual and y; its x is written if there are partial sums
    TillerSums sums;           // partial sums of x, if any
    float* x;                  // (values + tangents, D)
    uint4* panels;             // panels of y (panels.cuh)
    int rows;                  // values + tangents; further blocks fill up the last tile with zeros
    int tiles, exact;
};

extern "C" __global__ void __launch_bounds__(1024) tillerNormPanels(const TillerNormPanelsParameters p)
{
    __shared__ float scratch[64];
    const int row = int(blockIdx.x), d = p.norm.d, width = (d + 31) / 32 * 32;
    constexpr bool wide = true; // because panels require D % 8 == 0
    const float4 g0 = tillerFirstWeights(p.norm, wide);
    const auto store = [&](int c, float4 v) { tillerStorePanel4(p.panels, p.tiles, p.exact, row, c, row < p.norm.values, v); };
    if (row >= p.rows)
    {
        tillerReleaseSuccessor();
        for (int c = 4 * int(threadIdx.x); c < width; c += 4 * int(blockDim.x)) { store(c, {0.0f, 0.0f, 0.0f, 0.0f}); }
        return;
    }
    // This block reads its own row again after writing it. The value row is written by another block, so this block adds up its sums a second time.
    const auto again = [&](int m, int c)
    {
        return p.sums.parts && m != row ? tillerSummed4(p.sums, m, c) : tillerLoad4(p.x + (long long)m * d, c, d, wide);
    };
    const auto read = [&](int m, int c)
    {
        if (!p.sums.parts) { return again(m, c); }
        const float4 v = tillerSummed4(p.sums, m, c);
        if (m == row) { tillerStore4(p.x + (long long)m * d, c, d, wide, v); }
        return v;
    };
    tillerNormRow(p.norm, row, width, g0, scratch, read, again, store);
}
TILLER_KERNEL(tillerNormPanels)

struct TillerNormPullParameters
{
    const float* bar;    // (rows, D) ȳ
    const float* at;     // (value rows, D) x
    const int* owners;   // (rows)
    const float* weight; // (D) g
    float* output;       // (rows, D); may be `bar`
    int d;
    float eps;
    int accumulate;
};

extern "C" __global__ void __launch_bounds__(1024) tillerNormPull(const TillerNormPullParameters p)
{
    __shared__ float scratch[64];
    const int row = int(blockIdx.x), first = 4 * int(threadIdx.x), step = 4 * int(blockDim.x);
    const bool wide = p.d % 4 == 0;
    tillerWaitForPredecessor();
    const long long line = (long long)row * p.d;
    const float* x = p.at + (long long)p.owners[row] * p.d;
    float sums[2] = {0.0f, 0.0f}; // Σ x², Σ z x
    for (int c = first; c < p.d; c += step)
    {
        const float4 xc = tillerLoad4(x, c, p.d, wide), b = tillerLoad4(p.bar + line, c, p.d, wide), g = tillerLoad4(p.weight, c, p.d, wide);
        sums[0] += tillerDot4(xc, xc);
        sums[1] += tillerDot4({g.x * b.x, g.y * b.y, g.z * b.z, g.w * b.w}, xc);
    }
    tillerReleaseSuccessor();
    tillerBlockSums(sums, scratch);
    const float s = tillerInverseRms(sums[0], p.d, p.eps);
    const float along = -s * s * sums[1] / float(p.d);
    for (int c = first; c < p.d; c += step)
    {
        const float4 xc = tillerLoad4(x, c, p.d, wide), b = tillerLoad4(p.bar + line, c, p.d, wide), g = tillerLoad4(p.weight, c, p.d, wide);
        float4 v = tillerAddScaled4({g.x * b.x, g.y * b.y, g.z * b.z, g.w * b.w}, along, xc);
        v = {s * v.x, s * v.y, s * v.z, s * v.w};
        if (p.accumulate)
        {
            const float4 r = tillerLoad4(p.output + line, c, p.d, wide);
            v = {r.x + v.x, r.y + v.y, r.z + v.z, r.w + v.w};
        }
        tillerStore4(p.output + line, c, p.d, wide, v);
    }
}
TILLER_KERNEL(tillerNormPull)
