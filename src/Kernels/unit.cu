// Pushforward of unit vectors through a norm and the linear map after it, which needs no product. Let x be a value row, s = (mean x² + ε)^-1/2, h = s
// x, and z = W (g ∘ h) + b, which the row's own pass has computed:
//   y_ij = s_i g_c W_c − (s_i h_ic / D) (z_i − b),  where c = first + j, and W_c is column c of W // (N).
// Without a norm, z = W x + b and y_ij = W_c. Here i is a value row, and j one of `count` unit vectors; y // (values · count, N).
// Grid ⌈count/32⌉ × ⌈N/256⌉ × values, 256 threads: a block has eight squares of 32 by 32 weights, which it transposes in shared memory (4.2 KiB), so
// that whole lines of W are read and whole lines of y written. For each value row, 4 count N bytes are written, count N weights are read, and each
// block reads 4 D bytes for s; 3 count N FLOPs.
#include "numbers.cuh"
#include "quads.cuh"

struct TillerUnits
{
    const float* x;       // (values, D) inputs of the norm
    const float* weight;  // (D) g; null for no norm
    const void* w;        // (N, D) in the stored type
    const float* z;       // (values, N)
    const float* bias;    // (N) b; null for none
    float* y;             // (values · count, N)
    int d;
    int outputs;          // N
    int first;
    int count;
    int type;             // 0 float32, 1 half, 2 bfloat16
    float eps;
};

extern "C" __global__ void __launch_bounds__(256) tillerUnits(const TillerUnits p)
{
    __shared__ float scratch[32];
    __shared__ float tile[32 * 33];
    const int lane = int(threadIdx.x) % 32, line = int(threadIdx.x) / 32;
    const int begin = 32 * int(blockIdx.x), n0 = 256 * int(blockIdx.y), i = int(blockIdx.z);
    const int n1 = n0 + 256 < p.outputs ? n0 + 256 : p.outputs;
    tillerWaitForPredecessor();
    tillerReleaseSuccessor();
    const float* x = p.x + (long long)i * p.d;
    float square[1] = {0.0f};
    for (int c = int(threadIdx.x); c < p.d; c += 256) { square[0] = tillerFma(x[c], x[c], square[0]); }
    tillerBlockSums(square, scratch);
    const float s = tillerInverseRms(square[0], p.d, p.eps);
    for (int n = n0; n < n1; n += 32)
    {
        __syncthreads();
        for (int r = line; r < 32; r += 8)
        {
            float v = 0.0f;
            if (n + r < n1 && begin + lane < p.count)
            {
                const long long at = (long long)(n + r) * p.d + p.first + begin + lane;
                v = p.type == 0 ? static_cast<const float*>(p.w)[at]
                  : p.type == 1 ? tillerFromHalf(static_cast<const unsigned short*>(p.w)[at])
                                : tillerLowBf16(static_cast<const unsigned short*>(p.w)[at]);
            }
            tile[33 * r + lane] = v;
        }
        __syncthreads();
        if (n + lane >= n1) { continue; }
        const float z = p.z[(long long)i * p.outputs + n + lane] - (p.bias ? p.bias[n + lane] : 0.0f);
        for (int r = line; r < 32 && begin + r < p.count; r += 8)
        {
            const int c = p.first + begin + r;
            const float own = p.weight ? s * p.weight[c] : 1.0f, common = p.weight ? -s * s * x[c] / float(p.d) : 0.0f;
            p.y[((long long)i * p.count + begin + r) * p.outputs + n + lane] = tillerFma(own, tile[33 * lane + r], common * z);
        }
    }
}
TILLER_KERNEL(tillerUnits)
