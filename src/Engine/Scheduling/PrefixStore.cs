using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Scheduling;

/// <summary>How a prompt is steered. Two prompts with equal keys may share keys and values.</summary>
/// <param name="law">Null for the plain model.</param>
/// <param name="tokens">Which tokens the law moves.</param>
internal sealed class SteeringKey(FeedbackLaw? law, SteeredTokens tokens) : IEquatable<SteeringKey>
{
    /// <summary>Whether keys and values are the whole state of a prompt's beginning.</summary>
    public bool CanBeKept => Session.CanHandOver(law, tokens);

    /// <inheritdoc/>
    public bool Equals(SteeringKey? other) => other is not null && tokens == other.Tokens && IsSame(law, other.Law);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => Equals(obj as SteeringKey);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(tokens, law?.Sensors.Count, law?.Terms.Count, law?.Edits.Count);

    private FeedbackLaw? Law => law;

    private SteeredTokens Tokens => tokens;

    // One controller at one λ always compiles to records with the same arrays and equal numbers.
    private static bool IsSame(FeedbackLaw? one, FeedbackLaw? other) => ReferenceEquals(one, other) || (one is not null && other is not null
        && one.Layers == other.Layers && one.Width == other.Width && one.MaxEffort.Equals(other.MaxEffort)
        && one.Sensors.SequenceEqual(other.Sensors) && one.Planes.SequenceEqual(other.Planes)
        && one.Edits.SequenceEqual(other.Edits) && one.Conditions.SequenceEqual(other.Conditions)
        && one.Terms.Count == other.Terms.Count && one.Terms.Zip(other.Terms, IsSame).All(same => same));

    private static bool IsSame(Term one, Term other) =>
        one with { Feeds = [] } == other with { Feeds = [] } && one.Feeds.SequenceEqual(other.Feeds);
}

/// <summary>
/// Keeps the keys and values of prompt prefixes for prompts that begin with the same tokens. The least recently used prefix is freed first.
/// </summary>
/// <param name="model">The model.</param>
/// <param name="chunk">Lengths of kept prefixes are multiples of this number of tokens.</param>
internal sealed class PrefixStore(LanguageModel model, int chunk) : IDisposable
{
    private readonly List<Kept> _kept = []; // least recently used first

    /// <summary>Size of all kept prefixes in bytes.</summary>
    public long SizeInBytes { get; private set; }

    /// <summary>Finds the longest kept prefix of a prompt, and marks it as the most recently used.</summary>
    /// <param name="prompt">Token ids. The last token is never taken from a prefix.</param>
    /// <param name="steering">How the prompt is steered.</param>
    /// <param name="budget">Number of bytes that all prefixes may take.</param>
    /// <param name="length">Length of the prefix in tokens.</param>
    /// <returns>The prefix's keys and values, valid until the next call that frees; null if there is none.</returns>
    public KvCache? Find(ReadOnlySpan<int> prompt, SteeringKey steering, long budget, out int length)
    {
        Kept? best = null;
        length = 0;
        foreach (var kept in _kept)
        {
            int common = kept.Steering.Equals(steering) && !kept.Cache.TurnsOtherwise(prompt.Length)
                ? Multiple(prompt[..^1].CommonPrefixLength(kept.Ids))
                : 0;
            if (common > length)
            {
                (best, length) = (kept, common);
            }
        }

        if (best is not null)
        {
            Touch(best);
        }

        MakeRoom(budget);
        if (best is null || !_kept.Contains(best))
        {
            length = 0;
            return null;
        }

        return best.Cache;
    }

    /// <summary>Keeps the prefix of a prompt that has been run, if there is room.</summary>
    /// <param name="prompt">Token ids.</param>
    /// <param name="steering">How the prompt was steered.</param>
    /// <param name="cache">KV cache of the prompt.</param>
    /// <param name="budget">Number of bytes that all prefixes may take. The least recently used ones are freed to make room.</param>
    public void Keep(ReadOnlySpan<int> prompt, SteeringKey steering, KvCache cache, long budget)
    {
        int length = Multiple(prompt.Length - 1);
        long sizeInBytes = model.KvBytesFor(length);
        if (length == 0 || !steering.CanBeKept || cache.TurnsOtherwise(length) || sizeInBytes > budget)
        {
            return; // keys with the rotation of a long prompt are not valid for a short prefix
        }

        var ids = prompt[..length];
        for (int i = _kept.Count - 1; i >= 0; i--)
        {
            var kept = _kept[i];
            if (!kept.Steering.Equals(steering))
            {
                continue;
            }

            int common = ids.CommonPrefixLength(kept.Ids);
            if (common == length)
            {
                Touch(kept);
                return; // the kept prefix contains this one
            }

            if (common == kept.Ids.Length)
            {
                Free(i); // this prefix contains the kept one
            }
        }

        MakeRoom(budget - sizeInBytes);
        try
        {
            var own = model.NewCache();
            own.Reserve(length, used: 0);
            own.CopyFrom(cache, length);
            _kept.Add(new Kept(ids.ToArray(), steering, own, sizeInBytes));
            SizeInBytes += sizeInBytes;
        }
        catch (DeviceMemoryException)
        {
            // Without a kept prefix, such a prompt will be run in full.
        }
    }

    /// <summary>Frees the least recently used prefixes until all take at most <paramref name="budget"/> bytes.</summary>
    public void MakeRoom(long budget)
    {
        while (SizeInBytes > budget && _kept.Count > 0)
        {
            Free(0);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => MakeRoom(-1);

    private int Multiple(int length) => length / chunk * chunk;

    private void Touch(Kept kept)
    {
        _kept.Remove(kept);
        _kept.Add(kept);
    }

    private void Free(int i)
    {
        var kept = _kept[i];
        _kept.RemoveAt(i);
        SizeInBytes -= kept.SizeInBytes;
        kept.Cache.Dispose();
    }

    private sealed record Kept(int[] Ids, SteeringKey Steering, KvCache Cache, long SizeInBytes);
}
