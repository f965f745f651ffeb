// The beginning of a step.
//   rotation (tables, lines, E): for each table and value row, a_e cos(t ω_e) for e < E/2, then a_e sin(t ω_e), where t is the row's position. A
// table
//   has E/2 angles ω in radians per position, then E/2 factors a. Rows of long sequences use the tables after the first `tables`.
//   x (values, D) = scale · table[id]
// Rotate: one thread for each angle, 256 threads in a block. Embed: one thread for four columns, 128 threads in a block, ⌈D/512⌉ blocks for a row;
// it reads one row of the table (8 or 16 bytes per thread) and writes 4 D bytes for each row. No shared memory.
#include "math.cuh"
#include "quads.cuh"
#include "rows.cuh"

struct TillerRotateParameters
{
    const TillerRow* rows;    // (values)
    const float* frequencies; // (tables, E), or twice as many
    float* rotation;          // (tables, lines, E)
    int values;
    int half;                 // E/2
    int tables;
    int lines;
};

extern "C" __global__ void __launch_bounds__(256) tillerRotate(const TillerRotateParameters p)
{
    const int i = int(blockIdx.x * 256 + threadIdx.x), e = i % p.half, line = i / p.half, row = line % p.values, table = line / p.values;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    if (table >= p.tables) { return; }
    const TillerRow& r = p.rows[row];
    const float* from = p.frequencies + 2LL * p.half * (r.isLong ? p.tables + table : table);
    float sine, cosine;
    tillerSinCos(from[e] * float(r.position), sine, cosine);
    float* to = p.rotation + 2LL * p.half * ((long long)table * p.lines + row);
    to[e] = from[p.half + e] * cosine;
    to[p.half + e] = from[p.half + e] * sine;
}
TILLER_KERNEL(tillerRotate)

struct TillerEmbedParameters
{
    const TillerRow* rows; // (values)
    const void* table;     // (V, D) in the stored type
    float* x;              // (values, D)
    int d;
    int type;              // 0 float32, 1 half, 2 bfloat16
    int blocksPerRow;
    float scale;
};

// A factor of 2^112 turns half's exponent into float's. It is exact, also for subnormal numbers.
static __device__ __forceinline__ float tillerHalfToFloat(unsigned bits)
{
    const float magnitude = tillerFromBits((bits & 0x7fffu) << 13) * tillerFromBits(0x77800000u);
    return tillerFromBits(tillerBits(magnitude) | ((bits & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0u) | (bits & 0x8000u) << 16);
}

static __device__ __forceinline__ float tillerStored16(unsigned bits, bool half)
{
    return half ? tillerHalfToFloat(bits & 0xffffu) : tillerFromBits(bits << 16);
}

extern "C" __global__ void __launch_bounds__(128) tillerEmbed(const TillerEmbedParameters p)
{
    const int row = int(blockIdx.x) / p.blocksPerRow, column = (int(blockIdx.x) % p.blocksPerRow * 128 + int(threadIdx.x)) * 4;
    const bool wide = p.d % 4 == 0;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    if (column >= p.d) { return; }
    const long long line = (long long)p.rows[row].id * p.d;
    float4 v;
    if (p.type == 0) { v = tillerLoad4(static_cast<const float*>(p.table) + line, column, p.d, wide); }
    else
    {
        const unsigned short* from = static_cast<const unsigned short*>(p.table) + line;
        uint2 bits = {0, 0};
        if (wide) { bits = *reinterpret_cast<const uint2*>(from + column); }
        else
        {
            bits.x = from[column];
            if (column + 1 < p.d) { bits.x |= unsigned(from[column + 1]) << 16; }
            if (column + 2 < p.d) { bits.y = from[column + 2]; }
            if (column + 3 < p.d) { bits.y |= unsigned(from[column + 3]) << 16; }
        }
        const bool half = p.type == 1;
        v = {tillerStored16(bits.x & 0xffffu, half), tillerStored16(bits.x >> 16, half), tillerStored16(bits.y & 0xffffu, half),
             tillerStored16(bits.y >> 16, half)};
    }
    tillerStore4(p.x + (long long)row * p.d, column, p.d, wide, {p.scale * v.x, p.scale * v.y, p.scale * v.z, p.scale * v.w});
}
TILLER_KERNEL(tillerEmbed)
