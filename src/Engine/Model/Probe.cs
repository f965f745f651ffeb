using Tiller.Kernels;

namespace Tiller.Model;

/// <summary>The states of a prompt at every depth of the plain model, and its logits: the numbers that golden values hold.</summary>
/// <param name="States">Input of each block, and output of the last one // (L+1, N, D).</param>
/// <param name="Logits">Logits after every token // (N, V).</param>
internal sealed record Probe(double[] States, double[] Logits)
{
    /// <summary>Runs <paramref name="ids"/> in one pass and keeps all states and logits.</summary>
    public static Probe Run(LanguageModel model, ReadOnlySpan<int> ids, CancellationToken cancellationToken)
    {
        var c = model.Config;
        using var use = model.Enter();
        using var cache = model.NewCache();
        using var a = model.NewActivations();
        cache.Reserve(ids.Length, used: 0);
        var pass = new PromptPass(model, a, maxRows: ids.Length);
        pass.Fill(ids, begin: 0, position: 0, cache);
        var states = new List<double>();
        pass.Run(
            (_, _) =>
            {
                Keep(a.X.Slice(0, pass.Rows.Values), states);
                return true;
            },
            cancellationToken);
        using var memory = model.Ops.Allocate(4L * ids.Length * c.V);
        var logits = new Floats(memory.Address, ids.Length, c.V);
        model.Head(a, 0, ids.Length, logits);
        var all = new List<double>();
        Keep(logits, all);
        return new Probe([.. states], [.. all]);

        void Keep(Floats rows, List<double> numbers)
        {
            var line = new float[rows.Columns];
            for (int t = 0; t < rows.Rows; t++)
            {
                model.Ops.DownloadRow(rows, t, line);
                numbers.AddRange(line.Select(value => (double)value));
            }
        }
    }
}
