namespace Tiller.Tokens;

/// <summary>The normalizer of tokenizer.json, which changes text before it is split. Its stages run in order.</summary>
internal sealed class TextNormalizer
{
    /// <summary>Largest factor by which replacements may lengthen a text.</summary>
    internal const int MaxGrowth = 8;

    private const int MaxStages = 64;
    private const int LongestPrepend = 64;

    private readonly List<NormalizerStage> _stages = [];
    private long _growth = 1;

    private TextNormalizer()
    {
    }

    /// <summary>Reads a node.</summary>
    /// <param name="node">The node; JSON null for no normalizer.</param>
    public static TextNormalizer Read(TokenizerNode node)
    {
        var result = new TextNormalizer();
        if (!node.IsNull)
        {
            result.Add(node);
        }

        return result;
    }

    /// <summary>Whether it leaves every text unchanged.</summary>
    public bool IsEmpty => _stages.Count == 0;

    /// <summary>Normalises a text. The result may be the argument, or be in one of the two buffers.</summary>
    public ReadOnlySpan<byte> Apply(ReadOnlySpan<byte> text, ByteBuffer first, ByteBuffer second)
    {
        foreach (NormalizerStage stage in _stages)
        {
            if (text.IsEmpty)
            {
                return text;
            }

            if (!stage.MayChange(text))
            {
                continue;
            }

            first.Length = 0;
            stage.Append(text, first);
            text = first.Span;
            (first, second) = (second, first);
        }

        return text;
    }

    // One case for each kind.
    private void Add(TokenizerNode node)
    {
        string kind = node.Kind();
        switch (kind)
        {
            case "Sequence":
                foreach (TokenizerNode item in node["normalizers"].Items())
                {
                    Add(item);
                }

                break;
            case "NFC":
                _stages.Add(new UnicodeStage(compat: false, composed: true));
                break;
            case "NFD":
                _stages.Add(new UnicodeStage(compat: false, composed: false));
                break;
            case "NFKC":
                _stages.Add(new UnicodeStage(compat: true, composed: true));
                break;
            case "NFKD":
                _stages.Add(new UnicodeStage(compat: true, composed: false));
                break;
            case "Lowercase":
                _stages.Add(new LowercaseStage());
                break;
            case "StripAccents":
                _stages.Add(new WithoutStage(CharClasses.IsMark));
                break;
            case "Strip":
                _stages.Add(new StripStage(node["strip_left"].Flag(absent: true), node["strip_right"].Flag(absent: true)));
                break;
            case "Prepend":
                _stages.Add(new PrependStage(Prepended(node["prepend"])));
                break;
            case "Replace":
                AddReplace(node);
                break;
            case "ByteLevel":
                _stages.Add(new AlphabetStage());
                break;
            case "Precompiled":
                _stages.Add(new CharacterMapStage(CharacterMap.Read(node["precompiled_charsmap"])));
                break;
            case "BertNormalizer":
                AddBert(node);
                break;
            default:
                throw node.Unsupported(kind,
                    "NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Replace, Prepend, Precompiled, BertNormalizer, ByteLevel, Sequence");
        }

        if (_stages.Count > MaxStages)
        {
            throw new TokenizerException(TokenizerError.Limit, node.Path, null, $"a normalizer has at most {MaxStages} steps.");
        }
    }

    private static byte[] Prepended(TokenizerNode node)
    {
        byte[] text = node.Utf8();
        return text.Length <= LongestPrepend
            ? text
            : throw new TokenizerException(TokenizerError.Limit, node.Path, null, $"expected at most {LongestPrepend} bytes, found {text.Length}.");
    }

    private void AddReplace(TokenizerNode node)
    {
        byte[] content = node["content"].Utf8();
        bool plain = !node["pattern"]["Regex"].IsString;
        int shortest = plain ? PatternReader.String(node["pattern"]).Length : 1;
        _growth *= Math.Max(1, (content.Length + shortest - 1) / shortest);
        if (_growth > MaxGrowth)
        {
            throw new TokenizerException(TokenizerError.Limit, node.Path, null,
                $"the normalizer can make text more than {MaxGrowth} times as long; use a shorter replacement.");
        }

        _stages.Add(plain
            ? new ReplaceStage(PatternReader.String(node["pattern"]), content)
            : new ReplaceMatchesStage(PatternReader.Read(node["pattern"]), content));
    }

    // BERT's steps: clean control characters, separate ideographs, remove accents, lower-case letters.
    private void AddBert(TokenizerNode node)
    {
        bool lowercase = node["lowercase"].Flag(absent: true);
        if (node["clean_text"].Flag(absent: true))
        {
            _stages.Add(new CleanStage());
        }

        if (node["handle_chinese_chars"].Flag(absent: true))
        {
            _stages.Add(new IdeographStage());
        }

        if (node["strip_accents"].Flag(absent: lowercase))
        {
            _stages.Add(new UnicodeStage(compat: false, composed: false));
            _stages.Add(new WithoutStage(CharClasses.IsMarkWithoutSpacing));
        }

        if (lowercase)
        {
            _stages.Add(new LowercaseStage());
        }
    }
}
