using Tiller.Ops;

namespace Tiller.Model;

/// <summary>
/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) as a counter: draw n of seed s is mix(s + (n+1)·γ). A seed and a position determine the sequence, and
/// integer arithmetic makes it the same on every machine.
/// </summary>
internal struct CounterRandom(ulong seed)
{
    // Number of possible random seeds: JSON readers that store numbers as float64 keep integers below 2^53 exactly.
    private const long Seeds = 1L << 53;

    private ulong _state = seed;

    /// <summary>A new random seed below 2^53.</summary>
    public static ulong NewSeed() => (ulong)Random.Shared.NextInt64(Seeds);

    /// <summary>The position in the sequence. A new generator with this seed continues from here.</summary>
    public readonly ulong State => _state;

    public ulong NextBits()
    {
        unchecked
        {
            ulong z = _state += DrawSettings.Gamma;
            z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
            z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
            return z ^ (z >> 31);
        }
    }

    // Uniform in [0, 1) on a grid of 2^-53.
    public double NextUnit() => (NextBits() >> 11) * (1.0 / (1ul << 53));
}
