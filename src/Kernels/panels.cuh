// Panels: activations as bf16 numbers in the order of mma.sync's fragments, for linear_rows.cu. For each block of 32 columns and each tile of eight
// rows, a piece has 512 bytes, 16 for each lane; lane 4 g + c has the columns 8 c .. 8 c + 7 of row g. Numbers beyond M and K are zero. The first
// `exact` tiles, which contain value rows, have a third piece. It is zero for a tangent in these tiles, so that its sum is the same as in other
// tiles.
#pragma once
#include "numbers.cuh"

// The address of a lane's 16 bytes of the first piece. Those of each further piece are 32 words of 16 bytes later.
static __device__ __forceinline__ uint4* tillerPanelAt(uint4* panels, int tiles, int exact, int block, int tile, int lane)
{
    return panels + ((long long)(block * tiles + tile) * 2 + block * exact + tillerMin(tile, exact)) * 32 + lane;
}

// Writes four numbers of a row, from column k on, which is a multiple of four, to their panel.
static __device__ __forceinline__ void tillerStorePanel4(uint4* panels, int tiles, int exact, int row, int k, bool value, float4 x)
{
    unsigned h[4], m[4], l[4];
    tillerSplitBf16(x.x, h[0], m[0], l[0]);
    tillerSplitBf16(x.y, h[1], m[1], l[1]);
    tillerSplitBf16(x.z, h[2], m[2], l[2]);
    tillerSplitBf16(x.w, h[3], m[3], l[3]);
    uint4* const first = tillerPanelAt(panels, tiles, exact, k / 32, row / 8, row % 8 * 4 + k % 32 / 8);
    uint2* const to = reinterpret_cast<uint2*>(first) + k % 8 / 4;
    to[0] = {h[0] | h[1] << 16, h[2] | h[3] << 16};
    to[64] = {m[0] | m[1] << 16, m[2] | m[3] << 16};
    if (row / 8 < exact) { to[128] = value ? uint2{l[0] | l[1] << 16, l[2] | l[3] << 16} : uint2{0, 0}; }
}
