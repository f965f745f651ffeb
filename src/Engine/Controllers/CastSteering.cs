using Tiller.Features;
using Tiller.Law;

namespace Tiller.Controllers;

/// <summary>What is done about the length of a state that a vector was added to.</summary>
public enum NormRule
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>A token that grew is scaled back to its length.</summary>
    Token,

    /// <summary>
    /// As published: as soon as one token of a pass grew, all of them are scaled to their lengths (<see cref="NormKeepingEdit.WholePass"/>).
    /// </summary>
    Pass,
}

/// <summary>
/// The behaviour of CAST (IBM/activation-steering, arXiv:2409.05907): x ← x + λ c_k at the input of a block. Its condition on the prompt is a
/// <see cref="Conditional"/> around it.
/// </summary>
public sealed class CastSteering : SteeringMethod
{
    /// <summary>Adds at these blocks.</summary>
    /// <param name="feature">The difference between the prompts.</param>
    /// <param name="vectors">c, 0 at blocks that are left alone // (L, D).</param>
    /// <param name="norm">What is done about lengths.</param>
    /// <param name="layers">Steered blocks; null for all.</param>
    /// <exception cref="ArgumentException">Lengths disagree, or a number is not finite.</exception>
    public CastSteering(Feature feature, IReadOnlyList<float[]> vectors, NormRule norm = NormRule.None, LayerSet? layers = null)
        : base(feature, layers)
    {
        CheckRows(feature, vectors, nameof(vectors));
        (Vectors, Norm) = (vectors, norm);
    }

    /// <inheritdoc/>
    public override string Name => "cast";

    /// <summary>c // (L, D).</summary>
    public IReadOnlyList<float[]> Vectors { get; }

    /// <summary>What is done about lengths.</summary>
    public NormRule Norm { get; }

    private protected override IEnumerable<double> Parameters => [(double)Norm, .. Vectors.SelectMany(row => row, (_, x) => (double)x)];

    private protected override IEnumerable<int> Steered() => Layers.Blocks.Where(k => Vectors[k].AsSpan().ContainsAnyExcept(0));

    private protected override void Compile(double lambda, LawParts parts)
    {
        float strength = (float)lambda;
        foreach (int k in lambda == 0 ? [] : Steered())
        {
            if (Norm == NormRule.None)
            {
                parts.Terms.Add(new Term(k, Vectors[k], strength) { Hook = Hook.Input });
            }
            else
            {
                parts.Edits.Add(new NormKeepingEdit(k, EditPoint.Input, strength, Vectors[k], WholePass: Norm == NormRule.Pass));
            }
        }
    }
}
