// Stage 4 of decoding for up to eight rows, in one kernel: norm, gate and up, activation. Further blocks compute the inputs u_k of steered rows,
// which the next stage adds (decode_down.cu).
//   value row  f = act(a) ∘ b        tangent row  df = act'(a) ∘ b ∘ da + act(a) ∘ db,   a = gate and b = up, each with its bias;
//   act is m times the nonlinearity
//
// Grid: first `steered` blocks, one for each row, which compute u_k, and |u_k| if decode_qkv.cu did not (steering.cuh); then ⌈F / (16 / parts)⌉
// blocks of 256 threads, which compute pairs (gate, up) of a unit (decode.cuh, linear.cuh). A tangent's unit needs that of its value row, so all rows
// of a block go through shared memory. Shared memory: 4 R min(D, 16384 / R) bytes, which is 64 KiB from R = 4 on, 512 R bytes for sums, 5.3 KiB for
// the inputs. Bytes: W once, 2 F D sizeof(w). FLOPs: 4 R F D.
// local memory of PTX: 72 bytes, four rows of f32, in the order of clang's instructions for sm_90a; NVIDIA's own compiler needs none
#include "decode.cuh"
#include "rows.cuh"
#include "steering.cuh"

struct TillerDecodeGate
{
    TillerNormedRows in;
    const TillerRow* rows;   // (values)
    const void* w;           // (2F, D): gate above up
    const float* bias;       // (2F), or null
    float* gateUp;           // (rows, 2F)
    float* gated;            // (rows, F)
    float* inputs;           // (rows, D) u_k of steered rows
    int units;               // F
    int activation;          // TillerActivation
    int layer;
    int parts, wide;
    int prefetch;            // bytes of each row of w to prefetch (linear_few.cu)
    int steered;             // number of blocks for steering: one for each row, or none
    int norms;               // whether |u_k| has not been computed yet
    float scale;             // m
};

template <class W, int R> static __device__ __forceinline__ void tillerDecodeGate(const TillerDecodeGate& p)
{
    const int block = int(blockIdx.x);
    if (block < p.steered)
    {
        __shared__ TillerSteeringScratch scratch;
        constexpr int together = 4; // loads of directions in flight; more would take too much code
        const bool tangent = block >= p.in.values;
        const TillerRow& r = p.rows[tangent ? p.in.owners[block - p.in.values] : block];
        tillerWaitForPredecessor();
        tillerReleaseSuccessor();
        if (r.steering)
        {
            float* u = p.inputs + (long long)block * p.in.columns;
            for (int c = int(threadIdx.x); c < p.in.columns; c += int(blockDim.x)) { u[c] = 0; }
            const float norm = p.norms ? tillerFreeNorm<together>(*r.steering, p.layer, p.in.columns, r.slot, !tangent, scratch)
                                       : tillerFreeNormOf(*r.steering, p.layer, r.slot);
            tillerAct<together>(*r.steering, p.layer, u, p.in.columns, r.slot, norm, tangent, tangent ? block - p.in.values : 0, scratch);
        }
        return;
    }
    __shared__ float slopes[R * 16], values[R * 16]; // act'(a) b and act(a) of the value rows' units in this block
    const int own = tillerPairs(p.parts), first = (block - p.steered) * own;
    const auto rowOf = [&](int pair, int second) { return pair + second * p.units; };
    const auto store = [&](int m, int unit, float a, float b)
    {
        if (p.bias && m < p.in.values)
        {
            a += p.bias[unit];
            b += p.bias[p.units + unit];
        }
        float* to = p.gateUp + 2LL * m * p.units + unit;
        to[0] = a;
        to[p.units] = b;
        if (m >= p.in.values) { return; }
        float value, slope;
        tillerActivate(p.activation, a, value, slope);
        value *= p.scale;
        slope *= p.scale;
        p.gated[(long long)m * p.units + unit] = value * b;
        slopes[m * 16 + unit - first] = slope * b;
        values[m * 16 + unit - first] = value;
    };
    tillerNormedPairs<W, R>(p.in, p.w, p.units, p.parts, p.wide != 0, p.prefetch, block - p.steered, rowOf, store);
    if (p.in.tangents == 0) { return; }
    __syncthreads();
    for (int i = int(threadIdx.x); i < p.in.tangents * own; i += tillerDotThreads)
    {
        const int t = i / own, j = i % own, m = p.in.values + t;
        if (first + j >= p.units) { continue; }
        const int at = p.in.owners[t] * 16 + j;
        const float* from = p.gateUp + 2LL * m * p.units + first + j; // written by this block
        p.gated[(long long)m * p.units + first + j] = tillerFma(slopes[at], from[0], values[at] * from[p.units]);
    }
}

#define TILLER_DECODE_GATE(name, W, R, blocks)                                                                              \
    extern "C" __global__ void __launch_bounds__(256, blocks) name(const TillerDecodeGate p) { tillerDecodeGate<W, R>(p); } \
    TILLER_KERNEL(name)

TILLER_DECODE_GATE(tillerDecodeGateBF16x1, TillerBF16, 1, 2)
TILLER_DECODE_GATE(tillerDecodeGateBF16x2, TillerBF16, 2, 2)
TILLER_DECODE_GATE(tillerDecodeGateBF16x4, TillerBF16, 4, 2)
TILLER_DECODE_GATE(tillerDecodeGateBF16x8, TillerBF16, 8, 1)
TILLER_DECODE_GATE(tillerDecodeGateF16x1, TillerF16, 1, 2)
TILLER_DECODE_GATE(tillerDecodeGateF16x2, TillerF16, 2, 2)
TILLER_DECODE_GATE(tillerDecodeGateF16x4, TillerF16, 4, 2)
TILLER_DECODE_GATE(tillerDecodeGateF16x8, TillerF16, 8, 1)
TILLER_DECODE_GATE(tillerDecodeGateF32x1, TillerF32, 1, 2)
TILLER_DECODE_GATE(tillerDecodeGateF32x2, TillerF32, 2, 2)
TILLER_DECODE_GATE(tillerDecodeGateF32x4, TillerF32, 4, 2)
TILLER_DECODE_GATE(tillerDecodeGateF32x8, TillerF32, 8, 1)
