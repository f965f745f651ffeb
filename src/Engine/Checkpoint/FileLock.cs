namespace Tiller.Checkpoint;

/// <summary>
/// A lock between processes: a file that is open and locked. On Unix it is an exclusive flock, which huggingface_hub uses too. The kernel drops it
/// when its process ends, for any reason. The file is kept, as huggingface_hub does; on Linux its holder may delete it.
/// </summary>
internal static class FileLock
{
    private static readonly TimeSpan s_pause = TimeSpan.FromMilliseconds(100);

    /// <summary>Takes the lock, and waits while another process holds it.</summary>
    /// <param name="path">The lock file. Its folder must exist.</param>
    /// <param name="pause">Waits for the given time.</param>
    /// <param name="waiting">Called once if another process holds the lock.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>The lock. Disposing of it releases the lock.</returns>
    public static async Task<IDisposable> TakeAsync(
        string path, Func<TimeSpan, CancellationToken, Task> pause, Action waiting, CancellationToken cancellationToken)
    {
        for (bool told = false; ;)
        {
            if (TryTake(path) is { } held)
            {
                return held;
            }

            if (!told)
            {
                told = true;
                waiting();
            }

            await pause(s_pause, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Takes the lock; null while another process, or this one, holds it.</summary>
    /// <param name="path">The lock file. Its folder must exist.</param>
    public static FileStream? TryTake(string path)
    {
        while (true)
        {
            FileStream stream;
            try
            {
                // FileShare.None is LOCK_EX | LOCK_NB on Unix.
                stream = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 0);
            }
            catch (IOException e) when (IsTaken(e))
            {
                return null;
            }

            bool holds = false;
            try
            {
                // Others delete a lock's file when they are done. A lock on a deleted file excludes nobody.
                holds = !OperatingSystem.IsLinux() || AtomicFile.IsNamed(stream.SafeFileHandle, path);
                if (holds)
                {
                    return stream;
                }
            }
            finally
            {
                if (!holds)
                {
                    stream.Dispose();
                }
            }
        }
    }

    /// <summary>Whether a file could not be opened because another has locked it.</summary>
    internal static bool IsTaken(IOException error)
    {
        const int SharingViolation = unchecked((int)0x80070020);
        int wouldBlock = OperatingSystem.IsLinux() ? 11 : 35; // EWOULDBLOCK
        return error.HResult == (OperatingSystem.IsWindows() ? SharingViolation : wouldBlock);
    }
}
