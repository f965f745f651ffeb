using System.Diagnostics;
using Tiller.Checkpoint;

namespace Tiller.Model;

/// <summary>Frequencies and amplitudes of RoPE, in float32 as transformers computes them.</summary>
internal static class RotaryFrequencies
{
    /// <summary>
    /// The rotary tables of a model // (tables, E). A table has E/2 frequencies in radians per position, then E/2 amplitudes. The tables are in the
    /// order of <see cref="ModelConfig.RotaryTables"/>. With LongRoPE, those for short sequences come first, then all tables again for long
    /// sequences.
    /// </summary>
    public static float[] Compute(ModelConfig c)
    {
        var tables = c.RotaryTables;
        int variants = c.ShortPositions is null ? 1 : 2;
        float[] all = new float[variants * tables.Count * c.E];
        for (int i = 0; i < variants * tables.Count; i++)
        {
            Fill(c, tables[i % tables.Count], isLong: i >= tables.Count, all.AsSpan(i * c.E, c.E / 2), all.AsSpan((i * c.E) + (c.E / 2), c.E / 2));
        }

        return all;
    }

    // A pair that is not rotated has frequency 0: cos 0 = 1, sin 0 = 0.
    private static void Fill(ModelConfig c, Rotary? rotary, bool isLong, Span<float> frequencies, Span<float> amplitudes)
    {
        frequencies.Clear();
        amplitudes.Fill(1);
        if (rotary is null)
        {
            return;
        }

        for (int e = 0; e < c.R / 2; e++)
        {
            // θ^(−2e/R)
            float exponent = 2f * e / c.R;
            float frequency = 1f / (float)Math.Pow(rotary.Theta, exponent);
            frequencies[e] = rotary.Scaling switch
            {
                null => frequency,
                RopeScaling.Linear linear => frequency / (float)linear.Factor,
                RopeScaling.Llama3 llama3 => Rescale(frequency, llama3),
                RopeScaling.Yarn yarn => Rescale(frequency, e, rotary.Theta, c.R, yarn),
                RopeScaling.LongRope longRope =>
                    1f / ((float)(isLong ? longRope.LongFactors : longRope.ShortFactors)[e] * (float)Math.Pow(rotary.Theta, exponent)),
                _ => throw new UnreachableException(rotary.Scaling.GetType().Name),
            };
            amplitudes[e] = rotary.Scaling switch
            {
                RopeScaling.Yarn yarn => (float)yarn.Amplitude,
                RopeScaling.LongRope longRope => (float)longRope.Amplitude,
                _ => 1,
            };
        }
    }

    /// <summary>
    /// Frequencies of wavelengths above original/low are divided by the factor, and those of wavelengths below original/high are kept. In between,
    /// the frequency is (1 − s) f/factor + s f with s = (original/wavelength − low)/(high − low).
    /// </summary>
    private static float Rescale(float frequency, RopeScaling.Llama3 s)
    {
        float wavelength = 2f * MathF.PI / frequency;
        float original = s.OriginalMaxPositions;
        if (wavelength > original / (float)s.LowFrequencyFactor)
        {
            return frequency / (float)s.Factor;
        }

        if (wavelength < original / (float)s.HighFrequencyFactor)
        {
            return frequency;
        }

        float smooth = ((original / wavelength) - (float)s.LowFrequencyFactor) / (float)(s.HighFrequencyFactor - s.LowFrequencyFactor);
        return ((1 - smooth) * frequency / (float)s.Factor) + (smooth * frequency);
    }

    /// <summary>
    /// The pair that turns n times within the original context has index e = R ln(original / (2π n)) / (2 ln θ). A ramp rises from 0 at the pair of
    /// β_fast turns to 1 at the pair of β_slow turns. The frequency is (1 − ramp) f + ramp f/factor.
    /// </summary>
    private static float Rescale(float frequency, int e, double theta, int R, RopeScaling.Yarn s)
    {
        double low = PairOf(s.BetaFast), high = PairOf(s.BetaSlow);
        (low, high) = s.Truncate ? (Math.Floor(low), Math.Ceiling(high)) : (low, high);
        (low, high) = (Math.Max(low, 0), Math.Min(high, R - 1));
        float ramp = Math.Clamp((e - (float)low) / (float)(low == high ? 0.001 : high - low), 0, 1);
        return (frequency / (float)s.Factor * ramp) + (frequency * (1 - ramp));

        double PairOf(double turns) => R * Math.Log(s.OriginalMaxPositions / (turns * 2 * Math.PI)) / (2 * Math.Log(theta));
    }
}
