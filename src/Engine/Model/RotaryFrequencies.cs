using Tiller.Checkpoint;

namespace Tiller.Model;

/// <summary>Angles per position of RoPE, in float32 as transformers computes them.</summary>
internal static class RotaryFrequencies
{
    /// <summary>θ^(−2e/E), rescaled as the checkpoint asks // (E/2), radians per position.</summary>
    public static float[] Compute(ModelConfig c)
    {
        var frequencies = new float[c.E / 2];
        for (int e = 0; e < frequencies.Length; e++)
        {
            float exponent = 2f * e / c.E;
            float frequency = 1f / (float)Math.Pow(c.RopeTheta, exponent);
            frequencies[e] = c.RopeScaling switch
            {
                null => frequency,
                RopeScaling.Linear linear => frequency / (float)linear.Factor,
                RopeScaling.Llama3 llama3 => Rescale(frequency, llama3),
                _ => throw new NotSupportedException($"RoPE scaling {c.RopeScaling.GetType().Name}."),
            };
        }

        return frequencies;
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
}
