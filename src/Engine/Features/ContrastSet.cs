namespace Tiller.Features;

/// <summary>A feature's contrast set is empty or holds an empty prompt.</summary>
public sealed class ContrastSetException : TillerException
{
    /// <summary>Creates the error.</summary>
    public ContrastSetException(string message)
        : base(message)
    {
    }
}

/// <summary>Two lists of prompts that differ in the feature to be steered; the feature is read at each prompt's last token.</summary>
public sealed record ContrastSet
{
    /// <summary>Checks both lists.</summary>
    /// <param name="positive">Prompts that show the feature, at least one.</param>
    /// <param name="negative">Prompts that do not, at least one; need not be as many.</param>
    /// <exception cref="ContrastSetException">A list is empty.</exception>
    public ContrastSet(IReadOnlyList<string> positive, IReadOnlyList<string> negative)
    {
        (Positive, Negative) = (positive, negative);
        foreach (var (name, prompts) in new[] { ("positive", positive), ("negative", negative) })
        {
            if (prompts.Count == 0)
            {
                throw new ContrastSetException($"The {name} prompts are empty; a feature needs at least one prompt on each side.");
            }
        }
    }

    /// <summary>Prompts that show the feature.</summary>
    public IReadOnlyList<string> Positive { get; }

    /// <summary>Prompts that do not.</summary>
    public IReadOnlyList<string> Negative { get; }

    /// <summary>Reads both lists from text files, one prompt a line, or JSON lines.</summary>
    /// <exception cref="TillerException">A file is missing, malformed or empty.</exception>
    public static ContrastSet Read(string positivePath, string negativePath) => new(PromptFile.Read(positivePath), PromptFile.Read(negativePath));
}
