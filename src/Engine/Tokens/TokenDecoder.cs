using System.Buffers;
using System.Text;

namespace Tiller.Tokens;

/// <summary>The decoder of tokenizer.json, from tokens to text. It is a description; <see cref="NewState"/> makes the stages that run it.</summary>
internal sealed class TokenDecoder
{
    private const int MaxStages = 64;

    private readonly List<Func<DecoderStage>> _stages = [];
    private double _growth = 1;

    private TokenDecoder()
    {
    }

    public static TokenDecoder Read(TokenizerNode node)
    {
        var decoder = new TokenDecoder();
        if (node.IsNull)
        {
            decoder._stages.Add(static () => new JoinStage());
            return decoder;
        }

        bool fused = false;
        decoder.Add(node, ref fused);
        return decoder;
    }

    /// <summary>Makes a chain of stages that writes to the buffer.</summary>
    public DecoderStage NewState(ByteBuffer output)
    {
        DecoderStage next = new OutputStage(output);
        for (int i = _stages.Count - 1; i >= 0; i--)
        {
            DecoderStage stage = _stages[i]();
            stage.Next = next;
            next = stage;
        }

        return next;
    }

    private void Add(TokenizerNode node, ref bool fused)
    {
        string kind = node.Kind();
        if (_stages.Count >= MaxStages)
        {
            throw new TokenizerException(TokenizerError.Limit, node.Path, null, $"a decoder has at most {MaxStages} steps.");
        }

        switch (kind)
        {
            case "Sequence":
                foreach (TokenizerNode item in node["decoders"].Items())
                {
                    Add(item, ref fused);
                }

                break;
            case "ByteLevel":
                _stages.Add(static () => new BytesStage());
                fused = true;
                break;
            case "ByteFallback":
                _stages.Add(static () => new ByteFallbackStage());
                break;
            case "Fuse":
                _stages.Add(static () => new FuseStage());
                fused = true;
                break;
            case "Replace":
                AddReplace(node, fused);
                break;
            case "Strip":
                byte[] strip = node["content"].Character();
                int start = node["start"].Integer(0, int.MaxValue);
                int stop = node["stop"].Integer(0, int.MaxValue);
                _stages.Add(() => new StripStage(strip, start, stop));
                break;
            case "WordPiece":
                byte[] prefix = Encoding.UTF8.GetBytes(node["prefix"].TextOrNull() ?? "##");
                bool cleanup = node["cleanup"].Flag(absent: true);
                _stages.Add(() => new WordPieceStage(prefix, cleanup));
                break;
            case "BPEDecoder":
                byte[] suffix = Encoding.UTF8.GetBytes(node["suffix"].TextOrNull() ?? "</w>");
                if (suffix.Length == 0)
                {
                    throw node["suffix"].Wrong("a suffix that is not empty");
                }

                _stages.Add(() => new SuffixStage(suffix));
                break;
            case "Metaspace":
                byte[] mark = node["replacement"].Character();
                string scheme = node["prepend_scheme"].TextOrNull() ?? (node["add_prefix_space"].Flag(absent: true) ? "always" : "never");
                if (scheme is not ("first" or "always" or "never"))
                {
                    throw node["prepend_scheme"].Unsupported(scheme, "first, always, never");
                }

                _stages.Add(() => new MetaspaceStage(mark, scheme != "never"));
                break;
            default:
                throw node.Unsupported(kind, "Sequence, ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace, WordPiece, BPEDecoder");
        }
    }

    private void AddReplace(TokenizerNode node, bool fused)
    {
        byte[] content = node["content"].Utf8();
        if (node["pattern"]["Regex"].IsString)
        {
            TextPattern expression = PatternReader.Read(node["pattern"]);
            CheckGrowth(node, 1, content);
            _stages.Add(() => new ReplaceMatchesInTokensStage(expression, content));
            return;
        }

        byte[] pattern = PatternReader.String(node["pattern"]);
        CheckGrowth(node, pattern.Length, content);

        // After Fuse, a token arrives in pieces, and a pattern of several characters may extend over two of them.
        _stages.Add(fused && Encoding.UTF8.GetCharCount(pattern) != 1
            ? () => new ReplaceMatchesInTokensStage(new StringPattern(pattern), content)
            : () => new ReplaceStage(pattern, content));
    }

    private void CheckGrowth(TokenizerNode node, int shortest, byte[] content)
    {
        _growth *= Math.Max(1, (double)content.Length / shortest);
        if (_growth > TextNormalizer.MaxGrowth)
        {
            throw new TokenizerException(TokenizerError.Limit, node.Path, null,
                $"the decoder can make text more than {TextNormalizer.MaxGrowth} times as long; use a shorter replacement.");
        }
    }

    private sealed class OutputStage(ByteBuffer output) : DecoderStage
    {
        public override void Token(ReadOnlySpan<byte> text, bool starts) => output.Append(text);
    }

    // Without a decoder, tokens are joined with spaces.
    private sealed class JoinStage : DecoderStage
    {
        private bool _any;

        public override void Token(ReadOnlySpan<byte> text, bool starts)
        {
            if (starts && _any)
            {
                Next!.Token(" "u8, starts: true);
            }

            _any = true;
            Next!.Token(text, starts);
        }
    }

    private sealed class FuseStage : DecoderStage
    {
        private bool _any;

        public override void Token(ReadOnlySpan<byte> text, bool starts)
        {
            Next!.Token(text, !_any);
            _any = true;
        }
    }

    private sealed class ReplaceStage(byte[] pattern, byte[] content) : DecoderStage
    {
        private readonly ByteBuffer _buffer = new();

        public override void Token(ReadOnlySpan<byte> text, bool starts)
        {
            _buffer.Length = 0;
            _buffer.AppendReplaced(text, pattern, content);
            Next!.Token(_buffer.Span, starts);
        }
    }

    // Removes up to `mostFirst` leading and `mostLast` trailing occurrences of a character. A token may arrive in several pieces (after Fuse).
    // Trailing occurrences are held back until it is known whether the token continues.
    private sealed class StripStage(byte[] content, int mostFirst, int mostLast) : DecoderStage
    {
        private readonly ByteBuffer _piece = new();
        private int _left;
        private int _held;
        private bool _started; // whether the next piece starts a token

        public override void Token(ReadOnlySpan<byte> text, bool starts)
        {
            if (starts)
            {
                EndToken();
                _left = mostFirst;
                _started = true;
            }

            while (_left > 0 && text.StartsWith(content))
            {
                text = text[content.Length..];
                _left--;
            }

            if (text.IsEmpty)
            {
                return;
            }

            _left = 0;
            int trailing = 0;
            ReadOnlySpan<byte> rest = text;
            for (; trailing < mostLast && rest.EndsWith(content); trailing++)
            {
                rest = rest[..^content.Length];
            }

            if (!rest.IsEmpty)
            {
                Pass(rest);
                _held = trailing;
                return;
            }

            // The piece has only this character: occurrences beyond the number that may be removed are certain to stay.
            _held += trailing;
            if (_held > mostLast)
            {
                int certain = _held - mostLast;
                _held = 0;
                _piece.Length = 0;
                for (int i = 0; i < certain; i++)
                {
                    _piece.Append(content);
                }

                Next!.Token(_piece.Span, Starts());
                _held = mostLast;
            }
        }

        public override void Flush()
        {
            EndToken();
            base.Flush();
        }

        private void Pass(ReadOnlySpan<byte> rest)
        {
            _piece.Length = 0;
            for (; _held > 0; _held--)
            {
                _piece.Append(content);
            }

            _piece.Append(rest);
            Next!.Token(_piece.Span, Starts());
        }

        private bool Starts()
        {
            bool starts = _started;
            _started = false;
            return starts;
        }

        // A token that became empty is still a token.
        private void EndToken()
        {
            _held = 0;
            if (_started)
            {
                Next!.Token(default, Starts());
            }
        }
    }

    // Replaces the matches of a pattern within each token, and holds each token back until it has ended.
    private sealed class ReplaceMatchesInTokensStage(TextPattern pattern, byte[] content) : WholeTokenStage
    {
        private readonly NormalizerStage _replace = new ReplaceMatchesStage(pattern, content);

        protected override void Token(ReadOnlySpan<byte> text, bool first, bool last, ByteBuffer output)
        {
            if (!text.IsEmpty)
            {
                _replace.Append(text, output);
            }
        }
    }

    // WordPiece: a token that does not continue the previous word gets a space. Then spaces before punctuation and contractions are removed.
    private sealed class WordPieceStage(byte[] prefix, bool cleanup) : WholeTokenStage
    {
        private static readonly (byte[] From, byte[] To)[] s_cleanup =
        [
            (" ."u8.ToArray(), "."u8.ToArray()), (" ?"u8.ToArray(), "?"u8.ToArray()), (" !"u8.ToArray(), "!"u8.ToArray()),
            (" ,"u8.ToArray(), ","u8.ToArray()),
            (" ' "u8.ToArray(), "'"u8.ToArray()), (" n't"u8.ToArray(), "n't"u8.ToArray()), (" 'm"u8.ToArray(), "'m"u8.ToArray()),
            (" do not"u8.ToArray(), " don't"u8.ToArray()), (" 's"u8.ToArray(), "'s"u8.ToArray()), (" 've"u8.ToArray(), "'ve"u8.ToArray()),
            (" 're"u8.ToArray(), "'re"u8.ToArray()),
        ];

        private ByteBuffer _from = new();
        private ByteBuffer _to = new();

        protected override void Token(ReadOnlySpan<byte> text, bool first, bool last, ByteBuffer output)
        {
            _from.Length = 0;
            bool joins = first || (prefix.Length > 0 && text.StartsWith(prefix));
            _from.Append(joins ? ""u8 : " "u8);
            _from.Append(text[(joins && !first ? prefix.Length : 0)..]);
            foreach ((byte[] dirty, byte[] clean) in cleanup ? s_cleanup : [])
            {
                _to.Length = 0;
                _to.AppendReplaced(_from.Span, dirty, clean);
                (_from, _to) = (_to, _from);
            }

            output.Append(_from.Span);
        }
    }

    // BPE with a mark at the end of words: the mark becomes a space; in the last token it is removed.
    private sealed class SuffixStage(byte[] suffix) : WholeTokenStage
    {
        protected override void Token(ReadOnlySpan<byte> text, bool first, bool last, ByteBuffer output) =>
            output.AppendReplaced(text, suffix, last ? ""u8 : " "u8);
    }

    // The mark becomes a space; in the first token it is removed if encoding may have prepended it.
    private sealed class MetaspaceStage(byte[] mark, bool prepended) : DecoderStage
    {
        private readonly ByteBuffer _buffer = new();
        private bool _first = true;
        private bool _later;

        public override void Token(ReadOnlySpan<byte> text, bool starts)
        {
            _first = starts ? !_later : _first;
            _later = true;
            _buffer.Length = 0;
            _buffer.AppendReplaced(text, mark, _first && prepended ? ""u8 : " "u8);
            Next!.Token(_buffer.Span, starts);
        }
    }

    // A run of <0xNN> becomes text if it is valid UTF-8 as a whole; otherwise each byte becomes U+FFFD.
    private sealed class ByteFallbackStage : DecoderStage
    {
        private readonly ByteBuffer _run = new();

        public override void Token(ReadOnlySpan<byte> text, bool starts)
        {
            if (ByteToken.Value(text) is >= 0 and int value)
            {
                _run.Append((byte)value);
            }
            else
            {
                Release();
                Next!.Token(text, starts);
            }
        }

        public override void Flush()
        {
            Release();
            base.Flush();
        }

        private void Release()
        {
            if (_run.Length == 0)
            {
                return;
            }

            if (System.Text.Unicode.Utf8.IsValid(_run.Span))
            {
                Next!.Token(_run.Span, starts: true);
            }
            else
            {
                for (int i = 0; i < _run.Length; i++)
                {
                    Next!.Token("\uFFFD"u8, starts: true);
                }
            }

            _run.Length = 0;
        }
    }

    // Decodes the bytes of all tokens as one string of UTF-8, with one U+FFFD for each maximal invalid part. An incomplete character is held back.
    private sealed class BytesStage : DecoderStage
    {
        private readonly ByteBuffer _held = new();
        private readonly ByteBuffer _text = new();
        private bool _any;

        public override void Token(ReadOnlySpan<byte> token, bool starts)
        {
            ByteAlphabet.Decode(token, _held);
            Emit(final: false);
        }

        public override void Flush()
        {
            Emit(final: true);
            base.Flush();
        }

        private void Emit(bool final)
        {
            ReadOnlySpan<byte> bytes = _held.Span;
            _text.Length = 0;
            int done = 0;
            while (done < bytes.Length)
            {
                OperationStatus status = Rune.DecodeFromUtf8(bytes[done..], out _, out int used);
                if (status == OperationStatus.NeedMoreData && !final)
                {
                    break;
                }

                _text.Append(status == OperationStatus.Done ? bytes.Slice(done, used) : "\uFFFD"u8);
                done += used;
            }

            _held.RemoveFront(done);
            if (_text.Length > 0)
            {
                Next!.Token(_text.Span, !_any);
                _any = true;
            }
        }
    }
}

/// <summary>One step of decoding, with the state of one text. A token may arrive in pieces; only its first piece starts it.</summary>
internal abstract class DecoderStage
{
    public DecoderStage? Next { get; set; }

    public abstract void Token(ReadOnlySpan<byte> text, bool starts);

    /// <summary>Passes on all text that was held back.</summary>
    public virtual void Flush() => Next?.Flush();
}

/// <summary>A step that needs whole tokens, and so holds each token back until the next one starts or the text ends.</summary>
internal abstract class WholeTokenStage : DecoderStage
{
    private readonly ByteBuffer _token = new();
    private readonly ByteBuffer _output = new();
    private bool _holds;
    private bool _any;

    public sealed override void Token(ReadOnlySpan<byte> text, bool starts)
    {
        if (starts)
        {
            Release(last: false);
        }

        _token.Append(text);
        _holds = true;
    }

    public sealed override void Flush()
    {
        Release(last: true);
        base.Flush();
    }

    /// <summary>Appends the result of a token.</summary>
    protected abstract void Token(ReadOnlySpan<byte> text, bool first, bool last, ByteBuffer output);

    private void Release(bool last)
    {
        if (_holds)
        {
            _output.Length = 0;
            Token(_token.Span, !_any, last, _output);
            (_holds, _any, _token.Length) = (false, true, 0);
            Next!.Token(_output.Span, starts: true);
        }
    }
}

/// <summary>Tokens that represent one byte: <c>&lt;0xNN&gt;</c>.</summary>
internal static class ByteToken
{
    public static string Name(int value) => $"<0x{value:X2}>";

    /// <summary>The byte that a token's text represents, -1 if none.</summary>
    public static int Value(ReadOnlySpan<byte> text)
    {
        if (text.Length != 6 || !text.StartsWith("<0x"u8) || text[5] != '>' || !char.IsAsciiHexDigit((char)text[3])
            || !char.IsAsciiHexDigit((char)text[4]))
        {
            return -1;
        }

        return Convert.FromHexString([(char)text[3], (char)text[4]])[0];
    }
}
