// Shared parts of head.cu, sample.cu and softmax.cu: the settings of a row's draws, the scratch memory, and weights that have the same bits as those
// of the CPU's sampler.
#pragma once
#include "exact.cuh"
#include "math.cuh"
#include "quads.cuh"

static constexpr int tillerChunk = 2048;   // logits for a block of 256 threads: two iterations of four per thread
static constexpr int tillerGroup = 128;    // logits for one iteration of a warp
static constexpr int tillerScanThreads = 256;

// How one row's next token is drawn. The values that switch a filter off are those of SamplingOptions.
struct TillerSampling
{
    unsigned long long random; // state of SplitMix64; every draw adds γ
    const unsigned* tally;     // (V) sign bit: in the prompt or the text; other bits: occurrences in the text. Null: logits are not adjusted
    const float* bias;         // (V) added to the logits, or null; requires tally
    float temperature;         // 0 takes the largest logit
    float topP;
    float minP;
    float repetition;
    float presence;
    float frequency;
    int topK;                  // 0 for all
    int softmax;               // 1 + number of most probable tokens to report; 0: no softmax
};

struct TillerCandidate
{
    float value; // logit, then weight
    int id;
};

// The scratch memory of all rows; the arrays are in one allocation.
struct TillerHeadScratch
{
    float* chunkMax;             // (rows, chunks)
    int* chunkTop;               // (rows, chunks) lowest id of the largest logit
    int* chunkBad;               // (rows, chunks) lowest id of a logit that is NaN or +∞; INT_MAX for none
    float* groupMax;             // (rows, groups)
    double* chunkSum;            // (rows, chunks) sum of weights
    int* chunkCount;             // (rows, chunks) number of candidates
    TillerCandidate* candidates; // (rows, chunks · tillerChunk) each chunk's candidates in the order of ids
    TillerCandidate* dense;      // (rows, chunks · tillerChunk) all candidates of a row, if shared memory is too small
    float* adjusted;             // (rows, V) logits with bias and penalties, for rows that have them
    float* max;                  // (rows) the largest logit
    int* top;                    // (rows) its id, or -1 if nothing is to be drawn
    float* floor;                // (rows) lower bound for the logits that top-k keeps
};

struct TillerHeadParameters
{
    const float* logits;      // (rows, V)
    TillerSampling* sampling; // (rows), or null to take the largest logits
    int* ids;                 // (rows) result: a token, or ~id of the first logit that is NaN or +∞ (~0 if all are -∞)
    TillerHeadScratch scratch;
    int v;
    int chunks;               // number of chunks in a row
};

static __device__ __forceinline__ float tillerNegativeInfinity() { return tillerFromBits(0xff800000u); }

// The logits from which a row is drawn, after head.cu has adjusted them.
static __device__ __forceinline__ const float* tillerDrawnFrom(const TillerHeadParameters& p, int row)
{
    return (p.sampling && p.sampling[row].tally ? p.scratch.adjusted : p.logits) + (long long)row * p.v;
}

// Merges two results: the larger logit, the lower id of equal ones, and the lowest bad id.
static __device__ __forceinline__ void tillerMergeTop(float& max, int& top, int& bad, float otherMax, int otherTop, int otherBad)
{
    if (otherMax > max || (otherMax == max && otherTop < top))
    {
        max = otherMax;
        top = otherTop;
    }
    bad = tillerMin(bad, otherBad);
}

// Merges over a block of whole warps; every thread gets the result. The arrays are shared, and must not be written again before the next barrier.
static __device__ __forceinline__ void tillerBlockTop(float& max, int& top, int& bad, float* maxima, int* tops, int* bads)
{
    const int lane = int(threadIdx.x) % 32, warps = int(blockDim.x) / 32;
    for (int lanes = 16; lanes > 0; lanes >>= 1)
    {
        tillerMergeTop(max, top, bad, __shfl_xor_sync(0xffffffffu, max, lanes), __shfl_xor_sync(0xffffffffu, top, lanes),
                       __shfl_xor_sync(0xffffffffu, bad, lanes));
    }
    if (lane == 0)
    {
        maxima[threadIdx.x / 32] = max;
        tops[threadIdx.x / 32] = top;
        bads[threadIdx.x / 32] = bad;
    }
    __syncthreads();
    for (int i = 0; i < warps; i++) { tillerMergeTop(max, top, bad, maxima[i], tops[i], bads[i]); }
}

// Whether the filters need candidates. Without top-k and top-p, a draw uses the chunks' sums.
static __device__ __forceinline__ bool tillerKeepsLargest(const TillerSampling& s, int v) { return s.topK > 0 && s.topK < v; }
static __device__ __forceinline__ bool tillerNeedsCandidates(const TillerSampling& s, int v) { return tillerKeepsLargest(s, v) || s.topP < 1.0f; }

// exp((l − max) / T) as LogitVector computes it: x = n ln 2 + r, Taylor series of degree 7, no fused multiply-add.
static __device__ __forceinline__ float tillerWeight(float logit, float max, float temperature)
{
    const float x = tillerQuotient(logit - max, temperature);
    if (!(x > -87.3f)) { return 0.0f; }
    const float n = tillerFloor(tillerSum(tillerProduct(x, 1.44269504f), 0.5f));
    const float r = tillerSum(tillerSum(x, -tillerProduct(n, 0.693359375f)), -tillerProduct(n, -2.12194440e-4f));
    float sum = 1.0f / 5040;
    sum = tillerSum(tillerProduct(sum, r), 1.0f / 720);
    sum = tillerSum(tillerProduct(sum, r), 1.0f / 120);
    sum = tillerSum(tillerProduct(sum, r), 1.0f / 24);
    sum = tillerSum(tillerProduct(sum, r), 1.0f / 6);
    sum = tillerSum(tillerProduct(sum, r), 0.5f);
    sum = tillerSum(tillerProduct(sum, r), 1.0f);
    sum = tillerSum(tillerProduct(sum, r), 1.0f);
    return tillerProduct(sum, tillerFromBits(unsigned(int(n) + 127) << 23));
}

// Maps floats to unsigned keys of the same order; -0 and +0 are equal.
static __device__ __forceinline__ unsigned tillerOrdered(float x)
{
    const unsigned bits = tillerBits(tillerSum(x, 0.0f));
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
static __device__ __forceinline__ float tillerFromOrdered(unsigned key) { return tillerFromBits(key & 0x80000000u ? key & 0x7fffffffu : ~key); }

// The largest key t such that at least `count` of n keys are ≥ t (0 if there are fewer), two bits in each iteration. All threads call keyAt(i).
template <class KeyAt> static __device__ __forceinline__ unsigned tillerKthLargest(KeyAt keyAt, int n, int count, int* scratch)
{
    unsigned best = 0;
    for (int shift = 30; shift >= 0; shift -= 2)
    {
        int above[3] = {0, 0, 0};
        for (int i = int(threadIdx.x); i < n; i += int(blockDim.x))
        {
            const unsigned key = keyAt(i);
            above[0] += key >= (best | 1u << shift) ? 1 : 0;
            above[1] += key >= (best | 2u << shift) ? 1 : 0;
            above[2] += key >= (best | 3u << shift) ? 1 : 0;
        }
        tillerBlockSums(above, scratch);
        const unsigned digit = above[2] >= count ? 3u : above[1] >= count ? 2u : above[0] >= count ? 1u : 0u;
        best |= digit << shift;
        __syncthreads();
    }
    return best;
}

// The sum over the threads before this one, and the sum over all; for a block of whole warps. `scratch` is 33 numbers of shared memory.
template <class T> static __device__ __forceinline__ T tillerBlockScan(T x, T* scratch, T& total)
{
    const int lane = int(threadIdx.x) % 32, warp = int(threadIdx.x) / 32, warps = int(blockDim.x) / 32;
    T sum = x;
    for (int lanes = 1; lanes < 32; lanes <<= 1)
    {
        const T before = __shfl_up_sync(0xffffffffu, sum, unsigned(lanes));
        sum += lane >= lanes ? before : T(0);
    }
    if (lane == 31) { scratch[warp] = sum; }
    __syncthreads();
    T base = 0;
    total = 0;
    for (int i = 0; i < warps; i++)
    {
        if (i == warp) { base = total; }
        total += scratch[i];
    }
    const T exclusive = __shfl_up_sync(0xffffffffu, sum, 1u);
    __syncthreads();
    return base + (lane == 0 ? T(0) : exclusive);
}
