using Tiller.Law;
using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Scheduling;

/// <summary>How a prompt is steered: prompts whose keys may be taken for each other's have equal ones.</summary>
/// <param name="law">Null for the plain model.</param>
/// <param name="tokens">Which tokens it moves.</param>
internal sealed class SteeringKey(FeedbackLaw? law, SteeredTokens tokens) : IEquatable<SteeringKey>
{
    /// <summary>
    /// Whether keys and values say all of a prompt's beginning: a law that looks back and moves every token remembers more.
    /// </summary>
    public bool CanBeKept => law is not { LooksBack: true } || tokens.Prompt != PromptTokens.All;

    /// <inheritdoc/>
    public bool Equals(SteeringKey? other) => other is not null && tokens == other.Tokens && IsSame(law, other.Law);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => Equals(obj as SteeringKey);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(tokens, law?.Sensors.Count, law?.Terms.Count);

    private FeedbackLaw? Law => law;

    private SteeredTokens Tokens => tokens;

    // One controller at one λ compiles to records of the same arrays and equal numbers.
    private static bool IsSame(FeedbackLaw? one, FeedbackLaw? other) => ReferenceEquals(one, other) || (one is not null && other is not null
        && one.Layers == other.Layers && one.Width == other.Width && one.MaxEffort.Equals(other.MaxEffort)
        && one.Sensors.SequenceEqual(other.Sensors) && one.Planes.SequenceEqual(other.Planes)
        && one.Terms.Count == other.Terms.Count && one.Terms.Zip(other.Terms, IsSame).All(same => same));

    private static bool IsSame(Term one, Term other) =>
        one with { Feeds = [] } == other with { Feeds = [] } && one.Feeds.SequenceEqual(other.Feeds);
}

/// <summary>Keys and values of prompts' beginnings, to be taken over by prompts that begin alike; those not used for longest go first.</summary>
/// <param name="model">The model.</param>
/// <param name="chunk">Beginnings are multiples of it.</param>
internal sealed class PrefixStore(LanguageModel model, int chunk) : IDisposable
{
    private readonly List<Kept> _kept = []; // least lately used first

    /// <summary>Bytes held.</summary>
    public long SizeInBytes { get; private set; }

    /// <summary>The beginning of a prompt that there is most of; it goes last where all cannot stay.</summary>
    /// <param name="prompt">Ids; its last token is always run.</param>
    /// <param name="steering">How it is steered.</param>
    /// <param name="budget">Bytes that may be held.</param>
    /// <param name="length">How many tokens.</param>
    /// <returns>Their keys and values, valid until the next call that frees; null if there are none.</returns>
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

    /// <summary>Keeps the beginning of a prompt that has been run, if there is room.</summary>
    /// <param name="prompt">Ids.</param>
    /// <param name="steering">How it was steered.</param>
    /// <param name="cache">Its keys and values.</param>
    /// <param name="budget">Bytes that may be held; prompts not used for longest make room.</param>
    public void Keep(ReadOnlySpan<int> prompt, SteeringKey steering, KvCache cache, long budget)
    {
        int length = Multiple(prompt.Length - 1);
        long sizeInBytes = KvCache.SizeInBytesFor(model.Config, length);
        if (length == 0 || !steering.CanBeKept || cache.TurnsOtherwise(length) || sizeInBytes > budget)
        {
            return; // keys turned as those of a long prompt are none of a short beginning
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
                return; // it holds this one
            }

            if (common == kept.Ids.Length)
            {
                Free(i); // this one holds it
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
            // The prompt is run again when it comes again.
        }
    }

    /// <summary>Frees what was not used for longest until no more than so many bytes are held.</summary>
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
