// The work after the projection to queries, keys and values (qkv // (rows, (H + 2G) E), heads side by side):
//   norm of each query and key head if the model has one, g (E): as in norm.cu with E for D
//   RoPE: (x_e, x_{e+E/2}) ← (x_e cos − x_{e+E/2} sin, x_{e+E/2} cos + x_e sin) by the value row's angles
//   keys and values of value rows to the row's cache, layer k: key head g at ((2kG + g) capacity + position) E, values at g + G
// Pull: the same rotation by −angle, then the pullback of the norm.
// One warp for each head of a row, with pairs (e, e + E/2) across the lanes, four warps in a block, no shared memory: a lane writes only numbers that
// no other lane reads. With norms, a tangent needs its value row's heads before the norm. So the launcher runs value rows first, which write these
// heads to rawQk // (values, (H + G) E), and tangents in a second launch. Bytes: (H + 2G) E read, (H + G) E written, 2 G E to the cache.
//
// If all query heads together have one norm, and all key heads another (NormWidth, PullWidth), the norms have launches of their own, which come
// before the other kernels, or after their pull. They have one block of 256 threads for the queries of a row and one for its keys, work in place, and
// use 256 bytes of shared memory. Value rows also come before tangents.
#include "math.cuh"
#include "quads.cuh"
#include "rows.cuh"
#include "sums.cuh"

struct TillerQkvParameters
{
    const TillerRow* rows;   // (values)
    const int* owners;       // (tangents)
    float* qkv;              // (values + tangents, (H + 2G) E)
    float* rawQk;            // (values, (H + G) E); null without norms
    const float* rotation;   // (values, E)
    const float* queryNorm;  // (E); null without norms
    const float* keyNorm;    // (E); null without norms
    int values;
    int firstRow;            // first row of this launch
    int endRow;
    int queries;             // H
    int groups;              // G
    int e;                   // E
    int layer;
    float eps;
    TillerSums sums;         // partial sums of qkv, if any
};

extern "C" __global__ void __launch_bounds__(128) tillerQkvFinish(const TillerQkvParameters p)
{
    const int heads = p.queries + 2 * p.groups, turned = p.queries + p.groups, half = p.e / 2, lane = int(threadIdx.x) % 32;
    const long long warp = (long long)blockIdx.x * 4 + threadIdx.x / 32;
    const int row = p.firstRow + int(warp / heads), head = int(warp % heads);
    const bool tangent = row >= p.values;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    if (row >= p.endRow) { return; }
    float* x = p.qkv + ((long long)row * heads + head) * p.e;
    for (int e = lane; p.sums.parts && e < half; e += 32)
    {
        x[e] = tillerSummed(p.sums, row, head * p.e + e);
        x[half + e] = tillerSummed(p.sums, row, head * p.e + half + e);
    }
    if (tangent && head >= turned) { return; }
    float* stored = nullptr;
    if (!tangent && head >= p.queries)
    {
        const TillerRow& r = p.rows[row];
        stored = r.cache + ((2LL * p.layer * p.groups + (head - p.queries)) * r.capacity + r.position) * p.e;
        if (head >= turned)
        {
            for (int e = lane; e < half; e += 32)
            {
                stored[e] = x[e];
                stored[half + e] = x[half + e];
            }
            return;
        }
    }
    const int owner = tangent ? p.owners[row - p.values] : row;
    const float* rotation = p.rotation + (long long)owner * p.e;
    const float* g = head < p.queries ? p.queryNorm : p.keyNorm;
    float* raw = g ? p.rawQk + ((long long)owner * turned + head) * p.e : nullptr;
    float s = 1.0f, along = 0.0f;
    if (g)
    {
        float squares = 0, products = 0;
        for (int e = lane; e < half; e += 32)
        {
            const float a = x[e], b = x[half + e];
            if (tangent)
            {
                const float ra = raw[e], rb = raw[half + e];
                squares += tillerFma(ra, ra, rb * rb);
                products += tillerFma(a, ra, b * rb);
            }
            else
            {
                raw[e] = a;
                raw[half + e] = b;
                squares += tillerFma(a, a, b * b);
            }
        }
        s = tillerInverseRms(tillerWarpSum(squares), p.e, p.eps);
        if (tangent) { along = -s * s * tillerWarpSum(products) / float(p.e); }
    }
    for (int e = lane; e < half; e += 32)
    {
        float a = x[e], b = x[half + e];
        if (g)
        {
            if (tangent)
            {
                a = tillerFma(along, raw[e], a);
                b = tillerFma(along, raw[half + e], b);
            }
            a = s * a * g[e];
            b = s * b * g[half + e];
        }
        const float cosine = rotation[e], sine = rotation[half + e];
        const float turnedA = a * cosine - b * sine, turnedB = b * cosine + a * sine;
        x[e] = turnedA;
        x[half + e] = turnedB;
        if (stored)
        {
            stored[e] = turnedA;
            stored[half + e] = turnedB;
        }
    }
}
TILLER_KERNEL(tillerQkvFinish)

struct TillerQkvPullParameters
{
    const int* owners;      // (rows)
    float* qkv;             // (rows, (H + 2G) E) cotangents, in place
    const float* rawQk;     // (values, (H + G) E); null without norms
    const float* rotation;  // (values, E)
    const float* queryNorm; // (E); null without norms
    const float* keyNorm;   // (E); null without norms
    int rows;
    int queries;            // H
    int groups;             // G
    int e;                  // E
    float eps;
};

extern "C" __global__ void __launch_bounds__(128) tillerQkvPull(const TillerQkvPullParameters p)
{
    const int turned = p.queries + p.groups, half = p.e / 2, lane = int(threadIdx.x) % 32;
    const long long warp = (long long)blockIdx.x * 4 + threadIdx.x / 32;
    const int row = int(warp / turned), head = int(warp % turned);
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    if (row >= p.rows) { return; }
    const int owner = p.owners[row];
    float* bar = p.qkv + ((long long)row * (turned + p.groups) + head) * p.e;
    const float* rotation = p.rotation + (long long)owner * p.e;
    const float* g = head < p.queries ? p.queryNorm : p.keyNorm;
    const float* raw = g ? p.rawQk + ((long long)owner * turned + head) * p.e : nullptr;
    float s = 1.0f, along = 0.0f;
    if (g)
    {
        float squares = 0, products = 0;
        for (int e = lane; e < half; e += 32)
        {
            const float a = bar[e], b = bar[half + e], cosine = rotation[e], sine = rotation[half + e], ra = raw[e], rb = raw[half + e];
            squares += tillerFma(ra, ra, rb * rb);
            products += tillerFma((a * cosine + b * sine) * g[e], ra, (b * cosine - a * sine) * g[half + e] * rb);
        }
        s = tillerInverseRms(tillerWarpSum(squares), p.e, p.eps);
        along = -s * s * tillerWarpSum(products) / float(p.e);
    }
    for (int e = lane; e < half; e += 32)
    {
        const float a = bar[e], b = bar[half + e], cosine = rotation[e], sine = rotation[half + e];
        float backA = a * cosine + b * sine, backB = b * cosine - a * sine;
        if (g)
        {
            backA = s * tillerFma(along, raw[e], backA * g[e]);
            backB = s * tillerFma(along, raw[half + e], backB * g[half + e]);
        }
        bar[e] = backA;
        bar[half + e] = backB;
    }
}
TILLER_KERNEL(tillerQkvPull)

struct TillerQkvWidthParameters
{
    const int* owners;       // (tangents); in a pull (rows)
    float* qkv;              // (values + tangents, (H + 2G) E), or cotangents (rows, …), in place
    float* rawQk;            // (values, (H + G) E): written by value rows, read by the others
    const float* queryNorm;  // (H E)
    const float* keyNorm;    // (G E)
    int values;              // 0 in a pull
    int firstRow;            // first row of this launch
    int queries;             // H
    int groups;              // G
    int e;                   // E
    float eps;
};

// The queries or the keys of a row, which a block norms.
struct TillerQkvPart
{
    float* x;
    float* raw;
    const float* g;
    int size;
};

static __device__ __forceinline__ TillerQkvPart tillerQkvPart(const TillerQkvWidthParameters& p, int row, int owner)
{
    const bool ofKeys = blockIdx.x % 2 != 0;
    const int first = ofKeys ? p.queries * p.e : 0;
    return {p.qkv + (long long)row * (p.queries + 2 * p.groups) * p.e + first, p.rawQk + (long long)owner * (p.queries + p.groups) * p.e + first,
            ofKeys ? p.keyNorm : p.queryNorm, (ofKeys ? p.groups : p.queries) * p.e};
}

extern "C" __global__ void __launch_bounds__(256) tillerQkvNormWidth(const TillerQkvWidthParameters p)
{
    __shared__ float scratch[64];
    const int row = p.firstRow + int(blockIdx.x) / 2;
    const bool tangent = row >= p.values;
    tillerWaitForPredecessor();
    const TillerQkvPart part = tillerQkvPart(p, row, tangent ? p.owners[row - p.values] : row);
    float sums[2] = {0.0f, 0.0f}; // Σ x², Σ dx x
    for (int i = int(threadIdx.x); i < part.size; i += 256)
    {
        const float own = part.x[i];
        if (!tangent) { part.raw[i] = own; }
        const float x = tangent ? part.raw[i] : own;
        sums[0] = tillerFma(x, x, sums[0]);
        sums[1] = tillerFma(own, x, sums[1]);
    }
    tillerReleaseSuccessor();
    tillerBlockSums(sums, scratch);
    const float s = tillerInverseRms(sums[0], part.size, p.eps), along = tangent ? -s * s * sums[1] / float(part.size) : 0.0f;
    for (int i = int(threadIdx.x); i < part.size; i += 256)
    {
        const float own = part.x[i];
        part.x[i] = s * (tangent ? tillerFma(along, part.raw[i], own) : own) * part.g[i];
    }
}
TILLER_KERNEL(tillerQkvNormWidth)

extern "C" __global__ void __launch_bounds__(256) tillerQkvPullWidth(const TillerQkvWidthParameters p)
{
    __shared__ float scratch[64];
    const int row = int(blockIdx.x) / 2;
    tillerWaitForPredecessor();
    const TillerQkvPart part = tillerQkvPart(p, row, p.owners[row]);
    float sums[2] = {0.0f, 0.0f}; // Σ x², Σ z x
    for (int i = int(threadIdx.x); i < part.size; i += 256)
    {
        sums[0] = tillerFma(part.raw[i], part.raw[i], sums[0]);
        sums[1] = tillerFma(part.x[i] * part.g[i], part.raw[i], sums[1]);
    }
    tillerReleaseSuccessor();
    tillerBlockSums(sums, scratch);
    const float s = tillerInverseRms(sums[0], part.size, p.eps), along = -s * s * sums[1] / float(part.size);
    for (int i = int(threadIdx.x); i < part.size; i += 256) { part.x[i] = s * tillerFma(along, part.raw[i], part.x[i] * part.g[i]); }
}
TILLER_KERNEL(tillerQkvPullWidth)
