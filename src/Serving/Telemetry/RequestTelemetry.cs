using System.Diagnostics;
using Tiller.Scheduling;

namespace Tiller.Serving;

/// <summary>
/// Measures one request, from its arrival until the last of its texts has ended, even if no client waits for it: a span, and a measurement in each
/// histogram.
/// </summary>
internal sealed class RequestTelemetry
{
    public const string Chat = "chat";
    public const string TextCompletion = "text_completion";

    private readonly TimeProvider _clock;
    private readonly long _begin;
    private readonly DateTimeOffset _beginTime;
    private readonly Activity? _span;
    private readonly TagList _tags;

    private RequestTelemetry(string operation, string model, TimeProvider clock)
    {
        (_clock, _begin, _beginTime) = (clock, clock.GetTimestamp(), clock.GetUtcNow());
        _tags = new TagList
        {
            { TillerTelemetry.Operation, operation },
            { TillerTelemetry.ProviderAttribute, TillerTelemetry.Provider },
            { TillerTelemetry.RequestModel, model },
            { TillerTelemetry.ResponseModel, model },
        };

        // The caller continues with its own span. This span is a child of it, and must not become the parent of later ones.
        var current = Activity.Current;
        _span = TillerTelemetry.Spans.StartActivity(ActivityKind.Internal, tags: _tags, startTime: _beginTime, name: $"{operation} {model}");
        Activity.Current = current;
    }

    /// <summary>Begins the measurement when a request arrives.</summary>
    /// <param name="operation"><see cref="Chat"/> or <see cref="TextCompletion"/>.</param>
    /// <param name="model">The model's id.</param>
    /// <param name="clock">The scheduler's clock.</param>
    public static RequestTelemetry Begin(string operation, string model, TimeProvider clock) => new(operation, model, clock);

    /// <summary>Follows the submitted texts. The measurement ends when all of them have ended.</summary>
    /// <param name="texts">The texts.</param>
    /// <param name="promptTokens">Number of tokens in the request's prompts. A prompt counts once, even if several texts continue it.</param>
    public void Follow(IReadOnlyList<ScheduledText> texts, long promptTokens) => _ = Task.WhenAll(texts.Select(text => text.Completion)).ContinueWith(
        results => End(texts, results.Result, promptTokens), CancellationToken.None, TaskContinuationOptions.None, TaskScheduler.Default);

    /// <summary>Ends the measurement of a refused request.</summary>
    public void Fail(Exception error) => End(NameOf(error));

    private void End(IReadOnlyList<ScheduledText> texts, ScheduledResult[] results, long promptTokens)
    {
        TimeSpan? first = null;
        for (int i = 0; i < results.Length; i++)
        {
            // The scheduler counts from a text's submission, and a request from its own arrival.
            var result = results[i];
            var submitted = _clock.GetElapsedTime(_begin, texts[i].SubmittedAt);
            var begun = submitted + result.Queued;
            var drawn = begun + result.Prefill;
            Event(i, TillerTelemetry.QueueEvent, submitted, isThere: true);
            Event(i, TillerTelemetry.PrefillEvent, begun, isThere: result.Seed is not null);
            Event(i, TillerTelemetry.DecodeEvent, drawn, isThere: result.NewTokens > 0);
            Record(result);
            first = result.NewTokens > 0 && !(drawn >= first) ? drawn : first;
        }

        if (first is { } time)
        {
            TillerTelemetry.FirstToken.Record(time.TotalSeconds, _tags);
        }

        long newTokens = results.Sum(result => (long)result.NewTokens);
        Count(promptTokens, "input");
        Count(newTokens, "output");
        _span?.SetTag(TillerTelemetry.InputTokens, promptTokens);
        _span?.SetTag(TillerTelemetry.OutputTokens, newTokens);
        _span?.SetTag(TillerTelemetry.FinishReasons, results.Select(result => FinishOf(result)).ToArray());
        End(results.FirstOrDefault(result => result.End != TextEnd.Stopped) is { } bad ? ErrorOf(bad) : null);
    }

    private void Record(ScheduledResult result)
    {
        if (result.NewTokens > 1)
        {
            TillerTelemetry.PerOutputToken.Record(result.Decode.TotalSeconds / (result.NewTokens - 1), _tags);
        }

        if (result.Steering is { } steering)
        {
            TillerTelemetry.Error.Record(steering.TrackingError, _tags);
            TillerTelemetry.Effort.Record(steering.Effort, _tags);
            _span?.SetTag(TillerTelemetry.SteeringError, steering.TrackingError);
            _span?.SetTag(TillerTelemetry.SteeringEffort, steering.Effort);
        }
    }

    private void Event(int choice, string name, TimeSpan after, bool isThere)
    {
        if (isThere)
        {
            _span?.AddEvent(new ActivityEvent(
                name, _beginTime + after, new ActivityTagsCollection { [TillerTelemetry.ChoiceIndex] = choice }));
        }
    }

    private void Count(long tokens, string type)
    {
        var tags = _tags;
        tags.Add(TillerTelemetry.TokenType, type);
        TillerTelemetry.Tokens.Record(tokens, tags);
    }

    private void End(string? error)
    {
        var tags = _tags;
        if (error is not null)
        {
            tags.Add(TillerTelemetry.ErrorType, error);
            _span?.SetTag(TillerTelemetry.ErrorType, error);
            _span?.SetStatus(ActivityStatusCode.Error);
        }

        var elapsed = _clock.GetElapsedTime(_begin);
        TillerTelemetry.Duration.Record(elapsed.TotalSeconds, tags);
        _span?.SetEndTime((_beginTime + elapsed).UtcDateTime);
        _span?.Dispose();
    }

    private static string ErrorOf(ScheduledResult result) => result.Error is { } error ? NameOf(error) : FinishOf(result);

    // The code of the error in an answer over HTTP.
    private static string NameOf(Exception error) => ApiException.Of(error)?.Code ?? error.GetType().Name;

    private static string FinishOf(ScheduledResult result) => result.End switch
    {
        TextEnd.Stopped => FinishReason.Of(result.StopReason!.Value),
        TextEnd.Cancelled => "cancelled",
        TextEnd.SlowReader => "slow_reader",
        TextEnd.Drained => "drained",
        _ => "error",
    };
}
