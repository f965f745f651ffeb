using System.Globalization;

namespace Tiller.Checkpoint;

/// <summary>Resolves all symbolic links in a path.</summary>
internal static class RealPath
{
    private const int MaxLinks = 40;

    /// <summary>
    /// The absolute path of the same file without links. Parts that do not exist are kept. An open descriptor (/dev/stdout, /proc/self/fd/3) becomes
    /// /proc/PID/fd/N, because the target of that link is a description, not a path.
    /// </summary>
    /// <exception cref="IOException">The links form a loop.</exception>
    public static string Of(string path)
    {
        int links = 0;
        string full = Path.GetFullPath(path);
        string real = Path.GetPathRoot(full)!;
        var rest = new Stack<string>(Parts(full, real.Length).Reverse());
        while (rest.TryPop(out string? part))
        {
            string next = Path.Combine(real, part);
            string? target = IsDescriptors(real) ? null : new FileInfo(next).LinkTarget;
            if (target is null)
            {
                real = next;
                continue;
            }

            if (++links > MaxLinks)
            {
                throw new IOException("Too many levels of symbolic links.");
            }

            string followed = Path.GetFullPath(target, real);
            real = Path.GetPathRoot(followed)!;
            foreach (string piece in Parts(followed, real.Length).Reverse())
            {
                rest.Push(piece);
            }
        }

        return real;
    }

    /// <summary>Whether a real path names an open descriptor, of this process or of another one.</summary>
    public static bool IsDescriptor(string real) => Path.GetDirectoryName(real) is { } folder && IsDescriptors(folder);

    /// <summary>The number of the descriptor if a real path names one of this process; otherwise null.</summary>
    public static int? DescriptorOf(string real) =>
        IsDescriptor(real) && IsOwn(real) && int.TryParse(Path.GetFileName(real), NumberStyles.None, CultureInfo.InvariantCulture, out int number)
            ? number
            : null;

    // /proc/PID/fd and /proc/PID/task/TID/fd on Linux, /dev/fd elsewhere.
    private static bool IsDescriptors(string folder) => folder == "/dev/fd"
        || (folder.StartsWith("/proc/", StringComparison.Ordinal) && folder.EndsWith("/fd", StringComparison.Ordinal));

    private static bool IsOwn(string descriptor) =>
        !descriptor.StartsWith("/proc/", StringComparison.Ordinal) || IsInside(descriptor, Of("/proc/self"));

    /// <summary>Whether <paramref name="path"/> lies inside <paramref name="folder"/>. Both must be real paths.</summary>
    public static bool IsInside(string path, string folder)
        => path.StartsWith(folder.EndsWith(Path.DirectorySeparatorChar) ? folder : folder + Path.DirectorySeparatorChar, StringComparison.Ordinal);

    private static string[] Parts(string full, int rootLength)
        => full[rootLength..].Split(Path.DirectorySeparatorChar, StringSplitOptions.RemoveEmptyEntries);
}
