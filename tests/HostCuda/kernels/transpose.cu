// y (columns, rows) = x' for x (rows, columns), through a tile in dynamic shared memory; it is 32 x 33, which avoids bank conflicts.
// Blocks of 32 x 8 threads, each with four rows of the tile; grid (columns / 32, rows / 32), rounded up.
#include "platform.cuh"

extern "C" __global__ void __launch_bounds__(256) tillerTestTranspose(float* y, const float* x, int rows, int columns)
{
    TILLER_DYNAMIC_SHARED(float, tile);
    tillerWaitForPredecessor();
    const int row = int(blockIdx.y) * 32, column = int(blockIdx.x) * 32;
    for (int i = int(threadIdx.y); i < 32; i += 8)
    {
        if (row + i < rows && column + int(threadIdx.x) < columns)
        {
            tile[i * 33 + threadIdx.x] = x[(long long)(row + i) * columns + column + threadIdx.x];
        }
    }
    __syncthreads();
    for (int i = int(threadIdx.y); i < 32; i += 8)
    {
        if (column + i < columns && row + int(threadIdx.x) < rows)
        {
            y[(long long)(column + i) * rows + row + threadIdx.x] = tile[threadIdx.x * 33 + i];
        }
    }
}
TILLER_KERNEL(tillerTestTranspose)
