using Microsoft.Extensions.AI;
using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;

namespace Tiller.Serving;

/// <summary>The ids and options for a request to a chat client.</summary>
/// <param name="Prompt">The ids of the chat.</param>
/// <param name="Options">How they are continued.</param>
internal sealed record ChatRequest(int[] Prompt, GenerationOptions Options)
{
    /// <summary>Converts messages and options.</summary>
    /// <param name="messages">The chat so far.</param>
    /// <param name="options">The options; null for the defaults.</param>
    /// <param name="client">The chat client.</param>
    /// <param name="cancellationToken">Checked while the chat is encoded.</param>
    /// <exception cref="ArgumentException">An option is outside its range, or has an unknown type.</exception>
    /// <exception cref="NotSupportedException">A message or the requested answer is not a text.</exception>
    /// <exception cref="TillerException">The chat cannot be encoded, or a controller is for another model.</exception>
    public static ChatRequest Read(
        IEnumerable<ChatMessage> messages, ChatOptions? options, TillerChatClient client, CancellationToken cancellationToken)
    {
        options ??= new ChatOptions();
        CheckSupport(options, client);
        int[] prompt = client.Format.Encode(Messages(messages, options.Instructions), cancellationToken: cancellationToken);
        var steering = SteeringOf(options, client);
        var law = steering is null ? null : LawOf(steering, client);
        int room = client.Scheduler.MaxNewTokensAfter(prompt.Length, law);
        return new ChatRequest(prompt, new GenerationOptions
        {
            MaxNewTokens = options.MaxOutputTokens is { } most ? Positive(most, nameof(options.MaxOutputTokens)) : room,
            Sampling = Sampling(options),
            StopStrings = client.WithChatStops(options.StopSequences is { Count: > 0 } stops ? new StopStrings([.. stops]) : StopStrings.None),
            StopIds = client.EndIds,
            Law = law,
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
            // The settings have the same names in both records.
            throw new ArgumentException(
                e.Message.Replace(nameof(SamplingOptions), nameof(ChatOptions), StringComparison.Ordinal), nameof(options), e);
        }
    }

    private static int Positive(int value, string option) => value > 0
        ? value
        : throw new ArgumentException($"ChatOptions.{option} must be 1 or more, got {value}.");

    // A chat template has at most one system message, so the instructions are put before an existing system message.
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
            // Reasoning and usage of an earlier answer are not part of the chat.
            if (content is not (TextContent or TextReasoningContent or UsageContent))
            {
                throw new NotSupportedException(
                    $"A message has a {content.GetType().Name}; the model reads only text. Leave it out, or replace it by a TextContent.");
            }
        }

        return string.Concat(message.Contents.OfType<TextContent>().Select(content => content.Text));
    }

    private static void CheckSupport(ChatOptions options, TillerChatClient client)
    {
        if (options.Tools is { Count: > 0 } && options.ToolMode is not NoneChatToolMode)
        {
            throw new NotSupportedException("ChatOptions.Tools has tools, but answers are only texts: leave them out, or set ToolMode to None.");
        }

        if (options.ToolMode is RequiredChatToolMode)
        {
            throw new NotSupportedException("ChatOptions.ToolMode requires a tool, but answers are only texts: set it to None, or leave it null.");
        }

        if (options.ResponseFormat is not (null or ChatResponseFormatText))
        {
            throw new NotSupportedException(
                "ChatOptions.ResponseFormat requests JSON, but answers are only free texts: leave it null, and ask for JSON in the prompt.");
        }

        if (options.ConversationId is not null)
        {
            throw new NotSupportedException(
                "ChatOptions.ConversationId names a conversation, but this client keeps none: pass all messages, and leave it null.");
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
                "ChatOptions has steering in both RawRepresentationFactory and AdditionalProperties[\"steering\"]: use only one.", nameof(options));
        }

        return (raw ?? property) switch
        {
            null => null,
            SteeringOptions steering => steering,
            var other => throw new ArgumentException(
                $"ChatOptions has a {other.GetType()} where this client expects a {typeof(SteeringOptions)}: in "
                + "the result of RawRepresentationFactory or in AdditionalProperties[\"steering\"].", nameof(options)),
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
                throw new ArgumentException("SteeringOptions.Controllers has the same controller twice, so it would steer twice: name each "
                    + "controller once, with the λ that is intended.");
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
