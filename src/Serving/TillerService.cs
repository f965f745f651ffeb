using Tiller.Chat;
using Tiller.Decode;
using Tiller.Model;
using Tiller.Scheduling;

namespace Tiller.Serving;

/// <summary>
/// One model that is served: its scheduler, its controllers and the answers under way. Every member may be called by any thread at any time.
/// </summary>
public sealed class TillerService : IDisposable
{
    private const string EndOfChatMl = "<|im_end|>";

    private readonly TimeProvider _clock;
    private readonly IDisposable _registration;
    private readonly ChatFormat? _chat; // in place of the checkpoint's
    private volatile bool _isDraining;

    /// <summary>Starts to serve.</summary>
    /// <param name="model">Stays its caller's; is not to be disposed of before the service.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <exception cref="ArgumentException">An option is outside its range.</exception>
    /// <exception cref="ChatException">The chat template cannot be used.</exception>
    /// <exception cref="IOException">The folder of controllers cannot be read or made.</exception>
    /// <exception cref="ObjectDisposedException">The model has been disposed of.</exception>
    public TillerService(LanguageModel model, ServiceOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        Options = options ?? new ServiceOptions();
        Options.Validate();
        Model = model;
        ModelName = Options.ModelName ?? NameOf(model);
        _clock = Options.Scheduler.Clock;
        StartedAt = _clock.GetUtcNow();
        Keys = new ApiKeys(Options.ApiKeys);
        _chat = Options.ChatTemplate is { } template ? ChatFormat.FromTemplate(template, model.Directory, model.Tokenizer) : null;
        ChatEndIds = [.. model.EndIds.Concat(_chat?.StopIds ?? []).Distinct()];
        Controllers = new ControllerLibrary(model, Options.ControllersDirectory);
        Scheduler = new Scheduler(model, Options.Scheduler);
        _registration = TillerTelemetry.Register(Scheduler, ModelName);
    }

    /// <summary>The model.</summary>
    public LanguageModel Model { get; }

    /// <summary>Its id in requests and answers.</summary>
    public string ModelName { get; }

    /// <summary>What it offers.</summary>
    public ServiceOptions Options { get; }

    /// <summary>Runs the texts.</summary>
    public Scheduler Scheduler { get; }

    /// <summary>When it began to serve.</summary>
    public DateTimeOffset StartedAt { get; }

    /// <summary>Whether new requests are taken.</summary>
    public bool IsReady => !_isDraining;

    /// <summary>What was odd about the controllers' folder, a sentence each.</summary>
    public IReadOnlyList<string> Warnings => Controllers.Warnings;

    /// <summary>Who may call.</summary>
    internal ApiKeys Keys { get; }

    /// <summary>What may steer.</summary>
    internal ControllerLibrary Controllers { get; }

    /// <summary>The fit under way.</summary>
    internal FitSlot Fits { get; } = new();

    /// <summary>What is under way.</summary>
    internal RunningAnswers Answers { get; } = new();

    /// <summary>The time.</summary>
    internal DateTimeOffset Now => _clock.GetUtcNow();

    /// <summary>How messages become ids.</summary>
    /// <exception cref="Tiller.Chat.ChatException">The checkpoint has no chat template.</exception>
    internal ChatFormat Chat => _chat ?? Model.Chat;

    /// <summary>Ids that end an answer.</summary>
    internal IReadOnlyList<int> ChatEndIds { get; }

    /// <summary>Stop strings of an answer: with the mark that ends one in a format whose marks this vocabulary does not have as tokens.</summary>
    internal StopStrings WithChatStops(StopStrings stops) => _chat is not { Name: "chatml" } || Model.Tokenizer.IdOf(EndOfChatMl) is not null
        ? stops
        : new StopStrings([.. Enumerable.Range(0, stops.Count).Select(i => stops[i]), EndOfChatMl]);

    /// <summary>Takes no request from now on, lets those that it has taken end, and ends what is left after a while.</summary>
    /// <param name="patience">How long they have.</param>
    /// <returns>Completed once there is no text left.</returns>
    public Task DrainAsync(TimeSpan patience)
    {
        _isDraining = true;
        Fits.Close();
        return Scheduler.DrainAsync(patience);
    }

    /// <summary>Ends every text, and waits for the step under way.</summary>
    public void Dispose()
    {
        _isDraining = true;
        _registration.Dispose();
        Fits.Close();
        Scheduler.Dispose();
    }

    /// <summary>A model's id where none is given: the last part of its name.</summary>
    internal static string NameOf(LanguageModel model) => Path.GetFileName(Path.TrimEndingDirectorySeparator(model.Name));
}
