using Tiller.Features;
using Tiller.Law;

namespace Tiller.Controllers;

/// <summary>
/// Linear-AcT (arXiv:2410.23054): every neuron of a block's output goes by an affine map of its own, fitted as the optimal transport of its values
/// at negative prompts to those at positive ones, and only inside the range that it was fitted on. λ is the strength s: y ← y + s (w y + b − y).
/// </summary>
public sealed class ActivationTransport : SteeringMethod
{
    /// <summary>Maps at these blocks.</summary>
    /// <param name="feature">The difference between the prompts.</param>
    /// <param name="slope">w // (L, D).</param>
    /// <param name="offset">b // (L, D).</param>
    /// <param name="low">Lower ends of the ranges // (L, D).</param>
    /// <param name="high">Upper ends; no more than the lower one for a neuron that is left alone // (L, D).</param>
    /// <param name="layers">Steered blocks; null for all.</param>
    /// <exception cref="ArgumentException">Lengths disagree, or a number is not finite.</exception>
    public ActivationTransport(
        Feature feature, IReadOnlyList<float[]> slope, IReadOnlyList<float[]> offset, IReadOnlyList<float[]> low, IReadOnlyList<float[]> high,
        LayerSet? layers = null)
        : base(feature, layers)
    {
        CheckRows(feature, slope, nameof(slope));
        CheckRows(feature, offset, nameof(offset));
        CheckRows(feature, low, nameof(low));
        CheckRows(feature, high, nameof(high));
        (Slope, Offset, Low, High) = (slope, offset, low, high);
    }

    /// <inheritdoc/>
    public override string Name => "linear-act";

    /// <summary>w // (L, D).</summary>
    public IReadOnlyList<float[]> Slope { get; }

    /// <summary>b // (L, D).</summary>
    public IReadOnlyList<float[]> Offset { get; }

    /// <summary>Lower ends of the ranges // (L, D).</summary>
    public IReadOnlyList<float[]> Low { get; }

    /// <summary>Upper ends of the ranges // (L, D).</summary>
    public IReadOnlyList<float[]> High { get; }

    private protected override IEnumerable<double> Parameters =>
        Slope.Concat(Offset).Concat(Low).Concat(High).SelectMany(row => row, (_, x) => (double)x);

    private protected override IEnumerable<int> Steered() =>
        Layers.Blocks.Where(k => Low[k].Zip(High[k], (low, high) => low < high).Any(moves => moves));

    private protected override void Compile(double lambda, LawParts parts)
    {
        if (lambda != 0)
        {
            parts.Edits.AddRange(
                Steered().Select(k => new AffineEdit(k, EditPoint.Output, (float)lambda, Slope[k], Offset[k], Low[k], High[k])));
        }
    }
}
