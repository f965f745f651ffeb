using System.Diagnostics;
using System.Text;
using Tiller.Decode;
using Tiller.Model;
using Tiller.Tokens;

namespace Tiller.Tool;

/// <summary>A continuation with its measurements.</summary>
internal sealed record DecodedText
{
    public required string Text { get; init; }

    public required int[] Ids { get; init; }

    /// <summary>Log-probabilities of each token; empty if not asked for.</summary>
    public required IReadOnlyList<TokenProbabilities> Probabilities { get; init; }

    public required int PromptTokens { get; init; }

    public required StopReason Stop { get; init; }

    /// <summary>Time until the first token: the prompt's prefill and one draw.</summary>
    public required double PromptMs { get; init; }

    /// <summary>Time from the first token to the last.</summary>
    public required double DecodeMs { get; init; }

    /// <summary>Size of the weights that one step reads.</summary>
    public required long WeightsInBytes { get; init; }

    /// <summary>Seed of the draws; null for greedy decoding.</summary>
    public required ulong? Seed { get; init; }

    /// <summary>FNV-1a hash of the bits of the last logits.</summary>
    public required ulong LogitsHash { get; init; }

    /// <summary>Error and effort of the law; null for the plain model.</summary>
    public required SteeringSummary? Steering { get; init; }

    /// <summary>Which tokens were steered, as printed in results; null for the plain model.</summary>
    public required string? Tokens { get; init; }

    /// <summary>Steps per second after the prompt; 0 if there was none.</summary>
    public double TokensPerSecond => DecodeMs > 0 ? (Ids.Length - 1) * 1000.0 / DecodeMs : 0;

    /// <summary>Weights read per second, in 1e9 bytes.</summary>
    public double GigabytesPerSecond => TokensPerSecond * WeightsInBytes / 1e9;

    /// <summary>Decodes to the end, and passes text to <paramref name="onText"/> as soon as it is certain.</summary>
    public static DecodedText Run(LanguageModel model, int[] prompt, GenerationOptions options, Action<string> onText,
        CancellationToken cancellationToken)
    {
        var clock = Stopwatch.StartNew();
        using var generation = new Generation(model, prompt, options);
        var text = new StringBuilder();
        var probabilities = new List<TokenProbabilities>();
        double promptMs = 0;
        while (generation.MoveNext(cancellationToken))
        {
            promptMs = promptMs == 0 ? clock.Elapsed.TotalMilliseconds : promptMs;
            if (generation.Current.Probabilities is { } drawn)
            {
                probabilities.Add(TokenProbabilities.Of(model.Tokenizer, generation.Current.Id, drawn));
            }

            if (generation.Current.Text.Length > 0)
            {
                text.Append(generation.Current.Text);
                onText(generation.Current.Text);
            }
        }

        return new DecodedText
        {
            Text = text.ToString(),
            Ids = generation.NewIds.ToArray(),
            Probabilities = probabilities,
            PromptTokens = prompt.Length,
            Stop = generation.Current.StopReason!.Value,
            PromptMs = promptMs,
            DecodeMs = clock.Elapsed.TotalMilliseconds - promptMs,
            WeightsInBytes = model.WeightsInBytes,
            Seed = options.Sampling.Temperature > 0 ? generation.Seed : null,
            LogitsHash = generation.LogitsHash,
            Steering = generation.Steering,
            Tokens = options.Law is null ? null : options.SteeredTokens.ToString(),
        };
    }
}

/// <summary>A token with its text and log-probability.</summary>
internal sealed record NamedProbability(int Id, string Text, float LogProbability)
{
    public static NamedProbability Of(Tokenizer tokenizer, int id, float logProbability) => new(id, tokenizer.Decode([id]), logProbability);
}

/// <summary>Log-probabilities of a drawn token and of the most probable ones.</summary>
internal sealed record TokenProbabilities(NamedProbability Drawn, IReadOnlyList<NamedProbability> MostProbable)
{
    public static TokenProbabilities Of(Tokenizer tokenizer, int id, DrawnProbabilities drawn) => new(
        NamedProbability.Of(tokenizer, id, drawn.LogProbability),
        [.. drawn.MostProbable.Select(token => NamedProbability.Of(tokenizer, token.Id, token.LogProbability))]);
}
