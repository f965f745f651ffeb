using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;
using Tiller.Decode;
using Tiller.Evaluation;
using Tiller.Evaluation.Scorers;
using Tiller.Law;
using Tiller.Tests.Model;

namespace Tiller.Tests.Evaluation;

/// <summary>A judge behind OpenAI's API, played by a server of the test.</summary>
public sealed class JudgeScorerTests
{
    private readonly List<JsonElement> _asked = [];
    private readonly List<string?> _keys = [];
    private readonly Queue<(int Status, string Body)> _replies = new();
    private HttpListener _server = null!;
    private Task _serving = Task.CompletedTask;
    private Uri _url = null!;
    private string _cache = "";

    [SetUp]
    public void Serve()
    {
        _asked.Clear();
        _keys.Clear();
        _replies.Clear();
        _cache = Directory.CreateTempSubdirectory("tiller-judge").FullName;
        using (var free = new TcpListener(IPAddress.Loopback, 0))
        {
            free.Start();
            _url = new Uri($"http://127.0.0.1:{((IPEndPoint)free.LocalEndpoint).Port}/v1/");
        }

        _server = new HttpListener { Prefixes = { _url.ToString() } };
        _server.Start();
        _serving = Task.Run(async () =>
        {
            while (_server.IsListening)
            {
                HttpListenerContext context;
                try
                {
                    context = await _server.GetContextAsync();
                }
                catch (Exception e) when (e is HttpListenerException or ObjectDisposedException)
                {
                    return;
                }

                using var body = await JsonDocument.ParseAsync(context.Request.InputStream);
                _asked.Add(body.RootElement.Clone());
                _keys.Add(context.Request.Headers["Authorization"]);
                var (status, reply) = context.Request.Url!.AbsolutePath == "/v1/chat/completions" ? _replies.Dequeue() : (404, "");
                context.Response.StatusCode = status;
                context.Response.Headers["Retry-After"] = "0";
                byte[] bytes = Encoding.UTF8.GetBytes(reply);
                context.Response.ContentLength64 = bytes.Length;
                await context.Response.OutputStream.WriteAsync(bytes);
                context.Response.Close();
            }
        });
    }

    [TearDown]
    public async Task End()
    {
        _server.Close();
        await _serving;
        Directory.Delete(_cache, recursive: true);
    }

    [Test]
    public void A_reply_is_asked_for_once_and_its_first_word_that_counts_decides()
    {
        Replies("Yes, it does.", "I think: NO.", "Perhaps.");
        var scorer = new JudgeScorer("true", Options() with { Key = "k" });
        var score = scorer.Measure(Texts("a", "b {prompt}", "c"), CancellationToken.None);
        Assert.That((score.Name, score.Value, score.Count), Is.EqualTo(("true", 0.5, 3)), "a reply that says nothing does not count");
        Assert.That(_asked.Select(x => x.GetProperty("messages")[0].GetProperty("content").GetString()), Is.EqualTo(new[]
        {
            "Is <a> true of <Q>?", "Is <b {prompt}> true of <Q>?", "Is <c> true of <Q>?",
        }));
        Assert.That(_asked[0].GetProperty("temperature").GetDouble(), Is.Zero);
        Assert.That(_asked[0].GetProperty("model").GetString(), Is.EqualTo("judge-1"));
        Assert.That(_keys, Is.All.EqualTo("Bearer k"));

        // Kept: nothing is asked again, but by another model or another prompt.
        Assert.That(scorer.Measure(Texts("c", "a"), CancellationToken.None).Value, Is.EqualTo(1));
        Assert.That(_asked, Has.Count.EqualTo(3));
        Replies("no");
        var other = new JudgeScorer("true", Options() with { Model = "judge-2" });
        Assert.That(other.Measure(Texts("a"), CancellationToken.None).Value, Is.Zero);
        Assert.That(other.Identity, Is.Not.EqualTo(scorer.Identity));
        var reworded = new JudgeScorer("true", Options() with { Prompt = "{answer}?" });
        Assert.That(reworded.Identity, Is.Not.EqualTo(scorer.Identity), "a prompt has a version");
        Assert.That(_keys[^1], Is.Null);
    }

    [TestCase("8", 8)]
    [TestCase("Score: -1.5 of 10", -1.5)]
    [TestCase("８ is no number here, 7 is", 7)]
    public void Without_words_the_first_number_counts(string reply, double value)
    {
        Replies(reply);
        var score = new JudgeScorer("x", Options() with { Words = null }).Measure(Texts("a"), CancellationToken.None);
        Assert.That(score.Value, Is.EqualTo(value));
    }

    [Test]
    public void What_may_pass_is_asked_again()
    {
        _replies.Enqueue((429, ""));
        _replies.Enqueue((503, ""));
        Replies("yes");
        Assert.That(new JudgeScorer("x", Options()).Measure(Texts("a"), CancellationToken.None).Value, Is.EqualTo(1));
    }

    [TestCase(401, "{}", "refused with status 401: check the address, the model 'judge-1' and the key")]
    [TestCase(200, "{}", "does not answer as OpenAI's API does")]
    [TestCase(200, "<html>", "does not answer as OpenAI's API does")]
    [TestCase(200, "{\"choices\":[]}", "does not answer as OpenAI's API does")]
    public void A_judge_that_does_not_judge_is_told(int status, string body, string problem)
    {
        _replies.Enqueue((status, body));
        Assert.That(
            () => new JudgeScorer("x", Options()).Measure(Texts("a"), CancellationToken.None),
            Throws.TypeOf<JudgeException>().With.Message.Contains(problem));
        Assert.That(Directory.GetFiles(_cache), Is.Empty, "it is not kept");
    }

    [Test]
    public void A_judge_that_is_not_there_is_told()
    {
        _server.Stop();
        Assert.That(
            () => new JudgeScorer("x", Options()).Measure(Texts("a"), CancellationToken.None),
            Throws.TypeOf<JudgeException>().With.Message.Contains("cannot be asked"));
    }

    private JudgeOptions Options() => new()
    {
        Url = _url,
        Model = "judge-1",
        Prompt = "Is <{answer}> true of <{prompt}>?",
        Words = new Dictionary<string, double> { ["yes"] = 1, ["no"] = 0 },
        Cache = _cache,
    };

    private void Replies(params string[] texts)
    {
        foreach (string text in texts)
        {
            _replies.Enqueue((200, $$"""{"choices": [{"message": {"role": "assistant", "content": {{JsonSerializer.Serialize(text)}} } } ]}"""));
        }
    }

    private static EvaluatedTexts Texts(params string[] texts) =>
        new(TestModels.Demo, null, SteeredTokens.Last, [.. texts.Select(x => new EvaluatedText("Q", [1], [2], x, StopReason.MaxTokens))]);
}
