using System.Buffers;
using System.Text;

namespace Tiller.Tokens;

/// <summary>The decoder of tokenizer.json: tokens → text. A description; <see cref="NewState"/> runs it.</summary>
internal sealed class TokenDecoder
{
    private const int MostStages = 64;

    private readonly List<Func<DecoderStage>> stages = [];
    private double growth = 1;

    private TokenDecoder()
    {
    }

    public static TokenDecoder Read(TokenizerNode node)
    {
        var decoder = new TokenDecoder();
        if (node.IsNull)
        {
            decoder.stages.Add(static () => new JoinStage());
            return decoder;
        }

        bool fused = false;
        decoder.Add(node, ref fused);
        return decoder;
    }

    /// <summary>A new chain of stages that ends in the buffer.</summary>
    public DecoderStage NewState(ByteBuffer output)
    {
        DecoderStage next = new OutputStage(output);
        for (int i = stages.Count - 1; i >= 0; i--)
        {
            DecoderStage stage = stages[i]();
            stage.Next = next;
            next = stage;
        }

        return next;
    }

    private void Add(TokenizerNode node, ref bool fused)
    {
        string kind = node.Kind();
        if (stages.Count >= MostStages)
        {
            throw new TokenizerException(TokenizerError.Limit, node.Path, null, $"a decoder has at most {MostStages} steps.");
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
                stages.Add(static () => new BytesStage());
                fused = true;
                break;
            case "ByteFallback":
                stages.Add(static () => new ByteFallbackStage());
                break;
            case "Fuse":
                stages.Add(static () => new FuseStage());
                fused = true;
                break;
            case "Replace":
                byte[] pattern = TextNormalizer.Pattern(node["pattern"]);
                byte[] content = node["content"].Utf8();
                if (fused && Encoding.UTF8.GetCharCount(pattern) != 1)
                {
                    throw node.Unsupported(node["pattern"]["String"].Text(), "one character as the pattern of a Replace after Fuse");
                }

                CheckGrowth(node, pattern, content);
                stages.Add(() => new ReplaceStage(pattern, content));
                break;
            case "Strip":
                byte[] strip = Character(node["content"]);
                int start = node["start"].Integer(0, int.MaxValue);
                if (node["stop"].Integer(0, int.MaxValue) != 0)
                {
                    throw node["stop"].Unsupported("stop", "a Strip at the start only");
                }

                stages.Add(() => new StripStage(strip, start));
                break;
            case "Metaspace":
                byte[] mark = Character(node["replacement"]);
                string scheme = node["prepend_scheme"].TextOrNull() ?? (node["add_prefix_space"].Flag(absent: true) ? "always" : "never");
                stages.Add(() => new MetaspaceStage(mark, scheme != "never"));
                break;
            default:
                throw node.Unsupported(kind, "Sequence, ByteLevel, ByteFallback, Fuse, Replace, Strip, Metaspace");
        }
    }

    // One character: of an empty text there is no next occurrence.
    private static byte[] Character(TokenizerNode node) => node.Text().EnumerateRunes().Count() == 1 ? node.Utf8() : throw node.Wrong("one character");

    private void CheckGrowth(TokenizerNode node, byte[] pattern, byte[] content)
    {
        growth *= Math.Max(1, (double)content.Length / pattern.Length);
        if (growth > TextNormalizer.MostGrowth)
        {
            throw new TokenizerException(TokenizerError.Limit, node.Path, null,
                $"the decoder can make text more than {TextNormalizer.MostGrowth} times as long; use a shorter replacement.");
        }
    }

    private sealed class OutputStage(ByteBuffer output) : DecoderStage
    {
        public override void Token(ReadOnlySpan<byte> text, bool starts) => output.Append(text);
    }

    // No decoder: tokens with a space between.
    private sealed class JoinStage : DecoderStage
    {
        private bool any;

        public override void Token(ReadOnlySpan<byte> text, bool starts)
        {
            if (starts && any)
            {
                Next!.Token(" "u8, starts: true);
            }

            any = true;
            Next!.Token(text, starts);
        }
    }

    private sealed class FuseStage : DecoderStage
    {
        private bool any;

        public override void Token(ReadOnlySpan<byte> text, bool starts)
        {
            Next!.Token(text, !any);
            any = true;
        }
    }

    private sealed class ReplaceStage(byte[] pattern, byte[] content) : DecoderStage
    {
        private readonly ByteBuffer buffer = new();

        public override void Token(ReadOnlySpan<byte> text, bool starts)
        {
            buffer.Length = 0;
            TextNormalizer.Replace(text, pattern, content, buffer);
            Next!.Token(buffer.Span, starts);
        }
    }

    // Up to `most` leading occurrences of a token's first characters; a token may come in several pieces (after Fuse).
    private sealed class StripStage(byte[] content, int most) : DecoderStage
    {
        private int left;

        public override void Token(ReadOnlySpan<byte> text, bool starts)
        {
            if (starts)
            {
                left = most;
            }

            while (left > 0 && text.StartsWith(content))
            {
                text = text[content.Length..];
                left--;
            }

            if (!text.IsEmpty)
            {
                left = 0;
            }

            Next!.Token(text, starts);
        }
    }

    // The mark becomes a space; in the first token it vanishes if encoding had prepended one.
    private sealed class MetaspaceStage(byte[] mark, bool prepended) : DecoderStage
    {
        private readonly ByteBuffer buffer = new();
        private bool first = true;
        private bool later;

        public override void Token(ReadOnlySpan<byte> text, bool starts)
        {
            first = starts ? !later : first;
            later = true;
            buffer.Length = 0;
            TextNormalizer.Replace(text, mark, first && prepended ? ""u8 : " "u8, buffer);
            Next!.Token(buffer.Span, starts);
        }
    }

    // A run of <0xNN> is text if it is valid UTF-8 as a whole; otherwise each byte is one U+FFFD.
    private sealed class ByteFallbackStage : DecoderStage
    {
        private readonly ByteBuffer run = new();

        public override void Token(ReadOnlySpan<byte> text, bool starts)
        {
            if (ByteToken.Value(text) is >= 0 and int value)
            {
                run.Append((byte)value);
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
            if (run.Length == 0)
            {
                return;
            }

            if (System.Text.Unicode.Utf8.IsValid(run.Span))
            {
                Next!.Token(run.Span, starts: true);
            }
            else
            {
                for (int i = 0; i < run.Length; i++)
                {
                    Next!.Token("\uFFFD"u8, starts: true);
                }
            }

            run.Length = 0;
        }
    }

    // All tokens' bytes as one lossy UTF-8 string: one U+FFFD per maximal invalid part. An unfinished character is held back.
    private sealed class BytesStage : DecoderStage
    {
        private readonly ByteBuffer held = new();
        private readonly ByteBuffer text = new();
        private bool any;

        public override void Token(ReadOnlySpan<byte> token, bool starts)
        {
            ByteAlphabet.Decode(token, held);
            Emit(final: false);
        }

        public override void Flush()
        {
            Emit(final: true);
            base.Flush();
        }

        private void Emit(bool final)
        {
            ReadOnlySpan<byte> bytes = held.Span;
            text.Length = 0;
            int done = 0;
            while (done < bytes.Length)
            {
                OperationStatus status = Rune.DecodeFromUtf8(bytes[done..], out _, out int used);
                if (status == OperationStatus.NeedMoreData && !final)
                {
                    break;
                }

                text.Append(status == OperationStatus.Done ? bytes.Slice(done, used) : "\uFFFD"u8);
                done += used;
            }

            held.RemoveFront(done);
            if (text.Length > 0)
            {
                Next!.Token(text.Span, !any);
                any = true;
            }
        }
    }
}

/// <summary>One step of decoding, with the state of one text. A token may arrive in pieces; only its first piece starts it.</summary>
internal abstract class DecoderStage
{
    public DecoderStage? Next { get; set; }

    public abstract void Token(ReadOnlySpan<byte> text, bool starts);

    /// <summary>Passes on what was held back.</summary>
    public virtual void Flush() => Next?.Flush();
}

/// <summary>Tokens that stand for one byte: <c>&lt;0xNN&gt;</c>.</summary>
internal static class ByteToken
{
    public static string Name(int value) => $"<0x{value:X2}>";

    /// <summary>The byte a token's text stands for, or -1.</summary>
    public static int Value(ReadOnlySpan<byte> text)
    {
        if (text.Length != 6 || !text.StartsWith("<0x"u8) || text[5] != '>' || !char.IsAsciiHexDigit((char)text[3]) || !char.IsAsciiHexDigit((char)text[4]))
        {
            return -1;
        }

        return Convert.FromHexString([(char)text[3], (char)text[4]])[0];
    }
}
