using Tiller.Ops;

namespace Tiller.Model;

/// <summary>
/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) as a counter: draw n of seed s is mix(s + (n+1)·γ), so a sequence is its seed and its
/// position, and integer arithmetic makes it the same on every machine.
/// </summary>
internal struct CounterRandom(ulong seed)
{
    // Whole numbers that JSON's readers, which keep them as float64, take over exactly.
    private const long Seeds = 1L << 53;

    private ulong _state = seed;

    /// <summary>A seed that nobody chose.</summary>
    public static ulong NewSeed() => (ulong)Random.Shared.NextInt64(Seeds);

    /// <summary>Where the sequence is; a new one with this seed goes on from here.</summary>
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
