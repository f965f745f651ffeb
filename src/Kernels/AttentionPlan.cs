using System.Runtime.InteropServices;

namespace Tiller.Kernels;

/// <summary>How a stage of attention is divided into launches, and the layout of its scratch memory (offsets in bytes).</summary>
internal struct AttentionPlan
{
    private const int MaxChunks = 32;          // of a row; attention.cuh has the same number, and 32 as the least positions of a chunk
    private const int Counters = 4096;         // in a module, one for each row and group of heads of a launch
    private const int TangentsPerLaunch = 128; // of value rows whose tangents stream keys and values
    private const int TileTangents = 32;       // maximum of a block
    private const long PartialInBytes = 64L << 20;

    /// <summary>Upper bound for the number of positions that a row sees.</summary>
    public int Visible;

    /// <summary>Upper bound for the number of chunks into which a row's positions are divided.</summary>
    public int Chunks;

    /// <summary>Number of value rows, or of streamed tangent rows, in a launch.</summary>
    public int RowsPerLaunch;

    /// <summary>Distance between the scores z of two heads, in numbers.</summary>
    public int ZStride;

    /// <summary>Offset of each chunk's maximum and sum // (rows, H, Chunks) float2.</summary>
    public long Stats;

    /// <summary>Offset of the scores // (slots, H, ZStride).</summary>
    public long Z;

    /// <summary>Offset of M // (dense rows, H, E, E).</summary>
    public long M;

    /// <summary>Offset of the chunks' sums // (rows, H, Chunks, E).</summary>
    public long Partial;

    /// <summary>Offset of the chunks' Σ s_j // (rows, H, Chunks).</summary>
    public long PartialTotals;

    /// <summary>Size in bytes. It does not decrease if there are more rows, longer sequences or a wider window.</summary>
    public long End;

    /// <summary>M is formed for value rows with at least this number of tangents.</summary>
    public static int DenseFrom(in AttentionShape shape) => Math.Max(1, shape.E / 2);

    /// <summary>Plan for value rows.</summary>
    public static AttentionPlan Forward(in AttentionShape shape, int values, int longest)
    {
        AttentionPlan plan = Sized(shape, longest);
        int groups = shape.G * (((shape.H / shape.G) + 7) / 8);
        long lines = (long)shape.H * plan.Chunks, perRow = 4 * lines * (shape.E + 2), allowed = Math.Max(perRow, PartialInBytes);
        plan.RowsPerLaunch = (int)Math.Clamp(allowed / perRow, 1, Math.Max(1, Math.Min(values, Counters / groups)));
        plan.Stats = plan.Add(8 * lines * plan.RowsPerLaunch);
        plan.Partial = plan.Add(4 * lines * shape.E * plan.RowsPerLaunch);
        plan.End = Math.Min(perRow * values, allowed) + 512; // Add rounds two sizes up to 256
        return plan;
    }

    /// <summary>Plan for tangent or cotangent rows, at most <paramref name="most"/> of which belong to one value row.</summary>
    public static AttentionPlan Tangents(in AttentionShape shape, int values, int tangents, int most, int longest)
    {
        AttentionPlan plan = Sized(shape, longest);
        int dense = DenseFrom(shape);
        plan.RowsPerLaunch = Math.Max(1, Math.Min(TangentsPerLaunch, Counters / shape.G));
        if (tangents == 0)
        {
            return plan;
        }

        long lines = (long)Math.Min(values, tangents) * shape.H;
        plan.Stats = plan.Add(8 * lines * plan.Chunks);
        plan.Z = plan.Add(4 * lines * plan.ZStride);
        plan.M = plan.Add(most >= dense ? 4L * (tangents / dense) * shape.H * shape.E * shape.E : 0);
        // The last tangent of a launch may be the first of a tile.
        long streamed = (long)(Math.Min(plan.RowsPerLaunch, tangents) + TileTangents) * shape.H * plan.Chunks;
        plan.Partial = plan.Add(16 * streamed * ((shape.E + 3) / 4));
        plan.PartialTotals = plan.Add(4 * streamed);
        return plan;
    }

    // A chunk has c positions, where c >= 32 and c >= n/32 for n visible positions.
    private static AttentionPlan Sized(in AttentionShape shape, int longest)
    {
        int visible = shape.Window > 0 ? Math.Min(longest, shape.Window) : longest;
        return new AttentionPlan { Visible = visible, Chunks = Math.Min(MaxChunks, (visible + 31) / 32), ZStride = (visible + 3) / 4 * 4 };
    }

    private long Add(long sizeInBytes)
    {
        long at = End;
        End += (sizeInBytes + 255) / 256 * 256;
        return at;
    }
}

/// <summary>The struct TillerAttention of attention.cuh, which explains the fields.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct AttentionParameters
{
    public nint Rows;
    public nint Owners;
    public nint GroupBegin;
    public nint Qkv;
    public nint Heads;
    public nint HeadsBar;
    public nint QkvBar;
    public nint Partial;
    public nint PartialTotals;
    public nint Stats;
    public nint Z;
    public nint M;
    public int Layer;
    public int H;
    public int G;
    public int E;
    public float Scale;
    public float SoftCap;
    public int Window;
    public int Values;
    public int Tangents;
    public int First;
    public int Bound;
    public int ChunkBound;
    public int ZStride;
    public int Pull;
    public int Early;

    public AttentionParameters(in AttentionShape shape, AttentionPlan plan, DeviceSpan<DeviceRow> rows, Floats qkv, Floats heads,
        DeviceSpan<byte> scratch)
    {
        (Rows, Values, Qkv, Heads) = (rows.Address, (int)rows.Length, qkv.Address, heads.Address);
        Partial = scratch.Address + (nint)plan.Partial;
        PartialTotals = scratch.Address + (nint)plan.PartialTotals;
        Stats = scratch.Address + (nint)plan.Stats;
        Z = scratch.Address + (nint)plan.Z;
        M = scratch.Address + (nint)plan.M;
        (Layer, H, G, E) = (shape.Layer, shape.H, shape.G, shape.E);
        (Scale, SoftCap, Window) = (shape.Scale, shape.SoftCap, shape.Window);
        (Bound, ChunkBound, ZStride) = (plan.Visible, plan.Chunks, plan.ZStride);
    }
}
