using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Tiller.Checkpoint;

/// <summary>The kind of file that a path leads to.</summary>
internal enum FileKind
{
    Regular,
    Folder,
    Pipe,
    Socket,
    Device,
    Other,
}

/// <summary>
/// Identifies the file of a path or handle, and its state. On Linux it comes from statx(2), whose record has the same layout on every architecture.
/// Elsewhere it has only what .NET offers (no inode, no file type).
/// </summary>
internal readonly partial record struct FileIdentity(ulong Device, ulong Inode, long Length, long ModifiedNanoseconds)
{
    private const int CurrentFolder = -100;     // AT_FDCWD
    private const int EmptyPath = 0x1000;       // AT_EMPTY_PATH
    private const uint BasicFields = 0x7ff;     // STATX_BASIC_STATS
    private const int RecordSize = 256;
    private const int FileTypeMask = 0xf000;    // S_IFMT

    /// <summary>Opens a regular file for reading by offset. A folder, pipe, socket or device causes an exception at once, without waiting.</summary>
    /// <exception cref="IOException">The file is missing, unreadable, or not a regular file.</exception>
    /// <exception cref="UnauthorizedAccessException">No permission.</exception>
    public static SafeFileHandle OpenRegular(string path)
    {
        if (path.Contains('\0'))
        {
            throw new IOException("The path contains a NUL character.");
        }

        if (OperatingSystem.IsLinux())
        {
            // Opening a FIFO would wait for a writer, so the kind is checked first.
            FileKind kind = KindOf(path);
            if (kind != FileKind.Regular)
            {
                throw new IOException($"It is {Name(kind)}, not a regular file.");
            }
        }
        else if (Directory.Exists(path))
        {
            throw new IOException("It is a folder, not a regular file.");
        }
        else if (new FileInfo(path) is { Exists: true, Length: 0, LinkTarget: null })
        {
            throw new IOException("It is empty or not a regular file.");
        }

        return File.OpenHandle(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite | FileShare.Delete);
    }

    public static FileIdentity Of(SafeFileHandle handle)
    {
        if (OperatingSystem.IsLinux())
        {
            Span<byte> record = stackalloc byte[RecordSize];
            Fill(handle, record);
            return Parse(record);
        }

        long ticks = File.GetLastWriteTimeUtc(handle).Ticks;
        return new FileIdentity(0, 0, RandomAccess.GetLength(handle), ticks * 100);
    }

    public static FileIdentity Of(string path)
    {
        if (OperatingSystem.IsLinux())
        {
            Span<byte> record = stackalloc byte[RecordSize];
            Fill(CurrentFolder, path, 0, record);
            return Parse(record);
        }

        var info = new FileInfo(File.ResolveLinkTarget(path, returnFinalTarget: true)?.FullName ?? path);
        return new FileIdentity(0, 0, info.Length, info.LastWriteTimeUtc.Ticks * 100);
    }

    /// <summary>
    /// The kind of file that a path leads to, with links followed. On systems other than Linux everything in /dev is a device, and anything else that
    /// is not a folder is a regular file.
    /// </summary>
    /// <exception cref="FileNotFoundException">There is no such file.</exception>
    /// <exception cref="IOException">The links form a loop, or a part of the path is not a folder.</exception>
    /// <exception cref="UnauthorizedAccessException">A folder of the path may not be entered, or a link may not be followed.</exception>
    public static FileKind KindOf(string path)
    {
        if (OperatingSystem.IsLinux())
        {
            Span<byte> record = stackalloc byte[RecordSize];
            Fill(CurrentFolder, path, 0, record);
            return (BinaryPrimitives.ReadUInt16LittleEndian(record[28..]) & FileTypeMask) switch
            {
                0x8000 => FileKind.Regular,
                0x4000 => FileKind.Folder,
                0x1000 => FileKind.Pipe,
                0xc000 => FileKind.Socket,
                0x2000 or 0x6000 => FileKind.Device,
                _ => FileKind.Other,
            };
        }

        string real = RealPath.Of(path);
        return Directory.Exists(real) ? FileKind.Folder
            : real.StartsWith(OperatingSystem.IsWindows() ? @"\\.\" : "/dev/", StringComparison.Ordinal) ? FileKind.Device
            : File.Exists(real) ? FileKind.Regular
            : throw new FileNotFoundException("No such file or directory.", path);
    }

    /// <summary>Owner and group of the file that a path leads to; on Linux only.</summary>
    public static (uint User, uint Group) OwnerOf(string path)
    {
        Span<byte> record = stackalloc byte[RecordSize];
        Fill(CurrentFolder, path, 0, record);
        return ParseOwner(record);
    }

    /// <summary>Owner and group of an open file; on Linux only.</summary>
    public static (uint User, uint Group) OwnerOf(SafeFileHandle handle)
    {
        Span<byte> record = stackalloc byte[RecordSize];
        Fill(handle, record);
        return ParseOwner(record);
    }

    private static string Name(FileKind kind) => kind switch
    {
        FileKind.Regular => "a regular file",
        FileKind.Folder => "a folder",
        FileKind.Pipe => "a named pipe",
        FileKind.Socket => "a socket",
        FileKind.Device => "a device",
        _ => "something special",
    };

    private static (uint User, uint Group) ParseOwner(ReadOnlySpan<byte> record) =>
        (BinaryPrimitives.ReadUInt32LittleEndian(record[20..]), BinaryPrimitives.ReadUInt32LittleEndian(record[24..]));

    // struct statx: uid u32 at 20, gid u32 at 24, mode u16 at 28, ino u64 at 32, size u64 at 40, mtime (s64 s, u32 ns) at 112, dev_major u32 at
    // 136, dev_minor u32 at 140.
    private static FileIdentity Parse(ReadOnlySpan<byte> record) => new(
        BinaryPrimitives.ReadUInt64LittleEndian(record[136..]),
        BinaryPrimitives.ReadUInt64LittleEndian(record[32..]),
        BinaryPrimitives.ReadInt64LittleEndian(record[40..]),
        unchecked((BinaryPrimitives.ReadInt64LittleEndian(record[112..]) * 1_000_000_000) + BinaryPrimitives.ReadUInt32LittleEndian(record[120..])));

    private static void Fill(SafeFileHandle handle, Span<byte> record)
    {
        bool added = false;
        try
        {
            handle.DangerousAddRef(ref added);
            Fill((int)handle.DangerousGetHandle(), "", EmptyPath, record);
        }
        finally
        {
            if (added)
            {
                handle.DangerousRelease();
            }
        }
    }

    private static void Fill(int folder, string path, int flags, Span<byte> record)
    {
        if (Statx(folder, path, flags, BasicFields, ref MemoryMarshal.GetReference(record)) == 0)
        {
            return;
        }

        int error = Marshal.GetLastPInvokeError();
        const int NoEntry = 2;
        const int NoAccess = 13;
        string text = Marshal.GetPInvokeErrorMessage(error) + ".";
        throw error switch
        {
            NoEntry => new FileNotFoundException(text, path),
            NoAccess => new UnauthorizedAccessException(text),
            _ => new IOException(text),
        };
    }

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int Statx(int folder, string path, int flags, uint mask, ref byte record);
}
