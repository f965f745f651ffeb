using System.Diagnostics;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Scheduling;
using Tiller.Serving;

namespace Tiller.Stress;

/// <summary>How much a storm over HTTP does at least.</summary>
internal sealed record ServeStormPlan
{
    /// <summary>Clients that stream at once.</summary>
    public int Streams { get; init; } = 64;

    /// <summary>Clients in all that never read.</summary>
    public int SlowReaders { get; init; } = 500;

    /// <summary>Streams in all whose clients leave on the way.</summary>
    public int Cancels { get; init; } = 1000;

    /// <summary>Least time that it takes.</summary>
    public TimeSpan Time { get; init; }
}

/// <summary>The results of a storm over HTTP.</summary>
/// <param name="Answers">Answers that were read to their end.</param>
/// <param name="Moved">Answers among them whose λ was moved on the way.</param>
/// <param name="Overtaken">Moves of λ that came after the end of their answer.</param>
/// <param name="Cancelled">Streams whose client left.</param>
/// <param name="Dropped">Clients that did not read, and were dropped.</param>
/// <param name="Late">Answers whose reader, in a process as busy as this, was late for the server's patience and dropped, too.</param>
/// <param name="Refused">Requests that a full queue refused.</param>
/// <param name="Texts">Texts that the server took, and that ended.</param>
/// <param name="Tokens">Tokens that were drawn.</param>
/// <param name="PrefixHits">Texts that took over another's prompt, or its beginning.</param>
/// <param name="HeldInBytes">Size of the buffers held after the run, minus those before it.</param>
/// <param name="HeldSockets">Sockets open after the run, minus those before it.</param>
/// <param name="Failures">Descriptions of failures; empty if there were none.</param>
internal sealed record ServeStormReport(
    long Answers, long Moved, long Overtaken, long Cancelled, long Dropped, long Late, long Refused, long Texts, long Tokens, long PrefixHits,
    long HeldInBytes, int HeldSockets, IReadOnlyList<string> Failures);

/// <summary>One request and what it must give.</summary>
/// <param name="Body">The request, without its last brace, streamed or not.</param>
/// <param name="Alone">Text of a session alone.</param>
/// <param name="Later">λ that it may be moved to; null for a plain text.</param>
/// <param name="Moved">Text of a session alone whose λ is moved before token i is drawn // (tokens).</param>
internal sealed record ServeCase(string Body, string Alone, double? Later, IReadOnlyList<string> Moved);

/// <summary>
/// Many clients of one server on loopback: streams that are steered, moved and left, whole answers, and clients that never read. In steps of at most
/// eight rows every text must be that of a session alone; every text that was taken must end; nothing may be held afterwards.
/// </summary>
internal sealed class ServeStorm : IDisposable
{
    private const string ControllerName = "sea";
    private const int Tokens = 20;
    private const int SlowAtOnce = 4;
    private const int SlowTexts = 8;
    private const int MaxHeldSockets = 16;
    private const int MaxFailures = 20;

    private readonly ServeStormPlan _plan;
    private readonly IReadOnlyList<ServeCase> _cases;
    private readonly TillerService _service;
    private readonly Uri _address;
    private readonly HttpClient _client;
    private readonly Stopwatch _clock = Stopwatch.StartNew();
    private readonly List<string> _failures = [];
    private long _answers;
    private long _moved;
    private long _cancelled;
    private long _dropped;
    private long _slow;
    private long _late;
    private long _refused;
    private long _overtaken;
    private long _taken;
    private long _waiting;

    private ServeStorm(ServeStormPlan plan, IReadOnlyList<ServeCase> cases, TillerService service, Uri address)
    {
        (_plan, _cases, _service, _address) = (plan, cases, service, address);
        _client = new HttpClient { BaseAddress = address, Timeout = Timeout.InfiniteTimeSpan };
    }

    /// <summary>Fits a controller on a model's contrast prompts, and lets the clients loose on a server of the model.</summary>
    /// <param name="folder">A checkpoint's, with contrast/topic.positive.txt and topic.negative.txt.</param>
    /// <param name="device">Device; null for TILLER_DEVICE, or auto.</param>
    /// <param name="threads">Threads that share a step on the CPU; 0 for one per processor.</param>
    /// <param name="plan">How much.</param>
    /// <param name="cancellationToken">Ends the run.</param>
    public static async Task<ServeStormReport> Run(
        string folder, Device? device, int threads, ServeStormPlan plan, CancellationToken cancellationToken)
    {
        using var model = LanguageModel.Load(folder, new LoadOptions { Device = device, Threads = threads }, cancellationToken: cancellationToken);
        var all = ContrastSet.Read(
            Path.Combine(folder, "contrast", "topic.positive.txt"), Path.Combine(folder, "contrast", "topic.negative.txt"),
            cancellationToken: cancellationToken);
        var contrast = new ContrastSet([.. all.Positive.Take(12)], [.. all.Negative.Take(12)]);
        var fit = ControllerFit.Run(model, contrast, new FitOptions { Cost = FitCost.Feature }, cancellationToken: cancellationToken);
        return await Run(model, fit.Controller, Cases(model, fit.Controller), plan, cancellationToken);
    }

    /// <summary>Lets the clients loose on a server of a model.</summary>
    /// <param name="model">The model.</param>
    /// <param name="controller">What steers.</param>
    /// <param name="cases">What is asked for, and what it must give.</param>
    /// <param name="plan">How much.</param>
    /// <param name="cancellationToken">Ends the run.</param>
    public static async Task<ServeStormReport> Run(
        LanguageModel model, Controller controller, IReadOnlyList<ServeCase> cases, ServeStormPlan plan, CancellationToken cancellationToken)
    {
        long held = HostBuffer.LiveInBytes;
        int sockets = OpenSockets();
        var folder = Directory.CreateTempSubdirectory("tiller-stress-");
        ServeStorm storm;
        SchedulerStatus status;
        try
        {
            controller.Save(Path.Combine(folder.FullName, ControllerName + ".tiller"));
            var options = new SchedulerOptions
            {
                MaxSequences = 8,
                MaxQueued = Math.Max(SlowAtOnce * SlowTexts, plan.Streams / 2),
                ReaderBuffer = 4,
                ReaderPatience = TimeSpan.FromSeconds(1),
            };
            using var service = new TillerService(
                model, new ServiceOptions { ModelName = "m", ControllersDirectory = folder.FullName, Scheduler = options });
            await using var server = await TillerServer.StartAsync(service, new ServerOptions { Port = 0 }, cancellationToken: cancellationToken);
            storm = new ServeStorm(plan, cases, service, server.Address);
            using (storm)
            {
                await storm.Blow(cancellationToken);
                await server.DrainAsync(TimeSpan.FromMinutes(5));
            }

            status = service.Scheduler.Status;
            storm.Check(status is { Running: 0, Queued: 0, KvBytes: 0 }, $"after the last answer the scheduler holds {status}");
            storm.Check(service.Answers.Count == 0, $"{service.Answers.Count} answers are still known");
            storm.Check(status.Ended == storm._taken, $"{storm._taken} texts were taken, and {status.Ended} have ended");
        }
        finally
        {
            folder.Delete(recursive: true);
        }

        held = HostBuffer.LiveInBytes - held;
        sockets = OpenSockets() - sockets;
        storm.Check(held <= StressRun.MaxHeldInBytes, $"{held} bytes of buffers are still held after the server was stopped");
        storm.Check(sockets <= MaxHeldSockets, $"{sockets} sockets more than before are open after the server was stopped");
        return new ServeStormReport(
            storm._answers, storm._moved, storm._overtaken, storm._cancelled, storm._dropped, storm._late, storm._refused, status.Ended,
            status.NewTokens, status.PrefixHits, held, sockets, storm._failures);
    }

    /// <summary>Requests with prompts of several lengths, plain and steered at several λ, and their texts from sessions alone.</summary>
    public static IReadOnlyList<ServeCase> Cases(LanguageModel model, Controller controller)
    {
        string[] prompts = ["Once upon a time", "One day", "Late at night Karin went to the", "A guest wrote. The room was", "The captain"];
        var cases = new List<ServeCase>();
        for (int i = 0; i < 2 * prompts.Length; i++)
        {
            int[] ids = model.Tokenizer.Encode(prompts[i % prompts.Length]);
            double? lambda = i % 4 == 3 ? null : 0.25 + (0.5 * i), later = lambda is null ? null : lambda - 2;
            string steering = lambda is null ? ""
                : $$""","steering":{"controllers":[{"name":"{{ControllerName}}","lambda":{{lambda}} }],"telemetry":"tokens"}""";
            string body = $$"""
                {"model":"m","prompt":[{{string.Join(',', ids)}}],"max_tokens":{{Tokens}},"ignore_eos":true,"temperature":0.8,"seed":{{i}}{{steering}}
                """;
            cases.Add(new ServeCase(body, Text(Tokens), later, later is null ? [] : [.. Enumerable.Range(0, Tokens).Select(Text)]));

            string Text(int movesAt) => Alone(model, ids, lambda is { } x ? controller.ToLaw(x) : null,
                later is { } y ? controller.ToLaw(y) : null, (ulong)i, movesAt);
        }

        return cases;
    }

    private static string Alone(LanguageModel model, int[] prompt, Law.FeedbackLaw? law, Law.FeedbackLaw? later, ulong seed, int movesAt)
    {
        using var session = new Session(model, law);
        var sampler = new Sampler(new SamplingOptions { Temperature = 0.8f, Seed = seed }, model.Config.V);
        var stream = model.Tokenizer.NewStream();
        var text = new StringBuilder();
        session.Append(prompt);
        for (int i = 0; i < Tokens; i++)
        {
            if (i == movesAt)
            {
                session.Use(later);
            }

            int id = session.Draw(sampler);
            text.Append(stream.Append(id));
            session.Append(id);
        }

        return text.Append(stream.Flush()).ToString();
    }

    public void Dispose() => _client.Dispose();

    private bool GoesOn => _clock.Elapsed < _plan.Time || Interlocked.Read(ref _cancelled) < _plan.Cancels
        || Interlocked.Read(ref _dropped) < _plan.SlowReaders;

    private Task Blow(CancellationToken cancellationToken) => Task.WhenAll(
    [
        .. Enumerable.Range(0, _plan.Streams).Select(i => Task.Run(() => Ask(new Random(i), cancellationToken), cancellationToken)),
        .. Enumerable.Range(0, SlowAtOnce).Select(_ => Task.Run(() => Dawdle(cancellationToken), cancellationToken)),
    ]);

    private async Task Ask(Random random, CancellationToken cancellationToken)
    {
        while (GoesOn && !HasFailed)
        {
            // A client of several texts needs as many places of the queue at once, which clients of one would take for ever.
            if (Interlocked.Read(ref _waiting) > 0)
            {
                await Task.Delay(1, cancellationToken);
                continue;
            }

            var asked = _cases[random.Next(_cases.Count)];
            bool streams = random.Next(4) > 0;
            using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/completions");
            request.Content = new StringContent(
                $"{asked.Body},\"stream\":{(streams ? "true" : "false")}}}", Encoding.UTF8, new MediaTypeHeaderValue("application/json"));
            using var response = await _client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, cancellationToken);
            if ((int)response.StatusCode == 429)
            {
                Interlocked.Increment(ref _refused);
                Check(response.Headers.RetryAfter is not null, "a full queue was told without the time to come again");
                await Task.Delay(1, cancellationToken);
                continue;
            }

            Interlocked.Increment(ref _taken);
            if (!response.IsSuccessStatusCode)
            {
                string error = await response.Content.ReadAsStringAsync(cancellationToken);
                Check(error.Contains(new SlowReaderException().Message, StringComparison.Ordinal),
                    $"an answer is {(int)response.StatusCode}: {error}");
                Interlocked.Increment(ref _late);
            }
            else if (streams)
            {
                await Follow(response, asked, random, cancellationToken);
            }
            else
            {
                using var whole = JsonDocument.Parse(await response.Content.ReadAsStringAsync(cancellationToken));
                Check(whole.RootElement.GetProperty("choices")[0].GetProperty("text").GetString() == asked.Alone,
                    "a whole answer is not the text of a session alone");
                Interlocked.Increment(ref _answers);
            }
        }
    }

    private async Task Follow(HttpResponseMessage response, ServeCase asked, Random random, CancellationToken cancellationToken)
    {
        int leavesAt = random.Next(3) == 0 ? random.Next(1, Tokens) : int.MaxValue;
        int movesAt = asked.Later is not null && random.Next(2) == 0 ? random.Next(1, Tokens) : int.MaxValue;
        bool moved = false;
        var text = new StringBuilder();
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync(cancellationToken));
        for (int chunks = 0; ;)
        {
            string? line;
            try
            {
                line = await reader.ReadLineAsync(cancellationToken);
            }
            catch (IOException e)
            {
                // The server cuts the connection of a reader who is late. Anything else is a fault.
                Check(
                    e is HttpIOException { HttpRequestError: HttpRequestError.ResponseEnded }
                        || e.InnerException is SocketException { SocketErrorCode: SocketError.ConnectionReset or SocketError.ConnectionAborted },
                    $"a stream could not be read: {e.Message}");
                CheckText(text.ToString(), asked, moved, isWhole: false);
                Interlocked.Increment(ref _late);
                return;
            }

            if (line is null)
            {
                Check(false, "a stream ended without [DONE]");
                return;
            }

            if (line.Length == 0)
            {
                continue;
            }

            if (line == "data: [DONE]")
            {
                CheckText(text.ToString(), asked, moved, isWhole: true);
                Interlocked.Increment(ref _answers);
                _ = moved ? Interlocked.Increment(ref _moved) : 0;
                return;
            }

            using var chunk = JsonDocument.Parse(line["data: ".Length..]);
            if (chunk.RootElement.TryGetProperty("error", out var error))
            {
                Check(false, $"a stream ended with the error {error}");
                return;
            }

            text.Append(chunk.RootElement.GetProperty("choices")[0].GetProperty("text").GetString());
            if (++chunks >= leavesAt)
            {
                CheckText(text.ToString(), asked, moved, isWhole: false);
                Interlocked.Increment(ref _cancelled);
                return;
            }

            if (chunks == movesAt)
            {
                moved = await Move(chunk.RootElement.GetProperty("id").GetString()!, asked.Later!.Value, cancellationToken);
            }
        }
    }

    private async Task<bool> Move(string id, double lambda, CancellationToken cancellationToken)
    {
        using var content = new StringContent(
            $$"""{"controllers":{"{{ControllerName}}":{{lambda}} } }""", Encoding.UTF8, new MediaTypeHeaderValue("application/json"));
        using var response = await _client.PatchAsync($"/v1/steering/{id}", content, cancellationToken);
        Check(response.IsSuccessStatusCode || (int)response.StatusCode == 404, $"λ was moved with the status {(int)response.StatusCode}");
        _ = response.IsSuccessStatusCode ? 0 : Interlocked.Increment(ref _overtaken);
        return response.IsSuccessStatusCode;
    }

    // λ moves at one of the tokens that come after it was asked for, or after the last.
    private void CheckText(string text, ServeCase asked, bool moved, bool isWhole)
    {
        bool Is(string alone) => isWhole ? text == alone : alone.StartsWith(text, StringComparison.Ordinal);
        Check(Is(asked.Alone) || (moved && asked.Moved.Any(Is)),
            $"a stream{(moved ? " whose λ was moved" : "")}{(isWhole ? "" : " that was left")} is not the text of a session alone");
    }

    // So much a token that the socket's own buffers are soon full.
    private async Task Dawdle(CancellationToken cancellationToken)
    {
        string body = $$"""{"model":"m","prompt":"One day","ignore_eos":true,"stream":true,"logprobs":20,"n":{{SlowTexts}}}""";
        byte[] request = Encoding.ASCII.GetBytes(
            $"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {body.Length}\r\n\r\n{body}");
        bool asksAgain = false;
        while ((asksAgain || Interlocked.Increment(ref _slow) <= _plan.SlowReaders) && !HasFailed)
        {
            using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { ReceiveBufferSize = 1024 };
            await socket.ConnectAsync(_address.Host, _address.Port, cancellationToken);
            await socket.SendAsync(request, cancellationToken);
            string head = await Head(socket, cancellationToken);
            if (head.StartsWith("HTTP/1.1 429", StringComparison.Ordinal))
            {
                Interlocked.Increment(ref _refused);
                _ = asksAgain ? 0 : Interlocked.Increment(ref _waiting);
                asksAgain = true;
                await Task.Delay(1, cancellationToken);
                continue;
            }

            _ = asksAgain ? Interlocked.Decrement(ref _waiting) : 0;
            asksAgain = false;
            int at = head.IndexOf("\"id\":\"", StringComparison.Ordinal);
            Check(head.StartsWith("HTTP/1.1 200", StringComparison.Ordinal) && at > 0, $"a client that does not read was answered {head}");
            if (at <= 0)
            {
                return;
            }

            Interlocked.Add(ref _taken, SlowTexts);
            string id = head[(at + 6)..].Split('"')[0];
            while (_service.Answers.Find(id, -1) is not null)
            {
                await Task.Delay(10, cancellationToken);
            }

            Check(!await EndsWithDone(socket, cancellationToken), "a client that did not read was waited for");
            Interlocked.Increment(ref _dropped);
        }
    }

    // The head of the answer, and its first event where there is one.
    private static async Task<string> Head(Socket socket, CancellationToken cancellationToken)
    {
        byte[] buffer = new byte[512];
        var head = new StringBuilder();
        while (await socket.ReceiveAsync(buffer, cancellationToken) is > 0 and int read)
        {
            head.Append(Encoding.UTF8.GetString(buffer, 0, read));
            string text = head.ToString();
            int at = text.IndexOf("\"id\":\"", StringComparison.Ordinal);
            if ((at > 0 && text.IndexOf('"', at + 6) > 0) || text.StartsWith("HTTP/1.1 429", StringComparison.Ordinal))
            {
                break;
            }
        }

        return head.ToString();
    }

    private static async Task<bool> EndsWithDone(Socket socket, CancellationToken cancellationToken)
    {
        byte[] buffer = new byte[64 << 10];
        string last = "";
        try
        {
            while (await socket.ReceiveAsync(buffer, cancellationToken) is > 0 and int read)
            {
                last = Encoding.UTF8.GetString(buffer, Math.Max(0, read - 64), Math.Min(64, read));
            }
        }
        catch (SocketException)
        {
            // Reset: what was not sent is lost.
        }

        return last.Contains("[DONE]", StringComparison.Ordinal);
    }

    // Linux lists a socket as a link to socket:[number]. Assemblies that are loaded for the first time stay open, so files say nothing.
    private static int OpenSockets() => !Directory.Exists("/proc/self/fd") ? 0
        : new DirectoryInfo("/proc/self/fd").GetFiles().Count(static f => f.LinkTarget?.StartsWith("socket:", StringComparison.Ordinal) ?? false);

    private bool HasFailed
    {
        get
        {
            lock (_failures)
            {
                return _failures.Count > 0;
            }
        }
    }

    private void Check(bool holds, string what)
    {
        lock (_failures)
        {
            if (!holds && _failures.Count < MaxFailures && !_failures.Contains(what))
            {
                _failures.Add(what);
            }
        }
    }
}
