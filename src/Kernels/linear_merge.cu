// What is left of a linear map once its products are summed in parts: y = Σ_s partial_s (+ bias) (+ residual), parts in turn, and
// what a library's product is added to: y = residual + bias.
//
// Grid: (rows, chunks of 256 columns), 256 threads, a number each. No shared memory. Bytes: 4 (parts + 1) for each number.
#include "platform.cuh"

struct TillerLinearMerge
{
    const float* partial;  // (parts, rows, columns)
    const float* bias;     // (columns), or null
    const float* residual; // (rows, columns), or null; may be y
    float* y;              // (rows, columns)
    int rows, columns, parts; // parts: may be none
    int values;            // rows from 0 on that take the bias: tangents have none
};

extern "C" __global__ void __launch_bounds__(256) tillerLinearMerge(const TillerLinearMerge p)
{
    const int column = int(blockIdx.y * 256 + threadIdx.x), row = int(blockIdx.x);
    const bool own = column < p.columns;
    const bool biased = own && p.bias && row < p.values;
    float sum = 0;
    const float bias = biased ? p.bias[column] : 0.0f;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    if (!own) { return; }
    const long long at = (long long)row * p.columns + column, all = (long long)p.rows * p.columns;
    const float residual = p.residual ? p.residual[at] : 0.0f;
    int part = 0;
    for (; part + 4 <= p.parts; part += 4) // four loads on their way
    {
        const float a = p.partial[part * all + at], b = p.partial[(part + 1) * all + at];
        const float c = p.partial[(part + 2) * all + at], d = p.partial[(part + 3) * all + at];
        sum += a;
        sum += b;
        sum += c;
        sum += d;
    }
    for (; part < p.parts; part++) { sum += p.partial[part * all + at]; }
    if (biased) { sum += bias; }
    p.y[at] = p.residual ? residual + sum : sum;
}
TILLER_KERNEL(tillerLinearMerge)
