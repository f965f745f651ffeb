// Draws the next token with the filters of SamplingOptions, in the order of transformers (head.cu applies bias and penalties):
//   weight w = exp((l − max) / T);  top-k: l is at least the K-th largest;  top-p: in the order of falling weight, then rising id, the fewest
//   tokens whose sum reaches p of the total;  min-p: w ≥ minP;  then, in the order of ids, the first id whose cumulative weight exceeds unit · total.
// filter    One block of 256 threads for each chunk of 2048 logits computes the chunk's sum of weights and, with top-k or top-p, its candidates in
// the
//           order of ids. Without top-k, tokens of weight (1 − p)/V or less are no candidates: the sum is at least 1, so V such
//           tokens have at most 1 − p of it.
// draw      One block of 512 threads for each row. It works on the candidates, of which up to 4096 fit into shared memory, and finds thresholds bit
// by
//           bit from the highest (counts are integers; sums are float64 in a fixed order). Without candidates, it works on the chunks' sums and then
//           on one chunk.
// Shared memory: filter 0.4 KiB, draw 33 KiB. Bytes: 4 V for each row, and 8 for each candidate. Nothing is drawn for greedy or failed rows.
#include "sampling.cuh"

static constexpr int tillerDrawThreads = 512, tillerSharedCandidates = 4096;

extern "C" __global__ void __launch_bounds__(tillerScanThreads) tillerSampleFilter(const TillerHeadParameters p)
{
    __shared__ double sums[32];
    __shared__ int counts[33];
    const int row = int(blockIdx.x) / p.chunks, chunk = int(blockIdx.x) % p.chunks;
    const bool wide = p.v % 4 == 0;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    if (p.scratch.top[row] < 0) { return; }
    const TillerSampling s = p.sampling[row];
    const bool largest = tillerKeepsLargest(s, p.v), lists = tillerNeedsCandidates(s, p.v);
    const float max = p.scratch.max[row], floor = p.scratch.floor[row];
    const float light = float((1.0 - double(s.topP)) / p.v);
    const float* logits = tillerDrawnFrom(p, row);
    TillerCandidate* to = p.scratch.candidates + ((long long)row * p.chunks + chunk) * tillerChunk;
    double sum[1] = {0.0};
    int listed = 0;
    for (int turn = 0; turn < tillerChunk / (4 * tillerScanThreads); turn++)
    {
        const int c = chunk * tillerChunk + (turn * tillerScanThreads + int(threadIdx.x)) * 4;
        const float4 l = tillerLoad4(logits, c, p.v, wide);
        const float logit[4] = {l.x, l.y, l.z, l.w};
        int keep = 0;
        TILLER_UNROLL
        for (int i = 0; i < 4; i++)
        {
            if (c + i >= p.v) { continue; }
            const float w = tillerWeight(logit[i], max, s.temperature);
            sum[0] += !lists && w < s.minP ? 0.0f : w;
            keep |= (largest ? logit[i] >= floor : w > light) ? 1 << i : 0;
        }
        if (!lists) { continue; }
        int total;
        int at = listed + tillerBlockScan(tillerPopCount(unsigned(keep)), counts, total);
        TILLER_UNROLL
        for (int i = 0; i < 4; i++)
        {
            if (keep & 1 << i) { to[at++] = {logit[i], c + i}; }
        }
        listed += total;
    }
    tillerBlockSums(sum, sums);
    if (threadIdx.x == 0)
    {
        p.scratch.chunkSum[(long long)row * p.chunks + chunk] = sum[0];
        p.scratch.chunkCount[(long long)row * p.chunks + chunk] = listed;
    }
}
TILLER_KERNEL(tillerSampleFilter)

struct TillerDrawShared
{
    TillerCandidate list[tillerSharedCandidates];
    double sums[33];
    int counts[96];
};

// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): uniform in [0, 1) on a grid of 2^-53.
static __device__ __forceinline__ double tillerUnit(unsigned long long state)
{
    unsigned long long z = state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return double((z ^ (z >> 31)) >> 11) * (1.0 / double(1ull << 53));
}

// Of n weights, the index of the first at which `below` plus the weights up to it exceeds the target. If rounding leaves none, the last weight that
// is not 0; if all are 0, −1. Threads have neighbouring stretches. If `below` is negative, 0 is used instead, and the target is unit · Σ. The shared
// memory must not be written again before the block's next barrier.
template <class WeightAt>
static __device__ __forceinline__ int tillerFirstAbove(WeightAt weightAt, int n, double below, double target, double unit, TillerDrawShared& shared)
{
    const int each = (n + int(blockDim.x) - 1) / int(blockDim.x), begin = tillerMin(n, int(threadIdx.x) * each), end = tillerMin(n, begin + each);
    double mine = 0, total;
    int lastHere = -1;
    for (int i = begin; i < end; i++)
    {
        const float w = weightAt(i);
        mine += w;
        if (w > 0) { lastHere = i; }
    }
    double sum = tillerBlockScan(mine, shared.sums, total);
    if (below < 0)
    {
        below = 0;
        target = unit * total;
    }
    sum += below;
    int first = 0x7fffffff;
    for (int i = begin; i < end && first == 0x7fffffff; i++)
    {
        const float w = weightAt(i);
        sum += w;
        if (w > 0 && sum > target) { first = i; }
    }
    for (int lanes = 16; lanes > 0; lanes >>= 1)
    {
        first = tillerMin(first, __shfl_xor_sync(0xffffffffu, first, lanes));
        lastHere = tillerMax(lastHere, __shfl_xor_sync(0xffffffffu, lastHere, lanes));
    }
    if (threadIdx.x % 32 == 0)
    {
        shared.counts[threadIdx.x / 32] = first;
        shared.counts[32 + threadIdx.x / 32] = lastHere;
    }
    __syncthreads();
    for (int i = 0; i < int(blockDim.x) / 32; i++)
    {
        first = tillerMin(first, shared.counts[i]);
        lastHere = tillerMax(lastHere, shared.counts[32 + i]);
    }
    return first != 0x7fffffff ? first : lastHere;
}

// Top-p over a list in the order of ids. The weights of tokens that top-k dropped are 0, and so become those that top-p drops.
static __device__ __forceinline__ void tillerKeepNucleus(
    TillerCandidate* list, int n, double total, const TillerSampling& s, int v, TillerDrawShared& shared)
{
    // V tokens of weight ≤ (1 − p) · total / V have at most 1 − p of the sum, so top-p drops them in any order.
    const float tail = float((1.0 - double(s.topP)) * total / v);
    const double mass = double(s.topP) * total;
    const int threads = int(blockDim.x);
    for (int i = int(threadIdx.x); i < n; i += threads) { list[i].value = list[i].value > tail ? list[i].value : 0.0f; }

    // The largest weight such that it and all larger ones reach the mass. The bits of nonnegative floats have the order of the numbers.
    unsigned edge = 0;
    double reached[1];
    for (int shift = 29; shift >= 0; shift--)
    {
        reached[0] = 0;
        const unsigned least = edge | 1u << shift;
        for (int i = int(threadIdx.x); i < n; i += threads) { reached[0] += tillerBits(list[i].value) >= least ? list[i].value : 0.0f; }
        tillerBlockSums(reached, shared.sums);
        edge |= reached[0] >= mass ? 1u << shift : 0u;
        __syncthreads();
    }
    if (edge == 0) { return; } // because of rounding, even all of them do not reach the mass
    reached[0] = 0;
    for (int i = int(threadIdx.x); i < n; i += threads) { reached[0] += tillerBits(list[i].value) > edge ? list[i].value : 0.0f; }
    tillerBlockSums(reached, shared.sums);

    // Of the tokens at the edge, the necessary number is kept, lower ids first.
    const double missing = (mass - reached[0]) / tillerFromBits(edge);
    const int each = (n + threads - 1) / threads, begin = tillerMin(n, int(threadIdx.x) * each), end = tillerMin(n, begin + each);
    int equal = 0, all;
    for (int i = begin; i < end; i++) { equal += tillerBits(list[i].value) == edge ? 1 : 0; }
    int before = tillerBlockScan(equal, shared.counts, all);
    for (int i = begin; i < end; i++)
    {
        const unsigned bits = tillerBits(list[i].value);
        const bool drops = bits < edge || (bits == edge && before > 0 && double(before) >= missing);
        before += bits == edge ? 1 : 0;
        if (drops) { list[i].value = 0.0f; }
    }
}

extern "C" __global__ void __launch_bounds__(tillerDrawThreads) tillerSampleDraw(const TillerHeadParameters p)
{
    __shared__ TillerDrawShared shared;
    const int row = int(blockIdx.x), thread = int(threadIdx.x);
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    const int top = p.scratch.top[row];
    if (top < 0) { return; }
    const TillerSampling s = p.sampling[row];
    const unsigned long long state = s.random + 0x9E3779B97F4A7C15ull;
    const double unit = tillerUnit(state);
    const float max = p.scratch.max[row], least = s.minP;
    const long long chunksFrom = (long long)row * p.chunks;
    int chosen;
    if (!tillerNeedsCandidates(s, p.v))
    {
        // There are few chunks, so every thread adds up all of them.
        double total = 0, below = 0;
        for (int i = 0; i < p.chunks; i++) { total += p.scratch.chunkSum[chunksFrom + i]; }
        const double target = unit * total;
        int chunk = 0;
        for (double upTo = 0; chunk < p.chunks - 1; chunk++)
        {
            upTo = below + p.scratch.chunkSum[chunksFrom + chunk];
            if (upTo > target) { break; }
            below = upTo;
        }
        const int first = chunk * tillerChunk;
        const float* logits = tillerDrawnFrom(p, row) + first;
        const auto weightAt = [logits, max, least, &s](int i)
        {
            const float w = tillerWeight(logits[i], max, s.temperature);
            return w < least ? 0.0f : w;
        };
        chosen = tillerFirstAbove(weightAt, tillerMin(tillerChunk, p.v - first), below, target, unit, shared);
        chosen = chosen < 0 ? top : first + chosen;
    }
    else
    {
        // Each thread has one chunk, and computes where its candidates go.
        int n;
        const int count = thread < p.chunks ? p.scratch.chunkCount[chunksFrom + thread] : 0;
        const int start = tillerBlockScan(count, shared.counts, n);
        TillerCandidate* list = n <= tillerSharedCandidates ? shared.list : p.scratch.dense + chunksFrom * tillerChunk;
        const TillerCandidate* from = p.scratch.candidates + chunksFrom * tillerChunk;
        for (int i = 0; i < p.chunks; i += 32)
        {
            // A warp copies one chunk after another. Each chunk's own thread passes its place and number through shared memory.
            if (thread >= i && thread < i + 32)
            {
                shared.counts[thread - i] = start;
                shared.counts[32 + thread - i] = count;
            }
            __syncthreads();
            for (int chunk = i + thread / 32; chunk < tillerMin(p.chunks, i + 32); chunk += tillerDrawThreads / 32)
            {
                for (int j = thread % 32; j < shared.counts[32 + chunk - i]; j += 32)
                {
                    list[shared.counts[chunk - i] + j] = from[(long long)chunk * tillerChunk + j];
                }
            }
            __syncthreads();
        }
        const bool largest = tillerKeepsLargest(s, p.v);
        unsigned floor = 0;
        if (largest) { floor = tillerKthLargest([list](int i) { return tillerOrdered(list[i].value); }, n, s.topK, shared.counts); }
        double total[1] = {0.0};
        for (int i = thread; i < n; i += tillerDrawThreads)
        {
            const float w = tillerOrdered(list[i].value) >= floor ? tillerWeight(list[i].value, max, s.temperature) : 0.0f;
            list[i].value = w;
            total[0] += w;
        }
        if (s.topP < 1.0f)
        {
            if (!largest)
            {
                total[0] = 0;
                for (int i = thread; i < p.chunks; i += tillerDrawThreads) { total[0] += p.scratch.chunkSum[chunksFrom + i]; }
            }
            tillerBlockSums(total, shared.sums);
            __syncthreads();
            tillerKeepNucleus(list, n, total[0], s, p.v, shared);
        }
        __syncthreads();
        chosen = tillerFirstAbove([list, least](int i) { return list[i].value < least ? 0.0f : list[i].value; }, n, -1.0, 0.0, unit, shared);
        chosen = chosen < 0 ? top : list[chosen].id;
    }
    if (thread == 0)
    {
        p.ids[row] = chosen;
        p.sampling[row].random = state;
    }
}
TILLER_KERNEL(tillerSampleDraw)
