using System.Text;
using System.Text.Json;
using Tiller.Decode;
using Tiller.Tokens;

namespace Tiller.Serving;

/// <summary>Writes answers in the form of OpenAI's API, whole or in chunks.</summary>
internal sealed class AnswerJson(Answer answer, TillerService service)
{
    private readonly CompletionRequest _request = answer.Request;
    private readonly Tokenizer _tokenizer = service.Model.Tokenizer;

    /// <summary>Whether every token has its own chunk, even if its text is empty.</summary>
    public bool ShowsTokens => _request.Sampling.LogProbabilities is not null || _request.Steering?.Telemetry >= Telemetry.Tokens;

    /// <summary>Writes the whole answer.</summary>
    public void WriteWhole(Utf8JsonWriter json)
    {
        Begin(json, _request.IsChat ? "chat.completion" : "text_completion");
        json.WriteStartArray("choices");
        foreach (var choice in answer.Choices)
        {
            json.WriteStartObject();
            json.WriteNumber("index", choice.Index);
            if (_request.IsChat)
            {
                json.WriteStartObject("message");
                json.WriteString("role", "assistant");
                json.WriteString("content", choice.Content);
                json.WriteNull("refusal");
                json.WriteEndObject();
            }
            else
            {
                json.WriteString("text", EchoOf(choice) + choice.Content);
            }

            WriteLogProbabilities(json, choice, choice.Tokens);
            WriteEnd(json, choice);
            json.WriteNumber("seed", choice.Seed);
            if (choice.Steering is not null && _request.Steering!.Telemetry >= Telemetry.Tokens)
            {
                json.WriteStartArray("steering");
                foreach (var token in choice.Tokens)
                {
                    WriteSteering(json, choice, token);
                }

                json.WriteEndArray();
            }

            json.WriteEndObject();
        }

        json.WriteEndArray();
        WriteUsage(json);
        json.WriteEndObject();
    }

    /// <summary>Writes the first chunk of a choice.</summary>
    public void WriteOpening(Utf8JsonWriter json, Choice choice)
    {
        BeginChunk(json, choice);
        if (_request.IsChat)
        {
            json.WriteStartObject("delta");
            json.WriteString("role", "assistant");
            json.WriteString("content", "");
            json.WriteEndObject();
        }
        else
        {
            json.WriteString("text", EchoOf(choice));
        }

        json.WriteNull("logprobs");
        json.WriteNull("finish_reason");
        json.WriteNumber("seed", choice.Seed);
        EndChunk(json);
    }

    /// <summary>Writes the chunk of a token.</summary>
    public void WriteToken(Utf8JsonWriter json, Choice choice, GeneratedToken token)
    {
        BeginChunk(json, choice);
        if (_request.IsChat)
        {
            json.WriteStartObject("delta");
            json.WriteString("content", token.Text);
            json.WriteEndObject();
        }
        else
        {
            json.WriteString("text", token.Text);
        }

        WriteLogProbabilities(json, choice, [token]);
        WriteEnd(json, choice);
        if (choice.Steering is not null && _request.Steering!.Telemetry >= Telemetry.Tokens)
        {
            json.WritePropertyName("steering");
            WriteSteering(json, choice, token);
        }

        EndChunk(json);
    }

    /// <summary>Writes the chunk with the usage, which has no choices.</summary>
    public void WriteUsageChunk(Utf8JsonWriter json)
    {
        Begin(json, ChunkObject);
        json.WriteStartArray("choices");
        json.WriteEndArray();
        WriteUsage(json);
        json.WriteEndObject();
    }

    private string ChunkObject => _request.IsChat ? "chat.completion.chunk" : "text_completion";

    private string EchoOf(Choice choice) => _request.Echo is { } echo ? echo[choice.Index / (answer.Choices.Count / echo.Count)] : "";

    private void Begin(Utf8JsonWriter json, string kind)
    {
        json.WriteStartObject();
        json.WriteString("id", answer.Id);
        json.WriteString("object", kind);
        json.WriteNumber("created", answer.CreatedAt.ToUnixTimeSeconds());
        json.WriteString("model", service.ModelName);
        json.WriteString("system_fingerprint", service.Fingerprint);
    }

    private void BeginChunk(Utf8JsonWriter json, Choice choice)
    {
        Begin(json, ChunkObject);
        json.WriteStartArray("choices");
        json.WriteStartObject();
        json.WriteNumber("index", choice.Index);
    }

    private void EndChunk(Utf8JsonWriter json)
    {
        json.WriteEndObject();
        json.WriteEndArray();
        if (_request.IncludesUsage)
        {
            json.WriteNull("usage");
        }

        json.WriteEndObject();
    }

    private static void WriteEnd(Utf8JsonWriter json, Choice choice)
    {
        json.WriteString("finish_reason", choice.Last.StopReason is { } reason ? FinishReason.Of(reason) : null);
        json.WritePropertyName("stop_reason");
        if (FinishReason.StoppedBy(choice.Last) is int id)
        {
            json.WriteNumberValue(id);
        }
        else
        {
            json.WriteStringValue(choice.Last.StopString);
        }
    }

    private static void WriteSteering(Utf8JsonWriter json, Choice choice, GeneratedToken token) =>
        choice.Readings!.WriteToken(json, token.Steering, token.Steering is { } read ? choice.Steering!.LawOf(read.Law) : null);

    private void WriteUsage(Utf8JsonWriter json)
    {
        // A prompt counts only once, even if it has several choices.
        int each = answer.Choices.Count / _request.Prompts.Count;
        long prompt = _request.Prompts.Sum(ids => (long)ids.Length);
        long cached = answer.Choices.Where(c => c.Index % each == 0).Sum(c => (long)(c.Result?.ReusedTokens ?? 0));
        long completion = answer.Choices.Sum(c => (long)(c.Result?.NewTokens ?? 0));
        json.WriteStartObject("usage");
        json.WriteNumber("prompt_tokens", prompt);
        json.WriteNumber("completion_tokens", completion);
        json.WriteNumber("total_tokens", prompt + completion);
        json.WriteStartObject("prompt_tokens_details");
        json.WriteNumber("cached_tokens", cached);
        json.WriteEndObject();
        if (answer.Steering is { } steering && _request.Steering!.Telemetry != Telemetry.None)
        {
            var all = new SteeringReadings(steering.Plan);
            foreach (var choice in answer.Choices)
            {
                if (choice.Readings is { } readings)
                {
                    all.Add(readings);
                }
            }

            all.WriteSummary(json, steering.Lambdas);
        }

        json.WriteEndObject();
    }

    private void WriteLogProbabilities(Utf8JsonWriter json, Choice choice, IReadOnlyList<GeneratedToken> tokens)
    {
        if (_request.Sampling.LogProbabilities is null)
        {
            json.WriteNull("logprobs");
        }
        else if (_request.IsChat)
        {
            WriteChatLogProbabilities(json, tokens);
        }
        else
        {
            WriteTextLogProbabilities(json, choice, tokens);
        }
    }

    private void WriteChatLogProbabilities(Utf8JsonWriter json, IReadOnlyList<GeneratedToken> tokens)
    {
        json.WriteStartObject("logprobs");
        json.WriteStartArray("content");
        foreach (var token in tokens)
        {
            json.WriteStartObject();
            WriteOne(json, token.Id, token.Probabilities!.LogProbability);
            json.WriteStartArray("top_logprobs");
            foreach (var (id, logProbability) in token.Probabilities.MostProbable)
            {
                json.WriteStartObject();
                WriteOne(json, id, logProbability);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteNull("refusal");
        json.WriteEndObject();
    }

    private void WriteOne(Utf8JsonWriter json, int id, float logProbability)
    {
        byte[] bytes = BytesOf(id);
        json.WriteString("token", Encoding.UTF8.GetString(bytes));
        WriteNumber(json, "logprob", logProbability);
        json.WriteStartArray("bytes");
        foreach (byte b in bytes)
        {
            json.WriteNumberValue(b);
        }

        json.WriteEndArray();
    }

    private void WriteTextLogProbabilities(Utf8JsonWriter json, Choice choice, IReadOnlyList<GeneratedToken> tokens)
    {
        json.WriteStartObject("logprobs");
        json.WriteStartArray("tokens");
        foreach (var token in tokens)
        {
            json.WriteStringValue(TextOf(token.Id));
        }

        json.WriteEndArray();
        json.WriteStartArray("token_logprobs");
        foreach (var token in tokens)
        {
            WriteNumber(json, null, token.Probabilities!.LogProbability);
        }

        json.WriteEndArray();
        json.WriteStartArray("top_logprobs");
        foreach (var token in tokens)
        {
            // Two tokens, such as parts of characters, may have the same text. Only the more probable one is shown.
            json.WriteStartObject();
            var shown = new HashSet<string>(StringComparer.Ordinal);
            foreach (var (id, logProbability) in token.Probabilities!.MostProbable)
            {
                string text = TextOf(id);
                if (shown.Add(text))
                {
                    WriteNumber(json, text, logProbability);
                }
            }

            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteStartArray("text_offset");
        foreach (var token in tokens)
        {
            json.WriteNumberValue(choice.Offset);
            choice.Offset += TextOf(token.Id).Length;
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    // JSON has no infinity. A log-probability of −∞ belongs to a token whose probability is 0.
    private static void WriteNumber(Utf8JsonWriter json, string? name, float value)
    {
        float finite = float.IsFinite(value) ? value : float.MinValue;
        if (name is null)
        {
            json.WriteNumberValue(finite);
        }
        else
        {
            json.WriteNumber(name, finite);
        }
    }

    private string TextOf(int id) => Encoding.UTF8.GetString(BytesOf(id));

    // An id may be padding of the embedding, without a token.
    private byte[] BytesOf(int id) => _tokenizer.HasToken(id) ? _tokenizer.BytesOf(id) : [];
}
