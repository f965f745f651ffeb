// x as a sum of bf16 numbers (docs/math.md §10) for tensor cores. Values have three pieces, high + middle + low, which are all 24 bits of a float32;
// tangents have two, which are 16 bits. The result is panels in the order of mma.sync's fragments for linear_rows.cu, or matrices for cuBLASLt.
// x // (M, K) float32, values first.
//
// Panels (panels.cuh). Grid: eight panels in a block, one for each warp. A warp reads 128 bytes of each of eight rows, and writes 512 bytes two or
// three times. Matrices: high // (M, K), middle // (M, K), low // (values, K); a thread has eight numbers. Bytes for both: 4 are read for each
// number, and 6 are written (4 for a tangent's). No shared memory.
#include "panels.cuh"

struct TillerLinearSplit
{
    const float* x;  // (rows, columns)
    uint4* split;    // panels // (columns / 32, tiles, 2 or 3, 32), or matrices // (2 rows + values, columns / 8)
    int rows, columns;
    int values;      // number of first rows, which have three pieces
    int tiles;       // number of tiles of eight rows; for panels only
    int exact;       // number of first tiles, which have three pieces
};

struct TillerPieces { uint4 high, middle, low; };

static __device__ __forceinline__ TillerPieces tillerSplitEight(const float (&x)[8])
{
    unsigned h[8], m[8], l[8];
    TILLER_UNROLL
    for (int i = 0; i < 8; i++) { tillerSplitBf16(x[i], h[i], m[i], l[i]); }
    return {{h[0] | h[1] << 16, h[2] | h[3] << 16, h[4] | h[5] << 16, h[6] | h[7] << 16},
            {m[0] | m[1] << 16, m[2] | m[3] << 16, m[4] | m[5] << 16, m[6] | m[7] << 16},
            {l[0] | l[1] << 16, l[2] | l[3] << 16, l[4] | l[5] << 16, l[6] | l[7] << 16}};
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
    const int block = panel / p.tiles, tile = panel % p.tiles, k = block * 32 + lane % 4 * 8, row = tile * 8 + lane / 4;
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
    const TillerPieces pieces = tillerSplitEight(x);
    uint4* const to = tillerPanelAt(p.split, p.tiles, p.exact, block, tile, lane);
    to[0] = pieces.high;
    to[32] = pieces.middle;
    if (tile < p.exact) { to[64] = row < p.values ? pieces.low : uint4{0, 0, 0, 0}; }
}
TILLER_KERNEL(tillerLinearSplitPanels)

// Requires columns % 8 == 0.
extern "C" __global__ void __launch_bounds__(256) tillerLinearSplitMatrices(const TillerLinearSplit p)
{
    const long long at = (long long)blockIdx.x * 256 + threadIdx.x, all = (long long)p.rows * (p.columns / 8);
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    if (at >= all) { return; }
    float x[8];
    tillerReadEight(p.x + 8 * at, x);
    const TillerPieces pieces = tillerSplitEight(x);
    p.split[at] = pieces.high;
    p.split[all + at] = pieces.middle;
    if (at < (long long)p.values * (p.columns / 8)) { p.split[2 * all + at] = pieces.low; }
}
TILLER_KERNEL(tillerLinearSplitMatrices)
