using System.Text;
using Tiller.Decode;
using Tiller.Scheduling;

namespace Tiller.Serving;

/// <summary>One text of an answer, with its tokens so far.</summary>
/// <param name="index">The number of the choice.</param>
/// <param name="text">The scheduled text.</param>
/// <param name="options">How the text is continued.</param>
/// <param name="steering">The answer's steering; null for a plain text.</param>
/// <param name="keeps">Whether to keep the tokens, for log-probabilities or telemetry of a whole answer.</param>
internal sealed class Choice(int index, ScheduledText text, GenerationOptions options, AnswerSteering? steering, bool keeps)
{
    private readonly StringBuilder _text = new();
    private readonly List<GeneratedToken> _tokens = [];

    public int Index => index;

    public ScheduledText Text => text;

    public ulong Seed => options.Sampling.Seed!.Value;

    public AnswerSteering? Steering => steering;

    /// <summary>The errors and efforts of the text; null if they are not reported.</summary>
    public SteeringReadings? Readings { get; } = steering is null || !options.ShowsSteering ? null : new SteeringReadings(steering.Plan);

    /// <summary>The text so far; empty if it is streamed.</summary>
    public string Content => _text.ToString();

    /// <summary>The kept tokens.</summary>
    public IReadOnlyList<GeneratedToken> Tokens => _tokens;

    /// <summary>The last token; its stop reason says how the text ended.</summary>
    public GeneratedToken Last { get; private set; }

    /// <summary>The number of characters of the tokens so far, each decoded alone. It is the offset of the next token.</summary>
    public int Offset { get; set; }

    /// <summary>The result; null until the text has ended.</summary>
    public ScheduledResult? Result { get; private set; }

    /// <summary>Adds a token. If the text is streamed, its characters are not kept.</summary>
    public void Take(in GeneratedToken token, bool isStreamed)
    {
        Last = token;
        if (token.Steering is { } read && steering?.LawOf(read.Law) is { } law)
        {
            Readings?.Add(read, law);
        }

        if (!isStreamed)
        {
            _text.Append(token.Text);
        }

        if (keeps && !isStreamed)
        {
            _tokens.Add(token);
        }
    }

    /// <summary>Waits until the text has ended, and throws if it was ended from outside or failed.</summary>
    /// <exception cref="ApiException">The text failed, or the server has stopped.</exception>
    public async Task EndAsync(CancellationToken cancellationToken)
    {
        Result = await text.Completion;
        switch (Result.End)
        {
            case TextEnd.Stopped:
                return;
            case TextEnd.Failed:
                throw ApiException.Of(Result.Error!) is { } known
                    ? known
                    : new InvalidOperationException("A text failed because of a defect of the scheduler.", Result.Error);
            case TextEnd.Drained:
                throw ApiException.Stopping("The server stopped before the text had ended: use another server.");
            case TextEnd.SlowReader:
                throw new SlowReaderException();
            default:
                cancellationToken.ThrowIfCancellationRequested();
                throw new OperationCanceledException("The text was cancelled.");
        }
    }
}

/// <summary>A client did not read for so long that its text was dropped.</summary>
internal sealed class SlowReaderException() : TillerException("The client did not read for so long that its answer was dropped.");
