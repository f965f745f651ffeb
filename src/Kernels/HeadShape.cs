namespace Tiller.Kernels;

/// <summary>How a row of queries, keys and values is divided into heads. Letters are those of the model's configuration.</summary>
/// <param name="H">Number of query heads.</param>
/// <param name="G">Number of key/value heads.</param>
/// <param name="E">Numbers in a head; even.</param>
internal readonly record struct HeadShape(int H, int G, int E)
{
    /// <summary>Length of a row of queries, keys and values: (H + 2G) E.</summary>
    public int QkvWidth => (H + (2 * G)) * E;

    /// <summary>Length of the part with queries and keys, which RoPE rotates: (H + G) E.</summary>
    public int QkWidth => (H + G) * E;
}

/// <summary>An RMSNorm with its weights.</summary>
/// <param name="Weight">g // (1, D).</param>
/// <param name="Epsilon">ε.</param>
internal readonly record struct RmsNorm(Floats Weight, float Epsilon);

/// <summary>Norms of queries and keys before RoPE, of single heads or of all heads together; <c>default</c> for a model without them.</summary>
/// <param name="Query">Weights g of the queries: // (1, E) for single heads, // (1, H E) for all together.</param>
/// <param name="Key">Weights g of the keys: // (1, E) for single heads, // (1, G E) for all together.</param>
/// <param name="Epsilon">ε of both norms.</param>
internal readonly record struct HeadNorms(Floats Query, Floats Key, float Epsilon)
{
    /// <summary>Whether the model has no such norms.</summary>
    public bool AreAbsent => Query.IsAbsent;
}
