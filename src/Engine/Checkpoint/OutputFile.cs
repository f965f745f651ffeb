using System.Net.Sockets;

namespace Tiller.Checkpoint;

/// <summary>
/// Writes to a path; all output files are written here. A regular file, or a new one, is written completely or not at all. Symbolic links are
/// followed, and their target is replaced in its own folder, or created if it does not exist. A device, a pipe, a socket or an open descriptor
/// (/dev/stdout, /proc/self/fd/3) is written to directly.
/// </summary>
public static class OutputFile
{
    private const int BufferSize = 1 << 16;

    /// <summary>Writes to a path.</summary>
    /// <param name="path">The file to create or replace, whose folder must exist; or a device, pipe, socket or open descriptor.</param>
    /// <param name="write">Writes the content from front to back. The stream may not support seeking.</param>
    /// <exception cref="IOException">
    /// The path is a folder or cannot be created, its links form a loop, the disk is full, or nobody reads the pipe.
    /// </exception>
    /// <exception cref="UnauthorizedAccessException">There is no permission to write there.</exception>
    public static void Write(string path, Action<Stream> write)
    {
        ArgumentNullException.ThrowIfNull(write);
        var (real, kind) = Find(path);
        if (kind is null or FileKind.Regular && !RealPath.IsDescriptor(real))
        {
            AtomicFile.Write(real, write);
            return;
        }

        using var stream = new BufferedStream(Open(real, kind!.Value), BufferSize);
        write(stream);
        stream.Flush();
    }

    /// <summary>
    /// Throws the exceptions that <see cref="Write"/> would throw before the first byte, and changes nothing. It checks neither permissions nor free
    /// space.
    /// </summary>
    /// <param name="path">As for <see cref="Write"/>.</param>
    /// <exception cref="IOException">The path is a folder or cannot be created, or its links form a loop.</exception>
    /// <exception cref="UnauthorizedAccessException">A folder of the path may not be entered.</exception>
    public static void Check(string path) => Find(path);

    /// <summary>Whether a path names the standard output of this process, as /dev/stdout does.</summary>
    /// <param name="path">Any path. Its links may be broken.</param>
    public static bool IsStandardOutput(string path)
    {
        const int StandardOutput = 1;
        try
        {
            return !OperatingSystem.IsWindows() && RealPath.DescriptorOf(RealPath.Of(path)) == StandardOutput;
        }
        catch (IOException)
        {
            return false; // a loop of links
        }
    }

    /// <summary>Whether <see cref="Write"/> to a path would replace the file that another path leads to, be it there yet or not.</summary>
    internal static bool Replaces(string path, string other)
    {
        var (real, kind) = Find(path);
        try
        {
            return kind is null or FileKind.Regular && !RealPath.IsDescriptor(real) && RealPath.Of(other) == real;
        }
        catch (IOException)
        {
            return false; // the other's links form a loop
        }
    }

    // The real path, and the kind of file there; null if there is none yet.
    private static (string Real, FileKind? Kind) Find(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        string full = Path.GetFullPath(path);
        FileKind? kind = null;
        try
        {
            kind = FileIdentity.KindOf(full); // the system reports loops and links that may not be followed
        }
        catch (FileNotFoundException)
        {
            // The file will be created.
        }
        catch (IOException e)
        {
            throw new IOException($"{path}: {e.Message}", e);
        }

        string real = RealPath.Of(full);
        if (kind is FileKind.Folder || Path.GetFileName(full).Length == 0)
        {
            throw new IOException($"{path} is a folder; name a file.");
        }

        if (kind is null)
        {
            if (RealPath.IsDescriptor(real))
            {
                throw new FileNotFoundException($"{path}: there is no such open descriptor.");
            }

            string? folder = Path.GetDirectoryName(real);
            if (!Directory.Exists(folder))
            {
                throw new DirectoryNotFoundException($"{path} cannot be written: there is no folder {folder}. Create it, or name another.");
            }
        }

        return (real, kind);
    }

    private static Stream Open(string real, FileKind kind)
    {
        if (OperatingSystem.IsWindows())
        {
            return new FileStream(real, FileMode.Open, FileAccess.Write, FileShare.ReadWrite, bufferSize: 0);
        }

        return RealPath.DescriptorOf(real) is { } number ? DescriptorStream.Of(number)
            : kind is FileKind.Socket ? Connect(real)
            : DescriptorStream.Open(real);
    }

    private static NetworkStream Connect(string path)
    {
        var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        try
        {
            socket.Connect(new UnixDomainSocketEndPoint(path));
            return new NetworkStream(socket, ownsSocket: true);
        }
        catch (SocketException e)
        {
            socket.Dispose();
            throw new IOException($"{path} is a socket that nobody listens on: {e.Message}.", e);
        }
    }
}
