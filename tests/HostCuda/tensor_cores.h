// Sums of products of bf16 numbers as tensor cores round them.
#pragma once

namespace tillerhost
{
constexpr int tensorCoreDepths = 16; // the number of products that are added at once
constexpr int tensorCoreLanes = 8;   // the number of sums that are computed side by side

// sums[j] += Σ_k products[k][j]
void addOnTensorCores(float (&sums)[tensorCoreLanes], const float (&products)[tensorCoreDepths][tensorCoreLanes]);
}
