// x = y W for few rows: y // (M, N), W // (N, K) in bf16, f16 or f32, x // (M, K); all except W in float32.
//
// Grid: (tiles of 256 columns of W, segments of N), 256 threads; R = 1, 2, 4 or 8 rows, and those beyond M are zero. A lane has eight
// columns (the two quads of numbers.cuh); a warp has every eighth row of W in the segment, with 64 or 128 bytes per lane in flight. The warps'
// sums are added up in order in shared memory. If there are several segments, their sums go to `partial`, and linear_merge.cu adds them up in order.
// Segments and order depend only on the shape of W, so a row's bits do not depend on the other rows or on their number.
// Shared memory: y of up to 1024 rows of W, 4 R bytes each, and 8 KiB for sums. Bytes: W once; each block reads its part of y; 4 R K for each segment
// of partial sums. FLOPs: 2 R N K.
#include "linear.cuh"

struct TillerLinearFewTransposed
{
    const float* y;  // (rows, outputs)
    const void* w;   // (outputs, columns)
    float* x;        // (rows, columns), or partial sums // (segments, rows, columns)
    int rows, columns, outputs;
    int segment;     // number of rows of w in a segment, at most 1024
    int wide;        // whether rows of w start at multiples of 16 bytes
};

template <class W, int R> static __device__ __forceinline__ void tillerLinearFewTransposed(const TillerLinearFewTransposed& p)
{
    constexpr int warps = tillerDotThreads / 32, flight = R == 8 ? 64 : 128; // bytes in flight per lane; 64 sums leave fewer registers for them
    constexpr int ahead = flight / int(sizeof(typename W::Eight));
    TILLER_DYNAMIC_SHARED(float, y); // (segment, R)
    __shared__ float4 shared[warps * tillerDotStep / 4];
    float* const sums = reinterpret_cast<float*>(shared);
    const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
    const int column = int(blockIdx.x) * tillerDotStep, first = int(blockIdx.y) * p.segment, count = tillerMin(p.segment, p.outputs - first);
    const long long stride = (long long)p.columns * W::size;
    const unsigned char* weights = static_cast<const unsigned char*>(p.w) + first * stride;

    typename W::Eight next[ahead];
    TILLER_UNROLL
    for (int i = 0; i < ahead; i++)
    {
        const int n = warp + i * warps;
        next[i] = tillerLoadEight<W>(weights + n * stride, column, n < count ? p.columns : 0, p.wide != 0);
    }
    tillerWaitForPredecessor();
    constexpr int batch = 8 / R; // eight loads in flight
    for (int begin = int(threadIdx.x); begin < count; begin += batch * tillerDotThreads)
    {
        float v[batch][R];
        TILLER_UNROLL
        for (int i = 0; i < batch * R; i++)
        {
            const int n = begin + i / R * tillerDotThreads, m = i % R;
            v[i / R][m] = n < count && m < p.rows ? p.y[(long long)m * p.outputs + first + n] : 0.0f;
        }
        TILLER_UNROLL
        for (int i = 0; i < batch * R; i++)
        {
            const int n = begin + i / R * tillerDotThreads;
            if (n < count) { y[n * R + i % R] = v[i / R][i % R]; }
        }
    }
    __syncthreads();
    tillerReleaseSuccessor();

    float total[R][8];
    TILLER_UNROLL
    for (int i = 0; i < 8 * R; i++) { total[i / 8][i % 8] = 0; }
    for (int begin = warp; begin < count; begin += ahead * warps)
    {
        TILLER_UNROLL
        for (int i = 0; i < ahead; i++)
        {
            const int n = begin + i * warps;
            if (n >= count) { continue; }
            const typename W::Eight now = next[i];
            const int later = n + ahead * warps;
            next[i] = tillerLoadEight<W>(weights + later * stride, column, later < count ? p.columns : 0, p.wide != 0);
            float of[R];
            TILLER_UNROLL
            for (int m = 0; m < R; m++) { of[m] = y[n * R + m]; }
            TILLER_UNROLL
            for (int h = 0; h < 2; h++)
            {
                float w[4];
                W::quad(now, h, w);
                TILLER_UNROLL
                for (int m = 0; m < R; m++)
                {
                    TILLER_UNROLL
                    for (int j = 0; j < 4; j++) { total[m][4 * h + j] = tillerFma(w[j], of[m], total[m][4 * h + j]); }
                }
            }
        }
    }

    const int own = column + int(threadIdx.x), slot = W::slot(int(threadIdx.x));
    TILLER_UNROLL
    for (int m = 0; m < R; m++)
    {
        if (m >= p.rows) { continue; }
        __syncthreads();
        TILLER_UNROLL
        for (int h = 0; h < 2; h++)
        {
            *reinterpret_cast<float4*>(sums + warp * tillerDotStep + 128 * h + 4 * lane) =
                {total[m][4 * h], total[m][4 * h + 1], total[m][4 * h + 2], total[m][4 * h + 3]};
        }
        __syncthreads();
        float sum = sums[slot];
        for (int i = 1; i < warps; i++) { sum += sums[i * tillerDotStep + slot]; }
        if (own < p.columns) { p.x[((long long)blockIdx.y * p.rows + m) * p.columns + own] = sum; }
    }
}

#define TILLER_LINEAR_FEW_TRANSPOSED(name, W, R)                                                                                         \
    extern "C" __global__ void __launch_bounds__(256, 2) name(const TillerLinearFewTransposed p) { tillerLinearFewTransposed<W, R>(p); } \
    TILLER_KERNEL(name)

TILLER_LINEAR_FEW_TRANSPOSED(tillerLinearFewTransposedBF16x1, TillerBF16, 1)
TILLER_LINEAR_FEW_TRANSPOSED(tillerLinearFewTransposedBF16x2, TillerBF16, 2)
TILLER_LINEAR_FEW_TRANSPOSED(tillerLinearFewTransposedBF16x4, TillerBF16, 4)
TILLER_LINEAR_FEW_TRANSPOSED(tillerLinearFewTransposedBF16x8, TillerBF16, 8)
TILLER_LINEAR_FEW_TRANSPOSED(tillerLinearFewTransposedF16x1, TillerF16, 1)
TILLER_LINEAR_FEW_TRANSPOSED(tillerLinearFewTransposedF16x2, TillerF16, 2)
TILLER_LINEAR_FEW_TRANSPOSED(tillerLinearFewTransposedF16x4, TillerF16, 4)
TILLER_LINEAR_FEW_TRANSPOSED(tillerLinearFewTransposedF16x8, TillerF16, 8)
TILLER_LINEAR_FEW_TRANSPOSED(tillerLinearFewTransposedF32x1, TillerF32, 1)
TILLER_LINEAR_FEW_TRANSPOSED(tillerLinearFewTransposedF32x2, TillerF32, 2)
TILLER_LINEAR_FEW_TRANSPOSED(tillerLinearFewTransposedF32x4, TillerF32, 4)
TILLER_LINEAR_FEW_TRANSPOSED(tillerLinearFewTransposedF32x8, TillerF32, 8)
