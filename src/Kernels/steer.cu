// A feedback law on the rows of a dual batch (docs/math.md §6), each row with its own law; all sensors and terms of a block:
//   sense, at the block's input    e_i = clip(v_i·x) − v_i·x, planes, and |u_k|        tangents de_i
//   act, at the block's output     y += u_k = Σ_j (c_j + Σ_i m_ji e_i) w_j, bounded by |u_k| ≤ U;   tangents dy += du_k
// If a law also moves a block's input, sense and act first run on that row as stage L + k.
// Sense can also run together with the norm of the same rows (norm.cu), which reads x anyway; a steered block then has one launch more than a
// plain one. Since sense computes |u_k|, act needs no sum over the row.
// One block for each row, with min(1024, ⌈D/4⌉ rounded up to whole warps) threads. The block of a plain row ends at once, and so does a block of act
// if the layer has no terms; the row is not changed then. Shared memory: 3.2 KiB. Bytes for a row: sense 4 D (1 + sensors + terms); act
// 4 D (2 + terms), where w comes from L2 the second time. FLOPs: 2 D for each sensor, 4 D for each term.
#include "norm.cuh"
#include "steering.cuh"

static constexpr int tillerSteerTogether = 1; // loads of directions in flight per thread: with 1024 threads, a thread has only 64 registers

struct TillerSteerParameters
{
    const TillerRow* rows; // (values)
    const int* owners;     // (tangents)
    float* x;              // (values + tangents, D): sense reads it, act changes it
    int values;
    int layer;
    int d;
};

extern "C" __global__ void __launch_bounds__(1024) tillerSteerSense(const TillerSteerParameters p)
{
    __shared__ TillerSteeringScratch scratch;
    const int row = int(blockIdx.x), tangent = row - p.values;
    const TillerRow& r = p.rows[tangent < 0 ? row : p.owners[tangent]];
    const TillerSteering* steering = r.steering;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    if (!steering || p.layer >= steering->layerCount) { return; }
    tillerSense(*steering, p.layer, p.x + (long long)row * p.d, tangent < 0 ? nullptr : p.x + (long long)p.owners[tangent] * p.d, p.d, tangent >= 0,
                tangent < 0 ? r.slot : tangent, 0, 1, scratch);
    if (tangent < 0) { tillerFreeNorm<tillerSteerTogether>(*steering, p.layer, p.d, r.slot, true, scratch); }
}
TILLER_KERNEL(tillerSteerSense)

struct TillerSenseNormParameters
{
    const TillerRow* rows;     // (values)
    TillerNormParameters norm; // the sensors read its x
    int layer;
};

extern "C" __global__ void __launch_bounds__(1024) tillerSteerSenseNorm(const TillerSenseNormParameters p)
{
    __shared__ TillerSteeringScratch scratch;
    __shared__ float sums[64];
    const int row = int(blockIdx.x), tangent = row - p.norm.values, d = p.norm.d;
    const TillerRow& r = p.rows[tangent < 0 ? row : p.norm.owners[tangent]];
    const TillerSteering* steering = r.steering;
    tillerWaitForPredecessor();
    if (steering)
    {
        tillerSense(*steering, p.layer, p.norm.x + (long long)row * d, tangent < 0 ? nullptr : p.norm.x + (long long)p.norm.owners[tangent] * d, d,
                    tangent >= 0, tangent < 0 ? r.slot : tangent, 0, 1, scratch);
        if (tangent < 0) { tillerFreeNorm<tillerSteerTogether>(*steering, p.layer, d, r.slot, true, scratch); }
    }
    tillerNormRow(p.norm, row, tillerLoad4(p.norm.weight, 4 * int(threadIdx.x), d, d % 4 == 0), sums); // not earlier: 64 registers per thread
}
TILLER_KERNEL(tillerSteerSenseNorm)

extern "C" __global__ void __launch_bounds__(1024) tillerSteerAct(const TillerSteerParameters p)
{
    __shared__ TillerSteeringScratch scratch;
    const int row = int(blockIdx.x), tangent = row - p.values;
    const TillerRow& r = p.rows[tangent < 0 ? row : p.owners[tangent]];
    const TillerSteering* steering = r.steering;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    if (!steering || p.layer >= steering->layerCount) { return; }
    tillerAct<tillerSteerTogether>(*steering, p.layer, p.x + (long long)row * p.d, p.d, r.slot, tillerFreeNormOf(*steering, p.layer, r.slot),
                                   tangent >= 0, tangent < 0 ? 0 : tangent, scratch);
}
TILLER_KERNEL(tillerSteerAct)
