// float64 matrices of controller synthesis, column-major without gaps, and sums of float32 panels in float64.
//   sum        C_ej (+)= scale_j Σ_i x_{i p + j, e} with rising i; x // (panels p, D), C // (D, p)
//   identity   row j of (p, D) is e_{first + j}
//   add        y += α x
//   round      y = y to the nearest float32
//   diagonal   m_ii += value
//   symmetrise s = (s + s')/2; and, for each column, its part of Σ (s − s')² before and of Σ s² after
//   extremes   the smallest and the largest m_ii
//   bad        for each block, the first number of its stretch that is NaN or infinite, or −1
// Element-wise kernels have blocks of 256 threads, and a thread computes one number in each stride of the grid. Bytes are those of the operands.
// Reductions have a fixed order.
#include "math.cuh"
#include "quads.cuh"

struct TillerSumPanels
{
    const float* rows;      // (panels · p, d)
    const double* scales;   // (p)
    double* result;         // (d, p)
    int panels, p, d;
    int add;
};

extern "C" __global__ void __launch_bounds__(256) tillerSumPanels(const TillerSumPanels a)
{
    const long long count = (long long)a.p * a.d, stride = (long long)gridDim.x * 256;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    for (long long at = (long long)blockIdx.x * 256 + threadIdx.x; at < count; at += stride)
    {
        const double scale = a.scales[at / a.d];
        double sum = a.add ? a.result[at] : 0.0;
        for (int i = 0; i < a.panels; i++) { sum += scale * double(a.rows[(long long)i * count + at]); }
        a.result[at] = sum;
    }
}
TILLER_KERNEL(tillerSumPanels)

extern "C" __global__ void __launch_bounds__(256) tillerIdentityRows(float* rows, int count, int d, int first)
{
    const long long all = (long long)count * d, stride = (long long)gridDim.x * 256;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    for (long long at = (long long)blockIdx.x * 256 + threadIdx.x; at < all; at += stride)
    {
        rows[at] = at % d == first + at / d ? 1.0f : 0.0f;
    }
}
TILLER_KERNEL(tillerIdentityRows)

extern "C" __global__ void __launch_bounds__(256) tillerAddScaled64(double alpha, const double* x, double* y, long long count)
{
    const long long stride = (long long)gridDim.x * 256;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    for (long long at = (long long)blockIdx.x * 256 + threadIdx.x; at < count; at += stride) { y[at] += alpha * x[at]; }
}
TILLER_KERNEL(tillerAddScaled64)

extern "C" __global__ void __launch_bounds__(256) tillerRoundToSingle(double* y, long long count)
{
    const long long stride = (long long)gridDim.x * 256;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    for (long long at = (long long)blockIdx.x * 256 + threadIdx.x; at < count; at += stride) { y[at] = double(float(y[at])); }
}
TILLER_KERNEL(tillerRoundToSingle)

extern "C" __global__ void __launch_bounds__(256) tillerAddDiagonal64(double value, double* m, int order, int rows)
{
    const int i = int(blockIdx.x) * 256 + int(threadIdx.x);
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    if (i < order) { m[(long long)i * (rows + 1)] += value; }
}
TILLER_KERNEL(tillerAddDiagonal64)

// One block for each column j computes the rows i ≥ j and their mirror images. sums // (n, 2): the parts of |S − S'|² and |S|² from column j.
extern "C" __global__ void __launch_bounds__(256) tillerSymmetrise64(double* s, int n, double* sums)
{
    __shared__ double scratch[64];
    const long long j = blockIdx.x;
    double sum[2] = {0.0, 0.0};
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    for (long long i = j + threadIdx.x; i < n; i += 256)
    {
        const double a = s[j * n + i], b = s[i * n + j], mean = 0.5 * (a + b), weight = i == j ? 1.0 : 2.0;
        s[j * n + i] = mean;
        s[i * n + j] = mean;
        sum[0] += i == j ? 0.0 : 2.0 * (a - b) * (a - b);
        sum[1] += weight * mean * mean;
    }
    tillerBlockSums(sum, scratch);
    if (threadIdx.x == 0)
    {
        sums[2 * j] = sum[0];
        sums[2 * j + 1] = sum[1];
    }
}
TILLER_KERNEL(tillerSymmetrise64)

// result[0], result[1] = the sums of the two columns of pairs // (n, 2). One block.
extern "C" __global__ void __launch_bounds__(256) tillerSumPairs64(const double* pairs, int n, double* result)
{
    __shared__ double scratch[64];
    double sum[2] = {0.0, 0.0};
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    for (int i = int(threadIdx.x); i < n; i += 256)
    {
        sum[0] += pairs[2 * i];
        sum[1] += pairs[2 * i + 1];
    }
    tillerBlockSums(sum, scratch);
    if (threadIdx.x == 0)
    {
        result[0] = sum[0];
        result[1] = sum[1];
    }
}
TILLER_KERNEL(tillerSumPairs64)

// result[0], result[1] = the smallest and the largest m_ii; NaN if any m_ii is NaN. One block.
extern "C" __global__ void __launch_bounds__(256) tillerDiagonalExtremes64(const double* m, int n, double* result)
{
    __shared__ double low[256], high[256];
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    double smallest = m[0], largest = m[0];
    for (int i = int(threadIdx.x); i < n; i += 256)
    {
        const double v = m[(long long)i * (n + 1)];
        smallest = v < smallest || v != v ? v : smallest;
        largest = v > largest || v != v ? v : largest;
    }
    low[threadIdx.x] = smallest;
    high[threadIdx.x] = largest;
    __syncthreads();
    if (threadIdx.x != 0) { return; }
    for (int i = 1; i < 256; i++)
    {
        smallest = low[i] < smallest || low[i] != low[i] ? low[i] : smallest;
        largest = high[i] > largest || high[i] != high[i] ? high[i] : largest;
    }
    result[0] = smallest;
    result[1] = largest;
}
TILLER_KERNEL(tillerDiagonalExtremes64)

// firsts // (blocks): position of the first number of the block's stretch that is not finite, or −1. A thread reads one number in each iteration.
extern "C" __global__ void __launch_bounds__(256) tillerFirstBad64(const double* m, long long count, long long stretch, long long* firsts)
{
    __shared__ long long found[256];
    const long long begin = (long long)blockIdx.x * stretch, end = begin + stretch < count ? begin + stretch : count;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    long long first = -1;
    for (long long at = begin + threadIdx.x; at < end && first < 0; at += 256)
    {
        if (m[at] - m[at] != 0.0) { first = at; }
    }
    found[threadIdx.x] = first;
    __syncthreads();
    if (threadIdx.x != 0) { return; }
    for (int i = 1; i < 256; i++)
    {
        if (found[i] >= 0 && (first < 0 || found[i] < first)) { first = found[i]; }
    }
    firsts[blockIdx.x] = first;
}
TILLER_KERNEL(tillerFirstBad64)
