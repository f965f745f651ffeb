using System.Globalization;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Tiller.Checkpoint;

/// <summary>
/// Replaces a regular file in one step. A reader always sees the complete old file or the complete new one, also after a power failure.
/// </summary>
internal static partial class AtomicFile
{
    private const string Ending = ".tmp";
    private const int UniqueLength = 12;
    private const short ReadLock = 0;   // F_RDLCK
    private const short WriteLock = 1;  // F_WRLCK
    private const UnixFileMode OwnerAlone = UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute;
    private const UnixFileMode Permissions = OwnerAlone | UnixFileMode.GroupRead | UnixFileMode.GroupWrite | UnixFileMode.GroupExecute
        | UnixFileMode.OtherRead | UnixFileMode.OtherWrite | UnixFileMode.OtherExecute;

    /// <summary>
    /// Writes to a temporary file in the same folder, syncs it, renames it over <paramref name="path"/>, and syncs the folder. After a failure the
    /// temporary file is removed and the old file is unchanged. Before writing, temporary files that killed writers of the same path left behind are
    /// removed (on Linux). A replaced file keeps its permissions, and its owner and group if the process may assign them.
    /// </summary>
    /// <param name="path">Absolute path, without links, of the file to create or replace; its folder must exist.</param>
    /// <param name="write">Writes the content to the stream.</param>
    /// <exception cref="IOException">The disk is full, or the folder is missing.</exception>
    /// <exception cref="UnauthorizedAccessException">No permission to write in the folder.</exception>
    public static void Write(string path, Action<Stream> write)
    {
        string folder = Path.GetDirectoryName(path)!, name = Path.GetFileName(path);
        RemoveAbandoned(folder, name);
        string temporary = "";
        try
        {
            Access? old = Access.Of(path);
            using (FileStream stream = Create(folder, name, old?.Mode & OwnerAlone, out temporary))
            {
                old?.Give(stream.SafeFileHandle);
                write(stream);
                stream.Flush(flushToDisk: true);
                if (!OperatingSystem.IsWindows())
                {
                    File.Move(temporary, path, overwrite: true); // still open, and so still locked
                }
            }

            if (OperatingSystem.IsWindows())
            {
                File.Move(temporary, path, overwrite: true);
            }
        }
        catch (ArgumentOutOfRangeException e) when (e.ParamName == "value")
        {
            // .NET throws this for EFBIG.
            Remove(temporary);
            throw new IOException($"The file would be larger than the file system or the process's limit allows: {e.Message}", e);
        }
        catch
        {
            Remove(temporary);
            throw;
        }

        SyncFolder(folder);
    }

    // A writer holds a write lock on its temporary file until the file has the target's name. The kernel drops the lock when the writer dies, however
    // it dies. So a temporary file on which a read lock can be had is abandoned, and one on which it cannot has a living writer. A process id in the
    // name would not show this: ids are reused, and another container that shares the folder has its own ids. A cleaner may remove the file between
    // its creation and its locking; the writer then notices that the file is gone and creates another. These are locks of open file descriptions
    // (fcntl(2), F_OFD_SETLK) and not flock(2), which .NET takes on every file that it opens: a cleaner's would keep others from opening the file,
    // which may have the target's name by then.
    private static FileStream Create(string folder, string name, UnixFileMode? mode, out string temporary)
    {
        var options = new FileStreamOptions
        {
            Mode = FileMode.CreateNew,
            Access = FileAccess.Write,
            Share = FileShare.ReadWrite | FileShare.Delete,
            BufferSize = 1 << 16,
        };
        if (!OperatingSystem.IsWindows())
        {
            options.UnixCreateMode = mode;
        }

        while (true)
        {
            string unique = Environment.ProcessId.ToString(CultureInfo.InvariantCulture) + "-" + Guid.NewGuid().ToString("N")[..UniqueLength];
            temporary = Path.Combine(folder, $".{name}.{unique}{Ending}");
            var stream = new FileStream(temporary, options);
            if (!OperatingSystem.IsLinux()
                || (Lock(stream.SafeFileHandle, WriteLock) is not LockResult.Taken && IsNamed(stream.SafeFileHandle, temporary)))
            {
                return stream;
            }

            stream.Dispose();
            Remove(temporary);
        }
    }

    /// <summary>Whether a path names the open file.</summary>
    internal static bool IsNamed(SafeFileHandle handle, string path)
    {
        try
        {
            FileIdentity opened = FileIdentity.Of(handle), named = FileIdentity.Of(path);
            return (opened.Device, opened.Inode) == (named.Device, named.Inode);
        }
        catch (FileNotFoundException)
        {
            return false;
        }
    }

    private static void RemoveAbandoned(string folder, string name)
    {
        if (!OperatingSystem.IsLinux() || !Directory.Exists(folder))
        {
            return;
        }

        string[] found;
        try
        {
            found = [.. Directory.EnumerateFiles(folder).Where(path => IsTemporaryOf(name, Path.GetFileName(path)))];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return; // a folder may be writable without being readable
        }

        foreach (string path in found)
        {
            try
            {
                using SafeFileHandle handle = FileIdentity.OpenRegular(path);
                if (Lock(handle, ReadLock) is LockResult.Held)
                {
                    File.Delete(path);
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // The file is already gone or belongs to another user: it must stay.
            }
        }
    }

    // .NAME.PID-UNIQUE.tmp
    private static bool IsTemporaryOf(string name, string file)
    {
        string start = $".{name}.";
        if (file.Length <= start.Length + Ending.Length || !file.StartsWith(start, StringComparison.Ordinal)
            || !file.EndsWith(Ending, StringComparison.Ordinal))
        {
            return false;
        }

        string[] parts = file[start.Length..^Ending.Length].Split('-');
        return parts.Length == 2 && parts[0].Length > 0 && parts[0].All(char.IsAsciiDigit) && parts[1].Length == UniqueLength
            && parts[1].All(char.IsAsciiHexDigitLower);
    }

    private static void Remove(string temporary)
    {
        try
        {
            if (temporary.Length > 0)
            {
                File.Delete(temporary);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The caller is already throwing the first failure, which is the one to report.
        }
    }

    /// <summary>Permissions and owner of a file. The owner is known on Linux only.</summary>
    private readonly record struct Access(UnixFileMode Mode, (uint User, uint Group)? Owner)
    {
        /// <summary>The access of a file; null if there is no such file.</summary>
        public static Access? Of(string path)
        {
            try
            {
                return OperatingSystem.IsWindows() ? null
                    : new Access(File.GetUnixFileMode(path) & Permissions, OperatingSystem.IsLinux() ? FileIdentity.OwnerOf(path) : null);
            }
            catch (FileNotFoundException)
            {
                return null;
            }
        }

        // The group comes first, the mode second: until then only the writer may open the new file, so the old mode's group rights never go to
        // another group.
        public void Give(SafeFileHandle file)
        {
            if (OperatingSystem.IsWindows())
            {
                return;
            }

            const uint Unchanged = uint.MaxValue;
            if (Owner is var (user, group) && FileIdentity.OwnerOf(file) != Owner && Chown(file, user, group) != 0)
            {
                _ = Chown(file, Unchanged, group);
            }

            if (File.GetUnixFileMode(file) != Mode)
            {
                File.SetUnixFileMode(file, Mode);
            }
        }
    }

    private enum LockResult
    {
        Held,
        Taken,
        Unknown, // a file system without locks
    }

    // Locks the whole file without waiting. A write lock needs a handle that writes, a read lock one that reads.
    private static LockResult Lock(SafeFileHandle handle, short kind)
    {
        const int SetLock = 37;     // F_OFD_SETLK
        const int WouldBlock = 11;  // EAGAIN
        var whole = new FileLock { Kind = kind };
        return SetFileLock(handle, SetLock, ref whole) == 0 ? LockResult.Held
            : Marshal.GetLastPInvokeError() == WouldBlock ? LockResult.Taken
            : LockResult.Unknown;
    }

    // The rename is durable only after the folder has been synced. .NET cannot open a folder, so this calls open, fsync and close.
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

    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int SetFileLock(SafeFileHandle file, int command, ref FileLock fileLock);

    [LibraryImport("libc", EntryPoint = "fchown", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int Chown(SafeFileHandle file, uint user, uint group);

    [LibraryImport("libc", EntryPoint = "close", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int Close(int descriptor);

    // struct flock of 64-bit Linux; from 0 with length 0 is the whole file, and the process must be 0.
    [StructLayout(LayoutKind.Sequential)]
    private struct FileLock
    {
        public short Kind;
        public short Whence;
        public long Start;
        public long Length;
        public int Process;
    }
}
