// Edits of activations (docs/math.md §6), each value row by its own law: at a point of a block z ← f(z), the edits of the row's law in order.
//   edit   z in y, or y = origin + z:   affine     z_i + s (w_i z_i + b_i − z_i) where low_i < z_i < high_i
//                                       ablation   z − λ (r·z) r
//                                       kept norm  |z|/|z + λ c| (z + λ c) where that grew
//                                       flow       n steps of T/n along ∇(c·φ)/(|∇(c·φ)| + 1e-10), φ a count sketch of degree 2
//   join   rows of a law that are scaled back together, |z| before/after z, as soon as one of them grew
// One block per row, min(1024, ⌈D/4⌉ up to whole warps) threads, each with the same columns throughout, four in a load; a row without edits at the
// point ends at once. Shared memory 17 KiB, of which a flow of m features uses 16 m bytes. Bytes per row: 8 D and 4 D for each vector, twice for a
// norm; a flow 20 D and 16 D of the sketch's tables a step. FLOPs: affine 5 D, ablation 4 D, kept norm 7 D, flow 18 D + 4 m² a step.
//
// local memory of PTX: 72 bytes, what outlives the steps of a flow at 64 registers; NVIDIA's own compiler needs none
#include "quads.cuh"
#include "rows.cuh"

static constexpr int tillerMaxFeatures = 1024;

enum TillerEditKind { tillerAffine, tillerAblation, tillerKeptNorm, tillerFlow };

struct TillerEditParameters
{
    const TillerRow* rows; // (values)
    float* y;              // (values, D)
    const float* origin;   // (values, D), or null where y is z
    int values;
    int stage;             // point · L + k
    int d;
};

// Sums over the block go to two places in turn, so that none needs a barrier between itself and the one before.
struct TillerEditSums
{
    float* scratch; // shared, (2, 64)
    int turn;
};
template <int N> static __device__ __forceinline__ void tillerEditSums(float (&x)[N], TillerEditSums& sums)
{
    tillerBlockSums(x, sums.scratch + 64 * sums.turn);
    sums.turn ^= 1;
}

// Columns are this thread's own in every loop, four at a time, so that only the sketch of a flow needs barriers.
#define TILLER_FOR_COLUMNS(c, d) TILLER_UNROLL_BY(1) for (int c = 4 * int(threadIdx.x); c < d; c += 4 * int(blockDim.x))
// The same columns one by one, where a column's numbers are scattered.
#define TILLER_FOR_OWN(i, d) TILLER_FOR_COLUMNS(c, d) TILLER_UNROLL_BY(1) for (int i = c; i < tillerMin(c + 4, d); i++)

static __device__ __forceinline__ float tillerSquare4(float4 a, float4 b)
{
    const float4 delta = tillerAddScaled4(a, -1.0f, b);
    return tillerDot4(delta, delta);
}

// These give back |Δ|² of this thread's columns.
static __device__ __forceinline__ float tillerAffineEdit(const TillerEdit& e, float* z, int d, bool wide)
{
    const float *w = e.numbers, *b = w + d, *low = b + d, *high = low + d;
    float square = 0.0f;
    const auto moved = [&](float x, float wi, float bi, float lowest, float highest)
    { return lowest < x && x < highest ? tillerFma(e.strength, tillerFma(wi, x, bi) - x, x) : x; };
    TILLER_FOR_COLUMNS(c, d)
    {
        const float4 x = tillerLoad4(z, c, d, wide), w4 = tillerLoad4(w, c, d, wide), b4 = tillerLoad4(b, c, d, wide);
        const float4 low4 = tillerLoad4(low, c, d, wide), high4 = tillerLoad4(high, c, d, wide);
        const float4 to = {moved(x.x, w4.x, b4.x, low4.x, high4.x), moved(x.y, w4.y, b4.y, low4.y, high4.y),
                           moved(x.z, w4.z, b4.z, low4.z, high4.z), moved(x.w, w4.w, b4.w, low4.w, high4.w)};
        square += tillerSquare4(to, x);
        tillerStore4(z, c, d, wide, to);
    }
    return square;
}

static __device__ __forceinline__ float tillerAblationEdit(const TillerEdit& e, float* z, int d, bool wide, TillerEditSums& sums)
{
    const float* r = e.numbers;
    float along[1] = {0.0f}, square = 0.0f;
    TILLER_FOR_COLUMNS(c, d) { along[0] += tillerDot4(tillerLoad4(r, c, d, wide), tillerLoad4(z, c, d, wide)); }
    tillerEditSums(along, sums);
    TILLER_FOR_COLUMNS(c, d)
    {
        const float4 x = tillerLoad4(z, c, d, wide), to = tillerAddScaled4(x, -e.strength * along[0], tillerLoad4(r, c, d, wide));
        square += tillerSquare4(to, x);
        tillerStore4(z, c, d, wide, to);
    }
    return square;
}

// z + λ c, scaled back at once unless the rows of the pass join; its lengths before and after go to `lengths` then.
static __device__ __forceinline__ float tillerKeptNormEdit(
    const TillerEdit& e, float* z, int d, bool wide, float* lengths, TillerEditSums& sums)
{
    float squares[2] = {0.0f, 0.0f}, square = 0.0f;
    const auto added = [&](float4 x, int c) { return tillerAddScaled4(x, e.strength, tillerLoad4(e.numbers, c, d, wide)); };
    TILLER_FOR_COLUMNS(c, d)
    {
        const float4 x = tillerLoad4(z, c, d, wide), to = added(x, c);
        squares[0] += tillerDot4(x, x);
        squares[1] += tillerDot4(to, to);
    }
    tillerEditSums(squares, sums);
    const float before = tillerSqrt(squares[0]), after = tillerSqrt(squares[1]), scale = !e.joins && after > before ? before / after : 1.0f;
    TILLER_FOR_COLUMNS(c, d)
    {
        const float4 x = tillerLoad4(z, c, d, wide), to = tillerTimes4(scale, added(x, c));
        square += tillerSquare4(to, x);
        tillerStore4(z, c, d, wide, to);
    }
    if (e.joins && threadIdx.x == 0)
    {
        lengths[0] = before;
        lengths[1] = after;
    }
    return square;
}

// One step of a flow: z moves along the normalised slope. `sketch` and `slope` are shared, 2 m numbers each.
static __device__ __forceinline__ void tillerFlowStep(
    const TillerEdit& e, float* z, int d, float* sketch, float* slope, TillerEditSums& sums)
{
    const int m = e.size, all = d + 1;
    const float *weights = e.numbers, *signs = weights + m;
    const int *places = e.places, *order = places + 2 * all, *begins = order + 2 * all;
    float squares[1] = {0.0f};
    TILLER_FOR_OWN(i, d) { squares[0] = tillerFma(z[i], z[i], squares[0]); }
    tillerEditSums(squares, sums);
    const float length = tillerSqrt(squares[0]), scale = e.rootGamma / (length + 1e-12f);
    for (int place = int(threadIdx.x); place < 2 * m; place += int(blockDim.x))
    {
        float sum = 0.0f;
        const int hash = place >= m ? all : 0;
        for (int at = begins[place]; at < begins[place + 1]; at++)
        {
            const int j = order[at];
            sum = tillerFma(signs[hash + j], j < d ? scale * z[j] : e.rootConstant, sum);
        }
        sketch[place] = sum;
    }
    __syncthreads();
    for (int place = int(threadIdx.x); place < 2 * m; place += int(blockDim.x))
    {
        const int i = place % m;
        const float* other = place >= m ? sketch : sketch + m;
        float sum = 0.0f;
        for (int j = 0; j < m; j++) { sum = tillerFma(other[j], weights[i + j < m ? i + j : i + j - m], sum); }
        slope[place] = sum;
    }
    __syncthreads();
    const auto towards = [&](int j) { return tillerFma(signs[j], slope[places[j]], signs[all + j] * slope[m + places[all + j]]); };
    float along[1] = {0.0f};
    TILLER_FOR_OWN(i, d) { along[0] = tillerFma(z[i], towards(i), along[0]); }
    tillerEditSums(along, sums);
    const float turned = length > 0.0f ? along[0] / (length * (length + 1e-12f)) : 0.0f, grade = e.rootGamma / (length + 1e-12f);
    squares[0] = 0.0f;
    TILLER_FOR_OWN(i, d)
    {
        const float g = grade * (towards(i) - z[i] * turned);
        squares[0] = tillerFma(g, g, squares[0]);
    }
    tillerEditSums(squares, sums);
    const float step = e.strength / float(e.steps) / (tillerSqrt(squares[0]) + 1e-10f);
    TILLER_FOR_OWN(i, d) { z[i] = tillerFma(step, grade * (towards(i) - z[i] * turned), z[i]); }
}

// Whether an edit's gate is open, or it has none; `errors` are the row's.
static __device__ __forceinline__ bool tillerActs(const TillerEdit& e, const float* errors) { return e.gate < 0 || errors[e.gate] < 0.0f; }

extern "C" __global__ void __launch_bounds__(1024, 1) tillerEdit(const TillerEditParameters p)
{
    __shared__ float sketch[2 * tillerMaxFeatures], slope[2 * tillerMaxFeatures], scratch[128];
    const int row = int(blockIdx.x), d = p.d;
    const TillerRow& r = p.rows[row];
    const TillerSteering* steering = r.steering;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    if (!steering || !steering->edits) { return; }
    const int begin = steering->editBegin[p.stage], end = steering->editBegin[p.stage + 1];
    if (begin == end) { return; }
    float* z = p.y + (long long)row * d;
    const float* origin = p.origin ? p.origin + (long long)row * d : nullptr;
    float* lengths = steering->joined + 2LL * r.slot;
    const float* errors = steering->errors + (long long)r.slot * steering->sensors;
    bool changes = false;
    for (int at = begin; at < end; at++)
    {
        changes |= tillerActs(steering->edits[at], errors);
        if (steering->edits[at].joins && threadIdx.x == 0) { lengths[0] = lengths[1] = 0.0f; }
    }
    TillerEditSums sums = {scratch, 0};
    const bool wide = d % 4 == 0;
    float moved = 0.0f;
    // Behind closed gates the stream keeps its bits, which z and what it is added to do not give back.
    const auto shift = [&](float sign)
    {
        if (!changes || !origin) { return; }
        TILLER_FOR_COLUMNS(c, d)
        {
            tillerStore4(z, c, d, wide, tillerAddScaled4(tillerLoad4(z, c, d, wide), sign, tillerLoad4(origin, c, d, wide)));
        }
    };
    shift(-1.0f);
    for (int at = begin; at < end; at++)
    {
        const TillerEdit& e = steering->edits[at];
        if (!tillerActs(e, errors)) { continue; }
        float square[1] = {0.0f};
        if (e.kind == tillerAffine) { square[0] = tillerAffineEdit(e, z, d, wide); }
        else if (e.kind == tillerAblation) { square[0] = tillerAblationEdit(e, z, d, wide, sums); }
        else if (e.kind == tillerKeptNorm) { square[0] = tillerKeptNormEdit(e, z, d, wide, lengths, sums); }
        else
        {
            // Where a flow came from is taken down in front of it, as its steps need every column.
            float* from = steering->editScratch + (long long)r.slot * d;
            TILLER_FOR_COLUMNS(c, d) { tillerStore4(from, c, d, wide, tillerLoad4(z, c, d, wide)); }
            for (int step = 0; step < e.steps; step++) { tillerFlowStep(e, z, d, sketch, slope, sums); }
            TILLER_FOR_COLUMNS(c, d) { square[0] += tillerSquare4(tillerLoad4(z, c, d, wide), tillerLoad4(from, c, d, wide)); }
        }
        tillerEditSums(square, sums);
        moved += tillerSqrt(square[0]);
    }
    shift(1.0f);
    if (threadIdx.x == 0) { steering->editNorms[(long long)r.slot * steering->editPoints + p.stage] = moved; }
}
TILLER_KERNEL(tillerEdit)

extern "C" __global__ void __launch_bounds__(1024) tillerEditJoin(const TillerEditParameters p)
{
    __shared__ float scratch[128];
    const int row = int(blockIdx.x), d = p.d;
    const TillerRow& r = p.rows[row];
    const TillerSteering* steering = r.steering;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    if (!steering || !steering->edits) { return; }
    const int begin = steering->editBegin[p.stage], end = steering->editBegin[p.stage + 1];
    if (begin == end || !steering->edits[end - 1].joins) { return; }
    const TillerEdit& e = steering->edits[end - 1];
    TillerEditSums sums = {scratch, 0};
    float grown[1] = {0.0f};
    for (int i = int(threadIdx.x); i < p.values; i += int(blockDim.x))
    {
        if (p.rows[i].steering != steering) { continue; }
        const float* lengths = steering->joined + 2LL * p.rows[i].slot;
        if (lengths[1] > lengths[0]) { grown[0] = 1.0f; }
    }
    tillerEditSums(grown, sums);
    const float before = steering->joined[2LL * r.slot], after = steering->joined[2LL * r.slot + 1];
    if (grown[0] == 0.0f || after == 0.0f) { return; }
    float* y = p.y + (long long)row * d;
    const float* origin = p.origin ? p.origin + (long long)row * d : nullptr;
    const float scale = before / after;
    float squares[2] = {0.0f, 0.0f}; // |Δ|² of all, and of the addition alone, which has been counted
    const bool wide = d % 4 == 0;
    TILLER_FOR_COLUMNS(c, d)
    {
        const float4 none = {0.0f, 0.0f, 0.0f, 0.0f}, o = origin ? tillerLoad4(origin, c, d, wide) : none, at = tillerLoad4(y, c, d, wide);
        const float4 z = origin ? tillerAddScaled4(at, -1.0f, o) : at, added = tillerTimes4(e.strength, tillerLoad4(e.numbers, c, d, wide));
        const float4 back = tillerTimes4(scale, z);
        squares[0] += tillerSquare4(back, tillerAddScaled4(z, -1.0f, added));
        squares[1] += tillerDot4(added, added);
        tillerStore4(y, c, d, wide, origin ? tillerPlus4(o, back) : back);
    }
    tillerEditSums(squares, sums);
    if (threadIdx.x != 0) { return; }
    steering->editNorms[(long long)r.slot * steering->editPoints + p.stage] += tillerSqrt(squares[0]) - tillerSqrt(squares[1]);
}
TILLER_KERNEL(tillerEditJoin)
