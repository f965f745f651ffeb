// RMSNorm forward on the rows of a dual batch, and its transpose (docs/math.md §9). With s = (mean x² + ε)^-1/2 and h = s x:
//   value    y  = g ∘ h                               tangent  dy = s g ∘ (dx − (dx·h) h / D), x the tangent's value row
//   output   = residual + y where a residual is given (post-norms)
//   pull     x̄ (+)= s (z − (z·h) h / D),  z = g ∘ ȳ
// One block per row, min(1024, ⌈D/4⌉ up to whole warps) threads, four columns a thread and turn; the first turn stays in registers,
// the others are read again from L1. Shared memory 256 bytes. Per value row 8 D bytes from memory and g from L2, 4 D FLOPs.
// y must not overlap x: a tangent reads its value row's x while that row is normed by another block.
//
// Between two maps on the tensor cores one kernel takes up the first's sums, writes x, norms it, and writes the panels that the second reads: bytes
// per row 4 D (parts + 2), a tangent's twice, of it 4 to 6 D written as panels.
#include "norm.cuh"
#include "panels.cuh"
#include "sums.cuh"

extern "C" __global__ void __launch_bounds__(1024) tillerNorm(const TillerNormParameters p)
{
    __shared__ float scratch[64];
    const float4 g0 = tillerLoad4(p.weight, 4 * int(threadIdx.x), p.d, p.d % 4 == 0);
    tillerWaitForPredecessor();
    tillerNormRow(p, int(blockIdx.x), g0, scratch);
}
TILLER_KERNEL(tillerNorm)

struct TillerNormPanelsParameters
{
    TillerNormParameters norm; // no residual, no y; its x is written where there are sums
    TillerSums sums;           // of x
    float* x;                  // (values + tangents, D)
    uint4* panels;             // panels.cuh, of y
    int rows;                  // values + tangents; blocks of more rows, up to whole tiles, write zeros
    int tiles, exact;
};

extern "C" __global__ void __launch_bounds__(1024) tillerNormPanels(const TillerNormPanelsParameters p)
{
    __shared__ float scratch[64];
    const int row = int(blockIdx.x), d = p.norm.d, width = (d + 31) / 32 * 32;
    const bool wide = d % 4 == 0;
    const float4 g0 = tillerLoad4(p.norm.weight, 4 * int(threadIdx.x), d, wide);
    tillerWaitForPredecessor();
    const auto store = [&](int c, float4 v) { tillerStorePanel4(p.panels, p.tiles, p.exact, row, c, row < p.norm.values, v); };
    if (row >= p.rows)
    {
        tillerReleaseSuccessor();
        for (int c = 4 * int(threadIdx.x); c < width; c += 4 * int(blockDim.x)) { store(c, {0.0f, 0.0f, 0.0f, 0.0f}); }
        return;
    }
    // What this block has written of its own row, it reads again; of the value row, which another block writes, it adds up the sums twice.
    const auto again = [&](int m, int c)
    {
        return p.sums.parts && m != row ? tillerSummed4(p.sums, m, c, wide) : tillerLoad4(p.x + (long long)m * d, c, d, wide);
    };
    const auto read = [&](int m, int c)
    {
        if (!p.sums.parts) { return again(m, c); }
        const float4 v = tillerSummed4(p.sums, m, c, wide);
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
