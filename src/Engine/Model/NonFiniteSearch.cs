namespace Tiller.Model;

/// <summary>
/// Finds the first state of a pass that is not finite, by running the pass again and reading the residual stream before and after every block.
/// </summary>
internal static class NonFiniteSearch
{
    /// <summary>Runs a pass and reports the first state that is not finite: the first row of the lowest such layer.</summary>
    /// <param name="model">The model.</param>
    /// <param name="pass">The pass, which may be steered.</param>
    /// <param name="prompt">Index of the prompt in its list, for the message; null if there is only one sequence.</param>
    /// <param name="cause">The inner exception of the result.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    /// <returns>Null if every state is finite.</returns>
    public static NonFiniteStateException? Run(LanguageModel model, PromptPass pass, int? prompt, Exception? cause,
        CancellationToken cancellationToken)
    {
        float[] x = new float[model.Config.D];
        NonFiniteStateException? found = null;
        pass.Run(Look, cancellationToken);
        return found;

        bool Look(PromptPass _, int k)
        {
            for (int row = 0; row < pass.Rows.Values && found is null; row++)
            {
                model.Ops.DownloadRow(pass.A.X, row, x);
                int bad = x.AsSpan().IndexOfAnyExceptInRange(float.MinValue, float.MaxValue);
                found = bad >= 0 ? new NonFiniteStateException(prompt, pass.Rows[row].Position, k, bad, x[bad], cause) : null;
            }

            return found is null;
        }
    }

    /// <summary>Runs a whole prompt through the plain model, with the same search as <see cref="Run"/>.</summary>
    /// <param name="model">The plain model.</param>
    /// <param name="ids">The prompt.</param>
    /// <param name="prompt">Index of the prompt in its list, for the message; null if there is only one sequence.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    public static NonFiniteStateException? RunPrompt(LanguageModel model, ReadOnlySpan<int> ids, int? prompt, CancellationToken cancellationToken)
    {
        using var cache = model.NewCache();
        using var a = model.NewActivations();
        var pass = new PromptPass(model, a);
        cache.Reserve(ids.Length, used: 0);
        for (int begin = 0; begin < ids.Length; begin += pass.Rows.Values)
        {
            pass.Fill(ids, begin, position: 0, cache);
            if (Run(model, pass, prompt, cause: null, cancellationToken) is { } found)
            {
                return found;
            }
        }

        return null;
    }
}
