using System.Text;

namespace Tiller.Tokens;

/// <summary>One step of a normalizer.</summary>
internal abstract class NormalizerStage
{
    /// <summary>False if a quick check shows that the text will not change.</summary>
    public virtual bool MayChange(ReadOnlySpan<byte> text) => true;

    /// <summary>Appends the normalised text.</summary>
    /// <param name="text">Valid UTF-8, not empty.</param>
    /// <param name="output">Receives UTF-8.</param>
    public abstract void Append(ReadOnlySpan<byte> text, ByteBuffer output);
}

/// <summary>A step that maps each code point by itself.</summary>
internal abstract class CodePointStage : NormalizerStage
{
    public sealed override void Append(ReadOnlySpan<byte> text, ByteBuffer output)
    {
        for (int i = 0; i < text.Length;)
        {
            int code = CharClasses.CodeAt(text, i, out int length);
            output.Steps?.Take();
            Append(code, text.Slice(i, length), output);
            i += length;
        }
    }

    /// <summary>Appends the result of a code point.</summary>
    protected abstract void Append(int code, ReadOnlySpan<byte> utf8, ByteBuffer output);
}

/// <summary>A Unicode normal form: composed (NFC, NFKC) or decomposed (NFD, NFKD), with compatibility mappings (NFKC, NFKD) or without.</summary>
internal sealed class UnicodeStage(bool compat, bool composed) : NormalizerStage
{
    public override void Append(ReadOnlySpan<byte> text, ByteBuffer output)
    {
        if (composed)
        {
            UnicodeNormalization.Append(text, compat, output);
        }
        else
        {
            UnicodeNormalization.AppendDecomposed(text, compat, output);
        }
    }
}

/// <summary>Lower case, where Unicode maps each character independently of its neighbours.</summary>
internal sealed class LowercaseStage : CodePointStage
{
    protected override void Append(int code, ReadOnlySpan<byte> utf8, ByteBuffer output)
    {
        if (code == 0x130)
        {
            output.Append("i\u0307"u8); // the only character whose lower case has two code points
            return;
        }

        Span<byte> lower = stackalloc byte[4];
        output.Append(lower[..Rune.ToLowerInvariant(new Rune(code)).EncodeToUtf8(lower)]);
    }
}

/// <summary>Removes the characters of a class.</summary>
internal sealed class WithoutStage(Func<int, bool> belongs) : CodePointStage
{
    protected override void Append(int code, ReadOnlySpan<byte> utf8, ByteBuffer output)
    {
        if (!belongs(code))
        {
            output.Append(utf8);
        }
    }
}

/// <summary>Removes white space at the ends.</summary>
internal sealed class StripStage(bool left, bool right) : NormalizerStage
{
    public override void Append(ReadOnlySpan<byte> text, ByteBuffer output)
    {
        int start = left ? AddedTokens.SpacesAfter(text, 0, text.Length) : 0;
        int end = right ? AddedTokens.SpacesBefore(text, text.Length) : text.Length;
        output.Append(text[start..Math.Max(start, end)]);
    }
}

/// <summary>Prepends a text.</summary>
internal sealed class PrependStage(byte[] prepend) : NormalizerStage
{
    public override void Append(ReadOnlySpan<byte> text, ByteBuffer output)
    {
        output.Append(prepend);
        output.Append(text);
    }
}

/// <summary>Replaces a string.</summary>
internal sealed class ReplaceStage(byte[] pattern, byte[] content) : NormalizerStage
{
    public override bool MayChange(ReadOnlySpan<byte> text) => text.IndexOf(pattern) >= 0;

    public override void Append(ReadOnlySpan<byte> text, ByteBuffer output) => output.AppendReplaced(text, pattern, content);
}

/// <summary>Replaces the matches of a pattern, including empty matches.</summary>
internal sealed class ReplaceMatchesStage(TextPattern pattern, byte[] content) : NormalizerStage
{
    public override void Append(ReadOnlySpan<byte> text, ByteBuffer output)
    {
        var state = new PatternState { Steps = output.Steps };
        pattern.Begin(text, state);
        int at = 0;
        while (pattern.Next(text, at, state, out int start, out int end))
        {
            output.Append(text[at..start]);
            output.Append(content);
            at = end;
        }

        output.Append(text[at..]);
    }
}

/// <summary>Writes bytes in <see cref="ByteAlphabet"/>.</summary>
internal sealed class AlphabetStage : NormalizerStage
{
    public override void Append(ReadOnlySpan<byte> text, ByteBuffer output) => ByteAlphabet.Append(text, output);
}

/// <summary>BERT's cleaning: removes control characters and replaces every white space by a plain space.</summary>
internal sealed class CleanStage : CodePointStage
{
    protected override void Append(int code, ReadOnlySpan<byte> utf8, ByteBuffer output)
    {
        bool plainControl = code is '\t' or '\n' or '\r';
        if (!plainControl && (code == 0xFFFD || CharClasses.IsControl(code)))
        {
            return;
        }

        output.Append(CharClasses.IsSpace(code) ? " "u8 : utf8);
    }
}

/// <summary>Puts a space before and after every ideograph.</summary>
internal sealed class IdeographStage : CodePointStage
{
    protected override void Append(int code, ReadOnlySpan<byte> utf8, ByteBuffer output)
    {
        // The blocks that BERT's own code lists.
        bool ideograph = code is >= 0x4E00 and <= 0x9FFF or >= 0x3400 and <= 0x4DBF or >= 0x20000 and <= 0x2A6DF or >= 0x2A700 and <= 0x2B73F
            or >= 0x2B740 and <= 0x2B81F or >= 0x2B920 and <= 0x2CEAF or >= 0xF900 and <= 0xFAFF or >= 0x2F800 and <= 0x2FA1F;
        if (ideograph)
        {
            output.Append((byte)' ');
        }

        output.Append(utf8);
        if (ideograph)
        {
            output.Append((byte)' ');
        }
    }
}
