using MathNet.Numerics.LinearAlgebra;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Model;
using Tiller.Synthesis;
using Tiller.Tests.Model;

namespace Tiller.Tests.Synthesis;

/// <summary>Evidence of local linearity, where the answer is known.</summary>
public sealed class LinearityReportTests
{
    private const string Family = "llama3-bf16";

    private static LanguageModel Tiny => TestModels.Load(Family);

    private static Prompt[] Texts(string side, int count) => [.. TestModels.Texts(Family, side)[..count].Select(text => new TextPrompt(text))];

    [Test]
    public void A_matrix_is_like_itself_and_unlike_one_of_orthogonal_columns()
    {
        var random = new Random(1);
        var q = Problem.Orthogonal(random, 9);
        var right = Problem.Orthogonal(random, 9);
        Matrix<double> Of(params double[] s) => q * Matrix<double>.Build.DenseOfDiagonalArray(s) * right;
        var a = LeadingPairs.Of(Of(9, 8, 7, 1, 1, 1, 0, 0, 0), 3);
        Assert.That(a.S, Is.EqualTo(new double[] { 9, 8, 7 }).Within(1e-12));
        Assert.That(LeadingPairs.Similarity(a, a), Is.EqualTo(1).Within(1e-12));
        Assert.That(LeadingPairs.Similarity(a, LeadingPairs.Of(Of(0, 0, 0, 5, 4, 3, 0, 0, 0), 3)), Is.Zero.Within(1e-9));

        // diag(9, 8, 7) diag(2, 1, 3) in the order of each: nuclear 9·2 + 8·1 + 7·3
        double expected = (18 + 8 + 21) / Math.Sqrt((81 + 64 + 49) * (4.0 + 1 + 9));
        Assert.That(LeadingPairs.Similarity(a, LeadingPairs.Of(Of(2, 1, 3, 0, 0, 0, 0, 0, 0), 3)), Is.EqualTo(expected).Within(1e-12));
    }

    [Test]
    public void A_linear_plant_is_predicted_over_any_horizon()
    {
        var random = new Random(2);
        var a = Problem.Plant(random, 4, 6);
        var (one, other) = (new List<float[]> { Row(random) }, new List<float[]> { Row(random) });
        double[][] inputs = [.. a.Select(_ => Problem.Gaussian(random, 6, 1).Column(0).ToArray())];
        for (int k = 0; k < a.Length; k++)
        {
            one.Add(Step(a[k], one[k], inputs[k]));
            other.Add(Step(a[k], other[k], new double[6]));
        }

        var prediction = new Prediction([.. one], [.. other]);
        for (int k = 0; k < a.Length; k++)
        {
            var (step, all) = prediction.Advance(k, a[k], inputs[k]);
            Assert.That((step, all), Is.EqualTo((0.0, 0.0)).Using<double, double>((x, y) => Math.Abs(x - y) < 1e-5));
        }

        Assert.That(new Prediction([.. one], [.. one]).Advance(0, a[0], null).OneStep, Is.NaN, "no difference has no relative error");

        static float[] Row(Random random) => [.. Problem.Gaussian(random, 6, 1).Column(0).Select(x => (float)x)];
        static float[] Step(Matrix<double> a, float[] x, double[] u) =>
            [.. ((a * Vector<double>.Build.Dense(6, i => x[i])) + Vector<double>.Build.DenseOfArray(u)).Select(y => (float)y)];
    }

    [Test]
    public void A_block_is_smooth_its_residual_grows_with_the_step()
    {
        var report = LinearityReport.Measure(Tiny, [Texts("positive", 2)], new LinearityOptions { Sizes = [0.01, 0.03, 0.1], Directions = 2 });
        Assert.That(report.Layers.Select(l => l.Layer), Is.EqualTo(Enumerable.Range(0, Tiny.Config.L)));
        foreach (var layer in report.Layers)
        {
            Assert.That(layer.Slope, Is.EqualTo(1).Within(0.1), $"layer {layer.Layer}: a remainder of second order");
            Assert.That(layer.Within, Is.InRange(0, 1 + 1e-9));
            Assert.That((layer.Across, layer.SteeredOneStep, layer.SteeredHorizon), Is.EqualTo((double.NaN, double.NaN, double.NaN)));
        }

        Assert.That(report.Pairs, Is.EqualTo(Tiny.Config.D / 20));
    }

    [Test]
    public void Prompts_are_like_themselves_within_a_list_and_across_lists()
    {
        var prompt = Texts("positive", 1)[0];
        var report = LinearityReport.Measure(Tiny, [[prompt, prompt], [prompt]], new LinearityOptions { Sizes = [0.1], Directions = 1 });
        foreach (var layer in report.Layers)
        {
            Assert.That((layer.Within, layer.Across), Is.EqualTo((1.0, 1.0)).Using<double, double>((x, y) => Math.Abs(x - y) < 1e-9));
            Assert.That(layer.OneStep, Is.NaN, "the two runs do not differ");
            Assert.That(layer.Slope, Is.NaN, "one size has no slope");
        }
    }

    [Test]
    public void A_weak_law_is_predicted_better_than_a_strong_one()
    {
        var contrast = new ContrastSet(TestModels.Texts(Family, "positive")[..3], TestModels.Texts(Family, "negative")[..3]);
        var controller = ControllerFit.Run(Tiny, contrast, new FitOptions { Method = new AdditionFit("caa", ""), }).Controller;
        double Error(double lambda)
        {
            var options = new LinearityOptions { Sizes = [0.1], Directions = 1, Law = controller.ToLaw(lambda) };
            return LinearityReport.Measure(Tiny, [[contrast.Positive[0]]], options).Layers[^1].SteeredHorizon;
        }

        // One prompt's mean Jacobian is its own: the error is of second order in the input.
        Assert.That(Error(0.01), Is.LessThan(0.1 * Error(1)).And.Positive);
    }

    [Test]
    public void What_cannot_be_measured_is_refused()
    {
        Assert.Throws<ContrastSetException>(() => LinearityReport.Measure(Tiny, []));
        Assert.Throws<ContrastSetException>(() => LinearityReport.Measure(Tiny, [[]]));
        foreach (var options in new[]
        {
            new LinearityOptions { Sizes = [0] }, new LinearityOptions { Sizes = [double.NaN] }, new LinearityOptions { Directions = 0 },
            new LinearityOptions { Pairs = 0 },
        })
        {
            Assert.Throws<ArgumentOutOfRangeException>(() => LinearityReport.Measure(Tiny, [Texts("positive", 1)], options));
        }
    }
}
