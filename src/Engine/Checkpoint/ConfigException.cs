namespace Tiller.Checkpoint;

/// <summary>Kinds of errors in a model's configuration.</summary>
public enum ConfigError
{
    /// <summary>The file is not JSON, or not UTF-8.</summary>
    InvalidJson,

    /// <summary>A value has the wrong kind, or a required key is missing.</summary>
    Schema,

    /// <summary>A key occurs twice in one object.</summary>
    Duplicate,

    /// <summary>A number is above a limit of this engine.</summary>
    LimitExceeded,

    /// <summary>A number is out of range, or numbers contradict each other.</summary>
    OutOfRange,

    /// <summary>The engine does not compute this model, or a feature of it.</summary>
    Unsupported,

    /// <summary>There is no config.json.</summary>
    Missing,

    /// <summary>A file cannot be opened or read.</summary>
    InputOutput,
}

/// <summary>config.json or generation_config.json is malformed, or describes a model that this engine does not compute.</summary>
public sealed class ConfigException : TillerException
{
    internal ConfigException(ConfigError error, string file, string? key, string? value, string expected, string hint = "", Exception? cause = null)
        : base(Compose(file, key, value, expected, hint), cause)
    {
        Error = error;
        File = file;
        Key = key;
        Value = value;
        Expected = expected;
    }

    /// <summary>The kind of error.</summary>
    public ConfigError Error { get; }

    /// <summary>The file with the error.</summary>
    public string File { get; }

    /// <summary>The key with the error, with dots between levels (<c>rope_scaling.factor</c>); null if the error concerns the whole file.</summary>
    public string? Key { get; }

    /// <summary>The value as JSON, escaped and at most 200 characters; null if there is none.</summary>
    public string? Value { get; }

    /// <summary>Description of the expected value.</summary>
    public string Expected { get; }

    private static string Compose(string file, string? key, string? value, string expected, string hint)
    {
        string text = Quoted.Bare(file) + ": " + (key is null ? "" : Quoted.Bare(key) + ": ") + $"expected {expected}";
        text += value is null ? "." : $", got {value}.";
        return hint.Length == 0 ? text : text + " " + hint;
    }
}
