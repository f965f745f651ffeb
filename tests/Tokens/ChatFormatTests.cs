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

    internal static ChatFormat Load(string folder, out Tokenizer tokenizer)
    {
        string directory = Path.Combine(Repository.Path("tests", "goldens", folder), "checkpoint");
        tokenizer = Tokenizer.Load(directory);
        return ChatFormat.Load(directory, tokenizer);
    }
}
