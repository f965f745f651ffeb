using System.Collections.Concurrent;
using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;

namespace Tiller.Tests.Hub;

/// <summary>A request that the server received.</summary>
/// <param name="Method">GET or HEAD.</param>
/// <param name="Target">The request target: a path, or a whole address from the client of a proxy.</param>
/// <param name="Headers">Its headers, one per line.</param>
internal sealed record HubRequest(string Method, string Target, string Headers)
{
    /// <summary>The file whose bytes are requested, or null.</summary>
    public string? FileOfBytes => Method != "GET" ? null
        : Target.Contains("?file=", StringComparison.Ordinal) ? Uri.UnescapeDataString(Target.Split("?file=")[1])
        : Target.Split("/resolve/") is [_, var rest] ? Uri.UnescapeDataString(rest[(rest.IndexOf('/', StringComparison.Ordinal) + 1)..]) : null;

    /// <summary>A header's value, or null.</summary>
    public string? this[string name] =>
        Headers.Split("\r\n").FirstOrDefault(h => h.StartsWith(name + ":", StringComparison.OrdinalIgnoreCase))?[(name.Length + 1)..].Trim();
}

/// <summary>A fault in the next response with the bytes of a file.</summary>
internal enum HubFault
{
    /// <summary>The connection is closed after half of the bytes.</summary>
    Cut,

    /// <summary>After half of the bytes nothing more is sent until <see cref="HubServer.Release"/>.</summary>
    Hang,

    /// <summary>One byte is wrong.</summary>
    WrongByte,

    /// <summary>One byte more is sent than the file has.</summary>
    TooMany,

    /// <summary>The whole file is sent, whatever part was requested.</summary>
    Whole,

    /// <summary>The headers name another part than the one requested.</summary>
    OtherPart,
}

/// <summary>
/// A model hub on the loopback interface, written with raw sockets so that it can misbehave. It redirects requests for files of
/// <see cref="LargeFrom"/> bytes and more to another host name, localhost.
/// </summary>
[SuppressMessage("Security", "CA5350:Do Not Use Weak Cryptographic Algorithms", Justification = "It is git's.")]
internal sealed class HubServer : IDisposable
{
    public const int LargeFrom = 4096;
    public const string Token = "hf_of_the_tests";

    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly ConcurrentDictionary<string, ConcurrentQueue<object>> _faults = new(StringComparer.Ordinal);
    private readonly ConcurrentQueue<HubRequest> _log = new();
    private readonly TaskCompletionSource _release = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public HubServer()
    {
        _listener.Start();
        Port = ((IPEndPoint)_listener.LocalEndpoint).Port;
        _ = AcceptAsync();
    }

    public Uri Address => new($"http://127.0.0.1:{Port}");

    public int Port { get; }

    public string Name { get; set; } = "org/some-model";

    /// <summary>Whether only requests with <see cref="Token"/> may see the model.</summary>
    public bool IsPrivate { get; set; }

    public SortedDictionary<string, byte[]> Files { get; } = new(StringComparer.Ordinal);

    /// <summary>Branches and tags, each at the same commit.</summary>
    public HashSet<string> Branches { get; } = ["main"];

    /// <summary>Responses by path that replace the hub's own: the status and the headers, one per line.</summary>
    public Dictionary<string, string> Answers { get; } = new(StringComparer.Ordinal);

    /// <summary>Replacements for headers of the response to a HEAD request; names that it does not have are ignored.</summary>
    public Dictionary<string, string> HeadHeaders { get; } = new(StringComparer.OrdinalIgnoreCase);

    /// <summary>Replaces the list of the model's files, if not null.</summary>
    public string? Listing { get; set; }

    /// <summary>Completed when half of a file was sent and the rest is held back.</summary>
    public TaskCompletionSource Hanging { get; } = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public string Commit =>
        Convert.ToHexStringLower(SHA1.HashData(Encoding.UTF8.GetBytes(string.Join('\n', Files.Select(f => $"{f.Key} {Sha256(f.Value)}")))));

    public IReadOnlyList<HubRequest> Log => [.. _log];

    public static string Sha256(byte[] bytes) => Convert.ToHexStringLower(SHA256.HashData(bytes));

    public static string TagOf(byte[] bytes) => bytes.Length >= LargeFrom ? Sha256(bytes)
        : Convert.ToHexStringLower(SHA1.HashData([.. Encoding.ASCII.GetBytes($"blob {bytes.Length}\0"), .. bytes]));

    /// <summary>The requests for the bytes of a file so far.</summary>
    public HubRequest[] Fetches(string file) =>
        [.. Log.Where(r => r.FileOfBytes == file && !(IsLarge(file) && r.Target.Contains("/resolve/", StringComparison.Ordinal)))];

    public void Fail(string file, HubFault fault, int times = 1) => Add(file, fault, times);

    /// <summary>Answers the next requests for a file's bytes with this status and these headers, one per line.</summary>
    public void Refuse(string file, string statusAndHeaders, int times = 1) => Add(file, statusAndHeaders, times);

    /// <summary>Lets responses that are held back go on.</summary>
    public void Release() => _release.TrySetResult();

    public void Dispose()
    {
        _listener.Dispose();
        Release();
    }

    private void Add(string file, object fault, int times)
    {
        for (int i = 0; i < times; i++)
        {
            _faults.GetOrAdd(file, _ => new()).Enqueue(fault);
        }
    }

    private bool IsLarge(string file) => Files.TryGetValue(file, out var bytes) && bytes.Length >= LargeFrom;

    private async Task AcceptAsync()
    {
        try
        {
            while (true)
            {
                _ = ServeAsync(await _listener.AcceptTcpClientAsync());
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or InvalidOperationException)
        {
            // The test is over.
        }
    }

    private async Task ServeAsync(TcpClient client)
    {
        using (client)
        {
            try
            {
                await using var stream = client.GetStream();
                if (await ReadAsync(stream) is { } request)
                {
                    _log.Enqueue(request);
                    await AnswerAsync(stream, request);
                }
            }
            catch (Exception e) when (e is IOException or SocketException or ObjectDisposedException)
            {
                // The client went away.
            }
        }
    }

    private static async Task<HubRequest?> ReadAsync(NetworkStream stream)
    {
        var head = new StringBuilder();
        var one = new byte[1];
        while (!head.ToString().EndsWith("\r\n\r\n", StringComparison.Ordinal))
        {
            if (await stream.ReadAsync(one) == 0)
            {
                return null;
            }

            head.Append((char)one[0]);
        }

        string[] lines = head.ToString().Split("\r\n", 2);
        string[] words = lines[0].Split(' ');
        return new HubRequest(words[0], words[1], lines[1]);
    }

    private async Task AnswerAsync(NetworkStream stream, HubRequest request)
    {
        string path = request.Target.StartsWith("http", StringComparison.Ordinal) ? new Uri(request.Target).PathAndQuery : request.Target;
        bool known = !IsPrivate || request["Authorization"] == $"Bearer {Token}";
        if (Answers.TryGetValue(path, out string? answer))
        {
            await HeadAsync(stream, answer, 0);
        }
        else if (path.StartsWith($"/api/models/{Name}/revision/", StringComparison.Ordinal))
        {
            string revision = Uri.UnescapeDataString(path.Split("/revision/")[1]);
            string? refusal = !known ? "401 Unauthorized\nX-Error-Code: RepoNotFound\nX-Error-Message: Repository not found"
                : revision != Commit && !Branches.Contains(revision)
                    ? $"404 Not Found\nX-Error-Code: RevisionNotFound\nX-Error-Message: Invalid rev id: {revision}" : null;
            await (refusal is not null ? HeadAsync(stream, refusal, 0)
                : BodyAsync(stream, "200 OK", Encoding.UTF8.GetBytes(Listing ?? ListingOf(Commit, Files.Keys))));
        }
        else if (path.StartsWith($"/{Name}/resolve/{Commit}/", StringComparison.Ordinal))
        {
            await ResolveAsync(stream, request, Uri.UnescapeDataString(path.Split($"/resolve/{Commit}/")[1]), known);
        }
        else if (path.StartsWith("/cdn/", StringComparison.Ordinal))
        {
            await SendAsync(stream, request, Uri.UnescapeDataString(path.Split("?file=")[1]), "");
        }
        else
        {
            await HeadAsync(stream, "404 Not Found\nX-Error-Code: RepoNotFound\nX-Error-Message: Repository not found", 0);
        }
    }

    public static string ListingOf(string commit, IEnumerable<string> files)
    {
        using var bytes = new MemoryStream();
        using (var json = new Utf8JsonWriter(bytes))
        {
            json.WriteStartObject();
            json.WriteString("sha", commit);
            json.WriteStartArray("siblings");
            foreach (string file in files)
            {
                json.WriteStartObject();
                json.WriteString("rfilename", file);
                json.WriteEndObject();
            }

            json.WriteEndArray();
            json.WriteEndObject();
        }

        return Encoding.UTF8.GetString(bytes.ToArray());
    }

    private async Task ResolveAsync(NetworkStream stream, HubRequest request, string file, bool known)
    {
        if (!known || !Files.TryGetValue(file, out byte[]? bytes))
        {
            await HeadAsync(stream, known ? "404 Not Found\nX-Error-Code: EntryNotFound" : "401 Unauthorized\nX-Error-Code: GatedRepo", 0);
            return;
        }

        var headers = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase)
        {
            ["X-Repo-Commit"] = Commit,
            ["ETag"] = $"\"{TagOf(bytes)}\"",
        };
        if (IsLarge(file))
        {
            headers["X-Linked-Etag"] = $"\"{TagOf(bytes)}\"";
            headers["X-Linked-Size"] = bytes.Length.ToString(CultureInfo.InvariantCulture);
            headers["Location"] = $"http://localhost:{Port}/cdn/{TagOf(bytes)}?file={Uri.EscapeDataString(file)}";
        }

        if (request.Method == "HEAD")
        {
            foreach (var (name, value) in HeadHeaders.Where(h => headers.ContainsKey(h.Key)))
            {
                headers[name] = value;
            }
        }

        string lines = string.Concat(headers.Select(h => $"\n{h.Key}: {h.Value}"));
        await (IsLarge(file) ? HeadAsync(stream, "302 Found" + lines, 0)
            : request.Method == "HEAD" ? HeadAsync(stream, "200 OK" + lines, bytes.Length)
            : SendAsync(stream, request, file, lines));
    }

    private async Task SendAsync(NetworkStream stream, HubRequest request, string file, string headers)
    {
        byte[] bytes = Files[file];
        object? fault = _faults.TryGetValue(file, out var faults) && faults.TryDequeue(out object? next) ? next : null;
        if (fault is string refusal)
        {
            await HeadAsync(stream, refusal, 0);
            return;
        }

        int from = request["Range"] is { } range ? int.Parse(range["bytes=".Length..].TrimEnd('-'), CultureInfo.InvariantCulture) : 0;
        from = fault is HubFault.Whole ? 0 : from;
        if (from >= bytes.Length && from > 0)
        {
            await HeadAsync(stream, "416 Range Not Satisfiable", 0);
            return;
        }

        byte[] sent = [.. bytes[from..]];
        sent[^1] ^= fault is HubFault.WrongByte ? (byte)1 : (byte)0;
        sent = fault is HubFault.TooMany ? [.. sent, 0] : sent;
        int told = fault is HubFault.OtherPart ? from + 1 : from;
        string status = from > 0 ? $"206 Partial Content\nContent-Range: bytes {told}-{bytes.Length - 1}/{bytes.Length}" : "200 OK";
        await HeadAsync(stream, status + headers, sent.Length);
        if (fault is not (HubFault.Cut or HubFault.Hang))
        {
            await stream.WriteAsync(sent);
            return;
        }

        await stream.WriteAsync(sent.AsMemory(0, sent.Length / 2));
        await stream.FlushAsync();
        if (fault is HubFault.Hang)
        {
            Hanging.TrySetResult();
            await _release.Task;
            await stream.WriteAsync(sent.AsMemory(sent.Length / 2));
        }
    }

    private static async Task BodyAsync(NetworkStream stream, string status, byte[] body)
    {
        await HeadAsync(stream, status, body.Length);
        await stream.WriteAsync(body);
    }

    private static async Task HeadAsync(NetworkStream stream, string statusAndHeaders, int length)
    {
        string lines = statusAndHeaders.Replace("\n", "\r\n", StringComparison.Ordinal);
        string head = $"HTTP/1.1 {lines}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n";
        await stream.WriteAsync(Encoding.ASCII.GetBytes(head));
    }
}

/// <summary>A clock whose pauses end at once, and whose time-outs for silence elapse only when the test says so.</summary>
internal sealed class HubTime : TimeProvider
{
    private readonly ConcurrentQueue<TimeSpan> _pauses = new();
    private readonly ConcurrentDictionary<Due, bool> _silences = new();

    /// <summary>Every pause of at least one second, in seconds.</summary>
    public double[] Pauses => [.. _pauses.Select(p => p.TotalSeconds).Where(s => s >= 1)];

    /// <summary>Whether a response is being waited for.</summary>
    public bool IsListening => !_silences.IsEmpty;

    /// <summary>Makes the time-outs for silence of all requests elapse.</summary>
    public void ElapseSilence()
    {
        foreach (var due in _silences.Keys)
        {
            due.Fire();
        }
    }

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        var due = new Due(callback, state, this);
        if (dueTime == Tiller.Hub.HubClient.Silence)
        {
            _silences[due] = true;
        }
        else if (dueTime != Timeout.InfiniteTimeSpan)
        {
            _pauses.Enqueue(dueTime);
            ThreadPool.QueueUserWorkItem(_ => due.Fire());
        }

        return due;
    }

    private sealed class Due(TimerCallback callback, object? state, HubTime owner) : ITimer
    {
        public void Fire() => callback(state);

        public bool Change(TimeSpan dueTime, TimeSpan period) => true;

        public void Dispose() => owner._silences.TryRemove(this, out _);

        public ValueTask DisposeAsync()
        {
            Dispose();
            return default;
        }
    }
}
