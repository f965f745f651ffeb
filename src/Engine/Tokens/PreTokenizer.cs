namespace Tiller.Tokens;

/// <summary>The pre_tokenizer of tokenizer.json: stages that hand pieces of text on, one to the next and the last to the model.</summary>
internal sealed class PreTokenizer
{
    private const int MostStages = 64;

    private readonly List<PreTokenizerStage> stages = [];
    private bool mapped; // the last stage writes bytes in the alphabet

    private PreTokenizer()
    {
    }

    /// <summary>Pieces leave the last stage as raw bytes; written in <see cref="ByteAlphabet"/> they would be what the model is to see.</summary>
    public bool ByteLevel { get; private set; }

    /// <summary>Reads a node.</summary>
    /// <param name="node">Null for none.</param>
    public static PreTokenizer Read(TokenizerNode node)
    {
        var result = new PreTokenizer();
        if (!node.IsNull)
        {
            result.Add(node);
        }

        // The last mapping is left to the model, which then works on bytes.
        if (result.mapped)
        {
            result.stages.RemoveAt(result.stages.Count - 1);
            result.ByteLevel = true;
        }

        return result;
    }

    /// <summary>These stages, and the mapping left to the model after them: for a model that works on characters.</summary>
    public PreTokenizer WithMapping()
    {
        if (!ByteLevel)
        {
            return this;
        }

        var result = new PreTokenizer();
        result.stages.AddRange([.. stages, new ByteMapStage()]);
        return result;
    }

    /// <summary>Splits text (UTF-8, normalised) and hands each word to the model.</summary>
    /// <param name="text">Text between added tokens.</param>
    /// <param name="atStart">The text begins where the whole input begins.</param>
    /// <param name="sink">Leads to the model.</param>
    public void Encode(ReadOnlySpan<byte> text, bool atStart, WordSink sink)
    {
        sink.Stages = stages;
        sink.Pass(0, text, atStart);
    }

    // A line for each kind.
    private void Add(TokenizerNode node)
    {
        string kind = node.Kind();
        switch (kind)
        {
            case "Sequence":
                foreach (TokenizerNode item in node["pretokenizers"].Items())
                {
                    Add(item);
                }

                break;
            case "ByteLevel":
                AddByteLevel(node);
                break;
            case "Split":
                Then(ReadSplit(node));
                break;
            case "Metaspace":
                AddMetaspace(node);
                break;
            case "Digits":
                Then(new SplitStage(new CharacterPattern(CharClasses.IsNumber),
                    node["individual_digits"].Flag(absent: false) ? SplitBehavior.Isolated : SplitBehavior.Contiguous));
                break;
            case "Punctuation":
                Then(new SplitStage(new CharacterPattern(CharClasses.IsPunctuation), Behavior(node["behavior"], SplitBehavior.Isolated)));
                break;
            case "Whitespace":
                Then(new SplitStage(new WordOrSymbolsPattern(), SplitBehavior.Removed, invert: true));
                break;
            case "WhitespaceSplit":
                Then(new SplitStage(new CharacterPattern(CharClasses.IsSpace), SplitBehavior.Removed));
                break;
            case "CharDelimiterSplit":
                Then(new SplitStage(new StringPattern(node["delimiter"].Character()), SplitBehavior.Removed));
                break;
            case "BertPreTokenizer":
                Then(new SplitStage(new CharacterPattern(CharClasses.IsSpace), SplitBehavior.Removed));
                Then(new SplitStage(new CharacterPattern(CharClasses.IsPunctuation), SplitBehavior.Isolated));
                break;
            default:
                throw node.Unsupported(kind,
                    "ByteLevel, Split, Metaspace, Digits, Punctuation, Whitespace, WhitespaceSplit, CharDelimiterSplit, BertPreTokenizer, Sequence");
        }

        if (stages.Count > MostStages)
        {
            throw new TokenizerException(TokenizerError.Limit, node.Path, null, $"a pre-tokenizer has at most {MostStages} steps.");
        }
    }

    private void Then(PreTokenizerStage stage)
    {
        stages.Add(stage);
        mapped = false;
    }

    private void AddByteLevel(TokenizerNode node)
    {
        if (node["add_prefix_space"].Flag(absent: true))
        {
            Then(new SpaceBeforeStage());
        }

        if (node["use_regex"].Flag(absent: true))
        {
            Then(new SplitStage(WordSplits.Gpt2, SplitBehavior.Isolated));
        }

        Then(new ByteMapStage());
        mapped = true;
    }

    private static SplitStage ReadSplit(TokenizerNode node) =>
        new(PatternReader.Read(node["pattern"]), Behavior(node["behavior"], absent: null), node["invert"].Flag(absent: false));

    private static SplitBehavior Behavior(TokenizerNode node, SplitBehavior? absent) => node.TextOrNull() switch
    {
        null when absent is { } behavior => behavior,
        "Removed" => SplitBehavior.Removed,
        "Isolated" => SplitBehavior.Isolated,
        "MergedWithPrevious" => SplitBehavior.MergedWithPrevious,
        "MergedWithNext" => SplitBehavior.MergedWithNext,
        "Contiguous" => SplitBehavior.Contiguous,
        null => throw node.Wrong("a behavior"),
        var other => throw node.Unsupported(other, "Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous"),
    };

    private void AddMetaspace(TokenizerNode node)
    {
        byte[] mark = node["replacement"].Character();
        bool legacyPrefix = node["add_prefix_space"].Flag(absent: true);
        string scheme = node["prepend_scheme"].TextOrNull() ?? (legacyPrefix ? "always" : "never");
        MetaspacePrefix prefix = scheme switch
        {
            "never" => MetaspacePrefix.Never,
            "first" => MetaspacePrefix.First,
            "always" => MetaspacePrefix.Always,
            _ => throw node["prepend_scheme"].Unsupported(scheme, "first, always, never"),
        };
        if (!legacyPrefix && prefix != MetaspacePrefix.Never)
        {
            throw node["prepend_scheme"].Wrong("never, as add_prefix_space is false");
        }

        Then(new MetaspaceStage(mark, prefix));
        if (node["split"].Flag(absent: true))
        {
            Then(new SplitStage(new StringPattern(mark), SplitBehavior.MergedWithNext));
        }
    }
}

/// <summary>One step of a pre-tokenizer.</summary>
internal abstract class PreTokenizerStage
{
    /// <summary>Hands the pieces of a text on.</summary>
    /// <param name="text">Valid UTF-8, not empty.</param>
    /// <param name="atStart">It begins where the whole input begins.</param>
    /// <param name="stage">Which stage this is.</param>
    /// <param name="sink">Takes the pieces for the next one.</param>
    public abstract void Run(ReadOnlySpan<byte> text, bool atStart, int stage, WordSink sink);
}

/// <summary>The way of pieces through the stages to the model, with the room that one call needs at each stage.</summary>
internal sealed class WordSink(EncodeSteps steps)
{
    private readonly List<ByteBuffer> buffers = [];
    private readonly List<PatternState> states = [];

    public List<PreTokenizerStage> Stages { get; set; } = [];

    public required TokenModel Model { get; init; }

    public BpeScratch Scratch { get; } = new() { Steps = steps };

    /// <summary>Hands a piece to a stage, after the last one to the model. An empty piece is none.</summary>
    public void Pass(int stage, ReadOnlySpan<byte> text, bool atStart)
    {
        if (text.IsEmpty)
        {
            return;
        }

        if (stage < Stages.Count)
        {
            Stages[stage].Run(text, atStart, stage, this);
        }
        else
        {
            Model.Encode(text, Scratch);
        }
    }

    /// <summary>Room for changed text, empty.</summary>
    public ByteBuffer BufferOf(int stage)
    {
        while (buffers.Count <= stage)
        {
            buffers.Add(new ByteBuffer { Steps = steps });
        }

        buffers[stage].Length = 0;
        return buffers[stage];
    }

    /// <summary>Room for a search.</summary>
    public PatternState StateOf(int stage)
    {
        while (states.Count <= stage)
        {
            states.Add(new PatternState { Steps = steps });
        }

        return states[stage];
    }

    /// <summary>Lets large buffers go.</summary>
    public void Trim()
    {
        buffers.Clear();
        states.Clear();
    }
}

/// <summary>A space before text that has none.</summary>
internal sealed class SpaceBeforeStage : PreTokenizerStage
{
    public override void Run(ReadOnlySpan<byte> text, bool atStart, int stage, WordSink sink)
    {
        if (text[0] != ' ')
        {
            ByteBuffer buffer = sink.BufferOf(stage);
            buffer.Append((byte)' ');
            buffer.Append(text);
            text = buffer.Span;
        }

        sink.Pass(stage + 1, text, atStart);
    }
}

/// <summary>Bytes in <see cref="ByteAlphabet"/>.</summary>
internal sealed class ByteMapStage : PreTokenizerStage
{
    public override void Run(ReadOnlySpan<byte> text, bool atStart, int stage, WordSink sink)
    {
        ByteBuffer buffer = sink.BufferOf(stage);
        ByteAlphabet.Append(text, buffer);
        sink.Pass(stage + 1, buffer.Span, atStart);
    }
}

/// <summary>Where <see cref="MetaspaceStage"/> puts a mark before the text.</summary>
internal enum MetaspacePrefix
{
    /// <summary>Nowhere.</summary>
    Never,

    /// <summary>At the start of the input.</summary>
    First,

    /// <summary>At the start of every text between added tokens.</summary>
    Always,
}

/// <summary>Spaces become marks; text that does not begin with one may get one.</summary>
internal sealed class MetaspaceStage(byte[] mark, MetaspacePrefix prefix) : PreTokenizerStage
{
    public override void Run(ReadOnlySpan<byte> text, bool atStart, int stage, WordSink sink)
    {
        ByteBuffer buffer = sink.BufferOf(stage);
        bool marked = text[0] == ' ' || text.StartsWith(mark);
        if (!marked && (prefix == MetaspacePrefix.Always || (prefix == MetaspacePrefix.First && atStart)))
        {
            buffer.Append(mark);
        }

        buffer.AppendReplaced(text, " "u8, mark);
        sink.Pass(stage + 1, buffer.Span, atStart);
    }
}
