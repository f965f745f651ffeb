namespace Tiller.Law;

/// <summary>Where in a block an edit acts, in the order in which a token comes there.</summary>
public enum EditPoint
{
    /// <summary>The residual stream that enters the block, after the terms of <see cref="Hook.Input"/> and before anything reads it.</summary>
    Input,

    /// <summary>What attention adds to the residual stream, before the norm behind it where a family has one.</summary>
    Attention,

    /// <summary>What the feed-forward part adds to the residual stream, before the norm behind it where a family has one.</summary>
    FeedForward,

    /// <summary>The residual stream that leaves the block, after the terms.</summary>
    Output,
}

/// <summary>
/// A change of a token's activation that no sensors and terms express (docs/math.md §6): z ← f(z) at one point of one block. An edit belongs to a
/// <see cref="FeedbackLaw"/> and acts on the tokens that the law moves. At a point the edits act in the law's order, after the terms. A new kind is
/// a type in a file of its own with its arithmetic on the CPU, a case of <c>CudaEdits</c>, and a function of edit.cu.
/// </summary>
public abstract record ActivationEdit
{
    private protected ActivationEdit(int layer, EditPoint point, float strength) => (Layer, Point, Strength) = (layer, point, strength);

    /// <summary>Block k.</summary>
    public int Layer { get; }

    /// <summary>Where in the block.</summary>
    public EditPoint Point { get; }

    /// <summary>How much of it is done; its meaning is the kind's.</summary>
    public float Strength { get; }

    /// <summary>
    /// Index of a sensor that switches the edit, token by token, as <see cref="Term.Gate"/> switches a term; the default, −1, is no gate.
    /// </summary>
    public int Gate { get; init; } = -1;

    /// <summary>Index of a condition of the law that the prompt must meet, as <see cref="Term.Condition"/>; the default, −1, is none.</summary>
    public int Condition { get; init; } = -1;

    /// <summary>Whether the rows of a pass decide together, so that it must be the last edit of its point.</summary>
    internal virtual bool JoinsRows => false;

    /// <summary>Its vectors, which laws of one controller share // any lengths.</summary>
    internal abstract IReadOnlyList<float[]> Vectors { get; }

    /// <summary>Throws where a vector has not the model's width, or a number is not finite.</summary>
    /// <exception cref="ArgumentException">A length or a number is out of range.</exception>
    internal virtual void Check(int width)
    {
        if (!float.IsFinite(Strength))
        {
            throw new ArgumentException($"The strength of an edit at layer {Layer} is {Strength}; it must be finite.");
        }

        foreach (float[] vector in Vectors)
        {
            if (vector.Length != width || vector.AsSpan().ContainsAnyExceptInRange(float.MinValue, float.MaxValue))
            {
                throw new ArgumentException(
                    $"A vector of an edit at layer {Layer} has {vector.Length} numbers; it must have {width}, the model's width, all finite.");
            }
        }
    }

    /// <summary>z ← f(z) of one token, on the CPU // (D).</summary>
    internal abstract void Apply(Span<float> z);
}
