using System.Text.Json.Nodes;
using Tiller.Chat;
using Tiller.Decode;
using Tiller.Model;
using Tiller.Tests.Model;
using Tiller.Tests.Tool;
using Tiller.Tokens;

namespace Tiller.Tests.Decode;

/// <summary>A checkpoint says in several files where its texts end. Every one of them counts, whichever of the others are silent.</summary>
public sealed class EndTokensTests
{
    private static readonly string[] s_places = ["config.json", "generation_config.json", "tokenizer_config.json", "chat_template.jinja"];

    private static IEnumerable<TestCaseData> Missing() =>
        from family in TestModels.Families
        from place in s_places.Prepend("nothing")
        select new TestCaseData(family, place).SetArgDisplayNames(family, place);

    private static IEnumerable<TestCaseData> Alone() =>
        from family in TestModels.Families
        from place in s_places[..3]
        select new TestCaseData(family, place).SetArgDisplayNames(family, place);

    [TestCaseSource(nameof(Missing))]
    public void Where_texts_end_is_what_all_places_but_the_missing_one_say_together(string family, string missing)
    {
        using var checkpoint = new EditableCheckpoint(family);
        var tokenizer = Tokenizer.Load(TestModels.Folder(family));
        bool chats = File.Exists(checkpoint["chat_template.jinja"]);

        // A token of its own for each place; the format of chats has its own already.
        var named = new Dictionary<string, int[]> { ["config.json"] = [40, 41], ["generation_config.json"] = [42], ["tokenizer_config.json"] = [43] };
        foreach (string place in s_places[..3])
        {
            Name(checkpoint, place, place == missing ? [] : named[place]);
        }

        if (chats)
        {
            named["chat_template.jinja"] = [.. AnswerEnds(family).Select(token => tokenizer.IdOf(token)!.Value)];
            if (missing == "chat_template.jinja")
            {
                File.Delete(checkpoint["chat_template.jinja"]);
            }
        }

        using var model = LanguageModel.Load(checkpoint.Save(), new LoadOptions { Threads = 1 });
        Assert.That(model.EndIds, Is.EqualTo(named.Where(place => place.Key != missing).SelectMany(place => place.Value)));
        Assert.That(model.Warnings, Is.Empty);
    }

    [TestCaseSource(nameof(Alone))]
    public async Task Texts_chats_and_batches_end_at_a_token_that_one_place_alone_names(string family, string place)
    {
        const int Max = 24;
        ChatMessage[] chat = [new ChatMessage("user", "Tell me a story.")];
        using var checkpoint = new EditableCheckpoint(family);
        foreach (string other in s_places[..3])
        {
            Name(checkpoint, other, []);
        }

        bool chats = File.Exists(checkpoint["chat_template.jinja"]);
        int[] prompt, free;
        using (var endless = LanguageModel.Load(checkpoint.Save(), new LoadOptions { Threads = 1 }))
        {
            Assert.That(endless.EndIds, Is.EqualTo(chats ? AnswerEnds(family).Select(token => endless.Tokenizer.IdOf(token)!.Value) : []));
            prompt = chats ? endless.Chat.Encode(chat) : endless.Tokenizer.Encode("Once upon a time");
            free = Decode(endless, prompt, new GenerationOptions { MaxNewTokens = Max, StopIds = [] });
        }

        // The last token that is new where it is drawn: named as an end, it is the last of the text.
        int at = Enumerable.Range(0, Max).Last(i => Array.IndexOf(free, free[i]) == i);
        Name(checkpoint, place, [free[at]]);
        using var model = LanguageModel.Load(checkpoint.Save(), new LoadOptions { Threads = 1 });
        int[] expected = free[..(at + 1)];
        int chatEnd = Array.FindIndex(expected, id => model.EndIds.Contains(id));
        expected = expected[..(chatEnd + 1)];
        Assert.That(model.EndIds, Does.Contain(free[at]));
        Assert.That(Decode(model, prompt, new GenerationOptions { MaxNewTokens = Max }), Is.EqualTo(expected));
        if (chats)
        {
            var ids = new List<int>();
            await foreach (var token in model.GenerateAsync(chat, new GenerationOptions { MaxNewTokens = Max }))
            {
                ids.Add(token.Id);
            }

            Assert.That(ids, Is.EqualTo(expected));
        }

        Assert.That(InBatch(model, prompt, Max), Is.EqualTo(expected));
        var run = chats
            ? await ToolRun.Of("generate", "--json", "--model", model.Directory, "--max-tokens", $"{Max}", "--chat", chat[0].Content)
            : await ToolRun.Of("generate", "--json", "--model", model.Directory, "--max-tokens", $"{Max}", "Once upon a time");
        Assert.That(run.Code, Is.Zero, run.Error);
        Assert.That(run.Json.GetProperty("plain").GetProperty("ids").EnumerateArray().Select(id => id.GetInt32()), Is.EqualTo(expected));
    }

    [Test]
    public void An_end_token_that_the_tokenizer_lacks_is_told_and_one_beyond_the_head_is_left_out()
    {
        using var checkpoint = new EditableCheckpoint("llama2-f32");
        Edit(checkpoint["tokenizer_config.json"], json => json["eos_token"] = "<none>");
        using (var model = LanguageModel.Load(checkpoint.Save()))
        {
            Assert.That(model.EndIds, Is.EqualTo(new[] { 2 }));
            Assert.That(model.Warnings, Has.Count.EqualTo(1).And.Some.Contains("<none>"));
        }

        int rows = TestModels.Load("llama2-f32").Config.V;
        Edit(checkpoint["tokenizer.json"], json => json["added_tokens"]!.AsArray()
            .Add(new JsonObject { ["id"] = rows, ["content"] = "<none>", ["special"] = true }));
        using var beyond = LanguageModel.Load(checkpoint.Save());
        Assert.That(beyond.EndIds, Is.EqualTo(new[] { 2 }));
        Assert.That(beyond.Warnings, Is.Empty);
    }

    [Test]
    public void An_end_token_may_be_written_as_an_object_and_an_unreadable_file_is_refused()
    {
        using var checkpoint = new EditableCheckpoint("qwen2-bf16");
        Edit(checkpoint["tokenizer_config.json"], json => json["eos_token"] = new JsonObject { ["content"] = "<|endoftext|>", ["lstrip"] = false });
        using (var model = LanguageModel.Load(checkpoint.Save()))
        {
            Assert.That(model.EndIds, Does.Contain(model.Tokenizer.IdOf("<|endoftext|>")));
        }

        foreach (string bad in new[] { "{", "{\"eos_token\":7}", "{\"eos_token\":{}}" })
        {
            File.WriteAllText(checkpoint["tokenizer_config.json"], bad);
            Assert.That(() => LanguageModel.Load(checkpoint.Save()), Throws.InstanceOf<ChatException>().With.Property("Code")
                .EqualTo(ChatError.Unreadable), bad);
        }
    }

    [Test]
    public async Task A_checkpoint_tells_where_its_texts_end()
    {
        var some = await ToolRun.Of("inspect", TestModels.Folder("llama3-bf16"));
        Assert.That(some.Output, Does.Match(@"\nends at +<\|end_of_text\|> \(700\), <\|eot_id\|> \([0-9]+\)\n"));
        using var checkpoint = new EditableCheckpoint("qwen3-f32");
        foreach (string place in s_places[..3])
        {
            Name(checkpoint, place, []);
        }

        string folder = checkpoint.Save();
        Assert.That((await ToolRun.Of("inspect", folder)).Output, Does.Match(@"\nends at +no token"));
        Assert.That((await ToolRun.Of("inspect", "--json", folder)).Json.GetProperty("endIds").GetArrayLength(), Is.Zero);
    }

    // What the formats end an answer with, whatever eos_token is.
    private static string[] AnswerEnds(string family) => family switch
    {
        "llama3-bf16" => ["<|eot_id|>"],
        "qwen2-bf16" => ["<|im_end|>"],
        "gemma2-bf16" => ["<end_of_turn>"],
        _ => [],
    };

    /// <summary>Lets one place name these tokens as ends, or none.</summary>
    private static void Name(EditableCheckpoint checkpoint, string place, int[] ids)
    {
        JsonNode? value = ids.Length == 0 ? null : ids.Length == 1 ? ids[0] : new JsonArray([.. ids.Select(id => (JsonNode)id)]);
        switch (place)
        {
            case "config.json":
                checkpoint.Config["eos_token_id"] = value;
                break;
            case "generation_config.json":
                Edit(checkpoint[place], json => json["eos_token_id"] = value);
                break;
            case "tokenizer_config.json" when ids.Length == 0:
                Edit(checkpoint[place], json => json.Remove("eos_token"));
                break;
            case "tokenizer_config.json":
                string text = Tokenizer.Load(Path.GetDirectoryName(checkpoint[place])!).TokenOf(ids[0]);
                Edit(checkpoint[place], json => json["eos_token"] = text);
                break;
        }
    }

    private static void Edit(string file, Action<JsonObject> change)
    {
        var json = JsonNode.Parse(File.ReadAllText(file))!.AsObject();
        change(json);
        File.WriteAllText(file, json.ToJsonString());
    }

    private static int[] Decode(LanguageModel model, int[] prompt, GenerationOptions options)
    {
        using var generation = new Generation(model, prompt, options);
        while (generation.MoveNext())
        {
        }

        return generation.NewIds.ToArray();
    }

    private static List<int> InBatch(LanguageModel model, int[] prompt, int most)
    {
        using var batch = new SessionBatch(model);
        using var session = new Session(model);
        var sampler = new Sampler(new SamplingOptions(), model.Config.V);
        session.Append(prompt);
        var ids = new List<int>();
        int[] drawn = new int[1];
        while (ids.Count < most)
        {
            batch.Draw([new(session, sampler)], drawn);
            ids.Add(drawn[0]);
            if (model.EndIds.Contains(drawn[0]))
            {
                break;
            }

            batch.Step([new(session)], drawn);
        }

        return ids;
    }
}
