// Attention of value rows by split-KV: z_j = a q·k_j (soft-capped if the model does so), P = softmax z, o = Σ_j P_j v_j. docs/math.md §9.
//
// Grid (chunks of the longest row, G · passes, value rows), 256 threads. A block computes one chunk of one row for all H/G query heads of a
// group, so that keys and values are read once. It can do 8 heads at once; with more, a group takes several `passes`. Lengths, windows and
// caches come from `rows`.
//   for 32 positions   scores (attention_scores.cuh) → z; warp h: running max and sum of head h; o_h += p_hj v_j, where a thread has a key
//                      lane and a 16-byte column. The keys and values of the next 32 positions are in flight meanwhile.
//   before them        If each row has its own cache and E is a multiple of 4, `rows` and the first 32 keys and values, except those of the
//                      row's own position, were written before the previous kernel. So they are loaded before that kernel ends.
//   at the end         The sums of the key lanes are added up through shared memory, and max, Σ and o of the chunk go to scratch memory. The
//                      block that arrives last adds the chunks in order, so that the order of arrival has no effect on the sum. A row with
//                      one chunk is written directly.
//
// Bytes: 8 n E for each group and row (and 8 E H for each chunk). FLOPs: 4 n E H. Shared memory: 42 KiB for 8 heads, 21 KiB for 4.
// Example with 32/8 heads of 128: n = 128 has 32 blocks of 32 KiB each, n = 4096 has 256 blocks of 128 KiB each.
//
// local memory: 32 bytes, eight heads: values needed once, and six words read once in 1200 instructions for 32 positions, for two blocks
// local memory of PTX: 288 bytes, eight heads of any E, in the order of clang's instructions
#include "attention_scores.cuh"

static __device__ unsigned tillerAttendCounters[4096]; // one for each value row, group and pass of a launch

template <int Heads, int Width>
static __device__ __forceinline__ void tillerAttendChunk(const TillerAttention& p)
{
    constexpr int Threads = 256, Slices = 32 / Width;
    __shared__ float4 queries[Heads * 64];           // (Heads, 256)
    __shared__ float4 parts[Threads * Heads * Width / 4]; // (key lanes, Heads, E); later the chunks' weights (Heads, 32)
    __shared__ float z[Heads * 33], weights[32 * Heads], rescale[Heads], top[Heads], total[Heads];
    __shared__ int last;
    float* const q = reinterpret_cast<float*>(queries);
    float* const sums = reinterpret_cast<float*>(parts);

    const int row = p.first + int(blockIdx.z), perGroup = p.H / p.G, passes = (perGroup + Heads - 1) / Heads;
    const int g = int(blockIdx.y) / passes, firstHead = g * perGroup + int(blockIdx.y) % passes * Heads;
    const int heads = tillerMin(Heads, (g + 1) * perGroup - firstHead), E = p.E, chunk = int(blockIdx.x), thread = int(threadIdx.x);
    const bool early = Width == 4 && p.early;
    if (!early) { tillerWaitForPredecessor(); }
    const TillerHeadView view = tillerViewOf(p, p.rows[row], g);
    float* const out = p.heads + ((long long)row * p.H + firstHead) * E;
    if (view.length > p.bound)
    {
        tillerWaitForPredecessor();
        // The row is longer than the launch allows. Its result is NaN, which the caller notices, and not an incomplete sum.
        for (int i = thread; chunk == 0 && i < heads * E; i += Threads) { out[i] = tillerFromBits(0x7fc00000u); }
        return;
    }
    if (chunk >= view.chunks) { return; }

    const int begin = chunk * view.chunk, end = tillerMin(begin + view.chunk, view.length);
    const int slot = thread / 8, head = thread % 8, warp = thread / 32, lane = thread % 32;
    const int columns = E / Width, lanes = tillerMin(Threads / columns, 32), keyLane = thread / columns, column = thread % columns;
    const bool adds = keyLane < lanes;
    TillerKeyPart<Width> key;
    TillerVector<Width> value[Slices], o[Heads];
    const auto loadKey = [&](int j, int end) { key.load(j + slot < end ? view.keys + (long long)(j + slot) * E : nullptr, E); };
    const auto loadValues = [&](int j, int end)
    {
        TILLER_UNROLL
        for (int i = 0; i < Slices; i++)
        {
            const int at = keyLane + lanes * i;
            value[i] = adds && at < 32 && j + at < end ? tillerLoadVector<Width>(view.values + (long long)(j + at) * E + column * Width)
                                                        : tillerZeroVector<Width>();
        }
    };
    // The previous kernel writes the key and the value of the row's own position, which is the last one.
    loadKey(begin, early ? tillerMin(end, view.length - 1) : end);
    loadValues(begin, early ? tillerMin(end, view.length - 1) : end);
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    if (early && end == view.length && end - begin <= 32)
    {
        if (slot == end - 1 - begin) { loadKey(begin, end); }
        TILLER_UNROLL
        for (int i = 0; i < Slices; i++)
        {
            const int at = keyLane + lanes * i;
            if (adds && at == end - 1 - begin) { value[i] = tillerLoadVector<Width>(view.values + (long long)(end - 1) * E + column * Width); }
        }
    }
    tillerLoadQueries<Heads>(q, tillerQuery(p, row, firstHead), heads, E);
    TILLER_UNROLL
    for (int h = 0; h < Heads; h++) { o[h] = tillerZeroVector<Width>(); }
    float largest = tillerMinusInfinity(), sum = 0.0f; // those of head `warp`
    __syncthreads();

    for (int j = begin; j < end; j += 32)
    {
        const float score = tillerScore<Heads, Width>(p, q, key);
        if (head < Heads) { z[head * 33 + slot] = j + slot < end ? score : tillerMinusInfinity(); }
        if (j + 32 < end) { loadKey(j + 32, end); }
        __syncthreads();
        if (warp < Heads)
        {
            const float mine = z[warp * 33 + lane], before = largest;
            largest = tillerMax(before, tillerWarpMax(mine));
            const float e = tillerExp(mine - largest), factor = tillerExp(before - largest);
            sum = sum * factor + tillerWarpSum(e);
            weights[lane * Heads + warp] = e;
            if (lane == 0) { rescale[warp] = factor; }
        }
        __syncthreads();
        TILLER_UNROLL
        for (int h = 0; h < Heads; h++)
        {
            const float factor = rescale[h];
            TILLER_UNROLL
            for (int u = 0; u < Width; u++) { o[h].x[u] *= factor; }
        }
        TILLER_UNROLL
        for (int i = 0; i < Slices; i++)
        {
            const int at = keyLane + lanes * i;
            if (at < 32 && j + at < end)
            {
                TILLER_UNROLL
                for (int h = 0; h < Heads; h++)
                {
                    const float w = weights[at * Heads + h];
                    TILLER_UNROLL
                    for (int u = 0; u < Width; u++) { o[h].x[u] = tillerFma(w, value[i].x[u], o[h].x[u]); }
                }
            }
        }
        if (j + 32 < end) { loadValues(j + 32, end); }
    }

    if (adds)
    {
        TILLER_UNROLL
        for (int h = 0; h < Heads; h++) { tillerStoreVector<Width>(sums + (keyLane * Heads + h) * E + column * Width, o[h]); }
    }
    if (warp < Heads && lane == 0)
    {
        top[warp] = largest;
        total[warp] = sum;
    }
    __syncthreads();
    const long long line = (long long)blockIdx.z * p.H + firstHead; // the line of the block's first head in this launch's scratch memory
    for (int i = thread; i < heads * E; i += Threads)
    {
        const int h = i / E, e = i - h * E;
        float x = 0.0f;
        for (int k = 0; k < lanes; k++) { x += sums[(k * Heads + h) * E + e]; }
        if (view.chunks == 1) { out[i] = x / total[h]; }
        else { p.partial[((line + h) * p.chunkBound + chunk) * E + e] = x; }
    }
    if (view.chunks == 1) { return; }
    if (thread < heads) { p.stats[(line + thread) * p.chunkBound + chunk] = {top[thread], total[thread]}; }
    if (!tillerLastToArrive(tillerAttendCounters + blockIdx.z * gridDim.y + blockIdx.y, view.chunks, &last)) { return; }

    // o = Σ_c w_c o_c, w_c = e^(max_c − max) / Σ_c e^(max_c − max) sum_c
    if (warp < heads)
    {
        float2 mine = {tillerMinusInfinity(), 0.0f};
        if (lane < view.chunks) { mine = p.stats[(line + warp) * p.chunkBound + lane]; }
        const float w = tillerExp(mine.x - tillerWarpMax(mine.x));
        sums[warp * 32 + lane] = w / tillerWarpSum(w * mine.y);
    }
    __syncthreads();
    for (int i = thread; i < heads * columns; i += Threads)
    {
        const int h = i / columns, at = (i - h * columns) * Width;
        const float* from = p.partial + (line + h) * p.chunkBound * E + at;
        TillerVector<Width> x = tillerZeroVector<Width>();
        for (int c = 0; c < view.chunks; c += 8)
        {
            TillerVector<Width> part[8];
            TILLER_UNROLL
            for (int u = 0; u < 8; u++)
            {
                part[u] = c + u < view.chunks ? tillerLoadVector<Width>(from + (long long)(c + u) * E) : tillerZeroVector<Width>();
            }
            TILLER_UNROLL
            for (int u = 0; u < 8; u++)
            {
                if (c + u < view.chunks)
                {
                    TILLER_UNROLL
                    for (int k = 0; k < Width; k++) { x.x[k] = tillerFma(sums[h * 32 + c + u], part[u].x[k], x.x[k]); }
                }
            }
        }
        tillerStoreVector<Width>(out + h * E + at, x);
    }
}

#define TILLER_ATTEND(name, Heads, Width)                                                                                      \
    extern "C" __global__ void __launch_bounds__(256, 2) name(const TillerAttention p) { tillerAttendChunk<Heads, Width>(p); } \
    TILLER_KERNEL(name)

TILLER_ATTEND(tillerAttend1, 1, 4)
TILLER_ATTEND(tillerAttend2, 2, 4)
TILLER_ATTEND(tillerAttend4, 4, 4)
TILLER_ATTEND(tillerAttend8, 8, 4)
TILLER_ATTEND(tillerAttendAny, 8, 1)
