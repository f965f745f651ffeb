// Kernels that are right if `wrong` is 0 and lack one thing each if it is 1, 2 or 3. The race detector of the host CUDA must tell these cases apart.
#include "memory.cuh"

struct RaceParameters
{
    float* out;
    float* data;
    unsigned* counter;
    int wrong;
};

// Two rounds through a tile. 1: no barrier before it is read; 2: none before it is written again.
extern "C" __global__ void __launch_bounds__(64) tillerTestRaceInBlock(const RaceParameters p)
{
    __shared__ float tile[64];
    const int thread = int(threadIdx.x);
    tillerWaitForPredecessor();
    for (int round = 0; round < 2; round++)
    {
        tile[thread] = p.data[64 * round + thread];
        if (p.wrong != 1) { __syncthreads(); }
        p.out[64 * round + thread] = tile[63 - thread];
        if (p.wrong != 2) { __syncthreads(); }
    }
}
TILLER_KERNEL(tillerTestRaceInBlock)

// Neighbouring lanes exchange numbers. 1: a shuffle instead of a barrier of the warp.
extern "C" __global__ void __launch_bounds__(32) tillerTestRaceInWarp(const RaceParameters p)
{
    __shared__ float tile[32];
    const int lane = int(threadIdx.x);
    tillerWaitForPredecessor();
    tile[lane] = p.data[lane];
    float mine = p.data[lane];
    if (p.wrong == 1) { mine = __shfl_xor_sync(0xffffffffu, mine, 1); }
    else { __syncwarp(); }
    p.out[lane] = tile[lane ^ 1] + 0.0f * mine;
}
TILLER_KERNEL(tillerTestRaceInWarp)

// The last of two blocks adds what both wrote. 1: no barrier before a thread counts its block; 2: no fence before the count; 3: no fence after it.
extern "C" __global__ void __launch_bounds__(64) tillerTestRaceOfBlocks(const RaceParameters p)
{
    __shared__ unsigned before;
    const int thread = int(threadIdx.x);
    tillerWaitForPredecessor();
    p.data[64 * blockIdx.x + thread] = 1.0f;
    if (p.wrong != 1) { __syncthreads(); }
    if (thread == 0)
    {
        if (p.wrong != 2) { __threadfence(); }
        before = atomicInc(p.counter, gridDim.x - 1);
        if (p.wrong != 3) { __threadfence(); }
    }
    __syncthreads();
    if (before == gridDim.x - 1) { p.out[thread] = p.data[thread] + p.data[64 + (thread + 1) % 64]; }
}
TILLER_KERNEL(tillerTestRaceOfBlocks)

// 1: both blocks write the same numbers.
extern "C" __global__ void __launch_bounds__(64) tillerTestRaceOfWrites(const RaceParameters p)
{
    tillerWaitForPredecessor();
    p.out[(p.wrong == 1 ? 0 : 64 * blockIdx.x) + threadIdx.x] = 1.0f;
}
TILLER_KERNEL(tillerTestRaceOfWrites)

// Launched twice, so that the second may begin before the first has ended. 1: reads what the first writes before it waits; 2: writes before it
// waits; 3: never waits.
extern "C" __global__ void __launch_bounds__(64) tillerTestRaceOfKernels(const RaceParameters p)
{
    const int thread = int(threadIdx.x);
    float early = 0.0f;
    if (p.wrong == 1) { early = p.out[thread]; }
    if (p.wrong == 2) { p.out[thread] = p.data[thread]; }
    if (p.wrong == 3) { return; }
    tillerWaitForPredecessor();
    p.out[thread] = p.data[thread] + 0.0f * early;
}
TILLER_KERNEL(tillerTestRaceOfKernels)

// Each thread copies four numbers asynchronously. 1: it does not wait for the copy; 2: it begins while others still read the old numbers.
extern "C" __global__ void __launch_bounds__(16) tillerTestRaceOfCopies(const RaceParameters p)
{
    __align__(16) __shared__ float tile[64];
    const int thread = int(threadIdx.x);
    tillerWaitForPredecessor();
    for (int i = 0; i < 4; i++) { tile[4 * thread + i] = 0.0f; }
    __syncthreads();
    float sum = tile[(4 * thread + 4) % 64];
    if (p.wrong != 2) { __syncthreads(); }
    tillerCopyAsync(tile + 4 * thread, p.data + 4 * thread);
    tillerCommitCopies();
    if (p.wrong != 1) { tillerWaitForCopies<0>(); }
    __syncthreads();
    for (int i = 0; i < 4; i++) { p.out[4 * thread + i] = sum + tile[(4 * thread + 4 + i) % 64]; }
}
TILLER_KERNEL(tillerTestRaceOfCopies)
