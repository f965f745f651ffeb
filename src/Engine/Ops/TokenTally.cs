using System.Runtime.InteropServices;

namespace Tiller.Ops;

/// <summary>
/// The counts of a sequence's tokens on a device, for the penalties of its draws, and the bias of its logits. The host keeps the same numbers and
/// sends the changed ones before a draw, usually one or two. It sends values, not increments, so sending them twice does no harm.
/// </summary>
internal sealed class TokenTally : IDisposable
{
    /// <summary>Bit that is set in the word of a token that is in the prompt or the text. The other bits count its occurrences in the text.</summary>
    public const int Seen = int.MinValue;

    /// <summary>Maximum number of changed words that are sent one by one. If more have changed, all words are sent.</summary>
    public const int MaxChanges = 16;

    private readonly DeviceOps _ops;
    private readonly DeviceBuffer _memory;
    private readonly int[] _words;
    private readonly float[]? _bias;
    private readonly int[] _changed = new int[MaxChanges];
    private int _changes;
    private int _counted;
    private bool _isWhole = true;

    /// <summary>Allocates the words for a vocabulary.</summary>
    /// <param name="ops">The device.</param>
    /// <param name="vocabulary">V.</param>
    /// <param name="bias">Bias by token id; null for none.</param>
    /// <param name="owner">The sampler whose text is counted.</param>
    /// <exception cref="DeviceMemoryException">There is not enough memory.</exception>
    public TokenTally(DeviceOps ops, int vocabulary, IReadOnlyDictionary<int, float>? bias, object owner)
    {
        (_ops, Owner, _words) = (ops, owner, new int[vocabulary]);
        if (bias is not null)
        {
            _bias = new float[vocabulary];
            foreach (var (id, value) in bias)
            {
                _bias[id] = value;
            }
        }

        _memory = ops.Allocate(BiasAt + (bias is null ? 0 : 4L * vocabulary));
    }

    /// <summary>The sampler whose text is counted.</summary>
    public object Owner { get; }

    /// <summary>Address of the words on the device // (V).</summary>
    public nint Address => _memory.Address;

    /// <summary>Address of the bias on the device // (V); 0 for none.</summary>
    public nint BiasAddress => _bias is null ? 0 : _memory.Address + BiasAt;

    /// <summary>Whether all words must be sent: the device has none yet, or too many have changed.</summary>
    public bool IsWhole => _isWhole;

    /// <summary>All words // (V).</summary>
    public ReadOnlySpan<byte> Words => MemoryMarshal.AsBytes(_words.AsSpan());

    /// <summary>The bias // (V), or empty.</summary>
    public ReadOnlySpan<byte> Bias => MemoryMarshal.AsBytes(_bias.AsSpan());

    /// <summary>Ids whose words have changed since they were sent. Each appears once, because the device writes them in any order.</summary>
    public ReadOnlySpan<int> Changed => _changed.AsSpan(0, _changes);

    private int BiasAt => (4 * _words.Length + 63) / 64 * 64;

    /// <summary>The word of a token.</summary>
    public int this[int id] => _words[id];

    /// <summary>Counts the tokens that were added since the last call.</summary>
    /// <param name="ids">All tokens of the sequence. A sequence only grows.</param>
    /// <param name="prompt">Number of tokens that belong to the prompt.</param>
    public void Count(ReadOnlySpan<int> ids, int prompt)
    {
        for (; _counted < ids.Length; _counted++)
        {
            int id = ids[_counted];
            _words[id] = (_words[id] | Seen) + (_counted < prompt ? 0 : 1);
            if (_isWhole || Changed.Contains(id))
            {
                continue;
            }

            _isWhole = _changes == MaxChanges;
            if (!_isWhole)
            {
                _changed[_changes++] = id;
            }
        }
    }

    /// <summary>Notes that the device has all words.</summary>
    public void HasSent() => (_isWhole, _changes) = (false, 0);

    /// <inheritdoc/>
    public void Dispose()
    {
        _ops.Settle();
        _memory.Dispose();
    }
}
