using System.Runtime.InteropServices;
using Tiller.Law;
using Tiller.Ops;

namespace Tiller.Model;

/// <summary>
/// Asks a prompt what a law's conditions want to know, by passes of the plain model up to the last block that is read. The prompt may be read in
/// parts, with other work between them.
/// </summary>
internal sealed class PromptConditions : IDisposable
{
    private readonly LanguageModel _model;
    private readonly FeedbackLaw _law;
    private readonly int _length;
    private readonly KvCache _cache;
    private readonly Dictionary<int, double[]> _sums = []; // of the states of the tokens so far, by layer
    private readonly int _last;
    private float[] _states = [];

    /// <summary>Prepares to read a prompt.</summary>
    /// <param name="model">The model.</param>
    /// <param name="law">A law with conditions.</param>
    /// <param name="length">Number of tokens of the prompt with all tokens before it, at least one.</param>
    public PromptConditions(LanguageModel model, FeedbackLaw law, int length)
    {
        (_model, _law, _length) = (model, law, length);
        foreach (int layer in law.Conditions.SelectMany(condition => condition.Probes, (_, probe) => probe.Layer))
        {
            _sums.TryAdd(layer, new double[model.Config.D]);
        }

        _last = _sums.Keys.Max();
        _cache = model.NewCache();
        try
        {
            _cache.Reserve(length, used: 0);
        }
        catch
        {
            _cache.Dispose();
            throw;
        }
    }

    /// <summary>Number of tokens that have been read.</summary>
    public int Read { get; private set; }

    /// <summary>Number of tokens that are left to be read.</summary>
    public int Left => _length - Read;

    /// <summary>Whether it asks for this law.</summary>
    public bool Of(FeedbackLaw law) => ReferenceEquals(law, _law);

    /// <summary>Size of the keys and values that are needed while a prompt is read, in bytes; 0 for a law without conditions.</summary>
    public static long SizeInBytesFor(LanguageModel model, FeedbackLaw? law, int length) =>
        law is { Conditions.Count: > 0 } ? model.KvBytesFor(length) : 0;

    /// <summary>The law for a prompt that is read at once; the law itself where it has no conditions.</summary>
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

        using var conditions = new PromptConditions(model, law, ids.Length);
        conditions.Continue(pass, ids, ids.Length, cancellationToken);
        return conditions.Decided();
    }

    /// <summary>Reads on.</summary>
    /// <param name="pass">Runs the tokens; what it held is gone.</param>
    /// <param name="ids">The whole prompt.</param>
    /// <param name="count">Number of tokens to be read, at most <see cref="Left"/>.</param>
    /// <param name="cancellationToken">Checked between blocks. A cancelled part cannot be continued.</param>
    public void Continue(PromptPass pass, ReadOnlySpan<int> ids, int count, CancellationToken cancellationToken)
    {
        for (int end = Read + count; Read < end; Read += pass.Rows.Values)
        {
            pass.Fill(ids[..end], Read, position: 0, _cache);
            pass.Run(Add, cancellationToken);
        }
    }

    /// <summary>The law with its conditions decided, after the whole prompt has been read.</summary>
    public FeedbackLaw Decided()
    {
        var means = _sums.ToDictionary(pair => pair.Key, pair => Array.ConvertAll(pair.Value, sum => (float)(sum / _length)));
        return _law.Decide([.. _law.Conditions.Select(condition => condition.IsMet([.. condition.Probes.Select(probe => means[probe.Layer])]))]);
    }

    /// <inheritdoc/>
    public void Dispose() => _cache.Dispose();

    private bool Add(PromptPass current, int k)
    {
        if (_sums.TryGetValue(k, out double[]? sum))
        {
            int rows = current.Rows.Values, count = rows * sum.Length;
            _states = _states.Length < count ? new float[count] : _states;
            _model.Ops.Download(current.A.X.Address, MemoryMarshal.AsBytes(_states.AsSpan(0, count)));
            for (int row = 0; row < rows; row++)
            {
                var state = _states.AsSpan(row * sum.Length, sum.Length);
                for (int i = 0; i < state.Length; i++)
                {
                    sum[i] += state[i];
                }
            }
        }

        return k < _last;
    }
}
