namespace Tiller.Checkpoint;

/// <summary>The kinds of errors in a safetensors file.</summary>
public enum SafetensorsError
{
    /// <summary>The file has fewer than the 8 bytes of the header length.</summary>
    HeaderTooSmall,

    /// <summary>The header length is above 100,000,000. Most often, such a file is not a safetensors file.</summary>
    HeaderTooLarge,

    /// <summary>The header reaches past the end of the file.</summary>
    InvalidHeaderLength,

    /// <summary>The header is not UTF-8.</summary>
    InvalidUtf8,

    /// <summary>The header is not JSON, or not of the form that the format prescribes.</summary>
    InvalidJson,

    /// <summary>Tensors overlap, leave a gap, or end before they begin.</summary>
    InvalidOffset,

    /// <summary>The offsets of a tensor do not match its type and shape.</summary>
    TensorInvalidInfo,

    /// <summary>A size does not fit 64 bits.</summary>
    Overflow,

    /// <summary>A tensor of sub-byte elements does not end at a byte.</summary>
    MisalignedSlice,

    /// <summary>The total size of the tensors does not match the length of the file.</summary>
    IncompleteBuffer,

    /// <summary>There is no tensor of that name.</summary>
    TensorNotFound,

    /// <summary>A name or key occurs twice.</summary>
    DuplicateName,

    /// <summary>A tensor entry has a field that is not part of the format.</summary>
    UnknownField,

    /// <summary>A size is above a limit of this reader, or above the available memory.</summary>
    LimitExceeded,

    /// <summary>The element type is unknown, or cannot be converted to the requested one.</summary>
    UnsupportedType,

    /// <summary>A read reaches outside its tensor.</summary>
    SliceOutOfRange,

    /// <summary>The file cannot be opened, read or written, or was changed while it was read.</summary>
    InputOutput,
}

/// <summary>A safetensors file is malformed or unreadable, or lacks what was requested.</summary>
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

    /// <summary>The kind of error.</summary>
    public SafetensorsError Error { get; }

    /// <summary>The path of the file as it was given.</summary>
    public string File { get; }

    /// <summary>The tensor or metadata key with the error, unescaped; null if the error concerns the whole file.</summary>
    public string? Tensor { get; }

    /// <summary>Byte position in the file; null if unknown.</summary>
    public long? Offset { get; }

    /// <summary>The expected value, or null.</summary>
    public string? Expected { get; }

    /// <summary>The actual value, or null.</summary>
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
