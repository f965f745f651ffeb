using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Tiller.Checkpoint;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cpu;

// Attention of one head: z_j = a q·k_j (soft-capped if the model does so), P = softmax z over the window, o = Σ P_j v_j.
// Its linearisation at the last token t (docs/math.md §9): with c_j = 1 − (z_j/cap)², or 1 without a cap, M = Σ_j a P_j c_j (v_j − o) k_j'
// and b = a P_t c_t (v_t − o):   do = M dq + b (q·dk_t) + P_t dv_t,   and backwards   q̄ = M'ō, k̄_t = (b·ō) q, v̄_t = P_t ō.
internal sealed unsafe partial class CpuOps
{
    /// <inheritdoc/>
    public override void Attend(ModelConfig c, int k, RowBatch rows, Activations a)
    {
        var job = new AttentionJob { C = c, K = k, Rows = rows, A = a, Groups = rows.TangentGroups, Wide = Avx512.Code };
        var (panels, numbers) = CutPanels(ref job, null, null);
        job.Panels = (Panel*)HostScratch.ForCaller(((long)panels * sizeof(Panel) / sizeof(float)) + numbers);
        CutPanels(ref job, job.Panels, (float*)(job.Panels + panels));
        long work = ((long)rows.Values * c.H * c.E * (rows[rows.Values - 1].Position + 1)) + ((long)rows.Tangents * c.H * c.E * c.E);
        RunHeads(ref job, panels * c.G, work, &AttendPart);
        if (numbers > 0)
        {
            RunHeads(ref job, panels * c.G, numbers, &JoinPart);
        }
    }

    /// <inheritdoc/>
    public override void PullAttend(ModelConfig c, int k, RowBatch rows, Activations a, RowGroups groups, Cotangents y)
    {
        var job = new AttentionJob { C = c, K = k, Rows = rows, A = a, Groups = groups, Back = y, Wide = Avx512.Code };
        job.Own = HostScratch.ForCaller((long)rows.Values * c.H * (c.E + 1));
        long work = ((long)rows.Values * c.H * c.E * (rows[rows.Values - 1].Position + 1)) + ((long)groups.Total * c.H * c.E * c.E);
        RunHeads(ref job, rows.Values * c.H, work, &PullHead);
        RunHeads(ref job, rows.Values * c.G, (long)groups.Total * c.H * c.E, &PullOwn);
    }

    private const int KeysPerBlock = 64;

    // Keys of a range. The ranges of a long row are parts of their own, so that all threads share it whatever its number of heads.
    private const int KeysPerRange = 4 * KeysPerBlock;

    // From so many parts on, the part after one is mostly the same thread's.
    private const int ManyParts = 8;

    // A part is one key/value head, or one head if there are derivatives, of one panel or row. A short decoding step is not worth a second thread.
    private void RunHeads(ref AttentionJob job, int parts, long work, delegate*<ref AttentionJob, int, void> body)
    {
        const long WorthSharing = 64 * 1024;
        job.Parts = parts;
        if (work < WorthSharing)
        {
            for (int part = 0; part < parts; part++)
            {
                body(ref job, part);
            }

            return;
        }

        _pool.Run(parts, ref job, body, job.Rows.Cancellation);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AttendPart(ref AttentionJob job, int part)
    {
        var (index, group) = Math.DivRem(part, job.C.G);
        ref var panel = ref job.Panels[index];
        if (!panel.IsAlone)
        {
            AttendPanel(ref job, panel, group);
            return;
        }

        var view = new HeadView(ref job, panel.First, group);
        if (panel.Ranges == 0)
        {
            AttendHead(ref job, view.Only(panel.Head));
            return;
        }

        float* q = job.A.Qkv.Row(view.Row) + (view.FirstHead * job.C.E);
        float* scratch = HostScratch.ForPart(RangeNumbers(view));
        if (panel.Ranges == 1)
        {
            AttendRange(job.C, view, q, 0, job.A.Heads.Row(view.Row) + (view.FirstHead * job.C.E), default, scratch, AheadOf(ref job, part));
            return;
        }

        var ranges = new Ranges(panel.Sums + (group * Ranges.Numbers(view.Heads, panel.Ranges, job.C.E)), view.Heads, panel.Ranges, job.C.E);
        AttendRange(job.C, view, q, panel.Range, null, ranges, scratch, AheadOf(ref job, part));
    }

    private static void JoinPart(ref AttentionJob job, int part)
    {
        var (c, a) = (job.C, job.A);
        var (index, group) = Math.DivRem(part, c.G);
        ref var panel = ref job.Panels[index];
        if (panel.IsAlone && panel.Ranges > 1 && panel.Range == 0)
        {
            int heads = c.H / c.G;
            new Ranges(panel.Sums + (group * Ranges.Numbers(heads, panel.Ranges, c.E)), heads, panel.Ranges, c.E)
                .Join(a.Heads.Row(panel.First) + (group * heads * c.E));
        }
    }

    /// <summary>
    /// Computes the attention of the heads of a row over one range of its keys: o to <paramref name="output"/> // (heads, E), or, if that is null, o,
    /// m and l to <paramref name="ranges"/>. A block of keys or values is read from memory once for all heads that share it.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AttendRange(
        ModelConfig c, in HeadView view, float* q, int range, float* output, in Ranges ranges, float* scratch, in RangeAhead ahead = default)
    {
        int begin = range * KeysPerRange, count = Math.Min(KeysPerRange, view.Length - begin), size = c.E;
        float* widened = scratch + (view.Heads * KeysPerRange);
        var asked = new ReadAhead(ahead.WithKeys, ahead.SizeInBytes, view.Heads * (count / ReadAhead.Rows));
        for (int first = 0; first < count; first += KeysPerBlock)
        {
            int some = Math.Min(KeysPerBlock, count - first);
            float* keys = view.Keys.Read(begin + first, some, widened);
            for (int h = 0; h < view.Heads; h++)
            {
                VectorMath.ScaledDots(c.ScoreScale, q + (h * size), keys, some, size, scratch + (h * KeysPerRange) + first, ref asked);
            }
        }

        for (int h = 0; h < view.Heads; h++)
        {
            var z = new Span<float>(scratch + (h * KeysPerRange), count);
            if (c.AttentionSoftCap > 0)
            {
                SoftCap(z, c.AttentionSoftCap);
            }

            var (largest, total) = Softmax(z);
            if (output is null)
            {
                ranges.Put(h, range, largest, total);
            }
        }

        asked = new ReadAhead(ahead.WithValues, ahead.SizeInBytes, view.Heads * ((count + ReadAhead.Rows - 1) / ReadAhead.Rows));
        for (int first = 0; first < count; first += KeysPerBlock)
        {
            int some = Math.Min(KeysPerBlock, count - first);
            float* values = view.Values.Read(begin + first, some, widened);
            for (int h = 0; h < view.Heads; h++)
            {
                VectorMath.WeightedSum(
                    scratch + (h * KeysPerRange) + first, values, some, size, output is null ? ranges.Output(h, range) : output + (h * size),
                    add: first > 0, ref asked);
            }
        }
    }

    /// <summary>
    /// What a thread asks for while it works on a part: the keys and values of the next part, which mostly is its own too; or, if there are few
    /// parts, the values of this one.
    /// </summary>
    private static RangeAhead AheadOf(ref AttentionJob job, int part)
    {
        bool isOneOfMany = job.Parts >= ManyParts;
        int asked = isOneOfMany ? part + 1 : part;
        var (index, group) = Math.DivRem(asked, job.C.G);
        if (asked == job.Parts || !job.Panels[index].IsAlone || job.Panels[index].Ranges == 0)
        {
            return default;
        }

        var view = new HeadView(ref job, job.Panels[index].First, group);
        int begin = job.Panels[index].Range * KeysPerRange;
        int size = Math.Min(KeysPerRange, view.Length - begin) * view.Keys.RowInBytes;
        var (keys, values) = (view.Keys.From(begin).Address, view.Values.From(begin).Address);
        return isOneOfMany ? new RangeAhead(keys, values, size) : new RangeAhead(values, 0, size);
    }

    // Attention of a row with tangents, for one head.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AttendHead(ref AttentionJob job, in HeadView view)
    {
        var (c, a) = (job.C, job.A);
        int tangents = job.Groups.End(view.Row) - job.Groups.Begin(view.Row);
        long own = (3L * view.Length) + (c.E * (c.E + 1 + KeysPerBlock));
        float* m = HostScratch.ForPart(
            own + RangeNumbers(view) + Ranges.Numbers(view.Heads, RangesOf(view.Length), c.E) + (2 * view.Keys.Widened(view.Length)));
        float* arms = m + (c.E * c.E);
        float* b = arms + (c.E * KeysPerBlock);
        float* p = b + c.E;
        float* slopes = p + view.Length;
        float* z = slopes + view.Length;
        float* others = m + own;
        int head = view.FirstHead;
        float* q = a.Qkv.Row(view.Row) + (head * c.E);
        float* o = a.Heads.Row(view.Row) + (head * c.E);
        AttendValue(c, view, q, o, others);
        float* keys = view.Keys.Read(0, view.Length, others);
        float* values = view.Values.Read(0, view.Length, others + view.Keys.Widened(view.Length));
        Weights(c, keys, view.Length, q, p, slopes);
        bool dense = IsDense(c, tangents);
        Linearise(c, job.Wide, keys, values, view.Length, slopes, o, dense ? m : null, transposed: true, b, arms);
        if (dense)
        {
            int row = job.Rows.Values + job.Groups.Begin(view.Row);
            MultiplyRows(c, job.Wide, a.Qkv.Slice(row, tangents), m, a.Heads.Slice(row, tangents), head);
        }

        for (int t = job.Groups.Begin(view.Row); t < job.Groups.End(view.Row); t++)
        {
            float* dqkv = a.Qkv.Row(job.Rows.Values + t);
            float* dq = dqkv + (head * c.E);
            float* dk = dqkv + ((c.H + view.Group) * c.E);
            float* dv = dk + (c.G * c.E);
            float* d = a.Heads.Row(job.Rows.Values + t) + (head * c.E);
            if (!dense)
            {
                // M dq = Σ_j z_j v_j − (Σ_j z_j) o, z_j = a P_j c_j k_j·dq
                var weights = new Span<float>(z, view.Length);
                VectorMath.ScaledDots(1, dq, keys, view.Length, c.E, z);
                TensorPrimitives.Multiply(weights, new ReadOnlySpan<float>(slopes, view.Length), weights);
                VectorMath.WeightedSum(z, values, view.Length, c.E, d);
                VectorMath.AddScaled(-TensorPrimitives.Sum<float>(weights), o, d, c.E);
            }

            VectorMath.AddScaled(VectorMath.Dot(q, dk, c.E), b, d, c.E);
            VectorMath.AddScaled(p[view.Length - 1], dv, d, c.E);
        }
    }

    // Whether a head's M is worth it: 2 n E² operations for n keys, at twice to three times the speed of the 4 n E for each derivative without it.
    private static bool IsDense(ModelConfig c, int derivatives) => derivatives >= c.E / 4;

    // The output of a row with tangents has the bits of one without.
    private static void AttendValue(ModelConfig c, in HeadView view, float* q, float* o, float* scratch)
    {
        int count = RangesOf(view.Length);
        if (count == 1)
        {
            AttendRange(c, view, q, 0, o, default, scratch);
            return;
        }

        var ranges = new Ranges(scratch + RangeNumbers(view), view.Heads, count, c.E);
        for (int range = 0; range < count; range++)
        {
            AttendRange(c, view, q, range, null, ranges, scratch);
        }

        ranges.Join(o);
    }

    /// <summary>Computes q̄ of one head for the cotangents of one row, and leaves b and P_t for <see cref="PullOwn"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PullHead(ref AttentionJob job, int part)
    {
        var (c, a, back) = (job.C, job.A, job.Back);
        var (row, head) = Math.DivRem(part, c.H);
        var view = new HeadView(ref job, row, head / (c.H / c.G));
        var (begin, end) = (job.Groups.Begin(row), job.Groups.End(row));
        float* m = HostScratch.ForPart((3L * view.Length) + (c.E * (c.E + KeysPerBlock)) + (2 * view.Keys.Widened(view.Length)));
        float* arms = m + (c.E * c.E);
        float* p = arms + (c.E * KeysPerBlock);
        float* slopes = p + view.Length;
        float* z = slopes + view.Length;
        float* widened = z + view.Length;
        float* keys = view.Keys.Read(0, view.Length, widened);
        float* values = view.Values.Read(0, view.Length, widened + view.Keys.Widened(view.Length));
        float* q = a.Qkv.Row(row) + (head * c.E);
        float* o = a.Heads.Row(row) + (head * c.E);
        float* own = job.OwnOf(row, head);
        bool dense = IsDense(c, end - begin);
        Weights(c, keys, view.Length, q, p, slopes);
        Linearise(c, job.Wide, keys, values, view.Length, slopes, o, dense ? m : null, transposed: false, own, arms);
        own[c.E] = p[view.Length - 1];
        if (dense)
        {
            MultiplyRows(c, job.Wide, back.Heads.Slice(begin, end - begin), m, back.Qkv.Slice(begin, end - begin), head);
            return;
        }

        for (int t = begin; t < end; t++)
        {
            // M'ō = Σ_j z_j k_j, z_j = a P_j c_j (v_j − o)·ō
            float* bar = back.Heads.Row(t) + (head * c.E);
            var weights = new Span<float>(z, view.Length);
            VectorMath.ScaledDots(1, bar, values, view.Length, c.E, z);
            TensorPrimitives.Subtract(weights, VectorMath.Dot(o, bar, c.E), weights);
            TensorPrimitives.Multiply(weights, new ReadOnlySpan<float>(slopes, view.Length), weights);
            VectorMath.WeightedSum(z, keys, view.Length, c.E, back.Qkv.Row(t) + (head * c.E));
        }
    }

    /// <summary>Computes k̄_t = Σ_h (b_h·ō_h) q_h and v̄_t = Σ_h P_th ō_h of a row's own token, over the heads of one key/value head.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PullOwn(ref AttentionJob job, int part)
    {
        var (c, back) = (job.C, job.Back);
        var (row, group) = Math.DivRem(part, c.G);
        int heads = c.H / c.G;
        for (int t = job.Groups.Begin(row); t < job.Groups.End(row); t++)
        {
            float* kBar = back.Qkv.Row(t) + ((c.H + group) * c.E);
            float* vBar = kBar + (c.G * c.E);
            new Span<float>(kBar, c.E).Clear();
            new Span<float>(vBar, c.E).Clear();
            for (int h = group * heads; h < (group + 1) * heads; h++)
            {
                float* own = job.OwnOf(row, h);
                float* bar = back.Heads.Row(t) + (h * c.E);
                VectorMath.AddScaled(VectorMath.Dot(own, bar, c.E), job.A.Qkv.Row(row) + (h * c.E), kBar, c.E);
                VectorMath.AddScaled(own[c.E], bar, vBar, c.E);
            }
        }
    }

    // Returns m, the largest z_j, and l = Σ_j e^(z_j − m).
    private static (float Largest, float Total) Softmax(Span<float> z)
    {
        float largest = TensorPrimitives.Max<float>(z);
        TensorPrimitives.Subtract(z, largest, z);
        TensorPrimitives.Exp(z, z);
        float total = TensorPrimitives.Sum<float>(z);
        TensorPrimitives.Divide(z, total, z);
        return (largest, total);
    }

    /// <summary>Computes P_j and the slopes a P_j c_j.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Weights(ModelConfig c, float* keys, int n, float* q, float* p, float* slopes)
    {
        var z = new Span<float>(p, n);
        VectorMath.ScaledDots(c.ScoreScale, q, keys, n, c.E, p);
        if (c.AttentionSoftCap > 0)
        {
            SoftCap(z, c.AttentionSoftCap);
        }

        for (int j = 0; j < n; j++)
        {
            float ratio = c.AttentionSoftCap > 0 ? p[j] / c.AttentionSoftCap : 0;
            slopes[j] = c.ScoreScale * (1 - (ratio * ratio));
        }

        Softmax(z);
        TensorPrimitives.Multiply(new Span<float>(slopes, n), z, new Span<float>(slopes, n));
    }

    /// <summary>
    /// Computes b and, if <paramref name="m"/> is not null, M // (E, E) = Σ_j slope_j (v_j − o) k_j', or its transpose, for
    /// <see cref="MultiplyRows"/>. Uses the scratch memory <paramref name="arms"/> // (<see cref="KeysPerBlock"/>, E).
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Linearise(
        ModelConfig c, Avx512Code wide, float* keys, float* values, int n, float* slopes, float* o, float* m, bool transposed, float* b, float* arms)
    {
        if (m is not null)
        {
            new Span<float>(m, c.E * c.E).Clear();
            for (int first = 0; first < n; first += KeysPerBlock)
            {
                int count = Math.Min(KeysPerBlock, n - first);
                for (int j = 0; j < count; j++)
                {
                    Arm(values + ((nint)(first + j) * c.E), o, slopes[first + j], arms + (j * c.E), c.E);
                }

                float* some = keys + ((nint)first * c.E);
                float* x = transposed ? some : arms, y = transposed ? arms : some;
                if (PanelTiles.Divide(c.E))
                {
                    PanelTiles.AddOuterProducts(wide, x, y, count, c.E, m);
                }
                else
                {
                    VectorMath.AddOuterProducts(x, y, count, c.E, m);
                }
            }
        }

        Arm(values + ((nint)(n - 1) * c.E), o, slopes[n - 1], b, c.E);
    }

    /// <summary>y = x M for the numbers of one head in each row.</summary>
    private static void MultiplyRows(ModelConfig c, Avx512Code wide, Floats x, float* m, Floats y, int head)
    {
        if (PanelTiles.Divide(c.E))
        {
            PanelTiles.Multiply(wide, x.Row(0) + (head * c.E), x.Columns, x.Rows, m, c.E, y.Row(0) + (head * c.E), y.Columns);
            return;
        }

        for (int t = 0; t < x.Rows; t++)
        {
            VectorMath.WeightedSum(x.Row(t) + (head * c.E), m, c.E, c.E, y.Row(t) + (head * c.E));
        }
    }

    /// <summary>b = slope (v − o).</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Arm(float* v, float* o, float slope, float* b, int size)
    {
        // A loop of its own, because a head has few numbers, and two calls take a third of an outer product's time.
        int i = 0;
        for (; i <= size - Vector256<float>.Count; i += Vector256<float>.Count)
        {
            ((Vector256.Load(v + i) - Vector256.Load(o + i)) * slope).Store(b + i);
        }

        for (; i < size; i++)
        {
            b[i] = (v[i] - o[i]) * slope;
        }
    }

    /// <summary>The first position that the token before position <paramref name="end"/> attends to.</summary>
    private static int WindowBegin(ref AttentionJob job, int end)
    {
        int window = job.C.Windows[job.K];
        return window > 0 ? Math.Max(0, end - window) : 0;
    }

    // The scores of a range, and a block of keys or values as float32.
    private static long RangeNumbers(in HeadView view) => (view.Heads * KeysPerRange) + view.Keys.Widened(KeysPerBlock);

    private static int RangesOf(int length) => (length + KeysPerRange - 1) / KeysPerRange;

    /// <summary>Memory to ask for while a range's keys are in use, and while its values are; 0 for none.</summary>
    private readonly record struct RangeAhead(nint WithKeys, nint WithValues, int SizeInBytes);

    private struct AttentionJob
    {
        public ModelConfig C;
        public int K;
        public RowBatch Rows;
        public Activations A;
        public RowGroups Groups;
        public Cotangents Back;
        public Panel* Panels;

        /// <summary>Number of parts of the loop.</summary>
        public int Parts;

        public Avx512Code Wide;

        /// <summary>For a pullback, what a row's own key and value need of each head: b // (E), then P_t; see <see cref="OwnOf"/>.</summary>
        public float* Own;

        public readonly float* OwnOf(int row, int head) => Own + (((nint)(row * C.H) + head) * (C.E + 1));
    }

    /// <summary>
    /// The results of some heads of a row for each range r of its keys: o_r // (heads, ranges, E), then m_r and l_r // (heads, ranges).
    /// </summary>
    private readonly struct Ranges(float* memory, int heads, int count, int size)
    {
        public static int Numbers(int heads, int count, int size) => count == 1 ? 0 : heads * count * (size + 2);

        public float* Output(int head, int range) => memory + ((nint)((head * count) + range) * size);

        public void Put(int head, int range, float largest, float total) =>
            (Largest(head)[range], Total(head)[range]) = (largest, total);

        /// <summary>o = Σ_r w_r o_r / Σ_r w_r with w_r = l_r e^(m_r − m), where m is the largest m_r, for each head.</summary>
        public void Join(float* o)
        {
            for (int h = 0; h < heads; h++)
            {
                var weights = new Span<float>(Largest(h), count);
                TensorPrimitives.Subtract(weights, TensorPrimitives.Max<float>(weights), weights);
                TensorPrimitives.Exp(weights, weights);
                TensorPrimitives.Multiply(weights, new ReadOnlySpan<float>(Total(h), count), weights);
                TensorPrimitives.Divide(weights, TensorPrimitives.Sum<float>(weights), weights);
                VectorMath.WeightedSum(Largest(h), Output(h, 0), count, size, o + (h * size));
            }
        }

        private float* Largest(int head) => Output(heads, 0) + (head * count);

        private float* Total(int head) => Largest(heads) + (head * count);
    }

    /// <summary>
    /// The keys and values that one key/value head of one value row attends to: those of its window, oldest first, its own token last.
    /// </summary>
    private readonly struct HeadView
    {
        public readonly int Row;
        public readonly int Group;
        public readonly int FirstHead;
        public readonly int Heads;
        public readonly int Length;
        public readonly KvRows Keys;
        public readonly KvRows Values;

        public HeadView(ref AttentionJob job, int at, int group)
        {
            var c = job.C;
            (Row, Group) = (at, group);
            Heads = c.H / c.G;
            FirstHead = Group * Heads;
            ref readonly var row = ref job.Rows[Row];
            int end = row.Position + 1;
            int begin = WindowBegin(ref job, end);
            Length = end - begin;
            Keys = row.Cache.Keys(job.K, Group).From(begin);
            Values = row.Cache.Values(job.K, Group).From(begin);
        }

        private HeadView(in HeadView all, int head)
        {
            this = all;
            (FirstHead, Heads) = (all.FirstHead + head, 1);
        }

        /// <summary>One of the heads.</summary>
        public HeadView Only(int head) => new(this, head);
    }
}
