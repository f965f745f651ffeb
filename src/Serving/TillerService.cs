using Tiller.Chat;
using Tiller.Decode;
using Tiller.Model;
using Tiller.Scheduling;

namespace Tiller.Serving;

/// <summary>
/// A model that is served, with its scheduler, its controllers and the answers that are being decoded. All members may be called by any thread at any
/// time.
/// </summary>
public sealed class TillerService : IDisposable
{
    private const string EndOfChatMl = "<|im_end|>";

    private readonly TimeProvider _clock;
    private readonly IDisposable _registration;
    private readonly ChatFormat? _chat; // replaces the checkpoint's; null if it does not
    private volatile bool _isDraining;

    /// <summary>Creates a service and starts its scheduler.</summary>
    /// <param name="model">The model. The caller owns it, and must not dispose of it before the service.</param>
    /// <param name="options">The options; null for the defaults.</param>
    /// <exception cref="ArgumentException">An option is outside its range.</exception>
    /// <exception cref="ChatException">The chat template cannot be used.</exception>
    /// <exception cref="TillerException">The checkpoint's files have changed since it was loaded.</exception>
    /// <exception cref="IOException">The folder of controllers cannot be read or created.</exception>
    /// <exception cref="ObjectDisposedException">The model has been disposed of.</exception>
    public TillerService(LanguageModel model, ServiceOptions? options = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        Options = options ?? new ServiceOptions();
        Options.Validate();
        (Model, Fingerprint) = (model, model.Fingerprint);
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

    /// <summary>The model's id in requests and answers.</summary>
    public string ModelName { get; }

    /// <summary>The options.</summary>
    public ServiceOptions Options { get; }

    /// <summary>The scheduler that runs the texts.</summary>
    public Scheduler Scheduler { get; }

    /// <summary>The time at which the service was created.</summary>
    public DateTimeOffset StartedAt { get; }

    /// <summary>Whether new requests are accepted.</summary>
    public bool IsReady => !_isDraining;

    /// <summary>Problems with files in the controllers' folder, as a sentence for each.</summary>
    public IReadOnlyList<string> Warnings => Controllers.Warnings;

    /// <summary>The model's fingerprint.</summary>
    internal string Fingerprint { get; }

    /// <summary>The API keys.</summary>
    internal ApiKeys Keys { get; }

    /// <summary>The controllers that requests may name.</summary>
    internal ControllerLibrary Controllers { get; }

    /// <summary>The running fit, if any.</summary>
    internal FitSlot Fits { get; } = new();

    /// <summary>The answers that are being decoded.</summary>
    internal RunningAnswers Answers { get; } = new();

    /// <summary>The present time.</summary>
    internal DateTimeOffset Now => _clock.GetUtcNow();

    /// <summary>The chat format, which turns messages into ids.</summary>
    /// <exception cref="Tiller.Chat.ChatException">The checkpoint has no chat template.</exception>
    internal ChatFormat Chat => _chat ?? Model.Chat;

    /// <summary>The ids that end an answer.</summary>
    internal IReadOnlyList<int> ChatEndIds { get; }

    /// <summary>The stop strings of an answer. If the vocabulary does not have ChatML's end mark as a token, they include it.</summary>
    internal StopStrings WithChatStops(StopStrings stops) => _chat is not { Name: "chatml" } || Model.Tokenizer.IdOf(EndOfChatMl) is not null
        ? stops
        : new StopStrings([.. Enumerable.Range(0, stops.Count).Select(i => stops[i]), EndOfChatMl]);

    /// <summary>Accepts no more requests, waits for the running texts, and ends those that are left after a while.</summary>
    /// <param name="patience">Time that running texts have to end.</param>
    /// <returns>A task that completes when no text is left.</returns>
    public Task DrainAsync(TimeSpan patience)
    {
        _isDraining = true;
        Fits.Close();
        return Scheduler.DrainAsync(patience);
    }

    /// <summary>Ends every text, and waits for the step that is running.</summary>
    public void Dispose()
    {
        _isDraining = true;
        _registration.Dispose();
        Fits.Close();
        Scheduler.Dispose();
    }

    /// <summary>The default id of a model: the last part of its name.</summary>
    internal static string NameOf(LanguageModel model) => Path.GetFileName(Path.TrimEndingDirectorySeparator(model.Name));
}
