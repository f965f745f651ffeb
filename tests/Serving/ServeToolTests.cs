using System.Diagnostics;
using System.Net;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using Tiller.Serving;
using Tiller.Tests.Tool;
using Tiller.Tool;

namespace Tiller.Tests.Serving;

/// <summary><c>tiller serve</c>.</summary>
public sealed class ServeToolTests
{
    [TestCase("--host", "0.0.0.0")]
    [TestCase("--host", "::")]
    [TestCase("--cert", "cert.pem")]
    [TestCase("--key", "key.pem")]
    [TestCase("--port", "65536")]
    [TestCase("--host", "localhost:80")]
    [TestCase("--drain", "-1")]
    [TestCase("--drain", "30 seconds")]
    [TestCase("--drain", "25h")]
    [TestCase("--kv-memory", "0")]
    public async Task A_command_line_that_is_wrong_is_refused_before_a_model_is_loaded(string option, string value)
    {
        var run = await ToolRun.Of("serve", "--model", "no-such-folder", option, value);
        Assert.That(run.Code, Is.EqualTo(ExitCode.Usage), run.Error);
        Assert.That(run.Error, Does.Contain(option));
    }

    [Test]
    public async Task It_says_where_it_is_and_ends_with_success_when_it_is_told_to_stop()
    {
        using var folder = new Scratch();
        using var stop = new CancellationTokenSource();
        await using var output = new LiveWriter();
        await using var error = new LiveWriter();
        var terminal = new Terminal(Stream.Null, false, output, false, error, false);
        string[] args =
        [
            "serve", "--model", ToolRun.Model, "--controllers", folder["controllers"], "--port", "0", "--device", "cpu", "--threads", "1", "--drain",
            "2m",
        ];
        var run = Task.Run(() => CommandLine.RunAsync(Runs.Commands(terminal), args, terminal, stop.Token));
        Patience.Until(() => output.Text.Contains('\n', StringComparison.Ordinal) || run.IsCompleted, "it listens");
        string address = output.Text.Trim().Split(' ')[^1];
        using var client = new HttpClient();
        Assert.That(await client.GetStringAsync($"{address}v1/models"), Does.Contain("\"demo\""));
        await stop.CancelAsync();
        Assert.That(await run.InTime(), Is.EqualTo(ExitCode.Ok));
        Assert.That(error.Text, Does.Contain("GET /v1/models: 200"), "the request log");
        Assert.That(error.Text, Does.Contain("running texts have 120 s"));
        Assert.That(Directory.Exists(folder["controllers"]), Is.True);
    }

    [Test]
    public async Task SIGTERM_lets_the_running_text_end_and_the_process_with_success()
    {
        using var server = new Started(
            "tiller", "serve", "--model", ToolRun.Model, "--port", "0", "--device", "cpu", "--threads", "1", "--drain", "10m");
        string address = (await server.LineWith("http://")).Trim().Split(' ')[^1];
        using var client = new HttpClient { BaseAddress = new Uri(address), Timeout = Patience.Limit };
        using var request = new HttpRequestMessage(HttpMethod.Post, "/v1/completions");
        request.Content = new StringContent(
            """{"model":"demo","prompt":"Once","max_tokens":400,"ignore_eos":true,"stream":true,"logprobs":0}""", System.Text.Encoding.UTF8,
            "application/json");
        using var response = await client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync());
        Assert.That(await reader.ReadLineAsync().InTime(), Does.StartWith("data: {"));
        await server.Terminate();
        string rest = await reader.ReadToEndAsync().InTime();
        Assert.That(rest, Does.EndWith("data: [DONE]\n\n"));
        Assert.That(rest.Split("\"token_logprobs\":[-").Length - 1, Is.EqualTo(400), "what was running came to its end");
        await server.EndsWell();
    }

    [Test]
    public async Task The_sample_serves_the_routes_and_asks_a_chat_client()
    {
        const string Begin = "Now listening on: ";
        using var server = new Started("Serve", "--urls", "http://127.0.0.1:0");
        using var client = new HttpClient { BaseAddress = new Uri((await server.LineWith(Begin)).Split(Begin)[1]), Timeout = Patience.Limit };
        Assert.That(await client.GetStringAsync("/v1/models"), Does.Contain("\"demo\""));
        Assert.That(await client.GetStringAsync("/ask?question=Who%20swims%3F"), Is.Not.Empty);
        await server.Terminate();
        await server.EndsWell();
    }

    [Test]
    public async Task What_the_readme_shows_is_answered()
    {
        string readme = (await File.ReadAllTextAsync(Repository.Path("README.md"))).ReplaceLineEndings("\n");
        string block = readme[readme.IndexOf("```sh\ntiller serve ", StringComparison.Ordinal)..][6..];
        string[] lines = block[..block.IndexOf("\n```", StringComparison.Ordinal)].Replace(" \\\n", "", StringComparison.Ordinal).Split('\n');
        Assert.That(lines, Has.Length.EqualTo(2));
        using var folder = new Scratch();
        Directory.CreateDirectory(folder["controllers"]);
        var fit = await ToolRun.Of(
            "fit", "--model", ToolRun.Model, "--positive", folder.Few("topic.positive", 6), "--negative", folder.Few("topic.negative", 6), "--out",
            Path.Combine(folder["controllers"], "sea.tiller"), "--cost", "feature");
        Assert.That(fit.Code, Is.Zero, fit.Error);

        using var stop = new CancellationTokenSource();
        await using var output = new LiveWriter();
        await using var error = new LiveWriter();
        var terminal = new Terminal(Stream.Null, false, output, false, error, false);
        string[] words = [.. lines[0].Split(' ').Skip(1).Select(word => word switch
        {
            "models/demo" => ToolRun.Model,
            "controllers" => folder["controllers"],
            _ => word,
        })];
        string[] args = [.. words, "--port", "0", "--device", "cpu", "--threads", "1"];
        var run = Task.Run(() => CommandLine.RunAsync(Runs.Commands(terminal), args, terminal, stop.Token));
        Patience.Until(() => output.Text.Contains('\n', StringComparison.Ordinal) || run.IsCompleted, "it listens");
        var address = new Uri(output.Text.Trim().Split(' ')[^1]);
        Assert.That(lines[1], Does.StartWith("curl http://127.0.0.1:8080/").And.EndsWith("'"));
        string path = lines[1].Split(' ')[1]["http://127.0.0.1:8080".Length..];
        string body = lines[1][(lines[1].IndexOf("-d '", StringComparison.Ordinal) + 4)..^1];
        using var client = new HttpClient();
        using var content = new StringContent(body, System.Text.Encoding.UTF8, "application/json");
        using var response = await client.PostAsync(new Uri(address, path), content);
        string answer = await response.Content.ReadAsStringAsync();
        Assert.That(response.StatusCode, Is.EqualTo(HttpStatusCode.OK), answer);
        Assert.That(answer, Does.Contain("\"steering\""));
        await stop.CancelAsync();
        Assert.That(await run.InTime(), Is.EqualTo(ExitCode.Ok));
    }

    [Test]
    public async Task The_log_has_no_word_of_a_prompt_or_an_answer_unless_it_is_asked_to([Values] bool logsTexts)
    {
        using var stop = new CancellationTokenSource();
        await using var output = new LiveWriter();
        await using var error = new LiveWriter();
        var terminal = new Terminal(Stream.Null, false, output, false, error, false);
        string[] asked = logsTexts ? ["--log-texts"] : [];
        string[] args = ["serve", "--model", ToolRun.Model, "--port", "0", "--device", "cpu", "--threads", "1", .. asked];
        var run = Task.Run(() => CommandLine.RunAsync(Runs.Commands(terminal), args, terminal, stop.Token));
        Patience.Until(() => output.Text.Contains('\n', StringComparison.Ordinal) || run.IsCompleted, "it listens");
        using var client = new HttpClient { BaseAddress = new Uri(output.Text.Trim().Split(' ')[^1]) };
        string[] prompts = ["Karin told a secret", "Ella kept a riddle"];
        var answers = new List<string>();
        foreach (string prompt in prompts)
        {
            using var content = new StringContent(
                $$"""{"model":"demo","prompt":"{{prompt}}","max_tokens":8,"temperature":0}""", System.Text.Encoding.UTF8, "application/json");
            using var response = await client.PostAsync(new Uri("v1/completions", UriKind.Relative), content);
            using var json = System.Text.Json.JsonDocument.Parse(await response.Content.ReadAsStringAsync());
            answers.Add(json.RootElement.GetProperty("choices")[0].GetProperty("text").GetString()!.Trim());
        }

        await stop.CancelAsync();
        Assert.That(await run.InTime(), Is.EqualTo(ExitCode.Ok));
        Assert.That(error.Text, Does.Contain("POST /v1/completions: 200").And.Contain(" and 8 new"), "the request log");
        foreach (string text in prompts.Concat(answers))
        {
            Assert.That(error.Text, logsTexts ? Does.Contain(text) : Does.Not.Contain(text));
        }
    }

    [Test]
    public async Task With_a_certificate_it_speaks_both_versions_of_HTTP_encrypted()
    {
        using var folder = new Scratch();
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=localhost", key, HashAlgorithmName.SHA256);
        using var made = request.CreateSelfSigned(DateTimeOffset.UtcNow.AddDays(-1), DateTimeOffset.UtcNow.AddDays(1));
        await File.WriteAllTextAsync(folder["cert.pem"], made.ExportCertificatePem());
        await File.WriteAllTextAsync(folder["key.pem"], key.ExportPkcs8PrivateKeyPem());
        using var certificate = X509Certificate2.CreateFromPemFile(folder["cert.pem"], folder["key.pem"]);
        await using var server = await RunningServer.Start(server: new ServerOptions { Certificate = certificate });
        Assert.That(server.Address.Scheme, Is.EqualTo("https"));
        using var handler = new SocketsHttpHandler();
        handler.SslOptions.RemoteCertificateValidationCallback = (_, presented, _, _) => presented!.GetCertHashString() == made.GetCertHashString();
        using var client = new HttpClient(handler);
        foreach (var version in new[] { HttpVersion.Version11, HttpVersion.Version20 })
        {
            using var get = new HttpRequestMessage(HttpMethod.Get, new Uri(server.Address, "v1/models"));
            (get.Version, get.VersionPolicy) = (version, HttpVersionPolicy.RequestVersionExact);
            using var response = await client.SendAsync(get);
            Assert.That((response.StatusCode, response.Version), Is.EqualTo((HttpStatusCode.OK, version)));
        }
    }

    /// <summary>What has been written so far.</summary>
    private sealed class LiveWriter : StringWriter
    {
        private readonly Lock _lock = new();

        public string Text
        {
            get
            {
                lock (_lock)
                {
                    return ToString();
                }
            }
        }

        public override void Write(char value)
        {
            lock (_lock)
            {
                base.Write(value);
            }
        }

        public override void Write(string? value)
        {
            lock (_lock)
            {
                base.Write(value);
            }
        }

        public override void Write(char[] buffer, int index, int count)
        {
            lock (_lock)
            {
                base.Write(buffer, index, count);
            }
        }
    }

    // A program of the tests' folder in the repository's folder, which ends with the test.
    private sealed class Started : IDisposable
    {
        private readonly Process _process;
        private readonly Task<string> _log;

        public Started(string program, params string[] args)
        {
            // Whatever the tests inherited: a shell ignores Ctrl-C for what it runs in the background.
            string[] words = ["--default-signal=INT,TERM", "dotnet", Path.Combine(AppContext.BaseDirectory, $"{program}.dll"), .. args];
            _process = Process.Start(new ProcessStartInfo("env", words)
            {
                WorkingDirectory = Repository.Path("."),
                UseShellExecute = false,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            })!;
            _log = _process.StandardError.ReadToEndAsync();
        }

        /// <summary>The first line of its output that contains a text.</summary>
        public async Task<string> LineWith(string text)
        {
            while (await _process.StandardOutput.ReadLineAsync().InTime() is { } line)
            {
                if (line.Contains(text, StringComparison.Ordinal))
                {
                    return line;
                }
            }

            throw new InvalidOperationException($"It ended without '{text}': {await _log.InTime()}");
        }

        public async Task Terminate()
        {
            using var kill = Process.Start("kill", ["-TERM", $"{_process.Id}"]);
            await kill.WaitForExitAsync().InTime();
        }

        public async Task EndsWell()
        {
            string rest = await _process.StandardOutput.ReadToEndAsync().InTime();
            await _process.WaitForExitAsync().InTime();
            Assert.That(_process.ExitCode, Is.EqualTo(ExitCode.Ok), await _log.InTime() + rest);
        }

        public void Dispose()
        {
            _process.Kill(); // nothing, if it has ended
            _process.Dispose();
        }
    }
}
