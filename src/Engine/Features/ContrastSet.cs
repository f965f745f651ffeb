using Tiller.Chat;

namespace Tiller.Features;

/// <summary>A list of prompts is empty, mixes forms, or holds a prompt that cannot be encoded.</summary>
public sealed class ContrastSetException : TillerException
{
    /// <summary>Creates the error.</summary>
    public ContrastSetException(string message)
        : base(message)
    {
    }

    internal ContrastSetException(string message, Exception cause)
        : base(message, cause)
    {
    }
}

/// <summary>
/// Two lists of prompts that differ in the feature to be steered. The feature is measured at each prompt's last token. All prompts must be texts, or
/// all chats, or all token ids; otherwise their form would be part of the feature.
/// </summary>
public sealed record ContrastSet
{
    /// <summary>Checks both lists.</summary>
    /// <param name="positive">Prompts that show the feature, at least one.</param>
    /// <param name="negative">Prompts that do not show it, at least one; their number may differ.</param>
    /// <exception cref="ContrastSetException">A list is empty.</exception>
    public ContrastSet(IReadOnlyList<Prompt> positive, IReadOnlyList<Prompt> negative)
    {
        ArgumentNullException.ThrowIfNull(positive);
        ArgumentNullException.ThrowIfNull(negative);
        (Positive, Negative) = (positive, negative);
        foreach (var (name, prompts) in new[] { ("positive", positive), ("negative", negative) })
        {
            if (prompts.Count == 0)
            {
                throw new ContrastSetException($"The {name} prompts are empty; a feature needs at least one prompt on each side.");
            }
        }
    }

    /// <summary>Makes a contrast of texts.</summary>
    /// <param name="positive">Texts that show the feature, at least one.</param>
    /// <param name="negative">Texts that do not show it, at least one.</param>
    /// <exception cref="ContrastSetException">A list is empty.</exception>
    public ContrastSet(IReadOnlyList<string> positive, IReadOnlyList<string> negative)
        : this([.. positive.Select(text => new TextPrompt(text))], [.. negative.Select(text => new TextPrompt(text))])
    {
    }

    /// <summary>Makes a contrast of token ids, which are used unchanged.</summary>
    /// <param name="positive">Prompts that show the feature, at least one, each of at least one id.</param>
    /// <param name="negative">Prompts that do not show it, at least one.</param>
    /// <exception cref="ContrastSetException">A list is empty.</exception>
    public ContrastSet(IReadOnlyList<int[]> positive, IReadOnlyList<int[]> negative)
        : this([.. positive.Select(ids => new TokenPrompt(ids))], [.. negative.Select(ids => new TokenPrompt(ids))])
    {
    }

    /// <summary>Makes a contrast of chats, rendered in the checkpoint's chat format.</summary>
    /// <param name="positive">Chats that show the feature, at least one, each of at least one message.</param>
    /// <param name="negative">Chats that do not show it, at least one.</param>
    /// <exception cref="ContrastSetException">A list is empty.</exception>
    /// <exception cref="ArgumentException">A chat has no message.</exception>
    public ContrastSet(IReadOnlyList<IReadOnlyList<ChatMessage>> positive, IReadOnlyList<IReadOnlyList<ChatMessage>> negative)
        : this([.. positive.Select(messages => new ChatPrompt(messages))], [.. negative.Select(messages => new ChatPrompt(messages))])
    {
    }

    /// <summary>Prompts that show the feature.</summary>
    public IReadOnlyList<Prompt> Positive { get; }

    /// <summary>Prompts that do not show the feature.</summary>
    public IReadOnlyList<Prompt> Negative { get; }

    /// <summary>Reads both lists from files (<see cref="PromptFile"/>).</summary>
    /// <param name="positivePath">File of the prompts that show the feature.</param>
    /// <param name="negativePath">File of the prompts that do not show it.</param>
    /// <param name="cancellationToken">Checked while reading.</param>
    /// <exception cref="PromptFileException">A file is missing, malformed or empty.</exception>
    public static ContrastSet Read(string positivePath, string negativePath, CancellationToken cancellationToken = default) =>
        new(PromptFile.Read(positivePath, cancellationToken), PromptFile.Read(negativePath, cancellationToken));

    /// <summary>
    /// Reads a contrast from one file. Each item has both sides or one: for example a question with an answer that matches a behaviour and one that
    /// does not, a choice with its right and a wrong letter, or a statement with a label (docs/data.md).
    /// </summary>
    /// <param name="path">A table (.csv, .tsv, .parquet) or JSON (.json, .jsonl).</param>
    /// <param name="cancellationToken">Checked while reading.</param>
    /// <exception cref="PromptFileException">The file is missing or malformed, an item is of no known kind, or a side is empty.</exception>
    public static ContrastSet ReadPairs(string path, CancellationToken cancellationToken = default)
    {
        var (positive, negative) = PromptFile.ReadPairs(path, PromptFile.ReadBytes(path, cancellationToken), cancellationToken);
        return new ContrastSet(positive, negative);
    }

    /// <summary>Makes the same contrast of chats: every text becomes a user's message; chats stay as they are.</summary>
    /// <param name="system">Text of a system message for the beginning of each chat; null for none.</param>
    /// <exception cref="ContrastSetException">A system message is given and a chat has its own, or a prompt is token ids.</exception>
    public ContrastSet AsChat(string? system = null)
    {
        return new ContrastSet(Side("Positive", Positive), Side("Negative", Negative));

        Prompt[] Side(string name, IReadOnlyList<Prompt> prompts) => [.. prompts.Select((prompt, i) =>
        {
            try
            {
                return prompt.AsChat(system);
            }
            catch (ContrastSetException e)
            {
                throw new ContrastSetException($"{prompt.NameIn(name, i)}: {e.Message}", e);
            }
        })];
    }
}
