using Tiller.Controllers;
using Tiller.Evaluation;
using Tiller.Evaluation.Comparing;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Synthesis;
using Tiller.Tests.Model;

namespace Tiller.Tests.Evaluation;

public sealed class ComparisonTests
{
    private static readonly ComparedFit s_feature = new("feature", new FitOptions { Cost = FitCost.Feature });

    private string _folder = "";

    [SetUp]
    public void MakeFolder() => _folder = Directory.CreateTempSubdirectory("tiller-compare").FullName;

    [TearDown]
    public void DeleteFolder() => Directory.Delete(_folder, recursive: true);

    [Test]
    public async Task Cells_are_computed_once_and_are_those_of_an_evaluation()
    {
        var comparison = New([s_feature, new RandomDirection(3), s_feature with { Title = "shuffled", ShuffleSeed = 1 }, new PromptingAlone()]);
        var told = new Told<EvaluationProgress>();
        var cells = await comparison.RunAsync(TestModels.Demo, _folder, told);
        Assert.That(cells.Select(x => (x.Method, x.Lambda, x.Seed)), Is.EqualTo(new[]
        {
            ("plain", 0.0, 0), ("plain", 0, 1), ("feature", 1.0, 0), ("feature", 1, 1), ("feature", 2, 0), ("feature", 2, 1),
            ("random direction", 1, 0), ("random direction", 1, 1), ("random direction", 2, 0), ("random direction", 2, 1),
            ("shuffled", 1, 0), ("shuffled", 1, 1), ("shuffled", 2, 0), ("shuffled", 2, 1), ("prompt only", 0, 0), ("prompt only", 0, 1),
        }));
        Assert.That(told.Values[^1], Is.EqualTo(new EvaluationProgress("cells", 16, 16)));

        var law = ControllerFit.Run(TestModels.Demo, comparison.Tasks[0].Contrast!, s_feature.Options).Controller.ToLaw(2);
        var lone = await Evaluator.RunAsync(
            TestModels.Demo, comparison.Tasks[0], comparison.Evaluation with { Law = law, Seed = 1UL << 32 });
        Assert.That(cells[5].Scores.Select(x => x.Value), Is.EqualTo(lone.Scores.Select(x => (double?)x.Value)));
        Assert.That(cells[5].Effort, Is.EqualTo(lone.Effort));

        // Again: every cell is read; one that is lost, or of something else, is computed anew.
        string[] files = Directory.GetFiles(Path.Combine(_folder, "cells"), "*.json", SearchOption.AllDirectories);
        Assert.That(files, Has.Length.EqualTo(16));
        string lost = files.Single(x => x.Contains("feature", StringComparison.Ordinal) && x.EndsWith("2-1.json", StringComparison.Ordinal));
        byte[] before = File.ReadAllBytes(lost);
        var others = files.Where(x => x != lost).ToDictionary(x => x, File.GetLastWriteTimeUtc);
        File.WriteAllText(lost, "{");
        var again = await comparison.RunAsync(TestModels.Demo, _folder);
        Assert.That(again.Select(x => x with { Scores = [], Seconds = 0 }), Is.EqualTo(cells.Select(x => x with { Scores = [], Seconds = 0 })));
        Assert.That(others, Has.All.Matches<KeyValuePair<string, DateTime>>(x => File.GetLastWriteTimeUtc(x.Key) == x.Value));
        Assert.That(Values(File.ReadAllText(lost)), Is.EqualTo(Values(System.Text.Encoding.UTF8.GetString(before))));
        var limited = await (comparison with { Evaluation = comparison.Evaluation with { Limit = 2 } }).RunAsync(TestModels.Demo, _folder);
        Assert.That(limited[0].Scores[0].Without, Has.Count.EqualTo(2), "a smaller run does not take the cells of a larger one");

        static string Values(string json) => json[..json.IndexOf("\"seconds\"", StringComparison.Ordinal)];
    }

    [Test]
    public async Task A_model_with_keys_and_values_in_another_type_has_cells_of_its_own()
    {
        using var rounded = LanguageModel.Load(TestModels.Folder("demo"), new LoadOptions { Device = Device.Cpu, KvType = KvType.BF16 });
        var comparison = New([new PromptingAlone()]);
        await comparison.RunAsync(TestModels.Demo, _folder);
        var exact = ComparisonPlan.Read(_folder).Cells;
        await comparison.RunAsync(rounded, _folder);
        var other = ComparisonPlan.Read(_folder).Cells;
        Assert.That(other.Select(cell => cell.Path), Is.EqualTo(exact.Select(cell => cell.Path)));
        Assert.That(other.Select(cell => cell.Identity).Intersect(exact.Select(cell => cell.Identity)), Is.Empty);
    }

    [Test]
    public void Operating_points_are_interpolated_with_their_errors()
    {
        // Two prompts; the score without one is the other's. Method a: x 0, 1, 2 and y 0, 2, 3; method b: x 0, 4 and y 0, 8.
        ComparisonCell[] cells =
        [
            Cell("plain", 0, 0, 0, 0), Cell("a", 1, 1, 1, 3), Cell("a", 2, 2, 2, 4), Cell("b", 1, 4, 8, 8),
        ];
        var report = ComparisonReport.Of(cells).Single();
        var at = report.At(OperatingAxis.Effort, "y", 1.5)!;
        Assert.That(at.Methods["a"].Value, Is.EqualTo(2.5).Within(1e-12));
        Assert.That(at.Methods["b"].Value, Is.EqualTo(3).Within(1e-12));

        // Without either prompt a is 1.5 and 3.5, so its error is √(1/2 (1 + 1)) = 1; b is 3 both times.
        Assert.That(at.Methods["a"].Error, Is.EqualTo(1).Within(1e-12));
        Assert.That(at.Methods["b"].Error, Is.Zero);
        Assert.That((at.Differences["b"].Value, at.Differences["b"].Error), Is.EqualTo((0.5, 1)).Within(1e-12));
        Assert.That(report.At(OperatingAxis.Effort, "y")!.Level, Is.EqualTo(1.8).Within(1e-12), "nine tenths of what both reach");
        Assert.That(report.At(OperatingAxis.Effort, "y", 3)!.Methods["a"].Value, Is.NaN);
        Assert.That(report.At(OperatingAxis.Divergence, "y"), Is.Null, "not measured");
        string markdown = report.ToMarkdown();
        Assert.That(markdown, Does.Contain("| a | 2 | 3.000 ± 1.000 | 200.0 % |"));
        Assert.That(markdown, Does.Contain("At equal effort (1.800), y: a 2.800 ± 1.000; b 3.600"));
    }

    [Test]
    public async Task A_prompt_that_changes_sides_makes_another_cell()
    {
        var comparison = New([s_feature]) with { Strengths = [1], Seeds = 1, Evaluation = new EvaluationOptions { Limit = 1 } };
        var task = comparison.Tasks[0];
        var (positive, negative) = (task.Contrast!.Positive, task.Contrast.Negative);
        var moved = task with { Contrast = new ContrastSet([.. positive.SkipLast(1)], [positive[^1], .. negative]) };
        var one = await comparison.RunAsync(TestModels.Demo, _folder);
        var other = await (comparison with { Tasks = [moved] }).RunAsync(TestModels.Demo, _folder);
        Assert.That(other.Select(x => x.Identity), Is.All.Not.AnyOf(one[0].Identity, one[1].Identity));
        Assert.That(other[1].Effort, Is.Not.EqualTo(one[1].Effort), "it was fitted anew");
    }

    [Test]
    public void Strengths_of_the_other_sign_do_not_count()
    {
        var report = ComparisonReport.Of(
            [Cell("plain", 0, 0, 0, 0), Cell("a", -2, 2, -8, -8), Cell("a", -1, 1, -4, -4), Cell("a", 1, 1, 2, 2), Cell("a", 2, 2, 3, 3)]).Single();
        Assert.That(report.At(OperatingAxis.Effort, "y", 1.5)!.Methods["a"].Value, Is.EqualTo(2.5).Within(1e-12));
        var away = ComparisonReport.Of([Cell("plain", 0, 0, 0, 0), Cell("a", -2, 2, -8, -8), Cell("a", -1, 1, -4, -4)]).Single();
        Assert.That(away.At(OperatingAxis.Effort, "y", 1.5)!.Methods["a"].Value, Is.EqualTo(-6).Within(1e-12));
    }

    [Test]
    public void The_page_shows_every_point_and_asks_nobody_else()
    {
        var report = ComparisonReport.Of([Cell("plain", 0, 0, 0, 0), Cell("<a>", 1, 1, 1, 3), Cell("<a>", 2, 2, 2, 4), Cell("b", 1, 4, 8, 8)]);
        string page = ComparisonPage.Of("A & B", report);
        Assert.That(page, Does.Contain("<h1>A &amp; B</h1>").And.Contain("<td>&lt;a&gt;</td><td>2</td><td>3.000 ± 1.000</td><td>200.0 %</td>"));
        Assert.That(page, Does.Not.Contain("<a>").And.Not.Contain("src=").And.Not.Contain("href=").And.Not.Contain("@import"));
        Assert.That(System.Text.RegularExpressions.Regex.Count(page, "<svg "), Is.EqualTo(1), "effort alone is measured");
    }

    [TestCase("Strengths must be different finite numbers other than 0", 0.0)]
    [TestCase("Strengths must be different finite numbers other than 0", double.NaN)]
    [TestCase("Strengths must be different finite numbers other than 0", 1.0, 1.0)]
    public void Strengths_that_mean_nothing_are_refused(string problem, params double[] strengths) =>
        Assert.That(
            async () => await (New([s_feature]) with { Strengths = strengths }).RunAsync(TestModels.Demo, _folder),
            Throws.ArgumentException.With.Message.Contains(problem));

    [Test]
    public void A_random_direction_is_as_long_as_the_features_difference()
    {
        var task = New([s_feature]).Tasks[0];
        var feature = FeatureMeasurement.Measure(TestModels.Demo, task.Contrast!);
        var (one, other) = (Drawn(3), Drawn(4));
        Assert.That(one.Mu, Is.EqualTo(feature.Mu).Within(1e-4).Percent);
        for (int k = 1; k < feature.L; k++)
        {
            Assert.That(Math.Abs(Cosine(one.V[k], feature.V[k])), Is.LessThan(0.5), $"block {k}");
            Assert.That(Math.Abs(Cosine(one.V[k], other.V[k])), Is.LessThan(0.5), $"block {k}");
        }

        Assert.That(Drawn(3).V, Is.EqualTo(one.V), "by its seed");

        Feature Drawn(int seed) => ((OpenLoopAddition)new RandomDirection(seed).Fit(TestModels.Demo, task, null, null, default)!.Method).Feature;

        static double Cosine(float[] a, float[] b) => a.Zip(b, static (x, y) => (double)x * y).Sum(); // both are of length 1
    }

    [Test]
    public async Task A_task_says_how_its_controllers_are_fitted_and_how_strong_they_are()
    {
        var comparison = New([s_feature]) with { Strengths = [], Seeds = 1, Evaluation = new EvaluationOptions { Limit = 1 } };
        var task = comparison.Tasks[0];
        var fit = new TaskFit
        {
            Weights = new LqrWeights(1, 2, 0.5),
            Calibration = [.. task.Contrast!.Negative.Take(2)],
            Strengths = [1.5],
            Tokens = SteeredTokens.All,
        };
        var cells = await (comparison with { Tasks = [task with { Fit = fit }] }).RunAsync(TestModels.Demo, _folder);
        Assert.That(cells.Select(x => x.Lambda), Is.EqualTo(new[] { 0, 1.5 }));
        var options = s_feature.Options with { Weights = fit.Weights, Calibration = fit.Calibration };
        var law = ControllerFit.Run(TestModels.Demo, task.Contrast, options).Controller.ToLaw(1.5);
        var lone = await Evaluator.RunAsync(
            TestModels.Demo, task, comparison.Evaluation with { Law = law, Tokens = SteeredTokens.All });
        Assert.That(cells[1].Effort, Is.EqualTo(lone.Effort));

        var standard = await comparison.RunAsync(TestModels.Demo, _folder);
        Assert.That(standard.Select(x => x.Lambda), Is.EqualTo(new[] { 0, 0.5, 1, 2 }));
        Assert.That(standard[0].Identity, Is.Not.EqualTo(cells[0].Identity), "how a task is fitted is part of it");
    }

    [Test]
    public void A_score_of_other_texts_than_the_axis_has_its_own_error()
    {
        // The score is of two questions, the perplexity of three texts: only the score's own parts are left out in turn.
        ComparisonCell[] cells =
        [
            WithPerplexity(Cell("plain", 0, 0, 0, 0), 2), WithPerplexity(Cell("a", 1, 1, 1, 3), 4),
        ];
        var at = ComparisonReport.Of(cells).Single().At(OperatingAxis.Perplexity, "y", 3)!;
        Assert.That((at.Methods["a"].Value, at.Methods["a"].Error), Is.EqualTo((1, 0.5)).Within(1e-12));

        static ComparisonCell WithPerplexity(ComparisonCell cell, double value) =>
            cell with { Scores = [.. cell.Scores, new CellScore("perplexity", value, [value, value + 1, value - 1])] };
    }

    [Test]
    public void Names_that_come_twice_are_refused() => Assert.That(
        async () => await New([s_feature, s_feature]).RunAsync(TestModels.Demo, _folder),
        Throws.TypeOf<ComparisonException>().With.Message.Contains("methods are named feature, or differ"));

    [Test]
    public void A_control_that_the_task_does_not_have_is_told()
    {
        var comparison = New([new PromptingAlone()]);
        var task = comparison.Tasks[0] with { Prompting = null };
        Assert.That(
            async () => await (comparison with { Tasks = [task] }).RunAsync(TestModels.Demo, _folder),
            Throws.TypeOf<ComparisonException>().With.Message.Contains("\"prompting\" in task.yaml"));
        Assert.That(
            async () => await (New([s_feature]) with { Tasks = [task with { Contrast = null }] }).RunAsync(TestModels.Demo, _folder),
            Throws.TypeOf<ComparisonException>().With.Message.Contains("has no contrast"));
    }

    private static ComparisonCell Cell(string method, double lambda, double effort, double first, double second) =>
        new("", "task", method, false, lambda, 0, effort, [new CellScore("y", (first + second) / 2, [second, first])], 1, 1);

    private static Comparison New(ComparedMethod[] methods)
    {
        var task = EvaluationTask.Read(Repository.Path("tasks", "demo", "topic"));
        var contrast = new ContrastSet([.. task.Contrast!.Positive.Take(6)], [.. task.Contrast.Negative.Take(6)]);
        return new Comparison
        {
            Tasks =
            [
                task with
                {
                    Contrast = contrast,
                    Prompting = "This is a story about the sea. ",
                    Generation = task.Generation with { MaxNewTokens = 12 },
                },
            ],
            Methods = methods,
            Strengths = [1, 2],
            Seeds = 2,
            Evaluation = new EvaluationOptions { Limit = 4 },
        };
    }
}
