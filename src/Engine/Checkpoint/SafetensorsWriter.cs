using System.Buffers;
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;

namespace Tiller.Checkpoint;

/// <summary>A tensor to write.</summary>
/// <param name="Name">Name in the file, at most 4096 bytes of UTF-8.</param>
/// <param name="Type">Type of the elements.</param>
/// <param name="Shape">Dimensions, slowest first; at most 8.</param>
/// <param name="Data">The elements, little-endian, slowest dimension first.</param>
public sealed record TensorData(string Name, TensorType Type, long[] Shape, ReadOnlyMemory<byte> Data)
{
    /// <summary>Creates an F32 tensor from a copy of the values.</summary>
    public static TensorData FromFloat32(string name, long[] shape, ReadOnlySpan<float> values)
        => new(name, TensorType.F32, shape, MemoryMarshal.AsBytes(values).ToArray());

    /// <summary>Creates an F64 tensor from a copy of the values.</summary>
    public static TensorData FromFloat64(string name, long[] shape, ReadOnlySpan<double> values)
        => new(name, TensorType.F64, shape, MemoryMarshal.AsBytes(values).ToArray());
}

/// <summary>A tensor whose elements are made while they are written.</summary>
/// <param name="Name">Name in the file, at most 4096 bytes of UTF-8.</param>
/// <param name="Type">Type of the elements.</param>
/// <param name="Shape">Dimensions, slowest first; at most 8.</param>
/// <param name="Write">Writes exactly the bytes that type and shape imply.</param>
internal sealed record TensorStream(string Name, TensorType Type, long[] Shape, Action<Stream> Write);

/// <summary>
/// Writes safetensors files in the format's canonical layout: tensors by descending alignment, then by descending type, then by name; metadata first,
/// with sorted keys; the header padded with spaces to 8 bytes. Equal contents give equal bytes.
/// </summary>
public static class SafetensorsWriter
{
    /// <summary>Writes a file completely or not at all; writes to a device or pipe directly (see <see cref="OutputFile"/>).</summary>
    /// <exception cref="SafetensorsException">
    /// DuplicateName, TensorInvalidInfo (data and shape do not match), LimitExceeded, HeaderTooLarge, InvalidUtf8 (a lone surrogate in a name);
    /// InputOutput: an old file is unchanged, unless the message says that only the folder could not be synced.
    /// </exception>
    public static void Write(string path, IReadOnlyDictionary<string, string> metadata, IReadOnlyList<TensorData> tensors)
    {
        ArgumentNullException.ThrowIfNull(path);
        WriteStreams(path, metadata, Streams(tensors, path));
    }

    /// <summary>Writes to a stream.</summary>
    /// <exception cref="SafetensorsException">As for a file, except InputOutput.</exception>
    public static void Write(Stream stream, IReadOnlyDictionary<string, string> metadata, IReadOnlyList<TensorData> tensors)
    {
        ArgumentNullException.ThrowIfNull(stream);
        byte[] header = Header(metadata, Streams(tensors, "stream"), "stream", out TensorStream[] sorted);
        Write(stream, header, sorted);
    }

    /// <summary>Writes a file that need not fit in memory, completely or not at all.</summary>
    /// <exception cref="SafetensorsException">As for the other way to write a file.</exception>
    internal static void WriteStreams(string path, IReadOnlyDictionary<string, string> metadata, IReadOnlyList<TensorStream> tensors)
    {
        byte[] header = Header(metadata, tensors, path, out TensorStream[] sorted);
        try
        {
            OutputFile.Write(path, stream => Write(stream, header, sorted));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new SafetensorsException(SafetensorsError.InputOutput, path, "cannot be written: " + e.Message, cause: e);
        }
    }

    private static TensorStream[] Streams(IReadOnlyList<TensorData> tensors, string file)
    {
        ArgumentNullException.ThrowIfNull(tensors);
        foreach (TensorData tensor in tensors)
        {
            ulong size = SizeInBytes(tensor.Name, tensor.Type, tensor.Shape, file);
            if (size != (ulong)tensor.Data.Length)
            {
                throw new SafetensorsException(
                    SafetensorsError.TensorInvalidInfo, file, "data and shape disagree.", tensor.Name,
                    expected: $"{size} bytes for {tensor.Type.SpecName()} {TensorInfo.Format(tensor.Shape)}", actual: $"{tensor.Data.Length}");
            }
        }

        return [.. tensors.Select(t => new TensorStream(t.Name, t.Type, t.Shape, stream => stream.Write(t.Data.Span)))];
    }

    private static ulong SizeInBytes(string name, TensorType type, long[] shape, string file) =>
        SafetensorsLayout.SizeInBytes(new TensorEntry(name, type, [.. shape.Select(n => unchecked((ulong)n))], 0, 0), file);

    private static void Write(Stream stream, byte[] header, TensorStream[] tensors)
    {
        Span<byte> prefix = stackalloc byte[SafetensorsHeader.PrefixLength];
        BinaryPrimitives.WriteUInt64LittleEndian(prefix, (ulong)header.Length);
        stream.Write(prefix);
        stream.Write(header);
        foreach (TensorStream tensor in tensors)
        {
            tensor.Write(stream);
        }
    }

    private static byte[] Header(
        IReadOnlyDictionary<string, string> metadata, IReadOnlyList<TensorStream> tensors, string file, out TensorStream[] sorted)
    {
        ArgumentNullException.ThrowIfNull(metadata);
        ArgumentNullException.ThrowIfNull(tensors);
        sorted = [.. tensors.OrderByDescending(t => t.Type).ThenBy(t => t.Name, StringComparer.Ordinal)];
        var names = new HashSet<string>(StringComparer.Ordinal) { "__metadata__" };
        var buffer = new ArrayBufferWriter<byte>();
        var options = new JsonWriterOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping, SkipValidation = true };
        using (var json = new Utf8JsonWriter(buffer, options))
        {
            json.WriteStartObject();
            if (metadata.Count > 0)
            {
                json.WriteStartObject("__metadata__");
                foreach ((string key, string value) in metadata.OrderBy(pair => pair.Key, StringComparer.Ordinal))
                {
                    CheckText(key, key, file);
                    CheckText(value, key, file);
                    json.WriteString(key, value);
                }

                json.WriteEndObject();
            }

            ulong position = 0;
            foreach (TensorStream tensor in sorted)
            {
                ulong size = Check(tensor, names, file);
                json.WriteStartObject(tensor.Name);
                json.WriteString("dtype", tensor.Type.SpecName());
                json.WriteStartArray("shape");
                foreach (long n in tensor.Shape)
                {
                    json.WriteNumberValue(unchecked((ulong)n));
                }

                json.WriteEndArray();
                json.WriteStartArray("data_offsets");
                json.WriteNumberValue(position);
                position += size;
                json.WriteNumberValue(position);
                json.WriteEndArray();
                json.WriteEndObject();
                json.Flush();
                CheckLength(buffer.WrittenCount, file);
            }

            json.WriteEndObject();
        }

        int padded = (buffer.WrittenCount + 7) / 8 * 8;
        CheckLength(padded, file);
        var header = new byte[padded];
        buffer.WrittenSpan.CopyTo(header);
        header.AsSpan(buffer.WrittenCount).Fill((byte)' ');
        return header;
    }

    private static void CheckLength(int length, string file)
    {
        if (length > SafetensorsHeader.MaxLength)
        {
            throw new SafetensorsException(
                SafetensorsError.HeaderTooLarge, file, "the header would be too long; shorten the metadata.",
                expected: $"at most {SafetensorsHeader.MaxLength} bytes", actual: $"{length}");
        }
    }

    // The size of a tensor that may be written.
    private static ulong Check(TensorStream tensor, HashSet<string> names, string file)
    {
        CheckText(tensor.Name, tensor.Name, file);
        if (!names.Add(tensor.Name))
        {
            throw new SafetensorsException(
                SafetensorsError.DuplicateName, file, "the name occurs twice, or is the reserved __metadata__.", tensor.Name);
        }

        if (tensor.Shape.Length > SafetensorsHeader.MaxRank || Encoding.UTF8.GetByteCount(tensor.Name) > SafetensorsHeader.MaxNameLength)
        {
            throw new SafetensorsException(
                SafetensorsError.LimitExceeded, file, "the name or shape is too long.", tensor.Name,
                expected: $"at most {SafetensorsHeader.MaxNameLength} bytes and {SafetensorsHeader.MaxRank} dimensions",
                actual: $"{tensor.Shape.Length} dimensions");
        }

        return SizeInBytes(tensor.Name, tensor.Type, tensor.Shape, file);
    }

    // A lone surrogate has no UTF-8 encoding. The JSON writer would silently replace it.
    private static void CheckText(string text, string name, string file)
    {
        for (int i = 0; i < text.Length; i++)
        {
            if (char.IsHighSurrogate(text[i]) && i + 1 < text.Length && char.IsLowSurrogate(text[i + 1]))
            {
                i++;
            }
            else if (char.IsSurrogate(text[i]))
            {
                throw new SafetensorsException(SafetensorsError.InvalidUtf8, file, "a name or metadata value holds half a surrogate pair.", name);
            }
        }
    }
}
