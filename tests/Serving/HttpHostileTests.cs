using System.Net;
using System.Net.Sockets;
using System.Text;
using Tiller.Serving;
using Tiller.Tests.Tool;

namespace Tiller.Tests.Serving;

/// <summary>Requests that nobody should send (docs/hostile-inputs.md, section 7).</summary>
public sealed class HttpHostileTests
{
    private const string Sound = """{"model":"demo","prompt":"One day","max_tokens":2,"temperature":0}""";

    private Scratch _folder = null!;
    private RunningServer _server = null!;

    [OneTimeSetUp]
    public async Task Start()
    {
        _folder = new Scratch();
        _server = await RunningServer.Start(new ServiceOptions { ControllersDirectory = _folder["controllers"] });
    }

    [OneTimeTearDown]
    public async Task Stop()
    {
        await _server.DisposeAsync();
        _folder.Dispose();
    }

    private static TestCaseData Case(int row, string what, string body, string code, string? param = null, int status = 400) =>
        new TestCaseData(Encoding.UTF8.GetBytes(body), status, code, param).SetArgDisplayNames($"{row} {what}");

    private static TestCaseData Field(int row, string what, string fields, string code, string? param, int status = 400) =>
        Case(row, what, $$"""{"model":"demo","prompt":"One day","max_tokens":2,{{fields}}}""", code, param, status);

    private static TestCaseData Steered(int row, string what, string steering, string code, string? param, int status = 400) =>
        Field(row, what, $"\"steering\":{steering}", code, param, status);

    private static TestCaseData Prompted(int row, string what, string prompt, string code, string? param = "prompt") =>
        Case(row, what, $$"""{"model":"demo","prompt":{{prompt}}}""", code, param);

    private static IEnumerable<TestCaseData> Bodies() =>
    [
        Case(1, "nothing", "", "invalid_json"),
        Case(1, "white space", " \n", "invalid_json"),
        Case(2, "words", "hello", "invalid_json"),
        Case(2, "half an object", """{"model":"demo" """, "invalid_json"),
        Case(2, "two values", Sound + Sound, "invalid_json"),
        Case(2, "a trailing comma", """{"model":"demo",}""", "invalid_json"),
        Case(2, "a comment", """{"model":"demo"/* */}""", "invalid_json"),
        Case(2, "single quotes", "{'model':'demo'}", "invalid_json"),
        Case(3, "a list", "[]", "invalid_type"),
        Case(3, "a text", "\"x\"", "invalid_type"),
        Case(3, "null", "null", "invalid_type"),
        Case(4, "a field twice", """{"model":"demo","model":"demo","prompt":"x"}""", "invalid_json"),
        Case(4, "a field twice, escaped", """{"model":"demo","\u006dodel":"demo","prompt":"x"}""", "invalid_json"),
        Case(5, "33 levels", Nested(33), "invalid_json"),
        Case(5, "100,000 levels", Nested(100_000), "invalid_json"),
        Case(6, "NaN", """{"model":"demo","prompt":"x","temperature":NaN}""", "invalid_json"),
        Case(6, "Infinity", """{"model":"demo","prompt":"x","temperature":Infinity}""", "invalid_json"),
        Field(7, "1e999", "\"temperature\":1e999", "invalid_value", "temperature"),
        Field(7, "-1e999", "\"presence_penalty\":-1e999", "invalid_value", "presence_penalty"),
        Field(7, "a float32 too large", "\"top_p\":1e300", "invalid_value", "top_p"),
        Prompted(8, "half a surrogate pair", "\"\\ud800\"", "invalid_text"),
        Case(8, "half a surrogate pair in a name", """{"\ud800":1}""", "invalid_json"),
        Case(9, "a byte order mark", "\uFEFF" + Sound, "invalid_json"),
        Case(10, "NUL", "\0", "invalid_json"),
        Case(11, "an unknown field", """{"model":"demo","prompt":"x","promt":"y"}""", "unknown_field", "promt"),
        Field(11, "an unknown field of steering", "\"steering\":{\"controlers\":[]}", "missing_field", "steering.controllers"),
        Field(11, "an unknown field of stream_options", "\"stream\":true,\"stream_options\":{\"usage\":true}",
            "unknown_field", "stream_options.usage"),
        Case(12, "no model", """{"prompt":"x"}""", "missing_field", "model"),
        Case(12, "no prompt", """{"model":"demo"}""", "missing_field", "prompt"),
        Case(12, "null for a prompt", """{"model":"demo","prompt":null}""", "missing_field", "prompt"),
        Case(13, "another model", """{"model":"gpt-4o","prompt":"x"}""", "model_not_found", "model", 404),
        Case(13, "a model that is a path", """{"model":"../demo","prompt":"x"}""", "model_not_found", "model", 404),
        Case(13, "a model that is a number", """{"model":1,"prompt":"x"}""", "invalid_type", "model"),
        Prompted(14, "a number", "1", "invalid_type"),
        Prompted(14, "an object", "{}", "invalid_type"),
        Prompted(14, "true", "true", "invalid_type"),
        Prompted(15, "no ids", "[]", "invalid_value"),
        Prompted(15, "a list of no ids", "[[]]", "invalid_value", "prompt[0]"),
        Prompted(16, "an id below 0", "[1,-1]", "invalid_value", "prompt[1]"),
        Prompted(16, "an id beyond the vocabulary", "[1000000000]", "invalid_value", "prompt[0]"),
        Prompted(16, "half an id", "[1.5]", "invalid_value", "prompt[0]"),
        Prompted(16, "ids and texts", "[1,\"x\"]", "invalid_type", "prompt[1]"),
        Prompted(17, "17 prompts", $"[{string.Join(',', Enumerable.Repeat("\"x\"", 17))}]", "invalid_value"),
        Case(18, "a prompt beyond the context", $$"""{"model":"demo","prompt":"{{string.Concat(Enumerable.Repeat("One day. ", 5000))}}"}""",
            "context_length_exceeded"),
        Field(19, "n 0", "\"n\":0", "invalid_value", "n"),
        Field(19, "n 17", "\"n\":17", "invalid_value", "n"),
        Field(19, "n 1.5", "\"n\":1.5", "invalid_value", "n"),
        Field(19, "n in words", "\"n\":\"3\"", "invalid_type", "n"),
        Case(19, "more than 64 texts", """{"model":"demo","prompt":["a","b","c","d","e"],"n":16}""", "invalid_value", "n"),
        Field(20, "temperature -1", "\"temperature\":-1", "invalid_value", "temperature"),
        Field(20, "temperature 101", "\"temperature\":101", "invalid_value", "temperature"),
        Field(20, "temperature in words", "\"temperature\":\"hot\"", "invalid_type", "temperature"),
        Field(21, "top_p 0", "\"top_p\":0", "invalid_value", "top_p"),
        Field(21, "top_p 2", "\"top_p\":2", "invalid_value", "top_p"),
        Field(21, "top_k -2", "\"top_k\":-2", "invalid_value", "top_k"),
        Field(21, "top_k 1e10", "\"top_k\":1e10", "invalid_value", "top_k"),
        Field(21, "min_p 2", "\"min_p\":2", "invalid_value", "min_p"),
        Field(22, "presence_penalty 3", "\"presence_penalty\":3", "invalid_value", "presence_penalty"),
        Field(22, "frequency_penalty -3", "\"frequency_penalty\":-3", "invalid_value", "frequency_penalty"),
        Field(22, "repetition_penalty 0", "\"repetition_penalty\":0", "invalid_value", "repetition_penalty"),
        Field(23, "a list", "\"logit_bias\":[]", "invalid_type", "logit_bias"),
        Field(23, "a word for an id", "\"logit_bias\":{\"sea\":1}", "invalid_value", "logit_bias"),
        Field(23, "an id beyond the vocabulary", "\"logit_bias\":{\"1000000000\":1}", "invalid_value", "logit_bias"),
        Field(23, "a bias of 1000", "\"logit_bias\":{\"5\":1000}", "invalid_value", "logit_bias"),
        Field(23, "a bias of words", "\"logit_bias\":{\"5\":\"x\"}", "invalid_type", "logit_bias.5"),
        Field(24, "21", "\"logprobs\":21", "invalid_value", "logprobs"),
        Field(24, "true, as chats have it", "\"logprobs\":true", "invalid_type", "logprobs"),
        Field(24, "with echo", "\"logprobs\":1,\"echo\":true", "unsupported_value", "echo"),
        Field(25, "17", $"\"stop\":[{string.Join(',', Enumerable.Repeat("\"x\"", 17))}]", "invalid_value", "stop"),
        Field(25, "10,000", $"\"stop\":[{string.Join(',', Enumerable.Repeat("\"x\"", 10_000))}]", "invalid_value", "stop"),
        Field(25, "an empty one", "\"stop\":[\"\"]", "invalid_value", "stop"),
        Field(25, "one of 1025 characters", $"\"stop\":\"{new string('x', 1025)}\"", "invalid_value", "stop"),
        Field(25, "a number", "\"stop\":[1]", "invalid_type", "stop[0]"),
        Field(26, "1.5", "\"seed\":1.5", "invalid_value", "seed"),
        Field(26, "2⁶³", "\"seed\":9223372036854775808", "invalid_value", "seed"),
        Field(27, "0", "\"max_completion_tokens\":0", "invalid_value", "max_completion_tokens"),
        Field(27, "-1", "\"max_completion_tokens\":-1", "invalid_value", "max_completion_tokens"),
        Field(27, "10¹⁰", "\"max_completion_tokens\":10000000000", "invalid_value", "max_completion_tokens"),
        Field(27, "two that differ", "\"max_completion_tokens\":3", "invalid_value", "max_tokens"),
        Field(28, "a word", "\"stream\":\"yes\"", "invalid_type", "stream"),
        Field(28, "a number", "\"stream\":1", "invalid_type", "stream"),
        Field(28, "stream_options without stream", "\"stream_options\":{\"include_usage\":true}", "invalid_value", "stream_options"),
        Field(29, "suffix", "\"suffix\":\"x\"", "unsupported_value", "suffix"),
        Field(29, "best_of", "\"best_of\":3", "unsupported_value", "best_of"),
        Steered(30, "a number", "1", "invalid_type", "steering"),
        Steered(30, "no controllers", "{}", "missing_field", "steering.controllers"),
        Steered(30, "an empty list", "{\"controllers\":[]}", "invalid_value", "steering.controllers"),
        Steered(30, "17", $"{{\"controllers\":[{string.Join(',', Enumerable.Repeat("{\"name\":\"a\"}", 17))}]}}", "invalid_value",
            "steering.controllers"),
        Steered(31, "one that is not there", "{\"controllers\":[{\"name\":\"sea\"}]}", "controller_not_found", "steering.controllers[0].name", 404),
        Steered(31, "a path", "{\"controllers\":[{\"name\":\"../sea\"}]}", "invalid_value", "steering.controllers[0].name"),
        Steered(31, "an absolute path", "{\"controllers\":[{\"name\":\"/etc/passwd\"}]}", "invalid_value", "steering.controllers[0].name"),
        Steered(31, "NUL", "{\"controllers\":[{\"name\":\"a\\u0000\"}]}", "invalid_value", "steering.controllers[0].name"),
        Steered(31, "a line break at its end", "{\"controllers\":[{\"name\":\"a\\n\"}]}", "invalid_value", "steering.controllers[0].name"),
        Steered(31, "a text for an object", "{\"controllers\":[\"sea\"]}", "invalid_type", "steering.controllers[0]"),
        Steered(32, "words", "{\"controllers\":[{\"name\":\"a\",\"lambda\":\"x\"}]}", "invalid_type", "steering.controllers[0].lambda"),
        Steered(32, "1e39", "{\"controllers\":[{\"name\":\"a\",\"lambda\":1e39}]}", "invalid_value", "steering.controllers[0].lambda"),
        Steered(33, "an unknown field", "{\"controllers\":[{\"name\":\"a\",\"scale\":1}]}", "unknown_field", "steering.controllers[0].scale"),
    ];

    private static string Nested(int levels) =>
        $$"""{"model":"demo","prompt":"x","metadata":{{new string('[', levels)}}{{new string(']', levels)}}}""";

    [TestCaseSource(nameof(Bodies))]
    public async Task A_body_is_refused(byte[] body, int status, string code, string? param)
    {
        var answer = await Send(body, "/v1/completions");
        Assert.That((answer.Status, answer.Code, answer.Param), Is.EqualTo((status, code, param)), answer.Body);
        Assert.That(answer.Error.GetProperty("type").GetString(), Is.EqualTo("invalid_request_error"));
        Assert.That(answer.Message, Is.Not.Empty.And.Not.Contain("Exception"));
        await StillServes();
    }

    private static TestCaseData Chat(int row, string what, string fields, string code, string? param) =>
        new TestCaseData(fields, code, param).SetArgDisplayNames($"{row} {what}");

    private static IEnumerable<TestCaseData> Chats() =>
    [
        Chat(34, "no messages", "\"user\":\"x\"", "missing_field", "messages"),
        Chat(34, "an empty list", "\"messages\":[]", "invalid_value", "messages"),
        Chat(34, "a text", "\"messages\":\"x\"", "invalid_type", "messages"),
        Chat(34, "1025", $"\"messages\":[{string.Join(',', Enumerable.Repeat("{\"role\":\"user\",\"content\":\"x\"}", 1025))}]", "invalid_value",
            "messages"),
        Chat(35, "no role", "\"messages\":[{\"content\":\"x\"}]", "missing_field", "messages[0].role"),
        Chat(35, "no content", "\"messages\":[{\"role\":\"user\"}]", "missing_field", "messages[0].content"),
        Chat(35, "a number", "\"messages\":[{\"role\":\"user\",\"content\":1}]", "invalid_type", "messages[0].content"),
        Chat(35, "an image",
            "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":\"file:///etc/passwd\"}}]}]",
            "unsupported_value", "messages[0].content[0].type"),
        Chat(35, "an unknown field", "\"messages\":[{\"role\":\"user\",\"content\":\"x\",\"path\":\"y\"}]", "unknown_field", "messages[0].path"),
        Chat(36, "tools", $"{Hello},\"tools\":[{{\"type\":\"function\"}}]", "unsupported_value", "tools"),
        Chat(36, "JSON as an answer", $"{Hello},\"response_format\":{{\"type\":\"json_object\"}}", "unsupported_value", "response_format"),
        Chat(36, "audio", $"{Hello},\"audio\":{{}}", "unsupported_value", "audio"),
        Chat(36, "top_logprobs alone", $"{Hello},\"top_logprobs\":3", "invalid_value", "top_logprobs"),
        Chat(36, "prompt", $"{Hello},\"prompt\":\"x\"", "unknown_field", "prompt"),
        Chat(37, "a checkpoint without a chat template", Hello, "no_template", "messages"),
    ];

    private const string Hello = "\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]";

    [TestCaseSource(nameof(Chats))]
    public async Task A_chat_is_refused(string fields, string code, string? param)
    {
        // All but the last would be refused with a template too.
        var options = new ServiceOptions { ChatTemplate = Tiller.Chat.ChatFormat.ChatMl };
        await using var server = code == "no_template" ? null : await RunningServer.Start(options);
        var answer = await (server ?? _server).Post("/v1/chat/completions", $$"""{"model":"demo",{{fields}}}""");
        Assert.That((answer.Status, answer.Code, answer.Param), Is.EqualTo((400, code, param)), answer.Body);
    }

    private static TestCaseData Raw(int row, string what, string request, params int[] statuses) =>
        new TestCaseData(Encoding.Latin1.GetBytes(request), statuses).SetArgDisplayNames($"{row} {what}");

    private const string Any = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n";

    private const string Post = Any + "Content-Type: application/json\r\n";

    // Statuses in order; 0 for a connection that is closed without one.
    private static IEnumerable<TestCaseData> Requests() =>
    [
        Raw(38, "a body of plain text", Any + "Content-Type: text/plain\r\nContent-Length: 2\r\n\r\n{}", 415),
        Raw(38, "a form", Any + "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 2\r\n\r\n{}", 415),
        Raw(38, "no type", Any + "Content-Length: 2\r\n\r\n{}", 415),
        Raw(39, "another method", "GET /v1/completions HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        Raw(39, "TRACE", "TRACE /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        Raw(40, "another route", "GET /v2/models HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        Raw(40, "a path upwards", "GET /v1/controllers/../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
        Raw(40, "an escaped path upwards", "GET /v1/controllers/..%2f..%2fetc%2fpasswd HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        Raw(40, "an escaped NUL", "GET /v1/controllers/a%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        Raw(41, "a body that says it has 2 MiB", Post + "Content-Length: 2097152\r\n\r\n", 413),
        Raw(41, "a body that says it has 2⁶³ bytes", Post + "Content-Length: 9223372036854775808\r\n\r\n", 400),
        Raw(42, "chunks of 2 MiB", Post + "Transfer-Encoding: chunked\r\n\r\n" + Chunks(32), 413),
        Raw(43, "a chunk without a size", Post + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
        Raw(43, "a chunk of 2⁶³ bytes", Post + "Transfer-Encoding: chunked\r\n\r\n8000000000000000\r\n", 400),
        Raw(44, "two lengths that differ", Post + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400),
        Raw(44, "a length below 0", Post + "Content-Length: -1\r\n\r\n", 400),
        Raw(44, "a length of words", Post + "Content-Length: many\r\n\r\n", 400),
        Raw(45, "another host", "GET /v1/models HTTP/1.1\r\nHost: rebound.example\r\n\r\n", 403),
        Raw(45, "a host that begins alike", "GET /v1/models HTTP/1.1\r\nHost: localhost.example\r\n\r\n", 403),
        Raw(46, "no host", "GET /v1/models HTTP/1.1\r\n\r\n", 400),
        Raw(46, "two hosts", "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n", 400),
        Raw(47, "no HTTP", "hello\r\n\r\n", 400),
        Raw(47, "TLS", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        Raw(47, "HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 0, 400),
        Raw(47, "HTTP/3.0", "GET / HTTP/3.0\r\nHost: localhost\r\n\r\n", 505),
        Raw(48, "an address of 5,000 characters", $"GET /{new string('a', 5000)} HTTP/1.1\r\nHost: localhost\r\n\r\n", 414),
        Raw(49, "a header of 20,000 characters", $"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX: {new string('a', 20_000)}\r\n\r\n", 431),
        Raw(49, "100 headers",
            $"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n{string.Concat(Enumerable.Range(0, 100).Select(i => $"X-{i}: 1\r\n"))}\r\n",
            431),
        Raw(50, "a header with a line break inside", "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n", 400),
        Raw(50, "NUL in a header", "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n", 400),
    ];

    private static string Chunks(int count) => string.Concat(Enumerable.Repeat($"10000\r\n{new string(' ', 0x10000)}\r\n", count)) + "0\r\n\r\n";

    [TestCaseSource(nameof(Requests))]
    public async Task A_request_is_refused(byte[] request, int[] statuses)
    {
        using var socket = await RawSocket.Connect(_server.Address);
        await socket.Send(request);
        string head = await socket.ReadLine();
        int status = head.StartsWith("HTTP/1.1 ", StringComparison.Ordinal) ? int.Parse(head.Split(' ')[1]) : 0;
        Assert.That(status, Is.AnyOf([.. statuses.Cast<object>()]), head);
        await StillServes();
    }

    [Test]
    public async Task Row51_bytes_that_are_not_utf8_are_refused()
    {
        byte[] body = [.. Encoding.ASCII.GetBytes("{\"model\":\"demo\",\"prompt\":\""), 0xC3, 0x28, .. "\"}"u8];
        Assert.That((await Send(body, "/v1/completions")).Code, Is.EqualTo("invalid_json"));
        Assert.That((await Send(Encoding.Unicode.GetBytes(Sound), "/v1/completions")).Code, Is.EqualTo("invalid_json"));
    }

    [Test]
    public async Task Row52_half_a_request_and_gone_leaves_nothing()
    {
        string[] halves =
            ["POST /v1/comp", Post, Post + "Content-Length: 100\r\n\r\n{\"model\"", Post + "Transfer-Encoding: chunked\r\n\r\n50\r\n{\"mo"];
        foreach (string half in halves)
        {
            using var socket = await RawSocket.Connect(_server.Address);
            await socket.Send(Encoding.ASCII.GetBytes(half));
        }

        await StillServes();
        Patience.Until(() => _server.Service.Scheduler.Status is { Running: 0, Queued: 0 } && _server.Service.Answers.Count == 0, "nothing is left");
    }

    [Test]
    public async Task Row53_a_head_that_never_ends_is_ended()
    {
        await using var server = await RunningServer.Start(server: new ServerOptions { HeaderTimeout = TimeSpan.FromMilliseconds(500) });
        using var socket = await RawSocket.Connect(server.Address);
        await socket.Send("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nX-A: "u8.ToArray());
        Assert.That(await socket.ReadToEnd(), Does.StartWith("HTTP/1.1 408").Or.Empty, "closed, with a reason if it can be told");
    }

    [Test]
    public async Task Row54_a_body_that_never_comes_is_given_up()
    {
        using var socket = await RawSocket.Connect(_server.Address);
        await socket.Send(Encoding.ASCII.GetBytes(Post + "Content-Length: 100\r\n\r\n{"));
        string all = await socket.ReadToEnd();
        Assert.That(all, Does.StartWith("HTTP/1.1 408"));
        Assert.That(all, Does.Contain("\"request_timeout\""));
    }

    [Test]
    public async Task Row55_requests_sent_before_the_answers_are_answered_in_order()
    {
        string one = $"{Post}Content-Length: {Sound.Length}\r\n\r\n{Sound}", models = "GET /v1/models/demo HTTP/1.1\r\nHost: localhost\r\n\r\n";
        using var socket = await RawSocket.Connect(_server.Address);
        await socket.Send(Encoding.ASCII.GetBytes(models + one + models + "GET /none HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        string all = await socket.ReadToEnd();
        string[] marks = ["\"object\":\"model\"", "\"object\":\"text_completion\"", "\"object\":\"model\"", "\"route_not_found\""];
        int at = 0;
        foreach (string mark in marks)
        {
            at = all.IndexOf(mark, at, StringComparison.Ordinal) + 1;
            Assert.That(at, Is.GreaterThan(0), $"{mark} in order in {all}");
        }
    }

    [Test]
    public async Task Row56_an_upload_that_is_broken_off_leaves_no_file()
    {
        using (var socket = await RawSocket.Connect(_server.Address))
        {
            await socket.Send(Encoding.ASCII.GetBytes(
                "POST /v1/controllers?name=half HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
                + "Content-Length: 1000000\r\n\r\nGGUF"));
            Patience.Until(() => Directory.GetFiles(_folder["controllers"], ".*").Length > 0, "the upload has begun");
        }

        Patience.Until(() => Directory.GetFiles(_folder["controllers"]).Length == 0, "the file is removed");
        Assert.That((await _server.Get("/v1/controllers/half")).Status, Is.EqualTo(404));
    }

    private static TestCaseData Upload(int row, string what, byte[] file, int status, string code, string query = "name=up") =>
        new TestCaseData(file, query, status, code).SetArgDisplayNames($"{row} {what}");

    private static IEnumerable<TestCaseData> Uploads() =>
    [
        Upload(57, "nothing", [], 400, "header_too_small"),
        Upload(57, "words", "no controller at all, but long enough"u8.ToArray(), 400, "header_too_large"),
        Upload(57, "half a control vector", "GGUF\u0003"u8.ToArray(), 400, "schema"),
        Upload(57, "a control vector with 2⁶⁴ − 1 tensors", [.. "GGUF"u8, 3, 0, 0, 0, .. Enumerable.Repeat((byte)255, 16)], 400, "shape"),
        Upload(58, "no name", [1], 400, "invalid_value", ""),
        Upload(58, "a name that is a path", [1], 400, "invalid_value", "name=..%2Fx"),
        Upload(58, "two names", [1], 400, "invalid_value", "name=a&name=b"),
        Upload(58, "another query", [1], 400, "unknown_field", "name=a&path=b"),
    ];

    [TestCaseSource(nameof(Uploads))]
    public async Task An_upload_is_refused(byte[] file, string query, int status, string code)
    {
        using var content = new ByteArrayContent(file);
        content.Headers.ContentType = new("application/octet-stream");
        using var response = await _server.Client.PostAsync($"/v1/controllers?{query}", content);
        var answer = new Answer((int)response.StatusCode, await response.Content.ReadAsStringAsync(), response.Headers);
        Assert.That(answer.Status, Is.EqualTo(status), answer.Body);
        Assert.That(answer.Code, Is.EqualTo(code), answer.Body);
        Assert.That(answer.Message, Does.Not.Contain(_folder["controllers"]), "no path is told");
        Assert.That(Directory.GetFiles(_folder["controllers"]), Is.Empty);
    }

    [Test]
    public async Task Row59_an_upload_that_says_it_is_too_large_is_refused_before_it_is_read()
    {
        using var socket = await RawSocket.Connect(_server.Address);
        await socket.Send(Encoding.ASCII.GetBytes(
            "POST /v1/controllers?name=big HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n"
            + "Content-Length: 99999999\r\n\r\n"));
        Assert.That(await socket.ReadLine(), Does.Contain(" 413 "));
    }

    [TestCase("""{"controllers":{"sea":1}}""", "response_not_found", 404)]
    [TestCase("{}", "response_not_found", 404)]
    [TestCase("[", "invalid_json", 400)]
    public async Task Row60_lambda_of_no_answer_cannot_be_moved(string body, string code, int status)
    {
        var answer = await _server.Send(HttpMethod.Patch, "/v1/steering/cmpl-0000", body);
        Assert.That((answer.Status, answer.Code), Is.EqualTo((status, code)));
    }

    [TestCase("/tokenize", "{}", "messages")]
    [TestCase("/tokenize", """{"prompt":1}""", "prompt")]
    [TestCase("/detokenize", "{}", "tokens")]
    [TestCase("/detokenize", """{"tokens":[-1]}""", "tokens[0]")]
    [TestCase("/detokenize", """{"tokens":"x"}""", "tokens")]
    public async Task Row61_ids_and_texts_that_are_none_are_refused(string path, string body, string param)
    {
        var answer = await _server.Post(path, body);
        Assert.That((answer.Status, answer.Param), Is.EqualTo((400, param)), answer.Body);
    }

    private static TestCaseData Fit(string what, string fields, string code, string param) =>
        new TestCaseData(fields, code, param).SetArgDisplayNames($"62 {what}");

    private static IEnumerable<TestCaseData> Fits() =>
    [
        Fit("no name", "\"positive\":[\"a\"],\"negative\":[\"b\"]", "missing_field", "name"),
        Fit("a path", "\"name\":\"../x\",\"positive\":[\"a\"],\"negative\":[\"b\"]", "invalid_value", "name"),
        Fit("no prompts", "\"name\":\"x\",\"positive\":[],\"negative\":[\"b\"]", "invalid_value", "positive"),
        Fit("513 prompts", $"\"name\":\"x\",\"negative\":[\"b\"],\"positive\":[{string.Join(',', Enumerable.Repeat("\"a\"", 513))}]",
            "invalid_value", "positive"),
        Fit("texts and messages", "\"name\":\"x\",\"positive\":[\"a\"],\"negative\":[[{\"role\":\"user\",\"content\":\"b\"}]]",
            "invalid_value", "negative"),
        Fit("held-out prompts that are none", "\"name\":\"x\",\"positive\":[\"a\"],\"negative\":[\"b\"],\"certify\":[]", "invalid_value", "certify"),
        Fit("a held-out prompt that is a number", "\"name\":\"x\",\"positive\":[\"a\"],\"negative\":[\"b\"],\"certify\":[\"c\",1]",
            "invalid_type", "certify[1]"),
        Fit("held-out messages beside texts",
            "\"name\":\"x\",\"positive\":[\"a\"],\"negative\":[\"b\"],\"certify\":[[{\"role\":\"user\",\"content\":\"b\"}]]",
            "invalid_value", "certify"),
        Fit("r 0", "\"name\":\"x\",\"positive\":[\"a\"],\"negative\":[\"b\"],\"r\":0", "invalid_value", "r"),
        Fit("q below 0", "\"name\":\"x\",\"positive\":[\"a\"],\"negative\":[\"b\"],\"q\":-1", "invalid_value", "q"),
        Fit("an order beyond the width", "\"name\":\"x\",\"positive\":[\"a\"],\"negative\":[\"b\"],\"order\":100000", "invalid_value", "order"),
        Fit("blocks beyond the model", "\"name\":\"x\",\"positive\":[\"a\"],\"negative\":[\"b\"],\"layers\":\"0-99\"", "invalid_value", "layers"),
        Fit("an unknown field", "\"name\":\"x\",\"positive\":[\"a\"],\"negative\":[\"b\"],\"out\":\"/tmp/x\"", "unknown_field", "out"),
    ];

    [TestCaseSource(nameof(Fits))]
    public async Task A_fit_is_refused(string fields, string code, string param)
    {
        var answer = await _server.Post("/v1/controllers/fit", $"{{{fields}}}");
        Assert.That((answer.Status, answer.Code, answer.Param), Is.EqualTo((400, code, param)), answer.Body);
    }

    [Test]
    public async Task Row63_a_page_elsewhere_gets_no_leave_unless_it_is_named()
    {
        await using var named = await RunningServer.Start(server: new ServerOptions { CorsOrigins = ["https://good.example"] });
        Assert.That(await AllowedOrigin(_server, "https://good.example"), Is.Null);
        Assert.That(await AllowedOrigin(named, "https://bad.example"), Is.Null);
        Assert.That(await AllowedOrigin(named, "https://good.example"), Is.EqualTo("https://good.example"));
    }

    [Test]
    public async Task Row64_a_client_that_goes_away_is_cancelled_within_a_step()
    {
        using var hold = new SemaphoreSlim(0);
        int rows = 0;
        await using var server = await RunningServer.Start();
        server.Service.Scheduler.AfterTurn = turn =>
        {
            rows += turn.Rows;
            if (turn.Rows > 0 && rows >= 3)
            {
                hold.Wait(Patience.Limit);
            }
        };
        string body = """{"model":"demo","prompt":"One day","ignore_eos":true,"stream":true}""";
        using (var socket = await RawSocket.Connect(server.Address))
        {
            await socket.Send(Encoding.ASCII.GetBytes($"{Post}Content-Length: {body.Length}\r\n\r\n{body}"));
            Patience.Until(() => Volatile.Read(ref rows) == 3, "three tokens are drawn");
        }

        Patience.Until(() => server.Service.Answers.Count == 0, "the server knows that the client is gone");
        hold.Release(100);
        Patience.Until(() => server.Service.Scheduler.Status.Running == 0, "the text has ended");
        Assert.That(Volatile.Read(ref rows), Is.EqualTo(3), "no token more");
    }

    private static async Task<string?> AllowedOrigin(RunningServer server, string origin)
    {
        using var preflight = new HttpRequestMessage(HttpMethod.Options, "/v1/completions");
        preflight.Headers.Add("Origin", origin);
        preflight.Headers.Add("Access-Control-Request-Method", "POST");
        using var response = await server.Client.SendAsync(preflight);
        return response.Headers.TryGetValues("Access-Control-Allow-Origin", out var values) ? values.Single() : null;
    }

    private async Task<Answer> Send(byte[] body, string path)
    {
        using var content = new ByteArrayContent(body);
        content.Headers.ContentType = new("application/json");
        using var response = await _server.Client.PostAsync(path, content);
        return new Answer((int)response.StatusCode, await response.Content.ReadAsStringAsync(), response.Headers);
    }

    private async Task StillServes() => Assert.That((await _server.Get("/v1/models")).Status, Is.EqualTo(200));
}

/// <summary>A connection that sends whatever it is told to.</summary>
internal sealed class RawSocket : IDisposable
{
    private readonly TcpClient _client;
    private readonly NetworkStream _stream;

    private RawSocket(TcpClient client) => (_client, _stream) = (client, client.GetStream());

    public static async Task<RawSocket> Connect(Uri address, int receiveBuffer = 1 << 16)
    {
        var client = new TcpClient { ReceiveBufferSize = receiveBuffer };
        await client.ConnectAsync(IPAddress.Loopback, address.Port);
        return new RawSocket(client);
    }

    /// <summary>Sends what the server takes; it may hang up in between.</summary>
    public async Task Send(byte[] bytes)
    {
        try
        {
            await _stream.WriteAsync(bytes);
        }
        catch (IOException)
        {
            // It has refused, and says so.
        }
    }

    public async Task<string> ReadLine()
    {
        var line = new StringBuilder();
        byte[] one = new byte[1];
        while (await _stream.ReadAsync(one).AsTask().InTime() == 1 && one[0] != '\n')
        {
            line.Append((char)one[0]);
        }

        return line.ToString().TrimEnd('\r');
    }

    public async Task<string> ReadToEnd()
    {
        var all = new MemoryStream();
        try
        {
            await _stream.CopyToAsync(all).InTime();
        }
        catch (IOException)
        {
            // It was reset: what came before counts.
        }

        return Encoding.UTF8.GetString(all.ToArray());
    }

    public void Dispose() => _client.Dispose();
}
