using System.Security.Cryptography;
using Tiller.Decode;
using Tiller.Scheduling;

namespace Tiller.Serving;

/// <summary>The texts of one request that are being decoded. Disposing of it ends texts that have not ended.</summary>
internal sealed class Answer : IDisposable
{
    private readonly TillerService _service;

    private Answer(TillerService service, CompletionRequest request, int key)
    {
        (_service, Request, Key) = (service, request, key);
        Id = (request.IsChat ? "chatcmpl-" : "cmpl-") + Convert.ToHexStringLower(RandomNumberGenerator.GetBytes(16));
        CreatedAt = service.Now;
        Steering = request.Steering is null ? null : new AnswerSteering(request.Steering);
    }

    /// <summary>The id, which cannot be guessed: a client that knows it and uses the same API key may change λ.</summary>
    public string Id { get; }

    /// <summary>The number of the API key of the request.</summary>
    public int Key { get; }

    public CompletionRequest Request { get; }

    public DateTimeOffset CreatedAt { get; }

    public AnswerSteering? Steering { get; }

    public IReadOnlyList<Choice> Choices { get; private set; } = [];

    /// <summary>Submits the texts of a request.</summary>
    /// <exception cref="RefusedException">The scheduler refuses a text. No text is decoded then.</exception>
    /// <exception cref="TillerException">A prompt is too long, or an option is out of range.</exception>
    public static Answer Begin(TillerService service, CompletionRequest request, int key)
    {
        var answer = new Answer(service, request, key);
        try
        {
            answer.Submit();
            service.Answers.Add(answer);
            return answer;
        }
        catch
        {
            answer.Dispose();
            throw;
        }
    }

    /// <summary>Ends the texts that have not ended.</summary>
    public void Dispose()
    {
        _service.Answers.Remove(this);
        foreach (var choice in Choices)
        {
            choice.Text.Dispose();
        }
    }

    // All texts are taken, or none.
    private void Submit()
    {
        var asked = new List<(int[] Prompt, GenerationOptions Options, bool IsSteered)>();
        if (Request.Steering is { Compare: true })
        {
            // Both have the same seed, so that the texts differ only by the controllers.
            Add(0, Request.Prompts[0], isSteered: false);
            Add(0, Request.Prompts[0], isSteered: true);
        }
        else
        {
            foreach (int[] prompt in Request.Prompts)
            {
                for (int i = 0; i < Request.N; i++)
                {
                    Add(asked.Count, prompt, Steering is not null);
                }
            }
        }

        var texts = _service.Scheduler.SubmitAll([.. asked.Select(one => (one.Prompt, one.Options))]);
        Choices = [.. asked.Select((one, i) => new Choice(i, texts[i], one.Options, one.IsSteered ? Steering : null, Keeps(one.Options)))];
        foreach (var choice in Choices.Where(choice => choice.Steering is not null))
        {
            Steering!.Add(choice.Text);
        }

        void Add(int draw, int[] prompt, bool isSteered)
        {
            var options = Request.ToOptions(draw, prompt, isSteered ? Steering!.First : null, _service);
            asked.Add((prompt, !isSteered ? options : options with
            {
                SteeredTokens = Request.Steering!.Tokens,
                ShowsSteering = Request.Steering.Telemetry != Telemetry.None,
            }, isSteered));
        }

        bool Keeps(GenerationOptions options) => options.Sampling.LogProbabilities is not null
            || (options.ShowsSteering && Request.Steering!.Telemetry >= Telemetry.Tokens);
    }
}

/// <summary>The answers that are being decoded, by id.</summary>
internal sealed class RunningAnswers
{
    private readonly System.Collections.Concurrent.ConcurrentDictionary<string, Answer> _answers = new(StringComparer.Ordinal);

    /// <summary>The number of answers.</summary>
    public int Count => _answers.Count;

    public void Add(Answer answer) => _answers[answer.Id] = answer;

    public void Remove(Answer answer) => _answers.TryRemove(answer.Id, out _);

    /// <summary>The answer with an id, if its request had the same API key; null if there is none.</summary>
    public Answer? Find(string? id, int key) => id is not null && _answers.TryGetValue(id, out var answer) && answer.Key == key ? answer : null;
}
