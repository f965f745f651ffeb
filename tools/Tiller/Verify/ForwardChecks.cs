using System.Text.Json;
using Tiller.Checkpoint;
using Tiller.Decode;
using Tiller.Model;

namespace Tiller.Tool;

/// <summary>Checks hidden states, logits and greedy continuations of the plain model.</summary>
internal static class ForwardChecks
{
    /// <summary>If the two largest golden logits of a step differ by less, either token is correct.</summary>
    public const double NearTie = 1e-3;

    private const double ForwardBound = 2e-5;

    public static IEnumerable<VerificationRow> Run(
        GoldenFolder folder, JsonElement golden, LanguageModel model, List<TensorData>? values, CancellationToken cancellationToken)
    {
        var prompts = golden.GetProperty("prompts").EnumerateArray().ToList();
        double worstState = 0;
        double worstLogit = 0;
        int states = 0;
        int logits = 0;
        for (int i = 0; i < prompts.Count; i++)
        {
            int[] ids = TokenChecks.Ids(prompts[i], "ids");
            if (folder.Tensor($"states.{i}") is not { } goldenStates || folder.Tensor($"logits.{i}") is not { } goldenLogits)
            {
                continue;
            }

            var run = Probe.Run(model, ids, cancellationToken);
            values?.Add(new GoldenTensor([model.Config.L + 1, ids.Length, model.Config.D], run.States).ToTensorData($"states.{i}"));
            values?.Add(new GoldenTensor([ids.Length, model.Config.V], run.Logits).ToTensorData($"logits.{i}"));
            worstState = Verification.Worse(worstState, Verification.WorstRow(run.States, goldenStates.Values, model.Config.D));
            worstLogit = Verification.Worse(worstLogit, Verification.WorstRow(run.Logits, goldenLogits.Values, model.Config.V));
            states += goldenStates.Shape[0] * goldenStates.Shape[1];
            logits += goldenLogits.Shape[0];
        }

        if (states > 0)
        {
            yield return new VerificationRow(folder.Path, "hidden states", states, worstState, ForwardBound);
            yield return new VerificationRow(folder.Path, "logits", logits, worstLogit, ForwardBound);
        }

        var continuations = new Continuations();
        foreach (var prompt in prompts)
        {
            using var session = new Session(model);
            continuations.Compare(session, TokenChecks.Ids(prompt, "ids"), prompt, cancellationToken);
        }

        yield return continuations.ToRow(folder.Path, "plain continuations");
    }
}

/// <summary>Compares greedy continuations with golden ids. Differences from near ties are counted separately.</summary>
internal sealed class Continuations
{
    private int _count;
    private int _different;
    private readonly List<string> _nearTies = [];

    /// <summary>Continues greedily, and compares up to the first difference.</summary>
    /// <param name="session">A new session, steered or plain.</param>
    /// <param name="ids">The prompt.</param>
    /// <param name="golden">The golden continuation, with new_ids and gaps.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    /// <param name="onStep">Called with the step's number after each step as long as the ids agree. The first step is the prompt.</param>
    public void Compare(Session session, int[] ids, JsonElement golden, CancellationToken cancellationToken, Action<int>? onStep = null)
    {
        session.Prefill(ids, cancellationToken);
        Compare(golden, (i, last) =>
        {
            if (i > 0)
            {
                session.Step(last, cancellationToken);
            }

            onStep?.Invoke(i);
            return System.Numerics.Tensors.TensorPrimitives.IndexOfMax(session.Logits);
        });
    }

    /// <summary>Compares up to the first difference.</summary>
    /// <param name="golden">Holds new_ids and gaps.</param>
    /// <param name="step">The token that a step gives, from its number and the token before, -1 at the prompt's.</param>
    public void Compare(JsonElement golden, Func<int, int, int> step)
    {
        _count++;
        int[] expected = TokenChecks.Ids(golden, "new_ids");
        double[] gaps = [.. golden.GetProperty("gaps").EnumerateArray().Select(g => g.GetDouble())];
        bool tied = false;
        for (int i = 0; i < expected.Length; i++)
        {
            tied |= i < gaps.Length && gaps[i] < ForwardChecks.NearTie;
            int next = step(i, i == 0 ? -1 : expected[i - 1]);
            if (next != expected[i])
            {
                _different += tied ? 0 : 1;
                if (tied)
                {
                    _nearTies.Add($"{(golden.TryGetProperty("name", out var name) ? name.GetString() : $"run {_count - 1}")} at step {i}");
                }

                return;
            }
        }
    }

    public VerificationRow ToRow(string folder, string kind) =>
        new(folder, kind, _count, _different, 0, _nearTies.Count == 0
            ? ""
            : $"{_nearTies.Count} differ at or after a near tie of the golden logits (gap below {ForwardChecks.NearTie}): "
                + string.Join(", ", _nearTies));
}
