using System.Diagnostics;
using Tiller.Checkpoint;

namespace Tiller.Model;

/// <summary>What RoPE turns the pairs of a head by, in float32 as transformers computes it.</summary>
internal static class RotaryFrequencies
{
    /// <summary>
    /// The tables of a model // (tables, E): a table has E/2 frequencies in radians per position, then E/2 amplitudes. Those of
    /// <see cref="ModelConfig.RotaryTables"/> in their order, where there is LongRoPE for short sequences, and then all of them again for long ones.
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

    // A pair that does not turn has the frequency 0: cos 0 = 1, sin 0 = 0.
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
    /// Wavelengths beyond original/low are divided by the factor, those under original/high are kept, and between the two
    /// s = (original/wavelength − low)/(high − low) mixes them: (1 − s) f/factor + s f.
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
    /// Pair e turns n times within the original context where e = R ln(original / (2π n)) / (2 ln θ). From the pair of β_fast turns to that of
    /// β_slow a ramp goes from 0 to 1, (1 − ramp) f + ramp f/factor.
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
