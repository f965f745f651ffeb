using System.Diagnostics;
using Tiller.Kernels;
using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Features;

/// <summary>
/// The states x_0..x_L of a prompt's last token in the plain model, and, if kept, the keys and values of all its tokens, so that any block can be run
/// or linearised there again.
/// </summary>
internal sealed class PromptState : IDisposable
{
    private PromptState(int position, float[][] x, KvCache? cache) => (Position, X, Cache) = (position, x, cache);

    /// <summary>Position of the last token.</summary>
    public int Position { get; }

    /// <summary>x_0..x_L // (L+1, D).</summary>
    public float[][] X { get; }

    /// <summary>The KV cache; null if it was not kept.</summary>
    public KvCache? Cache { get; }

    /// <summary>Prompts that were run before and whose states were kept.</summary>
    /// <param name="prompts">Their token ids.</param>
    /// <param name="numbers">Their states as <see cref="Numbers"/> gave them // (n, L+1, D).</param>
    /// <param name="layers">L + 1.</param>
    /// <param name="width">D.</param>
    public static IReadOnlyList<PromptState> Of(ReadOnlySpan<int[]> prompts, float[] numbers, int layers, int width)
    {
        var states = new PromptState[prompts.Length];
        for (int i = 0; i < states.Length; i++)
        {
            float[][] x = new float[layers][];
            for (int k = 0; k < layers; k++)
            {
                x[k] = numbers.AsSpan(((i * layers) + k) * width, width).ToArray();
            }

            states[i] = new PromptState(prompts[i].Length - 1, x, cache: null);
        }

        return states;
    }

    /// <summary>The states of several prompts, to be kept // (n, L+1, D).</summary>
    public static float[] Numbers(IEnumerable<PromptState> states) => [.. states.SelectMany(state => state.X).SelectMany(x => x)];

    /// <summary>Runs the plain model on the token that comes next in a sequence, whose keys and values get its own.</summary>
    /// <param name="model">The plain model.</param>
    /// <param name="cache">Keys and values of the tokens before, with room for another; stays the caller's, who keeps the state undisposed.</param>
    /// <param name="position">Position of the token.</param>
    /// <param name="id">The token.</param>
    /// <param name="blocks">Result: what the token leaves in every block, for pullbacks // (L).</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    public static PromptState Next(
        LanguageModel model, KvCache cache, int position, int id, IReadOnlyList<Activations> blocks, CancellationToken cancellationToken)
    {
        using var use = model.Enter();
        var rows = new RowBatch { Cancellation = cancellationToken };
        rows.Add(id, position, cache);
        float[][] x = [.. Enumerable.Range(0, blocks.Count + 1).Select(_ => new float[model.Config.D])];
        for (int k = 0; k < blocks.Count; k++)
        {
            var a = blocks[k];
            a.Reserve(1);
            if (k == 0)
            {
                model.Embed(rows, a);
                Download(a.X, 0);
            }
            else
            {
                model.Begin(rows, a);
                model.Ops.Copy(blocks[k - 1].Y.Address, a.X.Address, sizeof(float) * model.Config.D);
            }

            model.Forward(k, rows, a);
            cancellationToken.ThrowIfCancellationRequested();
            Download(a.Y, k + 1);
        }

        return new PromptState(position, x, cache);

        void Download(Floats states, int k)
        {
            model.Ops.DownloadRow(states, 0, x[k]);
            int bad = x[k].AsSpan().IndexOfAnyExceptInRange(float.MinValue, float.MaxValue);
            if (bad >= 0)
            {
                throw new NonFiniteStateException(prompt: null, position, k, bad, x[k][bad]);
            }
        }
    }

    /// <summary>Runs every prompt once. Prompts of different lengths share passes without padding, those of a block each (PromptBlocks).</summary>
    /// <param name="model">The plain model.</param>
    /// <param name="prompts">Token ids of each prompt, at least one.</param>
    /// <param name="keepCaches">Whether to keep keys and values: 8 L G E bytes for each token.</param>
    /// <param name="done">Receives the number of prompts that have been run; null for none.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    /// <param name="only">The prompts that are run, from the first of a block on; null for all.</param>
    /// <returns>The states of the prompts that were run.</returns>
    /// <exception cref="ObjectDisposedException">The model has been disposed of, before or between two passes.</exception>
    /// <exception cref="NonFiniteStateException">
    /// A state is NaN or infinite. The error names the prompt, and the first token and layer with such a state.
    /// </exception>
    public static IReadOnlyList<PromptState> Collect(
        LanguageModel model, IReadOnlyList<int[]> prompts, bool keepCaches, IProgress<int>? done, CancellationToken cancellationToken,
        Range? only = null)
    {
        var (begin, count) = (only ?? ..).GetOffsetAndLength(prompts.Count);
        Debug.Assert(begin % PromptBlocks.Size == 0 || count == 0, "whole blocks");
        if (count == 0)
        {
            return [];
        }

        using var use = model.Enter();
        var caches = new KvCache?[prompts.Count];
        var states = new float[prompts.Count][][];
        using var a = model.NewActivations();
        var pass = new PromptPass(model, a);
        var last = new List<(int Row, int Prompt)>();
        try
        {
            for (int i = begin; i < begin + count; i++)
            {
                if (i % PromptBlocks.Size == 0 && pass.Rows.Values > 0)
                {
                    RunPass(i - begin);
                }

                caches[i] = model.NewCache();
                caches[i]!.Reserve(prompts[i].Length, used: 0);
                for (int t = 0; t < prompts[i].Length; t++)
                {
                    if (pass.IsFull)
                    {
                        RunPass(i - begin);
                    }

                    if (t == prompts[i].Length - 1)
                    {
                        last.Add((pass.Rows.Values, i));
                    }

                    pass.Rows.Add(prompts[i][t], t, caches[i]!);
                }
            }

            RunPass(count);
            return
            [
                .. Enumerable.Range(begin, count)
                    .Select(i => new PromptState(prompts[i].Length - 1, states[i], keepCaches ? caches[i] : null)),
            ];
        }
        catch
        {
            foreach (var cache in caches)
            {
                cache?.Dispose();
            }

            throw;
        }

        void RunPass(int current)
        {
            using var passing = model.Enter();
            foreach (var (_, prompt) in last)
            {
                states[prompt] = new float[model.Config.L + 1][];
            }

            pass.Run(Capture, cancellationToken);
            foreach (var (_, prompt) in last)
            {
                if (!keepCaches)
                {
                    caches[prompt]!.Dispose();
                }
            }

            pass.Rows.Clear();
            last.Clear();
            done?.Report(current);
        }

        bool Capture(PromptPass _, int k)
        {
            foreach (var (row, prompt) in last)
            {
                states[prompt][k] = new float[model.Config.D];
                model.Ops.DownloadRow(a.X, row, states[prompt][k]);
                int bad = states[prompt][k].AsSpan().IndexOfAnyExceptInRange(float.MinValue, float.MaxValue);
                if (bad >= 0)
                {
                    // The NaN or infinity may come from an earlier token.
                    throw NonFiniteSearch.RunPrompt(model, prompts[prompt], prompt, cancellationToken)
                        ?? new NonFiniteStateException(prompt, prompts[prompt].Length - 1, k, bad, states[prompt][k][bad]);
                }
            }

            return true;
        }
    }

    public void Dispose() => Cache?.Dispose();
}
