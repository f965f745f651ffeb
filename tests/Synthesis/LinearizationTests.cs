using MathNet.Numerics.LinearAlgebra;
using Tiller.Bench;
using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Cuda;
using Tiller.Features;
using Tiller.Kernels;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Synthesis;
using Tiller.Tests.Model;

namespace Tiller.Tests.Synthesis;

/// <summary>Products with the mean Jacobian and its transpose against the matrix itself, and the matrix against the golden one.</summary>
public sealed class LinearizationTests(string device) : OnEveryDevice(device)
{
    protected override IReadOnlyList<string> OnHostCuda => [.. TestModels.Tiny];

    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void Push_and_Pull_are_products_with_the_Jacobian(string family)
    {
        var model = TestModels.Load(family);
        using var calibration = new Calibration(model, [.. TestModels.Prompts(family), TestModels.LongPrompt(family, 70)]);
        var random = new Random(1);
        foreach (int k in new[] { 0, model.Config.L - 1 })
        {
            var a = calibration.Linear.Jacobian(k, CancellationToken.None);
            foreach (int p in new[] { 1, 5, model.Config.E, 200 })
            {
                var x = Problem.Gaussian(random, model.Config.D, p, 3);
                Assert.That(Problem.Difference(calibration.Linear.Push(k, x, CancellationToken.None), a * x), Is.LessThan(1e-5),
                    $"layer {k}, {p} pushed");
                Assert.That(
                    Problem.Difference(calibration.Linear.Pull(k, x, CancellationToken.None), a.TransposeThisAndMultiply(x)), Is.LessThan(1e-5),
                    $"layer {k}, {p} pulled");
            }
        }
    }

    [Test]
    public void More_columns_than_a_pass_holds_and_columns_of_zeros()
    {
        var model = TestModels.Load("llama3-bf16");
        using var calibration = new Calibration(model, [.. TestModels.Prompts("llama3-bf16").Take(2)]);
        int d = model.Config.D;
        int rows = model.Ops.JacobianRows;
        var x = Problem.Gaussian(new Random(2), d, rows + 515);
        foreach (int zero in new[] { 0, rows - 1, x.ColumnCount - 1 })
        {
            x.SetColumn(zero, new double[d]);
        }

        // Columns of very different lengths: each is scaled by itself.
        x.SetColumn(1, x.Column(1) * 1e-30);
        x.SetColumn(2, x.Column(2) * 1e30);
        var a = calibration.Linear.Jacobian(3, CancellationToken.None);
        var pushed = calibration.Linear.Push(3, x, CancellationToken.None);
        var pulled = calibration.Linear.Pull(3, x, CancellationToken.None);
        for (int j = 0; j < x.ColumnCount; j++)
        {
            Check(pushed.Column(j), a * x.Column(j), j);
            Check(pulled.Column(j), a.TransposeThisAndMultiply(x.Column(j)), j);
        }

        static void Check(Vector<double> actual, Vector<double> expected, int j) =>
            Assert.That((actual - expected).L2Norm(), Is.LessThanOrEqualTo(1e-5 * expected.L2Norm()), $"column {j}");
    }

    [Test]
    public void The_mean_of_prompts_is_the_mean_of_their_Jacobians()
    {
        var model = TestModels.Load("gemma2-bf16");
        int[][] prompts = TestModels.Prompts("gemma2-bf16");
        using var all = new Calibration(model, prompts);
        var mean = Matrix<double>.Build.Dense(model.Config.D, model.Config.D);
        foreach (int[] prompt in prompts)
        {
            using var one = new Calibration(model, [prompt]);
            mean += one.Linear.Jacobian(2, CancellationToken.None) / prompts.Length;
        }

        Assert.That(Problem.Difference(all.Linear.Jacobian(2, CancellationToken.None), mean), Is.LessThan(1e-5));
    }

    // Parts run their prompts anew, and only these: on no device may a bit depend on the prompts beside them.
    [TestCase("llama3-bf16")]
    [TestCase("gemma2-bf16")]
    public void Sums_of_parts_are_bit_for_bit_those_of_all_prompts(string family)
    {
        var model = TestModels.Load(family);
        int[][] prompts = [.. Enumerable.Range(0, 27).Select(i => TestModels.LongPrompt(family, 2 + (i % 5)))];
        using var all = new Calibration(model, prompts);
        int d = model.Config.D, blocks = PromptBlocks.CountOf(prompts.Length);
        double[] expected = Of(all.Linear, SumNode.Root(blocks));
        foreach (int count in new[] { 2, 3, 4 })
        {
            var sums = new Dictionary<SumNode, double[]>();
            for (int i = 0; i < count; i++)
            {
                var own = new Shard(i, count).Of(blocks);
                int first = own.Start.Value, begin = first * PromptBlocks.Size;
                var states = PromptState.Collect(
                    model, prompts, keepCaches: true, done: null, default, begin..Math.Min(own.End.Value * PromptBlocks.Size, prompts.Length));
                using var linear = new Linearization(model, states, blocks: null, prompts.Length);
                foreach (var node in SumNode.Within(blocks, own))
                {
                    sums.Add(node, Of(linear, node with { First = node.First - first }));
                }

                foreach (var state in states)
                {
                    state.Dispose();
                }
            }

            double[] merged = SumNode.Root(blocks).Sum<double[]>(
                node => sums.TryGetValue(node, out double[]? sum) ? sum : null, (a, b) => [.. a.Zip(b, (x, y) => x + y)]);
            Assert.That(merged, Is.EqualTo(expected), $"{count} parts");
        }

        double[] Of(Linearization linear, SumNode node)
        {
            using var memory = model.Ops.Allocate(d, d, out var sum);
            linear.Sum(1, node, sum, CancellationToken.None);
            double[] numbers = new double[sum.Length];
            model.Ops.Download(sum, numbers);
            return numbers;
        }
    }

    // Lanes, panels and prompts of a pass follow the number of threads; no bit does. Widths whose last panel is odd; heads with and without M.
    [TestCase("2,72,64,3,3,24,60")]
    [TestCase("2,200,96,4,2,64,60")]
    [TestCase("1,1056,64,4,2,16,60")]
    public void The_number_of_threads_changes_no_bit(string shape)
    {
        if (IsCuda)
        {
            Assert.Ignore("Threads are the CPU's.");
        }

        var c = BenchShape.Parse(shape).Config;
        int[] blocks = [c.L - 1, 0, 0];
        double[][]? first = null;
        foreach (int threads in new[] { 1, 2, 3, 7 })
        {
            using var model = LanguageModel.WithRandomWeights(c, TensorType.BF16, new LoadOptions { Device = Device.Cpu, Threads = threads });
            using var calibration = new Calibration(model, [.. Enumerable.Range(0, 11).Select(i => new[] { 3 + i, 5, 7 })]);
            var x = Problem.Gaussian(new Random(4), c.D, 100);
            double[][] got =
            [
                calibration.Linear.Jacobian(0, CancellationToken.None).ToColumnMajorArray(),
                .. calibration.Linear.Jacobians(blocks, CancellationToken.None).Select(a => a.ToColumnMajorArray()),
                calibration.Linear.Push(0, x, CancellationToken.None).ToColumnMajorArray(),
                calibration.Linear.Pull(0, x, CancellationToken.None).ToColumnMajorArray(),
            ];
            first ??= got;
            Assert.That(got, Is.EqualTo(first), $"{threads} threads");
            Assert.That(got[3], Is.EqualTo(got[0]), $"the last of several blocks, {threads} threads");
        }
    }

    // On CUDA one panel of 496 directions, or two of 240 and 256 as on one thread: what a fit plans is what either takes, and both are one Jacobian.
    [Test]
    public void Panels_of_any_width_give_the_same_Jacobian_and_take_what_is_planned()
    {
        var c = BenchShape.Parse("1,496,32,2,1,16,60").Config;
        int[][] prompts = [[3, 4, 5]];
        using var alone = LanguageModel.WithRandomWeights(c, TensorType.BF16, new LoadOptions { Device = Device.Cpu, Threads = 1 });
        using var expected = new Calibration(alone, prompts);
        var a = expected.Linear.Jacobian(0, CancellationToken.None);
        using var model = LanguageModel.WithRandomWeights(
            c, TensorType.BF16, new LoadOptions { Device = IsCuda ? Device.Cuda() : Device.Cpu, Threads = IsCuda ? 0 : 3 });
        foreach (bool wide in IsCuda ? new[] { true, false } : [false])
        {
            if (model.Ops is CudaOps ops)
            {
                ops.Variants = KernelVariants.Default with { WidePanels = wide };
            }

            (int callers, int rows) = (model.Ops.Callers, model.Ops.JacobianRows);
            var plan = PassPlan.Of(c, c.D, callers, rows);
            Assert.That((plan.Panels, plan.Largest(0)), Is.EqualTo(wide ? (1, 496) : IsCuda ? (2, 256) : (6, 80)));
            using var calibration = new Calibration(model, prompts);
            Assert.That(Problem.Difference(calibration.Linear.Jacobian(0, CancellationToken.None), a), Is.LessThan(1e-5), $"wide: {wide}");
            var memory = FitPlan.Of(c, 0, [3], calibration: null, options: null, callers, rows).Memory;
            Assert.That(
                memory.Where(m => m.Name is "activations" or "panels").Sum(m => m.SizeInBytes),
                Is.EqualTo(calibration.Linear.Capacity * Activations.RowSizeInBytes(c)), $"wide: {wide}");
        }
    }

    [TestCase("qwen2-bf16")]
    [TestCase("gemma2-bf16")]
    public void What_a_token_left_in_the_blocks_pulls_back_as_running_them_again_does(string family)
    {
        var model = TestModels.Load(family);
        int[] ids = [3, 4, 5, 6, 7];
        var before = TestModels.States(model, ids[..^1])[0];
        var cache = before.Cache!;
        cache.Reserve(ids.Length, used: ids.Length - 1);
        using var kept = Linearization.AtNext(model, cache, ids.Length - 1, ids[^1], out var state, CancellationToken.None);
        using var again = new Linearization(model, [state]);
        var whole = TestModels.States(model, ids)[0];
        var random = new Random(2);
        for (int k = 0; k < model.Config.L; k++)
        {
            Assert.That(state.X[k], Is.EqualTo(whole.X[k]).Within(1e-3f * whole.X[k].Max(Math.Abs)), $"the states of the prompt, block {k}");
            foreach (int p in new[] { 1, 5, 80 })
            {
                var z = Problem.Gaussian(random, model.Config.D, p);
                Assert.That(
                    kept.Pull(k, z, CancellationToken.None).Enumerate(), Is.EqualTo(again.Pull(k, z, CancellationToken.None).Enumerate()),
                    $"block {k}, {p} cotangents");
            }
        }

        before.Dispose();
        whole.Dispose();
    }

    [Test]
    public void It_can_be_cancelled()
    {
        var model = TestModels.Load("qwen2-bf16");
        using var calibration = new Calibration(model, [[3, 4]]);
        using var source = new CancellationTokenSource();
        source.Cancel();
        var x = Problem.Gaussian(new Random(3), model.Config.D, 1);
        Assert.That(() => calibration.Linear.Jacobian(0, source.Token), Throws.InstanceOf<OperationCanceledException>());
        Assert.That(() => calibration.Linear.Push(0, x, source.Token), Throws.InstanceOf<OperationCanceledException>());
        Assert.That(() => calibration.Linear.Pull(0, x, source.Token), Throws.InstanceOf<OperationCanceledException>());
    }

    private sealed class Calibration : IDisposable
    {
        private readonly IReadOnlyList<PromptState> _states;

        public Calibration(LanguageModel model, int[][] prompts)
        {
            _states = TestModels.States(model, prompts);
            Linear = new Linearization(model, _states);
        }

        public Linearization Linear { get; }

        public void Dispose()
        {
            Linear.Dispose();
            foreach (var state in _states)
            {
                state.Dispose();
            }
        }
    }
}
