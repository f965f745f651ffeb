using System.Text.Json;
using Tiller.Tests.Tool;
using Tiller.Tool;

namespace Tiller.Tests.Serving;

/// <summary><c>tiller bench serve</c>.</summary>
public sealed class ServeBenchTests
{
    private const string Small = "2,64,128,4,2,16,300";

    [Test]
    public async Task A_server_is_measured_beside_the_engine_alone()
    {
        var run = await ToolRun.Of(
            "bench", "serve", "--shape", Small, "--batch", "1,3", "--seconds", "0.01", "--device", "cpu", "--threads", "1", "--json");
        Assert.That(run.Code, Is.EqualTo(ExitCode.Ok), run.Error);
        var upload = run.Json.GetProperty("upload");
        Assert.That(upload.GetProperty("bytes").GetInt64(), Is.Positive);
        Assert.That(upload.GetProperty("uploadMs").GetDouble(), Is.Positive);
        JsonElement[] rows = [.. run.Json.GetProperty("rows").EnumerateArray()];
        Assert.That(rows.Take(6).Select(row => (row.GetProperty("streams").GetInt32(), row.GetProperty("load").GetString())), Is.EqualTo(new[]
        {
            (1, "engine alone"), (1, "closed loop, plain"), (1, "closed loop, all steered differently"),
            (3, "engine alone"), (3, "closed loop, plain"), (3, "closed loop, all steered differently"),
        }));
        Assert.That(rows, Has.Length.EqualTo(8));
        Assert.That(rows[6..].Select(row => row.GetProperty("load").GetString()), Has.All.StartsWith("open loop, "));
        foreach (var row in rows)
        {
            Assert.That(row.GetProperty("tokensPerSecond").GetDouble(), Is.Positive);
            bool isServed = row.GetProperty("load").GetString() != "engine alone";
            Assert.That(row.GetProperty("firstMs").ValueKind, Is.EqualTo(isServed ? JsonValueKind.Object : JsonValueKind.Null));
            Assert.That(row.GetProperty("ratioOf").GetString(), Is.EqualTo(row.GetProperty("load").GetString() switch
            {
                "closed loop, plain" => "engine alone",
                "closed loop, all steered differently" => "plain",
                _ => null,
            }));
            if (isServed)
            {
                var gap = row.GetProperty("gapMs");
                Assert.That(gap.GetProperty("p50").GetDouble(), Is.LessThanOrEqualTo(gap.GetProperty("p99").GetDouble()));
            }
        }
    }

    [Test]
    public async Task Each_row_of_texts_of_a_given_length_is_told_when_it_is_measured()
    {
        var run = await ToolRun.Of(
            "bench", "serve", "--shape", Small, "--batch", "2", "--tokens", "3", "--seconds", "0.01", "--device", "cpu", "--threads", "1", "--jsonl");
        Assert.That(run.Code, Is.EqualTo(ExitCode.Ok), run.Error);
        string[] lines = run.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.That(lines, Has.Length.EqualTo(5));
        Assert.That(lines, Has.All.Contains("\"tokensPerSecond\":"));
    }

    [TestCase("", "# serve, shape 2,64,128,4,2,16,300, bf16\n")]
    [TestCase("--markdown", "serve, shape 2,64,128,4,2,16,300, bf16; ")]
    [TestCase("--jsonl", "{\"streams\":1,")]
    public async Task It_is_told_as_other_measurements_are(string format, string begins)
    {
        string[] options = ["bench", "serve", "--shape", Small, "--batch", "1", "--seconds", "0.01", "--device", "cpu", "--threads", "1"];
        var run = await ToolRun.Of([.. options, .. format.Split(' ', StringSplitOptions.RemoveEmptyEntries)]);
        Assert.That(run.Code, Is.EqualTo(ExitCode.Ok), run.Error);
        Assert.That(run.Output, Does.StartWith(begins));
    }
}
