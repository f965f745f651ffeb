using System.Runtime.InteropServices;

namespace Tiller.Ops;

/// <summary>
/// On a device, which tokens a sequence's prompt and text have, for the penalties of its draws, and the bias of its logits. The host keeps the same
/// numbers and sends what has changed before a draw: a token or two. They are values and no increments, so that sending them twice does no harm.
/// </summary>
internal sealed class TokenTally : IDisposable
{
    /// <summary>Set in the word of a token of the prompt or the text; the other bits count how often it is in the text.</summary>
    public const int Seen = int.MinValue;

    /// <summary>Most words sent one by one; of more all are.</summary>
    public const int MaxChanges = 16;

    private readonly DeviceOps _ops;
    private readonly DeviceBuffer _memory;
    private readonly int[] _words;
    private readonly float[]? _bias;
    private readonly int[] _changed = new int[MaxChanges];
    private int _changes;
    private int _counted;
    private bool _isWhole = true;

    /// <summary>Makes room for a vocabulary.</summary>
    /// <param name="ops">The device.</param>
    /// <param name="vocabulary">V.</param>
    /// <param name="bias">By id; null for none.</param>
    /// <param name="owner">Whose text it is.</param>
    /// <exception cref="DeviceMemoryException">There is no room.</exception>
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

    /// <summary>Whose text it is.</summary>
    public object Owner { get; }

    /// <summary>Words on the device // (V).</summary>
    public nint Address => _memory.Address;

    /// <summary>Bias on the device // (V); 0 for none.</summary>
    public nint BiasAddress => _bias is null ? 0 : _memory.Address + BiasAt;

    /// <summary>Whether the device has none of it yet, or so much has changed that all is sent.</summary>
    public bool IsWhole => _isWhole;

    /// <summary>All words // (V).</summary>
    public ReadOnlySpan<byte> Words => MemoryMarshal.AsBytes(_words.AsSpan());

    /// <summary>The bias // (V), or nothing.</summary>
    public ReadOnlySpan<byte> Bias => MemoryMarshal.AsBytes(_bias.AsSpan());

    /// <summary>Ids whose words have changed since they were sent, each once: the device writes them in any order.</summary>
    public ReadOnlySpan<int> Changed => _changed.AsSpan(0, _changes);

    private int BiasAt => (4 * _words.Length + 63) / 64 * 64;

    /// <summary>The word of a token.</summary>
    public int this[int id] => _words[id];

    /// <summary>Takes in tokens that have come since.</summary>
    /// <param name="ids">All tokens of the sequence, which only grows.</param>
    /// <param name="prompt">How many of them are the prompt's.</param>
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

    /// <summary>The device has it all.</summary>
    public void HasSent() => (_isWhole, _changes) = (false, 0);

    /// <inheritdoc/>
    public void Dispose()
    {
        _ops.Settle();
        _memory.Dispose();
    }
}
