namespace Tiller.Checkpoint;

/// <summary>What is wrong with a safetensors file.</summary>
public enum SafetensorsError
{
    /// <summary>Fewer than the 8 bytes of the header length.</summary>
    HeaderTooSmall,

    /// <summary>The header length is above 100,000,000: most often, not a safetensors file at all.</summary>
    HeaderTooLarge,

    /// <summary>The header would reach past the end of the file.</summary>
    InvalidHeaderLength,

    /// <summary>The header is not UTF-8.</summary>
    InvalidUtf8,

    /// <summary>The header is not JSON, or not of the form the format prescribes.</summary>
    InvalidJson,

    /// <summary>Tensors overlap, leave a hole, or end before they begin.</summary>
    InvalidOffset,

    /// <summary>Offsets disagree with type and shape.</summary>
    TensorInvalidInfo,

    /// <summary>A size does not fit 64 bits.</summary>
    Overflow,

    /// <summary>A tensor of sub-byte elements does not end at a byte.</summary>
    MisalignedSlice,

    /// <summary>The tensors' bytes and the file's length disagree.</summary>
    IncompleteBuffer,

    /// <summary>No tensor of that name.</summary>
    TensorNotFound,

    /// <summary>A name or key occurs twice.</summary>
    DuplicateName,

    /// <summary>A tensor entry has a field that the format does not know.</summary>
    UnknownField,

    /// <summary>Above a limit of this reader, or of the memory at hand.</summary>
    LimitExceeded,

    /// <summary>The element type is unknown, or not one that can be loaded as asked.</summary>
    UnsupportedType,

    /// <summary>A read reaches outside its tensor.</summary>
    SliceOutOfRange,

    /// <summary>The file cannot be opened, read or written, or has changed while it was read.</summary>
    InputOutput,
}

/// <summary>A safetensors file is malformed, unreadable, or does not hold what was asked of it.</summary>
public sealed class SafetensorsException : TillerException
{
    internal SafetensorsException(
        SafetensorsError error,
        string file,
        string message,
        string? tensor = null,
        long? offset = null,
        string? expected = null,
        string? actual = null,
        Exception? cause = null)
        : base(Compose(file, message, tensor, offset, expected, actual), cause)
    {
        Error = error;
        File = file;
        Tensor = tensor;
        Offset = offset;
        Expected = expected;
        Actual = actual;
    }

    /// <summary>What is wrong.</summary>
    public SafetensorsError Error { get; }

    /// <summary>The file as it was given.</summary>
    public string File { get; }

    /// <summary>The tensor (or metadata key) concerned, unescaped; null when the error is not about one.</summary>
    public string? Tensor { get; }

    /// <summary>Byte position in the file; null when unknown.</summary>
    public long? Offset { get; }

    /// <summary>What was expected, or null.</summary>
    public string? Expected { get; }

    /// <summary>What came, or null.</summary>
    public string? Actual { get; }

    private static string Compose(string file, string message, string? tensor, long? offset, string? expected, string? actual)
    {
        string text = Quoted.Bare(file);
        text += tensor is null ? "" : $", tensor {Quoted.Text(tensor)}";
        text += offset is null ? "" : $", byte {offset}";
        text += ": " + message;
        text += expected is null ? "" : $" Expected {expected}";
        text += actual is null ? "" : expected is null ? $" Got {actual}" : $", got {actual}";
        return expected is null && actual is null ? text : text + ".";
    }
}
