using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Tiller.Checkpoint;

/// <summary>
/// A safetensors file that is open for reading by offset. It uses pread and no memory map, because truncating a mapped file would end the process.
/// Thread-safe. Source: the format's description and its reference implementation; this reader rejects the same files.
/// </summary>
public sealed class SafetensorsFile : IDisposable
{
    private readonly SafeFileHandle _handle;
    private readonly FileIdentity _identity;
    private readonly string _fullPath;
    private readonly Dictionary<string, TensorInfo> _byName = new(StringComparer.Ordinal);

    private SafetensorsFile(string path, SafeFileHandle handle, FileIdentity identity, SafetensorsHeader header)
    {
        Path = path;
        _fullPath = System.IO.Path.GetFullPath(path);
        Header = header;
        _handle = handle;
        _identity = identity;
        foreach (TensorInfo tensor in header.Tensors)
        {
            _byName.Add(tensor.Name, tensor);
        }
    }

    /// <summary>The path as it was given.</summary>
    public string Path { get; }

    /// <summary>The parsed header.</summary>
    public SafetensorsHeader Header { get; }

    /// <summary>Length of the file in bytes.</summary>
    public long LengthInBytes => _identity.Length;

    /// <summary>The metadata of the file; empty if there is none.</summary>
    public IReadOnlyDictionary<string, string> Metadata => Header.Metadata;

    /// <summary>The tensors in the order of their bytes.</summary>
    public IReadOnlyList<TensorInfo> Tensors => Header.Tensors;

    /// <summary>Opens a file and reads its header.</summary>
    /// <exception cref="SafetensorsException">The file is malformed; or (InputOutput) it is missing, unreadable, or not a regular file.</exception>
    public static SafetensorsFile Open(string path)
    {
        ArgumentNullException.ThrowIfNull(path);
        SafeFileHandle? handle = null;
        try
        {
            handle = FileIdentity.OpenRegular(path);
            FileIdentity identity = FileIdentity.Of(handle);
            var file = new SafetensorsFile(path, handle, identity, ReadHeader(handle, identity.Length, path));
            handle = null;
            return file;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw new SafetensorsException(SafetensorsError.InputOutput, path, "cannot be opened: " + e.Message, cause: e);
        }
        finally
        {
            handle?.Dispose();
        }
    }

    /// <summary>Parses a header from bytes, as <see cref="Open"/> does after reading them.</summary>
    /// <param name="file">The first bytes of the file: the prefix of 8 bytes and the whole header, or all bytes of a shorter file.</param>
    /// <param name="fileLength">Length of the whole file in bytes.</param>
    /// <param name="name">Name for messages.</param>
    /// <exception cref="SafetensorsException">The header is malformed or does not match the length.</exception>
    public static SafetensorsHeader ParseHeader(ReadOnlySpan<byte> file, long fileLength, string name = "header")
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(fileLength, file.Length);
        int length = SafetensorsHeader.ReadLength(file, fileLength, name);
        return SafetensorsHeader.Parse(file.Slice(SafetensorsHeader.PrefixLength, length), fileLength, name);
    }

    /// <summary>The tensor of that name.</summary>
    /// <exception cref="SafetensorsException">TensorNotFound.</exception>
    public TensorInfo Find(string name)
        => TryFind(name) ?? throw new SafetensorsException(
            SafetensorsError.TensorNotFound, Path,
            $"there is no such tensor among the {Tensors.Count} of the file." + SimilarName.Hint(name, _byName.Keys), name);

    /// <summary>The tensor of that name, or null.</summary>
    public TensorInfo? TryFind(string name) => _byName.GetValueOrDefault(name);

    /// <summary>Reads bytes of a tensor, and checks that the file is unchanged since it was opened.</summary>
    /// <param name="tensor">A tensor of this file.</param>
    /// <param name="offset">First byte, counted from the start of the tensor.</param>
    /// <param name="destination">Filled completely.</param>
    /// <exception cref="SafetensorsException">SliceOutOfRange; InputOutput if the file cannot be read or has changed.</exception>
    public void Read(TensorInfo tensor, long offset, Span<byte> destination)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        if (!ReferenceEquals(TryFind(tensor.Name), tensor))
        {
            throw new SafetensorsException(SafetensorsError.TensorNotFound, Path, "the tensor belongs to another file.", tensor.Name);
        }

        if (offset < 0 || offset > tensor.SizeInBytes || destination.Length > tensor.SizeInBytes - offset)
        {
            throw new SafetensorsException(
                SafetensorsError.SliceOutOfRange, Path, "the read reaches outside the tensor.", tensor.Name,
                expected: $"bytes within [0, {tensor.SizeInBytes}]", actual: $"[{offset}, {offset + (Int128)destination.Length}]");
        }

        long position = Header.LengthInBytes + tensor.Begin + offset;
        try
        {
            for (int done = 0; done < destination.Length;)
            {
                int read = RandomAccess.Read(_handle, destination[done..], position + done);
                if (read == 0)
                {
                    throw new SafetensorsException(
                        SafetensorsError.InputOutput, Path, "the file was cut short while it was read.", tensor.Name, position + done,
                        $"{_identity.Length} bytes", $"{RandomAccess.GetLength(_handle)}");
                }

                done += read;
            }

            CheckUnchanged(tensor.Name);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new SafetensorsException(SafetensorsError.InputOutput, Path, "cannot be read: " + e.Message, tensor.Name, position, cause: e);
        }
    }

    /// <summary>Reads all elements as float32, in the file's order. F16 and BF16 are widened exactly; F64 is rounded.</summary>
    /// <exception cref="SafetensorsException">UnsupportedType, LimitExceeded (more than the available memory), InputOutput.</exception>
    public float[] ReadFloat32(TensorInfo tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        return tensor.Type switch
        {
            TensorType.F32 => ReadAs<float>(tensor),
            TensorType.F16 => Widen(ReadAs<Half>(tensor)),
            TensorType.BF16 => Widen(ReadAs<ushort>(tensor)),
            TensorType.F64 => Array.ConvertAll(ReadAs<double>(tensor), static x => (float)x),
            _ => throw NotFloat(tensor),
        };
    }

    /// <summary>Reads all elements as float64, in the file's order. Every type is widened exactly.</summary>
    /// <exception cref="SafetensorsException">UnsupportedType, LimitExceeded (more than the available memory), InputOutput.</exception>
    public double[] ReadFloat64(TensorInfo tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        return tensor.Type switch
        {
            TensorType.F64 => ReadAs<double>(tensor),
            TensorType.F32 or TensorType.F16 or TensorType.BF16 => Array.ConvertAll(ReadFloat32(tensor), static x => (double)x),
            _ => throw NotFloat(tensor),
        };
    }

    /// <summary>Closes the file.</summary>
    public void Dispose() => _handle.Dispose();

    private static float[] Widen(Half[] values)
    {
        var result = new float[values.Length];
        TensorPrimitives.ConvertToSingle(values, result);
        return result;
    }

    // bfloat16 is the upper half of a float32.
    private static float[] Widen(ushort[] values) => Array.ConvertAll(values, static bits => BitConverter.UInt32BitsToSingle((uint)bits << 16));

    /// <summary>Reads the header of a file that is open.</summary>
    /// <exception cref="SafetensorsException">The header is malformed or does not match the length.</exception>
    internal static SafetensorsHeader ReadHeader(SafeFileHandle handle, long fileLength, string path)
    {
        Span<byte> start = stackalloc byte[64];
        start = start[..RandomAccess.Read(handle, start, 0)];
        int length = SafetensorsHeader.ReadLength(start, fileLength, path);

        // The length has been checked: it is at most the length of the file.
        byte[] json = GC.AllocateUninitializedArray<byte>(length);
        int done = 0;
        for (int read = -1; done < length && read != 0; done += read)
        {
            read = RandomAccess.Read(handle, json.AsSpan(done), SafetensorsHeader.PrefixLength + done);
        }

        return done == length
            ? SafetensorsHeader.Parse(json, fileLength, path)
            : throw new SafetensorsException(
                SafetensorsError.InputOutput, path, "the file was cut short while it was read.", offset: SafetensorsHeader.PrefixLength + done);
    }

    private T[] ReadAs<T>(TensorInfo tensor)
        where T : unmanaged
    {
        long available = GC.GetGCMemoryInfo().TotalAvailableMemoryBytes;
        if (tensor.ElementCount > Array.MaxLength || tensor.SizeInBytes > available)
        {
            throw new SafetensorsException(
                SafetensorsError.LimitExceeded, Path, "the tensor is too large to be read at once.", tensor.Name,
                expected: $"at most {Array.MaxLength} elements and {available} bytes",
                actual: $"{tensor.ElementCount} elements, {tensor.SizeInBytes} bytes");
        }

        var values = new T[tensor.ElementCount];
        if (values.Length == 0)
        {
            return values;
        }

        // The elements are read in chunks, because a span of bytes is limited to 2 GiB.
        int chunk = (1 << 28) / Marshal.SizeOf<T>();
        for (int i = 0; i < values.Length; i += chunk)
        {
            Span<T> part = values.AsSpan(i, Math.Min(chunk, values.Length - i));
            Read(tensor, (long)i * Marshal.SizeOf<T>(), MemoryMarshal.AsBytes(part));
        }

        return values;
    }

    private void CheckUnchanged(string tensor)
    {
        FileIdentity opened = FileIdentity.Of(_handle);
        FileIdentity named = FileIdentity.Of(_fullPath);
        if (opened != _identity || named != _identity)
        {
            throw new SafetensorsException(
                SafetensorsError.InputOutput, Path, "the file was changed or replaced while it was read; load it again.", tensor,
                expected: $"{_identity.Length} bytes, as opened",
                actual: $"{named.Length} bytes" + (named.Length == _identity.Length ? ", another time or inode" : ""));
        }
    }

    private SafetensorsException NotFloat(TensorInfo tensor)
        => new(SafetensorsError.UnsupportedType, Path, "the tensor is not of a floating-point type that can be read.", tensor.Name,
            expected: "F32, F16, BF16 or F64", actual: tensor.Type.SpecName());
}
