namespace Tiller.Tokens;

/// <summary>The normalizer of tokenizer.json: what happens to text before it is split. Stages run in order.</summary>
internal sealed class TextNormalizer
{
    /// <summary>Most times as long as it was that replacing may make a text.</summary>
    internal const int MostGrowth = 8;

    private const int MostStages = 64;
    private const int LongestPrepend = 64;

    private readonly Stage[] stages;

    private TextNormalizer(Stage[] stages)
    {
        this.stages = stages;
    }

    private enum Step
    {
        Nfc,
        Nfkc,
        Prepend,
        Replace,
    }

    /// <summary>The normalizer changes no text.</summary>
    public bool IsIdentity => stages.Length == 0;

    public static TextNormalizer Read(TokenizerNode node)
    {
        var read = new List<Stage>();
        Read(node, read);
        if (read.Count > MostStages)
        {
            throw new TokenizerException(TokenizerError.Limit, node.Path, null, $"a normalizer has at most {MostStages} steps, found {read.Count}.");
        }

        long growth = 1;
        foreach (Stage stage in read.Where(static x => x.Step == Step.Replace))
        {
            growth *= Math.Max(1, (stage.Content.Length + stage.Pattern.Length - 1) / stage.Pattern.Length);
            if (growth > MostGrowth)
            {
                throw new TokenizerException(TokenizerError.Limit, node.Path, null,
                    $"the normalizer can make text more than {MostGrowth} times as long; use a shorter replacement.");
            }
        }

        return new TextNormalizer([.. read]);
    }

    /// <summary>The normalised text; the result may be the argument or lie in one of the two buffers.</summary>
    public ReadOnlySpan<byte> Apply(ReadOnlySpan<byte> text, ByteBuffer first, ByteBuffer second)
    {
        foreach (Stage stage in stages)
        {
            if (text.IsEmpty)
            {
                return text;
            }

            if (stage.Step == Step.Replace && text.IndexOf(stage.Pattern) < 0)
            {
                continue;
            }

            first.Length = 0;
            Apply(stage, text, first);
            text = first.Span;
            (first, second) = (second, first);
        }

        return text;
    }

    private static void Read(TokenizerNode node, List<Stage> output)
    {
        if (node.IsNull)
        {
            return;
        }

        string kind = node.Kind();
        switch (kind)
        {
            case "Sequence":
                foreach (TokenizerNode item in node["normalizers"].Items())
                {
                    Read(item, output);
                }

                break;
            case "NFC":
                output.Add(new Stage(Step.Nfc, [], []));
                break;
            case "NFKC":
                output.Add(new Stage(Step.Nfkc, [], []));
                break;
            case "Prepend":
                byte[] prepend = node["prepend"].Utf8();
                if (prepend.Length > LongestPrepend)
                {
                    throw new TokenizerException(TokenizerError.Limit, node["prepend"].Path, null,
                        $"expected at most {LongestPrepend} bytes, found {prepend.Length}.");
                }

                output.Add(new Stage(Step.Prepend, [], prepend));
                break;
            case "Replace":
                output.Add(new Stage(Step.Replace, Pattern(node["pattern"]), node["content"].Utf8()));
                break;
            default:
                throw node.Unsupported(kind, "Sequence, NFC, NFKC, Prepend, Replace");
        }
    }

    /// <summary>A pattern that is a plain string, not empty.</summary>
    internal static byte[] Pattern(TokenizerNode node)
    {
        if (node["Regex"].IsString)
        {
            throw node.Unsupported(node["Regex"].Text(), "a String pattern here");
        }

        byte[] pattern = node["String"].Utf8();
        return pattern.Length > 0 ? pattern : throw node["String"].Wrong("a pattern that is not empty");
    }

    private static void Apply(Stage stage, ReadOnlySpan<byte> text, ByteBuffer output)
    {
        switch (stage.Step)
        {
            case Step.Nfc:
            case Step.Nfkc:
                UnicodeNormalization.Append(text, stage.Step == Step.Nfkc, output);
                break;
            case Step.Prepend:
                output.Append(stage.Content);
                output.Append(text);
                break;
            default:
                Replace(text, stage.Pattern, stage.Content, output);
                break;
        }
    }

    /// <summary>Appends the text with every occurrence of the pattern, from the left, replaced.</summary>
    internal static void Replace(ReadOnlySpan<byte> text, ReadOnlySpan<byte> pattern, ReadOnlySpan<byte> content, ByteBuffer output)
    {
        for (int at; (at = text.IndexOf(pattern)) >= 0; text = text[(at + pattern.Length)..])
        {
            output.Append(text[..at]);
            output.Append(content);
        }

        output.Append(text);
    }

    private sealed record Stage(Step Step, byte[] Pattern, byte[] Content);
}
