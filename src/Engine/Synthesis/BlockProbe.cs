using System.Runtime.InteropServices;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Synthesis;

/// <summary>
/// Runs one block of the plain model at a prompt's last token from any state x: f_k(x). The keys and values of earlier tokens are those in the cache.
/// </summary>
/// <param name="model">The plain model.</param>
/// <param name="prompt">A prompt that was run with its cache kept. The caller owns it.</param>
internal sealed class BlockProbe(LanguageModel model, PromptState prompt) : IDisposable
{
    private readonly Activations _a = model.NewActivations();
    private readonly RowBatch _rows = new();

    /// <summary>Computes f_k(x) // (D).</summary>
    public float[] Run(int k, ReadOnlySpan<float> x, CancellationToken cancellationToken)
    {
        using var use = model.Enter();
        _rows.Clear();
        _rows.Add(0, prompt.Position, prompt.Cache!);
        _rows.Cancellation = cancellationToken;
        _a.Reserve(_rows.Total);
        model.Ops.Upload(MemoryMarshal.AsBytes(x), _a.X.Address);
        model.Begin(_rows, _a);
        model.Forward(k, _rows, _a);
        cancellationToken.ThrowIfCancellationRequested();
        float[] y = new float[x.Length];
        model.Ops.DownloadRow(_a.Y, 0, y);
        return y;
    }

    /// <summary>Runs a prompt under a law, and returns the states x_0..x_L of its last token // (L+1, D).</summary>
    /// <param name="model">The plain model.</param>
    /// <param name="ids">Token ids of the prompt.</param>
    /// <param name="law">The law.</param>
    /// <param name="tokens">The tokens that it steers.</param>
    /// <param name="betweenPasses">Called between two passes over the prompt; null for nothing.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    public static float[][] Steered(
        LanguageModel model, ReadOnlySpan<int> ids, FeedbackLaw law, SteeredTokens tokens, Action? betweenPasses,
        CancellationToken cancellationToken)
    {
        using var use = model.Enter();
        using var cache = model.NewCache();
        using var a = model.NewActivations();
        var pass = new PromptPass(model, a);
        using var state = model.NewSteering(PromptConditions.Decide(model, pass, law, ids, cancellationToken));
        cache.Reserve(ids.Length, used: 0);
        var sequence = new SteeredSequence(state, tokens, ids.Length - 1);
        float[][] x = [.. Enumerable.Range(0, model.Config.L + 1).Select(_ => new float[model.Config.D])];
        for (int begin = 0; begin < ids.Length; begin += pass.Rows.Values)
        {
            if (begin > 0)
            {
                betweenPasses?.Invoke();
            }

            pass.Fill(ids, begin, position: 0, cache, sequence);
            pass.Run(
                (current, k) =>
                {
                    model.Ops.DownloadRow(a.X, current.Rows.Values - 1, x[k]);
                    return true;
                },
                cancellationToken);
        }

        return x;
    }

    /// <inheritdoc/>
    public void Dispose() => _a.Dispose();
}
