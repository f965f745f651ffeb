// y = x W' (+ bias) (+ residual) for few rows: x // (M, K), W // (N, K) in bf16, f16 or f32, y // (M, N); all except W in float32.
//
// Grid: (groups of R rows, tiles of 32 / parts outputs), 256 threads; R is 1, 2, 4 or 8, and rows beyond M are zero. The mapping of threads is that
// of linear.cuh. Shared memory: x in chunks, 4 R min(K, 16384 / R) bytes, which is 64 KiB from R = 4 on, and 128 R bytes for sums. Bytes: W once for
// each group, N K sizeof(w); each block reads x from the L2 cache. FLOPs: 2 R N K. Decoding has one group of 1 to 8 rows. More groups are used for
// f16 and f32 weights, which linear_rows.cu does not support.
#include "linear.cuh"

struct TillerLinearFew
{
    const float* x;        // (rows, columns)
    const void* w;         // (outputs, columns)
    const float* bias;     // (outputs), or null
    const float* residual; // (rows, outputs), or null; may be y
    float* y;              // (rows, outputs)
    int rows, columns, outputs;
    int values;            // number of first rows to which the bias is added: tangents have no bias
    int parts;             // number of warps that share an output
    int wide;              // whether rows of w start at multiples of 16 bytes
    int prefetch;          // bytes of each row of w, after those in flight, to prefetch to the L2 cache; a multiple of 16
};

template <class W, int R> static __device__ __forceinline__ void tillerLinearFew(const TillerLinearFew& p)
{
    const int group = int(blockIdx.x) * R, rows = p.rows - group;
    const auto four = [&](int m, int k)
    {
        return m < rows ? tillerFour(p.x + (long long)(group + m) * p.columns, k, p.columns) : float4{0, 0, 0, 0};
    };
    const auto stage = [&](float* x, int chunk, int begin, int end) { tillerStage<W, R>(x, chunk, begin, end, four); };
    float bias = 0, residual = 0;
    const auto ready = [&](int m, int n)
    {
        if (p.bias && group + m < p.values) { bias = p.bias[n]; }
        if (p.residual && m < rows) { residual = p.residual[(long long)(group + m) * p.outputs + n]; }
    };
    const auto store = [&](int m, int n, float sum)
    {
        if (m < rows) { p.y[(long long)(group + m) * p.outputs + n] = residual + (sum + bias); }
    };
    tillerDotRows<W, R>(p.w, p.outputs, p.columns, p.parts, p.wide != 0, p.prefetch, int(blockIdx.y), stage, ready, store);
}

// `blocks` is the number of blocks on a multiprocessor: two may have 128 registers per thread, which eight rows of f32 exceed.
#define TILLER_LINEAR_FEW(name, W, R, blocks)                                                                             \
    extern "C" __global__ void __launch_bounds__(256, blocks) name(const TillerLinearFew p) { tillerLinearFew<W, R>(p); } \
    TILLER_KERNEL(name)

TILLER_LINEAR_FEW(tillerLinearFewBF16x1, TillerBF16, 1, 2)
TILLER_LINEAR_FEW(tillerLinearFewBF16x2, TillerBF16, 2, 2)
TILLER_LINEAR_FEW(tillerLinearFewBF16x4, TillerBF16, 4, 2)
TILLER_LINEAR_FEW(tillerLinearFewBF16x8, TillerBF16, 8, 2)
TILLER_LINEAR_FEW(tillerLinearFewF16x1, TillerF16, 1, 2)
TILLER_LINEAR_FEW(tillerLinearFewF16x2, TillerF16, 2, 2)
TILLER_LINEAR_FEW(tillerLinearFewF16x4, TillerF16, 4, 2)
TILLER_LINEAR_FEW(tillerLinearFewF16x8, TillerF16, 8, 2)
TILLER_LINEAR_FEW(tillerLinearFewF32x1, TillerF32, 1, 2)
TILLER_LINEAR_FEW(tillerLinearFewF32x2, TillerF32, 2, 2)
TILLER_LINEAR_FEW(tillerLinearFewF32x4, TillerF32, 4, 2)
TILLER_LINEAR_FEW(tillerLinearFewF32x8, TillerF32, 8, 1)
