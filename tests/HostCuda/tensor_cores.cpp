// Tensor cores of compute capability 9.0, as experiments with them have shown (arXiv:2511.10909, and earlier PeerJ Computer Science 7:e330). The
// products of 16 depths are exact. They and the sum so far, 17 numbers, are truncated 25 binary places after the first bit of the largest of them and
// added, and the result is truncated to the 24 bits of a float32. Nothing is rounded to nearest, so every 16 depths a sum loses half a unit in the
// last place on average, always towards zero. Here the float32 exponent decides which number is the largest, so a product may be truncated one place
// lower than on a GPU. Subnormal results are rounded to nearest.
#include "tensor_cores.h"
#include "host_device.h"

namespace tillerhost
{
namespace
{
constexpr int places = 25;
constexpr std::uint32_t exponentBits = 0x7f800000;

std::uint32_t bitsOf(float x)
{
    std::uint32_t bits;
    std::memcpy(&bits, &x, sizeof bits);
    return bits;
}
float fromBf16(unsigned bits)
{
    const std::uint32_t wide = bits << 16;
    float x;
    std::memcpy(&x, &wide, sizeof x);
    return x;
}
double powerOfTwo(int exponent)
{
    const auto bits = std::uint64_t(1023 + exponent) << 52;
    double x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}
}

void addOnTensorCores(float (&sums)[tensorCoreLanes], const float (&products)[tensorCoreDepths][tensorCoreLanes])
{
    std::uint32_t largest[tensorCoreLanes];
    for (int j = 0; j < tensorCoreLanes; j++) { largest[j] = bitsOf(sums[j]) & exponentBits; }
    for (int k = 0; k < tensorCoreDepths; k++)
    {
        for (int j = 0; j < tensorCoreLanes; j++)
        {
            const std::uint32_t one = bitsOf(products[k][j]) & exponentBits;
            largest[j] = one > largest[j] ? one : largest[j];
        }
    }
    bool finite = true;
    for (int j = 0; j < tensorCoreLanes; j++) { finite &= largest[j] != exponentBits; }
    if (!finite)
    {
        // Infinities and NaN give what an ordinary sum gives; the other sums are computed one by one.
        for (int j = 0; j < tensorCoreLanes; j++)
        {
            if (largest[j] == exponentBits)
            {
                for (int k = 0; k < tensorCoreDepths; k++) { sums[j] += products[k][j]; }
                continue;
            }
            float alone[tensorCoreLanes] = {sums[j]}, column[tensorCoreDepths][tensorCoreLanes] = {};
            for (int k = 0; k < tensorCoreDepths; k++) { column[k][0] = products[k][j]; }
            addOnTensorCores(alone, column);
            sums[j] = alone[0];
        }
        return;
    }

    // The numbers in units of the last place that is kept: each is below 2^26, and their sum is below 2^31.
    double unit[tensorCoreLanes], inverse[tensorCoreLanes];
    std::int32_t total[tensorCoreLanes];
    for (int j = 0; j < tensorCoreLanes; j++)
    {
        const int biased = largest[j] ? int(largest[j] >> 23) : 1;
        unit[j] = powerOfTwo(biased - 127 - places);
        inverse[j] = powerOfTwo(places + 127 - biased);
        total[j] = std::int32_t(double(sums[j]) * inverse[j]);
    }
    for (int k = 0; k < tensorCoreDepths; k++)
    {
        for (int j = 0; j < tensorCoreLanes; j++) { total[j] += std::int32_t(double(products[k][j]) * inverse[j]); }
    }
    for (int j = 0; j < tensorCoreLanes; j++)
    {
        const std::uint32_t magnitude = total[j] < 0 ? 0u - std::uint32_t(total[j]) : std::uint32_t(total[j]);
        std::uint32_t kept = magnitude; // the first 24 bits
        for (int below = 1; below <= 8; below++) { kept = magnitude >> (23 + below) ? magnitude >> below << below : kept; }
        sums[j] = float((total[j] < 0 ? -double(kept) : double(kept)) * unit[j]);
    }
}

// Lane 4 g + t holds rows g and g + 8 of A at k = 2t, 2t + 1, 2t + 8 and 2t + 9; column g of B at the same k; and rows g and g + 8 of C at columns
// 2t and 2t + 1.
void mma16x8x16(Exchange* const lanes[32], unsigned mask)
{
    if (mask != 0xffffffffu) { fault(719, "mma.sync needs all 32 lanes"); }
    float a[16][16], b[16][8], c[16][8];
    for (unsigned lane = 0; lane < 32; lane++)
    {
        MmaOperands in;
        std::memcpy(&in, lanes[lane]->in, sizeof in);
        const unsigned g = lane / 4, t = lane % 4;
        for (unsigned i = 0; i < 4; i++)
        {
            float* at = &a[g + i % 2 * 8][2 * t + i / 2 * 8];
            at[0] = fromBf16(in.a[i] & 0xffff);
            at[1] = fromBf16(in.a[i] >> 16);
            c[g + i / 2 * 8][2 * t + i % 2] = in.c[i];
        }
        for (unsigned i = 0; i < 2; i++)
        {
            b[2 * t + i * 8][g] = fromBf16(in.b[i] & 0xffff);
            b[2 * t + i * 8 + 1][g] = fromBf16(in.b[i] >> 16);
        }
    }
    for (int row = 0; row < 16; row++)
    {
        float products[tensorCoreDepths][tensorCoreLanes];
        for (int k = 0; k < 16; k++)
        {
            for (int column = 0; column < 8; column++) { products[k][column] = a[row][k] * b[k][column]; }
        }
        addOnTensorCores(c[row], products);
    }
    for (unsigned lane = 0; lane < 32; lane++)
    {
        const unsigned g = lane / 4, t = lane % 4;
        const float out[4] = {c[g][2 * t], c[g][2 * t + 1], c[g + 8][2 * t], c[g + 8][2 * t + 1]};
        std::memcpy(lanes[lane]->out, out, sizeof out);
    }
}
}
