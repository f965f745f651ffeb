using System.Runtime.InteropServices;
using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Features;

/// <summary>
/// Every token of some prompts on its way through the blocks, one block at a time, so that what the next block gets may depend on what all tokens
/// of all prompts were at this one. Takes 4 D bytes a token, and the prompts' keys and values.
/// </summary>
internal sealed class TokenStates : IDisposable
{
    private readonly LanguageModel _model;
    private readonly IReadOnlyList<int[]> _prompts;
    private readonly KvCache[] _caches;
    private readonly float[][] _x; // (prompts) (tokens, D)
    private readonly Activations _a;
    private readonly RowBatch _rows = new();
    private readonly List<(int Prompt, int Token)> _placed = []; // the rows' tokens

    /// <summary>Embeds the prompts.</summary>
    /// <param name="model">The plain model.</param>
    /// <param name="prompts">Token ids, each at least one.</param>
    /// <param name="cancellationToken">Checked between passes.</param>
    public TokenStates(LanguageModel model, IReadOnlyList<int[]> prompts, CancellationToken cancellationToken)
    {
        (_model, _prompts) = (model, prompts);
        _x = [.. prompts.Select(ids => new float[ids.Length * model.Config.D])];
        _caches = [.. prompts.Select(_ => model.NewCache())];
        _a = model.NewActivations();
        try
        {
            for (int i = 0; i < prompts.Count; i++)
            {
                _caches[i].Reserve(prompts[i].Length, used: 0);
            }

            ForPasses(
                () =>
                {
                    _model.Embed(_rows, _a);
                    return _a.X;
                },
                layer: 0,
                cancellationToken);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The next block; its input is what the tokens are now.</summary>
    public int Block { get; private set; }

    /// <summary>The mean over a prompt's tokens, or its last token // (prompts, D).</summary>
    public float[][] Pooled(bool mean)
    {
        int d = _model.Config.D;
        return [.. _x.Select(x => mean ? Mean(x) : x[^d..])];

        float[] Mean(float[] x)
        {
            double[] sum = new double[d];
            for (int i = 0; i < x.Length; i++)
            {
                sum[i % d] += x[i];
            }

            return Array.ConvertAll(sum, total => (float)(total / (x.Length / d)));
        }
    }

    /// <summary>Runs the next block on every token.</summary>
    public void Advance(CancellationToken cancellationToken)
    {
        int d = _model.Config.D;
        float[] input = [];
        ForPasses(
            () =>
            {
                input = input.Length < _rows.Values * d ? new float[_rows.Values * d] : input;
                int at = 0;
                foreach (var (prompt, token) in _placed)
                {
                    _x[prompt].AsSpan(token * d, d).CopyTo(input.AsSpan(at++ * d));
                }

                _model.Ops.Upload(MemoryMarshal.AsBytes(input.AsSpan(0, _rows.Values * d)), _a.X.Address);
                _model.Begin(_rows, _a);
                _model.Forward(Block, _rows, _a);
                return _a.Y;
            },
            Block + 1,
            cancellationToken);
        Block++;
    }

    /// <summary>Changes every token.</summary>
    /// <param name="change">Gets a token's state and may write it // (D).</param>
    public void Change(Action<Memory<float>> change)
    {
        int d = _model.Config.D;
        foreach (float[] x in _x)
        {
            for (int at = 0; at < x.Length; at += d)
            {
                change(x.AsMemory(at, d));
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _a.Dispose();
        foreach (var cache in _caches)
        {
            cache.Dispose();
        }
    }

    // Prompts side by side; the tokens of one in order, so that each finds the keys of those before it. What runs gives x_k of k = layer.
    private void ForPasses(Func<Kernels.Floats> run, int layer, CancellationToken cancellationToken)
    {
        using var use = _model.Enter();
        for (int i = 0; i < _prompts.Count; i++)
        {
            for (int t = 0; t < _prompts[i].Length; t++)
            {
                _rows.Add(_prompts[i][t], t, _caches[i]);
                _placed.Add((i, t));
                if (_rows.Values == _model.Ops.PassRows || (i == _prompts.Count - 1 && t == _prompts[i].Length - 1))
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    _a.Reserve(_rows.Total);
                    _rows.Cancellation = cancellationToken;
                    var result = run();
                    cancellationToken.ThrowIfCancellationRequested();
                    Take(result, layer);
                    _rows.Clear();
                    _placed.Clear();
                }
            }
        }
    }

    private void Take(Kernels.Floats result, int layer)
    {
        int d = _model.Config.D;
        for (int row = 0; row < _placed.Count; row++)
        {
            var (prompt, token) = _placed[row];
            var x = _x[prompt].AsSpan(token * d, d);
            _model.Ops.DownloadRow(result, row, x);
            int bad = x.IndexOfAnyExceptInRange(float.MinValue, float.MaxValue);
            if (bad >= 0)
            {
                throw new NonFiniteStateException(prompt, token, layer, bad, x[bad]);
            }
        }
    }
}
