using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using Tiller.Checkpoint;

namespace Tiller.Evaluation.Scorers;

/// <summary>A judge cannot be asked, or does not answer as a chat model does.</summary>
public sealed class JudgeException : TillerException
{
    internal JudgeException(string message, Exception? cause = null)
        : base(message, cause)
    {
    }
}

/// <summary>How a judge is asked.</summary>
public sealed record JudgeOptions
{
    /// <summary>Address of a server with OpenAI's API, such as http://localhost:8080/v1.</summary>
    public required Uri Url { get; init; }

    /// <summary>The model that judges.</summary>
    public required string Model { get; init; }

    /// <summary>What it is asked, with {answer} for the text and, if it is to see that, {prompt} for the prompt.</summary>
    public required string Prompt { get; init; }

    /// <summary>
    /// What replies count, by the word, whatever the case; the first such word of a reply decides. Null (default) where replies are numbers, of which
    /// the first counts.
    /// </summary>
    public IReadOnlyDictionary<string, double>? Words { get; init; }

    /// <summary>Goes with every request, if the server wants it; null for none.</summary>
    public string? Key { get; init; }

    /// <summary>
    /// Folder where replies are kept, each under the hash of model and question, so that no question is asked twice; null keeps none.
    /// </summary>
    public string? Cache { get; init; }

    /// <summary>How long a reply may take; default two minutes.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromMinutes(2);
}

/// <summary>
/// A language model as a judge, behind any address with OpenAI's API: it is asked at temperature 0, and its replies are kept. A text whose reply says
/// neither a word nor a number that counts does not count itself. The score depends on the judge, so its model and the hash of what it is asked are
/// part of <see cref="Identity"/>.
/// </summary>
/// <param name="name">What results call it.</param>
/// <param name="options">How it is asked.</param>
public sealed partial class JudgeScorer(string name, JudgeOptions options) : Scorer
{
    private const int Tries = 4;
    private const int MaxReplyTokens = 64;
    private const int MaxReplyBytes = 1 << 20;
    private const string CacheFolder = "tiller/judge";

    private static readonly TimeSpan s_maxWait = TimeSpan.FromMinutes(1);

    private readonly string _version = VersionOf(options);

    /// <inheritdoc/>
    public override string Name => name;

    /// <inheritdoc/>
    public override string Identity => $"{name} judge {options.Model} {_version}";

    /// <inheritdoc/>
    public override Score Measure(EvaluatedTexts texts, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(texts);
        using var client = new HttpClient { Timeout = options.Timeout, MaxResponseContentBufferSize = MaxReplyBytes };
        return Score.OfQuotient(
            Name, [.. texts.Texts.Select(text => Of(Ask(client, text, cancellationToken)) is { } value ? (value, 1.0) : (0, 0))]);
    }

    /// <summary>What a reply counts; null if it says nothing that does.</summary>
    internal double? Of(string reply)
    {
        foreach (Match match in (options.Words is null ? Numbers() : Words()).Matches(reply))
        {
            if (options.Words is null)
            {
                return double.Parse(match.Value, CultureInfo.InvariantCulture);
            }

            if (options.Words.FirstOrDefault(x => x.Key.Equals(match.Value, StringComparison.OrdinalIgnoreCase)) is { Key: not null } word)
            {
                return word.Value;
            }
        }

        return null;
    }

    internal static JudgeScorer Read(string name, TaskNode node, TaskFiles files)
    {
        node.CheckKeys("url", "model", "prompt", "words", "key", "cache");
        string prompt = node["prompt"].Text();
        if (!prompt.Contains("{answer}", StringComparison.Ordinal))
        {
            throw node["prompt"].Fail("must hold {answer}, where the text goes.");
        }

        string cache = Environment.GetEnvironmentVariable("XDG_CACHE_HOME") is { Length: > 0 } folder ? folder
            : Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".cache");
        return new JudgeScorer(name, new JudgeOptions
        {
            Url = Uri.TryCreate(node["url"].Text(), UriKind.Absolute, out var url) && url.Scheme is "http" or "https"
                ? url
                : throw node["url"].Fail("must be an address that begins with http:// or https://."),
            Model = node["model"].Text(),
            Prompt = prompt,
            Words = node.Find("words") is { } words ? WordsOf(words) : null,
            Key = node.Find("key") is not { } key ? null
                : Environment.GetEnvironmentVariable(key.Text()) ?? throw key.Fail($"names the environment variable {key.Text()}, which is not set."),
            Cache = node.Find("cache") is { } kept ? files.PathOf(kept) : Path.Combine(cache, CacheFolder),
        });
    }

    private static Dictionary<string, double> WordsOf(TaskNode node)
    {
        var words = new Dictionary<string, double>(StringComparer.OrdinalIgnoreCase);
        foreach (var (word, value) in node.Pairs())
        {
            if (word.Length == 0 || !word.All(char.IsLetter) || !words.TryAdd(word, value.Number(-1e9, 1e9)))
            {
                throw node.Fail($"must be different words of letters alone, whatever the case, got '{word}'.");
            }
        }

        return words;
    }

    private static string VersionOf(JudgeOptions options)
    {
        using var hash = new IdentityHash();
        hash.Add(options.Prompt);
        foreach (var (word, value) in (options.Words ?? new Dictionary<string, double>()).OrderBy(static x => x.Key, StringComparer.Ordinal))
        {
            hash.Add(string.Create(CultureInfo.InvariantCulture, $"{word} {value:R}"));
        }

        return hash.End();
    }

    private string Ask(HttpClient client, EvaluatedText text, CancellationToken cancellationToken)
    {
        string question = Filled().Replace(
            options.Prompt, place => place.Value == "{answer}" ? text.Text : text.Prompt); // neither is searched for places of the other
        using var hash = new IdentityHash();
        string? kept = options.Cache is null ? null : Path.Combine(options.Cache, hash.Add(options.Model).Add(question).End() + ".txt");
        if (kept is not null && File.Exists(kept))
        {
            return File.ReadAllText(kept);
        }

        string reply = Reply(client, question, cancellationToken);
        if (kept is not null)
        {
            Directory.CreateDirectory(options.Cache!);
            AtomicFile.Write(Path.GetFullPath(kept), stream => stream.Write(Encoding.UTF8.GetBytes(reply)));
        }

        return reply;
    }

    private string Reply(HttpClient client, string question, CancellationToken cancellationToken)
    {
        for (int tried = 1; ; tried++)
        {
            cancellationToken.ThrowIfCancellationRequested();
            try
            {
                using var request = new HttpRequestMessage(HttpMethod.Post, $"{options.Url.ToString().TrimEnd('/')}/chat/completions")
                {
                    Content = new ByteArrayContent(Body(question)),
                };
                request.Content.Headers.ContentType = new MediaTypeHeaderValue("application/json");
                request.Headers.Authorization = options.Key is { } key ? new AuthenticationHeaderValue("Bearer", key) : null;
                using var response = client.Send(request, cancellationToken);
                using var content = response.Content.ReadAsStream(cancellationToken);
                if (response.IsSuccessStatusCode)
                {
                    using var json = JsonDocument.Parse(content);
                    return json.RootElement.GetProperty("choices")[0].GetProperty("message").GetProperty("content").GetString()
                        ?? throw new JudgeException($"The judge at {options.Url} gave no text.");
                }

                bool mayPass = response.StatusCode is HttpStatusCode.TooManyRequests or >= HttpStatusCode.InternalServerError;
                if (!mayPass || tried == Tries)
                {
                    throw new JudgeException(
                        $"The judge at {options.Url} refused with status {(int)response.StatusCode}: "
                        + (mayPass ? "it is overloaded or failed, so ask again later" : $"check the address, the model '{options.Model}' and the key")
                        + ". Replies that were given are kept, so the same command goes on.");
                }

                var wait = response.Headers.RetryAfter?.Delta ?? TimeSpan.FromSeconds(1 << tried);
                cancellationToken.WaitHandle.WaitOne(wait < s_maxWait ? wait : s_maxWait);
            }
            catch (Exception e) when (e is HttpRequestException or IOException or JsonException or KeyNotFoundException or InvalidOperationException
                or IndexOutOfRangeException || (e is OperationCanceledException && !cancellationToken.IsCancellationRequested))
            {
                throw new JudgeException(
                    $"The judge at {options.Url} cannot be asked, or does not answer as OpenAI's API does: {e.Message} Replies that were given are "
                    + "kept, so the same command goes on.", e);
            }
        }
    }

    private byte[] Body(string question)
    {
        using var bytes = new MemoryStream();
        using (var json = new Utf8JsonWriter(bytes))
        {
            json.WriteStartObject();
            json.WriteString("model", options.Model);
            json.WriteNumber("temperature", 0);
            json.WriteNumber("max_tokens", MaxReplyTokens);
            json.WriteStartArray("messages");
            json.WriteStartObject();
            json.WriteString("role", "user");
            json.WriteString("content", question);
            json.WriteEndObject();
            json.WriteEndArray();
            json.WriteEndObject();
        }

        return bytes.ToArray();
    }

    [GeneratedRegex(@"\{answer\}|\{prompt\}", RegexOptions.None, 5000)]
    private static partial Regex Filled();

    [GeneratedRegex(@"-?[0-9]+(?:\.[0-9]+)?", RegexOptions.CultureInvariant, 5000)]
    private static partial Regex Numbers();

    [GeneratedRegex(@"\p{L}+", RegexOptions.CultureInvariant, 5000)]
    private static partial Regex Words();
}
