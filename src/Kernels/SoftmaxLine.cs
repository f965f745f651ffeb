using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Tiller.Kernels;

/// <summary>
/// Of the softmax of one row of logits what log-probabilities need, as the kernels write it: <c>TillerSoftmaxLine</c> of softmax.cu.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
internal struct SoftmaxLine
{
    /// <summary>Most tokens of a line.</summary>
    public const int MaxTokens = 20;

    /// <summary>Σ exp(l − max).</summary>
    public double Sum;

    /// <summary>The largest logit.</summary>
    public float Max;

    /// <summary>The drawn token's logit.</summary>
    public float Drawn;

    /// <summary>The largest logits, falling, then by rising id; as many as were asked for, or V if that is less.</summary>
    public SoftmaxTokens Top;
}

/// <summary>A token and its logit.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct SoftmaxToken
{
    /// <summary>The token.</summary>
    public int Id;

    /// <summary>Its logit.</summary>
    public float Logit;
}

/// <summary>As many tokens as a line has.</summary>
[InlineArray(SoftmaxLine.MaxTokens)]
internal struct SoftmaxTokens
{
    private SoftmaxToken _first;
}
