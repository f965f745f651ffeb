namespace Tiller.Tokens;

/// <summary>A growing array of bytes.</summary>
internal sealed class ByteBuffer
{
    private byte[] _bytes = new byte[64];

    /// <summary>Bytes in use; may be lowered.</summary>
    public int Length { get; set; }

    /// <summary>One is taken before every piece of text; null for a buffer of no call.</summary>
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

    /// <summary>Appends text with every occurrence of a pattern, from the left, replaced.</summary>
    public void AppendReplaced(ReadOnlySpan<byte> text, ReadOnlySpan<byte> pattern, ReadOnlySpan<byte> content)
    {
        for (int at; (at = text.IndexOf(pattern)) >= 0; text = text[(at + pattern.Length)..])
        {
            Append(text[..at]);
            Append(content);
        }

        Append(text);
    }

    /// <summary>Makes room for, and returns, the next bytes.</summary>
    public Span<byte> Grow(int count)
    {
        if (Length + count > _bytes.Length)
        {
            Array.Resize(ref _bytes, Math.Max(_bytes.Length * 2, Length + count));
        }

        Length += count;
        return _bytes.AsSpan(Length - count, count);
    }

    /// <summary>Drops bytes from the front.</summary>
    public void RemoveFront(int count)
    {
        _bytes.AsSpan(count, Length - count).CopyTo(_bytes);
        Length -= count;
    }
}
