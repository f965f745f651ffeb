namespace Tiller.Jinja;

/// <summary>Kinds of errors in a template or in its values.</summary>
public enum JinjaError
{
    /// <summary>The template is not well-formed, or names a filter or test that does not exist.</summary>
    Syntax,

    /// <summary>An undefined value was used.</summary>
    Undefined,

    /// <summary>An operation does not support the type of its operand.</summary>
    Type,

    /// <summary>A value has the right type but is not allowed.</summary>
    Value,

    /// <summary>A division by zero.</summary>
    ZeroDivision,

    /// <summary>A number or a range is too large.</summary>
    Overflow,

    /// <summary>The template reads an attribute that the sandbox hides, or a method that changes a list or a mapping.</summary>
    Security,

    /// <summary>Macros, loops or values nest too deeply.</summary>
    Recursion,

    /// <summary>The rendering needs more steps, or a longer text, than the limits allow.</summary>
    Limit,

    /// <summary>Any other failure while rendering.</summary>
    Runtime,

    /// <summary>The template itself refused its input, by <c>raise_exception</c>.</summary>
    Raised,

    /// <summary>The template uses a feature of Jinja that is not implemented on purpose.</summary>
    Unsupported,
}

/// <summary>A template cannot be parsed, or fails on the given values.</summary>
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

    /// <summary>Description of the error, without line and code; for <see cref="JinjaError.Raised"/> the template's own message.</summary>
    public string Detail { get; }

    /// <summary>Line of the template, counted from 1; 0 if unknown.</summary>
    public int Line { get; internal set; }

    /// <inheritdoc/>
    public override string Message => Line == 0 ? $"{Detail} [{Code}]" : $"line {Line}: {Detail} [{Code}]";

    internal static JinjaException Type(string detail) => new(JinjaError.Type, detail);

    internal static JinjaException Value(string detail) => new(JinjaError.Value, detail);

    internal static JinjaException Undefined(string detail) => new(JinjaError.Undefined, detail);

    internal static JinjaException Runtime(string detail) => new(JinjaError.Runtime, detail);

    internal static JinjaException Overflow(string detail) => new(JinjaError.Overflow, detail);
}
