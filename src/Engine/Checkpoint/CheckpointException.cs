namespace Tiller.Checkpoint;

/// <summary>Kinds of errors in a checkpoint folder.</summary>
public enum CheckpointError
{
    /// <summary>A file is not valid JSON (or not UTF-8).</summary>
    InvalidJson,

    /// <summary>A file is JSON, but not of the form it must have.</summary>
    Schema,

    /// <summary>A key or tensor occurs twice.</summary>
    Duplicate,

    /// <summary>A size is above a limit of this reader.</summary>
    LimitExceeded,

    /// <summary>The index names a file outside the checkpoint, or a name that is not a plain file name.</summary>
    UnsafePath,

    /// <summary>The folder, or a file that must be in it, is missing.</summary>
    Missing,

    /// <summary>A tensor does not have the expected shape.</summary>
    ShapeMismatch,

    /// <summary>A file format or an element type is not supported.</summary>
    Unsupported,

    /// <summary>A read reaches outside its tensor.</summary>
    OutOfRange,

    /// <summary>There is no tensor of that name.</summary>
    TensorNotFound,

    /// <summary>A file cannot be opened or read.</summary>
    InputOutput,
}

/// <summary>A checkpoint folder is malformed or unreadable, or lacks what was requested.</summary>
public sealed class CheckpointException : TillerException
{
    internal CheckpointException(
        CheckpointError error,
        string path,
        string message,
        string? item = null,
        string? expected = null,
        string? actual = null,
        Exception? cause = null)
        : base(Compose(path, message, item, expected, actual), cause)
    {
        Error = error;
        Path = path;
        Item = item;
        Expected = expected;
        Actual = actual;
    }

    /// <summary>The kind of error.</summary>
    public CheckpointError Error { get; }

    /// <summary>The file or folder with the error.</summary>
    public string Path { get; }

    /// <summary>The tensor, key or file name with the error, unescaped; null if the error concerns the whole file.</summary>
    public string? Item { get; }

    /// <summary>The expected value, or null.</summary>
    public string? Expected { get; }

    /// <summary>The actual value, or null.</summary>
    public string? Actual { get; }

    private static string Compose(string path, string message, string? item, string? expected, string? actual)
    {
        string text = Quoted.Bare(path) + (item is null ? "" : $", {Quoted.Text(item)}") + ": " + message;
        text += expected is null ? "" : $" Expected {expected}";
        text += actual is null ? "" : expected is null ? $" Got {actual}" : $", got {actual}";
        return expected is null && actual is null ? text : text + ".";
    }
}
