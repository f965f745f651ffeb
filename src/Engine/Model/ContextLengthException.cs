namespace Tiller.Model;

/// <summary>A sequence does not fit the model's context.</summary>
public sealed class ContextLengthException : TillerException
{
    /// <summary>Creates the error.</summary>
    public ContextLengthException(long tokens, int context)
        : base($"{tokens} tokens do not fit the model's context of {context}. Shorten the prompt or ask for fewer new tokens.")
    {
        Tokens = tokens;
        Context = context;
    }

    /// <summary>Tokens that would have to be held.</summary>
    public long Tokens { get; }

    /// <summary>Tokens the model can hold.</summary>
    public int Context { get; }
}
