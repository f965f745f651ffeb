using MathNet.Numerics.LinearAlgebra;
using MathNet.Numerics.LinearAlgebra.Factorization;
using Tiller.Checkpoint;
using Tiller.Features;
using Tiller.Kernels;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Synthesis;

namespace Tiller.Bench;

/// <summary>Measures Jacobians, pullbacks and Riccati recursions.</summary>
internal static class ControlBench
{
    private const int Cotangents = 32;
    private const int Order = 16;
    private const int SweptWeights = 16;

    /// <summary>All Jacobians of one prompt, layer by layer.</summary>
    public static IEnumerable<BenchRow> Jacobian(BenchRequest request, Meter meter, CancellationToken cancellationToken)
    {
        var c = request.Shape.Config;
        var counts = request.Counts;
        using var model = RandomParts.Model(request, meter.Machine, Scratch(request, meter.Machine) + (16.0 * c.D * c.D));
        using var prompt = Prompt(request, model, cancellationToken);
        using var linearization = new Linearization(model, [prompt]);
        int[] blocks = [.. Enumerable.Range(0, c.L)];
        using var memory = model.Ops.Allocate(c.D, c.D, out var a);

        // A Jacobian pushes D tangents through the block, with 2 FLOPs each per weight after queries, keys and values.
        double flops = 2 * counts.JacobianWeights * c.D;
        int k = 0;
        var layer = new Work
        {
            Name = "jacobian, one layer",
            Bytes = counts.BlockBytes + (8.0 * c.D * c.D),
            Flops = flops,
            WorkingSet = c.L * counts.BlockBytes,
            Rows = Math.Min(c.D, model.Ops.JacobianRows),
            Tangents = Math.Min(c.D, model.Ops.JacobianRows),
            RateUnit = "layers/s",
            Run = () => linearization.Jacobian(k++ % c.L, a, cancellationToken),
        };
        if (request.Variants)
        {
            foreach (var row in meter.Measure(Variants.Of(model, layer, VariantWork.Jacobians)))
            {
                yield return row;
            }

            yield break;
        }

        yield return meter.Measure(layer);
        yield return meter.Measure(
            layer with
            {
                Name = $"jacobian, all {c.L} layers",
                Bytes = c.L * layer.Bytes,
                Flops = c.L * flops,
                RateUnit = "prompts/s",
                Run = () =>
                {
                    foreach (var _ in linearization.JacobiansOnDevice(blocks, cancellationToken))
                    {
                    }
                },
            },
            warmUp: false);
    }

    /// <summary>Cotangents of one prompt through one block at a time.</summary>
    public static IEnumerable<BenchRow> Pullback(BenchRequest request, Meter meter, CancellationToken cancellationToken)
    {
        var c = request.Shape.Config;
        var counts = request.Counts;
        using var model = RandomParts.Model(request, meter.Machine, Scratch(request, meter.Machine));
        using var prompt = Prompt(request, model, cancellationToken);
        using var linearization = new Linearization(model, [prompt]);
        var z = RandomMatrix(c.D, Cotangents, seed: 6);
        int k = 0;
        yield return meter.Measure(new Work
        {
            Name = $"pullback, {Cotangents} cotangents, one layer",

            // The value goes forwards, then the cotangents backwards, so the block's weights are read twice.
            Bytes = 2 * counts.BlockBytes,
            Flops = 2 * counts.BlockWeights * (1 + Cotangents),
            WorkingSet = c.L * counts.BlockBytes,
            Rows = Cotangents,
            Tangents = Cotangents,
            RateUnit = "layers/s",
            Run = () => linearization.Pull(k++ % c.L, z, cancellationToken),
        });
        var fits = Grid(c, linearization, counts, meter, cancellationToken);
        foreach (var row in fits.Concat(PromptFitBench.Run(request, model, meter, cancellationToken)))
        {
            yield return row;
        }
    }

    // One choice of weights, and a grid of them in one backward sweep: both pull back through the model.
    private static IReadOnlyList<BenchRow> Grid(
        ModelConfig c, Linearization linearization, Counts counts, Meter meter, CancellationToken cancellationToken)
    {
        var directions = Enumerable.Range(0, c.L + 1).Select(k => RandomMatrix(c.D, 1, seed: 20 + k)).ToArray();
        var factored = new FactoredCost(directions, r: 1);
        double[] three = [0.1, 0.3, 1];
        LqrWeights[] grid = [.. from q in three from r in three from qf in three select new LqrWeights(q, r, qf)];
        Matrix<double> Pull(int k, Matrix<double> z) => linearization.Pull(k, z, cancellationToken);
        var one = new Work
        {
            Name = "gains of a prompt, one (q, r, qf)",
            Bytes = 2 * c.L * counts.BlockBytes,
            Flops = 2 * counts.BlockWeights * (c.L + (c.L * (c.L + 1) / 2.0)),
            WorkingSet = c.L * counts.BlockBytes,
            Rows = (c.L + 1) / 2.0,
            Tangents = (c.L + 1) / 2.0,
            RateUnit = "1/s",
            Run = () => FactoredRiccati.Solve(c.L, Pull, factored, cancellationToken: cancellationToken),
        };
        return meter.Measure(
        [
            one,
            one with
            {
                Name = $"gains of a prompt, {grid.Length} (q, r, qf) in one sweep",
                Comparison = Comparison.Time,
                Run = () => WeightSweep.Solve(c.L, Pull, directions, grid, cancellationToken: cancellationToken),
            },
        ]);
    }

    /// <summary>The recursion alone, on matrices of the shape's width.</summary>
    public static IEnumerable<BenchRow> Riccati(BenchRequest request, Meter meter, CancellationToken cancellationToken)
    {
        var c = request.Shape.Config;
        double d = c.D;
        meter.Machine.Require((3 * 8 * d * d) + DenseRiccati.SizeInBytes(c.D));

        // A = I + N/10: a residual block.
        using var ops = Devices.Open(request.Device, request.ThreadCount);
        using var memory = ops.Allocate(c.D, c.D, out var a);
        ops.Upload((Matrix<double>.Build.DenseIdentity(c.D) + (0.1 * RandomMatrix(c.D, c.D, seed: 7))).ToColumnMajorArray(), a);
        var cost = new IsotropicCost(new LqrWeights(0.1, 1, 1));
        yield return meter.Measure(new Work
        {
            Name = $"riccati dense, one layer, D {c.D}",

            // S A: 2; Cholesky: 1/3; two triangular solves: 2; A'K: 2.
            Flops = (6 + (1.0 / 3)) * d * d * d,
            Bytes = 5 * 8 * d * d,
            WorkingSet = 5 * 8 * d * d,
            Precision = Precision.Double,
            RateUnit = "layers/s",
            Run = () => DenseRiccati.Solve(ops, 1, c.D, _ => a, cost, static (_, _) => { }, cancellationToken),
        });

        var reduced = Enumerable.Range(0, c.L + 1).Select(k => RandomMatrix(c.D, Math.Min(Order, c.D), seed: 40 + k).QR(QRMethod.Thin).Q).ToArray();
        yield return meter.Measure(new Work
        {
            Name = $"riccati reduced, all {c.L} layers, D {c.D}, order {reduced[0].ColumnCount}",

            // W'(A W) and W'QW: 2 D p² each; W K̃: 2 D p².
            Flops = 6 * d * reduced[0].ColumnCount * reduced[0].ColumnCount * c.L,
            Bytes = 8 * d * reduced[0].ColumnCount * (c.L + 1),
            WorkingSet = 8 * d * reduced[0].ColumnCount * (c.L + 1),
            Precision = Precision.Double,
            RateUnit = "1/s",
            Run = () => ReducedRiccati.Solve(reduced, static (_, w) => w * 0.9, cost, cancellationToken),
        });

        var directions = Enumerable.Range(0, c.L + 1).Select(k => RandomMatrix(c.D, 1, seed: 20 + k)).ToArray();
        var factored = new FactoredCost(directions, r: 1);
        double squares = Enumerable.Range(1, c.L).Sum(p => (double)p * p);
        var alone = new Work
        {
            Name = $"riccati factored, all {c.L} layers, D {c.D}",

            // Z'Z: 2 D p²; W L^-T: D p²; p = 1..L.
            Flops = 3 * d * squares,
            Bytes = 8 * d * c.L * (c.L + 1),
            WorkingSet = 8 * d * c.L,
            Precision = Precision.Double,
            RateUnit = "1/s",
            Run = () => FactoredRiccati.Solve(c.L, static (_, z) => z * 0.9, factored, cancellationToken: cancellationToken),
        };
        LqrWeights[] weights = [.. Enumerable.Range(0, SweptWeights).Select(i => new LqrWeights(q: 0.01 * (1 + i), r: 1, qf: 1))];
        foreach (var row in meter.Measure(
        [
            alone,
            alone with
            {
                Name = $"riccati factored, {weights.Length} weights in one sweep",

                // Q R: 4 D p²; of each of the weights T'T, T G^{-1} T', T L^{-T} and R T: 8 p³.
                Flops = (4 * d * squares) + (weights.Length * 8 * Enumerable.Range(1, c.L).Sum(p => Math.Pow(p, 3))),
                Comparison = Comparison.Time,
                Run = () => WeightSweep.Solve(c.L, static (_, z) => z * 0.9, directions, weights, cancellationToken: cancellationToken),
            },
        ]))
        {
            yield return row;
        }
    }

    private static double Scratch(BenchRequest request, Machine machine)
    {
        var c = request.Shape.Config;
        return (2.0 * machine.JacobianRows * Activations.RowSizeInBytes(c)) + request.Counts.CacheBytes(request.ContextLength);
    }

    private static PromptState Prompt(BenchRequest request, Model.LanguageModel model, CancellationToken cancellationToken)
    {
        if (request.ContextLength > model.Config.MaxPositions)
        {
            throw new BenchException(
                $"A prompt of {request.ContextLength} tokens is longer than the {model.Config.MaxPositions} positions of this shape. "
                + "Use a shorter --context.");
        }

        return PromptState.Collect(
            model, [RandomParts.Tokens(model.Config.V, request.ContextLength, seed: 9)], keepCaches: true, done: null, cancellationToken)[0];
    }

    // Entries of variance 1/rows.
    private static Matrix<double> RandomMatrix(int rows, int columns, int seed)
    {
        var random = new Random(seed);
        double scale = Math.Sqrt(3.0 / rows);
        return Matrix<double>.Build.Dense(rows, columns, (_, _) => scale * ((2 * random.NextDouble()) - 1));
    }
}
