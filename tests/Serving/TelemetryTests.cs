using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.Metrics;
using Microsoft.Extensions.AI;
using Tiller.Scheduling;
using Tiller.Serving;
using Tiller.Tests.Scheduling;

namespace Tiller.Tests.Serving;

/// <summary>Measurements and spans, by OpenTelemetry's names. Other tests measure at the same time: each looks for its own model's name.</summary>
public sealed class TelemetryTests
{
    private static readonly ChatMessage[] s_chat = [new(ChatRole.User, "Tell me a story.")];

    [Test]
    public async Task An_answer_is_measured_by_the_names_of_the_conventions()
    {
        using var heard = new Heard("measured");
        using var service = Service("measured");
        using var client = service.AsChatClient();
        var response = await client.GetResponseAsync(s_chat, new ChatOptions { Temperature = 0, MaxOutputTokens = 8 }).InTime();
        heard.Wait("gen_ai.server.request.duration", 1);
        var duration = heard.Of("gen_ai.server.request.duration").Single();
        Assert.That(duration.Tags, Is.EquivalentTo(new Dictionary<string, object?>
        {
            ["gen_ai.operation.name"] = "chat",
            ["gen_ai.provider.name"] = "tiller",
            ["gen_ai.request.model"] = "measured",
            ["gen_ai.response.model"] = "measured",
        }));
        Assert.That(duration.Unit, Is.EqualTo("s"));
        Assert.That(duration.Value, Is.GreaterThan(0));
        Assert.That(heard.Of("gen_ai.server.time_to_first_token").Single().Value, Is.GreaterThan(0).And.LessThanOrEqualTo(duration.Value));
        Assert.That(heard.Of("gen_ai.server.time_per_output_token").Single().Value, Is.GreaterThan(0).And.LessThan(duration.Value));
        var usage = heard.Of("gen_ai.client.token.usage").ToDictionary(m => (string)m.Tags["gen_ai.token.type"]!, m => (long)m.Value);
        Assert.That(usage, Is.EquivalentTo(new Dictionary<string, long>
        {
            ["input"] = response.Usage!.InputTokenCount!.Value,
            ["output"] = response.Usage.OutputTokenCount!.Value,
        }));
        Assert.That(heard.Of("tiller.steering.error"), Is.Empty);
    }

    [Test]
    public async Task A_steered_answer_tells_its_error_and_its_effort()
    {
        using var heard = new Heard("steered");
        using var service = Service("steered");
        using var client = service.AsChatClient();
        var options = new ChatOptions
        {
            MaxOutputTokens = 4,
            RawRepresentationFactory = _ => new SteeringOptions(new ControllerUse(ChatModel.Controller, 2)),
        };
        var response = await client.GetResponseAsync(s_chat, options).InTime();
        heard.Wait("gen_ai.server.request.duration", 1);
        var summary = (Tiller.Decode.SteeringSummary)response.AdditionalProperties!["steering"]!;
        Assert.That(heard.Of("tiller.steering.error").Single().Value, Is.EqualTo(summary.TrackingError));
        Assert.That(heard.Of("tiller.steering.effort").Single().Value, Is.EqualTo(summary.Effort));
    }

    [Test]
    public async Task What_fails_or_is_left_is_measured_with_its_kind_of_error()
    {
        using var heard = new Heard("failing");
        using var service = Service("failing");
        using var client = service.AsChatClient();
        Assert.That(async () => await client.GetResponseAsync(s_chat, new ChatOptions { Temperature = -1 }).InTime(), Throws.ArgumentException);
        heard.Wait("gen_ai.server.request.duration", 1);
        await foreach (var _ in client.GetStreamingResponseAsync(s_chat, new ChatOptions { Seed = 1 }))
        {
            break;
        }

        heard.Wait("gen_ai.server.request.duration", 2);
        await service.DrainAsync(Patience.Limit).InTime();
        Assert.That(async () => await client.GetResponseAsync(s_chat).InTime(), Throws.TypeOf<RefusedException>());
        heard.Wait("gen_ai.server.request.duration", 3);
        Assert.That(heard.Of("gen_ai.server.request.duration").Select(m => m.Tags["error.type"]),
            Is.EqualTo(new[] { "ArgumentException", "cancelled", "shutting_down" }));
    }

    [Test]
    public async Task A_request_is_one_span_with_an_event_where_its_text_was_queued_begun_and_first_drawn()
    {
        var spans = new ConcurrentQueue<Activity>();
        using var listener = new ActivityListener
        {
            ShouldListenTo = source => source.Name == TillerTelemetry.Name,
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
            ActivityStopped = spans.Enqueue,
        };
        ActivitySource.AddActivityListener(listener);
        using var service = Service("traced");
        using var client = service.AsChatClient();
        using var caller = new Activity("caller").Start();
        await client.GetResponseAsync(s_chat, new ChatOptions { Temperature = 0, MaxOutputTokens = 5 }).InTime();
        Assert.That(Activity.Current, Is.SameAs(caller));
        Patience.Until(() => spans.Any(IsOurs), "the span ends");
        var span = spans.Single(IsOurs);
        Assert.That(span.DisplayName, Is.EqualTo("chat traced"));
        Assert.That(span.ParentSpanId, Is.EqualTo(caller.SpanId));
        Assert.That(span.Events.Select(e => e.Name), Is.EqualTo(new[] { "tiller.queue", "tiller.prefill", "tiller.decode" }));
        Assert.That(span.Events.Select(e => e.Timestamp.UtcDateTime), Is.Ordered);
        Assert.That(span.Events.Select(e => e.Timestamp.UtcDateTime), Is.All.InRange(span.StartTimeUtc, span.StartTimeUtc + span.Duration));
        Assert.That(span.GetTagItem("gen_ai.usage.output_tokens"), Is.EqualTo(5));
        Assert.That(span.GetTagItem("gen_ai.response.finish_reasons"), Is.EqualTo(new[] { "length" }));
        Assert.That(span.Status, Is.EqualTo(ActivityStatusCode.Unset));

        static bool IsOurs(Activity span) => (string?)span.GetTagItem("gen_ai.request.model") == "traced";
    }

    [Test]
    public async Task Requests_over_HTTP_are_measured_alike_whole_streamed_and_refused()
    {
        using var heard = new Heard("by-http");
        await using var server = await RunningServer.Start(new ServiceOptions { ModelName = "by-http" });
        await server.Post("/v1/completions", """{"model":"by-http","prompt":"Once","max_tokens":3,"n":2}""");
        heard.Wait("gen_ai.server.request.duration", 1);
        await server.Post("/v1/completions", """{"model":"by-http","prompt":"Once","max_tokens":3,"stream":true}""");
        heard.Wait("gen_ai.server.request.duration", 2);
        await server.Post("/v1/chat/completions", """{"model":"by-http","messages":[{"role":"user","content":"Hi"}]}""");
        heard.Wait("gen_ai.server.request.duration", 3);
        var all = heard.Of("gen_ai.server.request.duration").ToArray();
        Assert.That(all.Select(m => m.Tags["gen_ai.operation.name"]), Is.EqualTo(new[] { "text_completion", "text_completion", "chat" }));
        Assert.That(all.Select(m => m.Tags.GetValueOrDefault("error.type")), Is.EqualTo(new[] { null, null, "no_template" }));
        Assert.That(heard.Of("gen_ai.client.token.usage").Where(m => (string?)m.Tags["gen_ai.token.type"] == "output").Select(m => m.Value),
            Is.EqualTo(new[] { 6, 3 }));
        int prompt = RunningServer.Model.Tokenizer.Encode("Once").Length;
        Assert.That(heard.Of("gen_ai.client.token.usage").Where(m => (string?)m.Tags["gen_ai.token.type"] == "input").Select(m => m.Value),
            Is.EqualTo(new[] { prompt, prompt }), "a prompt counts once, however many choices it has");
    }

    [Test]
    public async Task The_first_token_is_timed_from_the_requests_arrival()
    {
        var clock = new ManualClock();
        using var heard = new Heard("timed");
        using var scheduler = new Scheduler(RunningServer.Model, new SchedulerOptions { Clock = clock });
        var telemetry = RequestTelemetry.Begin(RequestTelemetry.Chat, "timed", clock);
        clock.Advance(TimeSpan.FromSeconds(3)); // its body is read
        using var text = scheduler.Submit([3], new() { MaxNewTokens = 2, StopIds = [] });
        telemetry.Follow([text], 1);
        await text.Completion.InTime();
        heard.Wait("gen_ai.server.request.duration", 1);
        Assert.That(heard.Of("gen_ai.server.time_to_first_token").Single().Value, Is.EqualTo(3));
    }

    [Test]
    public async Task A_scheduler_is_looked_at_while_it_lives_and_no_longer()
    {
        using var heard = new Heard("looked-at");
        using (var service = Service("looked-at"))
        using (var client = service.AsChatClient())
        {
            await foreach (var _ in client.GetStreamingResponseAsync(s_chat, new ChatOptions { Seed = 1 }))
            {
                heard.Look();
                break;
            }

            Assert.That(heard.Of("tiller.kv.bytes").Where(m => (string?)m.Tags["tiller.kv.use"] == "texts").Single().Value, Is.GreaterThan(0));
            Assert.That(heard.Of("tiller.queue.length").Single().Value, Is.Zero);
            Assert.That(heard.Of("tiller.batch.rows"), Has.Exactly(1).Items);
            Assert.That(heard.Of("tiller.prefix.hits").Single().Value, Is.Zero);
        }

        heard.Clear();
        heard.Look();
        Assert.That(heard.Of("tiller.kv.bytes"), Is.Empty);
    }

    [Test]
    public async Task Prometheus_reads_them_at_metrics()
    {
        await using var server = await RunningServer.Start(new ServiceOptions { ModelName = "scraped", ApiKeys = ["k"] }, model: ChatModel.Instance);
        Assert.That((await server.Get("/metrics")).Status, Is.EqualTo(401));
        server.Client.DefaultRequestHeaders.Authorization = new("Bearer", "k");
        using var client = server.Service.AsChatClient();
        await client.GetResponseAsync(s_chat, new ChatOptions { Temperature = 0, MaxOutputTokens = 4 }).InTime();
        var answer = await server.Get("/metrics");
        Assert.That(answer.Status, Is.EqualTo(200), answer.Body);
        Assert.That(answer.Body, Does.Contain("tiller_kv_bytes").And.Contain("gen_ai_client_token_usage").And.Contain("\"scraped\""));
    }

    private static TillerService Service(string name) => new(ChatModel.Instance, new ServiceOptions
    {
        ModelName = name,
        Scheduler = new SchedulerOptions { ReaderBuffer = 1, ReaderPatience = Patience.Limit },
    });

    /// <summary>Hears what the meter says of one model.</summary>
    private sealed class Heard : IDisposable
    {
        private readonly MeterListener _listener = new();
        private readonly ConcurrentQueue<Measured> _all = new();
        private readonly string _model;

        public Heard(string model)
        {
            _model = model;
            _listener.InstrumentPublished = (instrument, listener) =>
            {
                if (instrument.Meter.Name == TillerTelemetry.Name)
                {
                    listener.EnableMeasurementEvents(instrument);
                }
            };
            _listener.SetMeasurementEventCallback<double>((instrument, value, tags, _) => Take(instrument, value, tags));
            _listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) => Take(instrument, value, tags));
            _listener.Start();
        }

        public IEnumerable<Measured> Of(string name) => _all.Where(m => m.Name == name);

        public void Wait(string name, int count) => Patience.Until(() => Of(name).Count() >= count, $"{count} of {name}");

        public void Look() => _listener.RecordObservableInstruments();

        public void Clear() => _all.Clear();

        public void Dispose() => _listener.Dispose();

        private void Take(Instrument instrument, double value, ReadOnlySpan<KeyValuePair<string, object?>> tags)
        {
            var all = tags.ToArray().ToDictionary(tag => tag.Key, tag => tag.Value);
            if ((string?)all.GetValueOrDefault("gen_ai.request.model") == _model)
            {
                _all.Enqueue(new Measured(instrument.Name, instrument.Unit, value, all));
            }
        }
    }

    private sealed record Measured(string Name, string? Unit, double Value, Dictionary<string, object?> Tags);
}
