// Shared parts of the attention kernels: parameters, the positions that a head of a row sees, their division into chunks, and the tiles of
// register-blocked products. A row at position t with a window w (0: none) sees n = min(t + 1, w) positions, of which its own is the last. Head h
// reads the keys and values of group g = h / (H/G).
//
// A chunk of split-KV has c = max(32, the smallest power of two that is at least n/32) positions, so there are at most 32 chunks. They depend only on
// the row, so a launch for longer rows gives the same bits.
#pragma once
#include "rows.cuh"
#include "math.cuh"

struct TillerAttention
{
    const TillerRow* rows;   // (values)
    const int* owners;       // (tangents) value row of each tangent or cotangent row
    const int* groupBegin;   // (values + 1) first cotangent row of each value row; null: the tangents in `rows`
    const float* qkv;        // (values + tangents, (H + 2 G) E) after RoPE; in the pullback (values, ...)
    float* heads;            // (values + tangents, H E); in the pullback (values, ...)
    const float* headsBar;   // (tangents, H E)
    float* qkvBar;           // (tangents, (H + 2 G) E)
    float* partial;          // sums of chunks
    float* partialTotals;    // Σ s_j of chunks
    float2* stats;           // (…, H, chunkBound) max z_j and Σ e^(z_j − max) of each chunk
    float* z;                // (slots, H, zStride) z_j
    float* m;                // (dense rows, H, E, E)
    int layer;
    int H;
    int G;
    int E;
    float scale;             // a
    float softCap;           // 0 for none
    int window;              // 0 for none
    int values;              // value rows
    int tangents;            // tangent or cotangent rows
    int first;               // first value row, slot or tangent row of this launch
    int bound;               // upper bound for the positions that a row sees
    int chunkBound;          // upper bound for the chunks of a row
    int zStride;
    int pull;                // 1 in the pullback
    int early;               // 1 if attention.cu reads `rows`, and earlier keys and values, before the previous kernel has ended
};

struct TillerHeadView
{
    const float* keys;       // (length, E)
    const float* values;     // (length, E)
    int length;              // n
    int chunk;               // positions in a chunk
    int chunks;
};

static __device__ __forceinline__ TillerHeadView tillerViewOf(const TillerAttention& p, const TillerRow& row, int g)
{
    TillerHeadView view;
    const int end = row.position + 1, begin = p.window > 0 ? tillerMax(0, end - p.window) : 0;
    view.keys = row.cache + ((2LL * p.layer * p.G + g) * row.capacity + begin) * p.E;
    view.values = view.keys + (long long)p.G * row.capacity * p.E;
    view.length = end - begin;
    view.chunk = 32;
    while (view.chunk * 32 < view.length) { view.chunk *= 2; }
    view.chunks = (view.length + view.chunk - 1) / view.chunk;
    return view;
}

static __device__ __forceinline__ int tillerQkvWidth(const TillerAttention& p) { return (p.H + 2 * p.G) * p.E; }
static __device__ __forceinline__ const float* tillerQuery(const TillerAttention& p, int row, int h)
{
    return p.qkv + (long long)row * tillerQkvWidth(p) + h * p.E;
}

// z = cap tanh(x / cap), or x.
static __device__ __forceinline__ float tillerCapped(const TillerAttention& p, float x)
{
    return p.softCap > 0 ? p.softCap * tillerTanh(x / p.softCap) : x;
}
// The slope of z in q·k: a c = a (1 − (z/cap)²), or a.
static __device__ __forceinline__ float tillerCapSlope(const TillerAttention& p, float z)
{
    const float ratio = p.softCap > 0 ? z / p.softCap : 0.0f;
    return p.scale * (1.0f - ratio * ratio);
}

static __device__ __forceinline__ float tillerMinusInfinity() { return tillerFromBits(0xff800000u); }

// The tangent or cotangent rows of a value row, [begin, end).
static __device__ __forceinline__ void tillerSpanOf(const TillerAttention& p, int row, int& begin, int& end)
{
    begin = p.groupBegin ? p.groupBegin[row] : p.rows[row].firstTangent;
    end = p.groupBegin ? p.groupBegin[row + 1] : p.rows[row].endTangent;
}
// M is formed for rows with at least E/2 tangents or cotangents. For the others, keys and values are streamed.
static __device__ __forceinline__ int tillerDenseFrom(const TillerAttention& p) { return tillerMax(1, p.E / 2); }
// The slot in which a row's z and its statistics are kept: the value row or the first tangent, depending on whether there are fewer of these or
// those.
static __device__ __forceinline__ int tillerSlotOf(const TillerAttention& p, int row, int begin) { return p.values <= p.tangents ? row : begin; }

// Maximum and 1 / Σ of the softmax of one head, from its chunks' statistics. Called by a whole warp; every lane gets the same result.
static __device__ __forceinline__ float2 tillerSoftmaxOf(const float2* stats, int chunks)
{
    const int lane = int(threadIdx.x) % 32;
    float2 mine = {tillerMinusInfinity(), 0.0f};
    if (lane < chunks) { mine = stats[lane]; }
    const float top = tillerWarpMax(mine.x);
    return {top, 1.0f / tillerWarpSum(mine.y * tillerExp(mine.x - top))};
}

// Counts a block's arrival, and says whether it is the last of `blocks`. The last block sees everything that the others wrote, and the counter is
// then zero again. Counters are zero when a module is loaded and between launches; launches that share a module run one after another.
static __device__ __forceinline__ bool tillerLastToArrive(unsigned* counter, int blocks, int* shared)
{
    __syncthreads();
    if (threadIdx.x == 0)
    {
        unsigned before;
#if defined(TILLER_HOST_CUDA)
        __threadfence();
        before = atomicInc(counter, unsigned(blocks - 1));
        __threadfence();
#else
        asm volatile("fence.acq_rel.gpu;" ::: "memory");
        asm volatile("atom.relaxed.gpu.inc.u32 %0, [%1], %2;" : "=r"(before) : "l"(counter), "r"(unsigned(blocks - 1)) : "memory");
        asm volatile("fence.acq_rel.gpu;" ::: "memory");
#endif
        *shared = int(before) == blocks - 1;
    }
    __syncthreads();
    return *shared != 0;
}

static __device__ __forceinline__ float4 tillerZero4() { return {0.0f, 0.0f, 0.0f, 0.0f}; }
static __device__ __forceinline__ float tillerDot4(float4 a, float4 b, float sum)
{
    return tillerFma(a.w, b.w, tillerFma(a.z, b.z, tillerFma(a.y, b.y, tillerFma(a.x, b.x, sum))));
}
static __device__ __forceinline__ void tillerAxpy4(float a, float4 x, float4& y)
{
    y.x = tillerFma(a, x.x, y.x);
    y.y = tillerFma(a, x.y, y.y);
    y.z = tillerFma(a, x.z, y.z);
    y.w = tillerFma(a, x.w, y.w);
}
// Numbers [4 c, 4 c + 4) of a row of E numbers; zeros beyond its end.
static __device__ __forceinline__ float4 tillerLoad4(const float* row, int c, int E)
{
    const int e = 4 * c;
    if (E % 4 == 0) { return *reinterpret_cast<const float4*>(row + e); }
    return {row[e], e + 1 < E ? row[e + 1] : 0.0f, e + 2 < E ? row[e + 2] : 0.0f, e + 3 < E ? row[e + 3] : 0.0f};
}
static __device__ __forceinline__ void tillerStore4(float* row, int c, int E, float4 x)
{
    const int e = 4 * c;
    if (E % 4 == 0)
    {
        *reinterpret_cast<float4*>(row + e) = x;
        return;
    }
    row[e] = x.x;
    if (e + 1 < E) { row[e + 1] = x.y; }
    if (e + 2 < E) { row[e + 2] = x.z; }
    if (e + 3 < E) { row[e + 3] = x.w; }
}

// Copies rows of E numbers to shared memory as float4, with a distance of `stride` (odd, which avoids bank conflicts down a column). rowAt gives a
// row's address, or null for a row of zeros. A thread has four loads in flight.
template <int Threads, class RowAt>
static __device__ __forceinline__ void tillerLoadTile(float4* to, int stride, int rows, int E, RowAt rowAt)
{
    const int columns = (E + 3) / 4, count = rows * columns, rowStep = Threads / columns, columnStep = Threads % columns;
    int row = int(threadIdx.x) / columns, column = int(threadIdx.x) % columns;
    for (int i = int(threadIdx.x); i < count; i += 4 * Threads)
    {
        float4 x[4];
        int at[4];
        TILLER_UNROLL
        for (int u = 0; u < 4; u++)
        {
            at[u] = row * stride + column;
            x[u] = tillerZero4();
            if (i + u * Threads < count)
            {
                const float* from = rowAt(row);
                if (from) { x[u] = tillerLoad4(from, column, E); }
            }
            row += rowStep;
            column += columnStep;
            if (column >= columns)
            {
                column -= columns;
                row++;
            }
        }
        TILLER_UNROLL
        for (int u = 0; u < 4; u++)
        {
            if (i + u * Threads < count) { to[at[u]] = x[u]; }
        }
    }
}

// sums[i][j] += x_(ty R + i) · y_(tx + 16 j), for rows of `columns` float4 in shared memory at a distance of `stride`.
template <int R, int K>
static __device__ __forceinline__ void tillerTileDots(const float4* x, const float4* y, int stride, int columns, int ty, int tx, float (&sums)[R][K])
{
    for (int c = 0; c < columns; c++)
    {
        float4 a[R], b[K];
        TILLER_UNROLL
        for (int i = 0; i < R; i++) { a[i] = x[(ty * R + i) * stride + c]; }
        TILLER_UNROLL
        for (int j = 0; j < K; j++) { b[j] = y[(tx + 16 * j) * stride + c]; }
        TILLER_UNROLL
        for (int i = 0; i < R; i++)
        {
            TILLER_UNROLL
            for (int j = 0; j < K; j++) { sums[i][j] = tillerDot4(a[i], b[j], sums[i][j]); }
        }
    }
}

// sums[i][c] += Σ_j s_(ty R + i),j y_j at float4 column tx + 16 c, over `keys` (a multiple of 4) rows of y; a row of s has `scoreStride` floats.
// SkipZero leaves out rows with weight zero, so that a number that is not finite affects only the rows that see it.
template <int R, int C, bool SkipZero>
static __device__ __forceinline__ void tillerTileSum(
    const float* s, int scoreStride, int keys, const float4* y, int stride, int columns, int ty, int tx, float4 (&sums)[R][C])
{
    int column[C];
    TILLER_UNROLL
    for (int c = 0; c < C; c++) { column[c] = tillerMin(tx + 16 * c, columns - 1); }
    for (int j = 0; j < keys; j += 4)
    {
        float4 w[R];
        TILLER_UNROLL
        for (int i = 0; i < R; i++) { w[i] = *reinterpret_cast<const float4*>(s + (ty * R + i) * scoreStride + j); }
        TILLER_UNROLL
        for (int u = 0; u < 4; u++)
        {
            float4 v[C];
            TILLER_UNROLL
            for (int c = 0; c < C; c++) { v[c] = y[(j + u) * stride + column[c]]; }
            TILLER_UNROLL
            for (int i = 0; i < R; i++)
            {
                const float weight = u == 0 ? w[i].x : u == 1 ? w[i].y : u == 2 ? w[i].z : w[i].w;
                if (SkipZero && weight == 0.0f) { continue; }
                TILLER_UNROLL
                for (int c = 0; c < C; c++) { tillerAxpy4(weight, v[c], sums[i][c]); }
            }
        }
    }
}
