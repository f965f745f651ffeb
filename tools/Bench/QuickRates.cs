using System.Diagnostics;
using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Kernels;
using Tiller.Model;
using Tiller.Synthesis;

namespace Tiller.Bench;

/// <summary>The speed of a fit on this machine, measured in well under a second on one small block with a shape's proportions.</summary>
/// <param name="Single">FLOP/s of a Jacobian in float32.</param>
/// <param name="Double">FLOP/s of a product in float64.</param>
/// <param name="Device">Name of the measured device.</param>
/// <param name="Callers">Number of passes that the device runs at once.</param>
/// <param name="JacobianRows">Number of rows that the device pushes through a block at once.</param>
/// <param name="FreeInBytes">Free memory of the device in bytes.</param>
internal sealed record QuickRates(double Single, double Double, string Device, int Callers, int JacobianRows, long FreeInBytes)
{
    private const int Width = 512;
    private const int Runs = 3;
    private const int PromptTokens = 16;

    private static long HostMemory()
    {
        using var cpu = new CpuMachine(1);
        return cpu.AvailableInBytes();
    }

    /// <summary>Measures both rates.</summary>
    /// <param name="c">The shape that gives the block's proportions.</param>
    /// <param name="type">Stored type of the weights.</param>
    /// <param name="options">Device and threads.</param>
    /// <param name="cancellationToken">Checked between runs.</param>
    public static QuickRates Measure(ModelConfig c, TensorType type, LoadOptions options, CancellationToken cancellationToken)
    {
        int d = Math.Min(c.D, Width);
        var small = c with
        {
            L = 1,
            D = d,
            H = Math.Max(1, c.H * d / c.D / c.G) * c.G,
            F = Math.Max(1, (int)((long)c.F * d / c.D)),
            V = 64,
            MaxPositions = 2 * PromptTokens,
            Windows = [0],
        };
        using var model = LanguageModel.WithRandomWeights(small, type, options);
        var prompts = PromptState.Collect(model, [RandomParts.Tokens(small.V, PromptTokens, seed: 1)], keepCaches: true, done: null,
            cancellationToken);
        using var prompt = prompts[0];
        using var linearization = new Linearization(model, prompts);
        using var memory = model.Ops.Allocate(d, 3 * d, out var all);
        ColumnMajor a = all.Slice(0, d), b = all.Slice(d, d), product = all.Slice(2 * d, d);
        double[] first = new double[1];
        double single = Fastest(() => linearization.Jacobian(0, a, cancellationToken));
        model.Ops.Copy(a, b);
        double both = Fastest(() => model.Ops.Multiply(1, a, b, 0, product));
        long free = model.Ops.FreeInBytes ?? HostMemory();
        return new QuickRates(
            2 * FitPlan.JacobianWeights(small) * d / single, 2.0 * d * d * d / both, model.DeviceDescription, model.Ops.Callers,
            model.Ops.JacobianRows, free);

        double Fastest(Action run)
        {
            double best = double.PositiveInfinity;
            for (int i = 0; i <= Runs; i++)
            {
                cancellationToken.ThrowIfCancellationRequested();
                long begin = Stopwatch.GetTimestamp();
                run();
                model.Ops.Download(new ColumnMajor(memory.Address, 1, 1), first); // waits for a device
                best = Math.Min(best, Stopwatch.GetElapsedTime(begin).TotalSeconds);
            }

            return best;
        }
    }
}
