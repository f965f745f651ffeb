namespace Tiller.Checkpoint;

/// <summary>Where a path ends once every symbolic link in it is followed.</summary>
internal static class RealPath
{
    private const int MostLinks = 40;

    /// <summary>The absolute path of the same file without any link in it; parts that do not exist are kept.</summary>
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
            string? target = new FileInfo(next).LinkTarget;
            if (target is null)
            {
                real = next;
                continue;
            }

            if (++links > MostLinks)
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

    /// <summary>True when <paramref name="path"/> lies inside <paramref name="folder"/>; both are real paths.</summary>
    public static bool IsInside(string path, string folder)
        => path.StartsWith(folder.EndsWith(Path.DirectorySeparatorChar) ? folder : folder + Path.DirectorySeparatorChar, StringComparison.Ordinal);

    private static string[] Parts(string full, int rootLength)
        => full[rootLength..].Split(Path.DirectorySeparatorChar, StringSplitOptions.RemoveEmptyEntries);
}
