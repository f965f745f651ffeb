// The last linear map of a steered block for up to eight rows: y = residual + W x + b, and + u for rows with a law; u comes from decode_gate.cu.
//
// Grid: ⌈D / (32 / parts)⌉ blocks of 256 threads (linear.cuh). Shared memory: 4 R min(F, 16384 / R) bytes, which is 64 KiB from R = 4 on, and
// 128 R bytes for sums. Bytes: W once, D F sizeof(w). FLOPs: 2 R D F.
#include "linear.cuh"
#include "rows.cuh"

struct TillerDecodeDown
{
    const float* x;        // (values + tangents, columns)
    const void* w;         // (outputs, columns)
    const float* bias;     // (outputs), added to value rows; or null
    const float* residual; // (values + tangents, outputs)
    const float* inputs;   // (values + tangents, outputs) u
    float* y;              // (values + tangents, outputs)
    const TillerRow* rows; // (values)
    const int* owners;     // (tangents)
    int values, tangents;
    int columns, outputs;
    int parts, wide;
    int prefetch;          // bytes of each row of w to prefetch (linear_few.cu)
};

template <class W, int R> static __device__ __forceinline__ void tillerDecodeDown(const TillerDecodeDown& p)
{
    const int rows = p.values + p.tangents;
    const auto four = [&](int m, int k) { return m < rows ? tillerFour(p.x + (long long)m * p.columns, k, p.columns) : float4{0, 0, 0, 0}; };
    const auto stage = [&](float* x, int chunk, int begin, int end) { tillerStage<W, R>(x, chunk, begin, end, four); };
    float bias = 0, residual = 0, input = 0;
    bool steered = false;
    const auto ready = [&](int m, int n)
    {
        if (m >= rows) { return; }
        const long long at = (long long)m * p.outputs + n;
        residual = p.residual[at];
        if (p.bias && m < p.values) { bias = p.bias[n]; }
        steered = p.rows[m < p.values ? m : p.owners[m - p.values]].steering != nullptr;
        if (steered) { input = p.inputs[at]; }
    };
    const auto store = [&](int m, int n, float sum)
    {
        if (m >= rows) { return; }
        const float y = residual + (sum + bias);
        p.y[(long long)m * p.outputs + n] = steered ? y + input : y;
    };
    tillerDotRows<W, R>(p.w, p.outputs, p.columns, p.parts, p.wide != 0, p.prefetch, int(blockIdx.x), stage, ready, store);
}

#define TILLER_DECODE_DOWN(name, W, R, blocks)                                                                              \
    extern "C" __global__ void __launch_bounds__(256, blocks) name(const TillerDecodeDown p) { tillerDecodeDown<W, R>(p); } \
    TILLER_KERNEL(name)

TILLER_DECODE_DOWN(tillerDecodeDownBF16x1, TillerBF16, 1, 2)
TILLER_DECODE_DOWN(tillerDecodeDownBF16x2, TillerBF16, 2, 2)
TILLER_DECODE_DOWN(tillerDecodeDownBF16x4, TillerBF16, 4, 2)
TILLER_DECODE_DOWN(tillerDecodeDownBF16x8, TillerBF16, 8, 2)
TILLER_DECODE_DOWN(tillerDecodeDownF16x1, TillerF16, 1, 2)
TILLER_DECODE_DOWN(tillerDecodeDownF16x2, TillerF16, 2, 2)
TILLER_DECODE_DOWN(tillerDecodeDownF16x4, TillerF16, 4, 2)
TILLER_DECODE_DOWN(tillerDecodeDownF16x8, TillerF16, 8, 2)
TILLER_DECODE_DOWN(tillerDecodeDownF32x1, TillerF32, 1, 2)
TILLER_DECODE_DOWN(tillerDecodeDownF32x2, TillerF32, 2, 2)
TILLER_DECODE_DOWN(tillerDecodeDownF32x4, TillerF32, 4, 2)
TILLER_DECODE_DOWN(tillerDecodeDownF32x8, TillerF32, 8, 1)
