// Pushforward of many tangents of a value row through attention, or pullback of many cotangents, by the matrix M (E × E for each head) from
// tillerAttentionJacobian:
//   pushforward   do = M dq + (q·dk) b + P_t dv,  b = σ_t (v_t − o)
//   pullback      q̄ = M'ō
// Grid (tiles of 64 tangent rows, H · tiles of 64 columns), 256 threads of 4 × 4. Y = X M, 32 numbers of X at a time, in 18 KiB of
// shared memory. If a tile has tangents of several value rows, these are computed one after another; the sums of each line are independent.
// FLOPs: 2 E² for each tangent and head. Bytes: 4 E (tiles + 1) for each line.
#pragma once
#include "attention.cuh"

template <bool Pull>
static __device__ __forceinline__ void tillerDenseRows(const TillerAttention& p)
{
    constexpr int Rows = 64, Depth = 32, XStride = Depth / 4 + 1, MStride = 17;
    __shared__ float4 x[Rows * XStride], m[Depth * MStride];
    __shared__ float along[Rows];
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    const int E = p.E, columns = (E + 3) / 4, tiles = (E + 63) / 64, h = int(blockIdx.y) / tiles, first = int(blockIdx.y) % tiles * 16; // in float4s
    const int t0 = int(blockIdx.x) * Rows, tEnd = tillerMin(t0 + Rows, p.tangents), dense = tillerDenseFrom(p), width = tillerQkvWidth(p);
    const int thread = int(threadIdx.x), tx = thread % 16, ty = thread / 16, warp = thread / 32, lane = thread % 32, g = h / (p.H / p.G);
    for (int t = t0; t < tEnd;)
    {
        const int row = p.owners[t], from = t;
        int begin, end;
        tillerSpanOf(p, row, begin, end);
        const int to = tillerMin(end, tEnd);
        t = to;
        const TillerHeadView view = tillerViewOf(p, p.rows[row], g);
        if (end - begin < dense || view.length > p.bound) { continue; }
        const float* const jacobian = p.m + ((long long)(begin / dense) * p.H + h) * E * E;
        const auto given = [&](int line) -> const float*
        {
            const long long at = t0 + line;
            if (at < from || at >= to) { return nullptr; }
            return Pull ? p.headsBar + (at * p.H + h) * E : p.qkv + (p.values + at) * width + h * E;
        };
        float4 y[4];
        TILLER_UNROLL
        for (int i = 0; i < 4; i++) { y[i] = tillerZero4(); }
        for (int depth = 0; depth < columns; depth += Depth / 4)
        {
            TILLER_UNROLL
            for (int u = 0; u < 2; u++)
            {
                const int line = (thread + u * 256) / 8, c = thread % 8, k = (thread + u * 256) / 16, column = thread % 16;
                const float* const source = given(line);
                x[line * XStride + c] = source && depth + c < columns ? tillerLoad4(source, depth + c, E) : tillerZero4();
                m[k * MStride + column] = 4 * depth + k < E && first + column < columns
                    ? tillerLoad4(jacobian + (long long)(4 * depth + k) * E, first + column, E) : tillerZero4();
            }
            __syncthreads();
            for (int c = 0; c < Depth / 4; c++)
            {
                float4 a[4];
                TILLER_UNROLL
                for (int i = 0; i < 4; i++) { a[i] = x[(ty * 4 + i) * XStride + c]; }
                TILLER_UNROLL
                for (int u = 0; u < 4; u++)
                {
                    const float4 b = m[(4 * c + u) * MStride + tx];
                    TILLER_UNROLL
                    for (int i = 0; i < 4; i++) { tillerAxpy4(u == 0 ? a[i].x : u == 1 ? a[i].y : u == 2 ? a[i].z : a[i].w, b, y[i]); }
                }
            }
            __syncthreads();
        }
        float own = 0.0f, slope = 0.0f; // P_t, σ_t
        if constexpr (!Pull)
        {
            const long long line = (long long)tillerSlotOf(p, row, begin) * p.H + h;
            const float2 softmax = tillerSoftmaxOf(p.stats + line * p.chunkBound, view.chunks);
            const float z = p.z[line * p.zStride + view.length - 1];
            own = tillerExp(z - softmax.x) * softmax.y;
            slope = tillerCapSlope(p, z) * own;
            const float* const q = tillerQuery(p, row, h);
            for (int i = warp; i < Rows; i += 8) // values of the previous value row were read before the barriers above
            {
                float sum = 0.0f;
                const bool here = t0 + i >= from && t0 + i < to;
                const float* const dk = p.qkv + ((long long)p.values + t0 + i) * width + (p.H + g) * E;
                for (int e = lane; here && e < E; e += 32) { sum = tillerFma(q[e], dk[e], sum); }
                sum = tillerWarpSum(sum);
                if (lane == 0) { along[i] = sum; }
            }
            __syncthreads();
        }
        const int c = first + tx;
        TILLER_UNROLL
        for (int i = 0; i < 4; i++)
        {
            const long long at = t0 + ty * 4 + i;
            if (at < from || at >= to || c >= columns) { continue; }
            float4 result = y[i];
            if constexpr (Pull) { tillerStore4(p.qkvBar + at * width + h * E, c, E, result); }
            else
            {
                const float4 v = tillerLoad4(view.values + (long long)(view.length - 1) * E, c, E);
                const float4 o = tillerLoad4(p.heads + ((long long)row * p.H + h) * E, c, E);
                tillerAxpy4(slope * along[ty * 4 + i], {v.x - o.x, v.y - o.y, v.z - o.z, v.w - o.w}, result);
                tillerAxpy4(own, tillerLoad4(p.qkv + (p.values + at) * width + (p.H + p.G + g) * E, c, E), result);
                tillerStore4(p.heads + ((p.values + at) * p.H + h) * E, c, E, result);
            }
        }
    }
}
