using MathNet.Numerics.LinearAlgebra;
using Tiller.Features;
using Tiller.Law;
using Tiller.Synthesis;

namespace Tiller.Controllers;

/// <summary>
/// Trajectory tracking (arXiv:2604.19018; docs/math.md §2): u_k = −λ K_k (x_k − x̄_k) follows the recorded states x̄ of another run. K_k is stored as
/// two thin factors, K = Y V', and never formed: the p sensors of a block read V'x, with the setpoints V'x̄. λ is the share of the correction.
/// Published are λ = 1 and steering the prompt's last token only (<see cref="SteeredTokens.First"/>).
/// </summary>
public sealed class Trajectory : SteeringMethod
{
    /// <summary>Makes the method of factors that are already computed.</summary>
    /// <param name="feature">The feature for which the gains were solved.</param>
    /// <param name="record">x̄_k // (L, D).</param>
    /// <param name="read">Rows of V' of each block // (L, p_k, D).</param>
    /// <param name="push">Columns of Y of each block, as rows // (L, p_k, D).</param>
    /// <param name="layers">Steered blocks; null for all.</param>
    /// <exception cref="ArgumentException">Lengths disagree, or a number is not finite.</exception>
    public Trajectory(
        Feature feature,
        IReadOnlyList<float[]> record,
        IReadOnlyList<IReadOnlyList<float[]>> read,
        IReadOnlyList<IReadOnlyList<float[]>> push,
        LayerSet? layers = null)
        : base(feature, layers)
    {
        CheckRows(feature, record, nameof(record));
        if (read.Count != feature.L || push.Count != feature.L || read.Zip(push).Any(pair => pair.First.Count != pair.Second.Count))
        {
            throw new ArgumentException(
                $"K needs {feature.L} pairs of factors, one for each block; both factors of a pair must have the same number of rows.", nameof(read));
        }

        foreach (var factor in read.Concat(push))
        {
            foreach (float[] row in factor)
            {
                CheckRow(feature, row, nameof(read));
            }
        }

        Record = record;
        Read = read;
        Push = push;
    }

    /// <inheritdoc/>
    public override string Name => "trajectory";

    /// <summary>x̄_k // (L, D).</summary>
    public IReadOnlyList<float[]> Record { get; }

    /// <summary>Rows of V' of each block // (L, p_k, D).</summary>
    public IReadOnlyList<IReadOnlyList<float[]>> Read { get; }

    /// <summary>Columns of Y of each block // (L, p_k, D).</summary>
    public IReadOnlyList<IReadOnlyList<float[]>> Push { get; }

    /// <summary>Makes the method of the factors of solved gains; p_k is the rank of a factored or reduced gain, and D for a dense gain.</summary>
    /// <param name="feature">The feature for which the gains were solved.</param>
    /// <param name="record">x̄_0..x̄_{L-1}, for example the states of a prompt's last token // (L, D).</param>
    /// <param name="gains">K_0..K_{L-1}.</param>
    /// <param name="layers">Steered blocks; null for all.</param>
    /// <exception cref="ArgumentException">Lengths disagree, or a factor does not fit in float32.</exception>
    public static Trajectory FromGains(Feature feature, IReadOnlyList<float[]> record, IReadOnlyList<Gain> gains, LayerSet? layers = null)
    {
        if (gains.Count != feature.L)
        {
            throw new ArgumentException($"{gains.Count} gains for a feature of {feature.L} blocks.", nameof(gains));
        }

        (IReadOnlyList<float[]> Push, IReadOnlyList<float[]> Read)[] factors = [.. gains.Select(gain =>
        {
            var (left, right) = gain.Factors();
            return (Columns(left), Columns(right));
        })];
        return new Trajectory(feature, record, [.. factors.Select(f => f.Read)], [.. factors.Select(f => f.Push)], layers);
    }

    private protected override IEnumerable<double> Parameters => Record.Concat(Read.Concat(Push).SelectMany(f => f))
        .SelectMany(row => row, (_, x) => (double)x);

    private protected override IEnumerable<int> Steered() => Layers.Blocks.Where(k => Push[k].Any(row => row.AsSpan().ContainsAnyExcept(0)));

    private protected override void Compile(double lambda, LawParts parts)
    {
        foreach (int k in lambda == 0 ? [] : Steered())
        {
            for (int j = 0; j < Read[k].Count; j++)
            {
                int sensor = parts.Add(new Sensor(k, Read[k][j], (float)Feature.Dot(Read[k][j], Record[k])));
                parts.Terms.Add(new Term(k, Push[k][j], 0, new Feed(sensor, (float)lambda)));
            }
        }
    }

    private static float[][] Columns(Matrix<double> m) =>
        [.. m.EnumerateColumns().Select(column => Array.ConvertAll(column.ToArray(), x => (float)x))];
}
