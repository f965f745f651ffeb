// What follows the projection to queries, keys and values (qkv // (rows, (H + 2G) E), heads side by side):
//   norm of each query and key head where the model has one, g (E): as norm.cu with E for D
//   RoPE: (x_e, x_{e+E/2}) ← (x_e cos − x_{e+E/2} sin, x_{e+E/2} cos + x_e sin), the value row's angles
//   keys and values of value rows to the row's cache, layer k: key head g at ((2kG + g) capacity + position) E, values at g + G
// Pull: the same rotation by −angle, then the norm's transpose.
// One warp per head of a row, pairs (e, e + E/2) across the lanes, four warps a block, no shared memory: each lane writes only what
// it alone reads. With norms a tangent needs its value row's unnormed heads: the launcher then runs value rows first, which leave
// them in rawQk // (values, (H + G) E), and tangents in a second launch. Bytes: (H + 2G) E read, (H + G) E written, 2 G E to the cache.
#include "math.cuh"
#include "rows.cuh"

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
    int firstRow;            // of this launch
    int endRow;
    int queries;             // H
    int groups;              // G
    int e;                   // E
    int layer;
    float eps;
};

extern "C" __global__ void __launch_bounds__(128) tillerQkvFinish(const TillerQkvParameters p)
{
    const int heads = p.queries + 2 * p.groups, turned = p.queries + p.groups, half = p.e / 2, lane = int(threadIdx.x) % 32;
    const long long warp = (long long)blockIdx.x * 4 + threadIdx.x / 32;
    const int row = p.firstRow + int(warp / heads), head = int(warp % heads);
    const bool tangent = row >= p.values;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    if (row >= p.endRow || (tangent && head >= turned)) { return; }
    float* x = p.qkv + ((long long)row * heads + head) * p.e;
    float* stored = nullptr;
    if (!tangent && head >= p.queries)
    {
        const TillerRow& r = p.rows[row];
        stored = r.cache + ((2LL * p.layer * p.groups + (head - p.queries)) * r.capacity + r.position) * p.e;
        if (head >= turned)
        {
            for (int e = lane; e < p.e; e += 32) { stored[e] = x[e]; }
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
