using System.Text;

namespace Tiller.Tokens;

/// <summary>
/// Decodes ids one by one. The pieces, joined, are exactly what <see cref="Tokenizer.Decode(ReadOnlySpan{int}, bool)"/> makes of all ids: a leading
/// space is stripped once, and a character whose bytes are spread over several tokens appears when it is whole. Not thread-safe.
/// </summary>
public sealed class TokenStream
{
    private readonly Tokenizer _tokenizer;
    private readonly bool _skipSpecial;
    private readonly ByteBuffer _output = new();
    private DecoderStage _stage;

    internal TokenStream(Tokenizer tokenizer, bool skipSpecial)
    {
        _tokenizer = tokenizer;
        _skipSpecial = skipSpecial;
        _stage = tokenizer.Decoder.NewState(_output);
    }

    /// <summary>Adds one id.</summary>
    /// <param name="id">Any id; one that is no token adds nothing, as in <see cref="Tokenizer.Decode(ReadOnlySpan{int}, bool)"/>.</param>
    /// <returns>The text that is certain now; may be empty. Never half a character.</returns>
    public string Append(int id)
    {
        Push(id);
        return Take();
    }

    /// <summary>Ends the text and makes the stream new.</summary>
    /// <returns>What was held back: unfinished characters as U+FFFD.</returns>
    public string Flush()
    {
        _stage.Flush();
        _stage = _tokenizer.Decoder.NewState(_output);
        return Take();
    }

    internal void Push(int id)
    {
        if (_tokenizer.Tokens.Contains(id) && !(_skipSpecial && _tokenizer.IsSpecial(id)))
        {
            _stage.Token(_tokenizer.Tokens.TextOf(id), starts: true);
        }
    }

    private string Take()
    {
        if (_output.Length == 0)
        {
            return "";
        }

        string text = Encoding.UTF8.GetString(_output.Span);
        _output.Length = 0;
        return text;
    }
}
