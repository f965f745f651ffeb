// The paper's evidence that a block's Jacobian describes the block (docs/math.md §8; arXiv:2604.19018):
//
//     residual      |f(x + δ) − f(x) − A δ| / |δ| against |δ|/|x|: proportional to |δ| if f is smooth and A is its derivative
//     similarity    nuclear(diag(s₁) U₁'U₂ diag(s₂)) / (|s₁| |s₂|) of two Jacobians over their leading D/20 singular pairs
//     prediction    |δ_{k+1} − A_k δ_k − u_k| / |δ_{k+1}| of the mean A_k, and the same with A_k ⋯ A_0 δ_0
using System.Numerics.Tensors;
using MathNet.Numerics.LinearAlgebra;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;

namespace Tiller.Synthesis;

/// <summary>Settings of a measurement of local linearity.</summary>
public sealed record LinearityOptions
{
    /// <summary>The sizes |δ|/|x| of the residuals; default 0.001, 0.01, 0.1 and 1.</summary>
    public IReadOnlyList<double> Sizes { get; init; } = [1e-3, 1e-2, 1e-1, 1];

    /// <summary>Number of random directions of δ for each prompt and block; default 4.</summary>
    public int Directions { get; init; } = 4;

    /// <summary>Number of leading singular pairs that are compared; null, the default, for D/20, as published.</summary>
    public int? Pairs { get; init; }

    /// <summary>A law whose steered states are predicted as well; null, the default, for none.</summary>
    public FeedbackLaw? Law { get; init; }

    /// <summary>Which tokens the law steers; default <see cref="SteeredTokens.Last"/>.</summary>
    public SteeredTokens SteeredTokens { get; init; } = SteeredTokens.Last;
}

/// <summary>Local linearity of one block, averaged over the prompts.</summary>
/// <param name="Layer">Block k.</param>
/// <param name="Residuals">|f(x + δ) − f(x) − A δ| / |δ| for each size // (sizes).</param>
/// <param name="Slope">
/// Slope of the log residual over log |δ|: 1 if the remainder is quadratic. NaN with fewer than two sizes of at least 0.01.
/// </param>
/// <param name="Within">Similarity of the Jacobians of two prompts of the same list; NaN if no list has two prompts.</param>
/// <param name="Across">Similarity of the Jacobians of two prompts of different lists; NaN if there is only one list.</param>
/// <param name="OneStep">
/// Relative error of the mean A_k's prediction over this block, for the difference of two plain prompts; NaN for one prompt.
/// </param>
/// <param name="Horizon">Relative error of the prediction from the first block to the output of this one, for the same difference.</param>
/// <param name="SteeredOneStep">As <paramref name="OneStep"/>, for the difference of a prompt's steered and plain run; NaN without a law.</param>
/// <param name="SteeredHorizon">As <paramref name="Horizon"/>, for the difference of a prompt's steered and plain run; NaN without a law.</param>
public sealed record LinearityLayer(
    int Layer, IReadOnlyList<double> Residuals, double Slope, double Within, double Across, double OneStep, double Horizon, double SteeredOneStep,
    double SteeredHorizon);

/// <summary>How accurately linear models describe the blocks of a model (docs/math.md §8).</summary>
/// <param name="Sizes">The sizes |δ|/|x| of the residuals.</param>
/// <param name="Pairs">Number of leading singular pairs that were compared.</param>
/// <param name="Layers">One entry for each block.</param>
public sealed record LinearityReport(IReadOnlyList<double> Sizes, int Pairs, IReadOnlyList<LinearityLayer> Layers)
{
    // Smallest |δ|/|x| of the residuals to which the slope is fitted. Below it, float32 rounding dominates.
    private const double LeastSize = 1e-2;

    /// <summary>Measures the local linearity of all blocks.</summary>
    /// <param name="model">The plain model.</param>
    /// <param name="lists">Prompts of one kind or several, each list at least one.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <param name="progress">Told the number of blocks done.</param>
    /// <param name="cancellationToken">Checked between blocks.</param>
    /// <exception cref="TillerException">A prompt cannot be encoded, or a list is empty.</exception>
    public static LinearityReport Measure(
        LanguageModel model, IReadOnlyList<IReadOnlyList<Prompt>> lists, LinearityOptions? options = null, IProgress<int>? progress = null,
        CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(lists);
        options ??= new LinearityOptions();
        if (lists.Count == 0 || lists.Any(list => list.Count == 0))
        {
            throw new ContrastSetException("A list of prompts for linearity is empty; give at least one prompt in each.");
        }

        if (options.Sizes.Any(size => !(size > 0 && double.IsFinite(size))) || options.Directions < 1 || options.Pairs is < 1)
        {
            throw new ArgumentOutOfRangeException(nameof(options), "Sizes must be finite and above 0, directions and pairs at least 1.");
        }

        using var use = model.Enter();
        var encoder = PromptEncoder.Of(model);
        (int List, int[] Ids)[] prompts =
            [.. lists.SelectMany((list, i) => encoder.Encode($"List {i + 1}", list, cancellationToken).Select(ids => (i, ids)))];
        var states = PromptState.Collect(model, [.. prompts.Select(p => p.Ids)], keepCaches: true, done: null, cancellationToken);
        try
        {
            return Measure(model, [.. prompts.Select(p => p.List)], states, [.. prompts.Select(p => p.Ids)], options, progress, cancellationToken);
        }
        finally
        {
            foreach (var state in states)
            {
                state.Dispose();
            }
        }
    }

    private static LinearityReport Measure(
        LanguageModel model, int[] listOf, IReadOnlyList<PromptState> states, int[][] ids, LinearityOptions options, IProgress<int>? progress,
        CancellationToken cancellationToken)
    {
        int width = model.Config.D, pairs = Math.Min(options.Pairs ?? Math.Max(1, width / 20), width);
        float[][][]? steered = options.Law is { } law
            ? [.. ids.Select(one => BlockProbe.Steered(model, one, law, options.SteeredTokens, null, cancellationToken))] : null;
        var layers = new LinearityLayer[model.Config.L];

        // The mean model carries δ_0 of neighbouring prompts, and of a prompt's steered and plain run, through the blocks.
        var plain = Enumerable.Range(1, Math.Max(0, states.Count - 1)).Select(i => new Prediction(states[i].X, states[i - 1].X)).ToList();
        var moved = steered is null ? [] : steered.Select((x, i) => new Prediction(x, states[i].X)).ToList();
        for (int k = 0; k < layers.Length; k++)
        {
            var mean = Matrix<double>.Build.Dense(width, width);
            var spectra = new List<LeadingPairs>();
            double[] residuals = new double[options.Sizes.Count];
            for (int i = 0; i < states.Count; i++)
            {
                using var linearization = new Linearization(model, [states[i]]);
                var jacobian = linearization.Jacobian(k, cancellationToken);
                mean += jacobian / states.Count;
                spectra.Add(LeadingPairs.Of(jacobian, pairs));
                using var probe = new BlockProbe(model, states[i]);
                foreach (double[] direction in Directions(options.Directions, width, seed: (k * states.Count) + i))
                {
                    double[] of = Residuals(probe, k, states[i].X[k], jacobian, direction, options.Sizes, cancellationToken);
                    TensorPrimitives.MultiplyAdd(of, 1.0 / (states.Count * options.Directions), residuals, residuals);
                }
            }

            var within = new List<double>();
            var across = new List<double>();
            for (int i = 0; i < spectra.Count; i++)
            {
                for (int j = 0; j < i; j++)
                {
                    (listOf[i] == listOf[j] ? within : across).Add(LeadingPairs.Similarity(spectra[i], spectra[j]));
                }
            }

            var (oneStep, horizon) = Mean(plain.Select(p => p.Advance(k, mean, input: null)));
            var (steeredOneStep, steeredHorizon) = Mean(moved.Select((p, i) =>
            {
                // u_k = x_{k+1} − f_k(x_k) of the steered run.
                using var probe = new BlockProbe(model, states[i]);
                float[] unmoved = probe.Run(k, steered![i][k], cancellationToken);
                return p.Advance(k, mean, [.. steered[i][k + 1].Zip(unmoved, (x, y) => (double)x - y)]);
            }));
            layers[k] = new LinearityLayer(
                k, residuals, Slope(options.Sizes, residuals), Average(within), Average(across), oneStep, horizon, steeredOneStep, steeredHorizon);
            progress?.Report(k + 1);
        }

        return new LinearityReport(options.Sizes, pairs, layers);
    }

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

    // Least squares over the sizes at which rounding is small.
    private static double Slope(IReadOnlyList<double> sizes, double[] residuals)
    {
        var points = sizes.Zip(residuals).Where(p => p.First >= LeastSize && p.Second > 0).Select(p => (X: Math.Log(p.First), Y: Math.Log(p.Second)))
            .ToList();
        if (points.Count < 2)
        {
            return double.NaN;
        }

        double x = points.Average(p => p.X), y = points.Average(p => p.Y);
        return points.Sum(p => (p.X - x) * (p.Y - y)) / points.Sum(p => (p.X - x) * (p.X - x));
    }

    private static double Average(List<double> values) => values.Count == 0 ? double.NaN : values.Average();

    private static (double OneStep, double Horizon) Mean(IEnumerable<(double OneStep, double Horizon)> errors)
    {
        var all = errors.Where(e => !double.IsNaN(e.OneStep)).ToList();
        return all.Count == 0 ? (double.NaN, double.NaN) : (all.Average(e => e.OneStep), all.Average(e => e.Horizon));
    }
}

/// <summary>The difference of two runs through the blocks, and a linear model's prediction of it from the first difference.</summary>
internal sealed class Prediction(float[][] run, float[][] other)
{
    private Vector<double> _predicted = Difference(run, other, 0);

    /// <summary>
    /// Returns |δ_{k+1} − A δ_k − u| / |δ_{k+1}|, and the same with the prediction of δ_k in its place. Called for the blocks in order. NaN if
    /// δ_{k+1} is 0.
    /// </summary>
    public (double OneStep, double Horizon) Advance(int k, Matrix<double> a, double[]? input)
    {
        var next = Difference(run, other, k + 1);
        var u = input is null ? Vector<double>.Build.Dense(next.Count) : Vector<double>.Build.DenseOfArray(input);
        double length = next.L2Norm();
        _predicted = (a * _predicted) + u;
        return length == 0 ? (double.NaN, double.NaN)
            : ((next - (a * Difference(run, other, k)) - u).L2Norm() / length, (next - _predicted).L2Norm() / length);
    }

    private static Vector<double> Difference(float[][] run, float[][] other, int k) =>
        Vector<double>.Build.Dense(run[k].Length, i => (double)run[k][i] - other[k][i]);
}

/// <summary>The leading left singular vectors of a matrix and their singular values.</summary>
/// <param name="U">Orthonormal columns // (D, p).</param>
/// <param name="S">Singular values, in descending order // (p).</param>
internal sealed record LeadingPairs(Matrix<double> U, Vector<double> S)
{
    /// <summary>Computes the p leading pairs from the eigenvectors of M M'.</summary>
    public static LeadingPairs Of(Matrix<double> m, int pairs)
    {
        var eigen = DenseAlgebra.Multiply(m, m.Transpose()).Evd(Symmetricity.Symmetric);
        int n = m.RowCount;
        return new LeadingPairs(
            Matrix<double>.Build.Dense(n, pairs, (i, j) => eigen.EigenVectors[i, n - 1 - j]),
            Vector<double>.Build.Dense(pairs, j => Math.Sqrt(Math.Max(0, eigen.EigenValues[n - 1 - j].Real))));
    }

    /// <summary>nuclear(diag(s₁) U₁'U₂ diag(s₂)) / (|s₁| |s₂|): 1 for equal pairs, 0 for orthogonal ones.</summary>
    public static double Similarity(LeadingPairs a, LeadingPairs b)
    {
        var between = DenseAlgebra.TransposeMultiply(a.U, b.U);
        var scaled = Matrix<double>.Build.Dense(between.RowCount, between.ColumnCount, (i, j) => a.S[i] * between[i, j] * b.S[j]);
        double lengths = a.S.L2Norm() * b.S.L2Norm();
        return lengths == 0 ? 0 : scaled.Svd(computeVectors: false).S.Sum() / lengths;
    }
}
