using Tiller.Controllers;
using Tiller.Evaluation;
using Tiller.Evaluation.Comparing;
using Tiller.Evaluation.Scorers;
using Tiller.Evaluation.Tuning;
using Tiller.Features;
using Tiller.Law;
using Tiller.Synthesis;
using Tiller.Tests.Model;

namespace Tiller.Tests.Evaluation;

public sealed class TuningTests
{
    private string _folder = "";

    [SetUp]
    public void MakeFolder() => _folder = Directory.CreateTempSubdirectory("tiller-tune").FullName;

    [TearDown]
    public void DeleteFolder() => Directory.Delete(_folder, recursive: true);

    [Test]
    public async Task The_best_setting_within_the_budget_is_found_on_dev_prompts_and_told_on_test_prompts()
    {
        var tuning = New();
        var dev = tuning.Task with { Splits = Only(tuning.Task, static i => i % 3 == 0) };
        var full = ComparisonReport.Of(await new Comparison { Tasks = [dev], Methods = tuning.Fits, Strengths = tuning.Strengths }
            .RunAsync(TestModels.Demo, Path.Combine(_folder, "full")))[0];
        double budget = full.Points.Select(static x => x.Effort).Order().ElementAt(full.Points.Count / 2); // half of the settings keep to it
        tuning = tuning with { Budget = new TuningBudget { Effort = budget } };
        var report = (await tuning.RunAsync(TestModels.Demo, _folder))!;
        Assert.That(report.Rungs, Is.EqualTo(new[] { (8, 2), (3, 6) }), "3 of 8 go on, to all 6 dev prompts");

        var chosen = full.Points.Single(x => (x.Method, x.Lambda) == (report.Recommended!.Method, report.Recommended.Lambda));
        Assert.That(report.Recommended!.Scores, Is.EqualTo(chosen.Scores));
        Assert.That(report.Recommended.Effort, Is.LessThanOrEqualTo(budget));
        Assert.That(report.Front.Select(x => x.Effort), Is.Ordered);
        Assert.That(report.Front.Select(x => x.Scores[report.Score].Value), Is.Ordered.And.All.GreaterThan(full.Plain.Scores[report.Score].Value));

        var test = tuning.Task with { Splits = Only(tuning.Task, static i => i % 3 != 0) };
        var lone = await Evaluator.RunAsync(
            TestModels.Demo, test, new EvaluationOptions { Law = report.Controller!.ToLaw(report.Recommended.Lambda) });
        Assert.That(report.Test.Select(x => x.Method), Is.EqualTo(new[] { "plain", report.Recommended.Method, "prompt only" }));
        Assert.That(report.Test[1].Scores[report.Score].Value, Is.EqualTo(lone.Scores[0].Value), "its controller is the one that was measured");
        Assert.That(report.Gain!.Value.Value, Is.EqualTo(lone.Scores[0].Value - report.Test[2].Scores[report.Score].Value).Within(1e-12));
        Assert.That(report.Beats, Is.EqualTo(report.Gain.Value.Value > 2 * report.Gain.Value.Error));
        Assert.That(report.Verdict, Does.StartWith(report.Beats ? report.Recommended.Method : "Nothing beats asking in words"));

        // Again, from what is there.
        var times = Directory.GetFiles(_folder, "*.json", SearchOption.AllDirectories).ToDictionary(x => x, File.GetLastWriteTimeUtc);
        var again = (await tuning.RunAsync(TestModels.Demo, _folder))!;
        Assert.That(again.ToMarkdown(), Is.EqualTo(report.ToMarkdown()));
        Assert.That(times, Has.All.Matches<KeyValuePair<string, DateTime>>(x => File.GetLastWriteTimeUtc(x.Key) == x.Value));
    }

    [Test]
    public async Task Nothing_is_recommended_beyond_the_budget()
    {
        var report = (await (New() with { Budget = new TuningBudget { Perplexity = 1 } }).RunAsync(TestModels.Demo, _folder))!;
        Assert.That((report.Recommended, report.Controller, report.Test.Count, report.Beats), Is.EqualTo(((object?)null, (object?)null, 0, false)));
        Assert.That(report.Verdict, Is.EqualTo("No setting keeps to the budget (perplexity ≤ 1.000): raise it, or try weaker strengths."));
    }

    [Test]
    public async Task A_setting_that_is_no_better_than_words_is_not_said_to_beat_them()
    {
        // Away from the sea, measured towards it.
        var tuning = New() with { Strengths = [-0.5], Budget = new TuningBudget { Effort = 1 } };
        var report = (await tuning.RunAsync(TestModels.Demo, _folder))!;
        Assert.That(report.Beats, Is.False);
        Assert.That(report.Verdict, Does.StartWith("Nothing beats asking in words: "));
    }

    [Test]
    public async Task Shards_come_to_the_same_when_each_has_been_run_for_every_rung()
    {
        var tuning = New() with { Budget = new TuningBudget { Effort = 1 } };
        var whole = (await tuning.RunAsync(TestModels.Demo, Path.Combine(_folder, "whole")))!;
        string folder = Path.Combine(_folder, "parts");
        var told = new List<TuningReport?>();
        for (int round = 0; round < 3; round++)
        {
            for (int i = 0; i < 2; i++)
            {
                told.Add(await (tuning with { Shard = new Shard(i, 2) }).RunAsync(TestModels.Demo, folder));
            }
        }

        Assert.That(told[0], Is.Null, "the other half of the first rung is not there yet");
        Assert.That(told[^1]!.ToMarkdown(), Is.EqualTo(whole.ToMarkdown()));
    }

    [Test]
    public async Task The_contrast_is_run_and_linearised_once_whatever_the_number_of_fits()
    {
        var told = new Told<EvaluationProgress>();
        var tuning = New() with
        {
            Fits =
            [
                new ComparedFit("actadd", new FitOptions { Method = FitMethod.Find("actadd")! }),
                new ComparedFit("weak", new FitOptions { Weights = new LqrWeights(0.01, 1, 1) }) { KeepsWeights = true },
                new ComparedFit("strong", new FitOptions { Weights = new LqrWeights(10, 1, 1) }) { KeepsWeights = true },
                new ComparedFit("middle", new FitOptions { Layers = new LayerSet(3, 6) }),
                new ComparedFit("lfs", new FitOptions { Method = FitMethod.Find("actadd-lfs")! }),
            ],
            Strengths = [1, 2],
            Budget = new TuningBudget { Effort = 1 },
        };
        var report = (await tuning.RunAsync(TestModels.Demo, _folder, told))!;
        var contrast = told.Values.Where(static x => x.Stage == "contrast").ToArray();
        int prompts = tuning.Task.Contrast!.Positive.Count + tuning.Task.Contrast.Negative.Count, blocks = TestModels.Demo.Config.L;
        Assert.That(contrast.Select(static x => x.Done), Is.Ordered.And.Unique, "one pass, which does not begin again");
        Assert.That(contrast[^1], Is.EqualTo(new EvaluationProgress("contrast", prompts, prompts)));
        var jacobians = told.Values.Where(static x => x.Stage == "Jacobians").ToArray();
        Assert.That(jacobians.Select(static x => x.Done), Is.Ordered, "each block once");
        Assert.That(jacobians[^1], Is.EqualTo(new EvaluationProgress("Jacobians", blocks, blocks)));
        string[] files = Directory.GetFiles(Path.Combine(_folder, "jacobians"));
        Assert.That(files, Has.Length.EqualTo(1));

        // What is solved from the file is what a fit by itself gives, bit for bit.
        var alone = ControllerFit.Run(
            TestModels.Demo, tuning.Task.Contrast, tuning.Fits.Single(x => x.Name == report.Recommended!.Method).Options).Controller;
        Assert.That(Bytes(report.Controller!), Is.EqualTo(Bytes(alone)));

        // Another search in the folder needs no pass at all; another contrast has a file of its own.
        told = new Told<EvaluationProgress>();
        await (tuning with { Fits = [tuning.Fits[1] with { Title = "other", Options = new FitOptions { Weights = new LqrWeights(1, 1, 1) } }] })
            .RunAsync(TestModels.Demo, _folder, told);
        Assert.That(told.Values.Select(static x => x.Stage), Does.Contain("cells").And.Not.Contain("contrast").And.Not.Contain("Jacobians"));
        var other = new ContrastSet([.. tuning.Task.Contrast.Positive.Take(5)], [.. tuning.Task.Contrast.Negative.Take(5)]);
        await (tuning with { Task = tuning.Task with { Contrast = other } }).RunAsync(TestModels.Demo, _folder);
        Assert.That(Directory.GetFiles(Path.Combine(_folder, "jacobians")), Has.Length.EqualTo(2));

        static byte[] Bytes(Controller controller)
        {
            using var stream = new MemoryStream();
            controller.Save(stream);
            return stream.ToArray();
        }
    }

    [TestCase(false)]
    [TestCase(true)]
    public async Task Jacobians_that_another_process_measures_are_waited_for(bool isClaimed)
    {
        var tuning = New() with { Budget = new TuningBudget { Effort = 1 } };
        var first = (await tuning.RunAsync(TestModels.Demo, _folder))!;
        Directory.Delete(Path.Combine(_folder, "rung-1"), recursive: true);
        var waits = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Task<TuningReport?> running;
        string file = Directory.GetFiles(Path.Combine(_folder, "jacobians")).Single();
        if (isClaimed)
        {
            File.Delete(file); // the other has not begun to write it
        }

        using (isClaimed ? JacobianFile.Claim(file) : File.Open(file, FileMode.Open, FileAccess.ReadWrite, FileShare.None))
        {
            running = Task.Run(() => tuning.RunAsync(TestModels.Demo, _folder, new Relay<EvaluationProgress>(progress =>
            {
                if (progress.Stage == "waiting for Jacobians")
                {
                    waits.TrySetResult();
                }
            })));
            await Task.WhenAny(waits.Task, running).InTime();
            Assert.That((waits.Task.IsCompleted, running.IsCompleted), Is.EqualTo((true, false)));
        }

        Assert.That((await running.InTime())!.ToMarkdown(), Is.EqualTo(first.ToMarkdown()));
    }

    [Test]
    public async Task Words_that_do_harm_are_no_rival()
    {
        // Words that ask for the sea, where it is to be as rare as can be.
        var tuning = New() with { Minimises = true, Budget = new TuningBudget { Effort = 1 } };
        var report = (await tuning.RunAsync(TestModels.Demo, _folder))!;
        double plain = report.Test[0].Scores[report.Score].Value, words = report.Test[2].Scores[report.Score].Value;
        Assert.That(words, Is.GreaterThan(plain), "the words do harm");
        Assert.That(report.Rival, Is.EqualTo("the plain model"));
        Assert.That(report.Gain!.Value.Value, Is.EqualTo(report.Test[1].Scores[report.Score].Value - plain).Within(1e-12));
    }

    [Test]
    public void A_budget_on_what_is_not_measured_is_told()
    {
        var tuning = New();
        tuning = tuning with { Task = tuning.Task with { Scorers = [tuning.Task.Scorers[0]] }, Budget = new TuningBudget { Divergence = 1 } };
        Assert.That(
            async () => await tuning.RunAsync(TestModels.Demo, _folder),
            Throws.TypeOf<ComparisonException>().With.Message.Contains("does not measure KL, which the budget is about: add the scorer kl"));
    }

    [Test]
    public void One_prompt_is_not_enough_to_choose_and_to_tell()
    {
        var tuning = New();
        tuning = tuning with { Task = tuning.Task with { Splits = Only(tuning.Task, static i => i == 0) } };
        Assert.That(
            async () => await tuning.RunAsync(TestModels.Demo, _folder),
            Throws.TypeOf<ComparisonException>().With.Message.Contains("has one prompt"));
    }

    private static Dictionary<string, IReadOnlyList<Prompt>> Only(EvaluationTask task, Func<int, bool> takes) => new(StringComparer.Ordinal)
    {
        [EvaluationTask.DefaultSplit] = [.. task.PromptsOf(EvaluationTask.DefaultSplit).Where((_, i) => takes(i))],
    };

    private static TuningSearch New()
    {
        var task = EvaluationTask.Read(Repository.Path("tasks", "demo", "topic"));
        return new TuningSearch
        {
            Task = task with
            {
                Contrast = new ContrastSet([.. task.Contrast!.Positive.Take(6)], [.. task.Contrast.Negative.Take(6)]),
                Prompting = "This is a story about the sea. ",
                Generation = task.Generation with { MaxNewTokens = 16 },
                Splits = Only(task, static i => i < 18),
                Scorers = [task.Scorers[0], new PerplexityScorer()],
            },
            Fits =
            [
                new ComparedFit("feature", new FitOptions { Cost = FitCost.Feature }),
                new ComparedFit("lfs", new FitOptions { Method = FitMethod.Find("actadd-lfs")! }),
            ],
            Strengths = [0.5, 1, 1.5, 2],
            FirstPrompts = 2,
            Finalists = 2,
        };
    }
}
