using System.Text;
using System.Text.Json;
using Tiller.Decode;

namespace Tiller.Tests.Serving;

/// <summary>Plain completions: what comes back, and whether it is what the engine gives alone.</summary>
public sealed class CompletionTests
{
    private const string Prompt = "Once upon a time";

    [Test]
    public async Task A_completion_is_the_engines_own_text()
    {
        await using var server = await RunningServer.Start();
        var answer = await server.Post("/v1/completions", """{"model":"demo","prompt":"Once upon a time","max_tokens":12,"temperature":0}""");
        Assert.That(answer.Status, Is.EqualTo(200), answer.Body);
        var choice = answer.Json.GetProperty("choices")[0];
        Assert.That(choice.GetProperty("text").GetString(), Is.EqualTo(Alone(new GenerationOptions { MaxNewTokens = 12 })));
        Assert.That(choice.GetProperty("finish_reason").GetString(), Is.EqualTo("length"));
        Assert.That(choice.GetProperty("stop_reason").ValueKind, Is.EqualTo(JsonValueKind.Null));
        var usage = answer.Json.GetProperty("usage");
        int prompt = RunningServer.Model.Tokenizer.Encode(Prompt).Length;
        Assert.That(usage.GetProperty("prompt_tokens").GetInt32(), Is.EqualTo(prompt));
        Assert.That(usage.GetProperty("completion_tokens").GetInt32(), Is.EqualTo(12));
        Assert.That(usage.GetProperty("total_tokens").GetInt32(), Is.EqualTo(prompt + 12));
    }

    [Test]
    public async Task A_stream_is_the_same_text_in_pieces_then_its_usage_then_done()
    {
        await using var server = await RunningServer.Start();
        const string Request = """{"model":"demo","prompt":"Once upon a time","max_tokens":20,"seed":5""";
        var whole = await server.Post("/v1/completions", Request + "}");
        var stream = await server.Post("/v1/completions", Request + ""","stream":true,"stream_options":{"include_usage":true}}""");
        var events = Events.Of(stream.Body);
        Assert.That(events[^1], Is.EqualTo("[DONE]"));
        var chunks = events.SkipLast(1).Select(e => JsonDocument.Parse(e).RootElement).ToArray();
        var text = new StringBuilder();
        foreach (var chunk in chunks.SkipLast(1))
        {
            text.Append(chunk.GetProperty("choices")[0].GetProperty("text").GetString());
            Assert.That(chunk.GetProperty("usage").ValueKind, Is.EqualTo(JsonValueKind.Null));
        }

        Assert.That(text.ToString(), Is.EqualTo(whole.Json.GetProperty("choices")[0].GetProperty("text").GetString()));
        Assert.That(chunks[^1].GetProperty("choices").GetArrayLength(), Is.Zero);
        Assert.That(chunks[^1].GetProperty("usage").GetProperty("completion_tokens").GetInt32(),
            Is.EqualTo(whole.Json.GetProperty("usage").GetProperty("completion_tokens").GetInt32()));
        Assert.That(chunks[^2].GetProperty("choices")[0].GetProperty("finish_reason").GetString(),
            Is.EqualTo(whole.Json.GetProperty("choices")[0].GetProperty("finish_reason").GetString()));
    }

    [Test]
    public async Task A_stop_string_is_told_and_is_not_part_of_the_text()
    {
        await using var server = await RunningServer.Start();
        string plain = Alone(new GenerationOptions { MaxNewTokens = 30 });
        string stop = plain.Split(' ', StringSplitOptions.RemoveEmptyEntries)[3];
        var answer = await server.Post("/v1/completions",
            $$"""{"model":"demo","prompt":"{{Prompt}}","max_tokens":30,"temperature":0,"stop":["never to be seen","{{stop}}"]}""");
        var choice = answer.Json.GetProperty("choices")[0];
        Assert.That(choice.GetProperty("text").GetString(), Is.EqualTo(plain[..plain.IndexOf(stop, StringComparison.Ordinal)]));
        Assert.That(choice.GetProperty("finish_reason").GetString(), Is.EqualTo("stop"));
        Assert.That(choice.GetProperty("stop_reason").GetString(), Is.EqualTo(stop));
    }

    [Test]
    public async Task Every_choice_draws_with_a_seed_of_its_own_that_gives_it_again()
    {
        await using var server = await RunningServer.Start();
        var three = await server.Post("/v1/completions", """{"model":"demo","prompt":"One day","max_tokens":10,"seed":7,"n":3}""");
        Assert.That(three.Status, Is.EqualTo(200), three.Body);
        foreach (var choice in three.Json.GetProperty("choices").EnumerateArray())
        {
            int index = choice.GetProperty("index").GetInt32();
            ulong seed = choice.GetProperty("seed").GetUInt64();
            Assert.That(seed, Is.EqualTo(7ul + (ulong)index));
            var alone = await server.Post("/v1/completions", $$"""{"model":"demo","prompt":"One day","max_tokens":10,"seed":{{seed}}}""");
            Assert.That(alone.Json.GetProperty("choices")[0].GetProperty("text").GetString(), Is.EqualTo(choice.GetProperty("text").GetString()));
        }
    }

    [Test]
    public async Task Log_probabilities_are_of_the_drawn_token_and_of_the_most_probable_ones()
    {
        await using var server = await RunningServer.Start();
        var answer = await server.Post("/v1/completions",
            """{"model":"demo","prompt":"Once upon a time","max_tokens":6,"temperature":0,"logprobs":3}""");
        Assert.That(answer.Status, Is.EqualTo(200), answer.Body);
        var logprobs = answer.Json.GetProperty("choices")[0].GetProperty("logprobs");
        var tokens = logprobs.GetProperty("tokens").EnumerateArray().Select(t => t.GetString()).ToArray();
        Assert.That(string.Concat(tokens), Is.EqualTo(answer.Json.GetProperty("choices")[0].GetProperty("text").GetString()));
        var top = logprobs.GetProperty("top_logprobs").EnumerateArray().ToArray();
        var own = logprobs.GetProperty("token_logprobs").EnumerateArray().Select(p => p.GetDouble()).ToArray();
        int offset = 0;
        for (int i = 0; i < tokens.Length; i++)
        {
            Assert.That(own[i], Is.EqualTo(top[i].EnumerateObject().Max(p => p.Value.GetDouble())), "greedy takes the most probable");
            Assert.That(logprobs.GetProperty("text_offset")[i].GetInt32(), Is.EqualTo(offset));
            offset += tokens[i]!.Length;
        }
    }

    [Test]
    public async Task Several_prompts_and_echo_give_a_choice_each_in_order()
    {
        await using var server = await RunningServer.Start();
        var answer = await server.Post("/v1/completions",
            """{"model":"demo","prompt":["Once upon a time","One day"],"max_tokens":4,"temperature":0,"echo":true,"n":2}""");
        Assert.That(answer.Status, Is.EqualTo(200), answer.Body);
        string[] texts = [.. answer.Json.GetProperty("choices").EnumerateArray().Select(c => c.GetProperty("text").GetString()!)];
        Assert.That(texts, Has.Length.EqualTo(4));
        Assert.That(texts[..2], Is.All.StartsWith("Once upon a time"));
        Assert.That(texts[2..], Is.All.StartsWith("One day"));
    }

    [Test]
    public async Task Ids_are_a_prompt_and_come_back_from_tokenize()
    {
        await using var server = await RunningServer.Start();
        var ids = await server.Post("/tokenize", """{"prompt":"Once upon a time"}""");
        Assert.That(ids.Json.GetProperty("count").GetInt32(), Is.EqualTo(ids.Json.GetProperty("tokens").GetArrayLength()));
        var byIds = await server.Post("/v1/completions",
            $$"""{"model":"demo","prompt":{{ids.Json.GetProperty("tokens").GetRawText()}},"max_tokens":12,"temperature":0}""");
        string text12 = Alone(new GenerationOptions { MaxNewTokens = 12 });
        Assert.That(byIds.Json.GetProperty("choices")[0].GetProperty("text").GetString(), Is.EqualTo(text12));
        var text = await server.Post("/detokenize", $$"""{"tokens":{{ids.Json.GetProperty("tokens").GetRawText()}},"skip_special_tokens":true}""");
        Assert.That(text.Json.GetProperty("prompt").GetString(), Is.EqualTo(Prompt));
    }

    [Test]
    public async Task Without_a_limit_a_text_goes_up_to_the_context()
    {
        await using var server = await RunningServer.Start();
        var answer = await server.Post("/v1/completions", """{"model":"demo","prompt":"One day","temperature":0,"ignore_eos":true}""");
        Assert.That(answer.Json.GetProperty("choices")[0].GetProperty("finish_reason").GetString(), Is.EqualTo("length"));
        Assert.That(answer.Json.GetProperty("usage").GetProperty("total_tokens").GetInt32(),
            Is.EqualTo(RunningServer.Model.Config.MaxPositions + 1), "the last token is drawn and not read");
    }

    [Test]
    public async Task A_chat_is_refused_without_a_template_and_answered_with_one()
    {
        const string Chat = """{"model":"demo","messages":[{"role":"user","content":"Tell me a story."}],"max_tokens":8,"temperature":0}""";
        await using var server = await RunningServer.Start();
        var refused = await server.Post("/v1/chat/completions", Chat);
        Assert.That((refused.Status, refused.Code, refused.Param), Is.EqualTo((400, "no_template", "messages")));
        await using var chatMl = await RunningServer.Start(new Tiller.Serving.ServiceOptions { ChatTemplate = Tiller.Chat.ChatFormat.ChatMl });
        var answer = await chatMl.Post("/v1/chat/completions", Chat);
        Assert.That(answer.Status, Is.EqualTo(200), answer.Body);
        var message = answer.Json.GetProperty("choices")[0].GetProperty("message");
        Assert.That(message.GetProperty("role").GetString(), Is.EqualTo("assistant"));
        Assert.That(message.GetProperty("content").GetString(), Is.Not.Empty);
    }

    private static string Alone(GenerationOptions options)
    {
        using var alone = new Generation(RunningServer.Model, RunningServer.Model.Tokenizer.Encode(Prompt), options);
        var text = new StringBuilder();
        while (alone.MoveNext())
        {
            text.Append(alone.Current.Text);
        }

        return text.ToString();
    }
}

/// <summary>Server-sent events.</summary>
internal static class Events
{
    /// <summary>The data of each.</summary>
    public static string[] Of(string body) =>
        [.. body.Split("\n\n", StringSplitOptions.RemoveEmptyEntries)
            .Select(e => string.Join('\n', e.Split('\n').Where(l => l.StartsWith("data: ", StringComparison.Ordinal)).Select(l => l[6..])))];
}
