using System.Diagnostics;
using System.Globalization;
using System.Net.Http.Headers;
using System.Text;
using Tiller.Bench;
using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Model;
using Tiller.Scheduling;
using Tiller.Serving;
using Tiller.Tokens;

namespace Tiller.Tool;

/// <summary>Figures of a number of streams under one kind of load.</summary>
/// <param name="Streams">Clients at once, or, of an open loop, texts that come.</param>
/// <param name="Load">What was asked, and how.</param>
/// <param name="TokensPerSecond">Of all streams; median over the rounds.</param>
/// <param name="FirstMs">Time to the first token: median, 99th percentile. Of the engine alone null.</param>
/// <param name="GapMs">Time from token to token: median, 99th percentile. Of the engine alone null.</param>
/// <param name="Fairness">Speed of the slowest stream over that of the median one; median over the rounds. Null where there is one stream.</param>
/// <param name="Ratio">Speed over that of <paramref name="RatioOf"/> in the same round; median over the rounds. Null for no comparison.</param>
/// <param name="RatioP10">The 10th percentile of these ratios.</param>
/// <param name="RatioP90">The 90th percentile.</param>
/// <param name="RatioOf">What it is compared with.</param>
internal sealed record ServeRow(
    int Streams, string Load, double TokensPerSecond, Quantiles? FirstMs = null, Quantiles? GapMs = null, double? Fairness = null,
    double? Ratio = null, double? RatioP10 = null, double? RatioP90 = null, string? RatioOf = null);

/// <summary>The median and the 99th percentile of times.</summary>
internal sealed record Quantiles(double P50, double P99)
{
    public static Quantiles Of(IReadOnlyList<double> seconds) => new(1000 * Meter.Quantile(seconds, 0.5), 1000 * Meter.Quantile(seconds, 0.99));
}

/// <summary>What it costs to give a controller to a server.</summary>
/// <param name="Bytes">Of its file.</param>
/// <param name="UploadMs">Median time of an upload, from the request to the answer.</param>
/// <param name="ReadMs">Median time of the part of it that reads and checks the file, its hash among that.</param>
internal sealed record UploadCost(long Bytes, double UploadMs, double ReadMs);

/// <summary>The results of <c>tiller bench serve</c>.</summary>
internal sealed record ServeReport(UploadCost Upload, IReadOnlyList<ServeRow> Rows);

/// <summary>
/// A server on loopback, and clients in the same process: as many streams as there are clients, each with another request as soon as one has ended (a
/// closed loop), and requests that come at random moments, whatever the server does (an open loop). The engine alone, the plain and the steered
/// server take turns, so that other load on the machine affects all of them alike. Every token is a chunk with its log-probability.
/// </summary>
internal sealed class ServeBench : IDisposable
{
    private const double OpenLoad = 0.7; // of the closed loop's speed

    // Enough for connections and for what is compiled at the first use: the rows of a large model take long enough by themselves.
    private const int WarmUpStreams = 8;
    private const int WarmUpTokens = 4;
    private static readonly TimeSpan s_warmUp = TimeSpan.FromSeconds(0.5);

    private readonly BenchRequest _request;
    private readonly LanguageModel _model;
    private readonly TillerService _service;
    private readonly HttpClient _client = new() { Timeout = Timeout.InfiniteTimeSpan };
    private readonly IReadOnlyList<int[]> _prompts;
    private readonly int _tokens;
    private readonly CancellationToken _cancellationToken;

    private ServeBench(BenchRequest request, LanguageModel model, TillerService service, int most, CancellationToken cancellationToken)
    {
        (_request, _model, _service, _tokens, _cancellationToken) = (request, model, service, request.NewTokens, cancellationToken);
        _prompts = [.. Enumerable.Range(0, most).Select(i => RandomParts.Tokens(model.Config.V, request.ContextLength, seed: i + 1))];
    }

    /// <summary>Measures.</summary>
    /// <param name="request">What is measured.</param>
    /// <param name="told">Gets every row as soon as it is measured; null for none.</param>
    /// <param name="cancellationToken">Ends the measurement.</param>
    public static async Task<ServeReport> Run(BenchRequest request, Action<ServeRow>? told, CancellationToken cancellationToken)
    {
        IReadOnlyList<int> streams = request.Batches ?? [1, 8, 32];
        int most = streams.Max();
        using var machine = Machine.Open(request);
        request = request with { Device = machine.Device };
        double caches = most * request.Counts.CacheBytes(request.NewTokens + request.ContextLength);
        using var model = RandomParts.Model(request, machine, 2 * caches, Tokenizer.Load(request.DemoFolder, cancellationToken: cancellationToken));
        var folder = Directory.CreateTempSubdirectory("tiller-bench-");
        try
        {
            using var service = new TillerService(model, new ServiceOptions
            {
                ModelName = "m",
                ControllersDirectory = Path.Combine(folder.FullName, "controllers"),
                Scheduler = new SchedulerOptions { MaxSequences = most, MaxQueued = 64 * most, ReaderBuffer = 2 * request.NewTokens },
            });
            await using var server = await TillerServer.StartAsync(service, new ServerOptions { Port = 0 }, cancellationToken: cancellationToken);
            using var bench = new ServeBench(request, model, service, most, cancellationToken);
            bench._client.BaseAddress = server.Address;
            var upload = await bench.Upload(folder.FullName, most);
            var rows = new List<ServeRow>();
            foreach (int count in streams)
            {
                (await bench.Closed(count)).ToList().ForEach(Tell);
            }

            double rate = OpenLoad * rows.Last(row => row.Load == Plain && row.Streams == most).TokensPerSecond / request.NewTokens;
            int texts = (int)Math.Clamp(10 * request.Seconds * rate, most, 4 * most);
            Tell(await bench.Open(texts, rate, isSteered: false));
            Tell(await bench.Open(texts, rate, isSteered: true));
            return new ServeReport(upload, rows);

            void Tell(ServeRow row)
            {
                rows.Add(row);
                told?.Invoke(row);
            }
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    public void Dispose() => _client.Dispose();

    private const string Engine = "engine alone";
    private const string Plain = "closed loop, plain";
    private const string Steered = "closed loop, all steered differently";

    private async Task<UploadCost> Upload(string folder, int count)
    {
        var uploads = new List<double>();
        var reads = new List<double>();
        string path = Path.Combine(folder, "random.tiller");
        long size = 0;
        for (int i = 0; i < count; i++)
        {
            Controller(i).Save(path);
            byte[] file = await File.ReadAllBytesAsync(path, _cancellationToken);
            size = file.Length;
            using var content = new ByteArrayContent(file);
            content.Headers.ContentType = new MediaTypeHeaderValue("application/octet-stream");
            long start = Stopwatch.GetTimestamp();
            using var response = await _client.PostAsync($"/v1/controllers?name=c{i}", content, _cancellationToken);
            response.EnsureSuccessStatusCode();
            uploads.Add(Stopwatch.GetElapsedTime(start).TotalSeconds);
            start = Stopwatch.GetTimestamp();
            Tiller.Controllers.Controller.Load(path).CheckModel(_model);
            reads.Add(Stopwatch.GetElapsedTime(start).TotalSeconds);
        }

        return new UploadCost(size, 1000 * Meter.Quantile(uploads, 0.5), 1000 * Meter.Quantile(reads, 0.5));
    }

    // Directions of the model's shape, weak enough that activations keep their size.
    private Controller Controller(int seed)
    {
        var (random, c) = (new Random(seed), _model.Config);
        var feature = new Feature([.. Enumerable.Range(0, c.L + 1).Select(_ => RandomParts.Unit(random, c.D))],
            [.. Enumerable.Repeat(0.1f, c.L + 1)]);
        float[][] w = [.. Enumerable.Range(0, c.L).Select(_ => Array.ConvertAll(RandomParts.Unit(random, c.D), x => 0.01f * x))];
        return new Controller(new LinearQuadratic(feature, w), new ControllerSource
        {
            ModelName = _model.Name,
            ModelFingerprint = _model.Fingerprint,
            Positive = new PromptSet(new string('0', 64), 1),
            Negative = new PromptSet(new string('0', 64), 1),
        });
    }

    private async Task<IReadOnlyList<ServeRow>> Closed(int count)
    {
        List<Round> engine = [], plain = [], steered = [];
        var clock = Stopwatch.StartNew();
        do
        {
            await Plays(Math.Min(count, WarmUpStreams), isSteered: false, WarmUpTokens);
            await Plays(Math.Min(count, WarmUpStreams), isSteered: true, WarmUpTokens);
        }
        while (clock.Elapsed < s_warmUp);

        clock.Restart();
        for (int i = 0; i < Meter.MinSamples || clock.Elapsed.TotalSeconds < 3 * _request.Seconds; i++)
        {
            if (i % 2 == 0)
            {
                engine.Add(await Alone(count));
                plain.Add(await Plays(count, isSteered: false, _tokens));
                steered.Add(await Plays(count, isSteered: true, _tokens));
            }
            else
            {
                steered.Add(await Plays(count, isSteered: true, _tokens));
                plain.Add(await Plays(count, isSteered: false, _tokens));
                engine.Add(await Alone(count));
            }
        }

        return
        [
            new ServeRow(count, Engine, Median(engine, round => round.Speed)),
            Row(Plain, plain, engine, "engine alone"),
            Row(Steered, steered, plain, "plain"),
        ];

        ServeRow Row(string load, List<Round> rounds, List<Round> others, string ratioOf)
        {
            double[] ratios = [.. rounds.Zip(others, (one, other) => one.Speed / other.Speed)];
            return new ServeRow(
                count, load, Median(rounds, round => round.Speed), Quantiles.Of([.. rounds.SelectMany(round => round.First)]),
                Quantiles.Of([.. rounds.SelectMany(round => round.Gaps)]), count == 1 ? null : Median(rounds, round => round.Fairness),
                Meter.Quantile(ratios, 0.5), Meter.Quantile(ratios, 0.1), Meter.Quantile(ratios, 0.9), ratioOf);
        }
    }

    private static double Median(List<Round> rounds, Func<Round, double> figure) => Meter.Quantile([.. rounds.Select(figure)], 0.5);

    // The same texts without HTTP.
    private async Task<Round> Alone(int count)
    {
        long start = Stopwatch.GetTimestamp();
        var texts = _service.Scheduler.SubmitAll(
        [
            .. Enumerable.Range(0, count).Select(i => (_prompts[i], new GenerationOptions
            {
                MaxNewTokens = _tokens,
                StopIds = [],
                Sampling = new SamplingOptions { LogProbabilities = 0 },
            })),
        ]);
        foreach (var text in texts)
        {
            var result = await text.Completion.WaitAsync(_cancellationToken);
            if (result.End != TextEnd.Stopped)
            {
                throw result.Error ?? new BenchException($"A text has ended as {result.End}.");
            }
        }

        return new Round(count * _tokens / Stopwatch.GetElapsedTime(start).TotalSeconds, [], [], 1);
    }

    private async Task<Round> Plays(int count, bool isSteered, int tokens)
    {
        long start = Stopwatch.GetTimestamp();
        var streams = await Task.WhenAll(Enumerable.Range(0, count).Select(i => Task.Run(() => Stream(i, isSteered, tokens), _cancellationToken)));
        double seconds = Stopwatch.GetElapsedTime(start).TotalSeconds;
        double[] speeds = [.. streams.Select(times => tokens / times[^1])];
        return new Round(
            count * tokens / seconds, [.. streams.Select(times => times[0])], [.. streams.SelectMany(Gaps)],
            speeds.Min() / Meter.Quantile(speeds, 0.5));
    }

    private async Task<ServeRow> Open(int count, double rate, bool isSteered)
    {
        var random = new Random(1);
        var clock = Stopwatch.StartNew();
        double at = 0;
        var streams = new List<Task<double[]>>();
        var late = new List<double>();
        for (int i = 0; i < count; i++)
        {
            at += -Math.Log(1 - random.NextDouble()) / rate;
            double wait = at - clock.Elapsed.TotalSeconds;
            if (wait > 0)
            {
                await Task.Delay(TimeSpan.FromSeconds(wait), _cancellationToken);
            }

            // From the moment that it was to come, however late the clients are.
            int number = i % _prompts.Count;
            late.Add(clock.Elapsed.TotalSeconds - at);
            streams.Add(Task.Run(() => Stream(number, isSteered, _tokens), _cancellationToken));
        }

        double[][] times = await Task.WhenAll(streams);
        return new ServeRow(
            count, $"open loop, {(isSteered ? "steered" : "plain")}, {rate.ToString("G2", CultureInfo.InvariantCulture)} texts/s",
            count * _tokens / clock.Elapsed.TotalSeconds, Quantiles.Of([.. times.Select((one, i) => late[i] + one[0])]),
            Quantiles.Of([.. times.SelectMany(Gaps)]));
    }

    private static IEnumerable<double> Gaps(double[] times) => times.Skip(1).Zip(times, (now, before) => now - before);

    // Seconds from the request to each token.
    private async Task<double[]> Stream(int i, bool isSteered, int tokens)
    {
        string steering = isSteered
            ? string.Create(CultureInfo.InvariantCulture, $",\"steering\":{{\"controllers\":[{{\"name\":\"c{i}\",\"lambda\":{0.5 + (0.01 * i)}}}]}}")
            : "";
        string body = $"{{\"model\":\"m\",\"prompt\":[{string.Join(',', _prompts[i])}],\"max_tokens\":{tokens},\"ignore_eos\":true,\"temperature\":0,"
            + $"\"logprobs\":0,\"stream\":true{steering}}}";
        using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/completions");
        request.Content = new StringContent(body, Encoding.UTF8, new MediaTypeHeaderValue("application/json"));
        long start = Stopwatch.GetTimestamp();
        using var response = await _client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, _cancellationToken);
        response.EnsureSuccessStatusCode();
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(_cancellationToken));
        double[] times = new double[tokens];
        int count = -1; // the first chunk opens the choice, without a token
        while (await reader.ReadLineAsync(_cancellationToken) is { } line && line != "data: [DONE]")
        {
            if (line.StartsWith("data: {\"error\"", StringComparison.Ordinal))
            {
                throw new BenchException($"A stream ended with an error: {line}");
            }

            if (line.Length > 0 && count++ >= 0)
            {
                times[count - 1] = Stopwatch.GetElapsedTime(start).TotalSeconds;
            }
        }

        return count == tokens ? times : throw new BenchException($"A stream had {count} tokens, and {tokens} were asked for.");
    }

    private sealed record Round(double Speed, IReadOnlyList<double> First, IReadOnlyList<double> Gaps, double Fairness);
}
