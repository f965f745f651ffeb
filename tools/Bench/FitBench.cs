using System.Diagnostics;
using Tiller.Control;
using Tiller.Features;
using Tiller.Model;

namespace Tiller.Bench;

/// <summary>A whole fit of the demo model, the prompts' tokens included, and its stages.</summary>
internal static class FitBench
{
    /// <summary>Dense, then factored.</summary>
    public static IEnumerable<BenchRow> Run(BenchRequest request, Meter meter, CancellationToken cancellationToken)
    {
        if (request.Shape.Name != "demo")
        {
            throw new BenchException("A fit needs texts and a tokenizer, so it is measured on the demo model alone: --shape demo. For other shapes see jacobian, pullback and riccati.");
        }

        using var model = LanguageModel.Load(request.DemoFolder, new LoadOptions { Threads = request.ThreadCount }, cancellationToken);
        var contrast = ContrastSet.Read(File("positive"), File("negative"));
        contrast = new ContrastSet([.. contrast.Positive.Take(request.FitPrompts)], [.. contrast.Negative.Take(request.FitPrompts)]);
        var c = model.Config;
        var counts = new Counts(c, Checkpoint.TensorType.BF16);
        int prompts = contrast.Positive.Count + contrast.Negative.Count;
        double tokens = contrast.Positive.Concat(contrast.Negative).Sum(p => model.Tokenizer.Encode(p).Length);
        double activations = tokens * 2 * counts.BlockWeights * c.L;

        // Dense: D tangents a prompt and layer. Factored: one value, and p = 1..L cotangents as the recursion goes back.
        double push = 2 * counts.BlockWeights * prompts * c.L * c.D;
        double pull = 2 * counts.BlockWeights * prompts * (c.L + (c.L * (c.L + 1) / 2.0));
        foreach (var (name, cost, linearisation) in new[] { ("dense", FitCost.State, push), ("factored", FitCost.Feature, pull) })
        {
            foreach (var row in Measure(name, cost, linearisation))
            {
                yield return row;
            }
        }

        string File(string side) => Path.Combine(request.DemoFolder, "contrast", $"topic.{side}.txt");

        IEnumerable<BenchRow> Measure(string name, FitCost cost, double linearisation)
        {
            var options = new FitOptions { Cost = cost };
            ControllerFit.Run(model, contrast, options, cancellationToken: cancellationToken);
            var total = new List<double>();
            var stages = new Dictionary<string, List<double>>(StringComparer.Ordinal);
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
                RateUnit = "fits/s",
                Run = static () => { },
            };
            yield return meter.Row(work, total);
            foreach (var (stage, times) in stages)
            {
                yield return stage switch
                {
                    "activations" => meter.Row(work with { Name = $"fit {name}: {stage}", Flops = activations }, times),
                    "linearisation" => meter.Row(work with { Name = $"fit {name}: {stage}", Flops = linearisation }, times),
                    _ => meter.Row(work with { Name = $"fit {name}: {stage}", Flops = RiccatiFlops(c.D, c.L, cost), Precision = Precision.Double }, times),
                };
            }
        }
    }

    private static double RiccatiFlops(double d, int layers, FitCost cost) =>
        cost == FitCost.State ? layers * (6 + (1.0 / 3)) * d * d * d : 3 * d * Enumerable.Range(1, layers).Sum(p => (double)p * p);
}
