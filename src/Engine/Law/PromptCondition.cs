namespace Tiller.Law;

/// <summary>
/// A condition on a prompt, which switches a law for the text that follows (CAST, arXiv:2409.05907). With h the mean over the prompt's tokens of what
/// enters a block, its similarity to a direction c is cos(h, tanh(c (c·h)/(c·c))); the condition is met where the similarity at one of the probes is
/// on the right side of the threshold.
/// </summary>
/// <param name="Probes">Where the similarity is taken, at least once.</param>
/// <param name="Threshold">The threshold, finite.</param>
/// <param name="Above">Whether the similarity must be above it, or below.</param>
public sealed record PromptCondition(IReadOnlyList<ConditionProbe> Probes, double Threshold, bool Above)
{
    /// <summary>Whether a prompt meets it.</summary>
    /// <param name="mean">h at the input of each probe's block, in the probes' order // (probes, D).</param>
    public bool IsMet(IReadOnlyList<float[]> mean)
    {
        for (int i = 0; i < Probes.Count; i++)
        {
            double similarity = Similarity(Probes[i].Direction, mean[i]);
            if (Above ? similarity > Threshold : similarity < Threshold)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>cos(h, tanh(c (c·h)/(c·c))); 0 where one of the two is 0.</summary>
    /// <param name="direction">c // (D).</param>
    /// <param name="mean">h // (D).</param>
    public static double Similarity(ReadOnlySpan<float> direction, ReadOnlySpan<float> mean)
    {
        double along = 0, length = 0;
        for (int i = 0; i < mean.Length; i++)
        {
            along += (double)direction[i] * mean[i];
            length += (double)direction[i] * direction[i];
        }

        double dot = 0, bent = 0, square = 0;
        for (int i = 0; i < mean.Length; i++)
        {
            double projected = length > 0 ? Math.Tanh(direction[i] * (along / length)) : 0;
            dot += projected * mean[i];
            bent += projected * projected;
            square += (double)mean[i] * mean[i];
        }

        return bent > 0 && square > 0 ? dot / Math.Sqrt(bent * square) : 0;
    }

    /// <summary>Throws where a probe is not of the model, or a number is not finite.</summary>
    internal void Check(int layers, int width)
    {
        if (Probes.Count == 0 || !double.IsFinite(Threshold)
            || Probes.Any(probe => (uint)probe.Layer >= (uint)layers || probe.Direction.Length != width
                || probe.Direction.AsSpan().ContainsAnyExceptInRange(float.MinValue, float.MaxValue)))
        {
            throw new ArgumentException(
                $"A condition on the prompt reads one or more of the blocks 0-{layers - 1}, each along {width} finite numbers, against a finite "
                + "threshold.");
        }
    }
}

/// <summary>One place where a condition reads a prompt.</summary>
/// <param name="Layer">Block k whose input is read.</param>
/// <param name="Direction">c // (D).</param>
public sealed record ConditionProbe(int Layer, float[] Direction);
