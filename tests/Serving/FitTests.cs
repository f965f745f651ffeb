using System.Text;
using System.Text.Json;
using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Serving;
using Tiller.Synthesis;
using Tiller.Tests.Tool;

namespace Tiller.Tests.Serving;

/// <summary>Fits beside texts: texts go on between a fit's passes, and a fit ends when it is told to.</summary>
public sealed class FitTests
{
    [Test]
    public async Task Texts_have_a_step_between_any_two_passes_of_a_fit_within_a_layer_too()
    {
        using var folder = new Scratch();
        await using var server = await RunningServer.Start(new ServiceOptions { ControllersDirectory = folder["controllers"] });
        var scheduler = server.Service.Scheduler;
        int turns = 0;
        bool hasFitted = false;
        scheduler.AfterTurn = turn =>
        {
            // A step, then a pass of the fit, then a step: whichever is faster.
            if (turn.Rows > 0 && !Volatile.Read(ref hasFitted))
            {
                turns++;
                Patience.Until(() => scheduler.IsAwaited || Volatile.Read(ref hasFitted), "the fit lets a step go first");
            }
        };
        using var text = scheduler.Submit([3], new GenerationOptions { MaxNewTokens = 1000, StopIds = [] });
        var read = Task.Run(async () =>
        {
            await foreach (var _ in text.ReadAllAsync())
            {
            }
        });
        var contrast = PromptsOf(20);
        var fit = await server.Post("/v1/controllers/fit", contrast).InTime();
        int during = Volatile.Read(ref turns);
        bool hasEnded = text.Completion.IsCompleted;
        Volatile.Write(ref hasFitted, true);
        Assert.That(Events.Of(fit.Body)[^1], Does.Contain("\"fitted\""), fit.Body);
        Assert.That(hasEnded, Is.False, "the text is longer than the fit");

        var config = RunningServer.Model.Config;
        var ops = RunningServer.Model.Ops;
        var plan = PassPlan.Of(config, config.D, ops.Callers, ops.JacobianRows, config.L);
        int passes = ((plan.Blocks * plan.Panels) + plan.Lanes - 1) / plan.Lanes * ((40 + plan.Prompts - 1) / plan.Prompts);
        Assert.That(passes, Is.GreaterThan(1), "layers take several passes");
        Assert.That(during, Is.GreaterThanOrEqualTo(config.L / plan.Blocks * passes));
        string[] told = [.. Events.Of(fit.Body).Where(e => e.Contains("\"stage\"", StringComparison.Ordinal))];
        Assert.That(told, Is.Unique, "progress is told when there is some");
        text.Cancel();
        await read.InTime();
    }

    [Test]
    public async Task A_fit_with_held_out_prompts_has_a_certificate_and_texts_have_a_step_between_its_prompts()
    {
        using var folder = new Scratch();
        await using var server = await RunningServer.Start(new ServiceOptions { ControllersDirectory = folder["controllers"] });
        var scheduler = server.Service.Scheduler;
        int waits = 0;
        bool hasFitted = false;
        scheduler.AfterTurn = turn =>
        {
            if (turn.Rows > 0 && !Volatile.Read(ref hasFitted))
            {
                Patience.Until(() => scheduler.IsAwaited || Volatile.Read(ref hasFitted), "the fit lets a step go first");
                waits++;
            }
        };
        using var text = scheduler.Submit([3], new GenerationOptions { MaxNewTokens = 1000, StopIds = [] });
        var read = Task.Run(async () =>
        {
            await foreach (var _ in text.ReadAllAsync())
            {
            }
        });
        string[] heldOut = ["The sea has many fish.", "The dog has no bone."];
        var plain = await server.Post("/v1/controllers/fit", PromptsOf(4)).InTime();
        int without = Volatile.Read(ref waits);
        var fit = await server.Post("/v1/controllers/fit", PromptsOf(4, "certified", heldOut)).InTime();
        int with = Volatile.Read(ref waits) - without;
        Volatile.Write(ref hasFitted, true);
        Assert.That(Events.Of(plain.Body)[^1], Does.Contain("\"fitted\""), plain.Body);
        Assert.That(Events.Of(fit.Body)[^1], Does.Contain("\"certified\""), fit.Body);

        // A step for every prompt of the fit, and for every prompt that is held out.
        Assert.That(with - without, Is.GreaterThanOrEqualTo(8 + heldOut.Length - 1));
        Assert.That(Events.Of(fit.Body).Count(e => e.Contains("\"certificate\",\"done\"", StringComparison.Ordinal)), Is.GreaterThan(0), fit.Body);
        var shown = (await server.Send(HttpMethod.Get, "/v1/controllers/certified", null)).Json.GetProperty("inspect");
        var certificate = shown.GetProperty("certificate");
        Assert.That(certificate.GetProperty("error").GetArrayLength(), Is.EqualTo(heldOut.Length));
        Assert.That(certificate.GetProperty("bound")[0].GetArrayLength(), Is.EqualTo(RunningServer.Model.Config.L + 1));
        shown = (await server.Send(HttpMethod.Get, "/v1/controllers/fitted", null)).Json.GetProperty("inspect");
        Assert.That(shown.TryGetProperty("certificate", out _), Is.False);

        // The same certificate as the fit alone gives.
        var alone = ControllerFit.Run(
            RunningServer.Model, new ContrastSet([.. Texts(4, sea: true)], [.. Texts(4, sea: false)]),
            new FitOptions { HeldOut = [.. heldOut.Select(x => new TextPrompt(x))] }).Controller.Source.Certificate!;
        Assert.That(certificate.GetProperty("bound")[1].EnumerateArray().Select(x => x.GetDouble()), Is.EqualTo(alone.Bound[1]));
        text.Cancel();
        await read.InTime();
    }

    [Test]
    public async Task A_fit_is_given_up_by_its_id_and_leaves_nothing()
    {
        using var folder = new Scratch();
        await using var server = await RunningServer.Start(new ServiceOptions { ControllersDirectory = folder["controllers"] });
        using var hold = new SemaphoreSlim(0);
        server.Service.Scheduler.AfterTurn = _ => hold.Wait(Patience.Limit);
        using var text = server.Service.Scheduler.Submit([3], new GenerationOptions { MaxNewTokens = 1000, StopIds = [] });
        using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/controllers/fit");
        request.Content = new StringContent(PromptsOf(6), Encoding.UTF8, "application/json");
        using var response = await server.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead).InTime();
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync());
        Assert.That(await reader.ReadLineAsync(), Is.EqualTo("event: job"));
        string id = JsonDocument.Parse((await reader.ReadLineAsync())!["data: ".Length..]).RootElement.GetProperty("id").GetString()!;
        Patience.Until(() => server.Service.Scheduler.IsAwaited, "the fit waits for a step that does not end");
        Assert.That((await server.Send(HttpMethod.Delete, "/v1/controllers/fit/fit-0", null)).Code, Is.EqualTo("fit_not_found"));
        Assert.That((await server.Post("/v1/controllers/fit", PromptsOf(6))).Code, Is.EqualTo("fit_running"));
        var gone = await server.Send(HttpMethod.Delete, $"/v1/controllers/fit/{id}", null);
        Assert.That(gone.Json.GetProperty("cancelled").GetBoolean(), Is.True, gone.Body);
        string rest = await reader.ReadToEndAsync().InTime();
        Assert.That(rest, Does.Contain("event: error").And.Contain("\"fit_cancelled\"").And.Not.Contain("event: done"));
        Assert.That((await server.Send(HttpMethod.Delete, $"/v1/controllers/fit/{id}", null)).Code, Is.EqualTo("fit_not_found"));
        Assert.That(Directory.GetFileSystemEntries(folder["controllers"]), Is.Empty);
        hold.Release(int.MaxValue);
        text.Cancel();
        var again = await server.Post("/v1/controllers/fit", PromptsOf(6)).InTime();
        Assert.That(Events.Of(again.Body)[^1], Does.Contain("\"fitted\""), again.Body);
    }

    private static IEnumerable<Prompt> Texts(int count, bool sea) =>
        Enumerable.Range(0, count).Select(i => (Prompt)(sea ? $"The sea has {i} gulls." : $"The dog has {i} bones!"));

    // As many of each, and the whole state costs: every layer's Jacobian is formed.
    private static string PromptsOf(int count, string name = "fitted", string[]? certify = null)
    {
        var request = new Dictionary<string, object?>
        {
            ["name"] = name,
            ["cost"] = "state",
            ["positive"] = Texts(count, sea: true).Select(x => ((TextPrompt)x).Text).ToArray(),
            ["negative"] = Texts(count, sea: false).Select(x => ((TextPrompt)x).Text).ToArray(),
            ["certify"] = certify,
        };
        return JsonSerializer.Serialize(request);
    }
}
