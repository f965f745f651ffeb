// y = x W' and x = y W for 9 to 128 rows on tensor cores: W // (N, K) bf16, K % 8 == 0. The activations are bf16 panels (linear_split.cu): three
// pieces for a value, which are exact, and two for a tangent. Tensor cores truncate FP32 sums (docs/cuda.md). So they sum only 32 terms, and these
// sums are added up in registers, rounded to nearest. In this file, "outputs" are the rows of W (its columns if transposed), and sums run over the
// "depth".
//
// Grid: (tiles of 256 outputs, parts of the depth), 256 threads. A warp has 32 outputs, which are two mma tiles of 16, and all M rows. W is
// read once, directly into registers, four blocks of depth 32 ahead (two for more than 64 rows): 64 KiB are in flight for a block of threads.
// The order of the depth in a block of 32 is free as long as both factors use the same, and so is the order of outputs: lane 4 g + c has
// the depths 8 c .. 8 c + 7, so it reads 16 bytes of a row of W at a time, and the outputs 4 g .. 4 g + 3, so it writes one float4 of a row of y.
// If transposed, it has four columns of eight rows of W, and combines 16-bit halves of two rows into words, because the factor is W'.
// Panels are copied to shared memory in chunks of at most 48 KiB. There are two chunks: the next is copied while one is used.
// If there are several parts, the sums go to partial // (parts, M, outputs), and linear_merge.cu adds them up. Parts and order depend only on the
// shape of W, so a row's bits do not depend on the other rows or on their number.
// Bytes: 2 N K; panels of 6 M K (tangents 4 M K) for each tile of outputs, from the L2 cache. FLOPs: 6 M N K (tangents 4 M N K).
#include "memory.cuh"
#include "numbers.cuh"

struct TillerLinearRows
{
    const uint4* panels;   // (depth / 32, tiles, 2 or 3, 32)
    const void* w;         // (N, K)
    const float* bias;     // (outputs), or null; used only if there is one part, like residual
    const float* residual; // (rows, outputs), or null; may be y
    float* y;              // (rows, outputs), or partial // (parts, rows, outputs)
    int rows, depth, outputs;
    int tiles;             // number of tiles of eight rows; even
    int exact;             // number of first tiles, which have three pieces; even
    int chunk;             // number of depth blocks copied to shared memory at a time, a multiple of those in flight
    int values;            // number of first rows to which the bias is added: tangents have no bias
    int flushed;           // 0: tensor cores compute the whole sums, to measure the difference
};

// A lane's weights in a depth block of 32: 16 words.
struct TillerForward
{
    uint4 row[4];     // depths 8 c .. 8 c + 7 of the outputs 4 g .. 4 g + 3

    __device__ __forceinline__ void load(const unsigned short* w, int output, int outputs, int at, int depth, bool wanted)
    {
        const int k = at + int(threadIdx.x) % 4 * 8;
        TILLER_UNROLL
        for (int i = 0; i < 4; i++)
        {
            // an output beyond the last is a second copy of the last, which is not stored
            row[i] = tillerLoad16(w + (long long)tillerMin(output + i, outputs - 1) * depth + k, wanted && k < depth);
        }
    }
    // The fragment of mma tile i (its rows g and g + 8 are the outputs 4 g + 2 i and 4 g + 2 i + 1) in half j of the depth block.
    __device__ __forceinline__ void fragment(int i, int j, unsigned (&a)[4]) const
    {
        a[0] = j ? row[2 * i].z : row[2 * i].x;
        a[1] = j ? row[2 * i + 1].z : row[2 * i + 1].x;
        a[2] = j ? row[2 * i].w : row[2 * i].y;
        a[3] = j ? row[2 * i + 1].w : row[2 * i + 1].y;
    }
};
struct TillerTransposed
{
    uint2 row[8];     // outputs 4 g .. 4 g + 3 at the depths 8 c .. 8 c + 7

    __device__ __forceinline__ void load(const unsigned short* w, int output, int outputs, int at, int depth, bool wanted)
    {
        const int n = at + int(threadIdx.x) % 4 * 8;
        TILLER_UNROLL
        for (int i = 0; i < 8; i++)
        {
            row[i] = tillerLoad8(w + (long long)(n + i) * outputs + output, wanted && n + i < depth && output < outputs);
        }
    }
    __device__ __forceinline__ void fragment(int i, int j, unsigned (&a)[4]) const
    {
        const unsigned r0 = i ? row[4 * j].y : row[4 * j].x, r1 = i ? row[4 * j + 1].y : row[4 * j + 1].x;
        const unsigned r2 = i ? row[4 * j + 2].y : row[4 * j + 2].x, r3 = i ? row[4 * j + 3].y : row[4 * j + 3].x;
        a[0] = (r0 & 0xffffu) | r1 << 16;
        a[1] = r0 >> 16 | (r1 & 0xffff0000u);
        a[2] = (r2 & 0xffffu) | r3 << 16;
        a[3] = r2 >> 16 | (r3 & 0xffff0000u);
    }
};

// Multiplies one piece of two mma tiles of rows, so that four independent sums are in flight.
static __device__ __forceinline__ void tillerLinearPiece(const unsigned (&a)[2][4], const unsigned (&b)[2][4], const uint4& x, const uint4& z,
                                                         float (&s0)[4], float (&s1)[4], float (&t0)[4], float (&t1)[4])
{
    TILLER_UNROLL
    for (int j = 0; j < 2; j++)
    {
        const unsigned x0 = j ? x.z : x.x, x1 = j ? x.w : x.y, z0 = j ? z.z : z.x, z1 = j ? z.w : z.y;
        tillerMma(s0, a[j][0], a[j][1], a[j][2], a[j][3], x0, x1);
        tillerMma(s1, b[j][0], b[j][1], b[j][2], b[j][3], x0, x1);
        tillerMma(t0, a[j][0], a[j][1], a[j][2], a[j][3], z0, z1);
        tillerMma(t1, b[j][0], b[j][1], b[j][2], b[j][3], z0, z1);
    }
}

// Two tiles of rows, both with three pieces or both with two. `panel` is the first tile's, at this lane.
template <bool flushed, class Weights> static __device__ __forceinline__ void tillerLinearPair(
    const Weights& w, const uint4* panel, bool exact, float (&s0)[4], float (&s1)[4], float (&t0)[4], float (&t1)[4])
{
    const uint4* other = panel + (exact ? 96 : 64);
    unsigned a[2][4], b[2][4];
    TILLER_UNROLL
    for (int j = 0; j < 2; j++)
    {
        w.fragment(0, j, a[j]);
        w.fragment(1, j, b[j]);
    }
    float sums[4][4]; // sums of this depth block alone
    TILLER_UNROLL
    for (int e = 0; e < 4; e++)
    {
        sums[0][e] = flushed ? 0.0f : s0[e];
        sums[1][e] = flushed ? 0.0f : s1[e];
        sums[2][e] = flushed ? 0.0f : t0[e];
        sums[3][e] = flushed ? 0.0f : t1[e];
    }
    tillerLinearPiece(a, b, panel[0], other[0], sums[0], sums[1], sums[2], sums[3]);
    tillerLinearPiece(a, b, panel[32], other[32], sums[0], sums[1], sums[2], sums[3]);
    if (exact) { tillerLinearPiece(a, b, panel[64], other[64], sums[0], sums[1], sums[2], sums[3]); }
    TILLER_UNROLL
    for (int e = 0; e < 4; e++)
    {
        s0[e] = flushed ? s0[e] + sums[0][e] : sums[0][e];
        s1[e] = flushed ? s1[e] + sums[1][e] : sums[1][e];
        t0[e] = flushed ? t0[e] + sums[2][e] : sums[2][e];
        t1[e] = flushed ? t1[e] + sums[3][e] : sums[3][e];
    }
}

template <class Weights, int tiles, int ahead, bool flushed> static __device__ __forceinline__ void tillerLinearRows(const TillerLinearRows& p)
{
    TILLER_DYNAMIC_SHARED(uint4, staged); // (2, chunk, tiles, 64 or 96)
    const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
    const int blocks = (p.depth + 31) / 32, parts = int(gridDim.y), part = int(blockIdx.y);
    const int begin = int((long long)blocks * part / parts), end = int((long long)blocks * (part + 1) / parts);
    const int block = p.tiles * 64 + p.exact * 32, chunk = p.chunk * block; // sizes in units of 16 bytes
    const int output = int(blockIdx.x) * 256 + warp * 32 + lane / 4 * 4;
    const bool live = int(blockIdx.x) * 256 + warp * 32 < p.outputs;
    const unsigned short* const w = static_cast<const unsigned short*>(p.w);

    Weights next[ahead];
    TILLER_UNROLL
    for (int i = 0; i < ahead; i++) { next[i].load(w, output, p.outputs, (begin + i) * 32, p.depth, live && begin + i < end); }
    float sums[2][tiles][4];
    TILLER_UNROLL
    for (int i = 0; i < 8 * tiles; i++) { sums[i / (4 * tiles)][i / 4 % tiles][i % 4] = 0; }

    const auto stage = [&](int at, int buffer)
    {
        const int count = (tillerMin(at + p.chunk, end) - at) * block;
        const uint4* from = p.panels + (long long)at * block;
        for (int i = int(threadIdx.x); i < count; i += 256) { tillerCopyAsync(staged + buffer * chunk + i, from + i); }
        tillerCommitCopies();
    };
    tillerWaitForPredecessor();
    stage(begin, 0);
    int buffer = 0;
    for (int at = begin; at < end; at += p.chunk)
    {
        const int stop = tillerMin(at + p.chunk, end);
        if (stop < end)
        {
            stage(stop, buffer ^ 1);
            tillerWaitForCopies<1>();
        }
        else
        {
            tillerReleaseSuccessor();
            tillerWaitForCopies<0>();
        }
        __syncthreads();
        for (int first = at; live && first < stop; first += ahead)
        {
            TILLER_UNROLL
            for (int i = 0; i < ahead; i++)
            {
                const int b = first + i;
                if (b >= stop) { continue; }
                const Weights now = next[i];
                next[i].load(w, output, p.outputs, (b + ahead) * 32, p.depth, b + ahead < end);
                const uint4* panel = staged + buffer * chunk + (b - at) * block + lane;
                TILLER_UNROLL
                for (int t = 0; t < tiles; t += 2)
                {
                    if (t < p.tiles)
                    {
                        const int before = tillerMin(t, p.exact);
                        const uint4* pair = panel + t * 64 + before * 32;
                        tillerLinearPair<flushed>(now, pair, t < p.exact, sums[0][t], sums[1][t], sums[0][t + 1], sums[1][t + 1]);
                    }
                }
            }
        }
        __syncthreads();
        buffer ^= 1;
    }

    // Of tile t, lane 4 g + c has the rows 2 c and 2 c + 1. Of mma tile i, element e is output 4 g + 2 i, and element 2 + e the next output.
    const bool direct = parts == 1;
    TILLER_UNROLL
    for (int t = 0; t < tiles; t++)
    {
        TILLER_UNROLL
        for (int e = 0; e < 2; e++)
        {
            const int row = 8 * t + lane % 4 * 2 + e;
            if (row >= p.rows || output >= p.outputs) { continue; }
            float v[4] = {sums[0][t][e], sums[0][t][2 + e], sums[1][t][e], sums[1][t][2 + e]};
            const long long at = ((long long)part * p.rows + row) * p.outputs + output;
            const bool biased = direct && p.bias && row < p.values;
            TILLER_UNROLL
            for (int i = 0; i < 4; i++)
            {
                if (output + i < p.outputs)
                {
                    if (biased) { v[i] += p.bias[output + i]; }
                    if (direct && p.residual) { v[i] = p.residual[at + i] + v[i]; }
                }
            }
            if (p.outputs % 4 == 0) { *reinterpret_cast<float4*>(p.y + at) = {v[0], v[1], v[2], v[3]}; }
            else
            {
                TILLER_UNROLL
                for (int i = 0; i < 4; i++)
                {
                    if (output + i < p.outputs) { p.y[at + i] = v[i]; }
                }
            }
        }
    }
}

#define TILLER_LINEAR_ROWS(name, Weights, tiles, ahead)                                 \
    extern "C" __global__ void __launch_bounds__(256, 1) name(const TillerLinearRows p) \
    {                                                                                   \
        if (p.flushed) { tillerLinearRows<Weights, tiles, ahead, true>(p); }            \
        else { tillerLinearRows<Weights, tiles, ahead, false>(p); }                     \
    }                                                                                   \
    TILLER_KERNEL(name)

TILLER_LINEAR_ROWS(tillerLinearRows16, TillerForward, 2, 4)
TILLER_LINEAR_ROWS(tillerLinearRows32, TillerForward, 4, 4)
TILLER_LINEAR_ROWS(tillerLinearRows64, TillerForward, 8, 4)
TILLER_LINEAR_ROWS(tillerLinearRows128, TillerForward, 16, 2)
TILLER_LINEAR_ROWS(tillerLinearRowsTransposed16, TillerTransposed, 2, 4)
TILLER_LINEAR_ROWS(tillerLinearRowsTransposed32, TillerTransposed, 4, 4)
TILLER_LINEAR_ROWS(tillerLinearRowsTransposed64, TillerTransposed, 8, 4)
TILLER_LINEAR_ROWS(tillerLinearRowsTransposed128, TillerTransposed, 16, 2)
