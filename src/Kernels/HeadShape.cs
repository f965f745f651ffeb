namespace Tiller.Kernels;

/// <summary>How a row of queries, keys and values is cut into heads (letters as in the model's configuration).</summary>
/// <param name="H">Query heads.</param>
/// <param name="G">Key/value heads.</param>
/// <param name="E">Head size, even.</param>
internal readonly record struct HeadShape(int H, int G, int E)
{
    /// <summary>Numbers of queries, keys and values: (H + 2G) E.</summary>
    public int QkvWidth => (H + (2 * G)) * E;

    /// <summary>Numbers of queries and keys, which are turned: (H + G) E.</summary>
    public int QkWidth => (H + G) * E;
}

/// <summary>An RMSNorm with its weights.</summary>
/// <param name="Weight">g // (1, D).</param>
/// <param name="Epsilon">ε.</param>
internal readonly record struct RmsNorm(Floats Weight, float Epsilon);

/// <summary>Norms of single heads before they are turned, or of all of them together; <c>default</c> for a model without them.</summary>
/// <param name="Query">g of the queries // (1, E), or (1, H E) of all.</param>
/// <param name="Key">g of the keys // (1, E), or (1, G E) of all.</param>
/// <param name="Epsilon">ε of both.</param>
internal readonly record struct HeadNorms(Floats Query, Floats Key, float Epsilon)
{
    /// <summary>Whether the model has none.</summary>
    public bool AreAbsent => Query.IsAbsent;
}
