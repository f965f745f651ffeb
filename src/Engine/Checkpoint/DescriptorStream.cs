using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Tiller.Checkpoint;

/// <summary>
/// Writes to a descriptor at its current position, and advances that position for all processes that share it. A <see cref="FileStream"/> would keep
/// its own position.
/// </summary>
internal sealed partial class DescriptorStream(SafeFileHandle handle) : Stream
{
    public override bool CanRead => false;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    /// <summary>Writes to a duplicate of an open descriptor, which itself stays open.</summary>
    public static DescriptorStream Of(int descriptor) => Owning(Duplicate(descriptor));

    /// <summary>Opens an existing file, pipe or device. Opening a pipe waits for its reader.</summary>
    public static DescriptorStream Open(string path)
    {
        const int WriteOnly = 1;
        return Owning(Open(path, WriteOnly), path);
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        while (!buffer.IsEmpty)
        {
            nint written = Write(handle, buffer, buffer.Length);
            if (written >= 0)
            {
                buffer = buffer[(int)written..];
                continue;
            }

            const int Interrupted = 4; // EINTR
            int error = Marshal.GetLastPInvokeError(), full = OperatingSystem.IsLinux() ? 11 : 35; // EAGAIN
            if (error == full)
            {
                Wait();
            }
            else if (error != Interrupted)
            {
                throw new IOException(Marshal.GetPInvokeErrorMessage(error) + ".");
            }
        }
    }

    public override void Flush()
    {
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        handle.Dispose();
        base.Dispose(disposing);
    }

    private static DescriptorStream Owning(int descriptor, string? path = null)
    {
        if (descriptor >= 0)
        {
            return new DescriptorStream(new SafeFileHandle(descriptor, ownsHandle: true));
        }

        const int NoAccess = 13; // EACCES
        int error = Marshal.GetLastPInvokeError();
        string text = (path is null ? "" : path + ": ") + Marshal.GetPInvokeErrorMessage(error) + ".";
        throw error == NoAccess ? new UnauthorizedAccessException(text) : new IOException(text);
    }

    // The descriptor may be non-blocking, so a write may fail while there is no room.
    private void Wait()
    {
        const short ForWriting = 4; // POLLOUT
        var poll = new Poll { Descriptor = (int)handle.DangerousGetHandle(), Events = ForWriting };
        _ = PollAll(ref poll, 1, -1);
        GC.KeepAlive(handle);
    }

    private struct Poll
    {
        public int Descriptor;
        public short Events;
        public short Returned;
    }

    [LibraryImport("libc", EntryPoint = "dup", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int Duplicate(int descriptor);

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "write", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial nint Write(SafeFileHandle file, ReadOnlySpan<byte> bytes, nint count);

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int PollAll(ref Poll poll, nuint count, int timeout);
}
