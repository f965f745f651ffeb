// A linear map of a few rows with its norm before it and two of its outputs at a time after it: what the fused kernels of decoding share.
//
//   value row m    z_n = s_m Σ_k W_nk g_k x_mk,   s = (mean x² + ε)^-1/2
//   tangent row t  dz_n = s_m (Σ_k W_nk g_k dx_tk − c_t Σ_k W_nk g_k x_mk),   c = s² (dx·x)/D, m the tangent's value row
//
// so that the norm needs no pass of its own: its sums are taken while x is staged, and applied to the finished products. A block's
// outputs come in pairs (first, second) that an epilogue gets together: the two halves of a head for RoPE, gate and up of a unit.
#pragma once
#include "linear.cuh"
#include "quads.cuh"

// The rows that go through a map with a norm.
struct TillerNormedRows
{
    const float* x;      // (values + tangents, columns)
    const float* norm;   // (columns) g
    const int* owners;   // (tangents) value row of each
    int values, tangents;
    int columns;
    float eps;
    int batched;         // several turns of a thread at a time, the first g before the kernel ahead has ended; 0: one by one, as it was
};

// Pairs of a block of 32 / parts outputs.
static __device__ __forceinline__ int tillerPairs(int parts) { return 16 / parts; }

// g at the thread's columns from `first` on, a turn of the block for each.
template <int turns> static __device__ __forceinline__ void tillerLoadNorm(const TillerNormedRows& p, int first, float4 (&g)[turns])
{
    TILLER_UNROLL
    for (int i = 0; i < turns; i++) { g[i] = tillerFour(p.norm, first + i * 4 * tillerDotThreads, p.columns); }
}

// Fills the columns [begin, end) of a chunk with g ∘ x and adds to the sums Σ x² of row m, Σ x_m x_owner. The row's first g are there, unless turns is 1.
template <class W, int R, int turns> static __device__ __forceinline__ void tillerStageNormed(
    const TillerNormedRows& p, float* x, int chunk, int begin, int end, float4 (&g)[turns], float (&sums)[2 * R])
{
    constexpr int turn = 4 * tillerDotThreads;
    const int rows = p.values + p.tangents;
    for (int first = begin + 4 * int(threadIdx.x); first < end; first += turns * turn)
    {
        if (turns == 1 || first >= turns * turn) { tillerLoadNorm<turns>(p, first, g); }
        TILLER_UNROLL
        for (int m = 0; m < R; m++)
        {
            float4 v[turns];
            TILLER_UNROLL
            for (int i = 0; i < turns; i++)
            {
                const int k = first + i * turn;
                v[i] = m < rows && k < end ? tillerFour(p.x + (long long)m * p.columns, k, p.columns) : float4{0, 0, 0, 0};
            }
            if (m >= p.values && m < rows)
            {
                const float* owner = p.x + (long long)p.owners[m - p.values] * p.columns;
                TILLER_UNROLL
                for (int i = 0; i < turns; i++)
                {
                    const int k = first + i * turn;
                    if (k < end) { sums[2 * m + 1] += tillerDot4(v[i], tillerFour(owner, k, p.columns)); }
                }
            }
            TILLER_UNROLL
            for (int i = 0; i < turns; i++)
            {
                const int k = first + i * turn;
                if (k >= end) { continue; }
                sums[2 * m] += tillerDot4(v[i], v[i]);
                *reinterpret_cast<float4*>(x + m * chunk + W::slot(k - begin)) = float4{g[i].x * v[i].x, g[i].y * v[i].y, g[i].z * v[i].z, g[i].w * v[i].w};
            }
        }
    }
}

// rowOf(pair, second) is a row of w; epilogue(m, pair, first, second) gets a row's pair of normed outputs in one thread.
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
    constexpr int turns = R < 8 ? 4 : 2; // of a chunk of 4096 columns, of eight rows 2048
    float4 g[turns];
    if (p.batched) { tillerLoadNorm<turns>(p, 4 * int(threadIdx.x), g); }
    tillerWaitForPredecessor();
    float sums[2 * R]; // Σ x² of row m, Σ x_m x_owner
    TILLER_UNROLL
    for (int i = 0; i < 2 * R; i++) { sums[i] = 0; }
    for (int begin = 0; begin < p.columns; begin += chunk)
    {
        const int end = tillerMin(begin + chunk, (p.columns + tillerDotStep - 1) / tillerDotStep * tillerDotStep);
        if (begin > 0) { __syncthreads(); }
        if (p.batched) { tillerStageNormed<W, R, turns>(p, x, chunk, begin, end, g, sums); }
        else
        {
            float4 one[1];
            tillerStageNormed<W, R, 1>(p, x, chunk, begin, end, one, sums);
        }
        __syncthreads();
        if (begin + chunk >= p.columns) { tillerReleaseSuccessor(); }
        dots.accumulate(x, chunk, begin, end);
    }
    tillerBlockSums(sums, reduced);
    dots.finish(scratch);
    // Every thread has all sums of the rows; through shared memory they can be indexed.
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
