// Panels: activations as bf16 numbers in the order of mma.sync's fragments, for linear_rows.cu. For each block of 32 columns and each tile of eight
// rows 512 bytes a piece, 16 bytes for each lane; lane 4 g + c has the columns 8 c .. 8 c + 7 of row g. Zero past M and K. The first `exact` tiles,
// those that values lie in, have a third piece: zero for a tangent among them, which gets the same sum as elsewhere.
#pragma once
#include "numbers.cuh"

// Where a lane's 16 bytes of the first piece are; those of the next pieces come 32 of them later each.
static __device__ __forceinline__ uint4* tillerPanelAt(uint4* panels, int tiles, int exact, int block, int tile, int lane)
{
    return panels + ((long long)(block * tiles + tile) * 2 + block * exact + tillerMin(tile, exact)) * 32 + lane;
}

// Four numbers of a row from column k on, a multiple of four, to their panel.
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
