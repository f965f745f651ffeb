// A feedback law at work on the rows of a dual batch (docs/math.md §6), each row by its own law, all of a block's sensors and terms:
//   sense, at the block's input    e_i = clip(v_i·x) − v_i·x, planes, and |u_k|        tangents de_i
//   act, at the block's output     y += u_k = Σ_j (c_j + Σ_i m_ji e_i) w_j, held to |u_k| ≤ U;   tangents dy += du_k
// Where a law moves a block's input too, both come first on that row: stage L + k of laws that have it.
// Sense also rides on the norm of the same rows (norm.cu), which reads x anyway: a steered block then has one launch more than a
// plain one. As |u_k| is known before act, act needs no sum over the row.
// One block per row, min(1024, ⌈D/4⌉ up to whole warps) threads; a plain row's block ends at once and nothing of the row is touched,
// nor where a layer has no terms. Shared memory 3.2 KiB. Bytes per row: sense 4 D (1 + sensors + terms), act 4 D (2 + terms), w from
// L2 the second time. FLOPs: 2 D per sensor, 4 D per term.
#include "norm.cuh"
#include "steering.cuh"

static constexpr int tillerSteerTogether = 1; // loads of directions of a thread: 1024 threads have 64 registers each

struct TillerSteerParameters
{
    const TillerRow* rows; // (values)
    const int* owners;     // (tangents)
    float* x;              // (values + tangents, D): read by sense, moved by act
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
    TillerNormParameters norm; // its x is what the sensors read
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
    tillerNormRow(p.norm, row, tillerLoad4(p.norm.weight, 4 * int(threadIdx.x), d, d % 4 == 0), sums); // not before: 64 registers
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
