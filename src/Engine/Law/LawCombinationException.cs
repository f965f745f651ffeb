namespace Tiller.Law;

/// <summary>Parts of a law, or laws that are added, do not go together. The message says which and what to do.</summary>
public sealed class LawCombinationException : TillerException
{
    internal LawCombinationException(string message)
        : base(message)
    {
    }
}
