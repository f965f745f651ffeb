using System.Buffers.Binary;
using System.Globalization;
using System.Security.Cryptography;

namespace Tiller.Kernels;

/// <summary>
/// Images that NVRTC has compiled, on disk. An entry is written to a temporary file, synced and renamed, so that processes may share the folder. It
/// is checked when it is read (magic, length, SHA-256), and a damaged entry counts as missing. If the folder cannot be used, <see cref="Problem"/>
/// says so, and nothing fails.
/// </summary>
/// <param name="folder">The folder; null for no cache.</param>
/// <param name="absence">Why there is no cache, if that is a problem.</param>
internal sealed class KernelCache(string? folder, string? absence = null)
{
    /// <summary>The environment variable that names the folder; "off" for no cache.</summary>
    public const string FolderVariable = "TILLER_KERNEL_CACHE";

    private const int HeaderInBytes = 8 + 8 + 32; // magic, length, SHA-256
    private static readonly TimeSpan s_abandoned = TimeSpan.FromHours(1);

    private readonly Lock _gate = new();
    private bool _tidied;

    /// <summary>The folder of the entries; null for no cache.</summary>
    public string? Folder { get; } = folder;

    /// <summary>The first problem with the folder; null if there was none.</summary>
    public string? Problem { get; private set; } = absence;

    /// <summary>Number of damaged entries that were found.</summary>
    public int Damaged { get; private set; }

    private static ReadOnlySpan<byte> Magic => "TILLERK1"u8;

    /// <summary>
    /// Opens the folder <paramref name="asked"/>, or the one in TILLER_KERNEL_CACHE, or tiller/kernels in XDG_CACHE_HOME or ~/.cache.
    /// </summary>
    public static KernelCache Open(string? asked)
    {
        string? named = asked ?? Environment.GetEnvironmentVariable(FolderVariable);
        if (!string.IsNullOrEmpty(named))
        {
            return named == "off" ? new KernelCache(null) : new KernelCache(Path.GetFullPath(named));
        }

        string? home = OperatingSystem.IsWindows()
            ? Environment.GetFolderPath(Environment.SpecialFolder.LocalApplicationData)
            : Environment.GetEnvironmentVariable("HOME");
        string? caches = Environment.GetEnvironmentVariable("XDG_CACHE_HOME") is { } xdg && Path.IsPathFullyQualified(xdg) ? xdg
            : string.IsNullOrEmpty(home) ? null
            : OperatingSystem.IsWindows() ? home : Path.Combine(home, ".cache");
        return caches is null
            ? new KernelCache(null, $"no cache: neither HOME nor XDG_CACHE_HOME nor {FolderVariable} is set")
            : new KernelCache(Path.Combine(caches, "tiller", "kernels"));
    }

    /// <summary>The image of an entry; null if the entry is missing or damaged.</summary>
    public byte[]? Read(string name)
    {
        if (Folder is null)
        {
            return null;
        }

        try
        {
            byte[] entry = File.ReadAllBytes(Path.Combine(Folder, name));
            if (IsWhole(entry))
            {
                return entry[HeaderInBytes..];
            }

            lock (_gate)
            {
                Damaged++;
            }

            return null;
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Note($"the cache cannot be read: {e.Message}");
            return null;
        }
    }

    /// <summary>Writes an image as an entry. An existing entry is replaced.</summary>
    public void Write(string name, ReadOnlySpan<byte> image)
    {
        if (Folder is null)
        {
            return;
        }

        string temporary = Path.Combine(Folder,
            string.Create(CultureInfo.InvariantCulture, $".{name}.{Environment.ProcessId}-{Guid.NewGuid():N}.tmp"));
        try
        {
            Create(Folder);
            RemoveAbandoned(Folder);
            Span<byte> header = stackalloc byte[HeaderInBytes];
            Magic.CopyTo(header);
            BinaryPrimitives.WriteInt64LittleEndian(header[8..], image.Length);
            SHA256.HashData(image, header[16..]);
            using (var stream = new FileStream(temporary, FileMode.CreateNew, FileAccess.Write, FileShare.None))
            {
                stream.Write(header);
                stream.Write(image);
                stream.Flush(flushToDisk: true);
            }

            File.Move(temporary, Path.Combine(Folder, name), overwrite: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            Note($"the cache cannot be written: {e.Message}");
            Remove(temporary);
        }
    }

    private static bool IsWhole(ReadOnlySpan<byte> entry) =>
        entry.Length > HeaderInBytes
        && entry.StartsWith(Magic)
        && BinaryPrimitives.ReadInt64LittleEndian(entry[8..]) == entry.Length - HeaderInBytes
        && SHA256.HashData(entry[HeaderInBytes..]).AsSpan().SequenceEqual(entry.Slice(16, 32));

    // XDG Base Directory Specification: a missing folder is created with mode 0700.
    private static void Create(string folder)
    {
        if (OperatingSystem.IsWindows())
        {
            Directory.CreateDirectory(folder);
        }
        else
        {
            Directory.CreateDirectory(folder, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        }
    }

    // Removes temporary files of processes that were killed while they wrote.
    private void RemoveAbandoned(string folder)
    {
        lock (_gate)
        {
            if (_tidied)
            {
                return;
            }

            _tidied = true;
        }

        foreach (string file in Directory.EnumerateFiles(folder, ".*.tmp")
            .Where(file => DateTime.UtcNow - File.GetLastWriteTimeUtc(file) > s_abandoned))
        {
            Remove(file);
        }
    }

    private static void Remove(string file)
    {
        try
        {
            File.Delete(file);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Another process may have removed it. The reason why writing failed has been noted already.
        }
    }

    private void Note(string problem)
    {
        lock (_gate)
        {
            Problem ??= problem;
        }
    }
}
