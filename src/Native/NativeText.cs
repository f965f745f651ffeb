using System.Runtime.InteropServices;
using System.Text;

namespace Tiller.Native;

/// <summary>The bytes of a text, followed by a zero byte, for a program in another language.</summary>
internal sealed unsafe class NativeText() : SafeHandle(nint.Zero, ownsHandle: true)
{
    private static readonly UTF8Encoding s_strict = new(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true);

    /// <inheritdoc/>
    public override bool IsInvalid => handle == nint.Zero;

    /// <summary>The bytes; valid until the next <see cref="Set"/>.</summary>
    public byte* Bytes => (byte*)handle;

    /// <summary>Number of bytes without the zero byte.</summary>
    public int Length { get; private set; }

    /// <summary>Reads a text of the caller.</summary>
    /// <exception cref="ArgumentException">The text is NULL or not UTF-8.</exception>
    public static string Read(byte* text, string name)
    {
        if (text is null)
        {
            throw new ArgumentException($"{name} is NULL; expected UTF-8 that ends with a zero byte.");
        }

        try
        {
            return s_strict.GetString(MemoryMarshal.CreateReadOnlySpanFromNullTerminated(text));
        }
        catch (DecoderFallbackException e)
        {
            throw new ArgumentException($"{name} is not UTF-8 at byte {e.Index}.", e);
        }
    }

    /// <summary>Replaces the text.</summary>
    public void Set(string text)
    {
        ReleaseHandle();
        Length = Encoding.UTF8.GetByteCount(text);
        SetHandle((nint)NativeMemory.Alloc((nuint)Length + 1));
        Encoding.UTF8.GetBytes(text, new Span<byte>(Bytes, Length));
        Bytes[Length] = 0;
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        NativeMemory.Free(Bytes);
        SetHandle(nint.Zero);
        return true;
    }
}
