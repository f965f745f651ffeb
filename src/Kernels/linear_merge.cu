// What is left of a linear map once its products are summed in parts: y = Σ_s partial_s (+ bias) (+ residual), parts in turn, and
// what a library's product is added to: y = residual + bias.
//
// Grid: (rows, chunks of 256 columns), 256 threads, a number each. No shared memory. Bytes: 4 (parts + 1) for each number.
#include "sums.cuh"

struct TillerLinearMerge
{
    const float* partial;  // (parts, rows, columns)
    const float* bias;     // (columns), or null
    const float* residual; // (rows, columns), or null; may be y
    float* y;              // (rows, columns)
    int rows, columns, parts; // parts: may be none
    int values;            // rows from 0 on that take the bias: tangents have none
    int whole;             // rows from 0 on that have all parts; the others have one less
};

extern "C" __global__ void __launch_bounds__(256) tillerLinearMerge(const TillerLinearMerge p)
{
    const int column = int(blockIdx.y * 256 + threadIdx.x), row = int(blockIdx.x);
    const bool own = column < p.columns;
    const bool biased = own && p.bias && row < p.values;
    const float bias = biased ? p.bias[column] : 0.0f;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    if (!own) { return; }
    const long long at = (long long)row * p.columns + column, all = (long long)p.rows * p.columns;
    const float residual = p.residual ? p.residual[at] : 0.0f;
    float sum = tillerPartsSum(p.partial + at, row < p.whole ? p.parts : p.parts - 1, all);
    if (biased) { sum += bias; }
    p.y[at] = p.residual ? residual + sum : sum;
}
TILLER_KERNEL(tillerLinearMerge)
