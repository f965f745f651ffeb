// After the head: soft cap, the largest logit, and from a token to the next step's row.
//   cap       z ← cap tanh(z / cap), blocks of 256 threads of four logits
//   scan      Bias and penalties, into a copy. For each chunk of 2048 logits: the largest, its lowest id, and the lowest id of a logit that is NaN or
//             +∞; and the largest of every 128. One block of 256 threads for each chunk: 63 blocks for 128,256 logits.
//   pick      merges the chunks; one block for each row. A greedy row is then done. For other rows, the smallest logit that top-k can keep is
//             bounded from below by the K-th largest of the maxima of the groups of 128.
//   advance   row.id ← id, row.position += 1, and the state of the row's law ← the next one, which starts from the errors of this one. Writes the id
//             and the values that the law read and computed to a ring, which may be in host memory. One block, so that the ring's count has one
//             writer; it has 256 threads for one row, 512 for two or three, 1024 for more. 1024 / rows of them, at least 32, copy one law's values.
//   tally     words from the host for the tallies of penalties: one or two tokens for each row
// Bytes: scan 4 V for each row (12 V with penalties, 16 V with a bias). Of equal logits, the one with the lowest id is chosen, for any layout.
#include "rows.cuh"
#include "sampling.cuh"

struct TillerSoftCapParameters
{
    float* z;        // (count)
    long long count;
    float cap;
};

extern "C" __global__ void __launch_bounds__(256) tillerSoftCap(const TillerSoftCapParameters p)
{
    const long long first = (long long)blockIdx.x * 1024 + threadIdx.x;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    TILLER_UNROLL
    for (int turn = 0; turn < 4; turn++)
    {
        const long long i = first + 256 * turn;
        if (i < p.count) { p.z[i] = p.cap * tillerTanh(p.z[i] / p.cap); }
    }
}
TILLER_KERNEL(tillerSoftCap)

static __device__ __forceinline__ void tillerLook(float logit, int id, float& max, int& top, int& bad)
{
    if (!(logit < tillerFromBits(0x7f800000u))) { bad = tillerMin(bad, id); }
    if (logit > max)
    {
        max = logit;
        top = id;
    }
}

// The same as LogitPenalties.Apply, after the bias.
static __device__ __forceinline__ float tillerAdjust(float logit, const TillerSampling& s, int id)
{
    if (s.bias) { logit = tillerSum(logit, s.bias[id]); }
    const unsigned word = s.tally[id];
    if (word == 0) { return logit; }
    logit = logit < 0 ? tillerProduct(logit, s.repetition) : tillerQuotient(logit, s.repetition);
    const int count = int(word & 0x7fffffffu);
    return count > 0 ? tillerSum(logit, -tillerSum(tillerProduct(s.frequency, float(count)), s.presence)) : logit;
}

extern "C" __global__ void __launch_bounds__(tillerScanThreads) tillerHeadScan(const TillerHeadParameters p)
{
    __shared__ float maxima[32];
    __shared__ int tops[32], bads[32];
    const int row = int(blockIdx.x) / p.chunks, chunk = int(blockIdx.x) % p.chunks, groups = p.chunks * (tillerChunk / tillerGroup);
    const bool wide = p.v % 4 == 0;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    const float* logits = p.logits + (long long)row * p.v;
    const bool adjusts = p.sampling && p.sampling[row].tally;
    TillerSampling s = {};
    if (adjusts) { s = p.sampling[row]; }
    float max = tillerNegativeInfinity();
    int top = 0x7fffffff, bad = 0x7fffffff;
    TILLER_UNROLL
    for (int turn = 0; turn < tillerChunk / (4 * tillerScanThreads); turn++)
    {
        const int c = chunk * tillerChunk + (turn * tillerScanThreads + int(threadIdx.x)) * 4;
        float4 l = tillerLoad4(logits, c, p.v, wide);
        if (adjusts)
        {
            if (c < p.v) { l.x = tillerAdjust(l.x, s, c); }
            if (c + 1 < p.v) { l.y = tillerAdjust(l.y, s, c + 1); }
            if (c + 2 < p.v) { l.z = tillerAdjust(l.z, s, c + 2); }
            if (c + 3 < p.v) { l.w = tillerAdjust(l.w, s, c + 3); }
            tillerStore4(p.scratch.adjusted + (long long)row * p.v, c, p.v, wide, l);
        }
        float most = tillerNegativeInfinity();
        int at = 0x7fffffff;
        if (c < p.v) { tillerLook(l.x, c, most, at, bad); }
        if (c + 1 < p.v) { tillerLook(l.y, c + 1, most, at, bad); }
        if (c + 2 < p.v) { tillerLook(l.z, c + 2, most, at, bad); }
        if (c + 3 < p.v) { tillerLook(l.w, c + 3, most, at, bad); }
        tillerMergeTop(max, top, bad, most, at, bad);
        const float group = tillerWarpMax(most);
        if (threadIdx.x % 32 == 0)
        {
            const int perTurn = 4 * tillerScanThreads / tillerGroup;
            p.scratch.groupMax[(long long)row * groups + chunk * (tillerChunk / tillerGroup) + turn * perTurn + int(threadIdx.x) / 32] = group;
        }
    }
    tillerBlockTop(max, top, bad, maxima, tops, bads);
    if (threadIdx.x == 0)
    {
        const long long to = (long long)row * p.chunks + chunk;
        p.scratch.chunkMax[to] = max;
        p.scratch.chunkTop[to] = top;
        p.scratch.chunkBad[to] = bad;
    }
}
TILLER_KERNEL(tillerHeadScan)

extern "C" __global__ void __launch_bounds__(256) tillerHeadPick(const TillerHeadParameters p)
{
    __shared__ float maxima[32];
    __shared__ int tops[32], bads[32], counts[96];
    const int row = int(blockIdx.x), groups = p.chunks * (tillerChunk / tillerGroup);
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    float max = tillerNegativeInfinity();
    int top = 0x7fffffff, bad = 0x7fffffff;
    for (int i = int(threadIdx.x); i < p.chunks; i += 256)
    {
        const long long from = (long long)row * p.chunks + i;
        tillerMergeTop(max, top, bad, p.scratch.chunkMax[from], p.scratch.chunkTop[from], p.scratch.chunkBad[from]);
    }
    tillerBlockTop(max, top, bad, maxima, tops, bads);
    const bool fails = bad != 0x7fffffff || max == tillerNegativeInfinity(), draws = p.sampling && p.sampling[row].temperature > 0;
    float floor = tillerNegativeInfinity();
    if (!fails && draws && tillerKeepsLargest(p.sampling[row], p.v) && p.sampling[row].topK <= groups)
    {
        const float* from = p.scratch.groupMax + (long long)row * groups;
        floor = tillerFromOrdered(tillerKthLargest([from](int i) { return tillerOrdered(from[i]); }, groups, p.sampling[row].topK, counts));
    }
    if (threadIdx.x == 0)
    {
        p.ids[row] = bad != 0x7fffffff ? ~bad : fails ? ~0 : top;
        p.scratch.max[row] = max;
        p.scratch.top[row] = fails || !draws ? -1 : top;
        p.scratch.floor[row] = floor;
    }
}
TILLER_KERNEL(tillerHeadPick)

struct TillerAdvanceParameters
{
    TillerRow* rows; // (rows)
    const int* ids;  // (rows)
    int* ring;       // (capacity, rows, width): the id, then as floats α // (sensors), |u_k| // (stages), |x_k| // (stages) and, of every point of
                     // edits, |Δz| // (points)
    int* count;      // (1) number of steps so far
    int rowCount;
    int width;       // 1: only the id
    int capacity;
};

extern "C" __global__ void __launch_bounds__(1024, 1) tillerAdvance(const TillerAdvanceParameters p)
{
    const int thread = int(threadIdx.x), threads = int(blockDim.x);
    int lanes = threads; // lanes that copy one row's values
    while (lanes > 32 && lanes * p.rowCount > threads) { lanes /= 2; }
    const int lane = thread % lanes;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    const int step = *p.count;
    int* const line = p.ring + (long long)(step % p.capacity) * p.rowCount * p.width;
    for (int row = thread / lanes; row < p.rowCount; row += threads / lanes)
    {
        if (!p.rows[row].steering) { continue; }
        const TillerSteering s = *p.rows[row].steering;
        const float* const errors = s.errors + (long long)p.rows[row].slot * s.sensors;
        const long long norms = (long long)p.rows[row].slot * s.layerCount;
        float* const next = s.next ? s.next->errors : nullptr;
        int* const to = p.width > 1 ? line + row * p.width + 1 : nullptr;
        for (int i = lane; i < s.sensors; i += lanes)
        {
            if (to) { to[i] = int(tillerBits(errors[i])); }
            if (next) { next[i] = errors[i]; }
        }
        for (int k = lane; to && k < s.layerCount; k += lanes)
        {
            to[s.sensors + k] = int(tillerBits(s.inputNorms[norms + k]));
            to[s.sensors + s.layerCount + k] = int(tillerBits(s.stateNorms[norms + k]));
        }
        const float* const edited = s.editNorms + (long long)p.rows[row].slot * s.editPoints;
        for (int i = lane; to && i < s.editPoints; i += lanes) { to[s.sensors + 2 * s.layerCount + i] = int(tillerBits(edited[i])); }
    }
    __syncthreads();
    for (int row = thread; row < p.rowCount; row += threads)
    {
        const int id = p.ids[row];
        TillerRow& r = p.rows[row];
        line[row * p.width] = id;
        r.id = tillerMax(id, 0); // a failed row continues with any token; the host sees the failure in the ring
        r.position++;
        if (r.steering && r.steering->next)
        {
            r.steering = r.steering->next;
            r.slot = 0;
        }
    }
    if (thread == 0) { *p.count = step + 1; }
}
TILLER_KERNEL(tillerAdvance)

struct TillerTallyChange
{
    unsigned* address;
    unsigned word;
    int reserved;
};

extern "C" __global__ void __launch_bounds__(256) tillerTally(const TillerTallyChange* changes, int count)
{
    const int i = int(blockIdx.x * 256 + threadIdx.x);
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    if (i < count) { *changes[i].address = changes[i].word; }
}
TILLER_KERNEL(tillerTally)
