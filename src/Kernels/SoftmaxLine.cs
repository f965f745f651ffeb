using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Tiller.Kernels;

/// <summary>
/// The results of the softmax of one row of logits from which log-probabilities are computed. The layout is <c>TillerSoftmaxLine</c> of softmax.cu.
/// </summary>
[StructLayout(LayoutKind.Sequential)]
internal struct SoftmaxLine
{
    /// <summary>Maximum number of tokens in a line.</summary>
    public const int MaxTokens = 20;

    /// <summary>Σ exp(l − max).</summary>
    public double Sum;

    /// <summary>The largest logit.</summary>
    public float Max;

    /// <summary>The drawn token's logit.</summary>
    public float Drawn;

    /// <summary>The largest logits in falling order, equal ones by rising id: the requested number, or V if that is smaller.</summary>
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

/// <summary>The tokens of a line.</summary>
[InlineArray(SoftmaxLine.MaxTokens)]
internal struct SoftmaxTokens
{
    private SoftmaxToken _first;
}
