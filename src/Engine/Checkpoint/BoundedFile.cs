namespace Tiller.Checkpoint;

/// <summary>Reads a whole small file. A file above a limit is refused before anything is allocated.</summary>
internal static class BoundedFile
{
    /// <summary>Reads all bytes of a file.</summary>
    /// <param name="path">A regular file.</param>
    /// <param name="limit">Maximum number of bytes.</param>
    /// <param name="tooLarge">Creates the exception for a file whose given length is above the limit.</param>
    /// <exception cref="IOException">The file is missing, unreadable, or not a regular file.</exception>
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
