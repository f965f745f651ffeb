using Tiller.Bench;
using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Cuda;
using Tiller.Law;
using Tiller.Ops;
using Tiller.Synthesis;
using Tiller.Tests.Model;
using Tiller.Tests.Synthesis;

namespace Tiller.Tests.Controllers;

/// <summary>Memory and FLOPs of a fit, told beforehand: against hand counts of named shapes and against what a linearisation takes.</summary>
public sealed class FitPlanTests
{
    private static readonly int[] s_prompts = [.. Enumerable.Repeat(32, 100)];

    [Test]
    public void The_8B_shape_fits_into_24_GiB_because_layers_are_streamed()
    {
        var c = BenchShape.Parse("llama-3-8b").Config;
        long weights = (long)new Counts(c, TensorType.BF16).AllBytes;
        var plan = FitPlan.Of(c, weights, s_prompts, calibration: null);
        var parts = plan.Memory.ToDictionary(m => m.Name, m => m.SizeInBytes, StringComparer.Ordinal);

        // One row a block: X, R, Y, Normed // D; Qkv // (H + 2G) E; Heads // H E; GateUp, Gated // 3F; Rotation // E.
        const long Row = 4 * ((4 * 4096) + ((32 + 16) * 128) + (32 * 128) + (3 * 14336) + 128);
        using (Assert.EnterMultipleScope())
        {
            // Two tables of V×D and 32 blocks in bf16; norms in float32.
            Assert.That(parts["weights"], Is.EqualTo((2L * ((2 * 128256 * 4096L) + (32 * 218_103_808L))) + (4 * 65 * 4096)));
            Assert.That(parts["caches"], Is.EqualTo(100 * 32 * 2 * 4L * 32 * 8 * 128));
            Assert.That(parts["states"], Is.EqualTo(100 * 33 * 4096 * 4L));
            Assert.That(parts["activations"] + parts["panels"], Is.EqualTo(465 * Row)); // panels of 464 directions, and a prompt's own row
            Assert.That(parts["riccati"], Is.EqualTo((4 * 4096L * 4096 * 8) + (9 * 4 * 4096 * 8)));
            Assert.That(parts["sums"], Is.EqualTo(3L * 464 * 4096 * 8)); // of 14 blocks at most four sums at once, of which the result is one
            Assert.That(parts["scratch"], Is.EqualTo(4L * 465 * 14336));
            Assert.That(plan.PeakInBytes, Is.EqualTo(parts.Values.Sum()).And.LessThan(24L << 30));
            Assert.That(plan.AllJacobiansInBytes, Is.EqualTo(32 * 4096L * 4096 * 8));
        }

        // On CUDA two panels of 2048 directions.
        var wide = FitPlan.Of(c, weights, s_prompts, calibration: null, jacobianRows: CudaOps.MaxJacobianRows).Memory.ToDictionary(
            m => m.Name, m => m.SizeInBytes, StringComparer.Ordinal);
        var passes = PassPlan.Of(c, c.D, callers: 1, CudaOps.MaxJacobianRows);
        Assert.That((passes.Panel(0), passes.Panel(1), passes.Panels, passes.Prompts), Is.EqualTo(((0, 2048), (2048, 2048), 2, 1)));
        Assert.That(wide["activations"] + wide["panels"], Is.EqualTo(2049 * Row));
        Assert.That(wide["scratch"], Is.EqualTo(4L * 2049 * 14336));

        // Twice the layers: twice the caches and states, but the same matrices.
        var deeper = FitPlan.Of(c with { L = 64 }, weights, s_prompts, calibration: null).Memory.ToDictionary(m => m.Name, m => m.SizeInBytes,
            StringComparer.Ordinal);
        Assert.That((deeper["riccati"], deeper["panels"], deeper["caches"]), Is.EqualTo((parts["riccati"], parts["panels"], 2 * parts["caches"])));
    }

    [Test]
    public void Flops_of_the_demo_shape_by_stage()
    {
        var c = BenchShape.Parse("demo").Config;
        const double Formed = 2 * ((4.0 * 32 * 128) + (3 * 352 * 128)), Block = Formed + (2 * (8 * 32 * 128)), Prompts = 100, L = 10, D = 128;
        var dense = FitPlan.Of(c, 0, s_prompts, calibration: null).Stages;
        var factored = FitPlan.Of(c, 0, s_prompts, calibration: null, new FitOptions { Cost = FitCost.Feature }).Stages;
        var reduced = FitPlan.Of(c, 0, s_prompts, calibration: null, new FitOptions { Order = 16 }).Stages;
        using (Assert.EnterMultipleScope())
        {
            Assert.That(dense.Select(s => s.Stage), Is.EqualTo(new[] { FitStage.Activations, FitStage.Linearisation, FitStage.Riccati }));
            Assert.That(dense[0].SingleFlops, Is.EqualTo(Prompts * L * ((32 * Block) + (4 * 4 * 32 * 32 * 33 / 2.0))).Within(1));

            // D tangents, which take no product for queries, keys and values, and the value row; one tangent and the value row at the end where A
            // is not formed.
            Assert.That(dense[1].SingleFlops, Is.EqualTo(Prompts * L * ((Formed * D) + Block)).Within(1));
            Assert.That(factored[1].SingleFlops, Is.EqualTo(Prompts * Block * ((L * (L + 1) / 2) + L + (2 * L))).Within(1));
            Assert.That(reduced[1].SingleFlops, Is.EqualTo(Prompts * L * Block * (16 + 1 + 2)).Within(1));
            Assert.That(dense[2].DoubleFlops, Is.EqualTo(L * ((19.0 / 3 * D * D * D) + (64 * D * D))).Within(1));
            Assert.That(factored[2].DoubleFlops, Is.Positive.And.LessThan(dense[2].DoubleFlops / 10));
            Assert.That(FitPlan.Seconds(new PlannedStage(FitStage.Riccati, 6, 8), singleRate: 3, doubleRate: 2), Is.EqualTo(6));
        }
    }

    [Test]
    public void A_calibration_of_its_own_and_a_horizon_count()
    {
        var c = BenchShape.Parse("demo").Config;
        var options = new FitOptions { Layers = new LayerSet(2, 5) };
        var plan = FitPlan.Of(c, 0, s_prompts, [40, 8], options);
        var parts = plan.Memory.ToDictionary(m => m.Name, m => m.SizeInBytes, StringComparer.Ordinal);
        long token = 8L * c.L * c.G * c.E;
        Assert.That(parts["caches"], Is.EqualTo(token * (40 + 16 + 32 + 32)));
        Assert.That(plan.AllJacobiansInBytes, Is.EqualTo(4L * 128 * 128 * 8));
        Assert.That(
            plan.Stages[1].SingleFlops,
            Is.EqualTo(2 * 2 * ((FitPlan.JacobianWeights(c) * 4 * 128) + (FitPlan.BlockWeights(c) * (4 + (6 * 2))))).Within(1));
    }

    [Test]
    public void Blocks_between_the_steered_ones_are_linearised_and_cost_less_to_solve()
    {
        var c = BenchShape.Parse("demo").Config;
        FitPlan Of(LayerSet layers) => FitPlan.Of(c, 0, s_prompts, null, new FitOptions { Layers = layers });
        var (gap, all) = (Of(new LayerSet(new LayerRange(2, 3), new LayerRange(5, 5))), Of(new LayerSet(2, 5)));
        Assert.That(gap.Memory, Is.EqualTo(all.Memory));
        Assert.That(gap.AllJacobiansInBytes, Is.EqualTo(all.AllJacobiansInBytes));
        Assert.That(gap.Stages[1], Is.EqualTo(all.Stages[1]));
        const double d = 128;
        Assert.That(all.Stages[2].DoubleFlops - gap.Stages[2].DoubleFlops, Is.EqualTo((7.0 / 3 * d * d * d) + (32 * d * d)).Within(1));
    }

    [Test]
    public void Jacobians_that_are_formed_together_take_memory_and_fewer_rows_of_prompts()
    {
        var c = BenchShape.Parse("demo").Config;
        FitPlan Of(int callers, FitOptions options) => FitPlan.Of(c, 0, s_prompts, null, options, callers);
        Assert.That(Of(1, new FitOptions()).Memory.Select(m => m.Name), Has.None.EqualTo("jacobians"));
        Assert.That(Part(Of(4, new FitOptions()), "jacobians"), Is.EqualTo(3 * 8 * 128 * 128), "the solver counts one of the four");
        Assert.That(Of(4, new FitOptions()).Stages[1], Is.EqualTo(Of(1, new FitOptions()).Stages[1]), "one pass for all directions of a prompt");

        // A horizon of one block is divided among panels.
        var one = new FitOptions { Layers = new LayerSet(2, 2) };
        Assert.That(Of(4, one).Memory.Select(m => m.Name), Has.None.EqualTo("jacobians"));
        Assert.That(Of(4, one).Stages[1].SingleFlops - Of(1, one).Stages[1].SingleFlops, Is.EqualTo(3 * 100 * 2 * FitPlan.BlockWeights(c)).Within(1));
    }

    [Test]
    public void Several_weights_share_what_a_fit_shares()
    {
        var c = BenchShape.Parse("demo").Config;
        FitPlan Of(int weights, FitOptions options) => FitPlan.Of(c, 0, s_prompts, null, options, weights: weights);
        var (factored, sweep) = (Of(1, new FitOptions { Cost = FitCost.Feature }), Of(27, new FitOptions { Cost = FitCost.Feature }));
        Assert.That(sweep.Stages.Take(2), Is.EqualTo(factored.Stages.Take(2)), "one way back for all");
        Assert.That(Part(sweep, "gains") - Part(factored, "gains"), Is.EqualTo(27 * 8 * Enumerable.Range(1, 10).Sum(p => (long)p * p)));
        Assert.That(sweep.Stages[2].DoubleFlops, Is.InRange(2 * factored.Stages[2].DoubleFlops, 40 * factored.Stages[2].DoubleFlops));

        // The dense form linearises for each of them, unless a file or the method keeps the Jacobians.
        var (dense, three) = (Of(1, new FitOptions()), Of(3, new FitOptions()));
        Assert.That(three.Stages[1].SingleFlops, Is.EqualTo(3 * dense.Stages[1].SingleFlops).Within(1));
        Assert.That(three.Stages[2].DoubleFlops, Is.EqualTo(3 * dense.Stages[2].DoubleFlops).Within(1));
        Assert.That(three.PeakInBytes, Is.EqualTo(dense.PeakInBytes));
        Assert.That(Of(3, new FitOptions { Jacobians = "a" }).Stages[1], Is.EqualTo(Of(1, new FitOptions { Jacobians = "a" }).Stages[1]));
        var robust = new FitOptions { Method = new HInfinityFit() };
        Assert.That(Of(3, robust).Stages[1], Is.EqualTo(Of(1, robust).Stages[1]));
    }

    [Test]
    public void The_curves_of_mpc_are_counted()
    {
        var c = BenchShape.Parse("smollm2-135m").Config;
        FitPlan Of(FitMethod method) => FitPlan.Of(c, 0, s_prompts, null, new FitOptions { Method = method });
        var (lqr, curves) = (Of(FitMethod.Lqr), Of(new PredictiveFit()));
        Assert.That(curves.Stages.Take(2), Is.EqualTo(lqr.Stages.Take(2)));

        // They took 231 s where products ran at 77 GFLOP/s.
        Assert.That(curves.Stages[2].DoubleFlops / 77e9, Is.InRange(120, 600));
        Assert.That(Part(curves, "riccati") - Part(lqr, "riccati"), Is.InRange(9 * 4 * 30 * 576L * 576, 20 * 4 * 30 * 576L * 576));
    }

    [Test]
    public void A_certificate_and_methods_that_read_every_token_take_what_they_take()
    {
        var c = BenchShape.Parse("demo").Config;
        const double Formed = 2 * ((4.0 * 32 * 128) + (3 * 352 * 128)), Block = Formed + (2 * (8 * 32 * 128)), Prompts = 100, L = 10, D = 128;
        const long Square = 8 * 128 * 128 * 10;
        FitPlan Of(FitOptions options) => FitPlan.Of(c, 0, s_prompts, null, options);
        FitOptions certified = new() { HeldOut = ["a"] }, feature = certified with { Cost = FitCost.Feature };
        var robust = certified with { Method = new HInfinityFit() };
        using (Assert.EnterMultipleScope())
        {
            // A, A − K, P and its factor; of a dense gain K and the law's float32 numbers too; of H∞ A and K are kept in any case.
            Assert.That(Part(Of(certified), "certificate"), Is.EqualTo((5 * Square) + (Square * 12 / 8)));
            Assert.That(Part(Of(feature), "certificate"), Is.EqualTo(4 * Square));
            Assert.That(Part(Of(robust), "certificate"), Is.EqualTo((3 * Square) + (Square * 12 / 8)));
            Assert.That(Part(Of(robust), "gains"), Is.EqualTo(2 * Square));

            // The Jacobians of a certificate are formed whatever the cost, but not twice.
            double extra = Prompts * L * ((Formed * D) + Block);
            Assert.That(Of(feature).Stages[1].SingleFlops - Of(feature with { HeldOut = null }).Stages[1].SingleFlops, Is.EqualTo(extra).Within(1));
            Assert.That(Of(robust).Stages[1], Is.EqualTo(Of(robust with { HeldOut = null }).Stages[1]));
            Assert.That(Part(Of(feature), "panels"), Is.GreaterThan(Part(Of(feature with { HeldOut = null }), "panels")), "D tangents a block");

            // Every token's state and all keys and values at once, and a second way through the blocks.
            var (mean, transport) = (Of(new FitOptions { Method = new OdeSteeringFit() }), Of(new FitOptions { Method = new TransportFit() }));
            Assert.That(Part(transport, "tokens"), Is.EqualTo(100 * 32 * ((4 * 128) + (8L * 10 * 2 * 32))));
            Assert.That(transport.Stages[0].SingleFlops, Is.EqualTo(2 * mean.Stages[0].SingleFlops).Within(1));
            Assert.That(Part(Of(new FitOptions { Jacobians = "a" }), "kept"), Is.EqualTo(16 * 128 * 128), "on the device and on the host");
        }
    }

    private static long Part(FitPlan plan, string name) => plan.Memory.Single(m => m.Name == name).SizeInBytes;

    [TestCase("llama3-bf16", FitCost.State, null)]
    [TestCase("gemma2-bf16", FitCost.State, null)]
    [TestCase("qwen2-bf16", FitCost.State, 3)]
    [TestCase("gemma2-bf16", FitCost.Feature, null)]
    public void The_rows_planned_are_the_rows_taken(string family, FitCost cost, int? order)
    {
        var model = TestModels.Load(family);
        var c = model.Config;
        int[][] ids = [.. Enumerable.Range(0, 40).Select(i => new[] { 3 + i, 5, 7 })];
        var states = TestModels.States(model, ids);
        using var linear = new Linearization(model, states);
        var random = new Random(1);
        if (order is null && cost == FitCost.State)
        {
            Assert.That(linear.Jacobians([.. Enumerable.Range(0, c.L)], CancellationToken.None).Count(), Is.EqualTo(c.L));
        }
        else if (order is { } p)
        {
            linear.Push(0, Problem.Gaussian(random, c.D, p), CancellationToken.None);
        }
        else
        {
            linear.Pull(0, Problem.Gaussian(random, c.D, c.L), CancellationToken.None);
        }

        linear.Push(0, Problem.Gaussian(random, c.D, 1), CancellationToken.None);
        var plan = FitPlan.Of(c, 0, [.. ids.Select(i => i.Length)], calibration: null, new FitOptions
        {
            Cost = cost,
            Order = order,
        }, model.Ops.Callers, model.Ops.JacobianRows);
        var parts = plan.Memory.ToDictionary(m => m.Name, m => m.SizeInBytes, StringComparer.Ordinal);
        long rows = linear.Capacity * Activations.RowSizeInBytes(c);
        int columns = order ?? c.L;
        long staged = order is null && cost == FitCost.State ? 0 : c.D * ((4L * 40) + (8L * columns));
        Assert.That(parts["activations"] + parts["panels"], Is.EqualTo(rows + staged));
        foreach (var state in states)
        {
            state.Dispose();
        }
    }
}
