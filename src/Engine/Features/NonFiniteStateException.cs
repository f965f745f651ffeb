namespace Tiller.Features;

/// <summary>A prompt drove the plain model's residual stream to NaN or an infinity.</summary>
public sealed class NonFiniteStateException : TillerException
{
    internal NonFiniteStateException(int prompt, int layer, int index, float value)
        : base(
            $"Prompt {prompt + 1}: the state {(layer == 0 ? "entering block 0" : $"leaving block {layer - 1}")} is {value} at {index}; it must be finite. " +
            "The checkpoint holds NaN or infinities, or its activations overflow float32: inspect its weights.")
    {
        Prompt = prompt;
        Layer = layer;
    }

    /// <summary>Prompt, counted from 0 in its list.</summary>
    public int Prompt { get; }

    /// <summary>k of the first x_k that is not finite, 0..L.</summary>
    public int Layer { get; }
}
