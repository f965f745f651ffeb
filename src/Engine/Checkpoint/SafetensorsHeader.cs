using System.Buffers.Binary;
using System.Text.Json;
using System.Text.Unicode;

namespace Tiller.Checkpoint;

/// <summary>
/// The header of a safetensors file: <c>u64 N, N bytes of JSON, data</c>. It is parsed from bytes alone, so that it can be fuzzed without a file
/// system. A number that the file merely claims never determines the size of an allocation.
/// </summary>
public sealed class SafetensorsHeader
{
    /// <summary>Maximum length of the header that the format allows, in bytes.</summary>
    public const int MaxLength = 100_000_000;

    /// <summary>Maximum number of tensors in a file.</summary>
    public const int MaxTensors = 1_000_000;

    /// <summary>Maximum length of a tensor name, in bytes of UTF-8.</summary>
    public const int MaxNameLength = 4096;

    /// <summary>Maximum number of dimensions of a tensor.</summary>
    public const int MaxRank = 8;

    /// <summary>Number of bytes before the header's JSON.</summary>
    public const int PrefixLength = 8;

    internal SafetensorsHeader(IReadOnlyList<TensorInfo> tensors, IReadOnlyDictionary<string, string> metadata, long lengthInBytes)
    {
        Tensors = tensors;
        Metadata = metadata;
        LengthInBytes = lengthInBytes;
    }

    /// <summary>The tensors in the order of their bytes.</summary>
    public IReadOnlyList<TensorInfo> Tensors { get; }

    /// <summary>The <c>__metadata__</c> entries; empty if there are none.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>Offset of the data section: 8 + N.</summary>
    public long LengthInBytes { get; }

    /// <summary>Reads N, the length of the JSON, from the first bytes of a file.</summary>
    /// <param name="start">The first bytes of the file; 64 are enough to recognise a file of another format.</param>
    /// <param name="fileLength">Length of the whole file in bytes.</param>
    /// <param name="file">Name for messages.</param>
    /// <exception cref="SafetensorsException">HeaderTooSmall, HeaderTooLarge, InvalidHeaderLength.</exception>
    public static int ReadLength(ReadOnlySpan<byte> start, long fileLength, string file)
    {
        if (start.Length < PrefixLength)
        {
            throw new SafetensorsException(
                SafetensorsError.HeaderTooSmall, file, "the file is too short to be a safetensors file.", expected: "at least 8 bytes",
                actual: $"{start.Length}");
        }

        ulong length = BinaryPrimitives.ReadUInt64LittleEndian(start);
        if (length > MaxLength)
        {
            throw new SafetensorsException(
                SafetensorsError.HeaderTooLarge, file, "the header is too long." + Hint(start), offset: 0, expected: $"at most {MaxLength} bytes",
                actual: $"{length}");
        }

        if ((long)length + PrefixLength > fileLength)
        {
            throw new SafetensorsException(
                SafetensorsError.InvalidHeaderLength, file,
                "the header reaches past the end of the file: it is cut short, or not a safetensors file.",
                offset: 0, expected: $"at least {length + PrefixLength} bytes", actual: $"{fileLength}");
        }

        return (int)length;
    }

    /// <summary>Parses and checks a header.</summary>
    /// <param name="json">The N bytes after the prefix.</param>
    /// <param name="fileLength">Length of the whole file in bytes, prefix and header included.</param>
    /// <param name="file">Name for messages.</param>
    /// <exception cref="SafetensorsException">The header is malformed or does not match the length of the file.</exception>
    public static SafetensorsHeader Parse(ReadOnlySpan<byte> json, long fileLength, string file)
    {
        if (!Utf8.IsValid(json))
        {
            throw new SafetensorsException(SafetensorsError.InvalidUtf8, file, "the header is not UTF-8.", offset: PrefixLength);
        }

        var parser = new SafetensorsHeaderParser(json, file);
        try
        {
            parser.Read();
        }
        catch (JsonException e)
        {
            throw new SafetensorsException(
                SafetensorsError.InvalidJson, file, "the header is not valid JSON: " + e.Message, offset: PrefixLength + parser.Position, cause: e);
        }
        catch (InvalidOperationException e)
        {
            // Utf8JsonReader throws this for an escaped lone surrogate.
            throw new SafetensorsException(
                SafetensorsError.InvalidJson, file, "the header has an invalid escape in a string: " + e.Message,
                offset: PrefixLength + parser.Position, cause: e);
        }

        var tensors = SafetensorsLayout.Check(parser.Entries, json.Length, fileLength, file);
        return new SafetensorsHeader(tensors, parser.Metadata, PrefixLength + json.Length);
    }

    // In a file of another format, the first eight characters give a length far above the limit. The hint names that format.
    private static string Hint(ReadOnlySpan<byte> start)
    {
        if (start.StartsWith("version https://git-lfs"u8) || start.StartsWith("version "u8))
        {
            return " It is a Git LFS pointer, not the file itself: run `git lfs pull`.";
        }

        if (start.StartsWith("GGUF"u8))
        {
            return " It is a GGUF file; only safetensors checkpoints are read.";
        }

        if (start.StartsWith("PK\u0003\u0004"u8))
        {
            return " It is a ZIP archive (perhaps a PyTorch .bin or .pt); only safetensors checkpoints are read.";
        }

        if (start[0] == '<')
        {
            return " It looks like HTML: the download returned a page instead of the file.";
        }

        return start[0] == '{' ? " It looks like JSON: is this the index instead of a shard?" : "";
    }
}
