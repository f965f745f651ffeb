// Reading and moving one row of the residual stream by a law. These functions are called by a whole block, with threads along x; a thread has four
// columns in each iteration. Laws, and the choice of each row's law, do not change within a step, so they may be read before the writes of the
// previous kernel are waited for.
#pragma once
#include "exact.cuh"
#include "math.cuh"
#include "quads.cuh"
#include "rows.cuh"

static constexpr int tillerSensorsAtOnce = 4, tillerTermsAtOnce = 256;

// Shared memory of tillerSense and tillerAct.
struct TillerSteeringScratch
{
    float sums[32 * (tillerSensorsAtOnce + 1)];
    float strengths[tillerTermsAtOnce];
    float tangentStrengths[tillerTermsAtOnce];
    double squares[2 * 32];
};

// φ(e), or φ'(e) de for a tangent. The cubic of a cell is that of ErrorCurve.Piece.
static __device__ __forceinline__ float tillerCurved(const TillerCurve& curve, float e, float de, bool tangent)
{
    const float size = tillerAbs(e);
    if (curve.count == 0) { return tangent ? de : e; }
    if (!(size > curve.knee)) { return curve.slope * (tangent ? de : e); }
    const float q = curve.knee / size;
    int i = 0;
    for (int end = curve.count - 1; end - i > 1;)
    {
        const int middle = (i + end) / 2;
        if (curve.nodes[middle] <= q) { i = middle; }
        else { end = middle; }
    }
    const float* const at = curve.cubics + 2 * i;
    const float width = curve.nodes[i + 1] - curve.nodes[i], t = (q - curve.nodes[i]) / width;
    const float rise = at[2] - at[0], first = width * at[1], last = width * at[3];
    const float bend = 3.0f * rise - 2.0f * first - last, twist = first + last - 2.0f * rise;
    if (tangent) { return -curve.scale * (at[1] + t * (2.0f * bend + 3.0f * t * twist) / width) * q / size * de; }
    const float value = curve.scale * (at[0] + t * (first + t * (bend + t * twist)));
    return e < 0.0f ? -value : value;
}

// Strengths p_j = c_j + Σ_i m_ji φ_ji(e_i), or Σ_i m_ji φ'_ji(e_i) de_i for a tangent, of the terms begin .. begin + tillerTermsAtOnce. A strength
// is 0 if the term's gate, which depends on the value row's errors, is closed. `fed` is the errors of the row itself.
static __device__ __forceinline__ void tillerStrengths(
    const TillerLayerLaw& law, int begin, const float* errors, const float* fed, bool tangent, float* strengths)
{
    for (int j = begin + int(threadIdx.x); j < tillerMin(law.terms, begin + tillerTermsAtOnce); j += int(blockDim.x))
    {
        float p = tangent ? 0.0f : law.c[j];
        for (int i = law.feedBegin[j]; i < law.feedBegin[j + 1]; i++)
        {
            const int sensor = law.feedSensor[i];
            p += law.feedGain[i] * (law.curves ? tillerCurved(law.curves[i], errors[sensor], fed[sensor], tangent) : fed[sensor]);
        }
        const int gate = law.gate[j];
        strengths[j - begin] = gate < 0 || errors[gate] < 0.0f ? p : 0.0f;
    }
}

// g = Σ_j p_j w_j at four columns, with the terms in order and `together` loads in flight. All threads of the block must call it together. `loaded`:
// the strengths of a layer with few terms are in shared memory already.
template <int together> static __device__ __forceinline__ float4 tillerInput4(
    const TillerLayerLaw& law, const float* errors, const float* fed, bool tangent, int column, int d, bool wide, float* strengths, bool loaded)
{
    float4 g = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int begin = 0; begin < law.terms; begin += tillerTermsAtOnce)
    {
        if (!loaded || law.terms > tillerTermsAtOnce)
        {
            __syncthreads();
            tillerStrengths(law, begin, errors, fed, tangent, strengths);
            __syncthreads();
        }
        const int count = tillerMin(law.terms - begin, tillerTermsAtOnce);
        const float* w = law.w + (long long)begin * d;
        if (wide)
        {
            TILLER_UNROLL_BY(together)
            for (int j = 0; j < count; j++) { g = tillerAddScaled4(g, strengths[j], tillerLoad4(w + (long long)j * d, column, d, true)); }
        }
        else
        {
            TILLER_UNROLL_BY(1)
            for (int j = 0; j < count; j++) { g = tillerAddScaled4(g, strengths[j], tillerLoad4(w + (long long)j * d, column, d, false)); }
        }
    }
    return g;
}

// How the bound U is kept: g is scaled to (1 − 2^-34) U, and numbers are then rounded towards zero, so that the norm of the sum's change, computed in
// float64 in any order, is at most U. The scale is computed from |g| rounded up to a float.
static __device__ __forceinline__ double tillerEffortLimit(float maxEffort) { return double(maxEffort) * (1.0 - 1.0 / double(1LL << 34)); }
static __device__ __forceinline__ bool tillerIsHeld(float maxEffort, float freeNorm)
{
    return maxEffort < tillerFromBits(0x7f800000u) && double(freeNorm) > tillerEffortLimit(maxEffort);
}

// Planes of a value row: errors −b·x become |Px| t − b·x. Called after a barrier; a barrier must follow before errors are read.
static __device__ __forceinline__ void tillerTurn(const TillerLayerLaw& law, float* errors)
{
    for (int j = 2 * int(threadIdx.x); j < 2 * law.planes; j += 2 * int(blockDim.x))
    {
        const int first = law.sensor[law.planeSensors[j]], second = law.sensor[law.planeSensors[j + 1]];
        const float a = errors[first], b = errors[second], length = tillerSqrt(a * a + b * b);
        errors[first] = a + length * law.planeTargets[j];
        errors[second] = b + length * law.planeTargets[j + 1];
    }
}

// Changes a tangent's errors, which are −v·dx before, for intervals and planes: inside an interval de = 0; in a plane de = t (Px·dPx)/|Px| − dPx,
// or −dPx if Px is 0. x is the value row. Called after a barrier. Only thread 0 changes errors, and sums use two places in turn, so that no barrier
// is needed between them.
static __device__ __forceinline__ void tillerBend(
    const TillerLayerLaw& law, const float* x, int d, bool wide, float* errors, float* scratch)
{
    int turn = 0;
    for (int i = 0; i < law.sensors + law.planes; i++)
    {
        const bool plane = i >= law.sensors;
        const int* const pair = law.planeSensors + 2 * (i - law.sensors);
        const int one = plane ? pair[0] : i, two = plane ? pair[1] : i;
        if (!plane && !(law.low[i] < law.high[i])) { continue; }
        float sums[2] = {0.0f, 0.0f};
        for (int c = 4 * int(threadIdx.x); c < d; c += 4 * int(blockDim.x))
        {
            const float4 xc = tillerLoad4(x, c, d, wide);
            sums[0] += tillerDot4(tillerLoad4(law.v + (long long)one * d, c, d, wide), xc);
            sums[1] += tillerDot4(tillerLoad4(law.v + (long long)two * d, c, d, wide), xc);
        }
        tillerBlockSums(sums, scratch + 64 * turn);
        turn ^= 1;
        if (threadIdx.x == 0)
        {
            float& first = errors[law.sensor[one]];
            float& second = errors[law.sensor[two]];
            if (!plane)
            {
                if (law.low[i] < sums[0] && sums[0] < law.high[i]) { first = 0.0f; }
            }
            else
            {
                const float length = tillerSqrt(sums[0] * sums[0] + sums[1] * sums[1]);
                const float change = length > 0.0f ? -(sums[0] * first + sums[1] * second) / length : 0.0f;
                const float* const t = law.planeTargets + 2 * (i - law.sensors);
                first += change * t[0];
                second += change * t[1];
            }
        }
    }
}

// Computes e_i = clip(v_i·x) − v_i·x for a value row, or de_i for a tangent, for this layer's sensors; and |x| of a value row if the layer has terms.
// `value` is the value row of a tangent. Groups of sensors are divided among `shares` blocks. Tangents, which clear all errors first, and planes,
// which change two errors together, are computed by the first block alone. The scratch memory is in use until the block's next barrier.
static __device__ __forceinline__ void tillerSense(const TillerSteering& steering, int layer, const float* x, const float* value, int d,
                                                   bool tangent, int line, int share, int shares, TillerSteeringScratch& scratch)
{
    const TillerLayerLaw& law = steering.layers[layer]; // a reference: a copy of its many addresses would not fit into 64 registers
    const int sensors = law.sensors;
    float* errors = (tangent ? steering.tangentErrors : steering.errors) + (long long)line * steering.sensors;
    const bool wide = d % 4 == 0, keepsNorm = !tangent && law.keepsNorm;
    if (tangent || law.planes)
    {
        if (share > 0) { return; }
        shares = 1;
    }
    if (tangent && layer == steering.firstStage)
    {
        // A term may read the errors of the previous token, which this tangent does not change. Barriers come before the next write.
        for (int i = int(threadIdx.x); i < steering.sensors; i += int(blockDim.x)) { errors[i] = 0.0f; }
    }
    for (int first = share * tillerSensorsAtOnce; first < sensors || (first == 0 && keepsNorm); first += shares * tillerSensorsAtOnce)
    {
        float sums[tillerSensorsAtOnce + 1] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
        const float* v = law.v + (long long)first * d;
        for (int c = 4 * int(threadIdx.x); c < d; c += 4 * int(blockDim.x))
        {
            const float4 xc = tillerLoad4(x, c, d, wide);
            TILLER_UNROLL
            for (int i = 0; i < tillerSensorsAtOnce; i++)
            {
                if (first + i < sensors) { sums[i] += tillerDot4(tillerLoad4(v + (long long)i * d, c, d, wide), xc); }
            }
            sums[tillerSensorsAtOnce] += tillerDot4(xc, xc);
        }
        tillerBlockSums(sums, scratch.sums);
        if (threadIdx.x == 0)
        {
            TILLER_UNROLL
            for (int i = 0; i < tillerSensorsAtOnce; i++)
            {
                if (first + i < sensors)
                {
                    const float p = sums[i], low = law.low[first + i], high = law.high[first + i];
                    errors[law.sensor[first + i]] = (tangent ? 0.0f : p < low ? low : p > high ? high : p) - p;
                }
            }
            if (first == 0 && keepsNorm)
            {
                steering.stateNorms[(long long)line * steering.layerCount + layer] = tillerSqrt(sums[tillerSensorsAtOnce]);
            }
        }
        __syncthreads();
    }
    if (tangent && law.bends) { tillerBend(law, value, d, wide, errors, scratch.sums); }
    if (!tangent && law.planes) { tillerTurn(law, errors); }
}

// |u_k| of a value row before the bound, so that u_k can be computed at each column by itself. Called after tillerSense and a barrier. `keeps`: the
// norm is recorded. The scratch memory is in use until the block's next barrier.
template <int together> static __device__ __forceinline__ float tillerFreeNorm(
    const TillerSteering& steering, int layer, int d, int slot, bool keeps, TillerSteeringScratch& scratch)
{
    const TillerLayerLaw& law = steering.layers[layer];
    if (law.terms == 0) { return 0.0f; }
    const float* errors = steering.errors + (long long)slot * steering.sensors;
    const bool wide = d % 4 == 0;
    double squares[1] = {0.0};
    for (int base = 0; base < d; base += 4 * int(blockDim.x))
    {
        const float4 g = tillerInput4<together>(law, errors, errors, false, base + 4 * int(threadIdx.x), d, wide, scratch.strengths, base > 0);
        squares[0] += double(g.x) * g.x + double(g.y) * g.y + double(g.z) * g.z + double(g.w) * g.w;
    }
    tillerBlockSums(squares, scratch.squares);
    const float norm = tillerRoundUp(tillerSqrt(squares[0]));
    if (keeps && threadIdx.x == 0)
    {
        const long long at = (long long)slot * steering.layerCount + layer;
        steering.freeNorms[at] = norm;
        steering.inputNorms[at] = tillerIsHeld(steering.maxEffort, norm) ? steering.maxEffort : norm;
    }
    return norm;
}
static __device__ __forceinline__ float tillerFreeNormOf(const TillerSteering& steering, int layer, int slot)
{
    return steering.freeNorms[(long long)slot * steering.layerCount + layer];
}

// The number that is added for g under the bound. If the norm overflows a float, the direction is unknown, and the result is NaN.
static __device__ __forceinline__ float tillerHeld(float g, float maxEffort, float freeNorm)
{
    if (!tillerIsHeld(maxEffort, freeNorm)) { return g; }
    if (freeNorm == tillerFromBits(0x7f800000u)) { return tillerFromBits(0x7fc00000u); }
    return tillerTruncate(tillerEffortLimit(maxEffort) / freeNorm * double(g));
}

// y += u_k, after a barrier of the block. Tangents: dy += du_k. If u is bounded, with ĝ = g/|g|, du = U/|g| (dg − ĝ (ĝ·dg)).
// Called after tillerSense of the layer. freeNorm is that of the value row.
template <int together> static __device__ __forceinline__ void tillerAct(const TillerSteering& steering, int layer, float* y, int d, int slot,
                                                                        float freeNorm, bool tangent, int tangentLine, TillerSteeringScratch& scratch)
{
    const TillerLayerLaw& law = steering.layers[layer]; // a reference, as in tillerSense
    if (law.terms == 0) { return; }
    const float* errors = steering.errors + (long long)slot * steering.sensors;
    const float* tangentErrors = steering.tangentErrors + (long long)tangentLine * steering.sensors;
    const bool wide = d % 4 == 0, held = tillerIsHeld(steering.maxEffort, freeNorm), projects = tangent && held;
    const int first = 4 * int(threadIdx.x), step = 4 * int(blockDim.x);
    double sums[2] = {0.0, 0.0}; // |g|², g·dg
    if (projects)
    {
        for (int base = 0; base < d; base += step)
        {
            const float4 g = tillerInput4<together>(law, errors, errors, false, base + first, d, wide, scratch.strengths, base > 0);
            const float4 dg = tillerInput4<together>(law, errors, tangentErrors, true, base + first, d, wide, scratch.tangentStrengths, base > 0);
            sums[0] += double(g.x) * g.x + double(g.y) * g.y + double(g.z) * g.z + double(g.w) * g.w;
            sums[1] += double(g.x) * dg.x + double(g.y) * dg.y + double(g.z) * dg.z + double(g.w) * dg.w;
        }
        tillerBlockSums(sums, scratch.squares);
    }
    const double scale = double(steering.maxEffort) / freeNorm, along = projects ? sums[1] / sums[0] : 0.0;
    for (int base = 0; base < d; base += step)
    {
        const int c = base + first;
        float4 u = {0.0f, 0.0f, 0.0f, 0.0f};
        if (!tangent || held) { u = tillerInput4<together>(law, errors, errors, false, c, d, wide, scratch.strengths, projects || base > 0); }
        if (tangent)
        {
            const float4 dg = tillerInput4<together>(law, errors, tangentErrors, true, c, d, wide, scratch.tangentStrengths, projects || base > 0);
            u = !held ? dg
                      : float4{float(scale * (dg.x - along * u.x)), float(scale * (dg.y - along * u.y)), float(scale * (dg.z - along * u.z)),
                               float(scale * (dg.w - along * u.w))};
        }
        else
        {
            u = {tillerHeld(u.x, steering.maxEffort, freeNorm), tillerHeld(u.y, steering.maxEffort, freeNorm),
                 tillerHeld(u.z, steering.maxEffort, freeNorm), tillerHeld(u.w, steering.maxEffort, freeNorm)};
        }
        const float4 at = tillerLoad4(y, c, d, wide);
        tillerStore4(y, c, d, wide, {at.x + u.x, at.y + u.y, at.z + u.z, at.w + u.w});
    }
}
