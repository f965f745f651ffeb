using System.Runtime.InteropServices;

namespace Tiller.Kernels;

/// <summary>How a stage of attention is cut into launches, and where it keeps what in its scratch (offsets in bytes).</summary>
internal struct AttentionPlan
{
    private const int MaxChunks = 32;          // and the least positions of one: attention.cuh
    private const int Counters = 4096;         // of a module
    private const int TangentsPerLaunch = 128; // streamed ones
    private const int TileTangents = 32;       // that one block takes at most
    private const long PartialInBytes = 64L << 20;

    /// <summary>No row sees more positions.</summary>
    public int Visible;

    /// <summary>No row has more chunks.</summary>
    public int Chunks;

    /// <summary>Value rows of a launch, or streamed tangent rows.</summary>
    public int RowsPerLaunch;

    /// <summary>Numbers of z from one head to the next.</summary>
    public int ZStride;

    /// <summary>Maxima and sums // (rows, H, Chunks) float2.</summary>
    public long Stats;

    /// <summary>Scores // (slots, H, ZStride).</summary>
    public long Z;

    /// <summary>M // (dense rows, H, E, E).</summary>
    public long M;

    /// <summary>Chunks' sums // (rows, H, Chunks, E).</summary>
    public long Partial;

    /// <summary>Chunks' Σ s_j // (rows, H, Chunks).</summary>
    public long PartialTotals;

    /// <summary>Bytes in all; never less for more rows, longer ones or a wider window.</summary>
    public long End;

    /// <summary>From so many tangents of a value row on, M is formed.</summary>
    public static int DenseFrom(in AttentionShape shape) => Math.Max(1, shape.E / 2);

    /// <summary>The plan of value rows.</summary>
    public static AttentionPlan Forward(in AttentionShape shape, int values, int longest)
    {
        AttentionPlan plan = Sized(shape, longest);
        int groups = shape.G * (((shape.H / shape.G) + 7) / 8);
        long lines = (long)shape.H * plan.Chunks, perRow = 4 * lines * (shape.E + 2), allowed = Math.Max(perRow, PartialInBytes);
        plan.RowsPerLaunch = (int)Math.Clamp(allowed / perRow, 1, Math.Max(1, Math.Min(values, Counters / groups)));
        plan.Stats = plan.Add(8 * lines * plan.RowsPerLaunch);
        plan.Partial = plan.Add(4 * lines * shape.E * plan.RowsPerLaunch);
        plan.End = Math.Min(perRow * values, allowed) + 512; // two times 256 of rounding
        return plan;
    }

    /// <summary>The plan of tangent or cotangent rows, of which one value row has <paramref name="most"/> at most.</summary>
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
        // The last tangent of a launch may begin a tile.
        long streamed = (long)(Math.Min(plan.RowsPerLaunch, tangents) + TileTangents) * shape.H * plan.Chunks;
        plan.Partial = plan.Add(16 * streamed * ((shape.E + 3) / 4));
        plan.PartialTotals = plan.Add(4 * streamed);
        return plan;
    }

    // c >= 32 positions make a chunk, and c >= n/32.
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

/// <summary>TillerAttention of attention.cuh, where the fields are explained.</summary>
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
