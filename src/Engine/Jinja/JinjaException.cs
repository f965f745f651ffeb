namespace Tiller.Jinja;

/// <summary>What is wrong with a template, or with the values given to it.</summary>
public enum JinjaError
{
    /// <summary>The template is not well-formed, or names a filter or test that does not exist.</summary>
    Syntax,

    /// <summary>Something was done with a value that is not defined.</summary>
    Undefined,

    /// <summary>An operation does not exist for the type of its operand.</summary>
    Type,

    /// <summary>A value is of the right type but not one that the operation takes.</summary>
    Value,

    /// <summary>A division by zero.</summary>
    ZeroDivision,

    /// <summary>A number or a range is too large.</summary>
    Overflow,

    /// <summary>An attribute is read that the sandbox hides, or a method that changes a list or a mapping.</summary>
    Security,

    /// <summary>Macros, loops or values nest too deeply.</summary>
    Recursion,

    /// <summary>More work, or a longer text, than the limits allow.</summary>
    Limit,

    /// <summary>Any other failure while rendering.</summary>
    Runtime,

    /// <summary>The template itself refused its input, by <c>raise_exception</c>.</summary>
    Raised,

    /// <summary>A feature of Jinja that is left out on purpose.</summary>
    Unsupported,
}

/// <summary>A template that cannot be read, or that fails on the values given to it.</summary>
public sealed class JinjaException : TillerException
{
    internal JinjaException(JinjaError code, string detail, int line = 0)
        : base(detail)
    {
        Code = code;
        Detail = detail;
        Line = line;
    }

    /// <summary>The kind of error.</summary>
    public JinjaError Code { get; }

    /// <summary>What happened, without line and code; for <see cref="JinjaError.Raised"/> the template's own text.</summary>
    public string Detail { get; }

    /// <summary>Line of the template, from 1; 0 where it is not known.</summary>
    public int Line { get; internal set; }

    /// <inheritdoc/>
    public override string Message => Line == 0 ? $"{Detail} [{Code}]" : $"line {Line}: {Detail} [{Code}]";

    internal static JinjaException Type(string detail) => new(JinjaError.Type, detail);

    internal static JinjaException Value(string detail) => new(JinjaError.Value, detail);

    internal static JinjaException Undefined(string detail) => new(JinjaError.Undefined, detail);

    internal static JinjaException Runtime(string detail) => new(JinjaError.Runtime, detail);

    internal static JinjaException Overflow(string detail) => new(JinjaError.Overflow, detail);
}
