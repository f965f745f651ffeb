using Tiller.Features;
using Tiller.Model;

namespace Tiller.Tests.Model;

/// <summary>Pushforward and pullback of every family's blocks: against each other and against central differences (docs/math.md §9).</summary>
public sealed class BlockTests(string device) : OnEveryDevice(device)
{
    protected override IReadOnlyList<string> OnHostCuda => [.. TestModels.Tiny];

    // Between them: post-norms, windows, soft caps; biases; head norms, f32; f16.
    protected override IReadOnlyList<string> Checked => ["gemma2-bf16", "qwen2-bf16", "qwen3-f32", "mistral-f16"];

    private readonly Dictionary<string, IReadOnlyList<PromptState>> _prompts = new(StringComparer.Ordinal);

    private static IEnumerable<string> Families => TestModels.Families.Concat(FamilyCheckpoint.Names);

    private static IEnumerable<TestCaseData> FamiliesFewAndMany =>
        Families.SelectMany(family => new[] { new TestCaseData(family, false), new TestCaseData(family, true) });

    [OneTimeTearDown]
    public void FreePrompts()
    {
        foreach (var prompt in _prompts.Values.SelectMany(states => states))
        {
            prompt.Dispose();
        }
    }

    [TestCaseSource(nameof(FamiliesFewAndMany))]
    public void Pullback_is_the_adjoint_of_the_pushforward(string family, bool many)
    {
        var model = TestModels.Load(family);
        // From E/4 tangents on (CUDA: E/2), attention forms its E×E matrix; under that it streams over the keys.
        int quarter = model.Config.E / 4, half = model.Config.E / 2;
        int[] counts = many ? [quarter, half + 3, model.Config.E + 5] : [1, Math.Min(3, quarter - 1), 2];
        var random = new Random(1);
        using var run = new BlockRun(model, Prompts(family));
        foreach (int k in Layers(model))
        {
            float[][][] dx = Directions(model, random, counts);
            float[][][] yBar = Directions(model, random, counts);
            var (_, dy) = run.Forward(k, run.Inputs(k), dx);
            float[][][] xBar = run.Pullback(k, run.Inputs(k), yBar);
            double worst = 0;
            for (int i = 0; i < counts.Length; i++)
            {
                foreach (var (down, up) in from j in Enumerable.Range(0, counts[i]) from l in Enumerable.Range(0, counts[i]) select (j, l))
                {
                    double pushed = Numbers.Dot(yBar[i][up], dy[i][down]);
                    double pulled = Numbers.Dot(xBar[i][up], dx[i][down]);
                    worst = Math.Max(worst, Math.Abs(pushed - pulled) / Math.Max(Numbers.Norm(dy[i][down]), Numbers.Norm(xBar[i][up])));
                }
            }

            Assert.That(worst, Is.LessThan(1e-5), $"layer {k}");
        }
    }

    [TestCaseSource(nameof(FamiliesFewAndMany))]
    public void Pushforward_is_the_derivative(string family, bool many)
    {
        var model = TestModels.Load(family);
        int quarter = model.Config.E / 4, half = model.Config.E / 2;
        int[] counts = many ? [quarter, half, half + 1] : [1, Math.Min(2, quarter - 1), 1];
        var random = new Random(2);
        using var run = new BlockRun(model, Prompts(family));
        float[][][] none = [.. Prompts(family).Select(_ => Array.Empty<float[]>())];
        foreach (int k in Layers(model))
        {
            float[][] x = run.Inputs(k);
            float[][][] dx = Directions(model, random, counts);
            var (_, dy) = run.Forward(k, x, dx);
            for (int j = 0; j < counts.Min(); j++)
            {
                double[] step = [.. x.Select(row => 3e-3 * Numbers.Norm(row))];
                var (above, _) = run.Forward(k, [.. x.Select((row, i) => Numbers.Add(row, step[i], dx[i][j]))], none);
                var (below, _) = run.Forward(k, [.. x.Select((row, i) => Numbers.Add(row, -step[i], dx[i][j]))], none);
                for (int i = 0; i < x.Length; i++)
                {
                    float[] difference = [.. above[i].Zip(below[i], (a, b) => (float)(((double)a - b) / (2 * step[i])))];
                    Assert.That(Numbers.Error(dy[i][j], difference), Is.LessThan(1e-3), $"layer {k}, prompt {i}, tangent {j}");
                }
            }
        }
    }

    [TestCaseSource(nameof(Families))]
    public void Rows_do_not_see_each_other(string family)
    {
        var model = TestModels.Load(family);
        int k = model.Config.L / 2;
        var random = new Random(3);
        float[][][] dx = Directions(model, random, [1, 2, 2]);
        float[][][] yBar = Directions(model, random, [2, 1, 3]);
        using var together = new BlockRun(model, Prompts(family));
        var (y, dy) = together.Forward(k, together.Inputs(k), dx);
        float[][][] xBar = together.Pullback(k, together.Inputs(k), yBar);
        for (int i = 0; i < Prompts(family).Count; i++)
        {
            // At most eight rows in all, so even the bits must be the same.
            using var alone = new BlockRun(model, [Prompts(family)[i]]);
            var (yAlone, dyAlone) = alone.Forward(k, alone.Inputs(k), [dx[i]]);
            Assert.That(yAlone[0], Is.EqualTo(y[i]), $"values of prompt {i}");
            Assert.That(dyAlone[0], Is.EqualTo(dy[i]), $"tangents of prompt {i}");
            Assert.That(alone.Pullback(k, alone.Inputs(k), [yBar[i]])[0], Is.EqualTo(xBar[i]), $"cotangents of prompt {i}");
        }
    }

    [TestCaseSource(nameof(Families))]
    public void A_tangent_is_the_same_among_few_and_among_many(string family)
    {
        var model = TestModels.Load(family);
        int k = model.Config.L - 1;
        var random = new Random(4);
        float[][][] many = Directions(model, random, [model.Config.E, model.Config.E, model.Config.E]);
        using var run = new BlockRun(model, Prompts(family));
        var (_, wide) = run.Forward(k, run.Inputs(k), many);
        float[][][] wideBack = run.Pullback(k, run.Inputs(k), many);
        float[][][] few = [.. many.Select(group => group[..1])];
        var (_, narrow) = run.Forward(k, run.Inputs(k), few);
        float[][][] narrowBack = run.Pullback(k, run.Inputs(k), few);
        for (int i = 0; i < Prompts(family).Count; i++)
        {
            Assert.That(Numbers.Error(wide[i][0], narrow[i][0]), Is.LessThan(1e-5));
            Assert.That(Numbers.Error(wideBack[i][0], narrowBack[i][0]), Is.LessThan(1e-5));
        }
    }

    private static IEnumerable<int> Layers(LanguageModel model) => new[] { 0, 1, model.Config.L / 2, model.Config.L - 1 }.Distinct();

    private IReadOnlyList<PromptState> Prompts(string family)
    {
        if (!_prompts.TryGetValue(family, out var states))
        {
            states = TestModels.States(TestModels.Load(family), [.. TestModels.Prompts(family).Take(2), TestModels.LongPrompt(family, 41)]);
            _prompts.Add(family, states);
        }

        return states;
    }

    private static float[][][] Directions(LanguageModel model, Random random, int[] counts) =>
        [.. counts.Select(n => Enumerable.Range(0, n).Select(_ => Numbers.Unit(random, model.Config.D)).ToArray())];
}
