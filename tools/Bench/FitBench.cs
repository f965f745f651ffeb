using System.Diagnostics;
using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Tokens;

namespace Tiller.Bench;

/// <summary>Measures a whole fit of the demo model, including tokenization of the prompts, and its stages.</summary>
internal static class FitBench
{
    // The order p of the reduced fit.
    private const int Order = 16;

    // Maximum number of tokens in the demo's contrast texts.
    private const int Longest = 64;

    /// <summary>Dense, factored, reduced.</summary>
    public static IEnumerable<BenchRow> Run(BenchRequest request, Meter meter, CancellationToken cancellationToken)
    {
        using var model = Model(request, meter.Machine, cancellationToken);
        var contrast = Contrast(request);
        var c = model.Config;
        var counts = new Counts(c, request.Shape.Name == "demo" ? TensorType.BF16 : request.Type);
        int prompts = contrast.Positive.Count + contrast.Negative.Count;
        var encoder = PromptEncoder.Of(model);
        double tokens = encoder.Encode("Contrast", [.. contrast.Positive, .. contrast.Negative], cancellationToken).Sum(ids => ids.Length);
        double activations = tokens * 2 * counts.BlockWeights * c.L;

        // A dense fit needs D tangents per prompt and layer, which are unit vectors, and a reduced one as many as its order. A factored fit needs one
        // value, and p = 1..L cotangents as the recursion goes back.
        double formed = 2 * counts.JacobianWeights * prompts * c.L * c.D;
        double pull = 2 * counts.BlockWeights * prompts * (c.L + (c.L * (c.L + 1) / 2.0));
        int order = Math.Min(Order, c.D);
        double push = 2 * counts.BlockWeights * prompts * c.L * order;
        (string Name, FitOptions Options, double Linearisation, double Riccati)[] all =
        [
            ("dense", new FitOptions(), formed, c.L * (6 + (1.0 / 3)) * c.D * c.D * c.D),
            ("factored", new FitOptions { Cost = FitCost.Feature }, pull, 3.0 * c.D * Enumerable.Range(1, c.L).Sum(p => (double)p * p)),
            ($"reduced to {order}", new FitOptions { Order = order }, push, 6.0 * c.D * order * order * c.L),
        ];
        foreach (var (name, options, linearisation, riccati) in all.Where(fit =>
            request.Fits?.Contains(fit.Name.Split(' ')[0], StringComparer.Ordinal) ?? true))
        {
            foreach (var row in Measure(name, options, linearisation, riccati))
            {
                yield return row;
            }
        }

        IEnumerable<BenchRow> Measure(string name, FitOptions options, double linearisation, double riccati)
        {
            ControllerFit.Run(model, contrast, options, cancellationToken: cancellationToken);
            var total = new List<double>();
            var stages = new Dictionary<FitStage, List<double>>();
            var clock = Stopwatch.StartNew();
            while (total.Count < Meter.MinSamples || clock.Elapsed.TotalSeconds < request.Seconds)
            {
                long begin = Stopwatch.GetTimestamp();
                var fit = ControllerFit.Run(model, contrast, options, cancellationToken: cancellationToken);
                total.Add(Stopwatch.GetElapsedTime(begin).TotalSeconds);
                foreach (var stage in fit.Stages)
                {
                    if (!stages.TryGetValue(stage.Stage, out var times))
                    {
                        stages.Add(stage.Stage, times = []);
                    }

                    times.Add(stage.ElapsedMs / 1000);
                }
            }

            var work = new Work
            {
                Name = $"fit {name}, {prompts} prompts",
                Bytes = c.L * counts.BlockBytes,
                Flops = activations + linearisation,
                WorkingSet = c.L * counts.BlockBytes,
                Rows = model.Ops.JacobianRows,
                Tangents = model.Ops.JacobianRows * linearisation / (activations + linearisation),
                RateUnit = "fits/s",
                Run = static () => { },
            };
            yield return meter.Row(work, total);
            foreach (var (stage, times) in stages)
            {
                string row = $"fit {name}: {stage.ToString().ToLowerInvariant()}";
                yield return stage switch
                {
                    FitStage.Activations => meter.Row(work with { Name = row, Flops = activations, Tangents = 0 }, times),
                    FitStage.Linearisation => meter.Row(work with { Name = row, Flops = linearisation, Tangents = model.Ops.JacobianRows }, times),
                    _ => meter.Row(work with { Name = row, Flops = riccati, Precision = Precision.Double }, times),
                };
            }
        }
    }

    // The demo model, or random weights with the demo's tokenizer.
    private static LanguageModel Model(BenchRequest request, Machine machine, CancellationToken cancellationToken)
    {
        if (request.Shape.Name == "demo")
        {
            return LanguageModel.Load(request.DemoFolder, request.LoadOptions, cancellationToken);
        }

        CheckTexts(request);
        return RandomParts.Model(request, machine, SizeInBytes(request, machine), Tokenizer.Load(request.DemoFolder, cancellationToken));
    }

    /// <summary>Refuses a shape that cannot run the demo's texts.</summary>
    /// <exception cref="BenchException">The shape has too short a context or too small a vocabulary.</exception>
    internal static void CheckTexts(BenchRequest request)
    {
        var c = request.Shape.Config;
        int vocabulary = ModelConfigReader.Read(request.DemoFolder).V;
        if (c.V < vocabulary || c.MaxPositions < Longest)
        {
            throw new BenchException(
                $"A fit uses the demo model's texts, of up to {Longest} tokens and {vocabulary} ids; this shape has {c.MaxPositions} positions "
                + $"and {c.V} ids. "
                + "Use a larger shape, or --shape demo.");
        }
    }

    /// <summary>Memory in bytes that a fit needs on a machine in addition to the weights.</summary>
    internal static double SizeInBytes(BenchRequest request, Machine machine)
    {
        var c = request.Shape.Config;
        double states = 2.0 * request.FitPrompts * (request.Counts.CacheBytes(Longest) + (4.0 * (c.L + 1) * c.D));
        double scratch = (2.0 * machine.JacobianRows * Activations.RowSizeInBytes(c)) + (5 * 8.0 * c.D * c.D);
        return states + scratch;
    }

    /// <summary>The demo's texts for a fit.</summary>
    internal static ContrastSet Contrast(BenchRequest request)
    {
        var all = ContrastSet.Read(File("positive"), File("negative"));
        return new ContrastSet([.. all.Positive.Take(request.FitPrompts)], [.. all.Negative.Take(request.FitPrompts)]);

        string File(string side) => Path.Combine(request.DemoFolder, "contrast", $"topic.{side}.txt");
    }
}
