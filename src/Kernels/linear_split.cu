// x = high + low, both bf16 (MATH.md §10), for the tensor cores: as panels in the order of mma.sync's fragments for linear_rows.cu,
// or as two matrices for a library's product. x // (M, K) float32.
//
// Panels: for each block of 32 columns and each tile of eight rows 1 KiB: the high numbers, then the low ones, 16 bytes for each lane;
// lane 4 g + c has the columns 8 c .. 8 c + 7 of row g. Zero past M and K. Grid: eight panels a block, one a warp; a warp reads
// 128 bytes of each of eight rows and writes 512 twice.
// Matrices: high // (M, K), then low; eight numbers a thread. Bytes, both: 8 for each number. No shared memory.
#include "numbers.cuh"

struct TillerLinearSplit
{
    const float* x;  // (rows, columns)
    uint4* split;    // panels // (columns / 32, tiles, 2, 32), or matrices // (2, rows, columns / 8)
    int rows, columns;
    int tiles;       // of eight rows; panels only
};

static __device__ __forceinline__ void tillerSplitEight(const float (&x)[8], uint4& high, uint4& low)
{
    unsigned h[8], l[8];
    TILLER_UNROLL
    for (int i = 0; i < 8; i++) { tillerSplitBf16(x[i], h[i], l[i]); }
    high = {h[0] | h[1] << 16, h[2] | h[3] << 16, h[4] | h[5] << 16, h[6] | h[7] << 16};
    low = {l[0] | l[1] << 16, l[2] | l[3] << 16, l[4] | l[5] << 16, l[6] | l[7] << 16};
}

static __device__ __forceinline__ void tillerReadEight(const float* p, float (&x)[8])
{
    const float4 a = *reinterpret_cast<const float4*>(p), b = *reinterpret_cast<const float4*>(p + 4);
    x[0] = a.x;
    x[1] = a.y;
    x[2] = a.z;
    x[3] = a.w;
    x[4] = b.x;
    x[5] = b.y;
    x[6] = b.z;
    x[7] = b.w;
}

extern "C" __global__ void __launch_bounds__(256) tillerLinearSplitPanels(const TillerLinearSplit p)
{
    const int lane = int(threadIdx.x) % 32, panel = int(blockIdx.x) * 8 + int(threadIdx.x) / 32;
    const int k = panel / p.tiles * 32 + lane % 4 * 8, row = panel % p.tiles * 8 + lane / 4;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    if (panel >= (p.columns + 31) / 32 * p.tiles) { return; }
    float x[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    if (row < p.rows)
    {
        const float* from = p.x + (long long)row * p.columns + k;
        if (p.columns % 4 == 0 && k + 8 <= p.columns) { tillerReadEight(from, x); }
        else
        {
            TILLER_UNROLL
            for (int i = 0; i < 8; i++) { x[i] = k + i < p.columns ? from[i] : 0.0f; }
        }
    }
    uint4 high, low;
    tillerSplitEight(x, high, low);
    p.split[(long long)panel * 64 + lane] = high;
    p.split[(long long)panel * 64 + 32 + lane] = low;
}
TILLER_KERNEL(tillerLinearSplitPanels)

// columns % 8 == 0.
extern "C" __global__ void __launch_bounds__(256) tillerLinearSplitMatrices(const TillerLinearSplit p)
{
    const long long at = (long long)blockIdx.x * 256 + threadIdx.x, all = (long long)p.rows * (p.columns / 8);
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    if (at >= all) { return; }
    float x[8];
    tillerReadEight(p.x + 8 * at, x);
    uint4 high, low;
    tillerSplitEight(x, high, low);
    p.split[at] = high;
    p.split[all + at] = low;
}
TILLER_KERNEL(tillerLinearSplitMatrices)
