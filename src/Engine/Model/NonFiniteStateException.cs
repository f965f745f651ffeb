namespace Tiller.Model;

/// <summary>A token drove the residual stream to NaN or an infinity. Says where that is first seen.</summary>
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

    /// <summary>Prompt, counted from 0 in its list; null where there is only one sequence.</summary>
    public int? Prompt { get; }

    /// <summary>Position of the token in its sequence, counted from 0.</summary>
    public int Position { get; }

    /// <summary>k of the first x_k that is not finite, 0..L; block k − 1 made it, or for 0 the embedding.</summary>
    public int Layer { get; }
}
