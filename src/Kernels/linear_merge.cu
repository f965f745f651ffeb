// The end of a linear map whose products are summed in parts: y = Σ_s partial_s (+ bias) (+ residual), with the parts in order. Also the beginning of
// a map by cuBLASLt, to which its products are added: y = residual + bias.
//
// Grid: (rows, chunks of 256 columns), 256 threads with one number each. No shared memory. Bytes: 4 (parts + 1) for each number.
#include "sums.cuh"

struct TillerLinearMerge
{
    const float* partial;  // (parts, rows, columns)
    const float* bias;     // (columns), or null
    const float* residual; // (rows, columns), or null; may be y
    float* y;              // (rows, columns)
    int rows, columns, parts; // parts may be 0
    int values;            // number of first rows to which the bias is added: tangents have no bias
    int whole;             // number of first rows that have all parts; the others have one part fewer
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
