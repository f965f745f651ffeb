using System.Runtime.CompilerServices;
using System.Security.Cryptography;
using Microsoft.Extensions.AI;
using Tiller.Chat;
using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Model;
using Tiller.Scheduling;
using ChatMessage = Microsoft.Extensions.AI.ChatMessage;
using ChatOptions = Microsoft.Extensions.AI.ChatOptions;

namespace Tiller.Serving;

/// <summary>A token of an answer, as the value of <c>ChatResponseUpdate.RawRepresentation</c>.</summary>
/// <param name="Text">
/// The text that is being decoded. <see cref="ScheduledText.Use"/> changes its law, and so λ, beginning with its next token.
/// </param>
/// <param name="Token">The token.</param>
public sealed record ChatToken(ScheduledText Text, GeneratedToken Token);

/// <summary>A chat client for a model, through a scheduler.</summary>
internal sealed class TillerChatClient : IChatClient
{
    private const string ProviderName = TillerTelemetry.Provider;

    private readonly Scheduler _scheduler;
    private readonly TillerService? _service;
    private readonly IDisposable? _registration;
    private readonly ChatClientMetadata _metadata;

    /// <summary>Creates a client for a model, with its own scheduler.</summary>
    public TillerChatClient(LanguageModel model, SchedulerOptions? options)
    {
        _scheduler = new Scheduler(model, options);
        ModelName = TillerService.NameOf(model);
        _registration = TillerTelemetry.Register(_scheduler, ModelName);
        _metadata = new ChatClientMetadata(ProviderName, providerUri: null, ModelName);
    }

    /// <summary>Creates a client for a service. A service can have several clients.</summary>
    public TillerChatClient(TillerService service)
    {
        (_service, _scheduler, ModelName) = (service, service.Scheduler, service.ModelName);
        _metadata = new ChatClientMetadata(ProviderName, providerUri: null, ModelName);
    }

    public LanguageModel Model => _scheduler.Model;

    /// <summary>The model's id in options and answers.</summary>
    public string ModelName { get; }

    /// <summary>The chat format, which turns messages into ids.</summary>
    /// <exception cref="ChatException">The checkpoint has no chat template.</exception>
    public ChatFormat Format => _service?.Chat ?? Model.Chat;

    /// <summary>The ids that end an answer.</summary>
    public IReadOnlyList<int> EndIds => _service?.ChatEndIds ?? Model.EndIds;

    /// <inheritdoc/>
    public async Task<ChatResponse> GetResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        var updates = GetStreamingResponseAsync(messages, options, cancellationToken);
        var response = await updates.ToChatResponseAsync(cancellationToken).ConfigureAwait(false);

        // Properties of updates that belong to a message are in the message, so they are copied to the response.
        response.AdditionalProperties ??= response.Messages[^1].AdditionalProperties;
        return response;
    }

    /// <inheritdoc/>
    public async IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(messages);
        using var text = Begin(messages, options, cancellationToken);
        string id = "chatcmpl-" + Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(16));
        var created = _scheduler.Options.Clock.GetUtcNow();
        GeneratedToken last = default;
        await foreach (var token in text.ReadAllAsync(cancellationToken).ConfigureAwait(false))
        {
            last = token;
            if (token.Text.Length > 0)
            {
                yield return Update(token, [new TextContent(token.Text)]);
            }
        }

        var result = await text.Completion.ConfigureAwait(false);
        Check(result, cancellationToken);
        var end = Update(last, [new UsageContent(UsageOf(result))]);
        end.FinishReason = new ChatFinishReason(FinishReason.Of(result.StopReason!.Value));
        end.AdditionalProperties = new AdditionalPropertiesDictionary
        {
            ["seed"] = result.Seed,
            ["stop_reason"] = FinishReason.StoppedBy(last),
        };
        if (result.Steering is { } steering)
        {
            end.AdditionalProperties[SteeringOptions.PropertyName] = steering;
        }

        yield return end;

        ChatResponseUpdate Update(GeneratedToken token, IList<AIContent> contents) => new(ChatRole.Assistant, contents)
        {
            ResponseId = id,
            MessageId = id,
            CreatedAt = created,
            ModelId = ModelName,
            RawRepresentation = new ChatToken(text, token),
        };
    }

    /// <inheritdoc/>
    public object? GetService(Type serviceType, object? serviceKey = null)
    {
        ArgumentNullException.ThrowIfNull(serviceType);
        return serviceKey is not null ? null
            : serviceType == typeof(ChatClientMetadata) ? _metadata
            : serviceType == typeof(TillerService) ? _service
            : serviceType == typeof(Scheduler) ? _scheduler
            : serviceType == typeof(LanguageModel) ? Model
            : serviceType.IsInstanceOfType(this) ? this
            : null;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_service is null)
        {
            _registration!.Dispose();
            _scheduler.Dispose();
        }
    }

    /// <summary>A controller of the service by its name.</summary>
    /// <exception cref="ArgumentException">There is no such controller.</exception>
    public Controller Find(string name) => _service is null
        ? throw new ArgumentException(
            $"SteeringOptions.Controllers names '{name}', but the client of a model has no named controllers: give the controller itself.")
        : _service.Controllers.Find(name)?.Controller ?? throw new ArgumentException(
            $"SteeringOptions.Controllers names '{name}', but the service has no such controller (ServiceOptions.ControllersDirectory).");

    /// <summary>The stop strings of an answer, including those of the chat format.</summary>
    public StopStrings WithChatStops(StopStrings stops) => _service?.WithChatStops(stops) ?? stops;

    /// <summary>Continues the answers.</summary>
    public Scheduler Scheduler => _scheduler;

    private ScheduledText Begin(IEnumerable<ChatMessage> messages, ChatOptions? options, CancellationToken cancellationToken)
    {
        var telemetry = RequestTelemetry.Begin(RequestTelemetry.Chat, ModelName, _scheduler.Options.Clock);
        try
        {
            var request = ChatRequest.Read(messages, options, this, cancellationToken);
            var text = _scheduler.Submit(request.Prompt, request.Options);
            telemetry.Follow([text], text.PromptTokens);
            return text;
        }
        catch (Exception e)
        {
            telemetry.Fail(e);
            throw;
        }
    }

    private static UsageDetails UsageOf(ScheduledResult result) => new()
    {
        InputTokenCount = result.PromptTokens,
        OutputTokenCount = result.NewTokens,
        TotalTokenCount = result.PromptTokens + result.NewTokens,
        CachedInputTokenCount = result.ReusedTokens,
    };

    private static void Check(ScheduledResult result, CancellationToken cancellationToken)
    {
        switch (result.End)
        {
            case TextEnd.Stopped:
                return;
            case TextEnd.Failed:
                throw result.Error is TillerException known
                    ? known
                    : new InvalidOperationException("The answer failed; the inner exception says how.", result.Error);
            case TextEnd.SlowReader:
                throw new TimeoutException(
                    "The answer was not read for longer than SchedulerOptions.ReaderPatience, so it was dropped: read faster, or increase it.");
            case TextEnd.Drained:
                throw new ObjectDisposedException(nameof(Scheduler), "The scheduler stopped before the answer had ended.");
            default:
                cancellationToken.ThrowIfCancellationRequested();
                throw new OperationCanceledException("The answer was cancelled.");
        }
    }
}
