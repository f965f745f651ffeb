using Microsoft.Extensions.AI;
using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;

namespace Tiller.Serving;

/// <summary>What a chat client is asked for, as the engine takes it.</summary>
/// <param name="Prompt">Ids.</param>
/// <param name="Options">How they are continued.</param>
internal sealed record ChatRequest(int[] Prompt, GenerationOptions Options)
{
    /// <summary>Reads messages and options.</summary>
    /// <param name="messages">The chat so far.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <param name="client">Who is asked.</param>
    /// <param name="cancellationToken">Checked while the chat becomes ids.</param>
    /// <exception cref="ArgumentException">An option is outside its range, or of a type that is not known.</exception>
    /// <exception cref="NotSupportedException">Something other than a text is asked for, or given.</exception>
    /// <exception cref="TillerException">The chat cannot be encoded, or a controller does not fit.</exception>
    public static ChatRequest Read(
        IEnumerable<ChatMessage> messages, ChatOptions? options, TillerChatClient client, CancellationToken cancellationToken)
    {
        options ??= new ChatOptions();
        CheckSupport(options, client);
        int[] prompt = client.Format.Encode(Messages(messages, options.Instructions), cancellationToken: cancellationToken);
        var steering = SteeringOf(options, client);
        int room = client.MaxNewTokensAfter(prompt.Length);
        return new ChatRequest(prompt, new GenerationOptions
        {
            MaxNewTokens = options.MaxOutputTokens is { } most ? Positive(most, nameof(options.MaxOutputTokens)) : room,
            Sampling = Sampling(options),
            StopStrings = client.WithChatStops(options.StopSequences is { Count: > 0 } stops ? new StopStrings([.. stops]) : StopStrings.None),
            StopIds = client.EndIds,
            Law = steering is null ? null : LawOf(steering, client),
            SteeredTokens = steering?.Tokens ?? SteeredTokens.Last,
        });
    }

    private static SamplingOptions Sampling(ChatOptions options)
    {
        var sampling = new SamplingOptions
        {
            Temperature = options.Temperature ?? 1,
            TopP = options.TopP ?? 1,
            TopK = options.TopK ?? 0,
            FrequencyPenalty = options.FrequencyPenalty ?? 0,
            PresencePenalty = options.PresencePenalty ?? 0,
            Seed = options.Seed is { } seed ? unchecked((ulong)seed) : null,
        };
        try
        {
            sampling.Validate();
            return sampling;
        }
        catch (SamplingOptionsException e)
        {
            // Both records call these settings alike.
            throw new ArgumentException(
                e.Message.Replace(nameof(SamplingOptions), nameof(ChatOptions), StringComparison.Ordinal), nameof(options), e);
        }
    }

    private static int Positive(int value, string option) => value > 0
        ? value
        : throw new ArgumentException($"ChatOptions.{option} must be 1 or more, got {value}.");

    // Templates have one system message, or none: instructions and a system message that is there already become one.
    private static List<Tiller.Chat.ChatMessage> Messages(IEnumerable<ChatMessage> messages, string? instructions)
    {
        List<Tiller.Chat.ChatMessage> all = [.. messages.Select(message => new Tiller.Chat.ChatMessage(message.Role.Value, TextOf(message)))];
        if (string.IsNullOrEmpty(instructions))
        {
            return all;
        }

        if (all is [{ Role: "system" } system, ..])
        {
            all[0] = system with { Content = $"{instructions}\n\n{system.Content}" };
        }
        else
        {
            all.Insert(0, new Tiller.Chat.ChatMessage("system", instructions));
        }

        return all;
    }

    private static string TextOf(ChatMessage message)
    {
        foreach (var content in message.Contents)
        {
            // What an earlier answer thought or cost is no part of the chat.
            if (content is not (TextContent or TextReasoningContent or UsageContent))
            {
                throw new NotSupportedException(
                    $"A message has a {content.GetType().Name}; the model reads text alone. Leave it out, or put it into words (TextContent).");
            }
        }

        return string.Concat(message.Contents.OfType<TextContent>().Select(content => content.Text));
    }

    private static void CheckSupport(ChatOptions options, TillerChatClient client)
    {
        if (options.Tools is { Count: > 0 } && options.ToolMode is not NoneChatToolMode)
        {
            throw new NotSupportedException("ChatOptions.Tools has tools, and answers are texts alone: leave them out, or set ToolMode to None.");
        }

        if (options.ToolMode is RequiredChatToolMode)
        {
            throw new NotSupportedException("ChatOptions.ToolMode requires a tool, and answers are texts alone: set it to None, or leave it null.");
        }

        if (options.ResponseFormat is not (null or ChatResponseFormatText))
        {
            throw new NotSupportedException(
                "ChatOptions.ResponseFormat asks for JSON, and answers are free texts alone: leave it null, and ask for JSON in the prompt.");
        }

        if (options.ConversationId is not null)
        {
            throw new NotSupportedException(
                "ChatOptions.ConversationId names a conversation, and none is kept here: give all messages, and leave it null.");
        }

        if (options.ModelId is { } model && model != client.ModelName)
        {
            throw new ArgumentException($"ChatOptions.ModelId is '{model}'; this client's model is '{client.ModelName}'.", nameof(options));
        }
    }

    private static SteeringOptions? SteeringOf(ChatOptions options, TillerChatClient client)
    {
        object? raw = options.RawRepresentationFactory?.Invoke(client);
        object? property = null;
        options.AdditionalProperties?.TryGetValue(SteeringOptions.PropertyName, out property);
        if (raw is not null && property is not null && !ReferenceEquals(raw, property))
        {
            throw new ArgumentException(
                "ChatOptions steers twice, by RawRepresentationFactory and by AdditionalProperties[\"steering\"]: use one of them.", nameof(options));
        }

        return (raw ?? property) switch
        {
            null => null,
            SteeringOptions steering => steering,
            var other => throw new ArgumentException(
                $"ChatOptions has a {other.GetType()} where this client takes a {typeof(SteeringOptions)}: as what RawRepresentationFactory returns, "
                + "or as AdditionalProperties[\"steering\"].", nameof(options)),
        };
    }

    private static FeedbackLaw LawOf(SteeringOptions steering, TillerChatClient client)
    {
        if (steering.Controllers.Count == 0)
        {
            throw new ArgumentException("SteeringOptions.Controllers is empty: name at least one, or leave the options out.");
        }

        Controller[] controllers = [.. steering.Controllers.Select(use => use.Controller ?? client.Find(use.Name!))];
        for (int i = 0; i < controllers.Length; i++)
        {
            controllers[i].CheckModel(client.Model);
            if (controllers.Take(i).Any(controllers[i].SteersAs))
            {
                throw new ArgumentException("SteeringOptions.Controllers has one controller twice, which would steer twice: name each once, at the λ "
                    + "that is meant.");
            }
        }

        if (steering.Layers is { } layers && layers.Last >= client.Model.Config.L)
        {
            throw new ArgumentException($"SteeringOptions.Layers is {layers}; the model has blocks 0-{client.Model.Config.L - 1}.");
        }

        var plan = new SteeringPlan
        {
            Parts = [.. steering.Controllers.Zip(controllers, (use, controller) => new SteeringPart(use.Name ?? "", use.Lambda, controller.ToLaw))],
            Tokens = steering.Tokens,
            Layers = steering.Layers,
            MaxEffort = steering.MaxEffort,
        };
        return plan.Compile([.. plan.Parts.Select(part => part.Lambda)]).Law;
    }
}
