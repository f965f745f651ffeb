using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.Metrics;
using Tiller.Scheduling;

namespace Tiller.Serving;

/// <summary>
/// The names of all measurements. They follow OpenTelemetry's conventions for generative AI where those have a name. Measuring needs no SDK.
/// </summary>
public static class TillerTelemetry
{
    /// <summary>The name of the meter and of the source of spans, for <c>AddMeter</c> and <c>AddSource</c>.</summary>
    public const string Name = "Tiller";

    internal const string Provider = "tiller";

    // Histograms with one measurement for each request or text.
    internal const string RequestDuration = "gen_ai.server.request.duration";
    internal const string TimeToFirstToken = "gen_ai.server.time_to_first_token";
    internal const string TimePerOutputToken = "gen_ai.server.time_per_output_token";
    internal const string TokenUsage = "gen_ai.client.token.usage";
    internal const string SteeringError = "tiller.steering.error";
    internal const string SteeringEffort = "tiller.steering.effort";

    // State of a scheduler, read when metrics are collected.
    internal const string KvBytes = "tiller.kv.bytes";
    internal const string QueueLength = "tiller.queue.length";
    internal const string BatchRows = "tiller.batch.rows";
    internal const string PrefixHits = "tiller.prefix.hits";
    internal const string PrefixTokens = "tiller.prefix.tokens";

    // Attributes.
    internal const string Operation = "gen_ai.operation.name";
    internal const string ProviderAttribute = "gen_ai.provider.name";
    internal const string RequestModel = "gen_ai.request.model";
    internal const string ResponseModel = "gen_ai.response.model";
    internal const string TokenType = "gen_ai.token.type";
    internal const string InputTokens = "gen_ai.usage.input_tokens";
    internal const string OutputTokens = "gen_ai.usage.output_tokens";
    internal const string FinishReasons = "gen_ai.response.finish_reasons";
    internal const string ErrorType = "error.type";
    internal const string KvUse = "tiller.kv.use";
    internal const string ChoiceIndex = "tiller.choice.index";

    // Events of a request's span: a text was queued, its prompt began, its first token was drawn.
    internal const string QueueEvent = "tiller.queue";
    internal const string PrefillEvent = "tiller.prefill";
    internal const string DecodeEvent = "tiller.decode";

    private static readonly Meter s_meter = new(Name);
    private static readonly ConcurrentDictionary<Scheduler, string> s_schedulers = [];

    // The bounds of the buckets are those of the conventions, if they have any.
    internal static readonly Histogram<double> Duration = Seconds(
        RequestDuration, "Time from a request's arrival to its last token.",
        0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92);

    internal static readonly Histogram<double> FirstToken = Seconds(
        TimeToFirstToken, "Time from a request's arrival to its first token.",
        0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10);

    internal static readonly Histogram<double> PerOutputToken = Seconds(
        TimePerOutputToken, "Mean time between tokens, after the first one.",
        0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5);

    internal static readonly Histogram<long> Tokens = s_meter.CreateHistogram(
        TokenUsage, "{token}", "Number of tokens in the prompts and in the answers of a request.", advice: new InstrumentAdvice<long>
        {
            HistogramBucketBoundaries = [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864],
        });

    internal static readonly Histogram<double> Error = s_meter.CreateHistogram(
        SteeringError, unit: null, "Mean |β − v·x| of a steered text.", advice: new InstrumentAdvice<double>
        {
            HistogramBucketBoundaries = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000],
        });

    internal static readonly Histogram<double> Effort = s_meter.CreateHistogram(
        SteeringEffort, "1", "Mean |u|/|x| of a steered text.", advice: new InstrumentAdvice<double>
        {
            HistogramBucketBoundaries = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5],
        });

    static TillerTelemetry()
    {
        s_meter.CreateObservableUpDownCounter(KvBytes, KvMemory, "By", "Bytes of keys and values, for running texts and kept prompts.");
        s_meter.CreateObservableUpDownCounter(QueueLength, () => Read(status => status.Queued), "{text}", "Number of texts that wait for admission.");
        s_meter.CreateObservableGauge(BatchRows, () => Read(status => status.Rows), "{row}", "Number of texts that got a token in the last step.");
        s_meter.CreateObservableCounter(
            PrefixHits, () => Read(status => status.PrefixHits), "{text}", "Number of texts that reused the beginning of a kept prompt.");
        s_meter.CreateObservableCounter(
            PrefixTokens, () => Read(status => status.ReusedTokens), "{token}", "Number of prompt tokens that were reused.");
    }

    internal static ActivitySource Spans { get; } = new(Name);

    /// <summary>Measures a scheduler until the returned object is disposed of.</summary>
    internal static IDisposable Register(Scheduler scheduler, string model)
    {
        s_schedulers[scheduler] = model;
        return new Registration(scheduler);
    }

    private static Histogram<double> Seconds(string name, string description, params double[] bounds) => s_meter.CreateHistogram(
        name, "s", description, advice: new InstrumentAdvice<double> { HistogramBucketBoundaries = bounds });

    // Models with the same name are measured together.
    private static IEnumerable<Measurement<long>> Read(Func<SchedulerStatus, long> value) => s_schedulers
        .GroupBy(pair => pair.Value, StringComparer.Ordinal)
        .Select(group => new Measurement<long>(group.Sum(pair => value(pair.Key.Status)), ModelTag(group.Key)))
        .ToArray();

    private static IEnumerable<Measurement<long>> KvMemory() => s_schedulers
        .GroupBy(pair => pair.Value, StringComparer.Ordinal)
        .SelectMany(group => new[]
        {
            new Measurement<long>(group.Sum(pair => pair.Key.Status.KvBytes), ModelTag(group.Key), new(KvUse, "texts")),
            new Measurement<long>(group.Sum(pair => pair.Key.Status.KeptBytes), ModelTag(group.Key), new(KvUse, "prefixes")),
        })
        .ToArray();

    private static KeyValuePair<string, object?> ModelTag(string model) => new(RequestModel, model);

    private sealed class Registration(Scheduler scheduler) : IDisposable
    {
        public void Dispose() => s_schedulers.TryRemove(scheduler, out _);
    }
}
