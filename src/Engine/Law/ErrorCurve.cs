namespace Tiller.Law;

/// <summary>
/// An odd function φ of an error, for a strength that is no multiple of it. Up to the knee |e| ≤ κ it is φ(e) = (y_n/κ) e; beyond, a cubic between
/// nodes of q = κ/|e|, which is 1 at the knee and 0 for an infinite error (docs/math.md §6).
/// </summary>
public sealed record ErrorCurve
{
    private readonly float[] _nodes;
    private readonly float[] _values;
    private readonly float[] _slopes;

    /// <summary>Checks and stores a curve; the arrays are not copied.</summary>
    /// <param name="nodes">q at the nodes, from 0 up to 1 // (n).</param>
    /// <param name="values">φ at the nodes, in units of <paramref name="scale"/> // (n).</param>
    /// <param name="slopes">dφ/dq at the nodes, in the same units // (n).</param>
    /// <param name="knee">κ in the same units, above 0.</param>
    /// <param name="scale">The unit of φ and κ, above 0: φ(e) = scale · φ₁(e / scale) with φ₁ the curve of the unit 1.</param>
    /// <exception cref="ArgumentException">Lengths disagree, nodes do not rise from 0 to 1, or a number is out of range.</exception>
    public ErrorCurve(float[] nodes, float[] values, float[] slopes, float knee, float scale)
    {
        ArgumentNullException.ThrowIfNull(nodes);
        ArgumentNullException.ThrowIfNull(values);
        ArgumentNullException.ThrowIfNull(slopes);
        if (nodes.Length < 2 || values.Length != nodes.Length || slopes.Length != nodes.Length)
        {
            throw new ArgumentException(
                $"A curve needs two nodes or more, each with a value and a slope, got {nodes.Length}, {values.Length} and {slopes.Length}.",
                nameof(nodes));
        }

        bool rises = nodes[0] == 0 && nodes[^1] == 1;
        for (int i = 1; i < nodes.Length; i++)
        {
            rises &= nodes[i - 1] < nodes[i];
        }

        if (!rises)
        {
            throw new ArgumentException("The nodes of a curve must rise from 0 to 1.", nameof(nodes));
        }

        if (values.Concat(slopes).Any(x => !float.IsFinite(x)))
        {
            throw new ArgumentException("A value or a slope of a curve is not finite.", nameof(values));
        }

        (_nodes, _values, _slopes, Scale) = (nodes, values, slopes, scale);
        Knee = scale * knee;
        Slope = scale * values[^1] / Knee;
        if (!(scale > 0 && float.IsNormal(Knee) && Knee > 0 && float.IsFinite(Slope)))
        {
            throw new ArgumentOutOfRangeException(
                nameof(knee), $"{knee} times {scale}",
                "The knee and the scale of a curve must be above 0, and neither too large nor too small for float32.");
        }
    }

    /// <summary>κ.</summary>
    public float Knee { get; }

    /// <summary>dφ/de up to the knee.</summary>
    public float Slope { get; }

    /// <summary>The unit of values and slopes.</summary>
    public float Scale { get; }

    /// <summary>q at the nodes // (n).</summary>
    public ReadOnlySpan<float> Nodes() => _nodes;

    /// <summary>φ at the nodes, in units of <see cref="Scale"/> // (n).</summary>
    public ReadOnlySpan<float> Values() => _values;

    /// <summary>dφ/dq at the nodes, in units of <see cref="Scale"/> // (n).</summary>
    public ReadOnlySpan<float> Slopes() => _slopes;

    /// <summary>Whether another curve has the same arrays, so that only its scale may differ.</summary>
    internal bool HasArraysOf(ErrorCurve other) =>
        ReferenceEquals(_nodes, other._nodes) && ReferenceEquals(_values, other._values) && ReferenceEquals(_slopes, other._slopes);

    /// <summary>Whether another curve has the same nodes.</summary>
    internal bool HasNodesOf(ErrorCurve other) => ReferenceEquals(_nodes, other._nodes);

    /// <summary>Value and slope at each node, as devices read them // (n, 2).</summary>
    internal float[] Cubics()
    {
        float[] cubics = new float[2 * _nodes.Length];
        for (int i = 0; i < _nodes.Length; i++)
        {
            (cubics[2 * i], cubics[(2 * i) + 1]) = (_values[i], _slopes[i]);
        }

        return cubics;
    }

    /// <summary>φ(e).</summary>
    /// <param name="error">e; NaN gives NaN.</param>
    public float At(float error)
    {
        float size = MathF.Abs(error);
        if (!(size > Knee))
        {
            return Slope * error;
        }

        var (i, t, width, bend, twist) = Piece(Knee / size);
        float value = _values[i] + (t * ((width * _slopes[i]) + (t * (bend + (t * twist)))));
        return MathF.CopySign(Scale, error) * value;
    }

    /// <summary>dφ/de; at the knee, that below it.</summary>
    /// <param name="error">e.</param>
    public float SlopeAt(float error)
    {
        float size = MathF.Abs(error);
        if (!(size > Knee))
        {
            return Slope;
        }

        float q = Knee / size;
        var (i, t, width, bend, twist) = Piece(q);
        return -Scale * (_slopes[i] + (t * ((2 * bend) + (3 * t * twist)) / width)) * q / size;
    }

    // The cubic of the cell i of q: y_i + t (h y'_i + t (b + t c)) with the cell's width h, t = (q − q_i)/h, Δ = y_{i+1} − y_i,
    // b = 3Δ − h (2y'_i + y'_{i+1}) and c = h (y'_i + y'_{i+1}) − 2Δ.
    private (int Cell, float T, float Width, float Bend, float Twist) Piece(float q)
    {
        int i = 0;
        for (int end = _nodes.Length - 1; end - i > 1;)
        {
            int middle = (i + end) / 2;
            (i, end) = _nodes[middle] <= q ? (middle, end) : (i, middle);
        }

        float width = _nodes[i + 1] - _nodes[i], rise = _values[i + 1] - _values[i], first = width * _slopes[i], last = width * _slopes[i + 1];
        return (i, (q - _nodes[i]) / width, width, (3 * rise) - (2 * first) - last, first + last - (2 * rise));
    }
}
