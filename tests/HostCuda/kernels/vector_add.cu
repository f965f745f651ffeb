// c = a + scale * b over n elements, with one thread per element.
#include "platform.cuh"

extern "C" __global__ void tillerTestVectorAdd(float* c, const float* a, const float* b, float scale, int n)
{
    const int i = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < n) { c[i] = a[i] + scale * b[i]; }
}
TILLER_KERNEL(tillerTestVectorAdd)

// Writes one element at an index that the host chooses, which may be outside the array.
extern "C" __global__ void tillerTestStore(float* c, long long index, float value)
{
    if (threadIdx.x == 0 && blockIdx.x == 0) { c[index] = value; }
}
TILLER_KERNEL(tillerTestStore)

// The first half of the block waits at a barrier, the second half in a warp operation that includes a lane of the first half.
extern "C" __global__ void tillerTestDeadlock(float* c)
{
    if (threadIdx.x < 16) { __syncthreads(); }
    else { c[threadIdx.x] = __shfl_sync(0xffffffffu, 1.0f, 0); }
}
TILLER_KERNEL(tillerTestDeadlock)
