using System.Globalization;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using MathNet.Numerics.LinearAlgebra;
using Microsoft.Win32.SafeHandles;
using Tiller.Checkpoint;
using Tiller.Features;
using Tiller.Model;
using Tiller.Synthesis;

namespace Tiller.Controllers;

/// <summary>A file of Jacobians is of another model or other prompts, is damaged, or is in use.</summary>
public sealed class JacobianFileException : TillerException
{
    internal JacobianFileException(string path, string message, Exception? cause = null)
        : base($"{path}: {message}", cause)
    {
        Path = path;
    }

    /// <summary>The file.</summary>
    public string Path { get; }

    /// <summary>Whether another process, or another fit of this one, may be filling the file, and be done later.</summary>
    internal bool IsInUse { get; init; }
}

/// <summary>What a file of Jacobians is of.</summary>
/// <param name="Model">Name of the model, for messages.</param>
/// <param name="Fingerprint">Its <see cref="LanguageModel.Identity"/>.</param>
/// <param name="Weights">Hash of a sample of its weights.</param>
/// <param name="Layers">L.</param>
/// <param name="Width">D.</param>
/// <param name="Calibration">Hash of the ids of the prompts whose Jacobians are averaged, in their order; null if that does not matter.</param>
/// <param name="Prompts">How many these are.</param>
internal sealed record JacobianIdentity(
    string Model, string Fingerprint, string Weights, int Layers, int Width, string? Calibration, int Prompts)
{
    /// <summary>Identifies a model and the prompts.</summary>
    /// <exception cref="ArgumentException">The model has random weights, which no file can be told to belong to.</exception>
    public static JacobianIdentity Of(LanguageModel model, IReadOnlyList<int[]>? calibration)
    {
        if (!model.IsCheckpoint)
        {
            throw new ArgumentException("Jacobians are kept of a checkpoint; this model has random weights.", nameof(model));
        }

        using var folder = CheckpointFolder.Open(model.Directory);
        return new JacobianIdentity(
            model.Name, model.Identity, folder.SampleOfWeights(), model.Config.L, model.Config.D,
            calibration is null ? null : HashOf(calibration), calibration?.Count ?? 0);
    }

    /// <summary>Identifies a list of prompts by their ids.</summary>
    public static string HashOf(IReadOnlyList<int[]> prompts)
    {
        using var hash = new IdentityHash();
        foreach (int[] ids in prompts)
        {
            hash.Add(ids);
        }

        return hash.End();
    }
}

/// <summary>
/// A fit's passes over the model, kept in a safetensors file, so that other weights, layers, directions and methods are solved without them:
/// <code>
/// A.k          F32 (D, D)        the mean Jacobian of block k; row i is the gradient of output i
/// digests      U8  (L, 32)       SHA-256 of the bytes of A.k, or 0 while A.k has not been measured
/// states.HASH  F32 (n, L+1, D)   x_0..x_L at the last token of each prompt of a list, whose ids have this hash
/// </code>
/// The metadata names the model, the calibration prompts and, under a tensor's name, the SHA-256 of a list's states. A block is written in place, to
/// the disk, before its digest is: a fit that ends early, however it ends, leaves complete blocks, and the next one measures the others. One process
/// at a time makes or fills a file (<see cref="Claim"/>), and any number read it once it is complete.
/// </summary>
internal sealed class JacobianFile : IDisposable
{
    private const string Format = "tiller.jacobians";
    private const string Version = "1";
    private const string States = "states.";
    private const string Digests = "digests";

    private readonly string _path;
    private readonly JacobianIdentity _identity;
    private readonly FileStream _stream;
    private readonly SafetensorsHeader _header;
    private readonly Dictionary<string, TensorInfo> _tensors;
    private readonly byte[] _digests;

    private JacobianFile(string path, JacobianIdentity identity, FileStream stream, SafetensorsHeader header)
    {
        (_path, _identity, _stream, _header) = (path, identity, stream, header);
        _tensors = header.Tensors.ToDictionary(t => t.Name, StringComparer.Ordinal);
        CheckIdentity();
        CheckTensors();
        _digests = Bytes(_tensors[Digests]);
    }

    /// <summary>Whether A_k of every block is there.</summary>
    public bool IsComplete => Enumerable.Range(0, _identity.Layers).All(Has);

    private SafeFileHandle Handle => _stream.SafeFileHandle;

    private int Width => _identity.Width;

    private long MatrixSizeInBytes => sizeof(float) * (long)Width * Width;

    /// <summary>Opens a file: for reading if it is complete or no block will be added, else to be filled.</summary>
    /// <param name="path">The file.</param>
    /// <param name="identity">What it must be of.</param>
    /// <param name="fills">Whether blocks that are not there will be written.</param>
    /// <returns>Null if there is no file.</returns>
    /// <exception cref="JacobianFileException">It is of something else, is damaged, or another process fills it.</exception>
    /// <exception cref="SafetensorsException">It is no safetensors file, or cannot be read.</exception>
    public static JacobianFile? Open(string path, JacobianIdentity identity, bool fills)
    {
        if (!File.Exists(path))
        {
            return null;
        }

        // Who fills the file has claimed it, so that these modes need not exclude anybody: a short look by others must not stop the filling.
        var file = Open(path, identity, FileAccess.Read, FileShare.ReadWrite);
        if (!fills || file.IsComplete)
        {
            return file;
        }

        file.Dispose();
        return Open(path, identity, FileAccess.ReadWrite, FileShare.Read);
    }

    /// <summary>
    /// Claims a file that is to be made or filled, whether it is there or not, before anything is measured for it: two fits that start at once would
    /// otherwise replace what the other has measured.
    /// </summary>
    /// <param name="path">The file. The lock is a file beside it, which goes with the claim.</param>
    /// <exception cref="JacobianFileException">Another fit has claimed it, or its folder takes no file.</exception>
    public static IDisposable Claim(string path)
    {
        string beside = path + ".lock";
        try
        {
            return new Claimed(beside, FileLock.TryTake(beside) ?? throw new JacobianFileException(
                path, "another fit is filling this file; wait for it, which leaves what it measures there, or name another file.")
            {
                IsInUse = true,
            });
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new JacobianFileException(path, $"the file cannot be filled: {e.Message}", e);
        }
    }

    /// <summary>Creates a file without a block, or adds lists of states to one, in one step: the old file is there until the new is whole.</summary>
    /// <param name="path">The file.</param>
    /// <param name="identity">What it is of.</param>
    /// <param name="old">The file that is there; null for none. It is closed.</param>
    /// <param name="lists">States of lists of prompts, by the hash of their ids.</param>
    /// <exception cref="SafetensorsException">InputOutput: the file cannot be written.</exception>
    public static JacobianFile Write(
        string path, JacobianIdentity identity, JacobianFile? old, IReadOnlyDictionary<string, IReadOnlyList<PromptState>> lists)
    {
        using (old)
        {
            var metadata = old?._header.Metadata.ToDictionary(StringComparer.Ordinal) ?? Metadata(identity);
            var tensors = new List<TensorStream>
            {
                new(Digests, TensorType.U8, [identity.Layers, SHA256.HashSizeInBytes],
                    stream => stream.Write(old?._digests ?? new byte[identity.Layers * SHA256.HashSizeInBytes])),
            };
            for (int k = 0; k < identity.Layers; k++)
            {
                int block = k;
                tensors.Add(new TensorStream(
                    NameOf(k), TensorType.F32, [identity.Width, identity.Width], stream => WriteBlock(stream, identity.Width, old, block)));
            }

            foreach (var tensor in old?._header.Tensors.Where(t => t.Name.StartsWith(States, StringComparison.Ordinal)) ?? [])
            {
                tensors.Add(new TensorStream(tensor.Name, tensor.Type, [.. tensor.Shape], stream => stream.Write(old!.Bytes(tensor))));
            }

            foreach (var (hash, states) in lists)
            {
                byte[] bytes = MemoryMarshal.AsBytes(PromptState.Numbers(states).AsSpan()).ToArray();
                metadata[States + hash] = Convert.ToHexStringLower(SHA256.HashData(bytes));
                tensors.Add(new TensorStream(
                    States + hash, TensorType.F32, [states.Count, identity.Layers + 1, identity.Width], stream => stream.Write(bytes)));
            }

            SafetensorsWriter.WriteStreams(path, metadata, tensors);
        }

        return Open(path, identity, fills: true)
            ?? throw new JacobianFileException(path, "the file that was written is not there; is another process removing files?");
    }

    /// <summary>Whether A_k is there.</summary>
    public bool Has(int k) => DigestOf(k).ContainsAnyExcept((byte)0);

    /// <summary>A_k // (D, D).</summary>
    /// <exception cref="JacobianFileException">The block is damaged.</exception>
    public Matrix<double> Read(int k)
    {
        byte[] rows = Bytes(_tensors[NameOf(k)]);
        if (!SHA256.HashData(rows).AsSpan().SequenceEqual(DigestOf(k)))
        {
            throw Damaged($"the numbers of A.{k} do not match their SHA-256");
        }

        double[] columns = new double[Width * Width];
        Transpose<float, double>(MemoryMarshal.Cast<byte, float>(rows), columns, Width);
        return Matrix<double>.Build.Dense(Width, Width, columns);
    }

    /// <summary>Writes A_k, and marks it as there once it is on the disk.</summary>
    /// <exception cref="RiccatiException">A number is not finite.</exception>
    /// <exception cref="JacobianFileException">The file cannot be written.</exception>
    public void Write(int k, Matrix<double> jacobian)
    {
        Finite.Check(jacobian, "The Jacobian A", k);
        float[] rows = new float[Width * Width];
        Transpose<double, float>(DenseAlgebra.Numbers(jacobian), rows, Width);
        var bytes = MemoryMarshal.AsBytes(rows.AsSpan());
        try
        {
            RandomAccess.Write(Handle, bytes, PositionOf(_tensors[NameOf(k)]));
            RandomAccess.FlushToDisk(Handle);
            SHA256.HashData(bytes, DigestOf(k));
            RandomAccess.Write(Handle, DigestOf(k), PositionOf(_tensors[Digests]) + (k * SHA256.HashSizeInBytes));
            RandomAccess.FlushToDisk(Handle);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new JacobianFileException(_path, $"block {k} cannot be written: {e.Message}", e);
        }
    }

    /// <summary>Whether the states of a list of prompts are there.</summary>
    public bool HasStatesOf(IReadOnlyList<int[]> prompts) => _tensors.ContainsKey(States + JacobianIdentity.HashOf(prompts));

    /// <summary>States of a list of prompts; null where it has not been run.</summary>
    /// <param name="prompts">Their ids.</param>
    /// <exception cref="JacobianFileException">The states are damaged.</exception>
    public IReadOnlyList<PromptState>? StatesOf(IReadOnlyList<int[]> prompts)
    {
        string name = States + JacobianIdentity.HashOf(prompts);
        if (!_tensors.TryGetValue(name, out var tensor))
        {
            return null;
        }

        if (!tensor.HasShape([prompts.Count, _identity.Layers + 1, Width]))
        {
            throw Damaged($"{name} has the shape {tensor.ShapeText}, and the list has {prompts.Count} prompts");
        }

        byte[] bytes = Bytes(tensor);
        if (!_header.Metadata.TryGetValue(name, out string? digest)
            || !string.Equals(digest, Convert.ToHexStringLower(SHA256.HashData(bytes)), StringComparison.Ordinal))
        {
            throw Damaged($"the numbers of {name} do not match their SHA-256");
        }

        float[] numbers = MemoryMarshal.Cast<byte, float>(bytes).ToArray();
        if (numbers.AsSpan().IndexOfAnyExceptInRange(float.MinValue, float.MaxValue) >= 0)
        {
            throw Damaged($"{name} holds NaN or an infinity");
        }

        return PromptState.Of([.. prompts], numbers, _identity.Layers + 1, Width);
    }

    /// <inheritdoc/>
    public void Dispose() => _stream.Dispose();

    private static JacobianFile Open(string path, JacobianIdentity identity, FileAccess access, FileShare share)
    {
        FileStream? stream = null;
        try
        {
            if (FileIdentity.KindOf(path) is not FileKind.Regular)
            {
                throw new JacobianFileException(path, "this is no regular file, which Jacobians are kept in; name one.");
            }

            stream = new FileStream(path, FileMode.Open, access, share, bufferSize: 0);
            var opened = new JacobianFile(path, identity, stream, SafetensorsFile.ReadHeader(stream.SafeFileHandle, stream.Length, path));
            stream = null;
            return opened;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new JacobianFileException(
                path, $"cannot be opened for {(access == FileAccess.Read ? "reading" : "adding blocks")}; if another fit is filling it, wait for it: "
                + e.Message, e)
            {
                IsInUse = e is IOException error && FileLock.IsTaken(error),
            };
        }
        finally
        {
            stream?.Dispose();
        }
    }

    private static Dictionary<string, string> Metadata(JacobianIdentity identity) => new(StringComparer.Ordinal)
    {
        ["format"] = Format,
        ["version"] = Version,
        ["model"] = identity.Model,
        ["fingerprint"] = identity.Fingerprint,
        ["weights.sample"] = identity.Weights,
        ["calibration"] = identity.Calibration!,
        ["calibration.prompts"] = identity.Prompts.ToString(CultureInfo.InvariantCulture),
    };

    private static string NameOf(int k) => string.Create(CultureInfo.InvariantCulture, $"A.{k}");

    private static void WriteBlock(Stream stream, int width, JacobianFile? old, int k)
    {
        if (old?.Has(k) == true)
        {
            stream.Write(old.Bytes(old._tensors[NameOf(k)]));
            return;
        }

        byte[] row = new byte[sizeof(float) * width];
        for (int i = 0; i < width; i++)
        {
            stream.Write(row);
        }
    }

    private sealed class Claimed(string path, FileStream hold) : IDisposable
    {
        public void Dispose()
        {
            using (hold)
            {
                try
                {
                    // Where a lock does not notice that its file was deleted, the file stays.
                    if (OperatingSystem.IsLinux())
                    {
                        File.Delete(path);
                    }
                }
                catch (Exception e) when (e is IOException or UnauthorizedAccessException)
                {
                    // The lock is given back all the same; the file is locked again by the next fit.
                }
            }
        }
    }

    // Tile by tile, so that neither side is read or written far apart.
    private static void Transpose<TFrom, TTo>(ReadOnlySpan<TFrom> from, Span<TTo> to, int n)
        where TFrom : System.Numerics.INumber<TFrom>
        where TTo : System.Numerics.INumber<TTo>
    {
        const int Tile = 32;
        for (int top = 0; top < n; top += Tile)
        {
            for (int left = 0; left < n; left += Tile)
            {
                for (int i = top; i < Math.Min(top + Tile, n); i++)
                {
                    for (int j = left; j < Math.Min(left + Tile, n); j++)
                    {
                        to[(j * n) + i] = TTo.CreateTruncating(from[(i * n) + j]);
                    }
                }
            }
        }
    }

    private Span<byte> DigestOf(int k) => _digests.AsSpan(k * SHA256.HashSizeInBytes, SHA256.HashSizeInBytes);

    private long PositionOf(TensorInfo tensor) => _header.LengthInBytes + tensor.Begin;

    private byte[] Bytes(TensorInfo tensor)
    {
        byte[] bytes = new byte[tensor.SizeInBytes];
        try
        {
            for (int done = 0; done < bytes.Length;)
            {
                int read = RandomAccess.Read(Handle, bytes.AsSpan(done), PositionOf(tensor) + done);
                done += read > 0 ? read : throw Damaged($"it ends within {tensor.Name}");
            }
        }
        catch (IOException e)
        {
            throw new JacobianFileException(_path, $"{tensor.Name} cannot be read: {e.Message}", e);
        }

        return bytes;
    }

    private void CheckIdentity()
    {
        if (Kept("format") != Format)
        {
            throw new JacobianFileException(_path, "this is no file of Jacobians; name another, or one that is not there yet.");
        }

        if (Kept("version") != Version)
        {
            throw new JacobianFileException(
                _path, $"the file has version {Quoted.Text(Kept("version"))}, and version {Version} is read: measure anew.");
        }

        if (Kept("fingerprint") != _identity.Fingerprint)
        {
            throw Differs("model", Kept("model"), _identity.Model, "its config.json, tensors, tokenizer.json or type of keys and values");
        }

        if (Kept("weights.sample") != _identity.Weights)
        {
            throw Differs("model", Kept("model"), _identity.Model, "the values of its weights");
        }

        if (_identity.Calibration is { } calibration && Kept("calibration") != calibration)
        {
            throw Differs(
                "calibration prompts", $"{Kept("calibration.prompts")}, SHA-256 {Short(Kept("calibration"))}",
                string.Create(CultureInfo.InvariantCulture, $"{_identity.Prompts}, SHA-256 {Short(calibration)}"),
                "the prompts whose Jacobians are averaged, which are the contrast prompts if FitOptions.Calibration names none");
        }

        string Kept(string key) => _header.Metadata.GetValueOrDefault(key, "");

        static string Short(string hash) => hash.Length > 12 ? hash[..12] : hash;

        JacobianFileException Differs(string what, string kept, string asked, string how) => new(
            _path,
            $"the file's Jacobians are of another {what} ({Quoted.Text(kept)}) than this fit's ({Quoted.Text(asked)}); {how} differ. Give what the "
            + "file was made with, or name another file.");
    }

    // Everything that is there is of the shape that the model implies, and what is to be there is.
    private void CheckTensors()
    {
        Check(Digests, TensorType.U8, _identity.Layers, SHA256.HashSizeInBytes);
        for (int k = 0; k < _identity.Layers; k++)
        {
            Check(NameOf(k), TensorType.F32, Width, Width);
        }

        if (MatrixSizeInBytes > Array.MaxLength)
        {
            throw new JacobianFileException(_path, $"a Jacobian of width {Width} is larger than can be read at once.");
        }

        foreach (var tensor in _header.Tensors.Where(t => t.Name.StartsWith(States, StringComparison.Ordinal)))
        {
            if (tensor.Type != TensorType.F32 || tensor.SizeInBytes > Array.MaxLength)
            {
                throw Damaged($"{tensor.Name} is {tensor.Type.SpecName()} {tensor.ShapeText}");
            }
        }

        void Check(string name, TensorType type, params ReadOnlySpan<long> shape)
        {
            if (!_tensors.TryGetValue(name, out var tensor) || tensor.Type != type || !tensor.HasShape(shape))
            {
                throw Damaged(
                    $"{name} is {(tensor is null ? "not there" : $"{tensor.Type.SpecName()} {tensor.ShapeText}")}; expected {type.SpecName()} "
                    + TensorInfo.Format(shape.ToArray()));
            }
        }
    }

    private JacobianFileException Damaged(string what) => new(_path, $"the file is damaged: {Quoted.Bare(what)}. Delete it and measure anew.");
}
