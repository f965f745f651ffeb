// The gated unit on the rows of a dual batch, gateUp // (rows, 2F): first gates a, then ups u (docs/math.md §9).
// act is m times the nonlinearity, where m is the model's factor on the contributions of a block.
//   value    f  = act(a) ∘ u                    tangent  df = act'(a) ∘ u ∘ da + act(a) ∘ du
//   pull     ā = act'(a) ∘ u ∘ f̄,  ū = act(a) ∘ f̄
// A thread has four columns of one value row, or of four consecutive tangents (cotangents); for these it computes the activation once for each value
// row. Blocks have 128 threads, and a line has ⌈F/512⌉ blocks. No shared memory. Bytes: 12 F for a value row; for a tangent 12 F, and at least a
// quarter of the 8 F of its value row.
#include "math.cuh"
#include "quads.cuh"
#include "sums.cuh"

static constexpr int tillerGateRows = 4; // tangents per thread

struct TillerGateParameters
{
    float* gateUp;       // (values + tangents, 2F); with partial sums, the value rows are written, for the pull
    const int* owners;   // (tangents)
    float* gated;        // (values + tangents, F)
    int values;
    int tangents;
    int f;
    int activation;      // TillerActivation
    int blocksPerLine;
    float scale;         // m
    TillerSums sums;     // partial sums of gateUp, if any; then F % 4 == 0
};

// act(a) and act'(a) u for four columns.
static __device__ __forceinline__ void tillerGateAt(int activation, float scale, float4 a, float4 u, float4& value, float4& slope)
{
    tillerActivate(activation, a.x, value.x, slope.x);
    tillerActivate(activation, a.y, value.y, slope.y);
    tillerActivate(activation, a.z, value.z, slope.z);
    tillerActivate(activation, a.w, value.w, slope.w);
    value = {scale * value.x, scale * value.y, scale * value.z, scale * value.w};
    slope = {scale * slope.x * u.x, scale * slope.y * u.y, scale * slope.z * u.z, scale * slope.w * u.w};
}

static __device__ __forceinline__ float4 tillerTimes4(float4 a, float4 b) { return {a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w}; }

extern "C" __global__ void __launch_bounds__(128) tillerGate(const TillerGateParameters p)
{
    const int line = int(blockIdx.x) / p.blocksPerLine, c = (int(blockIdx.x) % p.blocksPerLine * 128 + int(threadIdx.x)) * 4;
    const bool wide = p.f % 4 == 0;
    tillerWaitForPredecessor();
    if (c >= p.f) { return; }
    // Gates or ups of a row at the thread's columns. With partial sums, they are added up again, so no block reads what another block writes.
    const auto load = [&](int row, bool up) -> float4
    {
        return p.sums.parts ? tillerSummed4(p.sums, row, up * p.f + c) : tillerLoad4(p.gateUp + (2LL * row + up) * p.f, c, p.f, wide);
    };
    float4 value, slope;
    if (line < p.values)
    {
        const float4 a = load(line, false), u = load(line, true);
        tillerReleaseSuccessor();
        if (p.sums.parts)
        {
            tillerStore4(p.gateUp + 2LL * line * p.f, c, p.f, wide, a);
            tillerStore4(p.gateUp + (2LL * line + 1) * p.f, c, p.f, wide, u);
        }
        tillerGateAt(p.activation, p.scale, a, u, value, slope);
        tillerStore4(p.gated + (long long)line * p.f, c, p.f, wide, tillerTimes4(value, u));
        return;
    }
    const int first = (line - p.values) * tillerGateRows;
    float4 da[tillerGateRows], du[tillerGateRows];
    TILLER_UNROLL
    for (int i = 0; i < tillerGateRows; i++)
    {
        if (first + i >= p.tangents) { break; }
        da[i] = load(p.values + first + i, false);
        du[i] = load(p.values + first + i, true);
    }
    tillerReleaseSuccessor();
    int at = -1;
    TILLER_UNROLL
    for (int i = 0; i < tillerGateRows; i++)
    {
        if (first + i >= p.tangents) { break; }
        const int owner = p.owners[first + i];
        if (owner != at)
        {
            tillerGateAt(p.activation, p.scale, load(owner, false), load(owner, true), value, slope);
            at = owner;
        }
        const float4 v = tillerTimes4(slope, da[i]);
        tillerStore4(p.gated + (long long)(p.values + first + i) * p.f, c, p.f, wide,
                     {tillerFma(value.x, du[i].x, v.x), tillerFma(value.y, du[i].y, v.y), tillerFma(value.z, du[i].z, v.z),
                      tillerFma(value.w, du[i].w, v.w)});
    }
}
TILLER_KERNEL(tillerGate)

struct TillerGatePullParameters
{
    const float* gateUp;   // (value rows, 2F)
    const int* owners;     // (rows)
    const float* gatedBar; // (rows, F)
    float* gateUpBar;      // (rows, 2F)
    int rows;
    int f;
    int activation;        // TillerActivation
    int blocksPerLine;
    float scale;           // m
};

extern "C" __global__ void __launch_bounds__(128) tillerGatePull(const TillerGatePullParameters p)
{
    const int first = int(blockIdx.x) / p.blocksPerLine * tillerGateRows;
    const int c = (int(blockIdx.x) % p.blocksPerLine * 128 + int(threadIdx.x)) * 4;
    const bool wide = p.f % 4 == 0;
    tillerWaitForPredecessor();
    if (c >= p.f) { return; }
    float4 bar[tillerGateRows];
    TILLER_UNROLL
    for (int i = 0; i < tillerGateRows; i++)
    {
        if (first + i >= p.rows) { break; }
        bar[i] = tillerLoad4(p.gatedBar + (long long)(first + i) * p.f, c, p.f, wide);
    }
    tillerReleaseSuccessor();
    float4 value, slope;
    int at = -1;
    TILLER_UNROLL
    for (int i = 0; i < tillerGateRows; i++)
    {
        if (first + i >= p.rows) { break; }
        const int owner = p.owners[first + i];
        if (owner != at)
        {
            const float* from = p.gateUp + 2LL * owner * p.f;
            tillerGateAt(p.activation, p.scale, tillerLoad4(from, c, p.f, wide), tillerLoad4(from + p.f, c, p.f, wide), value, slope);
            at = owner;
        }
        float* to = p.gateUpBar + 2LL * (first + i) * p.f;
        tillerStore4(to, c, p.f, wide, tillerTimes4(slope, bar[i]));
        tillerStore4(to + p.f, c, p.f, wide, tillerTimes4(value, bar[i]));
    }
}
TILLER_KERNEL(tillerGatePull)
