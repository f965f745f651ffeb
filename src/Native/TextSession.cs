using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;
using Tiller.Tokens;

namespace Tiller.Native;

/// <summary>
/// A session with its sampler and its text. The token drawn last is run by the next call that needs it, so that λ may change between the two.
/// </summary>
internal sealed class TextSession : IDisposable
{
    private readonly TokenStream _stream;
    private string _text = "";
    private bool _isShown;

    public TextSession(LanguageModel model, SamplingOptions sampling)
    {
        Sampler = new Sampler(sampling, model.Config.V);
        Session = new Session(model);
        _stream = model.Tokenizer.NewStream();
    }

    public Session Session { get; }

    public Sampler Sampler { get; }

    public BatchRow Row => new(Session, Sampler);

    /// <summary>Drawn and not yet run; null if there is none.</summary>
    public int? Pending { get; private set; }

    /// <summary>Bytes of what the last token added, for whoever asks.</summary>
    public NativeText Piece { get; } = new();

    /// <summary>Steers from the next token that is run on.</summary>
    public void Steer(IReadOnlyList<(Controller Controller, double Lambda)> uses, float maxEffort)
    {
        var laws = new FeedbackLaw[uses.Count];
        for (int i = 0; i < laws.Length; i++)
        {
            uses[i].Controller.CheckModel(Session.Model);
            laws[i] = uses[i].Controller.ToLaw(uses[i].Lambda, maxEffort);
        }

        Session.Use(laws.Length == 0 ? null : laws.Length == 1 ? laws[0] : FeedbackLaw.Sum(laws));
    }

    public void Append(ReadOnlySpan<int> ids)
    {
        Run();
        Session.Append(ids);
    }

    public int Draw()
    {
        Run();
        int id = Session.Draw(Sampler);
        Take(id);
        return id;
    }

    /// <summary>Takes a token that was drawn.</summary>
    public void Take(int id) => (Pending, _text, _isShown) = (id, _stream.Append(id), false);

    /// <summary>The pending token has been run.</summary>
    public void HasRun() => Pending = null;

    /// <summary>No token comes any more: what was held back as half a character is text now.</summary>
    public void Flush() => (_text, _isShown) = (_text + _stream.Flush(), false);

    /// <summary>Makes bytes of what the last token added. Those that a callback is reading stay.</summary>
    public void ShowPiece()
    {
        if (!_isShown)
        {
            Piece.Set(_text);
            _isShown = true;
        }
    }

    /// <summary>Begins a call, which other threads cannot come into, and ends with what is returned.</summary>
    /// <exception cref="InvalidOperationException">Another thread is in a call.</exception>
    public Turn.Call Enter() => Session.Enter();

    /// <summary>Begins a call that a callback may not make.</summary>
    /// <exception cref="InvalidOperationException">A call is under way, on this thread or another.</exception>
    public Turn.Call EnterAlone()
    {
        var call = Session.Enter();
        return call.IsPart
            ? throw new InvalidOperationException("The session is in use by the call whose callback this is: it may be steered there, and read.")
            : call;
    }

    /// <inheritdoc/>
    public void Dispose() => Session.Dispose(); // Piece is freed when nobody can reach it: a callback may be reading it

    private void Run()
    {
        if (Pending is { } id)
        {
            Session.Append(id);
            Pending = null;
        }
    }
}
