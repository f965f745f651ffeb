using Tiller.Bench;
using Tiller.Decode;
using Tiller.Evaluation;
using Tiller.Features;
using Tiller.Law;
using Tiller.Ops;
using Tiller.Tokens;

namespace Tiller.Tool;

/// <summary>
/// Measures an evaluation as <c>tiller eval</c> runs it: prompts that are encoded, admitted, continued and collected, twice as many as there are
/// rows, so that texts follow one another in a row. Beside it, in turn, steps of a batch of the same number of rows, as <c>bench batch</c> measures
/// them, at the mean context of the evaluation.
/// </summary>
internal static class EvalBench
{
    private const int Turns = 2;
    private const int Tokens = 128;

    /// <summary>Measures a pair of rows for each number of texts at once.</summary>
    public static IEnumerable<BenchRow> Run(BenchRequest request, CancellationToken cancellationToken)
    {
        using var meter = new Meter(Machine.Open(request), request.Seconds, cancellationToken);
        request = request with { Device = meter.Machine.Device };
        var c = request.Shape.Config;
        var counts = request.Counts;
        int prompt = request.ContextLength, context = prompt + (Tokens / 2);
        IReadOnlyList<int> all = request.Batches ?? [8];
        using var model = RandomParts.Model(
            request, meter.Machine,
            all.Max() * (counts.CacheBytes(DecodeLoop.LastLength(context)) + counts.CacheBytes(prompt + Tokens)
                + (4.0 * Activations.RowSizeInBytes(c)) + (40.0 * c.V)),
            Tokenizer.Load(request.DemoFolder, cancellationToken: cancellationToken));
        foreach (int rows in all)
        {
            using var loop = new DecodeLoop(model, context, new FeedbackLaw?[rows]);
            var batch = loop.AsWork($"batch {rows} plain, context {context}", counts);
            int texts = Turns * rows;
            var task = new EvaluationTask
            {
                Name = "bench",
                Splits = new Dictionary<string, IReadOnlyList<Prompt>>(StringComparer.Ordinal)
                {
                    [EvaluationTask.DefaultSplit] =
                        [.. Enumerable.Range(0, texts).Select(i => new TokenPrompt(RandomParts.Tokens(c.V, prompt, seed: i + 1)))],
                },
                Generation = new GenerationOptions { MaxNewTokens = Tokens, StopIds = [] },
                Scorers = [],
            };
            var options = new EvaluationOptions { Batch = rows };
            var evaluation = batch with
            {
                Name = $"eval of {texts} prompts of {prompt} tokens, {Tokens} new ones each, {rows} at once",

                // A step for each new token of each turn, and every prompt token passes once.
                Bytes = Turns * Tokens * batch.Bytes,
                Flops = texts * ((Tokens * (counts.RowFlops(context) + counts.HeadFlops)) + (prompt * counts.RowFlops(prompt / 2.0))),
                Amount = texts * Tokens,
                Comparison = Comparison.Speed,
                Prepare = null,
                MaxRuns = 1,
                Run = () => Check(Evaluator.RunAsync(model, task, options, cancellationToken: cancellationToken).GetAwaiter().GetResult()),
            };
            foreach (var row in meter.Measure([batch, evaluation]))
            {
                yield return row;
            }

            void Check(EvaluationReport report)
            {
                if (report.Texts.Sum(static x => x.Ids.Count) != texts * Tokens)
                {
                    throw new BenchException("A text of the evaluation ended early.");
                }
            }
        }
    }
}
