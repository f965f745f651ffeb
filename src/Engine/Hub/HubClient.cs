using System.Net;
using System.Net.Http.Headers;
using System.Text.Json;
using Tiller.Checkpoint;

namespace Tiller.Hub;

/// <summary>The hub's description of a model.</summary>
/// <param name="Commit">The commit that the revision points to.</param>
/// <param name="Files">Names of all files of the model.</param>
internal sealed record HubListing(string Commit, IReadOnlySet<string> Files);

/// <summary>
/// Sends requests to the hub, and repeats a request after a temporary failure, such as a lost connection or a busy hub. It follows redirections
/// itself instead of the handler, so that the token is sent only to the hub's own address. Thread-safe.
/// </summary>
internal sealed class HubClient : IDisposable
{
    /// <summary>Time without a byte after which a connection is given up.</summary>
    public static readonly TimeSpan Silence = TimeSpan.FromSeconds(60);

    /// <summary>Number of failures in a row after which a request is given up.</summary>
    public const int MaxFailures = 6;

    private const int MaxHops = 10;
    private const int LongestListing = 64 << 20;
    private static readonly TimeSpan s_longestWait = TimeSpan.FromMinutes(5);

    private readonly HttpClient _http;
    private readonly Uri _endpoint;
    private readonly string? _token;
    private readonly TimeProvider _time;
    private volatile bool _reached;

    /// <summary>Reads the address and the token. It sends nothing yet.</summary>
    /// <exception cref="HubException">The address or the token is not valid.</exception>
    public HubClient(HubPullOptions options)
    {
        _endpoint = options.ResolveEndpoint();
        _token = options.ResolveToken();
        _time = options.Time;
        _http = new HttpClient(new SocketsHttpHandler { AllowAutoRedirect = false, UseCookies = false, ConnectTimeout = Silence })
        {
            Timeout = Timeout.InfiniteTimeSpan, // only silence ends a request, however long it takes
        };
        _http.DefaultRequestHeaders.UserAgent.Add(new ProductInfoHeaderValue("tiller", typeof(HubClient).Assembly.GetName().Version?.ToString(3)));
        _http.DefaultRequestHeaders.AcceptEncoding.Add(new StringWithQualityHeaderValue("identity"));
    }

    /// <summary>Asks for the commit of a revision and its files.</summary>
    /// <exception cref="HubException">There is no such model or revision, or the hub does not answer.</exception>
    public Task<HubListing> ListAsync(HubName name, CancellationToken cancellationToken)
    {
        Uri address = Address($"api/models/{name.Repository}/revision/{Uri.EscapeDataString(name.Revision!)}");
        return RetryAsync(
            async token =>
            {
                using HttpResponseMessage response = await SendAsync(HttpMethod.Get, address, name.ToString(), 0, token).ConfigureAwait(false);
                return ParseListing(await ReadAllAsync(response, address, token).ConfigureAwait(false), address);
            },
            cancellationToken);
    }

    /// <summary>Asks for the size and hash of a file.</summary>
    /// <exception cref="HubException">There is no such file, or the hub does not answer.</exception>
    public Task<HubFile> DescribeAsync(HubName name, string commit, string file, CancellationToken cancellationToken)
    {
        Uri address = FileAddress(name, commit, file);
        return RetryAsync(
            async token =>
            {
                using HttpResponseMessage response = await SendAsync(HttpMethod.Head, address, $"{name.Repository}, {file}", 0,
                    token).ConfigureAwait(false);
                string? actual = Header(response, "X-Repo-Commit");
                if (actual != commit)
                {
                    throw Protocol(address, $"expected the header X-Repo-Commit: {commit}, got {Quoted.Text(actual)}");
                }

                string? tag = Header(response, "X-Linked-Etag") ?? response.Headers.ETag?.Tag;
                string? size = Header(response, "X-Linked-Size")
                    ?? response.Content.Headers.ContentLength?.ToString(System.Globalization.CultureInfo.InvariantCulture);
                return HubFile.TryCreate(file, tag, size)
                    ?? throw Protocol(address,
                        $"expected the headers ETag and Content-Length of a file, got {Quoted.Text(tag)} and {Quoted.Text(size)}");
            },
            cancellationToken);
    }

    /// <summary>Requests the bytes of a file from an offset on. The caller reads them with <see cref="ReadAsync"/>.</summary>
    public Task<HttpResponseMessage> OpenAsync(HubName name, string commit, string file, long from, CancellationToken cancellationToken) =>
        SendAsync(HttpMethod.Get, FileAddress(name, commit, file), $"{name.Repository}, {file}", from, cancellationToken);

    /// <summary>Reads the next bytes of a response's content; returns 0 at its end.</summary>
    /// <exception cref="HubException">The connection ended, or nothing came for too long.</exception>
    public Task<int> ReadAsync(Stream content, Memory<byte> buffer, string subject, CancellationToken cancellationToken) =>
        HearAsync(async token => await content.ReadAsync(buffer, token).ConfigureAwait(false), subject, cancellationToken);

    /// <summary>
    /// Repeats an attempt until it succeeds, fails permanently, or has failed too often in a row. An attempt that received bytes starts a new row.
    /// </summary>
    /// <param name="attempt">One attempt.</param>
    /// <param name="cancellationToken">Ends the attempt or the pause.</param>
    /// <param name="came">Returns the number of bytes received so far; null if the attempt receives none.</param>
    public async Task<T> RetryAsync<T>(Func<CancellationToken, Task<T>> attempt, CancellationToken cancellationToken, Func<long>? came = null)
    {
        int failures = 0;
        while (true)
        {
            long before = came?.Invoke() ?? 0;
            TimeSpan pause;
            try
            {
                return await attempt(cancellationToken).ConfigureAwait(false);
            }
            catch (HubException e) when (e.Passes)
            {
                failures = (came?.Invoke() ?? 0) > before ? 1 : failures + 1;
                if (failures == MaxFailures)
                {
                    throw;
                }

                pause = e.After ?? TimeSpan.FromSeconds(1 << (failures - 1));
            }

            await Task.Delay(pause, _time, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Waits for the given time.</summary>
    public Task PauseAsync(TimeSpan pause, CancellationToken cancellationToken) => Task.Delay(pause, _time, cancellationToken);

    public void Dispose() => _http.Dispose();

    private static HubException Protocol(Uri address, string message) =>
        new(HubError.Protocol, address.ToString(), $"the server does not answer like a model hub: {message}. Is HF_ENDPOINT right?");

    private static string? Header(HttpResponseMessage response, string name) =>
        response.Headers.TryGetValues(name, out var values) ? values.FirstOrDefault() : null;

    private static bool IsRedirection(HttpStatusCode status) => status is HttpStatusCode.MovedPermanently or HttpStatusCode.Found
        or HttpStatusCode.SeeOther
        or HttpStatusCode.TemporaryRedirect or HttpStatusCode.PermanentRedirect;

    private static HubListing ParseListing(byte[] json, Uri address)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(json);
            string? commit = document.RootElement.GetProperty("sha").GetString();
            var files = document.RootElement.GetProperty("siblings").EnumerateArray().Select(f => f.GetProperty("rfilename").GetString() ?? "");
            return commit is not null && HubFile.IsHex(commit) && commit.Length is >= 7 and <= 64
                ? new HubListing(commit, files.ToHashSet(StringComparer.Ordinal))
                : throw Protocol(address, $"expected a commit in sha, got {Quoted.Text(commit)}");
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException)
        {
            throw Protocol(address, $"expected JSON with sha and siblings, got {Quoted.Text(System.Text.Encoding.UTF8.GetString(json))}");
        }
    }

    private Uri Address(string path) => new($"{_endpoint.ToString().TrimEnd('/')}/{path}");

    private Uri FileAddress(HubName name, string commit, string file) =>
        Address($"{name.Repository}/resolve/{commit}/{string.Join('/', file.Split('/').Select(Uri.EscapeDataString))}");

    // A HEAD request stops at a redirection to the storage of the bytes, because size and hash are in the hub's own answer.
    private async Task<HttpResponseMessage> SendAsync(HttpMethod method, Uri address, string subject, long from, CancellationToken cancellationToken)
    {
        Uri here = address;
        for (int hops = 0; hops <= MaxHops; hops++)
        {
            var request = new HttpRequestMessage(method, here);
            bool isHub = Uri.Compare(here, _endpoint, UriComponents.SchemeAndServer, UriFormat.Unescaped, StringComparison.OrdinalIgnoreCase) == 0;
            request.Headers.Authorization = isHub && _token is not null ? new AuthenticationHeaderValue("Bearer", _token) : null;
            request.Headers.Range = from > 0 ? new RangeHeaderValue(from, null) : null;
            HttpResponseMessage response = await HearAsync(
                token => _http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, token), subject, cancellationToken).ConfigureAwait(false);
            request.Dispose();
            _reached = true;
            string? location = IsRedirection(response.StatusCode) && response.Headers.NonValidated.TryGetValues("Location", out var values)
                ? values.ToString() : null;
            if (location is null)
            {
                if (response.IsSuccessStatusCode || response.StatusCode == HttpStatusCode.RequestedRangeNotSatisfiable)
                {
                    return response;
                }

                using (response)
                {
                    throw Refusal(response, subject, isHub);
                }
            }

            // On Unix, Uri would parse a path as an absolute file address.
            bool isElsewhere = Uri.CheckSchemeName(location.Split(':')[0]);
            if (method == HttpMethod.Head && isElsewhere && Header(response, "X-Repo-Commit") is not null)
            {
                return response;
            }

            response.Dispose();
            if (!(isElsewhere ? Uri.TryCreate(location, UriKind.Absolute, out Uri? next) : Uri.TryCreate(here, location, out next))
                || !HubPullOptions.IsWeb(next) || (here.Scheme == Uri.UriSchemeHttps && next.Scheme != here.Scheme))
            {
                throw new HubException(HubError.Protocol, subject, $"{here.Host} redirects to {Quoted.Text(location)}, which is not safe to follow.");
            }

            here = next;
        }

        throw new HubException(HubError.Protocol, subject, $"{_endpoint.Host} redirects more than {MaxHops} times.");
    }

    private async Task<byte[]> ReadAllAsync(HttpResponseMessage response, Uri address, CancellationToken cancellationToken)
    {
        using var all = new MemoryStream();
        await using Stream content = await response.Content.ReadAsStreamAsync(cancellationToken).ConfigureAwait(false);
        var buffer = new byte[1 << 16];
        for (int read; (read = await ReadAsync(content, buffer, address.ToString(), cancellationToken).ConfigureAwait(false)) > 0;)
        {
            all.Write(buffer, 0, read);
            if (all.Length > LongestListing)
            {
                throw Protocol(address, $"expected at most {LongestListing} bytes, got more");
            }
        }

        return all.ToArray();
    }

    // Turns failures of the network into one type of exception. Before the hub has answered for the first time, a failure is not treated as temporary
    // and is reported at once.
    private async Task<T> HearAsync<T>(Func<CancellationToken, Task<T>> what, string subject, CancellationToken cancellationToken)
    {
        using var silence = new CancellationTokenSource(Silence, _time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(silence.Token, cancellationToken);
        try
        {
            return await what(either.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException) when (silence.IsCancellationRequested && !cancellationToken.IsCancellationRequested)
        {
            throw new HubException(HubError.Unreachable, subject, $"{_endpoint.Host} sent nothing for {Silence.TotalSeconds:0} s.") { Passes = true };
        }
        catch (Exception e) when (e is HttpRequestException or IOException)
        {
            string where = _reached ? "the connection was lost"
                : $"{_endpoint.Host} cannot be reached (HF_ENDPOINT sets the address, HTTPS_PROXY a proxy)";
            throw new HubException(HubError.Unreachable, subject, $"{where}: {e.GetBaseException().Message}", e) { Passes = _reached };
        }
    }

    private HubException Refusal(HttpResponseMessage response, string subject, bool isHub)
    {
        string? code = Header(response, "X-Error-Code");
        string said = $"{(int)response.StatusCode} {response.ReasonPhrase}{(Header(response, "X-Error-Message") is { } text ? ": " + text : "")}";
        string told = $" {(isHub ? _endpoint.Host : response.RequestMessage?.RequestUri?.Host)} said {Quoted.Text(said)}.";
        string token = _token is null ? "no token was sent: set HF_TOKEN" : "the token that was sent does not open it";
        int status = (int)response.StatusCode;
        return (code, status) switch
        {
            ("GatedRepo", _) => new HubException(
                HubError.AccessDenied, subject, $"the conditions of this model must be accepted on its page at the hub, and {token}.{told}"),
            ("RepoNotFound", _) =>
                new HubException(HubError.RepositoryNotFound, subject, $"there is no such model, or it is private and {token}.{told}"),
            ("RevisionNotFound", _) => new HubException(HubError.RevisionNotFound, subject, "the model has no such branch, tag or commit." + told),
            ("EntryNotFound", _) => new HubException(HubError.FileNotFound, subject, "the hub lists this file but does not have it." + told),
            (_, 401 or 403) => new HubException(HubError.AccessDenied, subject, $"access is denied, and {token}.{told}"),
            (_, 404) => new HubException(HubError.RepositoryNotFound, subject, "there is no such model or file." + told),
            (_, 429) => Busy(response, subject, told),
            (_, 408 or >= 500) => new HubException(HubError.Refused, subject, "the hub failed." + told) { Passes = true, After = Wait(response) },
            _ => new HubException(HubError.Refused, subject, "the hub refused the request." + told),
        };
    }

    private HubException Busy(HttpResponseMessage response, string subject, string told)
    {
        TimeSpan? wait = Wait(response);
        string when = wait is { } time ? $" It asks to wait {time.TotalSeconds:0} s." : "";
        return new HubException(HubError.RateLimited, subject, $"the hub limits the rate of requests.{told}{when}")
        {
            Passes = !(wait > s_longestWait),
            After = wait
        };
    }

    private TimeSpan? Wait(HttpResponseMessage response) => response.Headers.RetryAfter switch
    {
        { Delta: { } delta } => delta,
        { Date: { } date } => date > _time.GetUtcNow() ? date - _time.GetUtcNow() : TimeSpan.Zero,
        _ => null,
    };
}
