using System.Diagnostics;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Serialization;
using Tiller.Checkpoint;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Model;
using Tiller.Scheduling;

namespace Tiller.Tool;

/// <summary>The continuation of a prompt.</summary>
/// <param name="Text">The text.</param>
/// <param name="Tokens">Number of new tokens, including an end-of-text token.</param>
/// <param name="Stop">Why the text ended.</param>
/// <param name="Seed">Seed of the draws; null if every token was the most probable one.</param>
internal sealed record ContinuedText(string Text, int Tokens, StopReason Stop, ulong? Seed);

/// <summary>One of several texts cannot be continued.</summary>
internal sealed class UnfinishedTextException(int number, Exception cause)
    : TillerException($"Prompt {number + 1}: {cause.Message}", cause);

/// <summary>Continues the prompts of a file, for <c>generate</c> and <c>steer</c>.</summary>
internal static class ManyPromptsRun
{
    /// <summary>Continues all prompts that do not have a line in the output file yet.</summary>
    /// <param name="terminal">The terminal for the summary.</param>
    /// <param name="model">The model.</param>
    /// <param name="how">How a prompt is formatted.</param>
    /// <param name="many">The request with the files.</param>
    /// <param name="prompts">The prompts from <see cref="Read"/>.</param>
    /// <param name="options">How the prompts are continued.</param>
    /// <param name="controllers">The controllers; none for the plain model.</param>
    /// <param name="json">Whether to print the summary as JSON.</param>
    /// <param name="cancellationToken">Checked between steps. Lines that have been written stay in the file.</param>
    public static int Run(
        Terminal terminal, LanguageModel model, PromptRequest how, ManyPromptsRequest many, Prompt[] prompts, GenerationOptions options,
        IReadOnlyList<Controlled> controllers, bool json, CancellationToken cancellationToken)
    {
        int[][] ids = [.. prompts.Select((prompt, i) => Encode(model, how, many, prompt, i, cancellationToken))];
        string run = RunOf(model, ids, options, controllers);
        using var lines = ContinuedLines.Open(many.Out, run, prompts.Length);
        ulong? seed = SeedOf(options.Sampling, lines, many.Out);
        var clock = Stopwatch.StartNew();
        long tokens = 0;
        StageBars.Run(terminal, progress =>
        {
            ContinueAsync(model, ids, lines.Count, how: i => seed is null ? options : Seeded(options, seed.Value + (ulong)i), many.Batch, Done,
                cancellationToken).GetAwaiter().GetResult();
            return 0;

            void Done(int number, ContinuedText text)
            {
                tokens += text.Tokens;
                lines.Append(Line(number, prompts[number], text, run), ManyPromptsJsonContext.Default.ContinuedJson);
                progress.Report(new StageProgress("texts", number + 1, prompts.Length));
            }
        });

        Summarise(terminal, json, many.Out, prompts.Length, lines.Count, tokens, clock.Elapsed.TotalSeconds);
        return ExitCode.Ok;
    }

    // Texts end in any order, and are written in the order of the file. As many texts are queued as can run, so that every place is always in use.
    private static async Task ContinueAsync(
        LanguageModel model, int[][] prompts, int first, Func<int, GenerationOptions> how, int places, Action<int, ContinuedText> done,
        CancellationToken cancellationToken)
    {
        int longest = prompts.Length > 0 ? prompts.Max(ids => Continuation.Positions(ids.Length, how(0), model)) : 1;
        var limits = new SchedulerOptions
        {
            MaxSequences = places,
            MaxQueued = places,
            ReaderBuffer = model.Config.MaxPositions, // a text that ends before an earlier one stays in the buffer until it is read
            MaxKvBytes = Math.Max(new SchedulerOptions().MaxKvBytes, places * model.KvBytesFor(longest)),
        };
        using var scheduler = new Scheduler(model, limits);
        var texts = new Queue<ScheduledText>();
        int next = first;
        for (int number = first; number < prompts.Length; number++)
        {
            Submit();
            using ScheduledText text = texts.Dequeue();
            var written = new StringBuilder();
            StopReason? stop = null;
            await foreach (var token in text.ReadAllAsync(cancellationToken))
            {
                written.Append(token.Text);
                stop = token.StopReason;
                Submit();
            }

            ScheduledResult result = await text.Completion;
            if (result.Error is not null)
            {
                throw new UnfinishedTextException(number, result.Error);
            }

            bool draws = how(number).Sampling.Temperature > 0;
            done(number, new ContinuedText(written.ToString(), result.NewTokens, stop!.Value, draws ? result.Seed : null));
        }

        void Submit()
        {
            while (next < prompts.Length && scheduler.Status.Queued < places)
            {
                texts.Enqueue(scheduler.Submit(prompts[next], how(next)));
                next++;
            }
        }
    }

    private static GenerationOptions Seeded(GenerationOptions options, ulong seed) =>
        options with { Sampling = options.Sampling with { Seed = seed } };

    /// <summary>Reads the prompts of the file, and makes them chats if that is requested. It needs no model.</summary>
    /// <exception cref="PromptFileException">The file cannot be read, or has chats that do not fit --system.</exception>
    public static Prompt[] Read(PromptRequest how, ManyPromptsRequest many, CancellationToken cancellationToken)
    {
        IReadOnlyList<Prompt> prompts = PromptFile.Read(many.Prompts, many.Selection, cancellationToken);
        return [.. prompts.Select((prompt, i) => prompt is ChatPrompt { System: not null } && how.System is not null
            ? throw new PromptFileException(many.Prompts, 0, $"prompt {i + 1} is a chat with a system message of its own: leave --system out.")
            : prompt is ChatPrompt || how.Chat ? prompt.AsChat(how.System) : prompt)];
    }

    private static int[] Encode(
        LanguageModel model, PromptRequest how, ManyPromptsRequest many, Prompt prompt, int index, CancellationToken cancellationToken)
    {
        int[] ids = prompt is ChatPrompt chat
            ? model.Chat.Encode(chat.Messages, how.ChatOptions, cancellationToken)
            : model.Tokenizer.Encode(((TextPrompt)prompt).Text, cancellationToken: cancellationToken);
        return ids.Length > 0 && ids.Length <= model.Config.MaxPositions
            ? ids
            : throw new PromptFileException(many.Prompts, 0,
                $"prompt {index + 1} has {ids.Length} tokens; expected 1 to {model.Config.MaxPositions}, the context of the model.");
    }

    // A hash of everything that the texts depend on, except the seed, which is in the lines.
    private static string RunOf(LanguageModel model, int[][] ids, GenerationOptions options, IReadOnlyList<Controlled> controllers)
    {
        SamplingOptions s = options.Sampling;
        using var hash = new IdentityHash();
        string[] settings =
        [
            model.Identity, options.MaxNewTokens.ToString(CultureInfo.InvariantCulture),
            Number(s.Temperature), $"{s.TopK}", Number(s.TopP), Number(s.MinP), Number(s.RepetitionPenalty),
            Number(s.PresencePenalty), Number(s.FrequencyPenalty),
            .. Enumerable.Range(0, options.StopStrings.Count).Select(i => $"stop {options.StopStrings[i]}"),
            $"{options.SteeredTokens}", Number(options.Law?.MaxEffort ?? float.PositiveInfinity),
            .. controllers.Select(static x => $"{Number(x.Lambda)} {Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(x.Controller)))}"),
        ];
        foreach (string setting in settings)
        {
            hash.Add(setting);
        }

        foreach (int[] prompt in ids)
        {
            hash.Add(prompt);
        }

        return hash.End()[..32];

        static string Number(float value) => value.ToString("R", CultureInfo.InvariantCulture);
    }

    // The seed of the first prompt; that of each later prompt is larger by one. Null if no random numbers are needed.
    private static ulong? SeedOf(SamplingOptions sampling, ContinuedLines lines, string path)
    {
        if (sampling.Temperature == 0)
        {
            return null;
        }

        if (lines.Last is { } last && last.TryGetProperty("seed", out var told) && told.TryGetUInt64(out ulong seed))
        {
            ulong first = seed - (ulong)(lines.Count - 1);
            return sampling.Seed is null || sampling.Seed == first
                ? first
                : throw new UsageException(
                    $"--out {path} exists, and its texts were drawn with seed {first}: leave --seed out, or give --out another file.");
        }

        return sampling.Seed ?? BitConverter.ToUInt64(RandomNumberGenerator.GetBytes(sizeof(ulong)));
    }

    private static ContinuedJson Line(int index, Prompt prompt, ContinuedText text, string run) => new()
    {
        Index = index,
        Messages = prompt is ChatPrompt chat ? [.. chat.Messages.Select(static x => new MessageJson(x.Role, x.Content))] : null,
        Prompt = (prompt as TextPrompt)?.Text,
        Text = text.Text,
        Tokens = text.Tokens,
        Stop = DecodedOutput.Reason(text.Stop),
        Seed = text.Seed,
        Run = run,
    };

    private static void Summarise(Terminal terminal, bool json, string path, int count, int before, long tokens, double seconds)
    {
        if (json)
        {
            Json.Write(terminal.Output, new ManyPromptsJson(path, count, before, tokens, seconds), ManyPromptsJsonContext.Default.ManyPromptsJson);
            return;
        }

        string were = before > 0 ? $", {before} of which were there already" : "";
        terminal.Error.WriteLine($"tiller: {count} texts in {path}{were}; {tokens} new tokens, {(seconds > 0 ? tokens / seconds : 0):F0} tok/s");
    }
}

/// <summary>The JSON line of a prompt and its continuation.</summary>
internal sealed record ContinuedJson
{
    public required int Index { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public required IReadOnlyList<MessageJson>? Messages { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public required string? Prompt { get; init; }

    public required string Text { get; init; }

    public required int Tokens { get; init; }

    public required string Stop { get; init; }

    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public required ulong? Seed { get; init; }

    public required string Run { get; init; }
}

/// <summary>The JSON of a chat message.</summary>
internal sealed record MessageJson(string Role, string Content);

/// <summary>The JSON summary of a run over a file.</summary>
internal sealed record ManyPromptsJson(string Out, int Texts, int Before, long Tokens, double Seconds);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Serialization)]
[JsonSerializable(typeof(ContinuedJson))]
[JsonSerializable(typeof(ManyPromptsJson))]
internal sealed partial class ManyPromptsJsonContext : JsonSerializerContext;
