// The parts of the softmax of a row of logits, before bias, penalties and temperature, from which log-probabilities are computed:
//   max; Σ exp(l − max) in float64; the drawn token's logit; and the n ≤ 20 largest logits in falling order, equal ones by rising id.
//   The host computes log p(i) = l_i − max − log Σ.
// One block of 512 threads for each row; rows that do not ask for it, or whose draw failed, write nothing. Every thread has the maximum of its own
// logits; at least n logits reach the n-th largest of these maxima. Usually few do: up to 2048 of them go to shared memory, and the n largest are
// taken from there one by one. If more do, as in a flat row, the n largest are taken from the row itself.
// Shared memory: 19 KiB. Bytes: for each row 4 V from memory, and 12 V more from the cache. FLOPs: about 25 V.
#include "sampling.cuh"

static constexpr int tillerSoftmaxThreads = 512, tillerSoftmaxListed = 2048, tillerSoftmaxMost = 20;

struct TillerSoftmaxToken
{
    int id;
    float logit;
};

struct TillerSoftmaxLine
{
    double sum;
    float max;
    float drawn;
    TillerSoftmaxToken top[tillerSoftmaxMost];
};

struct TillerSoftmaxParameters
{
    const float* logits;            // (rows, V)
    const TillerSampling* sampling; // (rows)
    const int* ids;                 // (rows)
    TillerSoftmaxLine* lines;       // (rows)
    int v;
};

extern "C" __global__ void __launch_bounds__(tillerSoftmaxThreads) tillerSoftmaxTop(const TillerSoftmaxParameters p)
{
    __shared__ TillerCandidate list[tillerSoftmaxListed];
    __shared__ unsigned own[tillerSoftmaxThreads];
    __shared__ double sums[32];
    __shared__ float maxima[32];
    __shared__ int tops[32], bads[32], counts[96];
    const int row = int(blockIdx.x), thread = int(threadIdx.x);
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    const int n = tillerMin(tillerMin(p.sampling[row].softmax - 1, tillerSoftmaxMost), p.v), drawn = p.ids[row];
    if (n < 0 || drawn < 0) { return; }
    const float* logits = p.logits + (long long)row * p.v;

    float max = tillerNegativeInfinity();
    for (int i = thread; i < p.v; i += tillerSoftmaxThreads) { max = tillerMax(max, logits[i]); }
    own[thread] = tillerOrdered(max);
    int top = 0, bad = 0;
    tillerBlockTop(max, top, bad, maxima, tops, bads);
    double sum[1] = {0.0};
    for (int i = thread; i < p.v; i += tillerSoftmaxThreads) { sum[0] += tillerWeight(logits[i], max, 1.0f); }
    tillerBlockSums(sum, sums);
    TillerSoftmaxLine* const line = p.lines + row;
    if (thread == 0)
    {
        line->sum = sum[0];
        line->max = max;
        line->drawn = logits[drawn];
    }
    if (n == 0) { return; }

    const unsigned floor = tillerKthLargest([](int i) { return own[i]; }, tillerSoftmaxThreads, n, counts);
    int mine = 0, listed;
    for (int i = thread; i < p.v; i += tillerSoftmaxThreads) { mine += tillerOrdered(logits[i]) >= floor ? 1 : 0; }
    int at = tillerBlockScan(mine, counts, listed);
    const bool fits = listed <= tillerSoftmaxListed;
    for (int i = thread; fits && i < p.v; i += tillerSoftmaxThreads)
    {
        if (tillerOrdered(logits[i]) >= floor) { list[at++] = {logits[i], i}; }
    }
    const int entries = fits ? listed : p.v;
    float last = tillerFromBits(0x7f800000u);
    int lastId = -1;
    for (int rank = 0; rank < n; rank++)
    {
        __syncthreads();
        float best = tillerNegativeInfinity();
        int id = 0x7fffffff, unused = 0;
        for (int i = thread; i < entries; i += tillerSoftmaxThreads)
        {
            const float logit = fits ? list[i].value : logits[i];
            const int its = fits ? list[i].id : i;
            if (logit < last || (logit == last && its > lastId)) { tillerMergeTop(best, id, unused, logit, its, 0); }
        }
        tillerBlockTop(best, id, unused, maxima, tops, bads);
        last = best;
        lastId = id;
        if (thread == 0) { line->top[rank] = {id, best}; }
    }
}
TILLER_KERNEL(tillerSoftmaxTop)
