using System.Diagnostics;
using System.Text.Json;
using Tiller.Evaluation.Onnx;

namespace Tiller.Tests.Onnx;

/// <summary>The program <c>tiller-eval</c>, as a process of its own.</summary>
public sealed class EvalToolTests
{
    private string _folder = "";

    [SetUp]
    public void WriteTask()
    {
        _folder = Directory.CreateTempSubdirectory("tiller-eval").FullName;
        new OnnxFile { Table = [.. Enumerable.Range(0, TinyTokenizer.WordPieceSize).Select(static i => new[] { i * 0.25f, 1 - (i * 0.5f) })] }
            .Write(In("model.onnx"));
        File.WriteAllText(In("tokenizer.json"), TinyTokenizer.WordPiece);
        File.WriteAllLines(In("prompts.txt"), ["Once upon a time", "A guest wrote.", "One day", "Late at night"]);
        File.WriteAllLines(In("positive.txt"), ["The sea was calm.", "A gull flew over the harbor."]);
        File.WriteAllLines(In("negative.txt"), ["The kennel was full.", "A dog barked."]);
        File.WriteAllText(
            In("task.yaml"),
            """
            name: tiny
            contrast: {positive: positive.txt, negative: negative.txt}
            prompts: prompts.txt
            generation: {max_tokens: 6}
            scorers:
              - as: calm
                onnx: {file: model.onnx, label: 1}
              - perplexity
            """);
    }

    [TearDown]
    public void DeleteTask() => Directory.Delete(_folder, recursive: true);

    [Test]
    public async Task Eval_compare_and_tune_score_by_a_classifier()
    {
        string texts = In("texts.jsonl");
        using var told = JsonDocument.Parse(await Run("eval", "--json", "--out", texts));
        string[] lines = await File.ReadAllLinesAsync(texts);
        using var scorer = new OnnxScorer("calm", new OnnxScorerOptions { File = In("model.onnx"), Label = "1" });
        double expected = scorer.Of([.. lines.Select(TextOf)]).Average();
        var score = told.RootElement.GetProperty("scores").EnumerateArray().Single(static x => x.GetProperty("name").GetString() == "calm");
        Assert.That(score.GetProperty("value").GetDouble(), Is.EqualTo(expected).Within(1e-9));

        string report = await Run("compare", "--method", "actadd", "--lambda", "1", "--out", In("compared"));
        Assert.That(report, Does.Contain("calm").And.Contain("actadd"));
        string tuned = await Run("tune", "--method", "actadd", "--lambda", "1", "2", "--out", In("tuned"));
        Assert.That(tuned, Does.Contain("calm"));

        static string TextOf(string line)
        {
            using var json = JsonDocument.Parse(line);
            return json.RootElement.GetProperty("text").GetString()!;
        }
    }

    private string In(string name) => Path.Combine(_folder, name);

    private async Task<string> Run(string command, params string[] options)
    {
        string host = Environment.ProcessPath is { } path && Path.GetFileNameWithoutExtension(path) == "dotnet" ? path : "dotnet";
        var start = new ProcessStartInfo(
            host,
            [
                Path.Combine(AppContext.BaseDirectory, "tiller-eval.dll"), command, "--model", Repository.Path("models", "demo"), "--task", _folder,
                .. options,
            ])
        {
            UseShellExecute = false,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        using var process = Process.Start(start)!;
        try
        {
            var error = process.StandardError.ReadToEndAsync();
            string output = await process.StandardOutput.ReadToEndAsync().InTime();
            await process.WaitForExitAsync().InTime();
            Assert.That(process.ExitCode, Is.Zero, await error.InTime());
            return output;
        }
        finally
        {
            process.Kill(entireProcessTree: true); // nothing, if it has ended
        }
    }
}
