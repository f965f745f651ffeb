namespace Tiller;

/// <summary>
/// Base class of the exceptions that Tiller throws for bad input, bad numbers or a failing device. The message says what was expected, what came, and
/// what to do. Subclasses have these parts as properties.
/// </summary>
public abstract class TillerException : Exception
{
    /// <summary>Creates the exception with a message.</summary>
    protected TillerException(string message)
        : base(message)
    {
    }

    /// <summary>Creates the exception with a message and a cause.</summary>
    protected TillerException(string message, Exception? cause)
        : base(message, cause)
    {
    }
}
