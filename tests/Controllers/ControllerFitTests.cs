using MathNet.Numerics.LinearAlgebra;
using Tiller.Controllers;
using Tiller.Cpu;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Synthesis;
using Tiller.Tests.Model;
using Tiller.Tests.Synthesis;

namespace Tiller.Tests.Controllers;

/// <summary>Fits on real models: the three solvers against each other, the options, and what is refused.</summary>
public sealed class ControllerFitTests(string device) : OnEveryDevice(device)
{
    protected override IReadOnlyList<string> OnHostCuda => [Family];

    private const string Family = "llama3-bf16";

    private static readonly LqrWeights s_weights = new(0.3, 1, 2);

    private static LanguageModel Tiny => TestModels.Load(Family);

    // Short and long texts on both sides; unequal numbers of them.
    private static readonly ContrastSet s_contrast = new(
        [.. TestModels.Texts(Family, "positive"), string.Join(' ', TestModels.Texts(Family, "positive"))],
        [.. TestModels.Texts(Family, "negative").Take(4), "A"]);

    [TestCase("demo", null)]
    [TestCase(Family, null)]
    [TestCase(Family, "1-4")]
    public void The_factored_fit_is_the_dense_one_with_the_same_cost(string family, string? layers)
    {
        var model = TestModels.Load(family);
        var contrast = family == "demo"
            ? new ContrastSet(TestModels.Texts("demo", "positive")[..2], TestModels.Texts("demo", "negative")[..2]) : s_contrast;
        var range = layers is null ? null : new LayerSet(1, 4);
        var (first, last) = range is { } r ? (r.First, r.Last) : (0, model.Config.L - 1);
        int horizon = last - first + 1;
        var fit = ControllerFit.Run(model, contrast, new FitOptions { Cost = FitCost.Feature, Weights = s_weights, Layers = range });
        var method = (LinearQuadratic)fit.Controller.Method;

        // Q = q v v' written out, on the engine's own Jacobians.
        var feature = method.Feature;
        var q = Enumerable.Range(first, horizon + 1).Select(k =>
        {
            var v = Vector<double>.Build.DenseOfEnumerable(feature.V[k].Select(x => (double)x));
            return v.OuterProduct(v) * (k == last + 1 ? s_weights.Qf : s_weights.Q);
        });
        var states = States(model, contrast);
        using var linear = new Linearization(model, states);
        var dense = DenseRiccati.Solve(horizon, k => linear.Jacobian(first + k, CancellationToken.None), new MatrixCost([.. q], s_weights.R));
        for (int k = 0; k < model.Config.L; k++)
        {
            float[] expected = k < first || k > last
                ? new float[model.Config.D]
                : Array.ConvertAll(dense.Gains[k - first].Apply(feature.V[k]), x => (float)x);
            Assert.That(Numbers.Error(method.W[k], expected), Is.LessThan(1e-4), $"layer {k}");
        }

        Assert.That(fit.Report.Residual, Is.LessThan(1e-9));
        Assert.That(fit.Report.Rank, Is.AtMost(horizon + 1));
        Free(states);
    }

    [TestCase(FitCost.State)]
    [TestCase(FitCost.Feature)]
    public void The_reduced_fit_of_full_order_is_the_full_fit(FitCost cost)
    {
        var options = new FitOptions { Cost = cost, Weights = s_weights };
        var full = ControllerFit.Run(Tiny, s_contrast, options);
        var reduced = ControllerFit.Run(Tiny, s_contrast, options with { Order = Tiny.Config.D });
        var (expected, actual) = ((LinearQuadratic)full.Controller.Method, (LinearQuadratic)reduced.Controller.Method);
        for (int k = 0; k < Tiny.Config.L; k++)
        {
            Assert.That(Numbers.Norm(expected.W[k]), Is.Positive);
            Assert.That(Numbers.Error(actual.W[k], expected.W[k]), Is.LessThan(1e-4), $"layer {k}");
        }

        Assert.That(reduced.Report.Leakage, Is.LessThan(1e-9));
        Assert.That(reduced.Controller.Source.Order, Is.EqualTo(Tiny.Config.D));
        var small = ControllerFit.Run(Tiny, s_contrast, options with { Order = 7 });
        Assert.That(small.Report.Rank, Is.EqualTo(7));
    }

    [TestCase(FitCost.Feature, "a-lqr")]
    [TestCase(FitCost.Feature, "trajectory")]
    [TestCase(FitCost.State, "h-infinity")]
    public void A_sweep_over_weights_gives_the_controller_of_each(FitCost cost, string method)
    {
        LqrWeights[] weights = [s_weights, new(0.01, 0.3, 5), new(2, 4, 0.1)];
        var options = new FitOptions
        {
            Cost = cost,
            Method = FitMethod.Find(method)!,
            Layers = new LayerSet(1, 4),
            Nominal = method == "trajectory" ? new TextPrompt("One day") : null,
        };
        var told = new Told<FitProgress>();
        var swept = ControllerFit.Sweep(Tiny, s_contrast, weights, options, told);
        if (cost == FitCost.Feature)
        {
            // Reports within a block repeat the last one.
            int[] done = [.. told.Values.Where(p => p.Stage == FitStage.Riccati).Select(p => p.Done)];
            Assert.That(
                done.Where((d, i) => d > 0 && (i == 0 || d != done[i - 1])), Is.EqualTo(new[] { 1, 2, 3, 4 }), "blocks that were pulled back");
        }

        foreach (var (one, fit) in weights.Zip(swept))
        {
            var alone = ControllerFit.Run(Tiny, s_contrast, options with { Weights = one });
            Assert.That(fit.Controller.Source.Weights, Is.EqualTo(one));
            Assert.That(fit.Report.Residual, Is.LessThan(1e-9));
            for (int k = 1; k <= 4; k++)
            {
                Assert.That(Numbers.Error(Effort(fit, k), Effort(alone, k)), Is.LessThan(1e-4), $"{one}, block {k}");
            }
        }

        // K_k v_k, of a trajectory Y V' v_k.
        static float[] Effort(FitResult fit, int k) => fit.Controller.Method switch
        {
            LinearQuadratic lqr => lqr.W[k],
            Trajectory t => [.. Enumerable.Range(0, t.Feature.D).Select(i => (float)Enumerable.Range(0, t.Read[k].Count)
                .Sum(j => t.Push[k][j][i] * Numbers.Dot(t.Read[k][j], t.Feature.V[k])))],
            var other => throw new AssertionException($"{other}"),
        };
    }

    [Test]
    public void A_sweep_that_would_measure_every_block_for_each_of_the_weights_is_refused()
    {
        LqrWeights[] two = [s_weights, new(0.01, 0.3, 5)];
        Assert.That(() => ControllerFit.Sweep(Tiny, s_contrast, two), Throws.ArgumentException.With.Message.Contains("FitOptions.Jacobians"));
        Assert.That(
            () => ControllerFit.Sweep(Tiny, s_contrast, two, new FitOptions { Cost = FitCost.Feature, Order = 4 }), Throws.ArgumentException);
        Assert.That(() => ControllerFit.Sweep(Tiny, s_contrast, []), Throws.ArgumentException);
        Assert.That(() => ControllerFit.Sweep(Tiny, s_contrast, two, new FitOptions { Method = FitMethod.Find("caa")! }), Throws.ArgumentException);
        Assert.That(
            () => ControllerFit.Sweep(Tiny, s_contrast, [s_weights, new(0, 1, 0)], new FitOptions { Cost = FitCost.Feature }),
            Throws.InstanceOf<ControllerException>());
    }

    [Test]
    public void The_horizon_steers_its_layers_and_no_others()
    {
        var fit = ControllerFit.Run(Tiny, s_contrast, new FitOptions { Layers = new LayerSet(2, 3), Weights = s_weights });
        var method = (LinearQuadratic)fit.Controller.Method;
        Assert.That(method.W.Select((w, k) => (k, Moves: Numbers.Norm(w) > 0)).Where(x => x.Moves).Select(x => x.k), Is.EqualTo(new[] { 2, 3 }));
        Assert.That(fit.Controller.ToLaw(1).Terms.Select(t => t.Layer), Is.EqualTo(new[] { 2, 3 }));
        Assert.That(fit.Loop.Layers, Has.Count.EqualTo(Tiny.Config.L));

        // The terminal cost stands after its last block: at block 3, K = qf/(qf + r) A.
        var states = States(Tiny, s_contrast);
        using var linear = new Linearization(Tiny, states);
        var v = Matrix<double>.Build.Dense(Tiny.Config.D, 1, (i, _) => method.Feature.V[3][i]);
        var expected = linear.Push(3, v, CancellationToken.None) * (s_weights.Qf / (s_weights.Qf + s_weights.R));
        Assert.That(Numbers.Error(method.W[3], Array.ConvertAll(expected.Column(0).ToArray(), x => (float)x)), Is.LessThan(1e-5));
        Free(states);
        foreach (var beyond in new[] { new LayerSet(0, 6), new LayerSet(new LayerRange(0, 1), new LayerRange(6, 6)) })
        {
            Assert.That(() => ControllerFit.Run(Tiny, s_contrast, new FitOptions { Layers = beyond }), Throws.InstanceOf<TillerException>(),
                $"{beyond}");
        }
    }

    [TestCase(FitCost.State, null)]
    [TestCase(FitCost.Feature, null)]
    [TestCase(FitCost.State, 64)]
    public void Blocks_between_the_steered_ones_carry_the_state_on(FitCost cost, int? order)
    {
        var layers = new LayerSet(new LayerRange(1, 1), new LayerRange(4, 5));
        var fit = ControllerFit.Run(Tiny, s_contrast, new FitOptions { Layers = layers, Weights = s_weights, Cost = cost, Order = order });
        var method = (LinearQuadratic)fit.Controller.Method;
        Assert.That(method.Layers, Is.EqualTo(layers));
        Assert.That(method.W.Select((w, k) => (k, Moves: Numbers.Norm(w) > 0)).Where(x => x.Moves).Select(x => x.k), Is.EqualTo(layers.Blocks));
        Assert.That(fit.Controller.ToLaw(1).Terms.Select(t => t.Layer), Is.EqualTo(layers.Blocks));

        // The horizon 1-5 on the engine's own Jacobians, with inputs at the first and the last two of its five blocks.
        var feature = method.Feature;
        QuadraticCost local = cost == FitCost.State
            ? new IsotropicCost(s_weights) { Inputs = layers.From(1) }
            : new FactoredCost(
                FactoredCost.OfFeatures(s_weights, new Feature([.. feature.V.Skip(1).Take(6)], [.. feature.Mu.Skip(1).Take(6)])).C, s_weights.R)
            {
                Inputs = layers.From(1),
            };
        var states = States(Tiny, s_contrast);
        using var linear = new Linearization(Tiny, states);
        var dense = DenseRiccati.Solve(5, k => linear.Jacobian(1 + k, CancellationToken.None), local);
        foreach (int k in layers.Blocks)
        {
            Assert.That(Numbers.Error(method.W[k], Array.ConvertAll(dense.Gains[k - 1].Apply(feature.V[k]), x => (float)x)), Is.LessThan(1e-4),
                $"layer {k}");
        }

        Assert.That(fit.Report.Residual, Is.LessThan(1e-9));
        Free(states);
    }

    [Test]
    public void A_fit_that_would_do_nothing_is_refused_with_the_reason()
    {
        // Nothing to pay for: seen before any prompt is run.
        var told = new Told<FitProgress>();
        var free = Assert.Throws<ControllerException>(() =>
            ControllerFit.Run(Tiny, s_contrast, new FitOptions { Weights = new LqrWeights(0, 1, 0) }, told))!;
        Assert.That((free.Fault, told.Values.Count), Is.EqualTo((ControllerFault.Idle, 0)));
        Assert.That(free.Message, Does.Contain("q = qf = 0"));

        // Prompts that end alike are alike before block 0.
        var alike = new ContrastSet(["One cat.", "Two cats."], ["Three dogs.", "Four dogs."]);
        foreach (var cost in new[] { FitCost.State, FitCost.Feature })
        {
            var same = Assert.Throws<ContrastSetException>(() => ControllerFit.Run(Tiny, alike, new FitOptions
            {
                Layers = new LayerSet(0, 0),
                Cost = cost,
            }))!;
            Assert.That(same.Message, Does.Contain("every block of 0-0").And.Contain("before block 1"));
        }

        Assert.That(ControllerFit.Run(Tiny, alike, new FitOptions { Layers = new LayerSet(0, 1) }).Controller.Method.Idle, Is.Null);

        // Only what comes after the one steered block could repay its effort, and that costs nothing.
        foreach (var options in new[] { new FitOptions(), new FitOptions { Cost = FitCost.Feature }, new FitOptions { Order = 8 } })
        {
            var last = options with { Layers = new LayerSet(3, 3), Weights = new LqrWeights(0.3, 1, 0) };
            var idle = Assert.Throws<ControllerException>(() => ControllerFit.Run(Tiny, s_contrast, last))!;
            Assert.That(idle.Fault, Is.EqualTo(ControllerFault.Idle));
            Assert.That(idle.Message, Does.Contain("w = K v is 0 at every block of 3-3").And.Contain("qf = 0"));
        }
    }

    [Test]
    public void An_affine_setpoint_is_at_the_means()
    {
        // λ = 0 is the negative mean, λ = 1 the positive one: the mean error over that side's prompts is 0.
        var fit = ControllerFit.Run(Tiny, s_contrast, new FitOptions { Setpoint = Setpoint.Affine, Cost = FitCost.Feature });
        foreach (var (lambda, prompts) in new[] { (0, s_contrast.Negative), (1, s_contrast.Positive) })
        {
            var law = fit.Controller.ToLaw(lambda);
            var states = TestModels.States(Tiny, PromptEncoder.Of(Tiny).Encode("Any", prompts, default));
            foreach (var sensor in law.Sensors)
            {
                double mean = states.Average(state => Numbers.Dot(sensor.V, state.X[sensor.Layer]));
                Assert.That(sensor.Beta, Is.EqualTo(mean).Within(1e-4 * (1 + Math.Abs(mean))), $"λ {lambda}, layer {sensor.Layer}");
            }

            Free(states);
        }
    }

    [Test]
    public void The_feature_is_the_published_one()
    {
        var golden = new Golden(Repository.Path("tests", "goldens", Family));
        var contrast = new ContrastSet(TestModels.Texts(Family, "positive"), TestModels.Texts(Family, "negative"));
        var feature = FeatureMeasurement.Measure(Tiny, contrast);
        float[][] expected = golden.Rows("feature");

        // Row L as published is the difference of one prompt of each side (see the verification of goldens).
        for (int k = 0; k < Tiny.Config.L; k++)
        {
            Assert.That(Numbers.Error(feature.Difference(k), expected[k]), Is.LessThan(1e-4), $"layer {k}");
        }

        var fitted = ControllerFit.Run(Tiny, contrast, new FitOptions { Cost = FitCost.Feature }).Controller.Method.Feature;
        Assert.That(fitted.V, Is.EqualTo(feature.V));
        Assert.That(fitted.Mu, Is.EqualTo(feature.Mu));
    }

    [Test]
    public void Given_calibration_prompts_are_the_ones_that_are_averaged()
    {
        string[] calibration = TestModels.Texts(Family, "calibration")[..3];
        var options = new FitOptions { Weights = s_weights, Calibration = [.. calibration] };
        var fit = ControllerFit.Run(Tiny, s_contrast, options);
        Assert.That(fit.Controller.Source.Calibration!.Count, Is.EqualTo(3));
        Assert.That(ControllerFit.Run(Tiny, s_contrast, options with { Calibration = null }).Controller.Source.Calibration, Is.Null);
        var states = TestModels.States(Tiny, [.. calibration.Select(p => Tiny.Tokenizer.Encode(p))]);
        using var linear = new Linearization(Tiny, states);
        var dense = DenseRiccati.Solve(Tiny.Config.L, k => linear.Jacobian(k, CancellationToken.None), new IsotropicCost(s_weights));
        var method = (LinearQuadratic)fit.Controller.Method;
        for (int k = 0; k < Tiny.Config.L; k++)
        {
            Assert.That(
                Numbers.Error(method.W[k], Array.ConvertAll(dense.Gains[k].Apply(method.Feature.V[k]), x => (float)x)), Is.LessThan(1e-4),
                $"layer {k}");
        }

        Free(states);
    }

    [TestCase(FitCost.State, null)]
    [TestCase(FitCost.Feature, null)]
    [TestCase(FitCost.State, 16)]
    public void Progress_goes_forward_to_the_end(FitCost cost, int? order)
    {
        var told = new Told<FitProgress>();
        var fit = ControllerFit.Run(Tiny, s_contrast, new FitOptions { Cost = cost, Order = order, Calibration = ["One.", "Two."] }, told);
        Assert.That(told.Values.Select(p => p.Stage).Distinct(), Is.EqualTo(new[] { FitStage.Activations, FitStage.Riccati }));
        foreach (var stage in told.Values.GroupBy(p => p.Stage))
        {
            Assert.That(stage.Select(p => p.Done), Is.Ordered, $"{stage.Key}");
            Assert.That(stage.Select(p => p.Total).Distinct().Count(), Is.EqualTo(1));
            Assert.That(stage.Last().Done, Is.EqualTo(stage.Last().Total), $"{stage.Key}");
        }

        Assert.That(fit.Stages.Select(s => s.Stage), Is.EqualTo(new[] { FitStage.Activations, FitStage.Linearisation, FitStage.Riccati }));
        Assert.That(fit.Stages.Select(s => s.ElapsedMs), Is.All.GreaterThanOrEqualTo(0));
        Assert.That(fit.Controller.Source.ModelFingerprint, Is.EqualTo(Tiny.Fingerprint));
        Assert.That((fit.Controller.Source.Positive.Count, fit.Controller.Source.Negative.Count),
            Is.EqualTo((s_contrast.Positive.Count, s_contrast.Negative.Count)));
        Assert.That(() => fit.Controller.CheckModel(Tiny), Throws.Nothing);
        Assert.That(() => fit.Controller.CheckModel(TestModels.Demo), Throws.InstanceOf<ControllerException>());
    }

    [Test]
    public void Every_pass_of_a_layer_is_told_on_the_callers_thread()
    {
        // So many prompts that they do not fit into one pass.
        Prompt[] many = [.. Enumerable.Range(0, 3 * CpuLinear.DotRows).Select(i => (Prompt)$"Number {i}.")];
        var threads = new List<int>();
        var told = new Told<FitProgress>(_ => threads.Add(Environment.CurrentManagedThreadId));
        ControllerFit.Run(Tiny, s_contrast, new FitOptions { Calibration = many }, told);
        int layers = Tiny.Config.L;
        var plan = PassPlan.Of(Tiny.Config, Tiny.Config.D, Tiny.Ops.Callers, Tiny.Ops.JacobianRows, layers);
        int[] together = [.. Enumerable.Range(0, layers).Chunk(plan.Blocks).Select(blocks => blocks.Length)];
        int groups = PromptBlocks.CountOf(many.Length) * ((PromptBlocks.Size + plan.Prompts - 1) / plan.Prompts);
        Assert.That(PassesOf(1), Is.GreaterThan(1));

        // Layers that pass together are told one after another when all are known; the gains along the feature are known from their Jacobians.
        var reports = told.Values.Where(p => p.Stage == FitStage.Riccati).ToArray();
        Assert.That(reports, Has.Length.EqualTo(together.Sum(blocks => PassesOf(blocks) - 1 + blocks)));
        Assert.That(reports.Count(p => p.Done == 0), Is.EqualTo(PassesOf(together[0]) - 1), "none of the first layers' other passes is a layer");
        Assert.That(threads.Distinct(), Is.EqualTo(new[] { Environment.CurrentManagedThreadId }));

        int PassesOf(int blocks) => ((blocks * plan.Panels) + plan.Lanes - 1) / plan.Lanes * groups;
    }

    [TestCase(FitStage.Activations)]
    [TestCase(FitStage.Riccati)]
    public void A_fit_can_be_cancelled_in_every_stage(FitStage stage)
    {
        foreach (var options in new[] { new FitOptions(), new FitOptions { Cost = FitCost.Feature }, new FitOptions { Order = 8 } })
        {
            using var source = new CancellationTokenSource();
            var told = new Told<FitProgress>(p =>
            {
                if (p.Stage == stage)
                {
                    source.Cancel();
                }
            });
            Assert.That(() => ControllerFit.Run(Tiny, s_contrast, options, told, source.Token), Throws.InstanceOf<OperationCanceledException>());
        }
    }

    [Test]
    public void Prompts_that_give_no_controller_are_refused()
    {
        string[] some = ["One."];
        string tooLong = string.Concat(Enumerable.Repeat("long ", 600));
        Assert.That(() => new ContrastSet(Array.Empty<string>(), some), Throws.InstanceOf<ContrastSetException>().With.Message.Contains("positive"));
        Assert.That(() => new ContrastSet(some, Array.Empty<string>()), Throws.InstanceOf<ContrastSetException>().With.Message.Contains("negative"));
        Assert.That(
            () => ControllerFit.Run(Tiny, new ContrastSet(some, ["Two.", tooLong])),
            Throws.InstanceOf<ContextLengthException>().With.Property("Context").EqualTo(512).And.Property("Prompt").EqualTo(2)
                .And.Message.StartsWith("Negative prompt 2 (\"long long long long long long long long …\"): "));
        Assert.That(
            () => ControllerFit.Run(Tiny, new ContrastSet(some, ["Two."]), new FitOptions { Calibration = [] }),
            Throws.InstanceOf<ContrastSetException>());
        Assert.That(
            () => ControllerFit.Run(Tiny, new ContrastSet(some, ["Two."]), new FitOptions { Calibration = ["Three.", "Four.", tooLong] }),
            Throws.InstanceOf<ContextLengthException>().With.Message.StartsWith("Calibration prompt 3 (\"long "));

        // Without a template an empty text has no token at all.
        var bare = TestModels.Load("qwen2-bf16");
        Assert.That(() => ControllerFit.Run(bare, new ContrastSet(some, [""])), Throws.InstanceOf<ContrastSetException>());

        // The same prompts on both sides differ in nothing.
        Assert.That(() => ControllerFit.Run(Tiny, new ContrastSet(some, some)), Throws.InstanceOf<ContrastSetException>());
        foreach (int order in new[] { 0, Tiny.Config.D + 1 })
        {
            Assert.That(() => ControllerFit.Run(Tiny, new ContrastSet(some, ["Two."]), new FitOptions { Order = order }),
                Throws.InstanceOf<TillerException>());
        }
    }

    private static IReadOnlyList<PromptState> States(LanguageModel model, ContrastSet contrast) =>
        TestModels.States(model, PromptEncoder.Of(model).Encode("Any", [.. contrast.Positive, .. contrast.Negative], default));

    private static void Free(IReadOnlyList<PromptState> states)
    {
        foreach (var state in states)
        {
            state.Dispose();
        }
    }
}
