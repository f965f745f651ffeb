// sums[b] = sum of x[b, :] for x (blocks, n): each thread strides over the row, a warp adds its sums by butterfly, and the first warp adds the sums
// of the warps. The order is fixed, so every run gives the same bits. One block per row; the number of threads is a multiple of 32.
#include "platform.cuh"

struct BlockSumParameters
{
    float* sums;    // (blocks)
    const float* x; // (blocks, n)
    int n;
};

extern "C" __global__ void tillerTestBlockSum(const BlockSumParameters p)
{
    __shared__ float warps[32];
    const float* row = p.x + (long long)blockIdx.x * p.n;
    float sum = 0;
    for (int i = int(threadIdx.x); i < p.n; i += int(blockDim.x)) { sum += row[i]; }
    for (int lanes = 16; lanes > 0; lanes >>= 1) { sum += __shfl_xor_sync(0xffffffffu, sum, lanes); }
    if (threadIdx.x % 32 == 0) { warps[threadIdx.x / 32] = sum; }
    __syncthreads();
    if (threadIdx.x < 32)
    {
        sum = threadIdx.x < blockDim.x / 32 ? warps[threadIdx.x] : 0.0f;
        for (int lanes = 16; lanes > 0; lanes >>= 1) { sum += __shfl_down_sync(0xffffffffu, sum, lanes); }
        if (threadIdx.x == 0) { p.sums[blockIdx.x] = sum; }
    }
}
TILLER_KERNEL(tillerTestBlockSum)

// Runs every kind of shuffle and a ballot over segments of `width` lanes; out is (5, 32), one row per operation.
extern "C" __global__ void tillerTestShuffles(int* out, int argument, int width)
{
    const int lane = int(threadIdx.x);
    out[lane] = __shfl_sync(0xffffffffu, 100 + lane, argument, width);
    out[32 + lane] = __shfl_up_sync(0xffffffffu, 100 + lane, argument, width);
    out[64 + lane] = __shfl_down_sync(0xffffffffu, 100 + lane, argument, width);
    out[96 + lane] = __shfl_xor_sync(0xffffffffu, 100 + lane, argument, width);
    out[128 + lane] = int(__ballot_sync(0xffffffffu, lane % (argument + 1) == 0));
}
TILLER_KERNEL(tillerTestShuffles)
