// Pullback of attention: from cotangents ō of a value row's heads to the cotangents of its own query, key and value (docs/math.md §9):
//   q̄ = M'ō,   k̄ = Σ_{heads of the group} (b·ō) q,   v̄ = Σ P_t ō
// q̄: keys and values are streamed if a row has fewer than E/2 cotangents (attention_stream.cuh); M is used if it has more (attention_dense.cuh).
// k̄, v̄: tillerPullAttentionOwn, grid (⌈cotangents / 8⌉, G), 128 threads. A warp for each head computes b·ō = σ_t (v_t − o)·ō; then a thread
// for each number adds the heads in order. 8 H E bytes and 6 H E FLOPs for each cotangent.
#include "attention_stream.cuh"
#include "attention_dense.cuh"

// For E up to 64, 128 and 256.
TILLER_STREAM_ATTENTION(tillerPullAttention64, 4, 1, 4, true)
TILLER_KERNEL(tillerPullAttention64)
TILLER_STREAM_ATTENTION(tillerPullAttention128, 3, 2, 4, true)
TILLER_KERNEL(tillerPullAttention128)
TILLER_STREAM_ATTENTION(tillerPullAttention256, 2, 4, 2, true)
TILLER_KERNEL(tillerPullAttention256)

extern "C" __global__ void __launch_bounds__(256, 2) tillerPullAttentionDense(const TillerAttention p) { tillerDenseRows<true>(p); }
TILLER_KERNEL(tillerPullAttentionDense)

extern "C" __global__ void __launch_bounds__(128) tillerPullAttentionOwn(const TillerAttention p)
{
    __shared__ float toKey[16], toValue[16]; // b·ō and P_t of the group's heads
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    const int E = p.E, g = int(blockIdx.y), perGroup = p.H / p.G, firstHead = g * perGroup, width = tillerQkvWidth(p);
    const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32, to = tillerMin(int(blockIdx.x) * 8 + 8, p.tangents);
    for (int t = int(blockIdx.x) * 8; t < to; t++)
    {
        const int row = p.owners[t];
        int begin, end;
        tillerSpanOf(p, row, begin, end);
        const TillerHeadView view = tillerViewOf(p, p.rows[row], g);
        if (view.length > p.bound) { continue; }
        const float* const v = view.values + (long long)(view.length - 1) * E;
        const float* const bar = p.headsBar + ((long long)t * p.H + firstHead) * E;
        for (int h = warp; h < perGroup; h += 4)
        {
            const long long line = (long long)tillerSlotOf(p, row, begin) * p.H + firstHead + h;
            const float2 softmax = tillerSoftmaxOf(p.stats + line * p.chunkBound, view.chunks);
            const float z = p.z[line * p.zStride + view.length - 1], weight = tillerExp(z - softmax.x) * softmax.y;
            const float* const o = p.heads + ((long long)row * p.H + firstHead + h) * E;
            float sum = 0.0f;
            for (int e = lane; e < E; e += 32) { sum = tillerFma(v[e] - o[e], bar[h * E + e], sum); }
            sum = tillerWarpSum(sum);
            if (lane == 0)
            {
                toKey[h] = tillerCapSlope(p, z) * weight * sum;
                toValue[h] = weight;
            }
        }
        __syncthreads();
        const float* const q = tillerQuery(p, row, firstHead);
        float* const keyBar = p.qkvBar + (long long)t * width + (p.H + g) * E;
        for (int e = int(threadIdx.x); e < E; e += 128)
        {
            float key = 0.0f, value = 0.0f;
            for (int h = 0; h < perGroup; h++)
            {
                key = tillerFma(toKey[h], q[h * E + e], key);
                value = tillerFma(toValue[h], bar[h * E + e], value);
            }
            keyBar[e] = key;
            keyBar[p.G * E + e] = value;
        }
        __syncthreads();
    }
}
TILLER_KERNEL(tillerPullAttentionOwn)
