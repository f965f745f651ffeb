using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;
using Tiller.Tokens;

namespace Tiller.Native;

/// <summary>
/// A session with its sampler and its text. The last token is drawn but not run until a call needs it, so that λ may be changed in between.
/// </summary>
internal sealed class TextSession : IDisposable
{
    // A turn of its own in addition to the session's, because drawing a token and returning its text is one call, in a batch too.
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

    /// <summary>The token that has been drawn but not run; null if there is none.</summary>
    public int? Pending { get; private set; }

    /// <summary>The bytes of the text that the last token added.</summary>
    public NativeText Piece { get; } = new();

    /// <summary>Sets the controllers, beginning with the next token that is run.</summary>
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

    /// <summary>Runs the pending token, if any, and draws the next one.</summary>
    /// <exception cref="ObjectDisposedException">A callback has freed the session.</exception>
    public int Draw()
    {
        ObjectDisposedException.ThrowIf(_isFreed, this);
        Run();
        int id = Session.Draw(Sampler);
        Take(id);
        return id;
    }

    /// <summary>Accepts a drawn token.</summary>
    public void Take(int id) => (Pending, _text, _isShown) = (id, _stream.Append(id), false);

    /// <summary>Records that the pending token has been run.</summary>
    public void HasRun() => Pending = null;

    /// <summary>Ends the text: a half character that was held back becomes part of it.</summary>
    public void Flush() => (_text, _isShown) = (_text + _stream.Flush(), false);

    /// <summary>Updates <see cref="Piece"/>, unless it is current. So bytes that a callback is reading stay in place.</summary>
    public void ShowPiece()
    {
        if (!_isShown)
        {
            Piece.Set(_text);
            _isShown = true;
        }
    }

    /// <summary>Begins a call. Other threads cannot begin one until the returned object is disposed of.</summary>
    /// <exception cref="InvalidOperationException">Another thread is in a call.</exception>
    public Turn.Call Enter() => _turn.Enter();

    /// <summary>Begins a call that is not allowed inside a callback.</summary>
    /// <exception cref="InvalidOperationException">A call is running, on this thread or another.</exception>
    public Turn.Call EnterAlone()
    {
        var call = _turn.Enter();
        return call.IsPart
            ? throw new InvalidOperationException("The session is in use by the call that made this callback: a callback may only steer and read it.")
            : call;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _isFreed = true;
        _turn.Close(); // Piece is not freed here, because a callback may be reading it; the garbage collector frees it
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
