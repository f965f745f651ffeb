// Stage 1 of decoding for up to eight rows, in one kernel: norm; queries, keys and values with bias; RoPE; keys and values of value rows to their
// caches. Further blocks read the sensors of steered rows.
//
// Grid: first `steered` blocks, `shares` for each row, which read its sensors, four at a time each (steering.cuh). If a row has one such block, that
// block also computes |u_k|; if it has more, decode_gate.cu does. Then ⌈(H + 2G) E/2 / (16 / parts)⌉ blocks of 256 threads, which compute pairs
// (e, e + E/2) of a head (decode.cuh, linear.cuh). Shared memory: 4 R min(D, 16384 / R) bytes, which is 64 KiB from R = 4 on, 384 R bytes for sums,
// 5.3 KiB for the sensors. Bytes: W once, (H + 2G) E D sizeof(w); each block reads x and g from the L2 cache. FLOPs: 2 R (H + 2G) E D.
//
// local memory: 8 bytes, one word for four rows of f32, outside the loops, for 128 registers and two blocks
// local memory of PTX: 72 bytes, four rows of f32, in the order of clang's instructions for sm_80
#include "decode.cuh"
#include "rows.cuh"
#include "steering.cuh"

struct TillerDecodeQkv
{
    TillerNormedRows in;
    const TillerRow* rows;   // (values)
    const void* w;           // ((H + 2G) E, D)
    const float* bias;       // ((H + 2G) E), or null
    const float* rotation;   // (values, E) cosines, sines; null if heads are normed before RoPE: then no RoPE and no cache here
    float* qkv;              // (rows, (H + 2G) E)
    int queries, groups, e;  // H, G, E
    int layer;
    int parts, wide;
    int prefetch;            // bytes of each row of w to prefetch (linear_few.cu)
    int steered;             // number of blocks for steering: `shares` for each row, or none
    int shares;              // number of blocks for a row's sensors
};

template <class W, int R> static __device__ __forceinline__ void tillerDecodeQkv(const TillerDecodeQkv& p)
{
    const int block = int(blockIdx.x);
    if (block < p.steered)
    {
        __shared__ TillerSteeringScratch scratch;
        const int row = block / p.shares, t = row - p.in.values;
        const bool tangent = t >= 0;
        const TillerRow& r = p.rows[tangent ? p.in.owners[t] : row];
        tillerWaitForPredecessor();
        tillerReleaseSuccessor();
        if (r.steering)
        {
            tillerSense(*r.steering, p.layer, p.in.x + (long long)row * p.in.columns,
                        tangent ? p.in.x + (long long)p.in.owners[t] * p.in.columns : nullptr, p.in.columns, tangent, tangent ? t : r.slot,
                        block % p.shares, p.shares, scratch);
            if (!tangent && p.shares == 1) { tillerFreeNorm<2>(*r.steering, p.layer, p.in.columns, r.slot, true, scratch); }
        }
        return;
    }
    const int half = p.e / 2, heads = p.queries + 2 * p.groups, outputs = heads * p.e;
    const auto rowOf = [&](int pair, int second) { return pair / half * p.e + pair % half + second * half; };
    const auto store = [&](int m, int pair, float a, float b)
    {
        const int head = pair / half, e = pair % half, n = head * p.e + e;
        const bool value = m < p.in.values;
        const int owner = value ? m : p.in.owners[m - p.in.values];
        if (p.bias && value)
        {
            a += p.bias[n];
            b += p.bias[n + half];
        }
        if (p.rotation && head < p.queries + p.groups)
        {
            const float cosine = p.rotation[(long long)owner * p.e + e], sine = p.rotation[(long long)owner * p.e + half + e];
            const float turned = a * cosine - b * sine;
            b = b * cosine + a * sine;
            a = turned;
        }
        float* to = p.qkv + (long long)m * outputs + n;
        to[0] = a;
        to[half] = b;
        if (p.rotation && value && head >= p.queries)
        {
            const TillerRow& r = p.rows[m];
            float* stored = r.cache + ((2LL * p.layer * p.groups + (head - p.queries)) * r.capacity + r.position) * p.e + e;
            stored[0] = a;
            stored[half] = b;
        }
    };
    tillerNormedPairs<W, R>(p.in, p.w, heads * half, p.parts, p.wide != 0, p.prefetch, block - p.steered, rowOf, store);
}

#define TILLER_DECODE_QKV(name, W, R, blocks)                                                                             \
    extern "C" __global__ void __launch_bounds__(256, blocks) name(const TillerDecodeQkv p) { tillerDecodeQkv<W, R>(p); } \
    TILLER_KERNEL(name)

TILLER_DECODE_QKV(tillerDecodeQkvBF16x1, TillerBF16, 1, 2)
TILLER_DECODE_QKV(tillerDecodeQkvBF16x2, TillerBF16, 2, 2)
TILLER_DECODE_QKV(tillerDecodeQkvBF16x4, TillerBF16, 4, 2)
TILLER_DECODE_QKV(tillerDecodeQkvBF16x8, TillerBF16, 8, 1)
TILLER_DECODE_QKV(tillerDecodeQkvF16x1, TillerF16, 1, 2)
TILLER_DECODE_QKV(tillerDecodeQkvF16x2, TillerF16, 2, 2)
TILLER_DECODE_QKV(tillerDecodeQkvF16x4, TillerF16, 4, 2)
TILLER_DECODE_QKV(tillerDecodeQkvF16x8, TillerF16, 8, 1)
TILLER_DECODE_QKV(tillerDecodeQkvF32x1, TillerF32, 1, 2)
TILLER_DECODE_QKV(tillerDecodeQkvF32x2, TillerF32, 2, 2)
TILLER_DECODE_QKV(tillerDecodeQkvF32x4, TillerF32, 4, 2)
TILLER_DECODE_QKV(tillerDecodeQkvF32x8, TillerF32, 8, 1)
