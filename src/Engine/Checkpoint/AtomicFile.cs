using System.Globalization;
using System.Runtime.InteropServices;

namespace Tiller.Checkpoint;

/// <summary>Replaces a file as one step: a reader, or a machine that loses power, sees the old file or the new one, whole.</summary>
public static partial class AtomicFile
{
    /// <summary>
    /// Writes to a temporary file in the same folder, syncs it, renames it over <paramref name="path"/>, and syncs the folder.
    /// On any failure the temporary file is removed and the old file is as it was.
    /// </summary>
    /// <param name="path">The file to create or replace; its folder must exist.</param>
    /// <param name="write">Writes the content.</param>
    /// <exception cref="IOException">The disk is full, the folder is missing, or <paramref name="path"/> is a folder.</exception>
    /// <exception cref="UnauthorizedAccessException">No permission to write in the folder.</exception>
    public static void Write(string path, Action<Stream> write)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        ArgumentNullException.ThrowIfNull(write);
        string target = Path.GetFullPath(path);
        string folder = Path.GetDirectoryName(target) ?? throw new IOException($"{target} is a folder.");
        string unique = Environment.ProcessId.ToString(CultureInfo.InvariantCulture) + "-" + Guid.NewGuid().ToString("N")[..12];
        string temporary = Path.Combine(folder, $".{Path.GetFileName(target)}.{unique}.tmp");
        try
        {
            using (var stream = new FileStream(temporary, FileMode.CreateNew, FileAccess.Write, FileShare.None, bufferSize: 1 << 16))
            {
                write(stream);
                stream.Flush(flushToDisk: true);
            }

            File.Move(temporary, target, overwrite: true);
        }
        catch
        {
            Remove(temporary);
            throw;
        }

        SyncFolder(folder);
    }

    private static void Remove(string temporary)
    {
        try
        {
            File.Delete(temporary);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The first failure is the one to report; it is on its way.
        }
    }

    // The rename itself is durable only once the folder is; .NET opens no folder, so this is open, fsync, close.
    private static void SyncFolder(string folder)
    {
        if (OperatingSystem.IsWindows())
        {
            return;
        }

        const int ReadOnly = 0;
        int descriptor = Open(folder, ReadOnly);
        if (descriptor < 0)
        {
            throw new IOException($"{folder}: {Marshal.GetLastPInvokeErrorMessage()} (the file is written, its folder could not be synced).");
        }

        try
        {
            const int Invalid = 22; // EINVAL: some file systems have nothing to sync for a folder
            if (Sync(descriptor) != 0 && Marshal.GetLastPInvokeError() != Invalid)
            {
                throw new IOException($"{folder}: {Marshal.GetLastPInvokeErrorMessage()} (the file is written, its folder could not be synced).");
            }
        }
        finally
        {
            _ = Close(descriptor);
        }
    }

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int Sync(int descriptor);

    [LibraryImport("libc", EntryPoint = "close", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int Close(int descriptor);
}
