namespace Tiller.Tokens;

/// <summary>A growing array of bytes.</summary>
internal sealed class ByteBuffer
{
    private byte[] _bytes = new byte[64];

    /// <summary>Number of bytes in use; may be reduced.</summary>
    public int Length { get; set; }

    /// <summary>Counts one step before every piece of text; null for a buffer outside a call.</summary>
    public EncodeSteps? Steps { get; init; }

    public ReadOnlySpan<byte> Span => _bytes.AsSpan(0, Length);

    public void Append(byte value)
    {
        if (Length == _bytes.Length)
        {
            Array.Resize(ref _bytes, Length * 2);
        }

        _bytes[Length++] = value;
    }

    public void Append(ReadOnlySpan<byte> values)
    {
        Steps?.Take();
        values.CopyTo(Grow(values.Length));
    }

    /// <summary>Appends text in which every occurrence of a pattern, from the left, is replaced.</summary>
    public void AppendReplaced(ReadOnlySpan<byte> text, ReadOnlySpan<byte> pattern, ReadOnlySpan<byte> content)
    {
        for (int at; (at = text.IndexOf(pattern)) >= 0; text = text[(at + pattern.Length)..])
        {
            Append(text[..at]);
            Append(content);
        }

        Append(text);
    }

    /// <summary>Appends this number of bytes, and returns them to be filled.</summary>
    public Span<byte> Grow(int count)
    {
        if (Length + count > _bytes.Length)
        {
            Array.Resize(ref _bytes, Math.Max(_bytes.Length * 2, Length + count));
        }

        Length += count;
        return _bytes.AsSpan(Length - count, count);
    }

    /// <summary>Removes bytes from the front.</summary>
    public void RemoveFront(int count)
    {
        _bytes.AsSpan(count, Length - count).CopyTo(_bytes);
        Length -= count;
    }
}
