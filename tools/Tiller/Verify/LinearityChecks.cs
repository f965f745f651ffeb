using System.Numerics.Tensors;
using MathNet.Numerics.LinearAlgebra;
using Tiller.Features;
using Tiller.Model;
using Tiller.Synthesis;

namespace Tiller.Tool;

/// <summary>
/// Checks golden values of local linearity with the engine's own float32 passes. An error is relative to the larger of the quantities whose
/// difference the value is.
/// </summary>
internal static class LinearityChecks
{
    // Bound on the error of a similarity times the relative distance to the first pair that is left out.
    private const double OverGap = 1e-6;

    public static IEnumerable<VerificationRow> Run(
        string path, LanguageModel model, IReadOnlyList<PromptState> states, IReadOnlyList<Matrix<double>> mean, Func<string, GoldenTensor?> tensor,
        double[] sizes, CancellationToken cancellationToken)
    {
        int layers = model.Config.L, width = model.Config.D, pairs = Math.Max(1, width / 20);
        GoldenTensor directions = tensor("linearity.directions")!, residual = tensor("linearity.residual")!, gap = tensor("linearity.gap")!;
        GoldenTensor similarity = tensor("linearity.similarity")!, toMean = tensor("linearity.similarity_to_mean")!;
        var prediction = tensor("linearity.prediction")!;
        double worstResidual = 0, worstSimilarity = 0, worstToMean = 0, worstPrediction = 0;
        using var first = new Linearization(model, [states[0]]);
        using var second = new Linearization(model, [states[1]]);
        using var probe = new BlockProbe(model, states[0]);
        var predicted = new Prediction(states[1].X, states[0].X);
        for (int k = 0; k < layers; k++)
        {
            Matrix<double> one = first.Jacobian(k, cancellationToken), other = second.Jacobian(k, cancellationToken);
            int count = directions.Shape[1];
            double length = TensorPrimitives.Norm<float>(states[0].X[k]);
            for (int d = 0; d < count; d++)
            {
                double[] direction = directions[k].Slice(d * width, width).ToArray();
                double[] ours = LocalResiduals(direction, k, one);
                for (int s = 0; s < sizes.Length; s++)
                {
                    // |f(x + δ) − f(x) − Jδ| is a difference of states whose length is about |f(x)| or |δ|.
                    double delta = sizes[s] * length, largest = Math.Max(TensorPrimitives.Norm<float>(states[0].X[k + 1]), delta);
                    double error = Math.Abs(ours[s] - residual[k][(d * sizes.Length) + s]) * delta / largest;
                    worstResidual = Verification.Worse(worstResidual, error);
                }
            }

            LeadingPairs a = LeadingPairs.Of(one, pairs), b = LeadingPairs.Of(other, pairs), m = LeadingPairs.Of(mean[k], pairs);
            double nearest = Math.Min(gap[0][k], gap[1][k]);
            worstSimilarity = Verification.Worse(worstSimilarity, Math.Abs(LeadingPairs.Similarity(a, b) - similarity.Values[k]) * nearest);
            worstToMean = Verification.Worse(worstToMean, Math.Abs(LeadingPairs.Similarity(a, m) - toMean.Values[k]) * gap[0][k]);

            var (oneStep, horizon) = predicted.Advance(k, mean[k], input: null);
            double scale = Difference(states, k + 1) / Math.Max(Size(states[0], k + 1), Size(states[1], k + 1));
            worstPrediction = Verification.Worse(worstPrediction, Math.Abs(oneStep - prediction[0][k]) * scale);
            worstPrediction = Verification.Worse(worstPrediction, Math.Abs(horizon - prediction[1][k]) * scale);
        }

        return
        [
            new VerificationRow(path, "linearity.residual", layers, worstResidual, MethodChecks.FromOurs),
            new VerificationRow(path, "linearity.similarity by its gap", layers, worstSimilarity, OverGap),
            new VerificationRow(path, "linearity.similarity_to_mean by its gap", layers, worstToMean, OverGap),
            new VerificationRow(path, "linearity.prediction", layers, worstPrediction, MethodChecks.FromOurs),
        ];

        double[] LocalResiduals(double[] direction, int k, Matrix<double> jacobian) =>
            MeasuredLinearity.Residuals(probe, k, states[0].X[k], jacobian, direction, sizes, cancellationToken);
    }

    private static double Size(PromptState state, int k) => TensorPrimitives.Norm<float>(state.X[k]);

    private static double Difference(IReadOnlyList<PromptState> states, int k) => TensorPrimitives.Distance<float>(states[1].X[k], states[0].X[k]);
}
