using Tiller.Ops;

namespace Tiller.Model;

/// <summary>Finds where a pass leaves the finite numbers, by running it again and reading the stream after every block.</summary>
internal static class NonFiniteSearch
{
    // As many rows as a session takes in one pass.
    private const int RowsPerPass = 256;

    /// <summary>Runs a batch and names the first state that is not finite: the lowest layer, and of its rows the first.</summary>
    /// <param name="model">The model.</param>
    /// <param name="rows">The batch, which may be steered.</param>
    /// <param name="a">Scratch with room for it.</param>
    /// <param name="prompt">Told in the error.</param>
    /// <param name="cause">Inner exception of the error.</param>
    /// <param name="cancellationToken">Looked at between blocks.</param>
    /// <returns>Null if every state is finite.</returns>
    public static NonFiniteStateException? Run(
        LanguageModel model, RowBatch rows, Activations a, int? prompt, Exception? cause, CancellationToken cancellationToken)
    {
        float[] x = new float[model.Config.D];
        rows.Cancellation = cancellationToken;
        model.Embed(rows, a);
        for (int k = 0; ; k++)
        {
            for (int row = 0; row < rows.Values; row++)
            {
                model.Ops.DownloadRow(a.X, row, x);
                int bad = x.AsSpan().IndexOfAnyExceptInRange(float.MinValue, float.MaxValue);
                if (bad >= 0)
                {
                    return new NonFiniteStateException(prompt, rows[row].Position, k, bad, x[bad], cause);
                }
            }

            if (k == model.Config.L)
            {
                return null;
            }

            model.Forward(k, rows, a);
            cancellationToken.ThrowIfCancellationRequested();
            a.Advance();
        }
    }

    /// <summary>Runs a whole prompt through the plain model, as <see cref="Run"/>.</summary>
    /// <param name="model">The plain model.</param>
    /// <param name="ids">The prompt.</param>
    /// <param name="prompt">Told in the error.</param>
    /// <param name="cancellationToken">Looked at between blocks.</param>
    public static NonFiniteStateException? RunPrompt(LanguageModel model, ReadOnlySpan<int> ids, int? prompt, CancellationToken cancellationToken)
    {
        using var cache = model.NewCache();
        using var a = model.NewActivations();
        var rows = new RowBatch();
        cache.Reserve(ids.Length, used: 0);
        for (int begin = 0; begin < ids.Length; begin += RowsPerPass)
        {
            rows.Clear();
            for (int t = begin; t < Math.Min(begin + RowsPerPass, ids.Length); t++)
            {
                rows.Add(ids[t], t, cache);
            }

            a.Reserve(rows.Values);
            if (Run(model, rows, a, prompt, cause: null, cancellationToken) is { } found)
            {
                return found;
            }
        }

        return null;
    }
}
