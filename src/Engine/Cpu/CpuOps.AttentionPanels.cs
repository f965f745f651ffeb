using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cpu;

// Attention of many rows of one sequence. Sixteen queries stand side by side, so that a block of keys against them is a tile of a product, and so are
// the block's weights against its values. The softmax is taken online (arXiv:1805.02867): with m the largest score so far, l = Σ_j e^(z_j − m) and
// o = Σ_j e^(z_j − m) v_j, a block whose largest score is m' > m scales both by e^(m − m'); at the end o / l is the head's output.
// Blocks of keys begin at the same positions for every row, so that a row's bits depend on no other row.
internal sealed unsafe partial class CpuOps
{
    // Queries of a panel: the columns of a tile.
    private const int PanelRows = 16;

    // Keys of a block: their scores stay in the nearest cache.
    private const int PanelKeys = 192;

    /// <summary>
    /// Cuts the value rows: runs of one sequence's rows without tangents, longer than those that must have the bits of lone rows, into panels, all
    /// others into single rows. Returns how many; <paramref name="panels"/> has room for all rows.
    /// </summary>
    private static int CutPanels(RowBatch rows, Panel* panels)
    {
        int count = 0;
        int end;
        for (int begin = 0; begin < rows.Values; begin = end)
        {
            end = begin + 1;
            for (; end < rows.Values && IsPlain(rows, end - 1) && IsPlain(rows, end) && Follows(rows, end); end++)
            {
            }

            bool alone = end - begin <= CpuLinear.DotRows;
            int width = alone ? 1 : PanelRows;
            for (int first = begin; first < end; first += width)
            {
                panels[count++] = new Panel { First = first, Rows = Math.Min(width, end - first), IsAlone = alone };
            }
        }

        return count;
    }

    private static bool IsPlain(RowBatch rows, int row) => rows.TangentGroups.Begin(row) == rows.TangentGroups.End(row);

    private static bool Follows(RowBatch rows, int row) =>
        ReferenceEquals(rows[row].Cache, rows[row - 1].Cache) && rows[row].Position == rows[row - 1].Position + 1;

    /// <summary>One part: the heads of one key/value head for one panel.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AttendPanel(ref AttentionJob job, Panel panel, int group)
    {
        var (c, a) = (job.C, job.A);
        int size = c.E, heads = c.H / c.G, panelNumbers = size * PanelRows, firstHead = group * heads;
        ref readonly var row = ref job.Rows[panel.First];
        int position = row.Position, end = position + panel.Rows;
        var (keys, values) = (row.Cache.Keys(job.K, group), row.Cache.Values(job.K, group));

        // For every head: queries // (E, 16), their output // (E, 16), m and l // (16). Then the scores of a block // (PanelKeys, 16).
        int perHead = (2 * panelNumbers) + (2 * PanelRows);
        float* memory = HostScratch.ForPart(((long)heads * perHead) + (PanelKeys * PanelRows));
        float* scores = memory + ((nint)heads * perHead);
        for (int h = 0; h < heads; h++)
        {
            float* queries = memory + ((nint)h * perHead);
            PackQueries(ref job, panel, firstHead + h, queries);
            float* state = queries + panelNumbers;
            new Span<float>(state, panelNumbers + (2 * PanelRows)).Clear();
            new Span<float>(state + panelNumbers, PanelRows).Fill(float.NegativeInfinity);
        }

        int lastBegin = WindowBegin(ref job, end);
        for (int first = WindowBegin(ref job, position + 1) / PanelKeys * PanelKeys; first < end; first += PanelKeys)
        {
            int count = Math.Min(PanelKeys, end - first);
            bool allSeen = first + count <= position + 1 && first >= lastBegin;
            for (int h = 0; h < heads; h++)
            {
                float* queries = memory + ((nint)h * perHead);
                float* sums = queries + panelNumbers;
                PanelTiles.Rows(job.Wide, keys.Row(first), size, count, queries, size, scores);
                if (c.AttentionSoftCap > 0)
                {
                    SoftCap(new Span<float>(scores, count * PanelRows), c.AttentionSoftCap);
                }

                if (!allSeen)
                {
                    HideOthers(ref job, position, first, count, scores);
                }

                AddToSoftmax(scores, count, sums, size, sums + panelNumbers, sums + panelNumbers + PanelRows);
                PanelTiles.Columns(job.Wide, values.Row(first), size, size, scores, count, sums);
            }
        }

        for (int h = 0; h < heads; h++)
        {
            float* sums = memory + ((nint)h * perHead) + panelNumbers;
            PutPanel(a.Heads, panel, (firstHead + h) * size, size, sums, sums + panelNumbers + PanelRows);
        }
    }

    /// <summary>The panel's queries of a head, scaled, on their side; zero where there is no row.</summary>
    private static void PackQueries(ref AttentionJob job, Panel panel, int head, float* queries)
    {
        var (c, qkv) = (job.C, job.A.Qkv);
        for (int half = 0; half < PanelRows; half += 8)
        {
            int e = 0;
            float* from = qkv.Row(panel.First + Math.Min(half, panel.Rows - 1)) + (head * c.E);
            for (; panel.Rows - half >= 8 && e <= c.E - 8; e += 8)
            {
                VectorMath.Transpose8x8(from + e, qkv.Columns, queries + (e * PanelRows) + half, PanelRows);
            }

            for (; e < c.E; e++)
            {
                for (int i = half; i < half + 8; i++)
                {
                    queries[(e * PanelRows) + i] = i < panel.Rows ? qkv.Row(panel.First + i)[(head * c.E) + e] : 0;
                }
            }
        }

        var all = new Span<float>(queries, c.E * PanelRows);
        TensorPrimitives.Multiply(all, c.ScoreScale, all);
    }

    /// <summary>Scores of keys that come after a row's own token, or before its window, become −∞.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void HideOthers(ref AttentionJob job, int position, int first, int count, float* scores)
    {
        int* begins = stackalloc int[PanelRows];
        for (int i = 0; i < PanelRows; i++)
        {
            begins[i] = WindowBegin(ref job, position + i + 1);
        }

        for (int half = 0; half < PanelRows; half += 8)
        {
            var own = Vector256.Create(position + half) + Vector256<int>.Indices;
            var begin = Vector256.Load(begins + half);
            float* s = scores + half;
            for (int j = 0; j < count; j++, s += PanelRows)
            {
                var key = Vector256.Create(first + j);
                var hidden = Vector256.GreaterThan(key, own) | Vector256.LessThan(key, begin);
                Vector256.ConditionalSelect(hidden.AsSingle(), Vector256.Create(float.NegativeInfinity), Vector256.Load(s)).Store(s);
            }
        }
    }

    /// <summary>Scores z // (count, 16) become e^(z − m), m the largest so far; sums so far, and l, are scaled to it, and l has theirs.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddToSoftmax(float* scores, int count, float* sums, int size, float* largest, float* total)
    {
        float* change = stackalloc float[PanelRows];
        float* scale = stackalloc float[PanelRows];
        for (int half = 0; half < PanelRows; half += 8)
        {
            var before = Vector256.Load(largest + half);
            var top = before;
            float* s = scores + half;
            for (int j = 0; j < count; j++, s += PanelRows)
            {
                top = Vector256.MaxNative(top, Vector256.Load(s));
            }

            top.Store(largest + half);

            // Of a row that has seen no key yet nothing is subtracted: −∞ − −∞ is no number.
            top = Vector256.ConditionalSelect(
                Vector256.Equals(top, Vector256.Create(float.NegativeInfinity)), Vector256<float>.Zero, top);
            (before - top).Store(change + half);
            s = scores + half;
            for (int j = 0; j < count; j++, s += PanelRows)
            {
                (Vector256.Load(s) - top).Store(s);
            }
        }

        var weights = new Span<float>(scores, count * PanelRows);
        TensorPrimitives.Exp(weights, weights);
        TensorPrimitives.Exp(new ReadOnlySpan<float>(change, PanelRows), new Span<float>(scale, PanelRows));
        for (int half = 0; half < PanelRows; half += 8)
        {
            var sum = Vector256<float>.Zero;
            float* s = scores + half;
            for (int j = 0; j < count; j++, s += PanelRows)
            {
                sum += Vector256.Load(s);
            }

            // Its e^0 is not quite one, and a block that a row does not see must leave its bits alone.
            var unchanged = Vector256.Equals(Vector256.Load(change + half), Vector256<float>.Zero);
            var shrink = Vector256.ConditionalSelect(unchanged, Vector256<float>.One, Vector256.Load(scale + half));
            Vector256.MultiplyAddEstimate(shrink, Vector256.Load(total + half), sum).Store(total + half);
            s = sums + half;
            for (int e = 0; e < size; e++, s += PanelRows)
            {
                (shrink * Vector256.Load(s)).Store(s);
            }
        }
    }

    /// <summary>y = o / l, upright again.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PutPanel(Floats heads, Panel panel, int column, int size, float* sums, float* total)
    {
        for (int half = 0; half < PanelRows; half += 8)
        {
            var sum = Vector256.Load(total + half);
            float* s = sums + half;
            for (int e = 0; e < size; e++, s += PanelRows)
            {
                (Vector256.Load(s) / sum).Store(s);
            }

            int done = 0;
            for (; panel.Rows - half >= 8 && done <= size - 8; done += 8)
            {
                VectorMath.Transpose8x8(
                    sums + (done * PanelRows) + half, PanelRows, heads.Row(panel.First + half) + column + done, heads.Columns);
            }

            for (int i = half; i < Math.Min(half + 8, panel.Rows); i++)
            {
                float* to = heads.Row(panel.First + i) + column;
                for (int e = done; e < size; e++)
                {
                    to[e] = sums[(e * PanelRows) + i];
                }
            }
        }
    }

    /// <summary>Value rows that go together: consecutive ones of one sequence.</summary>
    private struct Panel
    {
        public int First;
        public int Rows;

        /// <summary>One row, which takes the way of a row in a step of few.</summary>
        public bool IsAlone;
    }
}
