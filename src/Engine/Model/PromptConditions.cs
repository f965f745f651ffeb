using System.Runtime.InteropServices;
using Tiller.Law;

namespace Tiller.Model;

/// <summary>Asks a prompt what a law's conditions want to know, by a pass of the plain model up to the last block that is read.</summary>
internal static class PromptConditions
{
    /// <summary>The law for a prompt; the law itself where it has no conditions.</summary>
    /// <param name="model">The model.</param>
    /// <param name="pass">Runs the prompt; what it held is gone.</param>
    /// <param name="law">The law.</param>
    /// <param name="ids">The prompt with all tokens before it, at least one.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    public static FeedbackLaw Decide(
        LanguageModel model, PromptPass pass, FeedbackLaw law, ReadOnlySpan<int> ids, CancellationToken cancellationToken)
    {
        if (law.Conditions.Count == 0)
        {
            return law;
        }

        int d = model.Config.D;
        var sums = new Dictionary<int, double[]>();
        foreach (int layer in law.Conditions.SelectMany(condition => condition.Probes, (_, probe) => probe.Layer))
        {
            sums.TryAdd(layer, new double[d]);
        }

        int last = sums.Keys.Max();
        float[] states = [];
        using var cache = model.NewCache();
        cache.Reserve(ids.Length, used: 0);
        for (int begin = 0; begin < ids.Length; begin += pass.Rows.Values)
        {
            pass.Fill(ids, begin, position: 0, cache);
            pass.Run(
                (current, k) =>
                {
                    if (sums.TryGetValue(k, out double[]? sum))
                    {
                        int count = current.Rows.Values * d;
                        states = states.Length < count ? new float[count] : states;
                        model.Ops.Download(current.A.X.Address, MemoryMarshal.AsBytes(states.AsSpan(0, count)));
                        for (int i = 0; i < count; i++)
                        {
                            sum[i % d] += states[i];
                        }
                    }

                    return k < last;
                },
                cancellationToken);
        }

        int count = ids.Length;
        var means = sums.ToDictionary(pair => pair.Key, pair => Array.ConvertAll(pair.Value, sum => (float)(sum / count)));
        return law.Decide([.. law.Conditions.Select(condition => condition.IsMet([.. condition.Probes.Select(probe => means[probe.Layer])]))]);
    }
}
