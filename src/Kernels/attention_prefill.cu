// Attention of many value rows of one sequence: the same o as in attention.cu, computed in tiles (docs/math.md §9; the running softmax of
// Milakov and Gimelshein, arXiv:1805.02867).
//
// Grid (tiles of rows, H), the last rows first; 256 threads, 16 × 16. A block computes one head of R = 64 rows (32 if E > 128). It keeps their
// queries in shared memory, and streams all keys and values that any of the rows sees through shared memory, R positions at a time:
//   S = Q K', 4 × 4 (2 × 2) for each thread, masked by each row's own position and window; running max and sum by shuffles over 16 threads;
//   P to shared memory; O += P V, where a thread has its rows and the 16-byte columns tx + 16 c.
// Tiles of positions start at multiples of R, so a row's sums do not depend on the other rows. Positions that a row must not see are left out
// rather than multiplied by zero, so that a number that is not finite affects only the rows that see it. Rows need neither be consecutive nor in
// order. A row whose cache is not that of the first row gets NaN.
//
// FLOPs: 4 E Σ_rows n for each head. Shared memory: 4 (2 R (4 (⌈E/4⌉ | 1)) + R (R + 4)) bytes, which is 51 KiB at E = 64, 83 at 128, 70 at 256.
// From L2: 8 E n bytes for each tile and head.
#include "attention.cuh"

template <int Columns, int RowsPerThread, int KeysPerThread>
static __device__ __forceinline__ void tillerAttendRows(const TillerAttention& p)
{
    constexpr int Threads = 256, Rows = 16 * RowsPerThread, Keys = 16 * KeysPerThread, ScoreStride = Keys + 4;
    static_assert(Rows <= 64, "one warp looks at every row");
    TILLER_DYNAMIC_SHARED(float4, memory);
    __shared__ int beginOf[64], endOf[64], limits[4];
    const int E = p.E, columns = (E + 3) / 4, stride = columns | 1, thread = int(threadIdx.x), tx = thread % 16, ty = thread / 16;
    float4* const q = memory;                  // (Rows, stride)
    float4* const kv = q + Rows * stride;      // (Keys, stride)
    float* const s = reinterpret_cast<float*>(kv + Keys * stride); // (Rows, ScoreStride)
    const int firstRow = int(gridDim.x - 1 - blockIdx.x) * Rows, h = int(blockIdx.y), g = h / (p.H / p.G);
    const int count = tillerMin(Rows, p.values - firstRow);
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();

    const float* const cache = p.rows[firstRow].cache;
    const float* const keys = cache + (2LL * p.layer * p.G + g) * p.rows[firstRow].capacity * E;
    const float* const values = keys + (long long)p.G * p.rows[firstRow].capacity * E;
    tillerLoadTile<Threads>(q, stride, Rows, E, [&](int r) { return r < count ? tillerQuery(p, firstRow + r, h) : nullptr; });
    if (thread < 32)
    {
        // The positions that some row sees are in [limits[0], limits[1]); all rows see [limits[2], limits[3]).
        int low = 0x7fffffff, high = 0, highestBegin = 0, lowestEnd = 0x7fffffff;
        for (int r = thread; r < Rows; r += 32)
        {
            const bool seen = r < count && p.rows[firstRow + r].cache == cache;
            const int end = seen ? p.rows[firstRow + r].position + 1 : 0, begin = p.window > 0 ? tillerMax(0, end - p.window) : 0;
            beginOf[r] = begin;
            endOf[r] = end;
            if (seen)
            {
                low = tillerMin(low, begin);
                high = tillerMax(high, end);
                highestBegin = tillerMax(highestBegin, begin);
                lowestEnd = tillerMin(lowestEnd, end);
            }
        }
        for (int lanes = 16; lanes > 0; lanes >>= 1)
        {
            low = tillerMin(low, __shfl_xor_sync(0xffffffffu, low, lanes));
            high = tillerMax(high, __shfl_xor_sync(0xffffffffu, high, lanes));
            highestBegin = tillerMax(highestBegin, __shfl_xor_sync(0xffffffffu, highestBegin, lanes));
            lowestEnd = tillerMin(lowestEnd, __shfl_xor_sync(0xffffffffu, lowestEnd, lanes));
        }
        if (thread == 0)
        {
            limits[0] = low;
            limits[1] = high;
            limits[2] = highestBegin;
            limits[3] = lowestEnd;
        }
    }
    __syncthreads();
    const int low = limits[0], high = limits[1];
    float4 o[RowsPerThread][Columns];
    float largest[RowsPerThread], sum[RowsPerThread];
    int begin[RowsPerThread], end[RowsPerThread];
    TILLER_UNROLL
    for (int i = 0; i < RowsPerThread; i++)
    {
        largest[i] = tillerMinusInfinity();
        sum[i] = 0.0f;
        begin[i] = beginOf[ty * RowsPerThread + i];
        end[i] = endOf[ty * RowsPerThread + i];
        TILLER_UNROLL
        for (int c = 0; c < Columns; c++) { o[i][c] = tillerZero4(); }
    }

    for (int t = low / Keys * Keys; t < high; t += Keys)
    {
        const auto visible = [&](int j) { return t + j >= low && t + j < high; };
        tillerLoadTile<Threads>(kv, stride, Keys, E, [&](int j) { return visible(j) ? keys + (long long)(t + j) * E : nullptr; });
        __syncthreads();
        float score[RowsPerThread][KeysPerThread] = {};
        tillerTileDots<RowsPerThread, KeysPerThread>(q, kv, stride, columns, ty, tx, score);
        TILLER_UNROLL
        for (int i = 0; i < RowsPerThread; i++)
        {
            float top = largest[i];
            TILLER_UNROLL
            for (int j = 0; j < KeysPerThread; j++)
            {
                const int at = t + tx + 16 * j;
                score[i][j] = at >= begin[i] && at < end[i] ? tillerCapped(p, p.scale * score[i][j]) : tillerMinusInfinity();
                top = tillerMax(top, score[i][j]);
            }
            for (int lanes = 8; lanes > 0; lanes >>= 1) { top = tillerMax(top, __shfl_xor_sync(0xffffffffu, top, lanes)); }
            const float against = top == tillerMinusInfinity() ? 0.0f : top; // the row has seen no position yet
            const float factor = tillerExp(largest[i] - against);
            float added = 0.0f;
            TILLER_UNROLL
            for (int j = 0; j < KeysPerThread; j++)
            {
                const float e = tillerExp(score[i][j] - against);
                s[(ty * RowsPerThread + i) * ScoreStride + tx + 16 * j] = e;
                added += e;
            }
            for (int lanes = 8; lanes > 0; lanes >>= 1) { added += __shfl_xor_sync(0xffffffffu, added, lanes); }
            largest[i] = top;
            sum[i] = sum[i] * factor + added;
            TILLER_UNROLL
            for (int c = 0; c < Columns; c++)
            {
                o[i][c].x *= factor;
                o[i][c].y *= factor;
                o[i][c].z *= factor;
                o[i][c].w *= factor;
            }
        }
        __syncthreads();
        tillerLoadTile<Threads>(kv, stride, Keys, E, [&](int j) { return visible(j) ? values + (long long)(t + j) * E : nullptr; });
        __syncthreads();
        if (t >= limits[2] && t + Keys <= limits[3])
        {
            tillerTileSum<RowsPerThread, Columns, false>(s, ScoreStride, Keys, kv, stride, columns, ty, tx, o);
        }
        else { tillerTileSum<RowsPerThread, Columns, true>(s, ScoreStride, Keys, kv, stride, columns, ty, tx, o); }
        __syncthreads();
    }

    TILLER_UNROLL
    for (int i = 0; i < RowsPerThread; i++)
    {
        const int row = ty * RowsPerThread + i;
        if (row >= count) { continue; }
        TILLER_UNROLL
        for (int c = 0; c < Columns; c++)
        {
            if (tx + 16 * c >= columns) { continue; }
            const float4 x = {o[i][c].x / sum[i], o[i][c].y / sum[i], o[i][c].z / sum[i], o[i][c].w / sum[i]};
            tillerStore4(p.heads + ((long long)(firstRow + row) * p.H + h) * E, tx + 16 * c, E, x);
        }
    }
}

#define TILLER_ATTEND_ROWS(name, Columns, Rows, Keys)                                                                                \
    extern "C" __global__ void __launch_bounds__(256, 2) name(const TillerAttention p) { tillerAttendRows<Columns, Rows, Keys>(p); } \
    TILLER_KERNEL(name)

// For E up to 64, 128 and 256.
TILLER_ATTEND_ROWS(tillerAttendRows64, 1, 4, 4)
TILLER_ATTEND_ROWS(tillerAttendRows128, 2, 4, 4)
TILLER_ATTEND_ROWS(tillerAttendRows256, 4, 2, 2)
