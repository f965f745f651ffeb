// The quantities of a value row with tangents or cotangents from which its pushforward or pullback is computed (docs/math.md §9):
//   tillerAttentionScores   z_j for every head; and, for each chunk, max z and Σ e^(z − max). They give P_j = e^(z_j − max) / Σ and the slopes
//                           σ_j = a P_j c_j, where c_j = 1 − (z_j/cap)², or 1 without a cap
//   tillerAttentionJacobian M = Σ_j σ_j (v_j − o) k_j' // (E, E) for each head of a row with at least E/2 tangents or cotangents. The pushforward
//                           gets M', because it multiplies rows by the matrix from the right as the pullback does.
//
// Scores: grid (chunks of the longest row, G · passes of 8 heads, slots), 256 threads; the same work as in attention.cu without the values;
// 4 n E bytes for each group and row. Slots are the value rows or, if there are fewer of them, the tangents; of a row's tangents, the first computes.
// Jacobian: grid (tiles of 64 × 64, H, tangents / (E/2)), 256 threads of 4 × 4; 32 positions at a time in 17 KiB of shared memory;
// 2 n E² FLOPs for each head. Block z = d computes the row whose first tangent is in [d E/2, (d + 1) E/2). No two dense rows have the same d.
#include "attention_scores.cuh"

template <int Width>
static __device__ __forceinline__ void tillerScoreChunk(const TillerAttention& p)
{
    constexpr int Heads = 8;
    __shared__ float4 queries[Heads * 64];
    __shared__ float z[Heads * 33];
    float* const q = reinterpret_cast<float*>(queries);
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    int row = p.first + int(blockIdx.z), begin, end;
    if (p.values > p.tangents)
    {
        const int tangent = row;
        row = p.owners[tangent];
        tillerSpanOf(p, row, begin, end);
        if (tangent != begin) { return; }
    }
    else { tillerSpanOf(p, row, begin, end); }
    const int perGroup = p.H / p.G, passes = (perGroup + Heads - 1) / Heads;
    const int g = int(blockIdx.y) / passes, firstHead = g * perGroup + int(blockIdx.y) % passes * Heads;
    const int heads = tillerMin(Heads, (g + 1) * perGroup - firstHead), E = p.E, thread = int(threadIdx.x);
    const TillerHeadView view = tillerViewOf(p, p.rows[row], g);
    const int chunk = int(blockIdx.x);
    if (begin == end || chunk >= view.chunks || view.length > p.bound) { return; }

    const int slot = thread / 8, head = thread % 8, warp = thread / 32, lane = thread % 32;
    const int from = chunk * view.chunk, to = tillerMin(from + view.chunk, view.length);
    const long long line = (long long)tillerSlotOf(p, row, begin) * p.H + firstHead;
    TillerKeyPart<Width> key;
    const auto loadKey = [&](int j) { key.load(j + slot < to ? view.keys + (long long)(j + slot) * E : nullptr, E); };
    loadKey(from);
    tillerLoadQueries<Heads>(q, tillerQuery(p, row, firstHead), heads, E);
    __syncthreads();
    float largest = tillerMinusInfinity(), sum = 0.0f;
    for (int j = from; j < to; j += 32)
    {
        const float score = tillerScore<Heads, Width>(p, q, key);
        z[head * 33 + slot] = j + slot < to ? score : tillerMinusInfinity();
        if (j + 32 < to) { loadKey(j + 32); }
        __syncthreads();
        const float mine = z[warp * 33 + lane], before = largest;
        largest = tillerMax(before, tillerWarpMax(mine));
        sum = sum * tillerExp(before - largest) + tillerWarpSum(tillerExp(mine - largest));
        if (warp < heads && j + lane < to) { p.z[(line + warp) * p.zStride + j + lane] = mine; }
        __syncthreads();
    }
    if (warp < heads && lane == 0) { p.stats[(line + warp) * p.chunkBound + chunk] = {largest, sum}; }
}

#define TILLER_ATTENTION_SCORES(name, Width)                                                                           \
    extern "C" __global__ void __launch_bounds__(256, 2) name(const TillerAttention p) { tillerScoreChunk<Width>(p); } \
    TILLER_KERNEL(name)

TILLER_ATTENTION_SCORES(tillerAttentionScores, 4)
TILLER_ATTENTION_SCORES(tillerAttentionScoresAny, 1)

extern "C" __global__ void __launch_bounds__(256, 2) tillerAttentionJacobian(const TillerAttention p)
{
    constexpr int Keys = 32, Side = 64, Stride = 17; // a line has 64 numbers and 4 more, in float4s
    __shared__ float4 left[Keys * Stride], right[Keys * Stride];
    __shared__ float slopes[Keys];
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    const int dense = tillerDenseFrom(p), d = int(blockIdx.z), row = p.owners[(d + 1) * dense - 1];
    int begin, end;
    tillerSpanOf(p, row, begin, end);
    if (end - begin < dense || begin / dense != d) { return; }
    const int E = p.E, tiles = (E + Side - 1) / Side, h = int(blockIdx.y), thread = int(threadIdx.x), tx = thread % 16, ty = thread / 16;
    const int firstA = int(blockIdx.x) / tiles * Side, firstB = int(blockIdx.x) % tiles * Side;
    const TillerHeadView view = tillerViewOf(p, p.rows[row], h / (p.H / p.G));
    if (view.length > p.bound) { return; }
    const long long line = (long long)tillerSlotOf(p, row, begin) * p.H + h;
    const float2 softmax = tillerSoftmaxOf(p.stats + line * p.chunkBound, view.chunks);
    const float* const z = p.z + line * p.zStride;
    const float* const o = p.heads + ((long long)row * p.H + h) * E;

    // m[a][b] = Σ_j left_j[a] right_j[b]. The factors are k_j and σ_j (v_j − o); in the pullback they are swapped.
    float4* const keyTo = p.pull ? right : left;
    float4* const armTo = p.pull ? left : right;
    float4 m[4];
    TILLER_UNROLL
    for (int i = 0; i < 4; i++) { m[i] = tillerZero4(); }
    for (int j0 = 0; j0 < view.length; j0 += Keys)
    {
        if (thread < Keys)
        {
            const int j = j0 + thread;
            const float score = j < view.length ? z[j] : tillerMinusInfinity();
            slopes[thread] = j < view.length ? tillerCapSlope(p, score) * tillerExp(score - softmax.x) * softmax.y : 0.0f;
        }
        __syncthreads();
        TILLER_UNROLL
        for (int u = 0; u < 2; u++)
        {
            const int j = (thread + u * 256) / 16, c = thread % 16;
            const bool seen = j0 + j < view.length;
            const int keyColumn = (p.pull ? firstB : firstA) / 4 + c, armColumn = (p.pull ? firstA : firstB) / 4 + c;
            const float4 key = seen && 4 * keyColumn < E ? tillerLoad4(view.keys + (long long)(j0 + j) * E, keyColumn, E) : tillerZero4();
            float4 arm = tillerZero4();
            if (seen && 4 * armColumn < E)
            {
                const float4 v = tillerLoad4(view.values + (long long)(j0 + j) * E, armColumn, E), mean = tillerLoad4(o, armColumn, E);
                const float slope = slopes[j];
                arm = {slope * (v.x - mean.x), slope * (v.y - mean.y), slope * (v.z - mean.z), slope * (v.w - mean.w)};
            }
            keyTo[j * Stride + c] = key;
            armTo[j * Stride + c] = arm;
        }
        __syncthreads();
        for (int j = 0; j < Keys; j++)
        {
            const float4 a = left[j * Stride + ty], b = right[j * Stride + tx];
            tillerAxpy4(a.x, b, m[0]);
            tillerAxpy4(a.y, b, m[1]);
            tillerAxpy4(a.z, b, m[2]);
            tillerAxpy4(a.w, b, m[3]);
        }
    }
    float* const out = p.m + ((long long)d * p.H + h) * E * E;
    TILLER_UNROLL
    for (int i = 0; i < 4; i++)
    {
        const int a = firstA + ty * 4 + i, c = firstB / 4 + tx;
        if (a < E && 4 * c < E) { tillerStore4(out + (long long)a * E, c, E, m[i]); }
    }
}
TILLER_KERNEL(tillerAttentionJacobian)
