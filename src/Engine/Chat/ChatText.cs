using System.Text;
using Tiller.Jinja;
using Tiller.Tokens;

namespace Tiller.Chat;

/// <summary>
/// Turns the text of a chat into ids. Special tokens are recognised only in text that the template itself writes, never in content. Adjacent plain
/// text of the template and of content is tokenised as one run.
/// </summary>
internal sealed class ChatText
{
    private readonly Tokenizer tokenizer;
    private readonly AddedTokens special;
    private readonly Dictionary<int, AddedToken> tokens = [];

    public ChatText(Tokenizer tokenizer)
    {
        this.tokenizer = tokenizer;
        foreach (AddedToken token in tokenizer.Added.Where(static x => x.Special))
        {
            tokens[token.Id] = token;
        }

        special = new AddedTokens(tokens.Values.Select(static x => (x.Content, x)));
    }

    /// <summary>The special token with exactly this text, or null.</summary>
    public AddedToken? Find(string text) => text.Length == 0 ? null : special.Exactly(Encoding.UTF8.GetBytes(text));

    /// <summary>Finds the special tokens that the template writes, with their start in UTF-16 units.</summary>
    /// <exception cref="ChatException">A special token is matched in normalised text, and the normaliser changes its text.</exception>
    public List<(int Start, AddedToken Token)> Marks(JinjaRendering rendering)
    {
        byte[] utf8 = Encoding.UTF8.GetBytes(rendering.Text);
        var marks = new List<(int, AddedToken)>();
        var parts = new List<TextPart>();
        int at = 0;
        foreach (JinjaSpan span in rendering.Spans)
        {
            int end = at + Encoding.UTF8.GetByteCount(rendering.Text.AsSpan(span.Start, span.Length));
            if (!span.IsContent)
            {
                parts.Clear();
                special.Split(utf8, at, end, special: true, parts);
                int chars = span.Start;
                int counted = at;
                foreach (TextPart part in parts.Where(static x => x.Id >= 0))
                {
                    // The part may include white space that the token strips. The mark covers only the token's own text.
                    AddedToken token = tokens[part.Id];
                    int start = part.Start + utf8.AsSpan(part.Start, part.End - part.Start).IndexOf(token.Content);
                    chars += Encoding.UTF8.GetCharCount(utf8, counted, start - counted);
                    counted = start;
                    marks.Add((chars, Usable(token)));
                }
            }

            at = end;
        }

        return marks;
    }

    public int[] Encode(JinjaRendering rendering, CancellationToken cancellationToken) =>
        tokenizer.EncodeMarked(rendering.Text, Marks(rendering), cancellationToken);

    private AddedToken Usable(AddedToken token) => !token.Normalized || !tokenizer.NormalizerChanges(token.Content) ? token
        : throw new ChatException(ChatError.Unrecognised,
            $"The special token {TokenizerException.Escape(Encoding.UTF8.GetString(token.Content))} is matched in normalised text, where the "
            + "tokenizer writes it differently; "
            + "such tokenizers are not supported for chats.");
}
