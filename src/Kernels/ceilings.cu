// The limits of a GPU, to which benchmarks are compared.
//   read       sums[block] = Σ of the 32-bit words that the block reads, modulo 2³², in `passes` passes over the buffer. Tiles have 2048 words of
//              16 bytes, a thread has eight loads in flight, and blocks take tiles in turn. Bytes: passes × buffer; 4 are written by each block.
//   multiply   A thread computes eight chains of x ← a x + b, `rounds` times in registers: 16 rounds FLOPs; 4 or 8 bytes are written by each thread.
//   nothing    starts and ends: the time from one node of a graph to the next.
// Blocks have 256 threads, and the grid has as many blocks as can be resident (in nothing, one for each multiprocessor). Shared memory: 32 bytes in
// read, none in the others.
#include "math.cuh"
#include "memory.cuh"

struct TillerReadParameters
{
    const uint4* buffer; // (words)
    unsigned* sums;      // (blocks)
    long long words;     // number of 16-byte words
    int passes;
};

extern "C" __global__ void __launch_bounds__(256) tillerRead(const TillerReadParameters p)
{
    __shared__ unsigned warps[8];
    constexpr int loads = 8, tile = 256 * loads;
    tillerWaitForPredecessor();
    unsigned sum = 0;
    for (int pass = 0; pass < p.passes; pass++)
    {
        for (long long first = (long long)blockIdx.x * tile + threadIdx.x; first < p.words; first += (long long)gridDim.x * tile)
        {
            uint4 v[loads];
            TILLER_UNROLL for (int i = 0; i < loads; i++) { v[i] = tillerLoad16(p.buffer + first + 256 * i, first + 256 * i < p.words); }
            TILLER_UNROLL for (int i = 0; i < loads; i++) { sum += v[i].x + v[i].y + v[i].z + v[i].w; }
        }
    }
    tillerReleaseSuccessor();
    for (int lane = 16; lane > 0; lane /= 2) { sum += __shfl_xor_sync(0xffffffffu, sum, unsigned(lane)); }
    if (threadIdx.x % 32 == 0) { warps[threadIdx.x / 32] = sum; }
    __syncthreads();
    if (threadIdx.x == 0)
    {
        for (int i = 1; i < 8; i++) { sum += warps[i]; }
        p.sums[blockIdx.x] = sum;
    }
}
TILLER_KERNEL(tillerRead)

struct TillerMultiplyParameters
{
    void* results; // (blocks · 256), float or double
    double a;
    double b;
    int rounds;
};

static __device__ __forceinline__ float tillerMultiplyAdd(float x, float a, float b) { return tillerFma(x, a, b); }
static __device__ __forceinline__ double tillerMultiplyAdd(double x, double a, double b) { return TILLER_MATH(fma)(x, a, b); }

template <class T> static __device__ __forceinline__ void tillerMultiply(const TillerMultiplyParameters& p)
{
    constexpr int chains = 8;
    const long long thread = (long long)blockIdx.x * 256 + threadIdx.x;
    const T a = T(p.a), b = T(p.b);
    T x[chains];
    TILLER_UNROLL for (int i = 0; i < chains; i++) { x[i] = T(i) + T(int(threadIdx.x)); }
    TILLER_UNROLL_BY(16)
    for (int round = 0; round < p.rounds; round++)
    {
        TILLER_UNROLL for (int i = 0; i < chains; i++) { x[i] = tillerMultiplyAdd(x[i], a, b); }
    }
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    T sum = x[0];
    TILLER_UNROLL for (int i = 1; i < chains; i++) { sum += x[i]; }
    static_cast<T*>(p.results)[thread] = sum;
}

#define TILLER_MULTIPLY(name, T)                                                                                       \
    extern "C" __global__ void __launch_bounds__(256) name(const TillerMultiplyParameters p) { tillerMultiply<T>(p); } \
    TILLER_KERNEL(name)

TILLER_MULTIPLY(tillerMultiply32, float)
TILLER_MULTIPLY(tillerMultiply64, double)

extern "C" __global__ void __launch_bounds__(256) tillerNothing(const int)
{
    tillerReleaseSuccessor();
    tillerWaitForPredecessor();
}
TILLER_KERNEL(tillerNothing)
