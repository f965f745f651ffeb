using System.Text.Json;
using Tiller.Chat;
using Tiller.Tests.Tokens;
using Tiller.Tokens;

namespace Tiller.Tests.Chat;

/// <summary>Chat ids against the goldens, names and stop ids of formats, and the safety of users' text.</summary>
internal sealed class ChatFormatTests
{
    private const string PublishedGemma =
        "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        + "{% for message in messages %}"
        + "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        + "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
        + "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
        + "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}"
        + "{{'<start_of_turn>model\n'}}{% endif %}";

    private static IEnumerable<string> Chatting => Repository.Goldens.Select(static x => Path.GetFileName(x))
        .Where(static x => GoldenTokensTests.Read(Repository.Path("tests", "goldens", x)).GetProperty("chats").GetArrayLength() > 0);

    [TestCaseSource(nameof(Chatting))]
    public void Chats_give_the_ids_of_the_checkpoints_template(string folder)
    {
        ChatFormat format = Load(folder, out _);
        Assert.Multiple(() =>
        {
            foreach (JsonElement chat in GoldenTokensTests.Read(Repository.Path("tests", "goldens", folder)).GetProperty("chats").EnumerateArray())
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
        Assert.That(format.TemplateSha256, Does.Match("^[0-9a-f]{64}$"));
        Assert.That(string.Join('|', format.StopIds.Select(tokenizer.TokenOf)), Is.EqualTo(stops));
    }

    [TestCaseSource(nameof(Chatting))]
    public void Special_text_in_messages_stays_plain_text_also_when_split_over_messages(string folder)
    {
        ChatFormat format = Load(folder, out Tokenizer tokenizer);
        int[] Specials(params string[] contents) =>
            [.. format.Encode([.. contents.Select(static (x, i) => new ChatMessage(i % 2 == 0 ? "user" : "assistant", x))])
                .Where(tokenizer.IsSpecial)];

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
        Assert.That(Assert.Throws<ChatException>(() => format.Encode([new ChatMessage("user", null!)]))!.Code, Is.EqualTo(ChatError.Empty));
    }

    [TestCase(PublishedGemma, "System role not supported", "system", "user")]
    [TestCase(PublishedGemma, "Conversation roles must alternate", "user", "assistant", "assistant")]
    [TestCase(PublishedGemma, "Conversation roles must alternate", "assistant")]
    public void A_template_that_raises_refuses_roles_out_of_turn(string template, string said, params string[] roles)
    {
        string directory = Directory.CreateTempSubdirectory("tiller-chat-").FullName;
        try
        {
            foreach (string name in (string[])["tokenizer.json", "tokenizer_config.json"])
            {
                File.Copy(Repository.Path("tests", "goldens", "gemma2-bf16", "checkpoint", name), Path.Combine(directory, name));
            }

            File.WriteAllText(Path.Combine(directory, "chat_template.jinja"), template);
            ChatFormat format = ChatFormat.Load(directory, Tokenizer.Load(directory));
            ChatException error = Assert.Throws<ChatException>(() => format.Encode([.. roles.Select(static x => new ChatMessage(x, "a"))]))!;
            Assert.That(error.Code, Is.EqualTo(ChatError.Refused));
            Assert.That(error.Message, Does.Contain(said));
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    // The goldens' templates for these families do not raise: they write whatever comes, as the template itself would.
    [TestCase("gemma2-bf16",
        "<bos><start_of_turn>system\na<end_of_turn>\n<start_of_turn>user\nb<end_of_turn>\n<start_of_turn>user\nc<end_of_turn>\n"
        + "<start_of_turn>model\n", "system", "user", "user")]
    [TestCase("llama2-f32", "<s>[INST] a [/INST]<s>[INST] <<SYS>>\nb\n<</SYS>>\n\nc [/INST]", "user", "system", "user")]
    [TestCase("mistral-f16", " a </s><s>[INST] b [/INST]", "assistant", "user", "system")]
    public void A_template_that_does_not_raise_writes_any_order(string folder, string text, params string[] roles)
    {
        ChatFormat format = Load(folder, out Tokenizer tokenizer);
        int[] ids = format.Encode([.. roles.Select(static (role, i) => new ChatMessage(role, ((char)('a' + i)).ToString()))]);
        Assert.That(ids, Is.EqualTo(tokenizer.Encode(text, addSpecial: false, parseSpecial: true)));
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
