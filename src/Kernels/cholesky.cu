// Cholesky factorisation A = L L' of a p×p float64 matrix, p ≤ 128, by one block, and triangular solves with L, for the factored and the reduced
// synthesis without cuSOLVER. A and L are column-major, lower; the upper half is neither read nor written.
//   factor    right-looking: column j is divided by L_jj = sqrt(a_jj), then a_ik −= L_ij L_kj for j < k ≤ i. 512 threads, a warp for
//             each column k; the lower half is packed in shared memory (8 p (p + 1)/2 bytes, 66 KiB at 128); p³/3 FLOPs, 2 p barriers.
//             If a pivot is not positive and finite, failed = its number counted from 1, and A is unchanged; otherwise failed = 0.
//   solve     L X = B or L' X = B for B // (p, n) with strides; a block of 256 threads has 32 columns. A warp has four columns, and a lane has
//             the rows i ≡ lane mod 32 in registers; x_j is broadcast by shuffle. L is packed in shared memory; p² n FLOPs. After a failed
//             factorisation it does nothing.
//
// local memory: 8 bytes, one word kept across the calls of float64 division
#include "exact.cuh"
#include "quads.cuh"

static constexpr int tillerCholeskyColumns = 4, tillerCholeskyBlocks = 4; // columns of a warp; rows of a lane, which are 32 apart

struct TillerCholeskyParameters
{
    double* a;   // (p, p) column-major
    int* failed; // (1)
    int p;
    int ld;      // distance of columns
};

// Index of the first element of column j in the packed matrix; the column has the rows j .. p-1.
static __device__ __forceinline__ int tillerPacked(int j, int p) { return j * p - j * (j - 1) / 2; }

extern "C" __global__ void __launch_bounds__(512) tillerCholesky(const TillerCholeskyParameters p)
{
    TILLER_DYNAMIC_SHARED(double, packed);
    const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32, n = p.p;
    tillerWaitForPredecessor();
    for (int j = warp; j < n; j += 16)
    {
        for (int i = j + lane; i < n; i += 32) { packed[tillerPacked(j, n) + i - j] = p.a[(long long)j * p.ld + i]; }
    }
    __syncthreads();
    for (int j = 0; j < n; j++)
    {
        double* column = packed + tillerPacked(j, n);
        const double pivot = column[0]; // stays in place: its square root L_jj is taken when L is written
        if (!(pivot > 0 && pivot < 1.7976931348623157e308))
        {
            if (threadIdx.x == 0) { *p.failed = j + 1; }
            return;
        }
        const double diagonal = tillerSqrt(pivot);
        for (int i = 1 + int(threadIdx.x); i < n - j; i += 512) { column[i] = column[i] / diagonal; }
        __syncthreads();
        for (int k = 1 + warp; k < n - j; k += 16)
        {
            double* updated = packed + tillerPacked(j + k, n);
            for (int i = k + lane; i < n - j; i += 32) { updated[i - k] -= column[i] * column[k]; }
        }
        __syncthreads();
    }
    for (int j = warp; j < n; j += 16)
    {
        for (int i = j + lane; i < n; i += 32)
        {
            const double x = packed[tillerPacked(j, n) + i - j];
            p.a[(long long)j * p.ld + i] = i == j ? tillerSqrt(x) : x;
        }
    }
    if (threadIdx.x == 0) { *p.failed = 0; }
}
TILLER_KERNEL(tillerCholesky)

struct TillerTriangularParameters
{
    const double* l;       // (p, p) column-major
    const int* failed;     // (1)
    double* b;             // element (i, c) at i rowStride + c columnStride
    long long rowStride;
    long long columnStride;
    int p;
    int ld;
    int n;
    int transposed;
};

extern "C" __global__ void __launch_bounds__(256) tillerTriangularSolve(const TillerTriangularParameters p)
{
    TILLER_DYNAMIC_SHARED(double, packed);
    const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32, n = p.p;
    tillerWaitForPredecessor();
    if (*p.failed != 0) { return; }
    for (int j = warp; j < n; j += 8)
    {
        for (int i = j + lane; i < n; i += 32) { packed[tillerPacked(j, n) + i - j] = p.l[(long long)j * p.ld + i]; }
    }
    __syncthreads();
    const int first = (int(blockIdx.x) * 8 + warp) * tillerCholeskyColumns;
    if (first >= p.n) { return; }
    double x[tillerCholeskyBlocks][tillerCholeskyColumns];
    TILLER_UNROLL
    for (int r = 0; r < tillerCholeskyBlocks; r++)
    {
        TILLER_UNROLL
        for (int c = 0; c < tillerCholeskyColumns; c++)
        {
            const int i = 32 * r + lane;
            x[r][c] = i < n && first + c < p.n ? p.b[i * p.rowStride + (first + c) * p.columnStride] : 0.0;
        }
    }
    TILLER_UNROLL
    for (int step = 0; step < tillerCholeskyBlocks; step++)
    {
        const int last = tillerCholeskyBlocks - 1;
        if (!p.transposed)
        {
            // x_j = b_j / L_jj, then b_i −= L_ij x_j for i > j
            for (int t = 0; t < 32 && 32 * step + t < n; t++)
            {
                const int j = 32 * step + t;
                const double* column = packed + tillerPacked(j, n) - j;
                TILLER_UNROLL
                for (int c = 0; c < tillerCholeskyColumns; c++)
                {
                    const double xj = __shfl_sync(0xffffffffu, x[step][c], unsigned(t)) / column[j];
                    if (lane == t) { x[step][c] = xj; }
                    TILLER_UNROLL
                    for (int r = step; r < tillerCholeskyBlocks; r++)
                    {
                        const int i = 32 * r + lane;
                        if (i > j && i < n) { x[r][c] -= column[i] * xj; }
                    }
                }
            }
        }
        else
        {
            // x_j = b_j / L_jj, then b_i −= L_ji x_j for i < j, with falling j
            for (int t = 31; t >= 0; t--)
            {
                const int j = 32 * (last - step) + t;
                if (j >= n) { continue; }
                TILLER_UNROLL
                for (int c = 0; c < tillerCholeskyColumns; c++)
                {
                    const double xj = __shfl_sync(0xffffffffu, x[last - step][c], unsigned(t)) / packed[tillerPacked(j, n)];
                    if (lane == t) { x[last - step][c] = xj; }
                    TILLER_UNROLL
                    for (int r = 0; r <= last - step; r++)
                    {
                        const int i = 32 * r + lane;
                        if (i < j) { x[r][c] -= packed[tillerPacked(i, n) + j - i] * xj; }
                    }
                }
            }
        }
    }
    TILLER_UNROLL
    for (int r = 0; r < tillerCholeskyBlocks; r++)
    {
        TILLER_UNROLL
        for (int c = 0; c < tillerCholeskyColumns; c++)
        {
            const int i = 32 * r + lane;
            if (i < n && first + c < p.n) { p.b[i * p.rowStride + (first + c) * p.columnStride] = x[r][c]; }
        }
    }
}
TILLER_KERNEL(tillerTriangularSolve)
