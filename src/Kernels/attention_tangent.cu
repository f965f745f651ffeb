// Pushforward of attention at each tangent's own value row (docs/math.md §9):
//   do = M dq + b (q·dk) + P_t dv,   M = Σ_j a P_j c_j (v_j − o) k_j',   b = a P_t c_t (v_t − o)
// In qkv and heads, tangent rows follow the value rows; the value rows of heads have been computed before. For a row with fewer than E/2 tangents,
// keys and values are streamed (attention_stream.cuh has grid, shared memory and FLOPs); with more, M is used (attention_dense.cuh). Both run after
// tillerAttentionScores, and the second also after tillerAttentionJacobian (attention_weights.cu).
//
// local memory: 8 bytes, one word at E = 64, in the final sum over chunks, for 128 registers and four blocks
#include "attention_stream.cuh"
#include "attention_dense.cuh"

// For E up to 64, 128 and 256.
TILLER_STREAM_ATTENTION(tillerPushAttention64, 4, 1, 4, false)
TILLER_KERNEL(tillerPushAttention64)
TILLER_STREAM_ATTENTION(tillerPushAttention128, 3, 2, 4, false)
TILLER_KERNEL(tillerPushAttention128)
TILLER_STREAM_ATTENTION(tillerPushAttention256, 2, 4, 2, false)
TILLER_KERNEL(tillerPushAttention256)

extern "C" __global__ void __launch_bounds__(256, 2) tillerPushAttentionDense(const TillerAttention p) { tillerDenseRows<false>(p); }
TILLER_KERNEL(tillerPushAttentionDense)
