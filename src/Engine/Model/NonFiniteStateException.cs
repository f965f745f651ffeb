namespace Tiller.Model;

/// <summary>The residual stream of a token became NaN or infinite. The message names the first such place.</summary>
public sealed class NonFiniteStateException : TillerException
{
    internal NonFiniteStateException(int? prompt, int position, int layer, int index, float value, Exception? cause = null)
        : base(
            $"{(prompt is { } i ? $"Prompt {i + 1}, token" : "Token")} {position + 1}: "
            + $"the state {(layer == 0 ? "entering block 0" : $"leaving block {layer - 1}")} is {value} "
            + $"at {index}; it must be finite. The checkpoint holds NaN or infinities (NonFiniteValues.Count counts them), or the state overflows "
            + "float32: if it is steered, lower λ or bound the effort.",
            cause)
    {
        Prompt = prompt;
        Position = position;
        Layer = layer;
    }

    /// <summary>Index of the prompt in its list, counted from 0; null if there is only one sequence.</summary>
    public int? Prompt { get; }

    /// <summary>Position of the token in its sequence, counted from 0.</summary>
    public int Position { get; }

    /// <summary>k of the first x_k that is not finite, 0..L. Block k − 1 computed it, or the embedding if k is 0.</summary>
    public int Layer { get; }
}
