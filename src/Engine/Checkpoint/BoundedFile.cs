namespace Tiller.Checkpoint;

/// <summary>Reads a whole small file, refusing one that is larger than a limit before anything is allocated.</summary>
internal static class BoundedFile
{
    /// <summary>All bytes of the file.</summary>
    /// <param name="path">A regular file.</param>
    /// <param name="limit">Most bytes it may have.</param>
    /// <param name="tooLarge">Makes the error for a file of the given length above the limit.</param>
    /// <exception cref="IOException">Missing, unreadable, or no regular file.</exception>
    /// <exception cref="UnauthorizedAccessException">No permission.</exception>
    public static byte[] Read(string path, int limit, Func<long, TillerException> tooLarge)
    {
        using var handle = FileIdentity.OpenRegular(path);
        long length = RandomAccess.GetLength(handle);
        if (length > limit)
        {
            throw tooLarge(length);
        }

        var bytes = new byte[length];
        int done = 0;
        for (int read = -1; done < bytes.Length && read != 0; done += read)
        {
            read = RandomAccess.Read(handle, bytes.AsSpan(done), done);
        }

        return done == bytes.Length ? bytes : throw new IOException("The file was cut short while it was read.");
    }
}
