using Microsoft.Agents.AI;
using Microsoft.Extensions.AI;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Diagnostics.HealthChecks;
using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;
using Tiller.Scheduling;
using Tiller.Serving;
using Tiller.Tests.Tool;

namespace Tiller.Tests.Serving;

/// <summary>The chat client: what it answers is what the engine gives for the same ids, options and law.</summary>
public sealed class ChatClientTests
{
    private static readonly ChatMessage[] s_chat = [new(ChatRole.User, "Tell me a story.")];
    private static readonly ChatOptions s_greedy = new() { Temperature = 0, MaxOutputTokens = 12 };

    [Test]
    public async Task An_answer_is_the_engines_own_text_with_its_usage_and_its_end()
    {
        using var client = ChatModel.Instance.AsChatClient();
        var response = await client.GetResponseAsync(s_chat, s_greedy).InTime();
        int[] prompt = Encode(("user", "Tell me a story."));
        var (text, tokens, reason) = Alone(prompt, new GenerationOptions { MaxNewTokens = 12 });
        Assert.That(response.Text, Is.EqualTo(text));
        Assert.That(response.ModelId, Is.EqualTo("checkpoint"));
        Assert.That(response.FinishReason, Is.EqualTo(FinishOf(reason)));
        Assert.That(response.Usage!.InputTokenCount, Is.EqualTo(prompt.Length));
        Assert.That(response.Usage.OutputTokenCount, Is.EqualTo(tokens));
        Assert.That(response.Usage.TotalTokenCount, Is.EqualTo(prompt.Length + tokens));
        Assert.That(response.ResponseId, Does.StartWith("chatcmpl-"));
        Assert.That(response.Messages.Single().Role, Is.EqualTo(ChatRole.Assistant));
    }

    [Test]
    public async Task A_stream_ends_with_its_usage_and_its_reason_and_nothing_else_has_them()
    {
        using var client = ChatModel.Instance.AsChatClient();
        var updates = await Updates(client, s_greedy);
        var whole = await client.GetResponseAsync(s_chat, s_greedy).InTime();
        Assert.That(string.Concat(updates.Select(update => update.Text)), Is.EqualTo(whole.Text));
        Assert.That(updates[^1].Contents.OfType<UsageContent>().Count(), Is.EqualTo(1));
        Assert.That(updates[^1].FinishReason, Is.Not.Null);
        Assert.That(updates.SkipLast(1).Where(update => update.FinishReason is not null || update.Contents.Any(c => c is UsageContent)), Is.Empty);
        Assert.That(updates.Select(update => update.ResponseId).Distinct().Count(), Is.EqualTo(1));
        Assert.That(updates.Select(update => update.RawRepresentation), Is.All.InstanceOf<ChatToken>());
    }

    [Test]
    public async Task Instructions_are_the_system_message_and_go_before_one_that_is_there()
    {
        using var client = ChatModel.Instance.AsChatClient();
        var instructed = s_greedy.Clone();
        instructed.Instructions = "Be brief.";
        var alone = await client.GetResponseAsync(s_chat, instructed).InTime();
        int[] brief = Encode(("system", "Be brief."), ("user", "Tell me a story."));
        Assert.That(alone.Usage!.InputTokenCount, Is.EqualTo(brief.Length));
        Assert.That(alone.Text, Is.EqualTo(Alone(brief, new GenerationOptions { MaxNewTokens = 12 }).Text));

        var both = await client.GetResponseAsync([new(ChatRole.System, "Be kind."), .. s_chat], instructed).InTime();
        Assert.That(both.Text, Is.EqualTo(Alone(
            Encode(("system", "Be brief.\n\nBe kind."), ("user", "Tell me a story.")), new GenerationOptions { MaxNewTokens = 12 }).Text));
    }

    [Test]
    public async Task Every_setting_of_sampling_reaches_the_engine()
    {
        using var client = ChatModel.Instance.AsChatClient();
        var options = new ChatOptions
        {
            MaxOutputTokens = 24,
            Temperature = 0.9f,
            TopK = 40,
            TopP = 0.95f,
            Seed = 7,
            PresencePenalty = 1.5f,
            FrequencyPenalty = 0.5f,
        };
        var sampling = new SamplingOptions { Temperature = 0.9f, TopK = 40, TopP = 0.95f, Seed = 7, PresencePenalty = 1.5f, FrequencyPenalty = 0.5f };
        string text = (await client.GetResponseAsync(s_chat, options).InTime()).Text;
        int[] prompt = Encode(("user", "Tell me a story."));
        Assert.That(text, Is.EqualTo(Alone(prompt, new GenerationOptions { MaxNewTokens = 24, Sampling = sampling }).Text));

        // Each of them counts: without it the text is another one.
        foreach (var other in new[]
        {
            sampling with { Seed = 8 }, sampling with { Temperature = 2 }, sampling with { TopK = 1 }, sampling with { TopP = 0.01f },
            sampling with { PresencePenalty = -2 }, sampling with { FrequencyPenalty = -2 },
        })
        {
            Assert.That(Alone(prompt, new GenerationOptions { MaxNewTokens = 24, Sampling = other }).Text, Is.Not.EqualTo(text), other.ToString());
        }
    }

    [Test]
    public async Task A_stop_sequence_ends_the_answer_and_is_no_part_of_it()
    {
        using var client = ChatModel.Instance.AsChatClient();
        var (plain, tokens, _) = Alone(Encode(("user", "Tell me a story.")), new GenerationOptions { MaxNewTokens = 12 });
        string stop = plain[(plain.Length / 2)..(plain.Length / 2 + 2)];
        var options = s_greedy.Clone();
        options.StopSequences = ["nowhere", stop];
        var response = await client.GetResponseAsync(s_chat, options).InTime();
        Assert.That(response.Text, Is.EqualTo(plain[..plain.IndexOf(stop, StringComparison.Ordinal)]));
        Assert.That(response.FinishReason, Is.EqualTo(ChatFinishReason.Stop));
        Assert.That(response.AdditionalProperties!["stop_reason"], Is.EqualTo(stop));
        Assert.That(response.Usage!.OutputTokenCount, Is.LessThanOrEqualTo(tokens));
    }

    [TestCase(false)]
    [TestCase(true)]
    public async Task Steering_comes_by_the_factory_or_by_a_property_and_is_the_engines_own(bool byProperty)
    {
        using var client = ChatModel.Instance.AsChatClient();
        var steering = new SteeringOptions(new ControllerUse(ChatModel.Controller, 6));
        var options = s_greedy.Clone();
        if (byProperty)
        {
            options.AdditionalProperties = new AdditionalPropertiesDictionary { ["steering"] = steering };
        }
        else
        {
            options.RawRepresentationFactory = _ => steering;
        }

        int[] prompt = Encode(("user", "Tell me a story."));
        string plain = Alone(prompt, new GenerationOptions { MaxNewTokens = 12 }).Text;
        string steered = Alone(prompt, new GenerationOptions { MaxNewTokens = 12, Law = ChatModel.Controller.ToLaw(6) }).Text;
        Assert.That(steered, Is.Not.EqualTo(plain));
        var updates = await Updates(client, options);
        Assert.That(string.Concat(updates.Select(update => update.Text)), Is.EqualTo(steered));
        var summary = (SteeringSummary)updates[^1].AdditionalProperties!["steering"]!;
        Assert.That(summary.Effort, Is.GreaterThan(0));
    }

    [Test]
    public async Task A_raw_update_moves_λ_while_the_answer_streams()
    {
        var scheduler = new SchedulerOptions { ReaderBuffer = 1, ReaderPatience = Patience.Limit };
        using var client = ChatModel.Instance.AsChatClient(scheduler);
        var options = new ChatOptions
        {
            Temperature = 0,
            MaxOutputTokens = 24,
            RawRepresentationFactory = _ => new SteeringOptions(new ControllerUse(ChatModel.Controller, 0)),
        };
        string moved = "", still = string.Concat((await Updates(client, options)).Select(update => update.Text));
        bool isMoved = false;
        await foreach (var update in client.GetStreamingResponseAsync(s_chat, options))
        {
            moved += update.Text;
            if (!isMoved)
            {
                isMoved = ((ChatToken)update.RawRepresentation!).Text.Use(ChatModel.Controller.ToLaw(12));
            }
        }

        Assert.That(isMoved);
        Assert.That(moved, Is.Not.EqualTo(still));
    }

    [Test]
    public async Task A_services_controllers_are_steered_by_name_within_the_layers_that_are_meant()
    {
        using var folder = new Scratch();
        ChatModel.Controller.Save(folder["sea.tiller"]);
        using var service = new TillerService(ChatModel.Instance, new ServiceOptions { ControllersDirectory = folder[""] });
        using var client = service.AsChatClient();
        var options = s_greedy.Clone();
        var steering = new SteeringOptions(new ControllerUse("sea", 6)) { Layers = new LayerSet(1, 1), MaxEffort = 3 };
        options.RawRepresentationFactory = _ => steering;
        var law = ChatModel.Controller.ToLaw(6, 3).Within(new LayerSet(1, 1));
        Assert.That((await client.GetResponseAsync(s_chat, options).InTime()).Text, Is.EqualTo(
            Alone(Encode(("user", "Tell me a story.")), new GenerationOptions { MaxNewTokens = 12, Law = law }).Text));

        options.RawRepresentationFactory = _ => new SteeringOptions(new ControllerUse("shore"));
        Assert.That(async () => await client.GetResponseAsync(s_chat, options).InTime(), Throws.ArgumentException.With.Message.Contains("shore"));
        options.RawRepresentationFactory = _ => steering with { Layers = new LayerSet(1, 40) };
        Assert.That(async () => await client.GetResponseAsync(s_chat, options).InTime(), Throws.ArgumentException.With.Message.Contains("1-40"));
    }

    private static IEnumerable<TestCaseData> Refused()
    {
        var cases = new (string Name, ChatOptions Options, Type Error, string Says)[]
        {
            ("temperature", new() { Temperature = -1 }, typeof(ArgumentException), "ChatOptions.Temperature"),
            ("top_p", new() { TopP = 2 }, typeof(ArgumentException), "ChatOptions.TopP"),
            ("top_k", new() { TopK = -2 }, typeof(ArgumentException), "ChatOptions.TopK"),
            ("presence", new() { PresencePenalty = 3 }, typeof(ArgumentException), "ChatOptions.PresencePenalty"),
            ("frequency", new() { FrequencyPenalty = float.NaN }, typeof(ArgumentException), "ChatOptions.FrequencyPenalty"),
            ("no tokens", new() { MaxOutputTokens = 0 }, typeof(ArgumentException), "ChatOptions.MaxOutputTokens"),
            ("model", new() { ModelId = "other" }, typeof(ArgumentException), "checkpoint"),
            ("empty stop", new() { StopSequences = [""] }, typeof(StopStringsException), "stop string"),
            ("tools", new() { Tools = [AIFunctionFactory.Create(() => 1, "one")] }, typeof(NotSupportedException), "Tools"),
            ("json", new() { ResponseFormat = ChatResponseFormat.Json }, typeof(NotSupportedException), "ResponseFormat"),
            ("conversation", new() { ConversationId = "c" }, typeof(NotSupportedException), "ConversationId"),
            ("property", new() { AdditionalProperties = new() { ["steering"] = 3 } }, typeof(ArgumentException), "Tiller.Serving.SteeringOptions"),
            ("factory", new() { RawRepresentationFactory = _ => "x" }, typeof(ArgumentException), "Tiller.Serving.SteeringOptions"),
            ("twice", new()
            {
                RawRepresentationFactory = _ => new SteeringOptions(new ControllerUse("a")),
                AdditionalProperties = new() { ["steering"] = new SteeringOptions(new ControllerUse("b")) },
            }, typeof(ArgumentException), "use only one"),
            ("none", new() { RawRepresentationFactory = _ => new SteeringOptions() }, typeof(ArgumentException), "Controllers"),
            ("unknown", new() { RawRepresentationFactory = _ => new SteeringOptions(new ControllerUse("sea")) }, typeof(ArgumentException), "sea"),
            ("one twice", new()
            {
                RawRepresentationFactory = _ => new SteeringOptions(
                    new ControllerUse(ChatModel.Controller), new ControllerUse(ChatModel.Controller, 2)),
            }, typeof(ArgumentException), "twice"),
        };
        return cases.Select(c => new TestCaseData(c.Options, c.Error, c.Says).SetArgDisplayNames(c.Name));
    }

    [TestCaseSource(nameof(Refused))]
    public void An_option_that_cannot_be_honoured_is_refused_by_its_name(ChatOptions options, Type error, string says)
    {
        using var client = ChatModel.Instance.AsChatClient();
        Assert.That(
            async () => await client.GetResponseAsync(s_chat, options).InTime(), Throws.InstanceOf(error).With.Message.Contains(says));
    }

    [Test]
    public void Contents_that_are_no_text_are_refused()
    {
        using var client = ChatModel.Instance.AsChatClient();
        ChatMessage[] seen = [new(ChatRole.User, [new DataContent(new byte[] { 1 }, "image/png")])];
        Assert.That(async () => await client.GetResponseAsync(seen).InTime(),
            Throws.TypeOf<NotSupportedException>().With.Message.Contains("DataContent"));
    }

    [Test]
    public void A_model_without_a_chat_template_says_so()
    {
        using var client = RunningServer.Model.AsChatClient();
        Assert.That(async () => await client.GetResponseAsync(s_chat).InTime(), Throws.TypeOf<Tiller.Chat.ChatException>());
    }

    [Test]
    public async Task Whoever_leaves_a_stream_cancels_the_answer()
    {
        using var client = ChatModel.Instance.AsChatClient(new SchedulerOptions { ReaderBuffer = 1, ReaderPatience = Patience.Limit });
        ScheduledText? text = null;
        await foreach (var update in client.GetStreamingResponseAsync(s_chat, new ChatOptions { Seed = 1 }))
        {
            text = ((ChatToken)update.RawRepresentation!).Text;
            break;
        }

        Assert.That((await text!.Completion.InTime()).End, Is.EqualTo(TextEnd.Cancelled));
    }

    [Test]
    public void A_cancelled_token_ends_the_answer()
    {
        using var client = ChatModel.Instance.AsChatClient(new SchedulerOptions { ReaderBuffer = 1, ReaderPatience = Patience.Limit });
        using var cancel = new CancellationTokenSource();
        async Task Read()
        {
            await foreach (var _ in client.GetStreamingResponseAsync(s_chat, new ChatOptions { Seed = 1 }, cancel.Token))
            {
                await cancel.CancelAsync();
            }
        }

        Assert.That(async () => await Read().InTime(), Throws.InstanceOf<OperationCanceledException>());
    }

    [Test]
    public void The_client_says_who_it_is()
    {
        using var client = ChatModel.Instance.AsChatClient();
        var metadata = client.GetService<ChatClientMetadata>()!;
        Assert.That((metadata.ProviderName, metadata.ProviderUri, metadata.DefaultModelId), Is.EqualTo(("tiller", (Uri?)null, "checkpoint")));
        Assert.That(client.GetService<LanguageModel>(), Is.SameAs(ChatModel.Instance));
        Assert.That(client.GetService<Scheduler>(), Is.Not.Null);
        Assert.That(client.GetService<TillerService>(), Is.Null);
        Assert.That(client.GetService(typeof(ChatClientMetadata), "key"), Is.Null);
    }

    [Test]
    public async Task An_application_has_models_by_key_and_one_without()
    {
        var options = new TillerOptions
        {
            Model = ChatModel.Folder,
            Load = new LoadOptions { Device = Device.Cpu, Threads = 1 },
            Service = new ServiceOptions { ModelName = "plain", Scheduler = new SchedulerOptions { MaxKvBytes = 64 << 20 } },
        };
        var services = new ServiceCollection().AddTiller(options);
        services.AddKeyedTiller("b", options with { Service = options.Service with { ModelName = "keyed" } });
        IChatClient plain;
        await using (var provider = services.BuildServiceProvider())
        {
            plain = provider.GetRequiredService<IChatClient>();
            var keyed = provider.GetRequiredKeyedService<IChatClient>("b");
            Assert.That((await plain.GetResponseAsync(s_chat, s_greedy).InTime()).ModelId, Is.EqualTo("plain"));
            Assert.That((await keyed.GetResponseAsync(s_chat, s_greedy).InTime()).ModelId, Is.EqualTo("keyed"));
            Assert.That(plain.GetService<TillerService>(), Is.SameAs(provider.GetRequiredService<TillerService>()));
        }

        Assert.That(async () => await plain.GetResponseAsync(s_chat, s_greedy).InTime(), Throws.TypeOf<ObjectDisposedException>());
    }

    [Test]
    public async Task OpenTelemetrys_client_and_the_agent_framework_go_on_top()
    {
        using var service = new TillerService(ChatModel.Instance);
        var services = new ServiceCollection().AddTiller(service);
        services.AddChatClient(provider => provider.GetRequiredService<TillerService>().AsChatClient()).UseOpenTelemetry(sourceName: "test");
        await using var provider = services.BuildServiceProvider();
        var client = provider.GetRequiredService<IChatClient>();
        Assert.That(client.GetService<OpenTelemetryChatClient>(), Is.Not.Null);
        var agent = new ChatClientAgent(client, new ChatClientAgentOptions
        {
            ChatOptions = new ChatOptions
            {
                Instructions = "Be brief.",
                Temperature = 0,
                MaxOutputTokens = 12,
            }
        });
        var answer = await agent.RunAsync("Tell me a story.").InTime();
        Assert.That(answer.Text, Is.EqualTo(Alone(
            Encode(("system", "Be brief."), ("user", "Tell me a story.")), new GenerationOptions { MaxNewTokens = 12 }).Text));
    }

    [Test]
    public async Task A_health_check_tells_whether_requests_are_taken()
    {
        using var service = new TillerService(ChatModel.Instance);
        var services = new ServiceCollection().AddTiller(service).AddLogging();
        services.AddHealthChecks().AddTiller();
        await using var provider = services.BuildServiceProvider();
        var health = provider.GetRequiredService<HealthCheckService>();
        Assert.That((await health.CheckHealthAsync().InTime()).Status, Is.EqualTo(HealthStatus.Healthy));
        await service.DrainAsync(Patience.Limit).InTime();
        Assert.That((await health.CheckHealthAsync().InTime()).Status, Is.EqualTo(HealthStatus.Unhealthy));
    }

    private static async Task<List<ChatResponseUpdate>> Updates(IChatClient client, ChatOptions options)
    {
        var updates = new List<ChatResponseUpdate>();
        await foreach (var update in client.GetStreamingResponseAsync(s_chat, options))
        {
            updates.Add(update);
        }

        return updates;
    }

    private static int[] Encode(params (string Role, string Content)[] messages) =>
        ChatModel.Instance.Chat.Encode([.. messages.Select(m => new Tiller.Chat.ChatMessage(m.Role, m.Content))]);

    private static (string Text, int Tokens, StopReason? Reason) Alone(int[] prompt, GenerationOptions options)
    {
        using var generation = new Generation(ChatModel.Instance, prompt, options);
        string text = "";
        int tokens = 0;
        StopReason? reason = null;
        while (generation.MoveNext())
        {
            (text, tokens, reason) = (text + generation.Current.Text, tokens + 1, generation.Current.StopReason);
        }

        return (text, tokens, reason);
    }

    private static ChatFinishReason FinishOf(StopReason? reason) =>
        reason is StopReason.MaxTokens or StopReason.ContextFull ? ChatFinishReason.Length : ChatFinishReason.Stop;
}
