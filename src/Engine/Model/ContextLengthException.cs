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

    internal ContextLengthException(long tokens, int context, int prompt, string name)
        : base($"{name}: {tokens} tokens do not fit the model's context of {context}. Shorten it or leave it out.")
    {
        Tokens = tokens;
        Context = context;
        Prompt = prompt;
    }

    /// <summary>Number of tokens that the context would have to hold.</summary>
    public long Tokens { get; }

    /// <summary>Number of tokens that the context can hold.</summary>
    public int Context { get; }

    /// <summary>Number of the prompt in its list, counted from 1; null if there is only one sequence.</summary>
    public int? Prompt { get; }
}
