// Between the float32 rows of the model and the float64 matrices of the syntheses; every kernel is bound by memory.
//   identity    row i·width + t of a panel = e_{first + t}, for each prompt i: the tangents whose pushforward is a Jacobian's columns
//   accumulate  A[r, first + t] += scale · row_{i·width + t}[r], prompts i in order, A row-major: the same bits however prompts are
//               cut into panels. Tiles of 32×32 are turned in shared memory (256 threads, 4.1 KiB), so both sides are coalesced.
//   convert     float64 from float32 and back, 256 threads of four numbers a block
//   symmetrise  A ← (A + A')/2 and max |A − A'|, the largest of each tile first, then one block over the tiles; NaN prevails
//   diagonal    A_ii += value
//   unit rows   x / |x|, and |x|; a row of zeros stays. Scaled by the largest number first, so that no square overflows or vanishes.
#include "exact.cuh"
#include "quads.cuh"

struct TillerIdentityParameters
{
    float* x; // (rows, D)
    long long count;
    int d;
    int width;
    int first;
};

extern "C" __global__ void __launch_bounds__(256) tillerIdentityRows(const TillerIdentityParameters p)
{
    const long long from = (long long)blockIdx.x * 1024 + threadIdx.x;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    TILLER_UNROLL_LOOP
    for (int turn = 0; turn < 4; turn++)
    {
        const long long i = from + 256 * turn;
        if (i < p.count) { p.x[i] = int(i % p.d) == p.first + int(i / p.d % p.width) ? 1.0f : 0.0f; }
    }
}
TILLER_KERNEL(tillerIdentityRows)

struct TillerAccumulateParameters
{
    const float* rows; // (prompts · width, D)
    double* a;         // (D, ld)
    double scale;
    int prompts;
    int width;
    int d;
    int ld;
    int first;         // column
};

extern "C" __global__ void __launch_bounds__(256) tillerAccumulateColumns(const TillerAccumulateParameters p)
{
    __shared__ float tile[32][33];
    const int across = int(threadIdx.x) % 32, down = int(threadIdx.x) / 32;
    const int r0 = int(blockIdx.x) * 32, t0 = int(blockIdx.y) * 32;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    double sum[4];
    TILLER_UNROLL_LOOP
    for (int k = 0; k < 4; k++)
    {
        const int r = r0 + down + 8 * k, t = t0 + across;
        sum[k] = r < p.d && t < p.width ? p.a[(long long)r * p.ld + p.first + t] : 0.0;
    }
    for (int prompt = 0; prompt < p.prompts; prompt++)
    {
        TILLER_UNROLL_LOOP
        for (int k = 0; k < 4; k++)
        {
            const int t = t0 + down + 8 * k, r = r0 + across;
            tile[down + 8 * k][across] = r < p.d && t < p.width ? p.rows[((long long)prompt * p.width + t) * p.d + r] : 0.0f;
        }
        __syncthreads();
        TILLER_UNROLL_LOOP
        for (int k = 0; k < 4; k++) { sum[k] += p.scale * double(tile[across][down + 8 * k]); }
        __syncthreads();
    }
    TILLER_UNROLL_LOOP
    for (int k = 0; k < 4; k++)
    {
        const int r = r0 + down + 8 * k, t = t0 + across;
        if (r < p.d && t < p.width) { p.a[(long long)r * p.ld + p.first + t] = sum[k]; }
    }
}
TILLER_KERNEL(tillerAccumulateColumns)

extern "C" __global__ void __launch_bounds__(256) tillerToDouble(const float* from, double* to, long long count)
{
    const long long first = (long long)blockIdx.x * 1024 + threadIdx.x;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    TILLER_UNROLL_LOOP
    for (int turn = 0; turn < 4; turn++)
    {
        if (first + 256 * turn < count) { to[first + 256 * turn] = double(from[first + 256 * turn]); }
    }
}
TILLER_KERNEL(tillerToDouble)

extern "C" __global__ void __launch_bounds__(256) tillerToFloat(const double* from, float* to, long long count)
{
    const long long first = (long long)blockIdx.x * 1024 + threadIdx.x;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    TILLER_UNROLL_LOOP
    for (int turn = 0; turn < 4; turn++)
    {
        if (first + 256 * turn < count) { to[first + 256 * turn] = float(from[first + 256 * turn]); }
    }
}
TILLER_KERNEL(tillerToFloat)

// The larger; NaN, once met, stays.
static __device__ __forceinline__ double tillerLarger(double most, double x) { return x > most || x != x ? x : most; }

static __device__ __forceinline__ double tillerBlockMax(double x, double* scratch)
{
    for (int lanes = 16; lanes > 0; lanes >>= 1) { x = tillerLarger(x, __shfl_xor_sync(0xffffffffu, x, lanes)); }
    if (threadIdx.x % 32 == 0) { scratch[threadIdx.x / 32] = x; }
    __syncthreads();
    for (int i = 0; i < int(blockDim.x) / 32; i++) { x = tillerLarger(x, scratch[i]); }
    __syncthreads();
    return x;
}

struct TillerSymmetriseParameters
{
    double* a;       // (n, ld)
    double* largest; // (tiles) max |A − A'|
    int n;
    int ld;
    int tilesPerSide;
};

extern "C" __global__ void __launch_bounds__(256) tillerSymmetrise(const TillerSymmetriseParameters p)
{
    __shared__ double tile[32][33];
    __shared__ double scratch[32];
    const int across = int(threadIdx.x) % 32, down = int(threadIdx.x) / 32;
    const int rows = int(blockIdx.x) / p.tilesPerSide, columns = int(blockIdx.x) % p.tilesPerSide;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    double most = 0;
    if (rows <= columns)
    {
        TILLER_UNROLL_LOOP
        for (int k = 0; k < 4; k++)
        {
            const int r = 32 * columns + down + 8 * k, c = 32 * rows + across;
            tile[down + 8 * k][across] = r < p.n && c < p.n ? p.a[(long long)r * p.ld + c] : 0.0;
        }
        __syncthreads();
        double mean[4];
        TILLER_UNROLL_LOOP
        for (int k = 0; k < 4; k++)
        {
            const int r = 32 * rows + down + 8 * k, c = 32 * columns + across;
            const double other = tile[across][down + 8 * k], x = r < p.n && c < p.n ? p.a[(long long)r * p.ld + c] : 0.0;
            const double apart = x - other;
            most = tillerLarger(most, apart < 0 ? -apart : apart);
            mean[k] = 0.5 * x + 0.5 * other;
        }
        __syncthreads(); // a diagonal tile is read as both sides
        TILLER_UNROLL_LOOP
        for (int k = 0; k < 4; k++)
        {
            const int r = 32 * rows + down + 8 * k, c = 32 * columns + across;
            tile[down + 8 * k][across] = mean[k];
            if (r < p.n && c < p.n) { p.a[(long long)r * p.ld + c] = mean[k]; }
        }
        __syncthreads();
        TILLER_UNROLL_LOOP
        for (int k = 0; k < 4; k++)
        {
            const int r = 32 * columns + down + 8 * k, c = 32 * rows + across;
            if (rows != columns && r < p.n && c < p.n) { p.a[(long long)r * p.ld + c] = tile[across][down + 8 * k]; }
        }
    }
    most = tillerBlockMax(most, scratch);
    if (threadIdx.x == 0) { p.largest[blockIdx.x] = most; }
}
TILLER_KERNEL(tillerSymmetrise)

extern "C" __global__ void __launch_bounds__(256) tillerLargest(const double* x, double* largest, int count)
{
    __shared__ double scratch[32];
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    double most = 0;
    for (int i = int(threadIdx.x); i < count; i += 256) { most = tillerLarger(most, x[i]); }
    most = tillerBlockMax(most, scratch);
    if (threadIdx.x == 0) { *largest = most; }
}
TILLER_KERNEL(tillerLargest)

extern "C" __global__ void __launch_bounds__(256) tillerAddDiagonal(double* a, int n, int ld, double value)
{
    const int i = int(blockIdx.x * 256 + threadIdx.x);
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    if (i < n) { a[(long long)i * (ld + 1)] += value; }
}
TILLER_KERNEL(tillerAddDiagonal)

struct TillerUnitRowsParameters
{
    double* x;       // (rows, n)
    double* lengths; // (rows)
    int n;
};

extern "C" __global__ void __launch_bounds__(256) tillerUnitRows(const TillerUnitRowsParameters p)
{
    __shared__ double scratch[32], sums[32];
    double* row = p.x + (long long)blockIdx.x * p.n;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    double most = 0;
    for (int i = int(threadIdx.x); i < p.n; i += 256) { most = tillerLarger(most, row[i] < 0 ? -row[i] : row[i]); }
    most = tillerBlockMax(most, scratch);
    if (most == 0)
    {
        if (threadIdx.x == 0) { p.lengths[blockIdx.x] = 0; }
        return;
    }
    double sum[1] = {0};
    for (int i = int(threadIdx.x); i < p.n; i += 256) { sum[0] += row[i] / most * (row[i] / most); }
    tillerBlockSums(sum, sums);
    const double length = tillerSqrt(sum[0]);
    for (int i = int(threadIdx.x); i < p.n; i += 256) { row[i] = row[i] / most / length; }
    if (threadIdx.x == 0) { p.lengths[blockIdx.x] = most * length; }
}
TILLER_KERNEL(tillerUnitRows)
