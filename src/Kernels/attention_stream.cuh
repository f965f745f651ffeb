// Pushforward of few tangents of a value row through attention, or pullback of few cotangents, with streamed keys and values; split-KV as in
// attention.cu.
//   pushforward   s_j = σ_j k_j·dq (+ σ_t q·dk at its own position t),   do = Σ_j s_j v_j − (Σ_j s_j) o + P_t dv
//   pullback      s_j = σ_j (v_j·ō − o·ō),                               q̄ = Σ_j s_j k_j
// These are the formulas of docs/math.md §9 with M and b multiplied out.
//
// Grid (chunks of the longest row, G, tangent rows), 128 threads, 8 × 16. T = ⌊R G / H⌋ tangents of a row are computed by the block of the first of
// them, for all H/G heads of the group: these are at most R = 32 (16 if E > 128) lines x. So a chunk's keys and values are read once for T tangents.
// The blocks of the other tangents end at once.
//   for 32 positions   S = X A', R/8 × 2 for each thread; times the slopes, to shared memory; Y += S B, R/8 lines × columns tx + 16 c for each thread
//   at the end         Y and Σ s of the chunk go to scratch memory; the block that arrives last adds the chunks in order.
// FLOPs: 4 n E for each tangent and head. Shared memory: three tiles, 30 KiB at E = 64, 54 at 128, 84 at 256.
#pragma once
#include "attention.cuh"

static __device__ unsigned tillerStreamCounters[4096]; // one for each tangent row and group of a launch

template <int Columns, int RowsPerThread, bool Pull>
static __device__ __forceinline__ void tillerStream(const TillerAttention& p)
{
    constexpr int Threads = 128, Rows = 8 * RowsPerThread, Keys = 32, ScoreStride = Keys + 4, Parts = Threads / Rows, MaxHeads = 16;
    TILLER_DYNAMIC_SHARED(float4, memory);
    __shared__ float slopes[MaxHeads * 33], top[MaxHeads], inverse[MaxHeads], own[MaxHeads], extra[Rows], totals[Rows];
    __shared__ int last;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    const int tangent = p.first + int(blockIdx.z), row = p.owners[tangent], g = int(blockIdx.y), chunk = int(blockIdx.x);
    const int perGroup = p.H / p.G, most = Rows / perGroup, E = p.E, thread = int(threadIdx.x);
    int begin, end;
    tillerSpanOf(p, row, begin, end);
    if (end - begin >= tillerDenseFrom(p) || (tangent - begin) % most != 0) { return; }
    const TillerHeadView view = tillerViewOf(p, p.rows[row], g);
    if (chunk >= view.chunks || view.length > p.bound) { return; }

    const int lines = tillerMin(most, end - tangent) * perGroup; // line i is tangent + i / perGroup, head i % perGroup of the group
    const int columns = (E + 3) / 4, stride = columns | 1, tx = thread % 16, ty = thread / 16, warp = thread / 32, lane = thread % 32;
    float4* const x = memory;               // (Rows, stride); at the end y
    float4* const a = x + Rows * stride;    // (Keys, stride)
    float4* const b = a + Keys * stride;    // (Keys, stride)
    float* const s = reinterpret_cast<float*>(b + Keys * stride); // (Rows, ScoreStride)
    const float* const keys = view.keys;
    const float* const values = view.values;
    const int from = chunk * view.chunk, to = tillerMin(from + view.chunk, view.length), width = tillerQkvWidth(p);
    const float* const o = p.heads + ((long long)row * p.H + g * perGroup) * E;
    const long long scores = (long long)tillerSlotOf(p, row, begin) * p.H + g * perGroup;
    const auto given = [&](int line) -> const float*
    {
        if (line >= lines) { return nullptr; }
        const long long at = tangent + line / perGroup;
        const int h = g * perGroup + line % perGroup;
        return Pull ? p.headsBar + (at * p.H + h) * E : p.qkv + (p.values + at) * width + h * E;
    };
    tillerLoadTile<Threads>(x, stride, Rows, E, given);
    for (int h = warp; h < perGroup; h += 4)
    {
        const float2 softmax = tillerSoftmaxOf(p.stats + (scores + h) * p.chunkBound, view.chunks);
        if (lane == 0)
        {
            top[h] = softmax.x;
            inverse[h] = softmax.y;
            own[h] = tillerExp(p.z[(scores + h) * p.zStride + view.length - 1] - softmax.x) * softmax.y; // P_t
        }
    }
    for (int line = warp; line < Rows; line += 4)
    {
        // In the pushforward q·dk, which only the last chunk needs; in the pullback o·ō.
        float sum = 0.0f;
        if (line < lines && (Pull || to == view.length))
        {
            const int h = line % perGroup;
            const float* const u = Pull ? o + h * E : tillerQuery(p, row, g * perGroup + h);
            const float* const v = Pull ? given(line) : p.qkv + ((long long)p.values + tangent + line / perGroup) * width + (p.H + g) * E;
            for (int e = lane; e < E; e += 32) { sum = tillerFma(u[e], v[e], sum); }
        }
        sum = tillerWarpSum(sum);
        if (lane == 0) { extra[line] = sum; }
    }

    float4 y[RowsPerThread][Columns];
    int head[RowsPerThread];
    TILLER_UNROLL
    for (int i = 0; i < RowsPerThread; i++)
    {
        head[i] = (ty * RowsPerThread + i) % perGroup;
        TILLER_UNROLL
        for (int c = 0; c < Columns; c++) { y[i][c] = tillerZero4(); }
    }
    float total = 0.0f; // a part of Σ_j s_j for line thread / Parts
    for (int j0 = from; j0 < to; j0 += Keys)
    {
        const float* const first = Pull ? values : keys;
        const float* const second = Pull ? keys : values;
        tillerLoadTile<Threads>(a, stride, Keys, E, [&](int j) { return j0 + j < to ? first + (long long)(j0 + j) * E : nullptr; });
        tillerLoadTile<Threads>(b, stride, Keys, E, [&](int j) { return j0 + j < to ? second + (long long)(j0 + j) * E : nullptr; });
        __syncthreads(); // top and inverse have been written, too
        for (int i = thread; i < perGroup * Keys; i += Threads)
        {
            const int h = i / Keys, j = i % Keys;
            const float z = j0 + j < to ? p.z[(scores + h) * p.zStride + j0 + j] : 0.0f;
            slopes[h * 33 + j] = j0 + j < to ? tillerCapSlope(p, z) * tillerExp(z - top[h]) * inverse[h] : 0.0f;
        }
        __syncthreads();
        float dots[RowsPerThread][2] = {};
        tillerTileDots<RowsPerThread, 2>(x, a, stride, columns, ty, tx, dots);
        TILLER_UNROLL
        for (int i = 0; i < RowsPerThread; i++)
        {
            TILLER_UNROLL
            for (int u = 0; u < 2; u++)
            {
                const int j = tx + 16 * u, line = ty * RowsPerThread + i;
                const float add = Pull ? -extra[line] : j0 + j == view.length - 1 ? extra[line] : 0.0f;
                s[line * ScoreStride + j] = slopes[head[i] * 33 + j] * (dots[i][u] + add);
            }
        }
        __syncthreads();
        if constexpr (!Pull)
        {
            TILLER_UNROLL
            for (int i = 0; i < Keys / Parts; i++) { total += s[thread / Parts * ScoreStride + thread % Parts + i * Parts]; }
        }
        tillerTileSum<RowsPerThread, Columns, false>(s, ScoreStride, Keys, b, stride, columns, ty, tx, y);
        __syncthreads();
    }

    TILLER_UNROLL
    for (int i = 0; i < RowsPerThread; i++)
    {
        TILLER_UNROLL
        for (int c = 0; c < Columns; c++)
        {
            if (tx + 16 * c < columns) { x[(ty * RowsPerThread + i) * stride + tx + 16 * c] = y[i][c]; }
        }
    }
    TILLER_UNROLL
    for (int lanes = Parts / 2; lanes > 0; lanes >>= 1) { total += __shfl_xor_sync(0xffffffffu, total, lanes); }
    if (thread % Parts == 0) { totals[thread / Parts] = total; }
    __syncthreads();
    const auto lineOf = [&](int line) { return (long long)(int(blockIdx.z) + line / perGroup) * p.H + g * perGroup + line % perGroup; };
    if (view.chunks > 1)
    {
        float4* const partial = reinterpret_cast<float4*>(p.partial);
        for (int i = thread; i < lines * columns; i += Threads)
        {
            const int line = i / columns, c = i - line * columns;
            partial[(lineOf(line) * p.chunkBound + chunk) * columns + c] = x[line * stride + c];
        }
        if (thread < lines) { p.partialTotals[lineOf(thread) * p.chunkBound + chunk] = totals[thread]; }
        if (!tillerLastToArrive(tillerStreamCounters + blockIdx.z * gridDim.y + blockIdx.y, view.chunks, &last)) { return; }
        for (int i = thread; i < lines * columns; i += Threads)
        {
            const int line = i / columns, c = i - line * columns;
            const float4* const parts = partial + lineOf(line) * p.chunkBound * columns + c;
            float4 sum = tillerZero4();
            TILLER_UNROLL
            for (int k = 0; k < 32; k++)
            {
                if (k < view.chunks) { tillerAxpy4(1.0f, parts[k * columns], sum); }
            }
            x[line * stride + c] = sum;
        }
        if (thread < lines)
        {
            float sum = 0.0f;
            for (int k = 0; k < view.chunks; k++) { sum += p.partialTotals[lineOf(thread) * p.chunkBound + k]; }
            totals[thread] = sum;
        }
        __syncthreads();
    }

    for (int i = thread; i < lines * columns; i += Threads)
    {
        const int line = i / columns, c = i - line * columns, h = line % perGroup;
        const long long at = tangent + line / perGroup;
        float4 result = x[line * stride + c];
        if constexpr (Pull) { tillerStore4(p.qkvBar + at * width + (g * perGroup + h) * E, c, E, result); }
        else
        {
            tillerAxpy4(-totals[line], tillerLoad4(o + h * E, c, E), result);
            tillerAxpy4(own[h], tillerLoad4(p.qkv + (p.values + at) * width + (p.H + p.G + g) * E, c, E), result);
            tillerStore4(p.heads + ((p.values + at) * p.H + g * perGroup + h) * E, c, E, result);
        }
    }
}

// The kernel of a head size, pulling back or pushing forward; TILLER_KERNEL(name) follows in the file that has it.
#define TILLER_STREAM_ATTENTION(name, blocks, Columns, Rows, pulls) \
    extern "C" __global__ void __launch_bounds__(128, blocks) name(const TillerAttention p) { tillerStream<Columns, Rows, pulls>(p); }
