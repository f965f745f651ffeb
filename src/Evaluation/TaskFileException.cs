namespace Tiller.Evaluation;

/// <summary>Tasks and methods cannot be compared: a task lacks something that a method needs, or two tasks or methods have the same name.</summary>
public sealed class ComparisonException : TillerException
{
    internal ComparisonException(string message)
        : base(message)
    {
    }
}

/// <summary>A task file cannot be read: it is missing, is not YAML, or has a key or a value that a task cannot have.</summary>
public sealed class TaskFileException : TillerException
{
    internal TaskFileException(string file, int line, string message, Exception? cause = null)
        : base($"{file}{(line > 0 ? $", line {line}" : "")}: {message}", cause)
    {
        File = file;
        Line = line;
    }

    /// <summary>The file.</summary>
    public string File { get; }

    /// <summary>The line, counted from 1; 0 if the error is not about one line.</summary>
    public int Line { get; }
}
