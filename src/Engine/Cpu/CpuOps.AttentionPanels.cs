using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cpu;

// Attention of many rows of one sequence. Sixteen queries are stored side by side, so that their scores with a block of keys are tiles of a product,
// and so are the weighted sums of the block's values. The softmax is computed online (arXiv:1805.02867). With m the largest score so far,
// l = Σ_j e^(z_j − m) and o = Σ_j e^(z_j − m) v_j, a block whose largest score is m' > m scales both by e^(m − m'); at the end, o / l is the head's
// output.
// Blocks of keys begin at the same positions for every row, so that a row's bits depend on no other row as long as all values are finite. A hidden
// key has the weight 0, but 0 times a NaN or an infinity is NaN: a value that is not finite reaches rows of its panel that do not attend to it.
internal sealed unsafe partial class CpuOps
{
    // Queries of a panel: the columns of a tile.
    private const int PanelRows = 16;

    // Keys of a block, so few that their scores stay in the first-level cache.
    private const int PanelKeys = 192;

    /// <summary>
    /// Divides the value rows into panels. A run of more than <see cref="CpuLinear.DotRows"/> consecutive rows of one sequence, all without tangents,
    /// becomes panels of up to 16 rows. Every other row is alone: it has the bits of a row in a decoding step. Without tangents it has a panel for
    /// each range of its keys, with tangents one for each head of a group. Returns the number of panels, and of the numbers that rows of several
    /// ranges leave in <paramref name="sums"/>. If <paramref name="panels"/> is null, they are only counted.
    /// </summary>
    private static (int Panels, long Numbers) CutPanels(ref AttentionJob job, Panel* panels, float* sums)
    {
        var (c, rows) = (job.C, job.Rows);
        int count = 0, end;
        long numbers = 0;
        for (int begin = 0; begin < rows.Values; begin = end)
        {
            end = begin + 1;
            for (; end < rows.Values && IsPlain(rows, end - 1) && IsPlain(rows, end) && Follows(rows, end); end++)
            {
            }

            bool alone = end - begin <= CpuLinear.DotRows;
            for (int first = begin; !alone && first < end; first += PanelRows)
            {
                Put(new Panel { First = first, Rows = Math.Min(PanelRows, end - first) });
            }

            for (int row = begin; alone && row < end; row++)
            {
                if (!IsPlain(rows, row))
                {
                    for (int head = 0; head < c.H / c.G; head++)
                    {
                        Put(new Panel { First = row, Rows = 1, IsAlone = true, Head = head });
                    }

                    continue;
                }

                int position = rows[row].Position + 1, ranges = RangesOf(position - WindowBegin(ref job, position));
                for (int range = 0; range < ranges; range++)
                {
                    Put(new Panel { First = row, Rows = 1, IsAlone = true, Range = range, Ranges = ranges, Sums = sums + numbers });
                }

                numbers += c.G * Ranges.Numbers(c.H / c.G, ranges, c.E);
            }
        }

        return (count, numbers);

        void Put(Panel panel)
        {
            if (panels is not null)
            {
                panels[count] = panel;
            }

            count++;
        }
    }

    private static bool IsPlain(RowBatch rows, int row) => rows.TangentGroups.Begin(row) == rows.TangentGroups.End(row);

    private static bool Follows(RowBatch rows, int row) =>
        ReferenceEquals(rows[row].Cache, rows[row - 1].Cache) && rows[row].Position == rows[row - 1].Position + 1;

    /// <summary>Runs one part: all heads of one key/value head, for one panel.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AttendPanel(ref AttentionJob job, Panel panel, int group)
    {
        var (c, a) = (job.C, job.A);
        int size = c.E, heads = c.H / c.G, panelNumbers = size * PanelRows, firstHead = group * heads;
        ref readonly var row = ref job.Rows[panel.First];
        int position = row.Position, end = position + panel.Rows;
        var (keys, values) = (row.Cache.Keys(job.K, group), row.Cache.Values(job.K, group));

        // For each head: queries // (E, 16), output // (E, 16), m and l // (16). Then of a block the scores // (PanelKeys, 16), and the keys and the
        // values // (PanelKeys, E) if they are not stored as float32.
        int perHead = (2 * panelNumbers) + (2 * PanelRows);
        float* memory = HostScratch.ForPart(((long)heads * perHead) + (PanelKeys * PanelRows) + (2 * keys.Widened(PanelKeys)));
        float* scores = memory + ((nint)heads * perHead);
        float* widened = scores + (PanelKeys * PanelRows);
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
            float* someKeys = keys.Read(first, count, widened);
            float* someValues = values.Read(first, count, widened + keys.Widened(count));
            bool allSeen = first + count <= position + 1 && first >= lastBegin;
            for (int h = 0; h < heads; h++)
            {
                float* queries = memory + ((nint)h * perHead);
                float* sums = queries + panelNumbers;
                PanelTiles.Rows(job.Wide, someKeys, size, count, queries, size, scores);
                if (c.AttentionSoftCap > 0)
                {
                    SoftCap(new Span<float>(scores, count * PanelRows), c.AttentionSoftCap);
                }

                if (!allSeen)
                {
                    HideOthers(ref job, position, first, count, scores);
                }

                AddToSoftmax(scores, count, sums, size, sums + panelNumbers, sums + panelNumbers + PanelRows);
                PanelTiles.Columns(job.Wide, someValues, size, size, scores, PanelRows, count, sums);
            }
        }

        for (int h = 0; h < heads; h++)
        {
            float* sums = memory + ((nint)h * perHead) + panelNumbers;
            PutPanel(a.Heads, panel, (firstHead + h) * size, size, sums, sums + panelNumbers + PanelRows);
        }
    }

    /// <summary>Packs the scaled queries of one head of a panel, transposed // (E, 16), with zeros for missing rows.</summary>
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

    /// <summary>Sets the scores of keys after a row's own token, or before its window, to −∞.</summary>
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

    /// <summary>
    /// Replaces the scores z // (count, 16) by e^(z − m), where m becomes the largest score so far; scales the sums and l so far to the new m, and
    /// adds the weights to l.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddToSoftmax(float* scores, int count, float* sums, int size, float* largest, float* total)
    {
        // Two keys at a time, so that no comparison waits for the one before.
        var (lower, upper) = (Vector256.Load(largest), Vector256.Load(largest + 8));
        var (otherLower, otherUpper) = (lower, upper);
        float* s = scores;
        int j = 0;
        for (; j <= count - 2; j += 2, s += 2 * PanelRows)
        {
            lower = Vector256.MaxNative(lower, Vector256.Load(s));
            upper = Vector256.MaxNative(upper, Vector256.Load(s + 8));
            otherLower = Vector256.MaxNative(otherLower, Vector256.Load(s + PanelRows));
            otherUpper = Vector256.MaxNative(otherUpper, Vector256.Load(s + PanelRows + 8));
        }

        if (j < count)
        {
            lower = Vector256.MaxNative(lower, Vector256.Load(s));
            upper = Vector256.MaxNative(upper, Vector256.Load(s + 8));
        }

        var shrinkLower = Grow(Vector256.MaxNative(lower, otherLower), largest, out lower);
        var shrinkUpper = Grow(Vector256.MaxNative(upper, otherUpper), largest + 8, out upper);
        var (sumLower, sumUpper) = (Vector256<float>.Zero, Vector256<float>.Zero);
        s = scores;
        for (j = 0; j < count; j++, s += PanelRows)
        {
            var weight = VectorMath.ExpOfNegative(Vector256.Load(s) - lower);
            var next = VectorMath.ExpOfNegative(Vector256.Load(s + 8) - upper);
            sumLower += weight;
            sumUpper += next;
            weight.Store(s);
            next.Store(s + 8);
        }

        Vector256.MultiplyAddEstimate(shrinkLower, Vector256.Load(total), sumLower).Store(total);
        Vector256.MultiplyAddEstimate(shrinkUpper, Vector256.Load(total + 8), sumUpper).Store(total + 8);
        s = sums;
        for (int e = 0; e < size; e++, s += PanelRows)
        {
            (shrinkLower * Vector256.Load(s)).Store(s);
            (shrinkUpper * Vector256.Load(s + 8)).Store(s + 8);
        }
    }

    // Stores the new m and returns e^(m so far − m). If a row has not seen any key yet, nothing is subtracted, because −∞ − (−∞) is NaN.
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Grow(Vector256<float> top, float* largest, out Vector256<float> subtracted)
    {
        var before = Vector256.Load(largest);
        top.Store(largest);
        subtracted = Vector256.ConditionalSelect(
            Vector256.Equals(top, Vector256.Create(float.NegativeInfinity)), Vector256<float>.Zero, top);
        return VectorMath.ExpOfNegative(before - subtracted);
    }

    /// <summary>Writes y = o / l, transposed back to rows.</summary>
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

    /// <summary>Consecutive value rows of one sequence that are processed together, or a row alone, with one range of its keys.</summary>
    private struct Panel
    {
        public int First;
        public int Rows;

        /// <summary>Whether the panel is one row that is processed like a row of a decoding step.</summary>
        public bool IsAlone;

        /// <summary>The head of each group that is computed for a row alone with tangents.</summary>
        public int Head;

        /// <summary>The range of its keys that a row alone attends to, of <see cref="Ranges"/>; they are 0 if it has tangents.</summary>
        public int Range;

        /// <summary>Number of ranges of the keys of a row alone.</summary>
        public int Ranges;

        /// <summary>Memory for the results of a row's ranges, if there are several.</summary>
        public float* Sums;
    }
}
