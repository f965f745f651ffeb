using System.Text;
using System.Text.Json;
using Tiller.Chat;
using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Law;
using Tiller.Serving;
using Tiller.Tests.Tool;

namespace Tiller.Tests.Serving;

/// <summary>Requests that are steered: what they give is what the engine gives with the same law, and what they tell is what it did.</summary>
public sealed class SteeringTests
{
    private const string Prompt = "Once upon a time";

    private Scratch _folder = null!;
    private Controller _sea = null!;
    private Controller _kind = null!;
    private RunningServer _server = null!;

    [OneTimeSetUp]
    public async Task Fit()
    {
        _folder = new Scratch();
        _sea = Fit("topic");
        _kind = Fit("tone");
        Directory.CreateDirectory(_folder["controllers"]);
        _sea.Save(_folder["controllers/sea.tiller"]);
        _kind.Save(_folder["controllers/kind.tiller"]);
        var held = Few("topic").Positive.Take(2).ToArray();
        ControllerFit.Run(RunningServer.Model, Few("topic"), new FitOptions { Cost = FitCost.Feature, HeldOut = held }).Controller
            .Save(_folder["controllers/certified.tiller"]);
        await File.WriteAllTextAsync(_folder["controllers/Not-A-Name.tiller"], "");
        await File.WriteAllTextAsync(_folder["controllers/broken.tiller"], "no controller");
        _server = await RunningServer.Start(new ServiceOptions { ControllersDirectory = _folder["controllers"] });
    }

    [OneTimeTearDown]
    public async Task Stop()
    {
        await _server.DisposeAsync();
        _folder.Dispose();
    }

    [Test]
    public void A_law_is_compiled_once_for_each_of_the_lambdas_that_were_asked_for_last()
    {
        var named = new NamedController("sea", _sea, 1, DateTimeOffset.UnixEpoch);
        var law = named.ToLaw(1.5, float.PositiveInfinity);
        Assert.That(named.ToLaw(1.5, float.PositiveInfinity), Is.SameAs(law));
        Assert.That(named.ToLaw(1.5, 2), Is.Not.SameAs(law));
        Assert.That(named.ToLaw(-1, 2).Sensors[0].Beta, Is.EqualTo(-law.Sensors[0].Beta / 1.5f).Within(0.001).Percent);
        Assert.That(named.ToLaw(1.5, float.PositiveInfinity), Is.SameAs(law));
        foreach (double lambda in new[] { 3.0, 4, 5, 6 })
        {
            _ = named.ToLaw(lambda, 2);
        }

        Assert.That(named.ToLaw(1.5, float.PositiveInfinity), Is.Not.SameAs(law), "older ones are forgotten");
    }

    [Test]
    public void Files_that_are_no_controllers_are_left_out_and_named()
    {
        Assert.That(_server.Service.Warnings, Has.Count.EqualTo(2));
        Assert.That(_server.Service.Warnings, Has.Some.Contains("Not-A-Name").And.Some.Contains("broken"));
    }

    [TestCase("""{"controllers":[{"name":"sea","lambda":1.5}]}""")]
    [TestCase("""{"controllers":[{"name":"sea","lambda":1.5},{"name":"kind","lambda":-2}],"tokens":"all"}""")]
    [TestCase("""{"controllers":[{"name":"sea","lambda":2}],"layers":"1-1","max_effort":0.5}""")]
    [TestCase("""{"controllers":[{"name":"sea"}],"telemetry":"none"}""")]
    public async Task A_steered_text_is_what_the_same_law_gives_alone(string steering)
    {
        var answer = await Complete($$""","steering":{{steering}}""");
        var asked = JsonDocument.Parse(steering).RootElement;
        float bound = asked.TryGetProperty("max_effort", out var u) ? u.GetSingle() : float.PositiveInfinity;
        var law = FeedbackLaw.Sum([.. asked.GetProperty("controllers").EnumerateArray().Select(Law)]);
        FeedbackLaw Law(JsonElement one) => (one.GetProperty("name").GetString() == "sea" ? _sea : _kind)
            .ToLaw(one.TryGetProperty("lambda", out var lambda) ? lambda.GetDouble() : 1, bound);
        if (asked.TryGetProperty("layers", out var layers))
        {
            Assert.That(LayerSet.TryParse(layers.GetString(), out var set), Is.True);
            law = law.Within(set!);
            Assert.That(law.Terms.Select(t => t.Layer).Distinct(), Is.EqualTo(new[] { 1 }));
        }

        var tokens = asked.TryGetProperty("tokens", out _) ? SteeredTokens.All : SteeredTokens.Last;
        var (text, summary) = Alone(new GenerationOptions { Law = law, SteeredTokens = tokens, MaxNewTokens = 16 });
        Assert.That(TextOf(answer, 0), Is.EqualTo(text));
        bool tells = answer.Json.GetProperty("usage").TryGetProperty("steering", out var told);
        Assert.That(tells, Is.EqualTo(!asked.TryGetProperty("telemetry", out _)));
        if (tells && tokens == SteeredTokens.Last)
        {
            Assert.That(told.GetProperty("error").GetProperty("mean").GetDouble(), Is.EqualTo(summary.TrackingError).Within(1e-6).Percent);
            Assert.That(told.GetProperty("effort").GetDouble(), Is.EqualTo(summary.Effort).Within(1e-6));
            Assert.That(told.GetProperty("tokens").GetInt32(), Is.EqualTo(16));
            Assert.That(told.GetProperty("controllers").GetArrayLength(), Is.EqualTo(asked.GetProperty("controllers").GetArrayLength()));
            Assert.That(told.GetProperty("bounded_tokens").GetInt32(), float.IsFinite(bound) ? Is.GreaterThan(0) : Is.Zero);
        }
    }

    [Test]
    public async Task Compare_gives_the_plain_text_and_the_steered_one_with_one_seed()
    {
        const string Steering = """,,"steering":{"controllers":[{"name":"sea","lambda":1.5}]}""";
        var both = await _server.Post("/v1/completions",
            """
            {"model":"demo","prompt":"Once upon a time","max_tokens":12,"seed":3,
             "steering":{"controllers":[{"name":"sea","lambda":1.5}],"compare":true}}
            """);
        var plain = await _server.Post("/v1/completions", """{"model":"demo","prompt":"Once upon a time","max_tokens":12,"seed":3}""");
        var steered = await _server.Post("/v1/completions",
            """{"model":"demo","prompt":"Once upon a time","max_tokens":12,"seed":3""" + Steering[1..] + "}");
        Assert.That(both.Status, Is.EqualTo(200), both.Body);
        Assert.That(TextOf(both, 0), Is.EqualTo(TextOf(plain, 0)));
        Assert.That(TextOf(both, 1), Is.EqualTo(TextOf(steered, 0)));
        Assert.That(TextOf(both, 0), Is.Not.EqualTo(TextOf(both, 1)));
    }

    [TestCase("\"prompt\":\"a\",\"n\":2")]
    [TestCase("\"prompt\":[\"a\",\"b\"]")]
    public async Task Compare_of_several_texts_is_refused(string texts)
    {
        var answer = await _server.Post("/v1/completions",
            $$"""{"model":"demo",{{texts}},"steering":{"controllers":[{"name":"sea"}],"compare":true} }""");
        Assert.That((answer.Status, answer.Param), Is.EqualTo((400, "steering.compare")), answer.Body);
    }

    [TestCase("tokens")]
    [TestCase("layers")]
    public async Task Every_token_of_a_stream_tells_what_its_step_read_and_did(string telemetry)
    {
        string steering = $$"""{"controllers":[{"name":"sea","lambda":1.5},{"name":"kind","lambda":1}],"telemetry":"{{telemetry}}"}""";
        var stream = await _server.Post("/v1/completions", $$"""
            {"model":"demo","prompt":"{{Prompt}}","max_tokens":9,"temperature":0,"stream":true,"steering":{{steering}}}
            """);
        var law = FeedbackLaw.Sum([_sea.ToLaw(1.5), _kind.ToLaw(1)]);
        var trace = new SteeringTrace(law);
        Alone(new GenerationOptions { Law = law, MaxNewTokens = 9, Trace = trace });
        JsonElement[] told =
        [
            .. Events.Of(stream.Body).SkipLast(1).Select(e => JsonDocument.Parse(e).RootElement.GetProperty("choices")[0])
                .Where(c => c.TryGetProperty("steering", out _)).Select(c => c.GetProperty("steering")),
        ];
        Assert.That(told, Has.Length.EqualTo(9));
        for (int i = 0; i < told.Length; i++)
        {
            if (telemetry == "layers")
            {
                Assert.That(told[i].GetProperty("input").EnumerateArray().Select(u => u.GetSingle()), Is.EqualTo(trace.InputNorms(i).ToArray()));
                var sea = told[i].GetProperty("controllers").GetProperty("sea").EnumerateArray();
                float[] expected = trace.Errors(i)[.._sea.ToLaw(1.5).Sensors.Count].ToArray();
                Assert.That(sea.Where(e => e.ValueKind == JsonValueKind.Number).Select(e => e.GetSingle()), Is.EquivalentTo(expected));
                Assert.That(told[i].GetProperty("error").GetArrayLength(), Is.EqualTo(law.Layers));
            }
            else
            {
                float[] errors = trace.Errors(i).ToArray();
                double mean = errors.Average(e => Math.Abs((double)e));
                Assert.That(told[i].GetProperty("error").GetDouble(), Is.EqualTo(mean).Within(1e-6), $"token {i}");
                Assert.That(told[i].GetProperty("bounded").GetBoolean(), Is.False);
            }
        }
    }

    [Test]
    public async Task Lambda_of_a_running_stream_is_moved_by_its_id()
    {
        await using var server = await RunningServer.Start(new ServiceOptions { ControllersDirectory = _folder["controllers"] });
        using var hold = new SemaphoreSlim(0);
        int turns = 0;
        server.Service.Scheduler.AfterTurn = turn =>
        {
            if (turn.Rows > 0 && ++turns == 4)
            {
                hold.Wait(Patience.Limit);
            }
        };
        using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/completions");
        request.Content = new StringContent(
            """
            {"model":"demo","prompt":"Once upon a time","max_tokens":24,"temperature":0,"stream":true,
             "steering":{"controllers":[{"name":"sea","lambda":0.5}]}}
            """,
            Encoding.UTF8, "application/json");
        using var response = await server.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync());
        string first = (await reader.ReadLineAsync())!["data: ".Length..];
        string id = JsonDocument.Parse(first).RootElement.GetProperty("id").GetString()!;
        Patience.Until(() => turns == 4, "four tokens are drawn");
        var moved = await server.Send(HttpMethod.Patch, $"/v1/steering/{id}", """{"controllers":{"sea":2.5}}""");
        Assert.That(moved.Status, Is.EqualTo(200), moved.Body);
        Assert.That(moved.Json.GetProperty("controllers").GetProperty("sea").GetDouble(), Is.EqualTo(2.5));
        hold.Release();
        string rest = await reader.ReadToEndAsync();
        string text = string.Concat(Events.Of($"data: {first}\n\n{rest.TrimStart('\n')}").SkipLast(1)
            .Select(e => JsonDocument.Parse(e).RootElement.GetProperty("choices")[0].GetProperty("text").GetString()));
        Assert.That(text, Is.EqualTo(MovedAlone(0.5, 2.5, after: 4, tokens: 24)));
        var late = await server.Send(HttpMethod.Patch, $"/v1/steering/{id}", """{"controllers":{"sea":1}}""");
        Assert.That(late.Code, Is.EqualTo("response_not_found"));
    }

    [Test]
    public async Task A_controller_is_uploaded_used_and_removed()
    {
        using var content = new ByteArrayContent(await File.ReadAllBytesAsync(_folder["controllers/sea.tiller"]));
        content.Headers.ContentType = new("application/octet-stream");
        using var created = await _server.Client.PostAsync("/v1/controllers?name=more-sea", content);
        Assert.That((int)created.StatusCode, Is.EqualTo(201), await created.Content.ReadAsStringAsync());
        Assert.That((await _server.Get("/v1/controllers/more-sea")).Json.GetProperty("method").GetString(), Is.EqualTo(_sea.Method.Name));
        using var again = new ByteArrayContent(await File.ReadAllBytesAsync(_folder["controllers/sea.tiller"]));
        again.Headers.ContentType = new("application/octet-stream");
        using var taken = await _server.Client.PostAsync("/v1/controllers?name=more-sea", again);
        Assert.That((int)taken.StatusCode, Is.EqualTo(409));
        const string Sea = ",\"steering\":{\"controllers\":[{\"name\":\"sea\",\"lambda\":1.5}]}";
        string more = TextOf(await Complete(Sea.Replace("sea", "more-sea", StringComparison.Ordinal)), 0);
        Assert.That(more, Is.EqualTo(TextOf(await Complete(Sea), 0)));
        Assert.That((await _server.Send(HttpMethod.Delete, "/v1/controllers/more-sea", null)).Json.GetProperty("deleted").GetBoolean(), Is.True);
        Assert.That((await _server.Get("/v1/controllers/more-sea")).Code, Is.EqualTo("controller_not_found"));
        Assert.That(File.Exists(_folder["controllers/more-sea.tiller"]), Is.False);
        Assert.That(Directory.GetFiles(_folder["controllers"], ".*"), Is.Empty, "nothing half-written is left");
    }

    [Test]
    public async Task A_control_vector_is_uploaded_and_steers()
    {
        var addition = new Controller(new OpenLoopAddition(_sea.Method.Feature, new LayerSet(1, _sea.L - 1)), _sea.Source);
        using var file = new MemoryStream();
        ControlVectorFile.Write(file, addition);
        using var content = new ByteArrayContent(file.ToArray());
        content.Headers.ContentType = new("application/octet-stream");
        using var created = await _server.Client.PostAsync("/v1/controllers?name=vector", content);
        Assert.That((int)created.StatusCode, Is.EqualTo(201), await created.Content.ReadAsStringAsync());
        var law = ControlVectorFile.Read(file.ToArray(), RunningServer.Model).ToLaw(2);
        var answer = await Complete(",\"steering\":{\"controllers\":[{\"name\":\"vector\",\"lambda\":2}]}");
        Assert.That(TextOf(answer, 0), Is.EqualTo(Alone(new GenerationOptions { Law = law, MaxNewTokens = 16 }).Text));
        var stored = Controller.Load(_folder["controllers/vector.tiller"]);
        Assert.That(stored.ToLaw(2).Terms, Has.Count.EqualTo(law.Terms.Count), "stored as a controller");
        await _server.Send(HttpMethod.Delete, "/v1/controllers/vector", null);
    }

    [Test]
    public async Task A_fit_takes_chats()
    {
        using var folder = new Scratch();
        await using var server = await RunningServer.Start(
            new ServiceOptions { ModelName = "chat", ControllersDirectory = folder["controllers"] }, model: ChatModel.Instance);
        string[] positive = ["The sea is wide.", "A gull cried."], negative = ["The dog slept.", "A cat ran."];
        string Messages(string[] texts) => string.Join(',', texts.Select(text => $$"""[{"role":"user","content":"{{text}}"}]"""));
        var fit = await server.Post("/v1/controllers/fit",
            $$"""{"name":"fitted","positive":[{{Messages(positive)}}],"negative":[{{Messages(negative)}}]}""");
        Assert.That(JsonDocument.Parse(Events.Of(fit.Body)[^1]).RootElement.GetProperty("name").GetString(), Is.EqualTo("fitted"), fit.Body);
        Prompt[] Chats(string[] texts) => [.. texts.Select(text => new ChatPrompt([new ChatMessage("user", text)]))];
        var options = new FitOptions { Cost = FitCost.Feature };
        var expected = ControllerFit.Run(ChatModel.Instance, new ContrastSet(Chats(positive), Chats(negative)), options).Controller;
        var fitted = Controller.Load(folder["controllers/fitted.tiller"]);
        Assert.That(fitted.SteersAs(expected), Is.True);
        Assert.That(fitted.SteersAs(ChatModel.Controller), Is.False, "texts without the chat's form are others");
    }

    [Test]
    public async Task A_fit_tells_its_progress_and_gives_the_controller_that_the_engine_fits()
    {
        var contrast = Few("tone");
        string body = JsonSerializer.Serialize(new Dictionary<string, object>
        {
            ["name"] = "fitted",
            ["positive"] = contrast.Positive.Cast<TextPrompt>().Select(p => p.Text).ToArray(),
            ["negative"] = contrast.Negative.Cast<TextPrompt>().Select(p => p.Text).ToArray(),
            ["q"] = 0.2,
        });
        var fit = await _server.Post("/v1/controllers/fit", body);
        Assert.That(fit.Body, Does.StartWith("event: job\n").And.Contain("event: progress\n"));
        var done = JsonDocument.Parse(Events.Of(fit.Body)[^1]).RootElement;
        Assert.That(done.GetProperty("name").GetString(), Is.EqualTo("fitted"), fit.Body);
        var options = new FitOptions { Cost = FitCost.Feature, Weights = new(0.2, 1, 1) };
        var expected = ControllerFit.Run(RunningServer.Model, contrast, options).Controller;
        Assert.That(Controller.Load(_folder["controllers/fitted.tiller"]).SteersAs(expected), Is.True);
        Assert.That((await _server.Post("/v1/controllers/fit", body)).Code, Is.EqualTo("controller_exists"));
        await _server.Send(HttpMethod.Delete, "/v1/controllers/fitted", null);
    }

    [Test]
    public async Task Vectors_as_EasySteer_takes_them_are_added_whatever_the_state_is()
    {
        int d = RunningServer.Model.Config.D;
        float[] ones = [.. Enumerable.Repeat(0.25f, d)];
        string data = $"[{string.Join(',', ones.Select(v => v.ToString()))}]";
        string vectors = $$"""[{"source":"sea","scale":2,"layers":[0,1]},{"data":{{data}},"layers":"1-1","scale":-1}]""";
        var answer = await Complete($$""","steering":{"vectors":{{vectors}},"conflict":"sequential"}""");
        var law = FeedbackLaw.Sum(
        [
            new OpenLoopAddition(_sea.Method.Feature, new LayerSet(0, 1)).Compile(2),
            new FeedbackLaw(_sea.L, d, [], [new Term(1, ones, -1)]),
        ]);
        Assert.That(TextOf(answer, 0), Is.EqualTo(Alone(new GenerationOptions { Law = law, MaxNewTokens = 16 }).Text));
        Assert.That(answer.Json.GetProperty("usage").GetProperty("steering").GetProperty("error").GetProperty("mean").GetDouble(), Is.Zero);
        var first = await Complete($$""","steering":{"vectors":{{vectors}},"conflict":"priority"}""");
        law = new OpenLoopAddition(_sea.Method.Feature, new LayerSet(0, 1)).Compile(2);
        Assert.That(TextOf(first, 0), Is.EqualTo(Alone(new GenerationOptions { Law = law, MaxNewTokens = 16 }).Text));
    }

    [TestCase("""{"source":"sea","normalize":true}""", "unsupported_value", "steering.vectors[0].normalize")]
    [TestCase("""{"source":"sea","algorithm":"loreft"}""", "unsupported_value", "steering.vectors[0].algorithm")]
    [TestCase("""{"source":"sea","prefill_trigger_tokens":[-1]}""", "unsupported_value", "steering.vectors[0].prefill_trigger_tokens")]
    [TestCase("""{"path":"/etc/passwd","source":"sea"}""", "unsupported_value", "steering.vectors[0].path")]
    [TestCase("""{"source":"../sea"}""", "invalid_value", "steering.vectors[0].source")]
    [TestCase("""{"data":[1,2],"layers":"0-0"}""", "invalid_value", "steering.vectors[0].data")]
    [TestCase("""{"data":{"999":[1]}}""", "invalid_value", "steering.vectors[0].data")]
    [TestCase("""{"scale":1}""", "missing_field", "steering.vectors[0]")]
    public async Task Clauses_of_EasySteer_that_a_law_does_not_have_are_refused_by_name(string vector, string code, string param)
    {
        var answer = await Complete($$""","steering":{"vectors":[{{vector}}]}""");
        Assert.That((answer.Status, answer.Code, answer.Param), Is.EqualTo((400, code, param)), answer.Body);
    }

    [Test]
    public async Task Vectors_that_may_not_meet_are_refused_where_they_do()
    {
        const string Twice = ",\"steering\":{\"vectors\":[{\"source\":\"sea\"},{\"source\":\"kind\"}],\"conflict\":\"error\"}";
        Assert.That((await Complete(Twice)).Param, Is.EqualTo("steering.vectors[1]"));
    }

    [TestCase("sea")]
    [TestCase("certified")]
    public async Task A_controller_is_shown_as_inspect_shows_it(string name)
    {
        var shown = (await _server.Get($"/v1/controllers/{name}")).Json.GetProperty("inspect");
        var run = await ToolRun.Of("inspect", "--json", _folder[$"controllers/{name}.tiller"]);
        Assert.That(JsonElement.DeepEquals(shown, run.Json), Is.True, $"{shown}\n{run.Json}");
        Assert.That(shown.TryGetProperty("certificate", out var certificate), Is.EqualTo(name == "certified"));
        if (name == "certified")
        {
            Assert.That(certificate.GetProperty("heldOut").GetInt32(), Is.EqualTo(2));
            Assert.That(certificate.GetProperty("bound").GetArrayLength(), Is.EqualTo(2));
        }
    }

    [Test]
    public async Task An_answer_is_steered_by_those_alone_who_have_its_key()
    {
        await using var server =
            await RunningServer.Start(new ServiceOptions { ControllersDirectory = _folder["controllers"], ApiKeys = ["a", "b"] });
        using var hold = new SemaphoreSlim(0);
        server.Service.Scheduler.AfterTurn = _ => hold.Wait(Patience.Limit);
        server.Client.DefaultRequestHeaders.Authorization = new("Bearer", "a");
        using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/completions");
        request.Content = new StringContent(
            """
            {"model":"demo","prompt":"Once upon a time","ignore_eos":true,"stream":true,
             "steering":{"controllers":[{"name":"sea","lambda":0.5}]}}
            """,
            Encoding.UTF8, "application/json");
        using var response = await server.Client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead).InTime();
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync());
        string first = (await reader.ReadLineAsync())!["data: ".Length..];
        string id = JsonDocument.Parse(first).RootElement.GetProperty("id").GetString()!;
        server.Client.DefaultRequestHeaders.Authorization = new("Bearer", "b");
        var other = await server.Send(HttpMethod.Patch, $"/v1/steering/{id}", """{"controllers":{"sea":2.5}}""");
        Assert.That((other.Status, other.Code), Is.EqualTo((404, "response_not_found")), "as if there were none");
        server.Client.DefaultRequestHeaders.Authorization = new("Bearer", "a");
        var own = await server.Send(HttpMethod.Patch, $"/v1/steering/{id}", """{"controllers":{"sea":2.5}}""");
        Assert.That(own.Status, Is.EqualTo(200), own.Body);
        hold.Release(int.MaxValue);
    }

    private static ContrastSet Few(string task)
    {
        var all = ContrastSet.Read(ToolRun.Contrast($"{task}.positive"), ToolRun.Contrast($"{task}.negative"));
        return new ContrastSet([.. all.Positive.Take(6)], [.. all.Negative.Take(6)]);
    }

    private static Controller Fit(string task) =>
        ControllerFit.Run(RunningServer.Model, Few(task), new FitOptions { Cost = FitCost.Feature }).Controller;

    private static string TextOf(Answer answer, int choice)
    {
        Assert.That(answer.Status, Is.EqualTo(200), answer.Body);
        return answer.Json.GetProperty("choices")[choice].GetProperty("text").GetString()!;
    }

    private static (string Text, SteeringSummary Steering) Alone(GenerationOptions options)
    {
        using var alone = new Generation(RunningServer.Model, RunningServer.Model.Tokenizer.Encode(Prompt), options);
        var text = new StringBuilder();
        while (alone.MoveNext())
        {
            text.Append(alone.Current.Text);
        }

        return (text.ToString(), alone.Steering!);
    }

    private Task<Answer> Complete(string more) =>
        _server.Post("/v1/completions", $$"""{"model":"demo","prompt":"{{Prompt}}","max_tokens":16,"temperature":0{{more}}}""");

    // The scheduler appends a token in the step that drew it: the law moves from the token after those that have been drawn.
    private string MovedAlone(double first, double then, int after, int tokens)
    {
        using var session = new Session(RunningServer.Model, _sea.ToLaw(first));
        var sampler = new Tiller.Model.Sampler(new(), RunningServer.Model.Config.V);
        session.Append(RunningServer.Model.Tokenizer.Encode(Prompt));
        var stream = RunningServer.Model.Tokenizer.NewStream();
        var text = new StringBuilder();
        for (int i = 0; i < tokens; i++)
        {
            if (i == after)
            {
                session.Use(_sea.ToLaw(then));
            }

            int id = session.Draw(sampler);
            text.Append(stream.Append(id));
            if (RunningServer.Model.EndIds.Contains(id))
            {
                break;
            }

            session.Append(id);
        }

        return text.Append(stream.Flush()).ToString();
    }
}
