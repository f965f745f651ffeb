using System.Text.Json;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

public class OutputTests
{
    private static readonly DemoReport s_report = new(
        DemoTask.Tone,
        2.5,
        new DemoSide(["A [b] \u001b plain", "c"], -0.05, 2.94),
        new SteeredSide(["d é", "e"], 0.99, 2.87, 0.125, double.NaN));

    [Test]
    public void The_demo_is_one_json_object()
    {
        using var json = JsonDocument.Parse(Write(t => DemoOutput.WriteJson(t, s_report)));
        var (task, plain, steered) =
            (json.RootElement.GetProperty("task"), json.RootElement.GetProperty("plain"), json.RootElement.GetProperty("steered"));
        using (Assert.EnterMultipleScope())
        {
            Assert.That(task.GetString(), Is.EqualTo("tone"));
            Assert.That(plain.EnumerateObject().Select(p => p.Name), Is.EqualTo(["texts", "score", "perplexity"]));
            Assert.That(steered.EnumerateObject().Select(p => p.Name), Is.EqualTo(["texts", "score", "perplexity", "trackingError", "effort"]));
            Assert.That(plain.GetProperty("texts").EnumerateArray().Select(t => t.GetString()), Is.EqualTo(s_report.Plain.Texts));
            Assert.That(steered.GetProperty("score").GetDouble(), Is.EqualTo(0.99));
            Assert.That(steered.GetProperty("trackingError").GetDouble(), Is.EqualTo(0.125));
            Assert.That(steered.GetProperty("effort").ValueKind, Is.EqualTo(JsonValueKind.Null), "JSON has no NaN");
        }
    }

    [Test]
    public void The_demo_shows_texts_and_scores_without_escape_codes_off_a_terminal()
    {
        string shown = Write(t => DemoOutput.WriteTable(t, s_report));
        Assert.That(shown,
            Does.Contain("A [b]").And.Contain("steered: towards kindness, λ 2.5").And.Contain("2.94").And.Contain("0.99").And.Contain("0.125"));
        Assert.That(shown, Does.Not.Contain("\u001b["));
    }

    [Test]
    public void Progress_is_silent_off_a_terminal_and_the_work_still_runs()
    {
        int result = 0;
        string shown = Write(t => result = StageBars.Run(t, p =>
        {
            p.Report(new StageProgress("features", 1, 2));
            return 7;
        }));
        Assert.That((result, shown), Is.EqualTo((7, "")));
    }

    [Test]
    public void Progress_names_its_stages_on_a_terminal()
    {
        using var error = new StringWriter();
        var terminal = new Terminal(Stream.Null, inputIsTerminal: false, TextWriter.Null, outputIsLive: false, error, errorIsLive: true);
        terminal.StyledError.Profile.Capabilities.Ansi = true;
        terminal.StyledError.Profile.Capabilities.Interactive = true;
        StageBars.Run(terminal, p =>
        {
            p.Report(new StageProgress("pushing [forward]", 1, 4));
            return 0;
        });
        Assert.That(error.ToString(), Does.Contain("pushing [forward]").And.Contain("25%"));
    }

    private static string Write(Action<Terminal> write)
    {
        using var both = new StringWriter();
        write(new Terminal(Stream.Null, inputIsTerminal: false, both, outputIsLive: false, both, errorIsLive: false));
        return both.ToString();
    }
}
