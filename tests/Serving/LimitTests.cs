using System.Text;
using Tiller.Scheduling;
using Tiller.Serving;

namespace Tiller.Tests.Serving;

/// <summary>What a server does when there is too much of something: requests, unread text, time.</summary>
public sealed class LimitTests
{
    private const string Endless = """{"model":"demo","prompt":"One day","ignore_eos":true,"stream":true}""";

    private const string Short = """{"model":"demo","prompt":"One day","max_tokens":2,"temperature":0}""";

    [Test]
    public async Task A_full_queue_is_told_with_the_time_to_come_again()
    {
        using var hold = new SemaphoreSlim(0);
        await using var server = await Held(hold, new SchedulerOptions { MaxSequences = 1, MaxQueued = 1 });
        using var running = await Stream(server);
        Patience.Until(() => server.Service.Scheduler.Status is { Running: 1, Queued: 0 }, "the first is under way");
        using var queued = await Stream(server);
        Patience.Until(() => server.Service.Scheduler.Status.Queued == 1, "the second waits");
        var refused = await server.Post("/v1/completions", Short);
        Assert.That((refused.Status, refused.Code), Is.EqualTo((429, "rate_limit_exceeded")));
        Assert.That(refused.Error.GetProperty("type").GetString(), Is.EqualTo("rate_limit_error"));
        Assert.That(refused.Headers.RetryAfter!.Delta, Is.GreaterThanOrEqualTo(TimeSpan.FromSeconds(1)));
        hold.Release(int.MaxValue);
    }

    [Test]
    public async Task Of_an_answer_with_too_many_choices_none_is_begun()
    {
        using var hold = new SemaphoreSlim(0);
        await using var server = await Held(hold, new SchedulerOptions { MaxSequences = 1, MaxQueued = 3 });
        using var running = await Stream(server);
        Patience.Until(() => server.Service.Scheduler.Status is { Running: 1, Queued: 0 }, "the first is under way");
        using var queued = await Stream(server);
        Patience.Until(() => server.Service.Scheduler.Status.Queued == 1, "the second waits");
        var refused = await server.Post("/v1/completions", """{"model":"demo","prompt":"One day","n":3}""");
        Assert.That((refused.Status, server.Service.Scheduler.Status.Queued), Is.EqualTo((429, 1)), "a part of it would have had room");
        var never = await server.Post("/v1/completions", """{"model":"demo","prompt":"One day","n":4}""");
        Assert.That((never.Status, never.Param, never.Message.Contains("Scheduler", StringComparison.Ordinal)), Is.EqualTo((400, "n", false)));
        var many = await server.Post("/v1/completions", """{"model":"demo","prompt":["One day","Once","A","B"]}""");
        Assert.That((many.Status, many.Param), Is.EqualTo((400, "prompt")), "there are too many prompts, each once");
        running.Dispose();
        queued.Dispose();
        hold.Release(int.MaxValue);
        Patience.Until(
            () => server.Service.Scheduler.Status is { Running: 0, Queued: 0 } && server.Service.Answers.Count == 0, "none of them goes on");
    }

    [Test]
    public async Task A_client_that_does_not_read_is_dropped_and_holds_nobody_up()
    {
        // So much a token that the socket's own buffers are soon full.
        const string Wide = """{"model":"demo","prompt":"One day","ignore_eos":true,"stream":true,"logprobs":20,"n":16}""";
        var options = new SchedulerOptions { ReaderBuffer = 4, ReaderPatience = TimeSpan.FromMilliseconds(1) };
        await using var server = await RunningServer.Start(new ServiceOptions { Scheduler = options });
        using var socket = await RawSocket.Connect(server.Address, receiveBuffer: 1024);
        await socket.Send(Encoding.ASCII.GetBytes(
            $"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {Wide.Length}\r\n\r\n{Wide}"));
        Patience.Until(() => server.Service.Scheduler.Status.Ended > 0 && server.Service.Answers.Count == 0, "the answer is dropped");
        Assert.That((await server.Post("/v1/completions", Short)).Status, Is.EqualTo(200));
    }

    [Test]
    public async Task A_server_that_is_drained_takes_nothing_new_and_lets_what_it_has_end()
    {
        using var hold = new SemaphoreSlim(0);
        await using var server = await Held(hold, new SchedulerOptions());
        using var response = await Stream(server);
        Patience.Until(() => server.Service.Scheduler.Status.Running == 1, "the first is under way");
        var drained = server.Drain(Patience.Limit);
        Patience.Until(() => !server.Service.IsReady, "it stops");
        var refused = await server.Post("/v1/completions", Short);
        Assert.That((refused.Status, refused.Code), Is.EqualTo((503, "shutting_down")));
        hold.Release(int.MaxValue);
        string body = await response.Content.ReadAsStringAsync();
        Assert.That(Events.Of(body)[^1], Is.EqualTo("[DONE]"), "what was under way has ended by itself");
        await drained.InTime();
    }

    [Test]
    public async Task What_has_not_ended_when_patience_ends_is_ended_with_an_error()
    {
        using var hold = new SemaphoreSlim(0);
        await using var server = await Held(hold, new SchedulerOptions());
        using var response = await Stream(server);
        Patience.Until(() => server.Service.Scheduler.Status.Running == 1, "the first is under way");
        var drained = server.Drain(TimeSpan.Zero);
        hold.Release(3);
        string body = await response.Content.ReadAsStringAsync();
        Assert.That(Events.Of(body)[^1], Does.Contain("\"shutting_down\""));
        hold.Release(int.MaxValue - 10);
        await drained.InTime();
    }

    [Test]
    public async Task A_limit_on_new_tokens_is_told_and_is_what_a_request_without_one_gets()
    {
        await using var server = await RunningServer.Start(new ServiceOptions { Scheduler = new SchedulerOptions { MaxNewTokens = 5 } });
        var refused = await server.Post("/v1/completions", """{"model":"demo","prompt":"One day","max_tokens":6}""");
        Assert.That((refused.Status, refused.Param), Is.EqualTo((400, "max_tokens")), refused.Body);
        var answer = await server.Post("/v1/completions", """{"model":"demo","prompt":"One day","ignore_eos":true}""");
        Assert.That(answer.Json.GetProperty("usage").GetProperty("completion_tokens").GetInt32(), Is.EqualTo(5));
    }

    // Steps are made one for each release.
    private static async Task<RunningServer> Held(SemaphoreSlim hold, SchedulerOptions options)
    {
        var server = await RunningServer.Start(new ServiceOptions { Scheduler = options });
        server.Service.Scheduler.AfterTurn = _ => hold.Wait(Patience.Limit);
        return server;
    }

    private static async Task<HttpResponseMessage> Stream(RunningServer server)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/completions");
        request.Content = new StringContent(Endless, Encoding.UTF8, "application/json");
        return await server.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
    }
}
