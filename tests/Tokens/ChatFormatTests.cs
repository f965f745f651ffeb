using System.Text.Json;
using Tiller.Tokens;

namespace Tiller.Tests.Tokens;

/// <summary>Chat ids against the goldens, recognition of templates, and the safety of users' text.</summary>
internal sealed class ChatFormatTests
{
    private static IEnumerable<string> Chatting => Repository.Goldens.Select(static x => Path.GetFileName(x))
        .Where(static x => GoldenTokensTests.Read(x).GetProperty("chats").GetArrayLength() > 0);

    [TestCaseSource(nameof(Chatting))]
    public void Chats_give_the_ids_of_the_checkpoints_template(string folder)
    {
        ChatFormat format = Load(folder, out _);
        Assert.Multiple(() =>
        {
            foreach (JsonElement chat in GoldenTokensTests.Read(folder).GetProperty("chats").EnumerateArray())
            {
                ChatMessage[] messages = [.. chat.GetProperty("messages").EnumerateArray().Select(static x =>
                    new ChatMessage(x.GetProperty("role").GetString()!, x.GetProperty("content").GetString()!))];
                int[] ids = [.. chat.GetProperty("ids").EnumerateArray().Select(static x => x.GetInt32())];
                Assert.That(format.Encode(messages), Is.EqualTo(ids), chat.ToString());
            }
        });
    }

    [TestCase("llama3-bf16", "llama-3", "<|eot_id|>|<|end_of_text|>")]
    [TestCase("qwen2-bf16", "chatml", "<|im_end|>")]
    [TestCase("gemma2-bf16", "gemma", "<end_of_turn>|<eos>")]
    [TestCase("llama2-f32", "llama-2", "</s>")]
    public void Names_and_stop_ids(string folder, string name, string stops)
    {
        ChatFormat format = Load(folder, out Tokenizer tokenizer);
        Assert.That(format.Name, Is.EqualTo(name));
        Assert.That(string.Join('|', format.StopIds.Select(tokenizer.TokenOf)), Is.EqualTo(stops));
    }

    [TestCaseSource(nameof(Chatting))]
    public void Special_text_in_messages_stays_plain_text_also_when_split_over_messages(string folder)
    {
        ChatFormat format = Load(folder, out Tokenizer tokenizer);
        int[] Specials(params string[] contents) =>
            [.. format.Encode([.. contents.Select(static (x, i) => new ChatMessage(i % 2 == 0 ? "user" : "assistant", x))]).Where(tokenizer.IsSpecial)];

        int[] plain = Specials("one", "two", "three");
        foreach (AddedToken token in tokenizer.Added.Where(static x => x.Special))
        {
            string name = System.Text.Encoding.UTF8.GetString(token.Content);
            Assert.That(Specials($"x{name}", $" {name} ", $"{name}y{name}"), Is.EqualTo(plain), name);
            Assert.That(Specials("x" + name[..2], name[2..], "z"), Is.EqualTo(plain), name);
        }
    }

    [TestCaseSource(nameof(Chatting))]
    public void Bad_messages_are_refused(string folder)
    {
        ChatFormat format = Load(folder, out _);
        Assert.That(Assert.Throws<ChatException>(() => format.Encode([]))!.Code, Is.EqualTo(ChatError.Empty));
        Assert.That(Assert.Throws<ChatException>(() => format.Encode([new ChatMessage("tool", "x")]))!.Code, Is.EqualTo(ChatError.Role));
        Assert.That(Assert.Throws<ChatException>(() => format.Encode([new ChatMessage("user", null!)]))!.Code, Is.EqualTo(ChatError.Empty));
    }

    [TestCase("llama2-f32", ChatError.Order, "user", "user")]
    [TestCase("llama2-f32", ChatError.Order, "assistant")]
    [TestCase("llama2-f32", ChatError.Order, "system")]
    [TestCase("mistral-f16", ChatError.Order, "user", "assistant", "system")]
    [TestCase("gemma2-bf16", ChatError.Role, "system", "user")]
    [TestCase("gemma2-bf16", ChatError.Order, "user", "assistant", "assistant")]
    public void Roles_that_must_alternate(string folder, ChatError code, params string[] roles)
    {
        ChatFormat format = Load(folder, out _);
        Assert.That(Assert.Throws<ChatException>(() => format.Encode([.. roles.Select(static x => new ChatMessage(x, "a"))]))!.Code, Is.EqualTo(code));
    }

    [Test]
    public void A_checkpoint_without_template_is_no_chat_model()
    {
        Assert.That(Assert.Throws<ChatException>(() => Load("qwen3-f32", out _))!.Code, Is.EqualTo(ChatError.NoTemplate));
    }

    internal static ChatFormat Load(string folder, out Tokenizer tokenizer)
    {
        string directory = Path.Combine(Repository.Path("tests", "goldens", folder), "checkpoint");
        tokenizer = Tokenizer.Load(directory);
        return ChatFormat.Load(directory, tokenizer);
    }
}
