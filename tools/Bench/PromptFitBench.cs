using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Model;
using Tiller.Online;

namespace Tiller.Bench;

/// <summary>Measures gains that are fitted to the text at hand: how much they delay its first token, and every token if each has its own.</summary>
internal static class PromptFitBench
{
    // The order p of the gains from tangents.
    private const int Order = 16;

    /// <summary>A prompt without its gains and with them; tokens without gains of their own and with them.</summary>
    public static IEnumerable<BenchRow> Run(BenchRequest request, LanguageModel model, Meter meter, CancellationToken cancellationToken)
    {
        var counts = new Counts(model.Config, request.Type);
        var controller = Controller(model);
        foreach (var row in meter.Measure(ToFirstToken(request, model, controller, counts, cancellationToken)))
        {
            yield return row;
        }

        using var owned = new Owned();
        foreach (var row in meter.Measure(TokenByToken(request, model, controller, counts, owned, cancellationToken)))
        {
            yield return row;
        }
    }

    private static IReadOnlyList<Work> ToFirstToken(
        BenchRequest request, LanguageModel model, Controller controller, Counts counts, CancellationToken cancellationToken)
    {
        var c = model.Config;
        int[] ids = RandomParts.Tokens(c.V, Math.Min(Math.Max(2, request.ContextLength), c.MaxPositions), seed: 8);
        var fit = new PromptFit(controller, lambda: 1);
        var prefill = new Work
        {
            Name = $"prefill of {ids.Length - 1} tokens",
            Bytes = c.L * counts.BlockBytes,
            Flops = 2.0 * c.L * counts.BlockWeights * (ids.Length - 1),
            WorkingSet = c.L * counts.BlockBytes,
            Rows = ids.Length - 1,
            RateUnit = "prompts/s",
            Run = () =>
            {
                using var session = new Session(model);
                session.Append(ids.AsSpan(..^1), cancellationToken);
            },
        };
        return
        [
            prefill,
            prefill with
            {
                Name = $"prefill of {ids.Length - 1} tokens and the gains of the text",

                // The last token forwards, then each block's 1 to L cotangents backwards.
                Bytes = 3 * c.L * counts.BlockBytes,
                Flops = prefill.Flops + (2.0 * counts.BlockWeights * (c.L + (c.L * (c.L + 1) / 2.0))),
                Comparison = Comparison.Time,
                Run = () =>
                {
                    using var session = new Session(model);
                    session.Append(ids.AsSpan(..^1), cancellationToken);
                    fit.Fit(session, ids[^1], cancellationToken);
                },
            },
        ];
    }

    private static IReadOnlyList<Work> TokenByToken(
        BenchRequest request, LanguageModel model, Controller controller, Counts counts, Owned owned, CancellationToken cancellationToken)
    {
        var c = model.Config;
        int context = request.ContextLength, order = Math.Min(Order, c.D);
        var fixedLaw = controller.ToLaw(lambda: 1);
        var loop = owned.Add(new DecodeLoop(model, context, fixedLaw));
        var step = loop.AsWork($"decode steered by fixed gains, context {context}", counts);

        // The token is run twice, plain for its gains and then steered; between them go the tangents, or the cotangents.
        return
        [
            step,
            Anew($"from {order} tangents", order, order * c.L, new PromptFit(controller, lambda: 1, order: order)),
            Anew("in full", c.L, c.L * (c.L + 1) / 2.0, new PromptFit(controller, lambda: 1)),
        ];

        Work Anew(string how, int most, double rows, PromptFit fit)
        {
            var refitted = owned.Add(new DecodeLoop(model, context, fixedLaw)
            {
                Refit = (session, next) => fit.Fit(session, next, cancellationToken),
            });
            return refitted.AsWork($"decode, gains anew at every token {how}", counts) with
            {
                Bytes = step.Bytes + (2 * c.L * counts.BlockBytes),
                Flops = step.Flops + (2 * counts.BlockWeights * (c.L + rows)),
                Rows = most,
                Tangents = most,
                Comparison = Comparison.Time,
            };
        }
    }

    // A feature of random directions, with gains that are too small to change the text.
    private static Controller Controller(LanguageModel model)
    {
        var c = model.Config;
        var random = new Random(9);
        float[][] v = [.. Enumerable.Range(0, c.L + 1).Select(_ => RandomParts.Unit(random, c.D))];
        return new Controller(
            new LinearQuadratic(new Feature(v, [.. v.Select(_ => 0.01f)]), [.. v.Take(c.L).Select(x => Array.ConvertAll(x, y => 0.01f * y))]),
            new ControllerSource
            {
                ModelName = model.Name,
                ModelFingerprint = model.Fingerprint,
                Positive = new PromptSet(new string('0', 64), 1),
                Negative = new PromptSet(new string('0', 64), 1),
                Weights = FitOptions.StandardWeights,
                Cost = FitCost.Feature,
            });
    }
}
