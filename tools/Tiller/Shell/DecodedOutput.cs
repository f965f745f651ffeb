using System.Text.Json;
using Tiller.Decode;

namespace Tiller.Tool;

/// <summary>How <c>tiller steer</c> and <c>generate</c> tell what a text took.</summary>
internal static class DecodedOutput
{
    /// <summary>One line on standard error.</summary>
    public static void WriteSummary(Terminal terminal, DecodedText text)
    {
        string seed = text.Seed is { } drawn ? $"seed {drawn}, " : "";
        string steering = text.Steering is { } s ? $", mean |β - v·x| {s.TrackingError:G3}, mean |u| {s.InputNorm:G3}" : "";
        terminal.Error.WriteLine(
            $"tiller: {text.Ids.Length} tokens ({Reason(text.Stop)}), {text.TokensPerSecond:F0} tok/s, {text.GigabytesPerSecond:F2} GB/s, " +
            $"prompt {text.PromptTokens} tokens in {text.PromptMs:F0} ms, {seed}logits {text.LogitsHash:x16}{steering}");
    }

    /// <summary>One object: model, controllers, and an object for each text.</summary>
    public static void WriteJson(
        Terminal terminal, string model, IReadOnlyList<(string Name, DecodedText Text)> texts, IReadOnlyList<Controlled> controllers)
            => Json.Write(terminal.Output, json =>
    {
        json.WriteStartObject();
        json.WriteString("model", model);
        if (controllers.Count > 0)
        {
            json.WriteStartArray("controllers");
            foreach (var controller in controllers)
            {
                json.WriteStartObject();
                json.WriteString("file", controller.Controller);
                json.WriteNumber("lambda", controller.Lambda);
                json.WriteEndObject();
            }

            json.WriteEndArray();
        }

        foreach (var (name, text) in texts)
        {
            json.WriteStartObject(name);
            WriteText(json, text);
            json.WriteEndObject();
        }

        json.WriteEndObject();
    });

    private static void WriteText(Utf8JsonWriter json, DecodedText text)
    {
        json.WriteString("text", text.Text);
        json.WriteStartArray("ids");
        foreach (int id in text.Ids)
        {
            json.WriteNumberValue(id);
        }

        json.WriteEndArray();
        if (text.Probabilities.Count > 0)
        {
            WriteProbabilities(json, text.Probabilities);
        }

        json.WriteString("stop", Reason(text.Stop));
        json.WriteNumber("promptTokens", text.PromptTokens);
        json.WriteNumber("promptMs", text.PromptMs);
        json.WriteNumber("tokensPerSecond", text.TokensPerSecond);
        json.WriteNumber("gigabytesPerSecond", text.GigabytesPerSecond);
        if (text.Seed is { } seed)
        {
            json.WriteNumber("seed", seed);
        }

        json.WriteString("logitsHash", text.LogitsHash.ToString("x16"));
        if (text.Steering is { } steering)
        {
            json.WriteString("tokens", text.Tokens);
            json.WriteNumberOrNull("trackingError", steering.TrackingError);
            json.WriteNumberOrNull("inputNorm", steering.InputNorm);
            json.WriteNumberOrNull("effort", steering.Effort);
        }
    }

    private static void WriteProbabilities(Utf8JsonWriter json, IReadOnlyList<TokenProbabilities> tokens)
    {
        json.WriteStartArray("logprobs");
        foreach (var token in tokens)
        {
            json.WriteStartObject();
            WriteProbability(json, token.Drawn);
            json.WriteStartArray("top");
            foreach (var probable in token.MostProbable)
            {
                json.WriteStartObject();
                WriteProbability(json, probable);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }

        json.WriteEndArray();
    }

    private static void WriteProbability(Utf8JsonWriter json, NamedProbability token)
    {
        json.WriteNumber("id", token.Id);
        json.WriteString("text", token.Text);
        json.WriteNumberOrNull("logprob", token.LogProbability);
    }

    /// <summary>Why a text ended, in words.</summary>
    public static string Reason(StopReason reason) => reason switch
    {
        StopReason.EndToken => "end of text",
        StopReason.StopString => "stop string",
        StopReason.MaxTokens => "max tokens",
        StopReason.ContextFull => "context full",
        _ => throw new ArgumentOutOfRangeException(nameof(reason), reason, "Unknown reason."),
    };
}
