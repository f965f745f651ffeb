// Reading and moving one row of the residual stream by a law: functions of a whole block, threads along x, four columns a thread and
// turn. Laws and the rows' choice of them are constants of a run: they may be read before the predecessor's writes are waited for.
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

// α_i = β_i − v_i·x of a value row, dα_i = −v_i·dx of a tangent, of this layer's sensors; |x| of a value row that will be moved.
static __device__ __forceinline__ void tillerSense(
    const TillerSteering& steering, int layer, const float* x, int d, bool tangent, int line, TillerSteeringScratch& scratch)
{
    const TillerLayerLaw law = steering.layers[layer];
    float* errors = (tangent ? steering.tangentErrors : steering.errors) + (long long)line * steering.sensors;
    const bool wide = d % 4 == 0, keepsNorm = !tangent && law.terms > 0;
    if (tangent && layer == 0)
    {
        // What a term may look back at is the token before, which this tangent does not move.
        for (int i = int(threadIdx.x); i < steering.sensors; i += int(blockDim.x)) { errors[i] = 0.0f; }
        __syncthreads();
    }
    for (int first = 0; first < law.sensors || (first == 0 && keepsNorm); first += tillerSensorsAtOnce)
    {
        float sums[tillerSensorsAtOnce + 1] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
        const float* v = law.v + (long long)first * d;
        for (int c = 4 * int(threadIdx.x); c < d; c += 4 * int(blockDim.x))
        {
            const float4 xc = tillerLoad4(x, c, d, wide);
            TILLER_UNROLL_LOOP
            for (int i = 0; i < tillerSensorsAtOnce; i++)
            {
                if (first + i < law.sensors) { sums[i] += tillerDot4(tillerLoad4(v + (long long)i * d, c, d, wide), xc); }
            }
            sums[tillerSensorsAtOnce] += tillerDot4(xc, xc);
        }
        tillerBlockSums(sums, scratch.sums);
        if (threadIdx.x == 0)
        {
            TILLER_UNROLL_LOOP
            for (int i = 0; i < tillerSensorsAtOnce; i++)
            {
                if (first + i < law.sensors) { errors[law.sensor[first + i]] = (tangent ? 0.0f : law.beta[first + i]) - sums[i]; }
            }
            if (first == 0 && keepsNorm)
            {
                steering.stateNorms[(long long)line * steering.layerCount + layer] = tillerSqrt(sums[tillerSensorsAtOnce]);
            }
        }
        __syncthreads();
    }
}

// p_j = c_j + s_j α_j, or s_j dα_j, of terms begin .. begin + tillerTermsAtOnce.
static __device__ __forceinline__ void tillerStrengths(const TillerLayerLaw& law, int begin, const float* errors, bool tangent, float* strengths)
{
    for (int j = begin + int(threadIdx.x); j < tillerMin(law.terms, begin + tillerTermsAtOnce); j += int(blockDim.x))
    {
        const int sensor = law.termSensor[j];
        const float fed = sensor < 0 ? 0.0f : law.s[j] * errors[sensor];
        strengths[j - begin] = tangent ? fed : law.c[j] + fed;
    }
}

// Σ_j p_j w_j at four columns, terms in order; all threads of the block call it together. `loaded` says that the strengths of a
// layer with few terms lie in shared memory already.
static __device__ __forceinline__ float4 tillerInput4(
    const TillerLayerLaw& law, const float* errors, bool tangent, int column, int d, bool wide, float* strengths, bool loaded)
{
    float4 u = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int begin = 0; begin < law.terms; begin += tillerTermsAtOnce)
    {
        if (!loaded || law.terms > tillerTermsAtOnce)
        {
            __syncthreads();
            tillerStrengths(law, begin, errors, tangent, strengths);
            __syncthreads();
        }
        const int count = tillerMin(law.terms - begin, tillerTermsAtOnce);
        const float* w = law.w + (long long)begin * d;
        for (int j = 0; j < count; j++) { u = tillerAddScaled4(u, strengths[j], tillerLoad4(w + (long long)j * d, column, d, wide)); }
    }
    return u;
}

// y += u_k, |u_k| ≤ U. Numbers are cut towards zero after scaling to (1 − 2^-34) U, so that the norm of what was added, computed in
// float64 in whatever order, is at most U. Tangents: dy += du_k, and at the bound, with ĝ = g/|g|, du = U/|g| (dg − ĝ (ĝ·dg)).
static __device__ __forceinline__ void tillerAct(
    const TillerSteering& steering, int layer, float* y, int d, int slot, bool tangent, int tangentLine, TillerSteeringScratch& scratch)
{
    const TillerLayerLaw law = steering.layers[layer];
    if (law.terms == 0) { return; }
    const float* errors = steering.errors + (long long)slot * steering.sensors;
    const float* tangentErrors = steering.tangentErrors + (long long)tangentLine * steering.sensors;
    const bool wide = d % 4 == 0, bounded = steering.maxEffort < tillerFromBits(0x7f800000u);
    const int first = 4 * int(threadIdx.x), step = 4 * int(blockDim.x);
    const double limit = double(steering.maxEffort) * (1.0 - 1.0 / (1LL << 34));
    double sums[2] = {0.0, 0.0}; // |g|², g·dg
    if (!tangent || bounded)
    {
        for (int base = 0; base < d; base += step)
        {
            const int c = base + first;
            const float4 g = tillerInput4(law, errors, false, c, d, wide, scratch.strengths, base > 0);
            sums[0] += double(g.x) * g.x + double(g.y) * g.y + double(g.z) * g.z + double(g.w) * g.w;
            if (tangent)
            {
                const float4 dg = tillerInput4(law, tangentErrors, true, c, d, wide, scratch.tangentStrengths, base > 0);
                sums[1] += double(g.x) * dg.x + double(g.y) * dg.y + double(g.z) * dg.z + double(g.w) * dg.w;
            }
            else if (!bounded && c < d)
            {
                const float4 at = tillerLoad4(y, c, d, wide);
                tillerStore4(y, c, d, wide, {at.x + g.x, at.y + g.y, at.z + g.z, at.w + g.w});
            }
        }
        tillerBlockSums(sums, scratch.squares);
    }
    const double norm = tillerSqrt(sums[0]);
    const bool atBound = bounded && norm > limit;
    if (!tangent && threadIdx.x == 0)
    {
        const long long at = (long long)slot * steering.layerCount + layer;
        steering.freeNorms[at] = float(norm);
        steering.inputNorms[at] = atBound ? steering.maxEffort : float(norm);
    }
    if (!tangent && !bounded) { return; }
    const double scale = limit / norm, along = sums[1] / sums[0];
    const bool loaded = bounded; // by the pass above
    for (int base = 0; base < d; base += step)
    {
        const int c = base + first;
        float4 u = {0.0f, 0.0f, 0.0f, 0.0f};
        if (!tangent || atBound) { u = tillerInput4(law, errors, false, c, d, wide, scratch.strengths, true); }
        if (tangent)
        {
            const float4 du = tillerInput4(law, tangentErrors, true, c, d, wide, scratch.tangentStrengths, loaded || base > 0);
            u = !atBound ? du
                         : float4{float(scale * (du.x - along * u.x)), float(scale * (du.y - along * u.y)), float(scale * (du.z - along * u.z)),
                                  float(scale * (du.w - along * u.w))};
        }
        else if (atBound)
        {
            u = {tillerTruncate(scale * u.x), tillerTruncate(scale * u.y), tillerTruncate(scale * u.z), tillerTruncate(scale * u.w)};
        }
        const float4 at = tillerLoad4(y, c, d, wide);
        tillerStore4(y, c, d, wide, {at.x + u.x, at.y + u.y, at.z + u.z, at.w + u.w});
    }
}
