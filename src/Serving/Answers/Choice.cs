using System.Text;
using Tiller.Decode;
using Tiller.Scheduling;

namespace Tiller.Serving;

/// <summary>One text of an answer, as far as it has come.</summary>
/// <param name="index">Its number in the answer.</param>
/// <param name="text">Under way.</param>
/// <param name="options">How it is continued.</param>
/// <param name="steering">What steers it; null for the plain model.</param>
/// <param name="keeps">Whether tokens are kept, for log-probabilities or telemetry of the whole.</param>
internal sealed class Choice(int index, ScheduledText text, GenerationOptions options, AnswerSteering? steering, bool keeps)
{
    private readonly StringBuilder _text = new();
    private readonly List<GeneratedToken> _tokens = [];

    public int Index => index;

    public ScheduledText Text => text;

    public ulong Seed => options.Sampling.Seed!.Value;

    public AnswerSteering? Steering => steering;

    /// <summary>What the loop did; null where it is not told.</summary>
    public SteeringReadings? Readings { get; } = steering is null || !options.ShowsSteering ? null : new SteeringReadings(steering.Plan);

    /// <summary>The whole text so far.</summary>
    public string Content => _text.ToString();

    /// <summary>Tokens that were kept.</summary>
    public IReadOnlyList<GeneratedToken> Tokens => _tokens;

    /// <summary>The last token; its stop reason says how the text ended.</summary>
    public GeneratedToken Last { get; private set; }

    /// <summary>Characters of the tokens so far, each by itself: where a token stands in the text.</summary>
    public int Offset { get; set; }

    /// <summary>What came of it, once it has ended.</summary>
    public ScheduledResult? Result { get; private set; }

    /// <summary>Takes a token; of a stream the text is not kept.</summary>
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

    /// <summary>Waits for its end, and tells if that was none of the text's own.</summary>
    /// <exception cref="ApiException">It was ended, or failed.</exception>
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
                    : new InvalidOperationException("A text failed by a defect of the scheduler.", Result.Error);
            case TextEnd.Drained:
                throw ApiException.Stopping("The server stopped before the text had ended: ask another one.");
            case TextEnd.SlowReader:
                throw new SlowReaderException();
            default:
                cancellationToken.ThrowIfCancellationRequested();
                throw new OperationCanceledException("The text was cancelled.");
        }
    }
}

/// <summary>A client has not read for so long that its text was dropped.</summary>
internal sealed class SlowReaderException() : TillerException("The client did not read for so long that its answer was dropped.");
