using Tiller.Chat;
using Tiller.Model;
using Tiller.Tokens;

namespace Tiller.Features;

/// <summary>Encodes prompts as ids, all lists of a fit in one form. Every error names the prompt.</summary>
/// <param name="tokenizer">Returns the tokenizer; called if there are texts.</param>
/// <param name="chat">Returns the chat format; called if there are chats.</param>
/// <param name="vocabulary">V.</param>
/// <param name="context">Largest number of tokens of a prompt.</param>
internal sealed class PromptEncoder(Func<Tokenizer> tokenizer, Func<ChatFormat> chat, int vocabulary, int context)
{
    /// <summary>Makes the encoder of a model.</summary>
    public static PromptEncoder Of(LanguageModel model) => new(() => model.Tokenizer, () => model.Chat, model.Config.V, model.Config.MaxPositions);

    /// <summary>Determines the form of all prompts.</summary>
    /// <param name="lists">The lists, each with its name for messages. They hold at least one prompt in all.</param>
    /// <exception cref="ContrastSetException">The prompts are of different forms.</exception>
    /// <exception cref="ChatException">There are chats, and the checkpoint has no known chat format.</exception>
    public PromptForm FormOf(params IReadOnlyList<(string Name, IReadOnlyList<Prompt> Prompts)> lists)
    {
        (string Name, int Index, Prompt Prompt)[] all = [.. lists.SelectMany(list => list.Prompts.Select((prompt, i) => (list.Name, i, prompt)))];
        var (name, index, first) = all[0];
        if (all.FirstOrDefault(x => x.Prompt.GetType() != first.GetType()) is { Prompt: { } other } odd)
        {
            throw new ContrastSetException(
                $"{first.NameIn(name, index)} is {first.Kind} and {other.NameIn(odd.Name, odd.Index)} is {other.Kind}: "
                + "their form would be part of the feature. Give all prompts, those for the Jacobians too, in one form (AsChat makes chats "
                + "of texts).");
        }

        return first switch
        {
            TextPrompt => new RawForm(),
            ChatPrompt => ChatForm.Of(chat(), [.. all.Select(x => (ChatPrompt)x.Prompt)]),
            _ => new TokenForm(),
        };
    }

    /// <summary>Encodes every prompt of a list.</summary>
    /// <param name="list">Name of the list in messages.</param>
    /// <param name="prompts">
    /// The prompts. Texts get the tokenizer's template, chats the chat format's. Special tokens written in either are plain text.
    /// </param>
    /// <param name="cancellationToken">Checked between words.</param>
    /// <exception cref="ContrastSetException">A prompt has no tokens or an id outside the vocabulary, or cannot be encoded.</exception>
    /// <exception cref="ContextLengthException">A prompt does not fit the context.</exception>
    /// <exception cref="ChatException">There are chats, and the checkpoint has no known chat format.</exception>
    public int[][] Encode(string list, IReadOnlyList<Prompt> prompts, CancellationToken cancellationToken)
    {
        int[][] ids = new int[prompts.Count][];
        for (int i = 0; i < ids.Length; i++)
        {
            ids[i] = Encode(list, i, prompts[i], cancellationToken);
            if (ids[i].Length == 0)
            {
                throw new ContrastSetException($"{prompts[i].NameIn(list, i)} has no tokens; give it some text.");
            }

            if (ids[i].Length > context)
            {
                throw new ContextLengthException(ids[i].Length, context, i + 1, prompts[i].NameIn(list, i));
            }
        }

        return ids;
    }

    private int[] Encode(string list, int index, Prompt prompt, CancellationToken cancellationToken)
    {
        if (prompt is TokenPrompt tokens)
        {
            int[] ids = [.. tokens.Ids];
            int bad = ids.AsSpan().IndexOfAnyExceptInRange(0, vocabulary - 1);
            return bad < 0
                ? ids
                : throw new ContrastSetException(
                    $"{prompt.NameIn(list, index)} has the id {ids[bad]} at {bad}; the model's ids are 0 to {vocabulary - 1}.");
        }

        var format = prompt is ChatPrompt ? chat() : null;
        try
        {
            return prompt is ChatPrompt messages
                ? format!.Encode(messages.Messages, addGenerationPrompt: true, cancellationToken)
                : tokenizer().Encode(((TextPrompt)prompt).Text, cancellationToken: cancellationToken);
        }
        catch (TillerException e)
        {
            throw new ContrastSetException($"{prompt.NameIn(list, index)} cannot be encoded. {e.Message}", e);
        }
    }
}
