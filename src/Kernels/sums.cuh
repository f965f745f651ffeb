// Partial sums that a linear map on tensor cores leaves (linear_rows.cu). The next kernel adds them up: one that does only this (linear_merge.cu), or
// the kernel that uses the result.
#pragma once
#include "quads.cuh"

struct TillerSums
{
    const float* partial;  // (parts, rows, columns)
    const float* bias;     // (columns), or null
    const float* residual; // (rows, columns), or null
    int parts;             // 0: there are no partial sums, and the result has been written
    int rows, columns;
    int values;            // number of first rows to which the bias is added: tangents have no bias
};

// Σ_s partial_s at one place, with the parts in order and four loads in flight. `all`: numbers in a part.
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

// residual + (Σ_s partial_s + bias) at one place, or at four columns with the same bits. Four columns require columns % 4 == 0.
static __device__ __forceinline__ float tillerSummed(const TillerSums& s, int row, int column)
{
    const long long at = (long long)row * s.columns + column;
    float sum = tillerPartsSum(s.partial + at, s.parts, (long long)s.rows * s.columns);
    if (s.bias && row < s.values) { sum += s.bias[column]; }
    return s.residual ? s.residual[at] + sum : sum;
}
static __device__ __forceinline__ float4 tillerSummed4(const TillerSums& s, int row, int column)
{
    const long long line = (long long)row * s.columns, all = (long long)s.rows * s.columns;
    float4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
    TILLER_UNROLL_BY(4)
    for (int part = 0; part < s.parts; part++) { sum = tillerPlus4(sum, tillerLoad4(s.partial + part * all + line, column, s.columns, true)); }
    if (s.bias && row < s.values) { sum = tillerPlus4(sum, tillerLoad4(s.bias, column, s.columns, true)); }
    return s.residual ? tillerPlus4(tillerLoad4(s.residual + line, column, s.columns, true), sum) : sum;
}
