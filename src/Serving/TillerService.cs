using Tiller.Model;
using Tiller.Scheduling;

namespace Tiller.Serving;

/// <summary>
/// One model that is served: its scheduler, its controllers and the answers under way. Every member may be called by any thread at any time.
/// </summary>
public sealed class TillerService : IDisposable
{
    private readonly TimeProvider _clock;
    private readonly IDisposable _registration;
    private volatile bool _isDraining;

    /// <summary>Starts to serve.</summary>
    /// <param name="model">Stays its caller's; is not to be disposed of before the service.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <exception cref="ArgumentException">An option is outside its range.</exception>
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
        Scheduler = new Scheduler(model, Options.Scheduler);
        Keys = new ApiKeys(Options.ApiKeys);
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

    /// <summary>Who may call.</summary>
    internal ApiKeys Keys { get; }

    /// <summary>Takes no request from now on, lets those that it has taken end, and ends what is left after a while.</summary>
    /// <param name="patience">How long they have.</param>
    /// <returns>Completed once there is no text left.</returns>
    public Task DrainAsync(TimeSpan patience)
    {
        _isDraining = true;
        return Scheduler.DrainAsync(patience);
    }

    /// <summary>Ends every text, and waits for the step under way.</summary>
    public void Dispose()
    {
        _isDraining = true;
        _registration.Dispose();
        Scheduler.Dispose();
    }

    /// <summary>A model's id where none is given: the last part of its name.</summary>
    internal static string NameOf(LanguageModel model) => Path.GetFileName(Path.TrimEndingDirectorySeparator(model.Name));
}
