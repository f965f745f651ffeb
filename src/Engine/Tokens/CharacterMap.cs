using System.Buffers.Binary;
using System.Globalization;
using System.Text;

namespace Tiller.Tokens;

/// <summary>
/// SentencePiece's compiled character map (precompiled_charsmap): a double array that finds prefixes of a key, and the replacement texts, each
/// terminated by a zero byte.
/// </summary>
internal sealed class CharacterMap
{
    private const int LargestUnits = 1 << 22;

    private readonly uint[] _units;
    private readonly byte[] _texts;

    private CharacterMap(uint[] units, byte[] texts)
    {
        _units = units;
        _texts = texts;
    }

    /// <summary>Reads the base64 text.</summary>
    public static CharacterMap Read(TokenizerNode node)
    {
        byte[] bytes;
        try
        {
            bytes = Convert.FromBase64String(node.Text());
        }
        catch (FormatException)
        {
            throw Damaged(node, "it is not base64");
        }

        int size = bytes.Length >= 4 ? BinaryPrimitives.ReadInt32LittleEndian(bytes) : -1;
        if (size < 4 || size % 4 != 0 || size > bytes.Length - 4 || size / 4 > LargestUnits)
        {
            throw Damaged(node, "its length is wrong");
        }

        var array = new uint[size / 4];
        for (int i = 0; i < array.Length; i++)
        {
            array[i] = BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(4 + (4 * i)));
        }

        byte[] rest = bytes[(4 + size)..];
        return System.Text.Unicode.Utf8.IsValid(rest) ? new CharacterMap(array, rest) : throw Damaged(node, "its texts are not UTF-8");
    }

    /// <summary>
    /// Finds the shortest prefix of a key that the map contains, and returns its text. The text replaces the whole key, as in the reference
    /// implementation.
    /// </summary>
    public bool TryMap(ReadOnlySpan<byte> key, out ReadOnlySpan<byte> text)
    {
        text = default;
        uint at = Offset(_units[0]);
        foreach (byte b in key)
        {
            at ^= b;
            if (b == 0 || at >= _units.Length)
            {
                return false;
            }

            uint unit = _units[at];
            if ((unit & 0x800000FF) != b)
            {
                return false;
            }

            at ^= Offset(unit);
            if (((unit >> 8) & 1) != 0)
            {
                uint start = at < _units.Length ? _units[at] & 0x7FFFFFFF : uint.MaxValue;
                if (start >= _texts.Length)
                {
                    return false;
                }

                ReadOnlySpan<byte> rest = _texts.AsSpan((int)start);
                int end = rest.IndexOf((byte)0);
                text = end >= 0 ? rest[..end] : rest;

                // A damaged map may point into the middle of a character.
                return System.Text.Unicode.Utf8.IsValid(text);
            }
        }

        return false;
    }

    private static uint Offset(uint unit) => (unit >> 10) << (int)((unit & 0x200) >> 6);

    private static TokenizerException Damaged(TokenizerNode node, string why) =>
        new(TokenizerError.Unsupported, node.Path, null, $"the compiled character map cannot be read: {why}. Download the file again "
            + "from its publisher.");
}

/// <summary>Maps grapheme clusters of up to five bytes through a <see cref="CharacterMap"/>, and all other text character by character.</summary>
internal sealed class CharacterMapStage(CharacterMap map) : NormalizerStage
{
    private const int LongestCluster = 5;

    public override void Append(ReadOnlySpan<byte> text, ByteBuffer output)
    {
        string utf16 = Encoding.UTF8.GetString(text);
        int at = 0;
        for (int i = 0; i < utf16.Length;)
        {
            output.Steps?.Take();
            int chars = StringInfo.GetNextTextElementLength(utf16, i);
            int bytes = Encoding.UTF8.GetByteCount(utf16.AsSpan(i, chars));
            AppendCluster(text.Slice(at, bytes), output);
            i += chars;
            at += bytes;
        }
    }

    private void AppendCluster(ReadOnlySpan<byte> cluster, ByteBuffer output)
    {
        if (cluster.Length <= LongestCluster && map.TryMap(cluster, out ReadOnlySpan<byte> mapped))
        {
            output.Append(mapped);
            return;
        }

        for (int i = 0; i < cluster.Length;)
        {
            CharClasses.CodeAt(cluster, i, out int length);
            ReadOnlySpan<byte> character = cluster.Slice(i, length);
            output.Append(map.TryMap(character, out mapped) ? mapped : character);
            i += length;
        }
    }
}
