namespace Tiller.Ops;

/// <summary>How a token is drawn from logits; the filters are those of transformers.</summary>
/// <param name="Temperature">Divides the logits; 0 takes the largest.</param>
/// <param name="TopK">Keeps the K largest logits; 0 keeps all.</param>
/// <param name="TopP">Keeps the most probable tokens that reach this probability; 1 keeps all.</param>
/// <param name="MinP">Keeps tokens at least this many times as probable as the most probable; 0 keeps all.</param>
/// <param name="Random">Where the random sequence is (SplitMix64).</param>
internal readonly record struct DrawSettings(float Temperature, int TopK, float TopP, float MinP, ulong Random)
{
    internal const ulong Gamma = 0x9E3779B97F4A7C15;

    /// <summary>Where the random sequence is once a token has been drawn.</summary>
    public ulong RandomAfter => Temperature > 0 ? unchecked(Random + Gamma) : Random;
}
