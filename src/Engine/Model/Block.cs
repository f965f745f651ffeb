using Tiller.Checkpoint;
using Tiller.Ops;

namespace Tiller.Model;

/// <summary>
/// The decoder block of all families. Llama, Mistral, Qwen: r = x + Attn(N1 x), y = r + MLP(N2 r). Gemma-2: r = x + N2 Attn(N1 x), y = r + N4 MLP(N3
/// r). See docs/math.md §9.
/// </summary>
internal static class Block
{
    /// <summary>Computes y = f_k(x) + u_k for value rows.</summary>
    /// <remarks>
    /// For tangent rows this is the pushforward dy = A_k dx (+ du_k). Earlier tokens enter through their cached keys and values, which are constants.
    /// The query, key and value of the tangent's own token all vary.
    /// </remarks>
    /// <param name="ops">The device.</param>
    /// <param name="c">The model's shape.</param>
    /// <param name="k">The block.</param>
    /// <param name="w">Its weights.</param>
    /// <param name="rows">The batch.</param>
    /// <param name="a">From <see cref="Activations.X"/> to <see cref="Activations.Y"/>.</param>
    /// <param name="next">Weights of the next block, if it is run next and nothing comes between; null if that is not known.</param>
    public static void Forward(DeviceOps ops, ModelConfig c, int k, BlockWeights w, RowBatch rows, Activations a, BlockWeights? next = null)
    {
        ops.NormQkv(c, k, w, rows, a);
        ops.Attend(c, k, rows, a);
        ops.ProjectOutput(c, k, w, rows, a);
        ops.NormGateUp(c, k, w, rows, a);
        ops.ProjectDown(c, k, w, rows, a, next);
    }

    /// <summary>
    /// Computes x̄ = A_k' ȳ: takes <see cref="Cotangents.Stream"/> from the block's output to its input, at the values that <see cref="Forward"/>
    /// left in <paramref name="a"/>. This is the derivative of the plain block, without the derivative of a feedback law.
    /// </summary>
    public static void Pullback(DeviceOps ops, ModelConfig c, int k, BlockWeights w, RowBatch rows, Activations a, RowGroups groups, Cotangents y)
    {
        ops.PullDown(c, w, rows, a, groups, y);
        ops.PullGateUp(c, w, rows, a, groups, y);
        ops.PullOutput(c, w, rows, a, groups, y);
        ops.PullAttend(c, k, rows, a, groups, y);
        ops.PullQkv(c, w, rows, a, groups, y);
    }
}
