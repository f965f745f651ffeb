using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Model;

/// <summary>What a prompt looks like at every depth of the plain model: the numbers that goldens hold.</summary>
/// <param name="States">What enters each block, and what leaves the last one // (L+1, N, D).</param>
/// <param name="Logits">After every token // (N, V).</param>
internal sealed record Probe(double[] States, double[] Logits)
{
    /// <summary>Runs <paramref name="ids"/> in one pass and keeps everything.</summary>
    public static Probe Run(LanguageModel model, ReadOnlySpan<int> ids, CancellationToken cancellationToken)
    {
        var c = model.Config;
        using var use = model.Enter();
        using var cache = model.NewCache();
        using var a = model.NewActivations();
        cache.Reserve(ids.Length, used: 0);
        var rows = new RowBatch();
        for (int t = 0; t < ids.Length; t++)
        {
            rows.Add(ids[t], t, cache);
        }

        a.Reserve(ids.Length);
        var states = new List<double>();
        model.Embed(rows, a);
        Keep(a.X);
        for (int k = 0; k < c.L; k++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            model.Forward(k, rows, a);
            a.Advance();
            Keep(a.X);
        }

        using var memory = model.Ops.Allocate(4L * ids.Length * c.V);
        var logits = new Floats(memory.Address, ids.Length, c.V);
        model.Head(a, 0, ids.Length, logits);
        var all = new List<double>();
        var row = new float[c.V];
        for (int t = 0; t < ids.Length; t++)
        {
            model.Ops.DownloadRow(logits, t, row);
            all.AddRange(row.Select(x => (double)x));
        }

        return new Probe([.. states], [.. all]);

        void Keep(Floats x)
        {
            var line = new float[c.D];
            for (int t = 0; t < rows.Values; t++)
            {
                model.Ops.DownloadRow(x, t, line);
                states.AddRange(line.Select(value => (double)value));
            }
        }
    }
}
