using Tiller.Decode;
using Tiller.Tensors;

namespace Tiller.Bench;

/// <summary>Steps of one token, prompts, and steps of many sessions at once.</summary>
internal static class DecodeBench
{
    private const int Tangents = 31;

    /// <summary>One session: plain, steered, with tangents.</summary>
    public static IEnumerable<BenchRow> Decode(BenchRequest request, Meter meter)
    {
        var c = request.Shape.Config;
        var counts = new Counts(c, request.Type);
        int context = request.ContextLength;
        double extra = (4 * counts.CacheBytes(DecodeLoop.LastLength(context))) + ((3.0 + 1 + Tangents) * (Activations.RowSizeInBytes(c) + (4.0 * c.V)));
        using var model = RandomParts.Model(request, extra);
        using var plain = new DecodeLoop(model, context, null as Control.FeedbackLaw);
        using var one = new DecodeLoop(model, context, RandomParts.Law(c, 1, seed: 1));
        using var sixteen = new DecodeLoop(model, context, RandomParts.Law(c, 16, seed: 2));
        using var tangents = new TangentLoop(model, context, Tangents);
        var step = new Work
        {
            Name = $"decode plain, context {context}",
            Bytes = counts.DecodeBytes + counts.CacheBytes(context),
            Flops = counts.RowFlops(context) + counts.HeadFlops,
            WorkingSet = counts.DecodeBytes,
            RateUnit = "tok/s",
            Prepare = plain.Prepare,
            Run = plain.Step,
        };
        foreach (var row in meter.Measure([step, Steered("1 term", one), Steered("16 terms", sixteen)]))
        {
            yield return row;
        }

        foreach (var row in meter.Measure(
        [
            step with { Name = "decode plain, beside tangents" },
            step with
            {
                Name = $"decode with {Tangents} tangents",
                Flops = ((1 + Tangents) * counts.RowFlops(context)) + counts.HeadFlops,
                Comparison = Comparison.Time,
                Prepare = null,
                Run = tangents.Step,
            },
        ]))
        {
            yield return row;
        }

        Work Steered(string terms, DecodeLoop loop) =>
            step with { Name = $"decode steered, {terms} a layer", Comparison = Comparison.Speed, Prepare = loop.Prepare, Run = loop.Step };
    }

    /// <summary>One prompt from an empty session.</summary>
    public static IEnumerable<BenchRow> Prefill(BenchRequest request, Meter meter)
    {
        const int Chunk = 256;
        var c = request.Shape.Config;
        var counts = new Counts(c, request.Type);
        int tokens = request.ContextLength;
        if (tokens > c.MaxPositions)
        {
            throw new BenchException($"A prompt of {tokens} tokens is longer than the {c.MaxPositions} positions of this shape. Ask for a shorter --context.");
        }

        using var model = RandomParts.Model(request, counts.CacheBytes(tokens) + ((double)Chunk * Activations.RowSizeInBytes(c)));
        int[] ids = RandomParts.Tokens(c.V, tokens, seed: 4);
        Session? session = null;
        yield return meter.Measure(new Work
        {
            Name = $"prefill {tokens} tokens",
            Bytes = counts.DecodeBytes,
            Flops = (tokens * counts.RowFlops((tokens + 1) / 2.0)) + counts.HeadFlops,
            WorkingSet = counts.DecodeBytes,
            Amount = tokens,
            RateUnit = "tok/s",
            Prepare = () =>
            {
                session?.Dispose();
                session = new Session(model);
            },
            Run = () => session!.Prefill(ids),
        });
        session?.Dispose();
    }

    /// <summary>Several sessions: plain, each with its own law.</summary>
    public static IEnumerable<BenchRow> Batch(BenchRequest request, Meter meter)
    {
        const int Few = 8, Many = 64;
        var c = request.Shape.Config;
        var counts = new Counts(c, request.Type);
        int context = request.ContextLength;
        double perSession = counts.CacheBytes(DecodeLoop.LastLength(context)) + (2.0 * Activations.RowSizeInBytes(c)) + (12.0 * c.V);
        using var model = RandomParts.Model(request, ((2 * Few) + Many) * perSession);
        using var plain = new DecodeLoop(model, context, new Control.FeedbackLaw?[Few]);
        using var steered = new DecodeLoop(model, context, [.. Enumerable.Range(0, Few).Select(i => RandomParts.Law(c, 1, seed: 10 + i))]);
        foreach (var row in meter.Measure(
        [
            Step($"batch {Few} plain", Few, plain),
            Step($"batch {Few}, {Few} different controllers", Few, steered) with { Comparison = Comparison.Speed },
        ]))
        {
            yield return row;
        }

        using var many = new DecodeLoop(model, context, new Control.FeedbackLaw?[Many]);
        yield return meter.Measure(Step($"batch {Many} plain", Many, many));

        Work Step(string name, int sessions, DecodeLoop loop) => new()
        {
            Name = $"{name}, context {context}",
            Bytes = counts.DecodeBytes + (sessions * counts.CacheBytes(context)),
            Flops = sessions * (counts.RowFlops(context) + counts.HeadFlops),
            WorkingSet = counts.DecodeBytes,
            Amount = sessions,
            RateUnit = "tok/s",
            Prepare = loop.Prepare,
            Run = loop.Step,
        };
    }
}
