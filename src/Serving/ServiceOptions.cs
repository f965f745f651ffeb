using Tiller.Scheduling;

namespace Tiller.Serving;

/// <summary>Options of a <see cref="TillerService"/>.</summary>
public sealed record ServiceOptions
{
    /// <summary>The model's id in requests and answers; null (default) for the last part of <c>LanguageModel.Name</c>.</summary>
    public string? ModelName { get; init; }

    /// <summary>
    /// Folder of the controllers that requests may name. A controller's name is its file name without <c>.tiller</c>. Uploaded and fitted controllers
    /// are stored there. Null (default) for no controllers and no uploads.
    /// </summary>
    public string? ControllersDirectory { get; init; }

    /// <summary>
    /// Text of a chat template that replaces the checkpoint's, such as <see cref="Tiller.Chat.ChatFormat.ChatMl"/>; null (default) for the
    /// checkpoint's own template.
    /// </summary>
    public string? ChatTemplate { get; init; }

    /// <summary>Options of the scheduler: the limits of requests, and how long they may wait.</summary>
    public SchedulerOptions Scheduler { get; init; } = new();

    /// <summary>
    /// API keys, of which every request needs one as <c>Authorization: Bearer KEY</c>; empty (default) for none. Health checks never need a key.
    /// </summary>
    public IReadOnlyList<string> ApiKeys { get; init; } = [];

    /// <summary>Maximum size of a request's body in bytes; default 1 MiB.</summary>
    public long MaxBodyBytes { get; init; } = 1 << 20;

    /// <summary>Maximum size of an uploaded controller in bytes; default 64 MiB.</summary>
    public long MaxUploadBytes { get; init; } = 64 << 20;

    /// <summary>Maximum nesting depth of JSON in a request; default 32.</summary>
    public int MaxJsonDepth { get; init; } = 32;

    /// <summary>Whether the log contains prompts, and answers that are not streamed; default false.</summary>
    public bool LogsTexts { get; init; }

    /// <summary>Checks all settings.</summary>
    /// <exception cref="ArgumentException">A setting is outside its range.</exception>
    internal void Validate()
    {
        ArgumentNullException.ThrowIfNull(Scheduler);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(MaxBodyBytes);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(MaxUploadBytes);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(MaxJsonDepth);
        if (ModelName is { Length: 0 })
        {
            throw new ArgumentException("A model's id must have at least one character: leave ModelName null for the model's own name.");
        }

        if (ApiKeys.Any(string.IsNullOrWhiteSpace))
        {
            throw new ArgumentException("An API key must have at least one character that is not white space.");
        }
    }
}
