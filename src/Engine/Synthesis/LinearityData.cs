using System.Numerics.Tensors;
using MathNet.Numerics.LinearAlgebra;
using Tiller.Features;
using Tiller.Model;

namespace Tiller.Synthesis;

/// <summary>The prompts whose blocks are measured.</summary>
/// <param name="ListOf">The list of each prompt.</param>
/// <param name="Ids">Token ids of each prompt.</param>
internal sealed record LinearityPrompts(int[] ListOf, int[][] Ids)
{
    /// <summary>Encodes lists of prompts.</summary>
    /// <exception cref="ContrastSetException">A list is empty, or a prompt cannot be encoded.</exception>
    public static LinearityPrompts Of(LanguageModel model, IReadOnlyList<IReadOnlyList<Prompt>> lists, CancellationToken cancellationToken)
    {
        if (lists.Count == 0 || lists.Any(list => list.Count == 0))
        {
            throw new ContrastSetException("A list of prompts for linearity is empty; give at least one prompt in each.");
        }

        var encoder = PromptEncoder.Of(model);
        (int List, int[] Ids)[] prompts =
            [.. lists.SelectMany((list, i) => encoder.Encode($"List {i + 1}", list, cancellationToken).Select(ids => (i, ids)))];
        return new LinearityPrompts([.. prompts.Select(p => p.List)], [.. prompts.Select(p => p.Ids)]);
    }

    /// <summary>Number of leading singular pairs that are compared.</summary>
    public static int PairsOf(LanguageModel model, LinearityOptions options) =>
        Math.Min(options.Pairs ?? Math.Max(1, model.Config.D / 20), model.Config.D);
}

/// <summary>One block at one prompt.</summary>
/// <param name="Residuals">|f(x + δ) − f(x) − A δ| / |δ| // (directions, sizes).</param>
/// <param name="Pairs">The leading singular pairs of its Jacobian.</param>
/// <param name="Unmoved">f_k(x_k) of the steered run // (D); null without a law.</param>
internal sealed record PromptLinearity(double[][] Residuals, LeadingPairs Pairs, float[]? Unmoved);

/// <summary>All that a report of local linearity needs of the model.</summary>
internal abstract class LinearityData : IDisposable
{
    /// <summary>x_0..x_L of each prompt // (prompts, L+1, D).</summary>
    public abstract float[][][] States { get; }

    /// <summary>The same of the steered runs; null without a law.</summary>
    public abstract float[][][]? Steered { get; }

    /// <summary>The mean Jacobian of a block, and what was measured at each prompt.</summary>
    public abstract (Matrix<double> Mean, IReadOnlyList<PromptLinearity> Prompts) Block(int k, CancellationToken cancellationToken);

    /// <inheritdoc/>
    public abstract void Dispose();
}

/// <summary>Measures prompts on the model. The mean is a sum over a tree whose blocks are single prompts (<see cref="SumNode"/>).</summary>
internal sealed class MeasuredLinearity : LinearityData
{
    private readonly LanguageModel _model;
    private readonly LinearityPrompts _prompts;
    private readonly LinearityOptions _options;
    private readonly int _begin;
    private readonly IReadOnlyList<PromptState> _run;
    private readonly PromptState[] _own;

    /// <summary>Runs prompts.</summary>
    /// <param name="model">The plain model.</param>
    /// <param name="prompts">All prompts.</param>
    /// <param name="options">The settings.</param>
    /// <param name="own">The prompts that are measured.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    public MeasuredLinearity(
        LanguageModel model, LinearityPrompts prompts, LinearityOptions options, Range own, CancellationToken cancellationToken)
    {
        (_model, _prompts, _options) = (model, prompts, options);
        (_begin, int count) = own.GetOffsetAndLength(prompts.Ids.Length);
        int first = _begin / PromptBlocks.Size * PromptBlocks.Size;
        int end = Math.Min(PromptBlocks.CountOf(_begin + count) * PromptBlocks.Size, prompts.Ids.Length);
        _run = PromptState.Collect(
            model, prompts.Ids, keepCaches: true, done: null, cancellationToken, count == 0 ? 0..0 : first..end);
        _own = [.. _run.Skip(_begin - first).Take(count)];
        try
        {
            States = [.. _own.Select(state => state.X)];
            Steered = options.Law is { } law
                ? [.. prompts.Ids[own].Select(ids => BlockProbe.Steered(model, ids, law, options.SteeredTokens, null, cancellationToken))] : null;
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public override float[][][] States { get; }

    /// <inheritdoc/>
    public override float[][][]? Steered { get; }

    /// <inheritdoc/>
    public override (Matrix<double> Mean, IReadOnlyList<PromptLinearity> Prompts) Block(int k, CancellationToken cancellationToken)
    {
        var measured = new List<PromptLinearity>();
        var mean = Sum(k, SumNode.Root(_prompts.Ids.Length), measured, cancellationToken);
        return (mean, measured);
    }

    /// <summary>Measures neighbouring prompts.</summary>
    /// <param name="k">The block of the model.</param>
    /// <param name="node">The prompts, counted among all.</param>
    /// <param name="measured">Gets what was measured at each of them.</param>
    /// <param name="cancellationToken">Checked between passes.</param>
    /// <returns>The sum of their Jacobians over the number of all prompts.</returns>
    public Matrix<double> Sum(int k, SumNode node, List<PromptLinearity> measured, CancellationToken cancellationToken) =>
        node.Sum(leaf => leaf.Count > 1 ? null : Measure(k, leaf.First, measured, cancellationToken), static (first, second) => first + second);

    /// <summary>Computes |f(x + δ) − f(x) − J δ| / |δ| for every size |δ|/|x|, with δ as rounded to float32 // (sizes).</summary>
    internal static double[] Residuals(
        BlockProbe probe, int k, float[] x, Matrix<double> jacobian, double[] direction, IReadOnlyList<double> sizes,
        CancellationToken cancellationToken)
    {
        double length = TensorPrimitives.Norm<float>(x);
        float[] y = probe.Run(k, x, cancellationToken);
        double[] residuals = new double[sizes.Count];
        for (int s = 0; s < residuals.Length; s++)
        {
            float[] moved = [.. x.Select((value, i) => (float)(value + (sizes[s] * length * direction[i])))];
            double[] delta = [.. moved.Zip(x, (a, b) => (double)a - b)];
            double[] linear = (jacobian * Vector<double>.Build.DenseOfArray(delta)).ToArray();
            float[] reached = probe.Run(k, moved, cancellationToken);
            double square = 0;
            for (int i = 0; i < linear.Length; i++)
            {
                square += Math.Pow((double)reached[i] - y[i] - linear[i], 2);
            }

            residuals[s] = Math.Sqrt(square) / TensorPrimitives.Norm<double>(delta);
        }

        return residuals;
    }

    /// <inheritdoc/>
    public override void Dispose()
    {
        foreach (var state in _run)
        {
            state.Dispose();
        }
    }

    private Matrix<double> Measure(int k, int prompt, List<PromptLinearity> measured, CancellationToken cancellationToken)
    {
        int own = prompt - _begin, count = _prompts.Ids.Length, width = _model.Config.D;
        using var linearization = new Linearization(_model, [_own[own]]);
        var jacobian = linearization.Jacobian(k, cancellationToken);
        using var probe = new BlockProbe(_model, _own[own]);
        measured.Add(new PromptLinearity(
            [
                .. Directions(_options.Directions, width, seed: (k * count) + prompt)
                    .Select(direction => Residuals(probe, k, States[own][k], jacobian, direction, _options.Sizes, cancellationToken)),
            ],
            LeadingPairs.Of(jacobian, LinearityPrompts.PairsOf(_model, _options)),
            Steered is null ? null : probe.Run(k, Steered[own][k], cancellationToken)));
        return jacobian / count;
    }

    private static IEnumerable<double[]> Directions(int count, int width, int seed)
    {
        var random = new Random(seed);
        for (int i = 0; i < count; i++)
        {
            double[] direction = [.. Enumerable.Range(0, width).Select(_ => NormalDraw.Next(random))];
            TensorPrimitives.Divide(direction, TensorPrimitives.Norm<double>(direction), direction);
            yield return direction;
        }
    }
}
