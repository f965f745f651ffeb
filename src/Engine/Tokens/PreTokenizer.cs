namespace Tiller.Tokens;

/// <summary>
/// The pre_tokenizer of tokenizer.json, compiled: one way to split, and whether words become bytes. Supported: none, ByteLevel,
/// Split on a known expression (then ByteLevel), Split on a string, Metaspace.
/// </summary>
internal sealed class PreTokenizer
{
    private const string Supported = "ByteLevel, Split, Metaspace, or a Sequence of Split on a known expression and ByteLevel";

    private WordSplit split = WordSplit.Whole;
    private byte[]? delimiter; // Split on a String, MergedWithPrevious
    private byte[]? metaspace;
    private bool metaspaceSplits;

    private PreTokenizer()
    {
    }

    private enum Prepend
    {
        Never,
        First,
        Always,
    }

    /// <summary>Words are handed to the model as bytes.</summary>
    public bool ByteLevel { get; private set; }

    private bool AddPrefixSpace { get; set; }

    private Prepend Scheme { get; set; }

    public static PreTokenizer Read(TokenizerNode node)
    {
        var result = new PreTokenizer();
        if (node.IsNull)
        {
            return result;
        }

        List<TokenizerNode> parts = [];
        Flatten(node, parts);
        foreach (TokenizerNode part in parts)
        {
            if (result.ByteLevel || result.metaspace is not null || result.delimiter is not null)
            {
                throw part.Unsupported(part.Kind(), Supported);
            }

            result.Add(part);
        }

        if (!result.ByteLevel && result.split != WordSplit.Whole && result.delimiter is null)
        {
            throw node.Unsupported("Split without ByteLevel", Supported);
        }

        return result;
    }

    /// <summary>Splits text (UTF-8, normalised) and encodes each word.</summary>
    /// <param name="text">Text between added tokens.</param>
    /// <param name="atStart">The text begins where the whole input begins.</param>
    /// <param name="model">Encodes the words.</param>
    /// <param name="scratch">Receives the ids.</param>
    /// <param name="buffer">Room for changed text; not where <paramref name="text"/> lies.</param>
    public void Encode(ReadOnlySpan<byte> text, bool atStart, BpeModel model, BpeScratch scratch, ByteBuffer buffer)
    {
        if (text.IsEmpty)
        {
            return;
        }

        if (AddPrefixSpace && text[0] != ' ')
        {
            buffer.Length = 0;
            buffer.Append((byte)' ');
            buffer.Append(text);
            text = buffer.Span;
        }

        if (metaspace is not null)
        {
            EncodeMetaspace(text, atStart, model, scratch, buffer);
        }
        else if (delimiter is not null)
        {
            for (int at; (at = text.IndexOf(delimiter)) >= 0; text = text[(at + delimiter.Length)..])
            {
                model.Encode(text[..(at + delimiter.Length)], scratch);
            }

            EncodeRest(text, model, scratch);
        }
        else
        {
            for (int i = 0; i < text.Length;)
            {
                int end = WordSplits.End(split, text, i);
                model.Encode(text[i..end], scratch);
                i = end;
            }
        }
    }

    private static void EncodeRest(ReadOnlySpan<byte> text, BpeModel model, BpeScratch scratch)
    {
        if (!text.IsEmpty)
        {
            model.Encode(text, scratch);
        }
    }

    private static void Flatten(TokenizerNode node, List<TokenizerNode> parts)
    {
        if (node.Kind() == "Sequence")
        {
            foreach (TokenizerNode item in node["pretokenizers"].Items())
            {
                Flatten(item, parts);
            }
        }
        else
        {
            parts.Add(node);
        }
    }

    private void Add(TokenizerNode node)
    {
        switch (node.Kind())
        {
            case "ByteLevel":
                ByteLevel = true;
                AddPrefixSpace = node["add_prefix_space"].Flag(absent: true);
                if (node["use_regex"].Flag(absent: true))
                {
                    split = split == WordSplit.Whole ? WordSplit.Gpt2 : throw node.Unsupported("use_regex after Split", Supported);
                }

                if (AddPrefixSpace && split is not (WordSplit.Whole or WordSplit.Gpt2))
                {
                    throw node.Unsupported("add_prefix_space after Split", Supported);
                }

                break;
            case "Split":
                AddSplit(node);
                break;
            case "Metaspace":
                AddMetaspace(node);
                break;
            default:
                throw node.Unsupported(node.Kind(), Supported);
        }
    }

    private void AddSplit(TokenizerNode node)
    {
        string behavior = node["behavior"].Text();
        bool invert = node["invert"].Flag(absent: false);
        TokenizerNode regex = node["pattern"]["Regex"];
        if (regex.IsString)
        {
            if (split != WordSplit.Whole)
            {
                throw node.Unsupported("a second Split", Supported);
            }

            split = WordSplits.OfRegex(regex.Text())
                ?? throw regex.Unsupported(regex.Text(), "the splits of GPT-2, Llama-3 (cl100k) and Qwen2");

            // The expressions match everywhere, so keeping only the matches is the same as isolating them.
            if (behavior != "Isolated" && !(behavior == "Removed" && invert))
            {
                throw node["behavior"].Unsupported(behavior, "Isolated");
            }
        }
        else
        {
            delimiter = TextNormalizer.Pattern(node["pattern"]);
            if (behavior != "MergedWithPrevious" || invert || split != WordSplit.Whole)
            {
                throw node["behavior"].Unsupported(behavior, "MergedWithPrevious for a String pattern");
            }
        }
    }

    private void AddMetaspace(TokenizerNode node)
    {
        string replacement = node["replacement"].Text();
        if (replacement.EnumerateRunes().Count() != 1)
        {
            throw node["replacement"].Wrong("one character");
        }

        metaspace = node["replacement"].Utf8();
        metaspaceSplits = node["split"].Flag(absent: true);
        bool legacyPrefix = node["add_prefix_space"].Flag(absent: true);
        string scheme = node["prepend_scheme"].TextOrNull() ?? (legacyPrefix ? "always" : "never");
        Scheme = scheme switch
        {
            "never" => Prepend.Never,
            "first" => Prepend.First,
            "always" => Prepend.Always,
            _ => throw node["prepend_scheme"].Unsupported(scheme, "first, always, never"),
        };
        if (!legacyPrefix && Scheme != Prepend.Never)
        {
            throw node["prepend_scheme"].Wrong("never, as add_prefix_space is false");
        }
    }

    private void EncodeMetaspace(ReadOnlySpan<byte> text, bool atStart, BpeModel model, BpeScratch scratch, ByteBuffer buffer)
    {
        buffer.Length = 0;
        bool marked = text[0] == ' ' || text.StartsWith(metaspace);
        if (!marked && (Scheme == Prepend.Always || (Scheme == Prepend.First && atStart)))
        {
            buffer.Append(metaspace);
        }

        TextNormalizer.Replace(text, " "u8, metaspace, buffer);
        ReadOnlySpan<byte> rest = buffer.Span;
        if (metaspaceSplits)
        {
            while (true)
            {
                // MergedWithNext: every mark begins a word.
                int skip = rest.StartsWith(metaspace) ? metaspace!.Length : 0;
                int next = rest[skip..].IndexOf(metaspace);
                if (next < 0)
                {
                    break;
                }

                model.Encode(rest[..(skip + next)], scratch);
                rest = rest[(skip + next)..];
            }
        }

        EncodeRest(rest, model, scratch);
    }
}
