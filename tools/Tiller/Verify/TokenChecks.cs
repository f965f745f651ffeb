using System.Text.Json;
using Tiller.Chat;
using Tiller.Tokens;

namespace Tiller.Tool;

/// <summary>Checks ids of texts, and texts of ids, exactly.</summary>
internal static class TokenChecks
{
    public static IEnumerable<VerificationRow> Run(GoldenFolder folder, JsonElement tokens, Tokenizer tokenizer)
    {
        if (tokens.TryGetProperty("strings", out var strings))
        {
            yield return Exact(folder, "ids with template", strings,
                s => Same(tokenizer.Encode(Text(s), addSpecial: true, parseSpecial: true), s, "prompt"));
            yield return Exact(folder, "ids", strings, s => Same(tokenizer.Encode(Text(s), addSpecial: false, parseSpecial: true), s, "parsed"));
            yield return Exact(folder, "literal ids", strings,
                s => Same(tokenizer.Encode(Text(s), addSpecial: false, parseSpecial: false), s, "literal"));
            yield return Exact(folder, "decoded text", strings, s => tokenizer.Decode(Ids(s, "literal")) == s.GetProperty("decoded").GetString() &&
                tokenizer.Decode(Ids(s, "prompt"), skipSpecial: true) == s.GetProperty("decoded_skip").GetString());
        }

        if (tokens.TryGetProperty("decode", out var decode))
        {
            yield return Exact(folder, "loose decoding", decode, d => tokenizer.Decode(Ids(d, "ids")) == d.GetProperty("decoded").GetString() &&
                tokenizer.Decode(Ids(d, "ids"), skipSpecial: true) == d.GetProperty("decoded_skip").GetString());
        }

        if (tokens.TryGetProperty("chats", out var chats) && chats.GetArrayLength() > 0)
        {
            var format = ChatFormat.Load(folder.Checkpoint, tokenizer);
            yield return Exact(folder, "chat ids", chats, chat => Same(format.Encode(Messages(chat)), chat, "ids"));
        }
    }

    public static int[] Ids(JsonElement owner, string key) => [.. owner.GetProperty(key).EnumerateArray().Select(x => x.GetInt32())];

    private static List<ChatMessage> Messages(JsonElement chat) =>
        [.. chat.GetProperty("messages").EnumerateArray()
            .Select(m => new ChatMessage(m.GetProperty("role").GetString()!, m.GetProperty("content").GetString()!))];

    private static string Text(JsonElement s) => s.GetProperty("text").GetString()!;

    private static bool Same(int[] ids, JsonElement owner, string key) => ids.AsSpan().SequenceEqual(Ids(owner, key));

    private static VerificationRow Exact(GoldenFolder folder, string kind, JsonElement cases, Func<JsonElement, bool> agrees)
    {
        int count = 0;
        int different = 0;
        foreach (var item in cases.EnumerateArray())
        {
            count++;
            different += agrees(item) ? 0 : 1;
        }

        return new VerificationRow(folder.Path, kind, count, different, 0);
    }
}
