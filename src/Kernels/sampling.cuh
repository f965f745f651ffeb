// What the kernels of head.cu, sample.cu and softmax.cu share: the settings of a row's draws, the scratch memory, and weights that are, bit for
// bit, those of the CPU's sampler.
#pragma once
#include "exact.cuh"
#include "math.cuh"
#include "quads.cuh"

static constexpr int tillerChunk = 2048;   // logits of one block of 256 threads: two turns of four a thread
static constexpr int tillerGroup = 128;    // logits of one warp's turn
static constexpr int tillerScanThreads = 256;

// How one row's next token is drawn; the defaults that switch a filter off are those of SamplingOptions.
struct TillerSampling
{
    unsigned long long random; // state of SplitMix64; every draw adds γ
    const unsigned* tally;     // (V) sign bit: in the prompt or the text so far; the rest: how often in the text. Null: the logits stay
    const float* bias;         // (V) added to the logits, or null; needs tally
    float temperature;         // 0: the largest logit
    float topP;
    float minP;
    float repetition;
    float presence;
    float frequency;
    int topK;                  // 0: all
    int softmax;               // 1 + most probable tokens asked for; 0: none, and no log-probability
};

struct TillerCandidate
{
    float value; // logit, then weight
    int id;
};

// One row's scratch; the arrays lie side by side in one allocation, (rows, …) each.
struct TillerHeadScratch
{
    float* chunkMax;             // (rows, chunks)
    int* chunkTop;               // (rows, chunks) lowest id of the largest logit
    int* chunkBad;               // (rows, chunks) lowest id of a logit that is NaN or +∞; INT_MAX for none
    float* groupMax;             // (rows, groups)
    double* chunkSum;            // (rows, chunks) Σ of weights
    int* chunkCount;             // (rows, chunks) candidates
    TillerCandidate* candidates; // (rows, chunks · tillerChunk) each chunk's in order of id
    TillerCandidate* dense;      // (rows, chunks · tillerChunk) all of them, where shared memory is too small
    float* adjusted;             // (rows, V) logits with bias and penalties, of rows that have them
    float* max;                  // (rows) the largest logit
    int* top;                    // (rows) its id, or -1: nothing is left to draw
    float* floor;                // (rows) top-k keeps nothing below
};

struct TillerHeadParameters
{
    const float* logits;      // (rows, V)
    TillerSampling* sampling; // (rows), or null: the largest logit
    int* ids;                 // (rows) result: a token, or ~id of the first logit that is NaN or +∞ (~0 if all are -∞)
    TillerHeadScratch scratch;
    int v;
    int chunks;               // of a row
};

static __device__ __forceinline__ float tillerNegativeInfinity() { return tillerFromBits(0xff800000u); }

// The logits that a row is drawn from, once head.cu has adjusted them.
static __device__ __forceinline__ const float* tillerDrawnFrom(const TillerHeadParameters& p, int row)
{
    return (p.sampling && p.sampling[row].tally ? p.scratch.adjusted : p.logits) + (long long)row * p.v;
}

// The larger logit, the lower id among equals; the lowest bad id.
static __device__ __forceinline__ void tillerMergeTop(float& max, int& top, int& bad, float otherMax, int otherTop, int otherBad)
{
    if (otherMax > max || (otherMax == max && otherTop < top))
    {
        max = otherMax;
        top = otherTop;
    }
    bad = tillerMin(bad, otherBad);
}

// Over a block of whole warps, in every thread. The arrays are shared, and must not be written again before the block's next barrier.
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

// Whether the filters need candidates; without top-k and top-p a draw goes by the chunks' sums.
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

// Unsigned keys in the order of the floats, -0 as +0.
static __device__ __forceinline__ unsigned tillerOrdered(float x)
{
    const unsigned bits = tillerBits(tillerSum(x, 0.0f));
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
static __device__ __forceinline__ float tillerFromOrdered(unsigned key) { return tillerFromBits(key & 0x80000000u ? key & 0x7fffffffu : ~key); }

// The largest key t with at least `count` of n keys ≥ t (0 if there are fewer), two bits a round; `keyAt(i)` is called by all threads.
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

// Σ over the threads before this one, and over all; a block of whole warps. `scratch` is shared, 33 numbers.
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
