using System.Text;

namespace Tiller.Tokens;

/// <summary>One step of a normalizer.</summary>
internal abstract class NormalizerStage
{
    /// <summary>False where a quick look shows that the text stays as it is.</summary>
    public virtual bool MayChange(ReadOnlySpan<byte> text) => true;

    /// <summary>Appends the changed text.</summary>
    /// <param name="text">Valid UTF-8, not empty.</param>
    /// <param name="output">Receives UTF-8.</param>
    /// <returns>Whether the changed text begins where the text began; false if the first character was lost.</returns>
    public abstract bool Append(ReadOnlySpan<byte> text, ByteBuffer output);
}

/// <summary>A step that looks at one code point after the other.</summary>
internal abstract class CodePointStage : NormalizerStage
{
    public sealed override bool Append(ReadOnlySpan<byte> text, ByteBuffer output)
    {
        int before = output.Length;
        bool keepsStart = false;
        for (int i = 0; i < text.Length;)
        {
            int code = CharClasses.CodeAt(text, i, out int length);
            output.Steps?.Take();
            Append(code, text.Slice(i, length), output);
            keepsStart |= i == 0 && output.Length > before;
            i += length;
        }

        return keepsStart;
    }

    /// <summary>Appends what becomes of a code point.</summary>
    protected abstract void Append(int code, ReadOnlySpan<byte> utf8, ByteBuffer output);
}

/// <summary>A normal form of Unicode: composed (NFC, NFKC) or taken apart (NFD, NFKD), with compatibility mappings (NFKC, NFKD) or without.</summary>
internal sealed class UnicodeStage(bool compat, bool composed) : NormalizerStage
{
    public override bool Append(ReadOnlySpan<byte> text, ByteBuffer output)
    {
        if (composed)
        {
            UnicodeNormalization.Append(text, compat, output);
        }
        else
        {
            UnicodeNormalization.AppendDecomposed(text, compat, output);
        }

        return true;
    }
}

/// <summary>Small letters, as Unicode maps each character whatever stands beside it.</summary>
internal sealed class LowercaseStage : CodePointStage
{
    protected override void Append(int code, ReadOnlySpan<byte> utf8, ByteBuffer output)
    {
        if (code == 0x130)
        {
            output.Append("i\u0307"u8); // the only one that becomes two
            return;
        }

        Span<byte> lower = stackalloc byte[4];
        output.Append(lower[..Rune.ToLowerInvariant(new Rune(code)).EncodeToUtf8(lower)]);
    }
}

/// <summary>Characters of a class are left out.</summary>
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

/// <summary>No white space at the ends.</summary>
internal sealed class StripStage(bool left, bool right) : NormalizerStage
{
    public override bool Append(ReadOnlySpan<byte> text, ByteBuffer output)
    {
        int start = left ? AddedTokens.SpacesAfter(text, 0, text.Length) : 0;
        int end = right ? AddedTokens.SpacesBefore(text, text.Length) : text.Length;
        output.Append(text[start..Math.Max(start, end)]);
        return start == 0;
    }
}

/// <summary>A text before the text.</summary>
internal sealed class PrependStage(byte[] prepend) : NormalizerStage
{
    public override bool Append(ReadOnlySpan<byte> text, ByteBuffer output)
    {
        output.Append(prepend);
        output.Append(text);
        return true;
    }
}

/// <summary>A string replaced.</summary>
internal sealed class ReplaceStage(byte[] pattern, byte[] content) : NormalizerStage
{
    public override bool MayChange(ReadOnlySpan<byte> text) => text.IndexOf(pattern) >= 0;

    public override bool Append(ReadOnlySpan<byte> text, ByteBuffer output)
    {
        output.AppendReplaced(text, pattern, content);
        return !text.StartsWith(pattern) || Replacement.KeepsStart(pattern, content);
    }
}

/// <summary>The matches of a pattern replaced, empty ones too.</summary>
internal sealed class ReplaceMatchesStage(TextPattern pattern, byte[] content) : NormalizerStage
{
    public override bool Append(ReadOnlySpan<byte> text, ByteBuffer output)
    {
        bool keepsStart = true;
        var state = new PatternState { Steps = output.Steps };
        pattern.Begin(text, state);
        int at = 0;
        while (pattern.Next(text, at, state, out int start, out int end))
        {
            keepsStart &= start > 0 || Replacement.KeepsStart(text[..end], content);
            output.Append(text[at..start]);
            output.Append(content);
            at = end;
        }

        output.Append(text[at..]);
        return keepsStart;
    }
}

/// <summary>What is put in the place of a match.</summary>
internal static class Replacement
{
    /// <summary>
    /// Whether a text begins where it began after its beginning has been replaced. As in the reference, what replaces several characters comes from
    /// the last of them.
    /// </summary>
    public static bool KeepsStart(ReadOnlySpan<byte> match, ReadOnlySpan<byte> content) =>
        match.IsEmpty || (!content.IsEmpty && CharClasses.Count(match) == 1);
}

/// <summary>Bytes in <see cref="ByteAlphabet"/>.</summary>
internal sealed class AlphabetStage : NormalizerStage
{
    public override bool Append(ReadOnlySpan<byte> text, ByteBuffer output)
    {
        ByteAlphabet.Append(text, output);
        return true;
    }
}

/// <summary>BERT's cleaning: control characters left out, every white space a plain one.</summary>
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

/// <summary>A space before and after every ideograph.</summary>
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
