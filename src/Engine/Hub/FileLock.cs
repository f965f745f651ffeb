using Tiller.Checkpoint;

namespace Tiller.Hub;

/// <summary>
/// A lock between processes: a file that is open and locked. On Unix it is an exclusive flock, which huggingface_hub takes too; the kernel drops it
/// with its process, however that ends. The file stays, as there.
/// </summary>
internal static class FileLock
{
    private static readonly TimeSpan s_pause = TimeSpan.FromMilliseconds(100);

    /// <summary>Takes the lock, waiting for whoever has it.</summary>
    /// <param name="path">The file; its folder must exist.</param>
    /// <param name="pause">Waits for a time.</param>
    /// <param name="waiting">Called once if there is someone to wait for.</param>
    /// <param name="cancellationToken">Ends waiting.</param>
    /// <returns>The lock, given back when disposed of.</returns>
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

    // FileShare.None is LOCK_EX | LOCK_NB on Unix.
    private static FileStream? TryTake(string path)
    {
        FileStream? stream = null;
        try
        {
            stream = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 0);
            // Other clients remove a lock's file when they are done: a lock on a file without a name keeps nobody out.
            if (!OperatingSystem.IsLinux() || AtomicFile.IsNamed(stream.SafeFileHandle, path))
            {
                return stream;
            }
        }
        catch (IOException e) when (IsTaken(e))
        {
            return null;
        }

        stream.Dispose();
        return null;
    }

    private static bool IsTaken(IOException error)
    {
        const int SharingViolation = unchecked((int)0x80070020);
        int wouldBlock = OperatingSystem.IsLinux() ? 11 : 35; // EWOULDBLOCK
        return error.HResult == (OperatingSystem.IsWindows() ? SharingViolation : wouldBlock);
    }
}
