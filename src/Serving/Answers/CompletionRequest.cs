using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using Tiller.Chat;
using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;

namespace Tiller.Serving;

/// <summary>A checked request to <c>/v1/completions</c> or <c>/v1/chat/completions</c>.</summary>
internal sealed record CompletionRequest
{
    private const int MaxPrompts = 16;
    private const int MaxChoices = 16;
    private const int MaxTexts = 64;
    private const int MaxStops = 16;
    private const int MaxBiases = 1024;

    // A seed drawn here is reported, and a client may send it again. So it must be an integer that JavaScript represents exactly.
    private const long SeedEnd = 1L << 53;

    // Fields of OpenAI's API that have no effect here.
    private static readonly string[] s_ignored =
    [
        "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "parallel_tool_calls",
        "prediction", "verbosity", "reasoning_effort",
    ];

    /// <summary>Whether the request is a chat, and not a text to continue.</summary>
    public required bool IsChat { get; init; }

    /// <summary>The ids of each prompt.</summary>
    public required IReadOnlyList<int[]> Prompts { get; init; }

    /// <summary>Number of choices for each prompt.</summary>
    public required int N { get; init; }

    /// <summary>Maximum number of new tokens; null for the rest of the context.</summary>
    public int? MaxTokens { get; init; }

    /// <summary>How tokens are drawn. The seed is that of the first choice.</summary>
    public required SamplingOptions Sampling { get; init; }

    public required StopStrings Stop { get; init; }

    /// <summary>Whether the text continues after an end-of-text token.</summary>
    public bool IgnoresEnd { get; init; }

    public bool Stream { get; init; }

    /// <summary>Whether a stream ends with a chunk with the usage.</summary>
    public bool IncludesUsage { get; init; }

    /// <summary>The text of each prompt, if it is repeated before its continuation; otherwise null.</summary>
    public IReadOnlyList<string>? Echo { get; init; }

    /// <summary>The steering; null for the plain model.</summary>
    public SteeringPlan? Steering { get; init; }

    /// <summary>Reads a request.</summary>
    /// <exception cref="ApiException">A field is wrong, unknown or missing.</exception>
    /// <exception cref="TillerException">The prompt cannot be encoded, or an option is out of range.</exception>
    public static CompletionRequest Read(JsonElement body, bool isChat, TillerService service, CancellationToken cancellationToken)
    {
        var fields = new JsonFields(body);
        ModelRoutes.Check(service, JsonFields.TextOf(fields.Need("model"), "model"));
        int n = (int)(fields.TakeWhole("n", 1, MaxChoices) ?? 1);
        var steering = SteeringRequest.Read(fields.Take("steering"), service);
        long seed = fields.TakeWhole("seed") ?? (long)(BitConverter.ToUInt64(RandomNumberGenerator.GetBytes(8)) % SeedEnd);
        var sampling = new SamplingOptions
        {
            Temperature = Single("temperature", 1),
            TopP = Single("top_p", 1),
            TopK = (int)Math.Max(0, fields.TakeWhole("top_k", -1, int.MaxValue) ?? 0),
            MinP = Single("min_p", 0),
            PresencePenalty = Single("presence_penalty", 0),
            FrequencyPenalty = Single("frequency_penalty", 0),
            RepetitionPenalty = Single("repetition_penalty", 1),
            LogitBias = fields.Take("logit_bias") is { } bias ? Biases(bias, service.Model.Config.V) : null,
            LogProbabilities = isChat ? ChatLogProbabilities(fields)
                : (int?)fields.TakeWhole("logprobs", 0, SamplingOptions.MaxLogProbabilities),
            Seed = unchecked((ulong)seed),
        };
        sampling.Validate();
        bool stream = fields.TakeFlag("stream") ?? false;
        var streamOptions = fields.Take("stream_options") is { } given ? new JsonFields(given, "stream_options") : null;
        bool includesUsage = streamOptions?.TakeFlag("include_usage") ?? false;
        streamOptions?.Ignore("include_obfuscation");
        streamOptions?.End();
        if (streamOptions is not null && !stream)
        {
            throw ApiException.Bad("stream_options", "'stream_options' needs 'stream' to be true: set it, or leave this out.", "invalid_value");
        }

        var stop = Stops(fields.Take("stop"));
        bool echo = !isChat && (fields.TakeFlag("echo") ?? false);
        var request = new CompletionRequest
        {
            IsChat = isChat,
            N = n,
            MaxTokens = MaxTokensOf(fields),
            Sampling = sampling,
            Stop = isChat ? service.WithChatStops(stop) : stop,
            IgnoresEnd = fields.TakeFlag("ignore_eos") ?? false,
            Stream = stream,
            IncludesUsage = includesUsage,
            Steering = steering,
            Prompts = isChat ? [EncodeChat(fields, service, cancellationToken)] : Prompt(fields.Need("prompt"), service, cancellationToken),
        };
        RefuseOthers(fields, isChat, n);
        request.Check(echo);
        return echo ? request with { Echo = [.. request.Prompts.Select(ids => service.Model.Tokenizer.Decode(ids, skipSpecial: true))] } : request;

        float Single(string field, float standard) =>
            fields.Take(field) is { } value ? JsonFields.FloatOf(value, field) : standard;
    }

    /// <summary>The options for one choice of a prompt.</summary>
    public GenerationOptions ToOptions(int choice, int[] prompt, FeedbackLaw? law, TillerService service) => new()
    {
        Law = law,
        MaxNewTokens = MaxTokens ?? service.Scheduler.MaxNewTokensAfter(prompt.Length, law),
        Sampling = Sampling with { Seed = unchecked(Sampling.Seed!.Value + (ulong)choice) },
        StopStrings = Stop,
        StopIds = IgnoresEnd ? [] : IsChat ? service.ChatEndIds : null,
    };

    /// <summary>The ids of the request's messages.</summary>
    public static int[] EncodeChat(
        JsonFields fields, TillerService service, CancellationToken cancellationToken, bool addGenerationPrompt = true)
    {
        var messages = ChatMessages.Read(fields.Need("messages"), "messages");
        return service.Chat.Encode(messages, addGenerationPrompt, cancellationToken);
    }

    private static int? ChatLogProbabilities(JsonFields fields)
    {
        bool wanted = fields.TakeFlag("logprobs") ?? false;
        int? top = (int?)fields.TakeWhole("top_logprobs", 0, SamplingOptions.MaxLogProbabilities);
        return top is not null && !wanted
            ? throw ApiException.Bad("top_logprobs", "'top_logprobs' needs 'logprobs' to be true.", "invalid_value")
            : wanted ? top ?? 0 : null;
    }

    private static int? MaxTokensOf(JsonFields fields)
    {
        long? old = fields.TakeWhole("max_tokens", 1, int.MaxValue), now = fields.TakeWhole("max_completion_tokens", 1, int.MaxValue);
        return old is not null && now is not null && old != now
            ? throw ApiException.Bad("max_tokens", $"'max_tokens' is {old} and 'max_completion_tokens' is {now}: give one of them.", "invalid_value")
            : (int?)(now ?? old);
    }

    private static Dictionary<int, float> Biases(JsonElement value, int vocabulary)
    {
        var biases = new Dictionary<int, float>();
        if (value.ValueKind != JsonValueKind.Object)
        {
            throw JsonFields.Wrong("logit_bias", "'logit_bias'", "an object of ids and numbers", value, JsonValueKind.Object);
        }

        foreach (var bias in value.EnumerateObject())
        {
            if (!int.TryParse(bias.Name, NumberStyles.None, CultureInfo.InvariantCulture, out int id) || id >= vocabulary)
            {
                throw ApiException.Bad("logit_bias", $"'logit_bias' must have token ids, 0 to {vocabulary - 1}, as its names; one is not.",
                    "invalid_value");
            }

            biases[id] = JsonFields.FloatOf(bias.Value, $"logit_bias.{id}");
        }

        return biases.Count <= MaxBiases ? biases : throw ApiException.Bad("logit_bias",
            $"'logit_bias' has {biases.Count} ids; it can have at most {MaxBiases}.", "invalid_value");
    }

    private static StopStrings Stops(JsonElement? value) => value switch
    {
        null => StopStrings.None,
        { ValueKind: JsonValueKind.String } one => new StopStrings([JsonFields.TextOf(one, "stop")]),
        _ => new StopStrings([.. JsonFields.ListOf(value.Value, "stop", 0, MaxStops).Select((s, i) => JsonFields.TextOf(s, $"stop[{i}]"))]),
    };

    // The prompt is a text, a list of ids, or a list of texts or lists of ids.
    private static int[][] Prompt(JsonElement prompt, TillerService service, CancellationToken cancellationToken)
    {
        if (prompt.ValueKind == JsonValueKind.Array && prompt.GetArrayLength() > 0 && prompt[0].ValueKind != JsonValueKind.Number)
        {
            return [.. JsonFields.ListOf(prompt, "prompt", 1, MaxPrompts).Select((p, i) => One(p, $"prompt[{i}]"))];
        }

        return [One(prompt, "prompt")];

        int[] One(JsonElement value, string name)
        {
            if (value.ValueKind is not (JsonValueKind.String or JsonValueKind.Array))
            {
                throw JsonFields.Wrong(name, $"'{name}'", "a text or a list of ids", value, JsonValueKind.String);
            }

            int[] ids = value.ValueKind == JsonValueKind.String
                ? service.Model.Tokenizer.Encode(JsonFields.TextOf(value, name), cancellationToken: cancellationToken)
                : Ids(value, name, service);
            return ids.Length > 0 ? ids : throw ApiException.Bad(name, $"'{name}' has no token: it must not be empty.", "invalid_value");
        }
    }

    /// <summary>Reads a list of ids.</summary>
    public static int[] Ids(JsonElement value, string name, TillerService service)
    {
        int end = service.Model.Config.V;
        return
        [
            .. JsonFields.ListOf(value, name, 0, int.MaxValue).Select((id, i) =>
                id.ValueKind == JsonValueKind.Number && id.TryGetInt32(out int number) && number >= 0 && number < end
                    ? number
                    : (int)JsonFields.WholeOf(id, $"{name}[{i}]", 0, end - 1)), // throws with the reason
        ];
    }

    private static void RefuseOthers(JsonFields fields, bool isChat, int n)
    {
        fields.Ignore(s_ignored);
        if (isChat)
        {
            const string Texts = "Answers are only texts: leave it out.";
            fields.Refuse("tools", IsEmpty, Texts);
            fields.Refuse("functions", IsEmpty, Texts);
            fields.Refuse("tool_choice", value => Is(value, "none") || Is(value, "auto"), Texts);
            fields.Refuse("function_call", value => Is(value, "none") || Is(value, "auto"), Texts);
            fields.Refuse("response_format", value => value.ValueKind == JsonValueKind.Object && value.TryGetProperty("type", out var type)
                && Is(type, "text"), "Answers are only texts: ask for {\"type\": \"text\"}, or leave it out.");
            fields.Refuse("modalities", value => value.ValueKind == JsonValueKind.Array && value.EnumerateArray().All(m => Is(m, "text")), Texts);
            fields.Refuse("audio", _ => false, Texts);
            fields.Refuse("web_search_options", _ => false, Texts);
        }
        else
        {
            fields.Refuse("suffix", value => Is(value, ""), "A text can only be continued at its end: leave it out.");
            fields.Refuse("best_of", value => value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out int of) && of == n,
                "All choices are returned: set it to n, or leave it out.");
        }

        fields.End();

        static bool IsEmpty(JsonElement value) => value.ValueKind == JsonValueKind.Array && value.GetArrayLength() == 0;
        static bool Is(JsonElement value, string text) => value.ValueKind == JsonValueKind.String && value.ValueEquals(text);
    }

    private void Check(bool echo)
    {
        if (Prompts.Count * N > MaxTexts)
        {
            throw ApiException.Bad("n", $"{Prompts.Count} prompts with {N} choices each are {Prompts.Count * N} texts; a request can have at most "
                + $"{MaxTexts}.", "invalid_value");
        }

        if (Steering is { Compare: true } && (N > 1 || Prompts.Count > 1))
        {
            throw ApiException.Bad("steering.compare", "'steering.compare' answers one prompt with one plain and one steered text: set 'n' to 1, "
                + "and give one prompt.", "invalid_value");
        }

        if (echo && Sampling.LogProbabilities is not null)
        {
            throw ApiException.Bad("echo", "'echo' is not implemented with 'logprobs': only generated tokens have log-probabilities.",
                "unsupported_value");
        }
    }
}

/// <summary>Reads chat messages.</summary>
internal static class ChatMessages
{
    private const int MaxMessages = 1024;

    /// <summary>Reads messages, each with a role and a text.</summary>
    /// <exception cref="ApiException">A message has another form.</exception>
    public static ChatMessage[] Read(JsonElement value, string name) =>
        [.. JsonFields.ListOf(value, name, 1, MaxMessages).Select((m, i) => Message(m, $"{name}[{i}]"))];

    private static ChatMessage Message(JsonElement value, string path)
    {
        var fields = new JsonFields(value, path);
        string role = JsonFields.TextOf(fields.Need("role"), fields.NameOf("role"));
        var content = fields.Need("content");
        fields.Ignore("name", "refusal", "annotations");
        fields.Refuse("tool_calls", IsEmpty, "Messages can only have texts: leave it out.");
        fields.Refuse("function_call", _ => false, "Messages can only have texts: leave it out.");
        fields.Refuse("tool_call_id", _ => false, "Messages can only have texts: leave it out.");
        fields.Refuse("audio", _ => false, "Messages can only have texts: leave it out.");
        fields.End();
        string text = content.ValueKind == JsonValueKind.Array
            ? string.Concat(content.EnumerateArray().Select((part, i) => Part(part, $"{fields.NameOf("content")}[{i}]")))
            : JsonFields.TextOf(content, fields.NameOf("content"));

        // "developer" is OpenAI's newer name for "system", which chat templates do not know.
        return new ChatMessage(role == "developer" ? "system" : role, text);

        static bool IsEmpty(JsonElement value) => value.ValueKind == JsonValueKind.Array && value.GetArrayLength() == 0;
    }

    private static string Part(JsonElement value, string path)
    {
        var fields = new JsonFields(value, path);
        string type = JsonFields.TextOf(fields.Need("type"), fields.NameOf("type"));
        if (type != "text")
        {
            throw ApiException.Bad(fields.NameOf("type"), $"'{fields.NameOf("type")}' must be \"text\": the model only reads text.",
                "unsupported_value");
        }

        string text = JsonFields.TextOf(fields.Need("text"), fields.NameOf("text"));
        fields.End();
        return text;
    }
}
