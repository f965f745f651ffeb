using System.Net.Sockets;

namespace Tiller.Checkpoint;

/// <summary>
/// The one way to write what a path names. A regular file, or one that is not there yet, appears whole or not at all; symbolic links are
/// followed, and what they lead to is replaced in its own folder, or made where there is nothing yet. A device, a pipe, a socket or an open
/// descriptor (/dev/stdout, /proc/self/fd/3) is written through and stays what it is.
/// </summary>
public static class OutputFile
{
    private const int BufferSize = 1 << 16;

    /// <summary>Writes what the path names.</summary>
    /// <param name="path">The file to create or replace, whose folder must exist, or something that takes a stream.</param>
    /// <param name="write">Writes the content, front to back: what is written through cannot seek.</param>
    /// <exception cref="IOException">
    /// The path names a folder or nothing that can be made, its links form a loop, the disk is full, or nobody reads the pipe.
    /// </exception>
    /// <exception cref="UnauthorizedAccessException">No permission to write there.</exception>
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
    /// Throws what <see cref="Write"/> would throw before the first byte, and leaves no trace. Permissions and room are not looked at.
    /// </summary>
    /// <param name="path">As for <see cref="Write"/>.</param>
    /// <exception cref="IOException">The path names a folder or nothing that can be made, or its links form a loop.</exception>
    /// <exception cref="UnauthorizedAccessException">A folder on the way may not be entered.</exception>
    public static void Check(string path) => Find(path);

    /// <summary>Whether a path names the standard output of this process, as /dev/stdout does.</summary>
    /// <param name="path">Any path; its links may lead nowhere.</param>
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

    // Where the path leads, and what is there; null for nothing yet.
    private static (string Real, FileKind? Kind) Find(string path)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        string full = Path.GetFullPath(path);
        FileKind? kind = null;
        try
        {
            kind = FileIdentity.KindOf(full); // the system's word on loops and on links that may not be followed
        }
        catch (FileNotFoundException)
        {
            // Yet to be made.
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
