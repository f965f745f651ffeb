using System.Text;

namespace Tiller.Tokens;

/// <summary>
/// Decodes ids one by one. The joined results are exactly the result of <see cref="Tokenizer.Decode(ReadOnlySpan{int}, bool)"/> for all ids: a
/// leading space is stripped once, and a character whose bytes are in several tokens appears when it is complete. Not thread-safe.
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
    /// <param name="id">Any id; an id without a token adds nothing, as in <see cref="Tokenizer.Decode(ReadOnlySpan{int}, bool)"/>.</param>
    /// <returns>The text that is certain now; may be empty, but never has half a character.</returns>
    public string Append(int id)
    {
        Push(id);
        return Take();
    }

    /// <summary>Ends the text, and prepares the stream for a new one.</summary>
    /// <returns>The text that was held back; incomplete characters become U+FFFD.</returns>
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
