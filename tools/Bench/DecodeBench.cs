using Tiller.Checkpoint;
using Tiller.Cuda;
using Tiller.Decode;
using Tiller.Kernels;
using Tiller.Law;
using Tiller.Ops;

namespace Tiller.Bench;

/// <summary>Measures steps of one token, prompts, and steps of many sessions at once.</summary>
internal static class DecodeBench
{
    // Laws that show the cost of sensors without terms, the extra cost of intervals with gates, planes, moved inputs and curves compared with
    // setpoints, and that of edits.
    private static readonly (string Name, Func<ModelConfig, FeedbackLaw> Law)[] LawKinds =
    [
        ("sensing, 16 sensors a layer", c => RandomParts.Law(c, 16, seed: 40, kind: RandomParts.LawKind.Sensors)),
        ("steered, 16 gated intervals a layer", c => RandomParts.Law(c, 16, seed: 41, kind: RandomParts.LawKind.GatedIntervals)),
        ("steered, 8 planes a layer", c => RandomParts.Law(c, 16, seed: 42, kind: RandomParts.LawKind.Planes)),
        ("steered, 1 term an input", c => RandomParts.Law(c, 1, seed: 43, kind: RandomParts.LawKind.Inputs)),
        ("steered, 16 terms with curves a layer", c => RandomParts.Law(c, 16, seed: 48, kind: RandomParts.LawKind.Curves)),
        ("edited, 1 affine map an output", c => RandomParts.Edits(c, seed: 44, RandomParts.EditKind.Affine)),
        ("edited, 2 ablations inside a block", c => RandomParts.Edits(c, seed: 45, RandomParts.EditKind.Ablations)),
        ("edited, 1 kept norm an input", c => RandomParts.Edits(c, seed: 46, RandomParts.EditKind.KeptNorm)),
        ("edited, 1 flow in all", c => RandomParts.Edits(c, seed: 47, RandomParts.EditKind.Flow)),
    ];

    /// <summary>Measures one session: plain, steered, and with tangents.</summary>
    public static IEnumerable<BenchRow> Decode(BenchRequest request, Meter meter)
    {
        var c = request.Shape.Config;
        var counts = request.Counts;
        int context = request.ContextLength;
        bool onDevice = meter.Machine is CudaMachine;
        const int ManyTerms = 16;
        IReadOnlyList<int> terms = request.Variants ? [ManyTerms] : request.Terms ?? (onDevice ? [1, 4, 16] : [1, 16]), tangents =
            request.Tangents ?? (onDevice ? [8, 31, 63] : [31]);
        (string Name, Func<ModelConfig, FeedbackLaw> Law)[] kinds = request.Laws ? LawKinds : [];
        int loops = 1 + terms.Count + kinds.Length + tangents.Count;
        double rows = 1 + terms.Count + kinds.Length + tangents.Sum(p => 1.0 + p);
        double laws = 8.0 * c.L * c.D * (terms.Sum() + (16.0 * kinds.Length));
        using var model = RandomParts.Model(
            request, meter.Machine, (loops * counts.CacheBytes(DecodeLoop.LastLength(context))) + (rows * Activations.RowSizeInBytes(c))
                + (loops * 4.0 * c.V) + laws);
        using var plain = new DecodeLoop(model, context, null as FeedbackLaw);
        using var owned = new Owned();
        var step = plain.AsWork($"decode plain, context {context}", counts);
        if (request.Variants)
        {
            (Work Work, VariantWork Kind)[] compared =
            [
                (step, VariantWork.Steps), (Steered(ManyTerms), VariantWork.Laws),
                .. tangents.Select(p => (Pushed(p), p < LinearKernels.FewRows ? VariantWork.Steps : VariantWork.Tangents)),
            ];
            foreach (var (work, kind) in compared)
            {
                foreach (var row in meter.Measure(Variants.Of(model, work, kind)))
                {
                    yield return row;
                }
            }

            yield break;
        }

        foreach (var row in meter.Measure([step, .. terms.Select(Steered), .. kinds.Select(Kind)]))
        {
            yield return row;
        }

        foreach (var row in meter.Measure([step with { Name = "decode plain, beside tangents" }, .. tangents.Select(Pushed)]))
        {
            yield return row;
        }

        Work Steered(int terms) =>
            By($"decode steered, {terms} term{(terms == 1 ? "" : "s")} a layer", RandomParts.Law(c, terms, seed: terms));

        Work Kind((string Name, Func<ModelConfig, FeedbackLaw> Law) kind) => By($"decode {kind.Name}", kind.Law(c));

        Work By(string name, FeedbackLaw law) =>
            owned.Add(new DecodeLoop(model, context, law)).AsWork(name, counts) with { Comparison = Comparison.Speed };

        Work Pushed(int tangents) => step with
        {
            Name = $"decode with {tangents} tangents",
            Flops = ((1 + tangents) * counts.RowFlops(context)) + counts.HeadFlops,
            Rows = 1 + tangents,
            Tangents = tangents,
            Comparison = Comparison.Time,
            Prepare = null,
            MaxRuns = int.MaxValue,
            Run = owned.Add(new TangentLoop(model, context, tangents)).Step,
        };
    }

    /// <summary>Measures one prompt from an empty session.</summary>
    public static IEnumerable<BenchRow> Prefill(BenchRequest request, Meter meter)
    {
        var c = request.Shape.Config;
        var counts = request.Counts;
        int tokens = request.ContextLength;
        if (tokens > c.MaxPositions)
        {
            throw new BenchException($"A prompt of {tokens} tokens is longer than the {c.MaxPositions} positions of this shape. "
                + "Use a shorter --context.");
        }

        double rows = Math.Min(tokens, CudaOps.MaxPassRows);
        using var model = RandomParts.Model(request, meter.Machine, counts.CacheBytes(tokens) + (rows * Activations.RowSizeInBytes(c)));
        int[] ids = RandomParts.Tokens(c.V, tokens, seed: 4);
        Session? session = null;
        var prefill = new Work
        {
            Name = $"prefill {tokens} tokens",
            Bytes = counts.DecodeBytes,
            Flops = (tokens * counts.RowFlops((tokens + 1) / 2.0)) + counts.HeadFlops,
            WorkingSet = counts.DecodeBytes,
            Rows = Math.Min(tokens, model.Ops.PassRows),
            Amount = tokens,
            RateUnit = "tok/s",
            Prepare = _ =>
            {
                session?.Dispose();
                session = new Session(model);
            },
            MaxRuns = 1,
            Run = () => session!.Prefill(ids),
        };
        try
        {
            foreach (var row in meter.Measure(request.Variants ? Variants.Of(
                model, prefill, prefill.Rows > LinearKernels.FewRows ? VariantWork.Prompts : VariantWork.Steps) : [prefill]))
            {
                yield return row;
            }
        }
        finally
        {
            session?.Dispose();
        }
    }

    /// <summary>Measures several sessions: plain, and each with its own law.</summary>
    public static IEnumerable<BenchRow> Batch(BenchRequest request, Meter meter)
    {
        var c = request.Shape.Config;
        var counts = request.Counts;
        int context = request.ContextLength;

        // Numbers of sessions, and whether they are also steered.
        (int Sessions, bool Steered)[] all = request.Batches is { } asked ? [.. asked.Select(n => (n, true))]
            : meter.Machine is CudaMachine ? [(1, true), (8, true), (64, true)] : [(8, true), (64, false)];
        double perSession = counts.CacheBytes(DecodeLoop.LastLength(context)) + (2.0 * Activations.RowSizeInBytes(c)) + (20.0 * c.V)
            + (8.0 * c.L * c.D);
        using var model = RandomParts.Model(request, meter.Machine, all.Max(n => (n.Steered ? 2 : 1) * n.Sessions) * perSession);
        foreach (var (sessions, steered) in all)
        {
            using var owned = new Owned();
            var plain = Step($"batch {sessions} plain", new FeedbackLaw?[sessions]);
            Work[] works = !steered ? [plain] :
            [
                plain,
                Step(
                    $"batch {sessions}, {sessions} different controller{(sessions == 1 ? "" : "s")}",
                    [.. Enumerable.Range(0, sessions).Select(i => RandomParts.Law(c, 1, seed: 10 + i))]) with { Comparison = Comparison.Speed },
            ];
            foreach (var row in meter.Measure(works))
            {
                yield return row;
            }

            Work Step(string name, FeedbackLaw?[] laws) =>
                owned.Add(new DecodeLoop(model, context, laws)).AsWork($"{name}, context {context}", counts);
        }
    }
}

/// <summary>Objects that are disposed of together.</summary>
internal sealed class Owned : IDisposable
{
    private readonly List<IDisposable> _all = [];

    /// <summary>Takes ownership of an object.</summary>
    public T Add<T>(T one)
        where T : IDisposable
    {
        _all.Add(one);
        return one;
    }

    public void Dispose() => _all.ForEach(one => one.Dispose());
}
