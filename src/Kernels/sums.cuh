// What a linear map on the tensor cores leaves when its sums are cut in parts (linear_rows.cu), for whoever takes them up: the kernel that only adds
// them (linear_merge.cu), or the one that wants the result.
#pragma once
#include "quads.cuh"

struct TillerSums
{
    const float* partial;  // (parts, rows, columns)
    const float* bias;     // (columns), or null
    const float* residual; // (rows, columns), or null
    int parts;             // none: the result is where it belongs
    int rows, columns;
    int values;            // rows from 0 on that take the bias: tangents have none
};

// Σ_s partial_s at one place, parts in turn, four loads on their way. `all`: numbers of a part.
static __device__ __forceinline__ float tillerPartsSum(const float* partial, int parts, long long all)
{
    float sum = 0;
    int part = 0;
    for (; part + 4 <= parts; part += 4)
    {
        const float a = partial[part * all], b = partial[(part + 1) * all], c = partial[(part + 2) * all], d = partial[(part + 3) * all];
        sum += a;
        sum += b;
        sum += c;
        sum += d;
    }
    for (; part < parts; part++) { sum += partial[part * all]; }
    return sum;
}

// residual + (Σ_s partial_s + bias) at one place, the same bits as in four columns.
static __device__ __forceinline__ float tillerSummed(const TillerSums& s, int row, int column)
{
    const long long at = (long long)row * s.columns + column;
    float sum = tillerPartsSum(s.partial + at, s.parts, (long long)s.rows * s.columns);
    if (s.bias && row < s.values) { sum += s.bias[column]; }
    return s.residual ? s.residual[at] + sum : sum;
}
static __device__ __forceinline__ float4 tillerSummed4(const TillerSums& s, int row, int column, bool wide)
{
    const long long line = (long long)row * s.columns, all = (long long)s.rows * s.columns;
    float4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
    TILLER_UNROLL_BY(4)
    for (int part = 0; part < s.parts; part++) { sum = tillerPlus4(sum, tillerLoad4(s.partial + part * all + line, column, s.columns, wide)); }
    if (s.bias && row < s.values) { sum = tillerPlus4(sum, tillerLoad4(s.bias, column, s.columns, wide)); }
    return s.residual ? tillerPlus4(tillerLoad4(s.residual + line, column, s.columns, wide), sum) : sum;
}
