namespace Tiller.Kernels;

/// <summary>Nonlinearity of the gated feed-forward unit. The values are those of <c>TillerActivation</c> (math.cuh).</summary>
public enum Activation
{
    /// <summary>silu(a) = a σ(a).</summary>
    Silu,

    /// <summary>gelu(a) in its tanh form (<c>gelu_pytorch_tanh</c>): a (1 + tanh(κ (a + 0.044715 a³))) / 2, κ = sqrt(2/π).</summary>
    GeluTanh,
}
