// Shared parts of the fused kernels of decoding: a linear map of a few rows, with the norm before it, and a pair of its outputs for the work after
// it.
//
//   value row m    z_n = s_m Σ_k W_nk g_k x_mk,   s = (mean x² + ε)^-1/2
//   tangent row t  dz_n = s_m (Σ_k W_nk g_k dx_tk − c_t Σ_k W_nk g_k x_mk),   c = s² (dx·x)/D, m the tangent's value row
//
// So the norm needs no pass of its own: its sums are computed while x is copied to shared memory, and applied to the finished products. A block's
// outputs come in pairs (first, second), which an epilogue gets together: the two halves of a head for RoPE, or gate and up of a unit.
#pragma once
#include "linear.cuh"
#include "quads.cuh"

// The rows that go through a norm and a map.
struct TillerNormedRows
{
    const float* x;      // (values + tangents, columns)
    const float* norm;   // (columns) g
    const int* owners;   // (tangents) value row of each tangent
    int values, tangents;
    int columns;
    float eps;
    int turns;           // loads in flight per thread, where the first g are loaded before the previous kernel has ended; 1: one at a time
};

// Number of pairs in a block of 32 / parts outputs.
static __device__ __forceinline__ int tillerPairs(int parts) { return 16 / parts; }

// Loads g at the thread's columns from `first` on, one for each iteration of the block, if they are below `until`.
template <int turns> static __device__ __forceinline__ void tillerLoadNorm(const TillerNormedRows& p, int first, int until, float4 (&g)[turns])
{
    TILLER_UNROLL
    for (int i = 0; i < turns; i++)
    {
        const int k = first + i * 4 * tillerDotThreads;
        g[i] = k < until ? tillerFour(p.norm, k, p.columns) : float4{0, 0, 0, 0};
    }
}

// Fills the columns [begin, end) of a chunk with g ∘ x, and adds to the sums Σ x² of row m and Σ x_m x_owner. If p.turns is more than one, g has the
// weights of the first iterations already.
template <class W, int R, int turns> static __device__ __forceinline__ void tillerStageNormed(
    const TillerNormedRows& p, float* x, int chunk, int begin, int end, float4 (&g)[turns], float (&sums)[2 * R])
{
    constexpr int turn = 4 * tillerDotThreads;
    const int rows = p.values + p.tangents;
    const int together = tillerMin(turns, p.turns);
    for (int first = begin + 4 * int(threadIdx.x); first < end; first += together * turn)
    {
        const int until = tillerMin(end, first + together * turn);
        if (together == 1 || first >= turn) { tillerLoadNorm<turns>(p, first, until, g); }
        TILLER_UNROLL
        for (int m = 0; m < R; m++)
        {
            float4 v[turns];
            TILLER_UNROLL
            for (int i = 0; i < turns; i++)
            {
                const int k = first + i * turn;
                v[i] = m < rows && k < until ? tillerFour(p.x + (long long)m * p.columns, k, p.columns) : float4{0, 0, 0, 0};
            }
            if (m >= p.values && m < rows)
            {
                const float* owner = p.x + (long long)p.owners[m - p.values] * p.columns;
                TILLER_UNROLL
                for (int i = 0; i < turns; i++)
                {
                    const int k = first + i * turn;
                    if (k < until) { sums[2 * m + 1] += tillerDot4(v[i], tillerFour(owner, k, p.columns)); }
                }
            }
            TILLER_UNROLL
            for (int i = 0; i < turns; i++)
            {
                const int k = first + i * turn;
                if (k >= until) { continue; }
                sums[2 * m] += tillerDot4(v[i], v[i]);
                float4* to = reinterpret_cast<float4*>(x + m * chunk + W::slot(k - begin));
                *to = float4{g[i].x * v[i].x, g[i].y * v[i].y, g[i].z * v[i].z, g[i].w * v[i].w};
            }
        }
    }
}

// rowOf(pair, second) is a row of w. epilogue(m, pair, first, second) gets a pair of normed outputs of row m, in one thread.
template <class W, int R, class RowOf, class Epilogue>
static __device__ __forceinline__ void tillerNormedPairs(const TillerNormedRows& p, const void* w, int pairs, int parts, bool wide, int prefetch,
                                                         int tile, RowOf rowOf, Epilogue epilogue)
{
    TILLER_DYNAMIC_SHARED(float, x);
    __shared__ float scratch[32 * R];
    __shared__ float reduced[2 * 32 * R];
    const int own = tillerPairs(parts), first = tile * own, rows = p.values + p.tangents, chunk = tillerDotChunk(R, p.columns);
    const auto pairOf = [&](int j) { return tillerMin(first + j % own, pairs - 1); };
    TillerDots<W, R> dots;
    dots.start(w, p.columns, parts, wide, true, [&](int j) { return rowOf(pairOf(j), j / own); });
    if (prefetch > 0 && tile < tillerDotFirstBlocks) { dots.prefetch(prefetch); }
    constexpr int turns = R < 4 ? 4 : R == 4 && W::size == 4 ? 1 : 2; // loads of 1024 columns each; there are no registers for more
    float4 g[turns];
    if (turns > 1 && p.turns > 1) { tillerLoadNorm<turns>(p, 4 * int(threadIdx.x), p.columns, g); }
    tillerWaitForPredecessor();
    float sums[2 * R]; // Σ x² of row m, and Σ x_m x_owner
    TILLER_UNROLL
    for (int i = 0; i < 2 * R; i++) { sums[i] = 0; }
    for (int begin = 0; begin < p.columns; begin += chunk)
    {
        const int end = tillerMin(begin + chunk, (p.columns + tillerDotStep - 1) / tillerDotStep * tillerDotStep);
        if (begin > 0) { __syncthreads(); }
        tillerStageNormed<W, R, turns>(p, x, chunk, begin, end, g, sums);
        __syncthreads();
        if (begin + chunk >= p.columns) { tillerReleaseSuccessor(); }
        dots.accumulate(x, chunk, begin, end);
    }
    tillerBlockSums(sums, reduced);
    dots.finish(scratch);
    // Every thread has the sums of all rows in registers. They are copied to shared memory, where they can be indexed.
    __shared__ float scale[R], along[R];
    if (threadIdx.x == 0)
    {
        TILLER_UNROLL
        for (int m = 0; m < R; m++)
        {
            scale[m] = tillerInverseRms(sums[2 * m], p.columns, p.eps);
            along[m] = sums[2 * m + 1] / float(p.columns);
        }
    }
    __syncthreads();
    for (int i = int(threadIdx.x); i < rows * own; i += tillerDotThreads)
    {
        const int m = i / own, j = i % own;
        if (first + j >= pairs) { continue; }
        float a = dots.sumOf(scratch, m, j), b = dots.sumOf(scratch, m, own + j);
        int owner = m;
        if (m >= p.values)
        {
            owner = p.owners[m - p.values];
            const float c = scale[owner] * scale[owner] * along[m];
            a -= c * dots.sumOf(scratch, owner, j);
            b -= c * dots.sumOf(scratch, owner, own + j);
        }
        epilogue(m, first + j, scale[owner] * a, scale[owner] * b);
    }
}
