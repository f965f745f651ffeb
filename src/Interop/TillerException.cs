namespace Tiller;

/// <summary>
/// Base of every error Tiller raises on bad input, bad numbers or a failing device. The message says what was expected,
/// what came, and what to do; subclasses carry the parts as fields.
/// </summary>
public abstract class TillerException : Exception
{
    /// <summary>Creates the error with its message.</summary>
    protected TillerException(string message)
        : base(message)
    {
    }

    /// <summary>Creates the error with its message and cause.</summary>
    protected TillerException(string message, Exception? cause)
        : base(message, cause)
    {
    }
}
