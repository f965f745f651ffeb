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
    // Its own beside the session's: what it draws and what it says of it are one call, in a batch too.
    private readonly Turn _turn;
    private readonly TokenStream _stream;
    private string _text = "";
    private bool _isShown;
    private volatile bool _isFreed;

    public TextSession(LanguageModel model, SamplingOptions sampling)
    {
        Sampler = new Sampler(sampling, model.Config.V);
        Session = new Session(model);
        _stream = model.Tokenizer.NewStream();
        _turn = new Turn("tiller_session", "session", "Give each thread a session of its own.", free: Session.Dispose);
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

    /// <summary>Draws the next token, after the one before has been run.</summary>
    /// <exception cref="ObjectDisposedException">A callback has freed the session.</exception>
    public int Draw()
    {
        ObjectDisposedException.ThrowIf(_isFreed, this);
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
    public Turn.Call Enter() => _turn.Enter();

    /// <summary>Begins a call that a callback may not make.</summary>
    /// <exception cref="InvalidOperationException">A call is under way, on this thread or another.</exception>
    public Turn.Call EnterAlone()
    {
        var call = _turn.Enter();
        return call.IsPart
            ? throw new InvalidOperationException("The session is in use by the call whose callback this is: it may be steered there, and read.")
            : call;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _isFreed = true;
        _turn.Close(); // Piece is freed when nobody can reach it: a callback may be reading it
    }

    private void Run()
    {
        if (Pending is { } id)
        {
            Session.Append(id);
            Pending = null;
        }
    }
}
