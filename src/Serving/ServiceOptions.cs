using Tiller.Scheduling;

namespace Tiller.Serving;

/// <summary>What a <see cref="TillerService"/> offers, and to whom.</summary>
public sealed record ServiceOptions
{
    /// <summary>Id of the model in requests and answers; null (default) for the last part of <c>LanguageModel.Name</c>.</summary>
    public string? ModelName { get; init; }

    /// <summary>
    /// Folder of the controllers that requests may name, each by its file name without <c>.tiller</c>; uploads and fits are kept there. Null
    /// (default) for none, and no uploads.
    /// </summary>
    public string? ControllersDirectory { get; init; }

    /// <summary>
    /// Text of a chat template to use in place of the checkpoint's, such as <see cref="Tiller.Chat.ChatFormat.ChatMl"/>; null (default) for the
    /// checkpoint's own.
    /// </summary>
    public string? ChatTemplate { get; init; }

    /// <summary>What is admitted, and for how long it waits.</summary>
    public SchedulerOptions Scheduler { get; init; } = new();

    /// <summary>
    /// Keys of which a request needs one, as <c>Authorization: Bearer KEY</c>; empty (default) for none. The health checks need none.
    /// </summary>
    public IReadOnlyList<string> ApiKeys { get; init; } = [];

    /// <summary>Largest body of a request; default 1 MiB.</summary>
    public long MaxBodyBytes { get; init; } = 1 << 20;

    /// <summary>Largest controller that is uploaded; default 64 MiB.</summary>
    public long MaxUploadBytes { get; init; } = 64 << 20;

    /// <summary>How deep the JSON of a request may be nested; default 32.</summary>
    public int MaxJsonDepth { get; init; } = 32;

    /// <summary>Whether the request log shows prompts, and answers that are not streamed; default false.</summary>
    public bool LogsTexts { get; init; }

    /// <summary>Checks every setting.</summary>
    /// <exception cref="ArgumentException">A setting is outside its range.</exception>
    internal void Validate()
    {
        ArgumentNullException.ThrowIfNull(Scheduler);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(MaxBodyBytes);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(MaxUploadBytes);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(MaxJsonDepth);
        if (ModelName is { Length: 0 })
        {
            throw new ArgumentException("A model's id has at least one character: leave ModelName null for the model's own name.");
        }

        if (ApiKeys.Any(string.IsNullOrWhiteSpace))
        {
            throw new ArgumentException("An API key has at least one character that is not white space.");
        }
    }
}
