using System.Text.Json.Serialization;
using Tiller.Decode;

namespace Tiller.Tool;

/// <summary>Prints the results of <c>tiller steer</c> and <c>generate</c>.</summary>
internal static class DecodedOutput
{
    /// <summary>Writes one line to standard error.</summary>
    public static void WriteSummary(Terminal terminal, DecodedText text)
    {
        string seed = text.Seed is { } drawn ? $"seed {drawn}, " : "";
        string steering = text.Steering is { } s ? $", mean |β - v·x| {s.TrackingError:G3}, mean |u| {s.InputNorm:G3}{Conditions(s)}" : "";
        terminal.Error.WriteLine(
            $"tiller: {text.Ids.Length} tokens ({Reason(text.Stop)}), {text.TokensPerSecond:F0} tok/s, {text.GigabytesPerSecond:F2} GB/s, " +
            $"prompt {text.PromptTokens} tokens in {text.PromptMs:F0} ms, {seed}logits {text.LogitsHash:x16}{steering}");
    }

    /// <summary>Writes one object with the model, the controllers, and an object for each text.</summary>
    /// <param name="terminal">Its output gets the object.</param>
    /// <param name="model">The model's name.</param>
    /// <param name="plain">The plain text; null if there is none.</param>
    /// <param name="steered">The steered text; null if there is none.</param>
    /// <param name="controllers">The controllers of the steered text.</param>
    public static void WriteJson(Terminal terminal, string model, DecodedText? plain, DecodedText? steered, IReadOnlyList<Controlled> controllers)
    {
        ControlledJson[]? all = controllers.Count == 0 ? null : [.. controllers.Select(static x => new ControlledJson(x.Controller, x.Lambda))];
        var texts = new DecodedJson(
            model, all, plain is null ? null : new TextJson(plain), steered is null ? null : new SteeredTextJson(steered, steered.Steering!));
        Json.Write(terminal.Output, texts, DecodedJsonContext.Default.DecodedJson);
    }

    private static string Conditions(SteeringSummary steering) =>
        string.Concat(steering.Decisions.Select(met => $", the prompt {(met ? "meets" : "does not meet")} the condition"));

    /// <summary>Describes why a text ended.</summary>
    public static string Reason(StopReason reason) => reason switch
    {
        StopReason.EndToken => "end of text",
        StopReason.StopString => "stop string",
        StopReason.MaxTokens => "max tokens",
        StopReason.ContextFull => "context full",
        _ => throw new ArgumentOutOfRangeException(nameof(reason), reason, "Unknown reason."),
    };
}

/// <summary>The JSON of <c>generate</c> and <c>steer</c>.</summary>
internal sealed record DecodedJson(
    string Model,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] IReadOnlyList<ControlledJson>? Controllers,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] TextJson? Plain,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] SteeredTextJson? Steered);

/// <summary>A controller and its λ.</summary>
internal sealed record ControlledJson(string File, float Lambda);

/// <summary>A continuation with its speed.</summary>
internal record TextJson
{
    public TextJson(DecodedText text)
    {
        (Text, Ids, Stop, Seed, LogitsHash) = (text.Text, text.Ids, DecodedOutput.Reason(text.Stop), text.Seed, text.LogitsHash.ToString("x16"));
        (PromptTokens, PromptMs) = (text.PromptTokens, text.PromptMs);
        (TokensPerSecond, GigabytesPerSecond) = (text.TokensPerSecond, text.GigabytesPerSecond);
        Logprobs = text.Probabilities.Count == 0 ? null : [.. text.Probabilities.Select(static x => new DrawnJson(x))];
    }

    public string Text { get; }

    public IReadOnlyList<int> Ids { get; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<DrawnJson>? Logprobs { get; }

    public string Stop { get; }

    public int PromptTokens { get; }

    public double PromptMs { get; }

    public double TokensPerSecond { get; }

    public double GigabytesPerSecond { get; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public ulong? Seed { get; }

    public string LogitsHash { get; }
}

/// <summary>A steered continuation, with the error and the effort of the law.</summary>
internal sealed record SteeredTextJson : TextJson
{
    public SteeredTextJson(DecodedText text, SteeringSummary steering)
        : base(text)
    {
        Tokens = text.Tokens!;
        (TrackingError, InputNorm) = (Json.Finite(steering.TrackingError), Json.Finite(steering.InputNorm));
        Effort = Json.Finite(steering.Effort);
        Conditions = steering.Decisions.Count > 0 ? steering.Decisions : null;
    }

    [JsonPropertyOrder(1)]
    public string Tokens { get; }

    [JsonPropertyOrder(1)]
    public double? TrackingError { get; }

    [JsonPropertyOrder(1)]
    public double? InputNorm { get; }

    [JsonPropertyOrder(1)]
    public double? Effort { get; }

    /// <summary>Whether the prompt met each controller's condition, of those that have one.</summary>
    [JsonPropertyOrder(1)]
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public IReadOnlyList<bool>? Conditions { get; }
}

/// <summary>A token and its log-probability.</summary>
internal record ProbabilityJson
{
    public ProbabilityJson(NamedProbability token) => (Id, Text, Logprob) = (token.Id, token.Text, Json.Finite(token.LogProbability));

    public int Id { get; }

    public string Text { get; }

    public double? Logprob { get; }
}

/// <summary>A drawn token, and the most probable tokens at its position.</summary>
internal sealed record DrawnJson : ProbabilityJson
{
    public DrawnJson(TokenProbabilities token)
        : base(token.Drawn) => Top = [.. token.MostProbable.Select(static x => new ProbabilityJson(x))];

    [JsonPropertyOrder(1)]
    public IReadOnlyList<ProbabilityJson> Top { get; }
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Serialization)]
[JsonSerializable(typeof(DecodedJson))]
internal sealed partial class DecodedJsonContext : JsonSerializerContext;
