using System.Runtime.InteropServices;

namespace Tiller.Tokens;

/// <summary>
/// The pre_tokenizer of tokenizer.json: stages that split or change text. Each passes its pieces to the next stage, the last one to the model.
/// </summary>
internal sealed class PreTokenizer
{
    private const int MaxStages = 64;

    private readonly List<PreTokenizerStage> _stages = [];
    private bool _mapped; // whether the last stage writes bytes in the alphabet
    private List<PreTokenizerStage> _changes = []; // the stages that change text without splitting it

    private PreTokenizer()
    {
    }

    /// <summary>Whether the last stage passes on raw bytes, which the model reads in <see cref="ByteAlphabet"/>.</summary>
    public bool ByteLevel { get; private set; }

    /// <summary>Reads a node.</summary>
    /// <param name="node">The node; JSON null for no pre-tokenizer.</param>
    public static PreTokenizer Read(TokenizerNode node)
    {
        var result = new PreTokenizer();
        if (!node.IsNull)
        {
            result.Add(node);
        }

        // The last mapping to the alphabet is left to the model, which then works on bytes.
        if (result._mapped)
        {
            result._stages.RemoveAt(result._stages.Count - 1);
            result.ByteLevel = true;
        }

        return result.Finish();
    }

    /// <summary>Adds the mapping that was left to the model as a last stage, for a model that works on characters.</summary>
    public PreTokenizer WithMapping()
    {
        if (!ByteLevel)
        {
            return this;
        }

        var result = new PreTokenizer();
        result._stages.AddRange([.. _stages, new ByteMapStage()]);
        return result.Finish();
    }

    private PreTokenizer Finish()
    {
        _changes = [.. _stages.Where(static x => x is ChangingStage)];
        return this;
    }

    /// <summary>Whether it leaves every text unchanged.</summary>
    public bool IsEmpty => _stages.Count == 0;

    /// <summary>Splits normalised UTF-8 text, and passes each word to the model.</summary>
    /// <param name="text">Text between added tokens.</param>
    /// <param name="sink">Passes pieces to the stages and words to the model.</param>
    /// <param name="splits">Whether to split. If not, the text is one word, with the changes of the stages.</param>
    public void Encode(Piece text, WordSink sink, bool splits)
    {
        sink.Stages = splits ? _stages : _changes;
        sink.Pass(0, text);
    }

    // One case for each kind.
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

        if (_stages.Count > MaxStages)
        {
            throw new TokenizerException(TokenizerError.Limit, node.Path, null, $"a pre-tokenizer has at most {MaxStages} steps.");
        }
    }

    private void Then(PreTokenizerStage stage)
    {
        _stages.Add(stage);
        _mapped = false;
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
        _mapped = true;
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

/// <summary>A piece of text on its way to the model.</summary>
internal readonly ref struct Piece
{
    private readonly ReadOnlySpan<TextRange> _origins; // range in the normalised text of each byte; empty for a piece of that text itself
    private readonly int _start; // start in the normalised text, if _origins is empty

    /// <summary>Makes a piece of the normalised text.</summary>
    /// <param name="text">Valid UTF-8.</param>
    /// <param name="start">Its start in the normalised text.</param>
    /// <param name="atStart">Whether it is at the start of the whole input.</param>
    public Piece(ReadOnlySpan<byte> text, int start, bool atStart)
    {
        Text = text;
        AtStart = atStart;
        _start = start;
    }

    /// <summary>Makes a piece of changed text.</summary>
    /// <param name="text">Valid UTF-8.</param>
    /// <param name="origins">The range of the normalised text for each byte; empty if ranges are not requested.</param>
    /// <param name="atStart">Whether it is at the start of the whole input.</param>
    public Piece(ReadOnlySpan<byte> text, ReadOnlySpan<TextRange> origins, bool atStart)
    {
        Text = text;
        AtStart = atStart;
        _origins = origins;
    }

    private Piece(ReadOnlySpan<byte> text, ReadOnlySpan<TextRange> origins, int start, bool atStart)
        : this(text, origins, atStart)
    {
        _start = start;
    }

    public ReadOnlySpan<byte> Text { get; }

    public bool AtStart { get; }

    /// <summary>A part of the piece.</summary>
    public Piece this[int from, int end] =>
        new(Text[from..end], _origins.IsEmpty ? default : _origins[from..end], _start + from, AtStart && from == 0);

    /// <summary>The range of a part in the normalised text.</summary>
    public TextRange RangeOf(int from, int end)
    {
        if (_origins.IsEmpty)
        {
            return new TextRange(_start + from, _start + end);
        }

        return from < end ? new TextRange(_origins[from].Start, _origins[end - 1].End) : new TextRange(_origins[from].Start, _origins[from].Start);
    }
}

/// <summary>One step of a pre-tokenizer.</summary>
internal abstract class PreTokenizerStage
{
    /// <summary>Passes the pieces of a text on.</summary>
    /// <param name="text">Not empty.</param>
    /// <param name="stage">Index of this stage.</param>
    /// <param name="sink">Receives the pieces, for the next stage.</param>
    public abstract void Run(Piece text, int stage, WordSink sink);
}

/// <summary>Passes pieces through the stages to the model, and holds the buffers that a call needs at each stage.</summary>
internal sealed class WordSink(EncodeSteps steps)
{
    private readonly List<ByteBuffer> _buffers = [];
    private readonly List<List<TextRange>> _origins = [];
    private readonly List<PatternState> _states = [];

    public List<PreTokenizerStage> Stages { get; set; } = [];

    public required TokenModel Model { get; init; }

    public BpeScratch Scratch { get; } = new() { Steps = steps };

    /// <summary>Receives the ranges of the words in the normalised text, and the model gets no words; null to pass the words to the model.</summary>
    public List<TextRange>? Words { get; set; }

    /// <summary>Whether the ranges of pieces are requested.</summary>
    public bool NotesPlaces => Words is not null || Scratch.Places is not null;

    /// <summary>Number of ids that the call wants; later words are skipped.</summary>
    public int Enough { get; set; } = int.MaxValue;

    public bool HasEnough => Scratch.Count >= Enough;

    /// <summary>Passes a piece to a stage, or after the last stage to the model. Empty pieces are skipped.</summary>
    public void Pass(int stage, Piece text)
    {
        if (text.Text.IsEmpty || HasEnough)
        {
            return;
        }

        if (stage < Stages.Count)
        {
            Stages[stage].Run(text, stage, this);
        }
        else if (Words is not null)
        {
            Words.Add(text.RangeOf(0, text.Text.Length));
        }
        else
        {
            Encode(text);
        }
    }

    /// <summary>Whether pieces for a stage go directly to the model; then <see cref="Encode(ReadOnlySpan{byte})"/> takes them.</summary>
    public bool TakesWordsOf(int stage) => stage == Stages.Count && !NotesPlaces;

    /// <summary>Passes a word to the model. Empty words are skipped.</summary>
    public void Encode(ReadOnlySpan<byte> word)
    {
        if (!word.IsEmpty && !HasEnough)
        {
            Model.Encode(word, Scratch);
            Scratch.PartStart = 0;
        }
    }

    /// <summary>An empty buffer for the changed text of a stage.</summary>
    public ByteBuffer BufferOf(int stage)
    {
        while (_buffers.Count <= stage)
        {
            _buffers.Add(new ByteBuffer { Steps = steps });
        }

        _buffers[stage].Length = 0;
        return _buffers[stage];
    }

    /// <summary>An empty list for the ranges of a stage's changed text.</summary>
    public List<TextRange> OriginsOf(int stage)
    {
        while (_origins.Count <= stage)
        {
            _origins.Add([]);
        }

        _origins[stage].Clear();
        return _origins[stage];
    }

    /// <summary>The state of a stage's search.</summary>
    public PatternState StateOf(int stage)
    {
        while (_states.Count <= stage)
        {
            _states.Add(new PatternState { Steps = steps });
        }

        return _states[stage];
    }

    /// <summary>Releases large buffers.</summary>
    public void Trim()
    {
        _buffers.Clear();
        _origins.Clear();
        _states.Clear();
    }

    // The model records ranges within the word; they are converted to ranges of the normalised text.
    private void Encode(Piece word)
    {
        int before = Scratch.Count;
        Encode(word.Text);
        if (Scratch.Places is { } places)
        {
            for (int i = before; i < places.Count; i++)
            {
                places[i] = word.RangeOf(places[i].Start, places[i].End);
            }
        }
    }
}

/// <summary>A step that changes text without splitting it.</summary>
internal abstract class ChangingStage : PreTokenizerStage
{
    public sealed override void Run(Piece text, int stage, WordSink sink)
    {
        ByteBuffer buffer = sink.BufferOf(stage);
        int before = Append(text, buffer);
        ReadOnlySpan<TextRange> origins = default;
        if (sink.NotesPlaces)
        {
            List<TextRange> ranges = sink.OriginsOf(stage);
            TextRange first = text.RangeOf(0, 0);
            for (int i = 0; i < before; i++)
            {
                ranges.Add(first);
            }

            for (int i = 0; i < text.Text.Length; i++)
            {
                for (int n = LengthOf(text.Text[i]); n > 0; n--)
                {
                    ranges.Add(text.RangeOf(i, i + 1));
                }
            }

            origins = CollectionsMarshal.AsSpan(ranges);
        }

        sink.Pass(stage + 1, new Piece(buffer.Span, origins, text.AtStart));
    }

    /// <summary>Appends the changed text.</summary>
    /// <returns>Number of its bytes before the result of the text's first byte.</returns>
    protected abstract int Append(Piece text, ByteBuffer output);

    /// <summary>Number of bytes that result from a byte.</summary>
    protected abstract int LengthOf(byte b);
}

/// <summary>Prepends a space to text that does not begin with one.</summary>
internal sealed class SpaceBeforeStage : ChangingStage
{
    protected override int Append(Piece text, ByteBuffer output)
    {
        bool adds = text.Text[0] != ' ';
        if (adds)
        {
            output.Append((byte)' ');
        }

        output.Append(text.Text);
        return adds ? 1 : 0;
    }

    protected override int LengthOf(byte b) => 1;
}

/// <summary>Writes bytes in <see cref="ByteAlphabet"/>.</summary>
internal sealed class ByteMapStage : ChangingStage
{
    protected override int Append(Piece text, ByteBuffer output)
    {
        ByteAlphabet.Append(text.Text, output);
        return 0;
    }

    protected override int LengthOf(byte b) => ByteAlphabet.CharOf(b) < 0x80 ? 1 : 2;
}

/// <summary>Where <see cref="MetaspaceStage"/> prepends a mark to the text.</summary>
internal enum MetaspacePrefix
{
    /// <summary>Nowhere.</summary>
    Never,

    /// <summary>At the start of the input.</summary>
    First,

    /// <summary>At the start of every text between added tokens.</summary>
    Always,
}

/// <summary>Replaces spaces by marks, and may prepend a mark to text that does not begin with one.</summary>
internal sealed class MetaspaceStage(byte[] mark, MetaspacePrefix prefix) : ChangingStage
{
    protected override int Append(Piece text, ByteBuffer output)
    {
        bool marked = text.Text[0] == ' ' || text.Text.StartsWith(mark);
        if (!marked && (prefix == MetaspacePrefix.Always || (prefix == MetaspacePrefix.First && text.AtStart)))
        {
            output.Append(mark);
        }

        int before = output.Length;
        output.AppendReplaced(text.Text, " "u8, mark);
        return before;
    }

    protected override int LengthOf(byte b) => b == ' ' ? mark.Length : 1;
}
