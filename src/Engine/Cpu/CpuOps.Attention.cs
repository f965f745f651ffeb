using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using Tiller.Checkpoint;
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
        job.Panels = (Panel*)HostScratch.ForCaller((long)rows.Values * sizeof(Panel) / sizeof(float));
        RunHeads(ref job, CutPanels(rows, job.Panels), &AttendPart);
    }

    /// <inheritdoc/>
    public override void PullAttend(ModelConfig c, int k, RowBatch rows, Activations a, RowGroups groups, Cotangents y)
    {
        var job = new AttentionJob { C = c, K = k, Rows = rows, A = a, Groups = groups, Back = y };
        RunHeads(ref job, rows.Values, &PullGroup);
    }

    private const int KeysPerBlock = 64;

    // A part is one key/value head of one panel or value row. A short decoding step is not worth a second thread.
    private void RunHeads(ref AttentionJob job, int panels, delegate*<ref AttentionJob, int, void> body)
    {
        const long WorthSharing = 64 * 1024;
        var (c, rows) = (job.C, job.Rows);
        int parts = panels * c.G;
        long work = (long)rows.Values * c.H * c.E * (rows[rows.Values - 1].Position + 1) + ((long)job.Groups.Total * c.H * c.E * c.E);
        if (work < WorthSharing)
        {
            for (int part = 0; part < parts; part++)
            {
                body(ref job, part);
            }

            return;
        }

        _pool.Run(parts, ref job, body, rows.Cancellation);
    }

    private static void AttendPart(ref AttentionJob job, int part)
    {
        var (index, group) = Math.DivRem(part, job.C.G);
        var panel = job.Panels[index];
        if (!panel.IsAlone)
        {
            AttendPanel(ref job, panel, group);
            return;
        }

        int row = (panel.First * job.C.G) + group;
        if (job.Groups.Begin(panel.First) == job.Groups.End(panel.First))
        {
            AttendRow(ref job, row);
        }
        else
        {
            AttendGroup(ref job, row);
        }
    }

    // A block of keys or values is read from memory once for all heads that share it.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AttendRow(ref AttentionJob job, int part)
    {
        var c = job.C;
        var view = new HeadView(ref job, part);
        float* q = job.A.Qkv.Row(view.Row) + (view.FirstHead * c.E);
        float* o = job.A.Heads.Row(view.Row) + (view.FirstHead * c.E);
        float* p = HostScratch.ForPart((long)view.Heads * view.Length);
        for (int first = 0; first < view.Length; first += KeysPerBlock)
        {
            int count = Math.Min(KeysPerBlock, view.Length - first);
            for (int h = 0; h < view.Heads; h++)
            {
                float* z = p + ((nint)h * view.Length) + first;
                VectorMath.ScaledDots(c.ScoreScale, q + (h * c.E), view.Keys + ((nint)first * c.E), count, c.E, z);
            }
        }

        for (int h = 0; h < view.Heads; h++)
        {
            var z = new Span<float>(p + ((nint)h * view.Length), view.Length);
            if (c.AttentionSoftCap > 0)
            {
                SoftCap(z, c.AttentionSoftCap);
            }

            Softmax(z);
        }

        for (int first = 0; first < view.Length; first += KeysPerBlock)
        {
            int count = Math.Min(KeysPerBlock, view.Length - first);
            for (int h = 0; h < view.Heads; h++)
            {
                float* weights = p + ((nint)h * view.Length) + first;
                VectorMath.WeightedSum(weights, view.Values + ((nint)first * c.E), count, c.E, o + (h * c.E), add: first > 0);
            }
        }
    }

    // Attention of a row with tangents, one head at a time.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AttendGroup(ref AttentionJob job, int part)
    {
        var (c, a) = (job.C, job.A);
        var view = new HeadView(ref job, part);
        int tangents = job.Groups.End(view.Row) - job.Groups.Begin(view.Row);
        float* p = HostScratch.ForPart((3L * view.Length) + (c.E * (c.E + 1 + KeysPerBlock)));
        float* slopes = p + view.Length;
        float* z = slopes + view.Length;
        float* m = z + view.Length;
        float* b = m + (c.E * c.E);
        float* arms = b + c.E;
        for (int h = view.FirstHead; h < view.FirstHead + view.Heads; h++)
        {
            float* q = a.Qkv.Row(view.Row) + (h * c.E);
            float* o = a.Heads.Row(view.Row) + (h * c.E);
            Weights(c, view, q, p, slopes);
            VectorMath.WeightedSum(p, view.Values, view.Length, c.E, o);
            bool dense = tangents >= c.E / 2;
            Linearise(c, view, slopes, o, dense ? m : null, transposed: true, b, arms);
            for (int t = job.Groups.Begin(view.Row); t < job.Groups.End(view.Row); t++)
            {
                float* dqkv = a.Qkv.Row(job.Rows.Values + t);
                float* dq = dqkv + (h * c.E);
                float* dk = dqkv + ((c.H + view.Group) * c.E);
                float* dv = dk + (c.G * c.E);
                float* d = a.Heads.Row(job.Rows.Values + t) + (h * c.E);
                if (dense)
                {
                    VectorMath.WeightedSum(dq, m, c.E, c.E, d);
                }
                else
                {
                    // M dq = Σ_j z_j v_j − (Σ_j z_j) o, z_j = a P_j c_j k_j·dq
                    var weights = new Span<float>(z, view.Length);
                    VectorMath.ScaledDots(1, dq, view.Keys, view.Length, c.E, z);
                    TensorPrimitives.Multiply(weights, new ReadOnlySpan<float>(slopes, view.Length), weights);
                    VectorMath.WeightedSum(z, view.Values, view.Length, c.E, d);
                    VectorMath.AddScaled(-TensorPrimitives.Sum<float>(weights), o, d, c.E);
                }

                VectorMath.AddScaled(VectorMath.Dot(q, dk, c.E), b, d, c.E);
                VectorMath.AddScaled(p[view.Length - 1], dv, d, c.E);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PullGroup(ref AttentionJob job, int part)
    {
        var (c, a, back) = (job.C, job.A, job.Back);
        var view = new HeadView(ref job, part);
        var (begin, end) = (job.Groups.Begin(view.Row), job.Groups.End(view.Row));
        float* p = HostScratch.ForPart((3L * view.Length) + (c.E * (c.E + 1 + KeysPerBlock)));
        float* slopes = p + view.Length;
        float* z = slopes + view.Length;
        float* m = z + view.Length;
        float* b = m + (c.E * c.E);
        float* arms = b + c.E;
        bool dense = end - begin >= c.E / 2;
        for (int t = begin; t < end; t++)
        {
            back.Qkv.HostRow(t).Slice((c.H + view.Group) * c.E, c.E).Clear();
            back.Qkv.HostRow(t).Slice((c.H + c.G + view.Group) * c.E, c.E).Clear();
        }

        for (int h = view.FirstHead; h < view.FirstHead + view.Heads; h++)
        {
            float* q = a.Qkv.Row(view.Row) + (h * c.E);
            float* o = a.Heads.Row(view.Row) + (h * c.E);
            Weights(c, view, q, p, slopes);
            Linearise(c, view, slopes, o, dense ? m : null, transposed: false, b, arms);
            for (int t = begin; t < end; t++)
            {
                float* bar = back.Heads.Row(t) + (h * c.E);
                float* qkv = back.Qkv.Row(t);
                float* qBar = qkv + (h * c.E);
                float* kBar = qkv + ((c.H + view.Group) * c.E);
                float* vBar = kBar + (c.G * c.E);
                if (dense)
                {
                    VectorMath.WeightedSum(bar, m, c.E, c.E, qBar);
                }
                else
                {
                    // M'ō = Σ_j z_j k_j, z_j = a P_j c_j (v_j − o)·ō
                    var weights = new Span<float>(z, view.Length);
                    VectorMath.ScaledDots(1, bar, view.Values, view.Length, c.E, z);
                    TensorPrimitives.Subtract(weights, VectorMath.Dot(o, bar, c.E), weights);
                    TensorPrimitives.Multiply(weights, new ReadOnlySpan<float>(slopes, view.Length), weights);
                    VectorMath.WeightedSum(z, view.Keys, view.Length, c.E, qBar);
                }

                VectorMath.AddScaled(VectorMath.Dot(b, bar, c.E), q, kBar, c.E);
                VectorMath.AddScaled(p[view.Length - 1], bar, vBar, c.E);
            }
        }
    }

    private static void Softmax(Span<float> z)
    {
        TensorPrimitives.Subtract(z, TensorPrimitives.Max<float>(z), z);
        TensorPrimitives.Exp(z, z);
        TensorPrimitives.Divide(z, TensorPrimitives.Sum<float>(z), z);
    }

    /// <summary>Computes P_j and the slopes a P_j c_j.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Weights(ModelConfig c, in HeadView view, float* q, float* p, float* slopes)
    {
        int n = view.Length;
        var z = new Span<float>(p, n);
        VectorMath.ScaledDots(c.ScoreScale, q, view.Keys, n, c.E, p);
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
    /// Computes b and, if <paramref name="m"/> is not null, M // (E, E) = Σ_j slope_j (v_j − o) k_j', or its transpose, which is multiplied by a row
    /// from the left. Uses the scratch memory <paramref name="arms"/> // (<see cref="KeysPerBlock"/>, E).
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Linearise(ModelConfig c, in HeadView view, float* slopes, float* o, float* m, bool transposed, float* b, float* arms)
    {
        if (m is not null)
        {
            new Span<float>(m, c.E * c.E).Clear();
            for (int first = 0; first < view.Length; first += KeysPerBlock)
            {
                int count = Math.Min(KeysPerBlock, view.Length - first);
                for (int j = 0; j < count; j++)
                {
                    Arm(view.Values + ((nint)(first + j) * c.E), o, slopes[first + j], arms + (j * c.E), c.E);
                }

                float* keys = view.Keys + ((nint)first * c.E);
                VectorMath.AddOuterProducts(transposed ? keys : arms, transposed ? arms : keys, count, c.E, m);
            }
        }

        int last = view.Length - 1;
        Arm(view.Values + ((nint)last * c.E), o, slopes[last], b, c.E);
    }

    /// <summary>b = slope (v − o).</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Arm(float* v, float* o, float slope, float* b, int size)
    {
        TensorPrimitives.Subtract(new ReadOnlySpan<float>(v, size), new ReadOnlySpan<float>(o, size), new Span<float>(b, size));
        TensorPrimitives.Multiply(new ReadOnlySpan<float>(b, size), slope, new Span<float>(b, size));
    }

    /// <summary>The first position that the token before position <paramref name="end"/> attends to.</summary>
    private static int WindowBegin(ref AttentionJob job, int end)
    {
        int window = job.C.Windows[job.K];
        return window > 0 ? Math.Max(0, end - window) : 0;
    }

    private struct AttentionJob
    {
        public ModelConfig C;
        public int K;
        public RowBatch Rows;
        public Activations A;
        public RowGroups Groups;
        public Cotangents Back;
        public Panel* Panels;
        public Avx512Code Wide;
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
        public readonly float* Keys;
        public readonly float* Values;

        public HeadView(ref AttentionJob job, int part)
        {
            var c = job.C;
            (Row, Group) = Math.DivRem(part, c.G);
            Heads = c.H / c.G;
            FirstHead = Group * Heads;
            ref readonly var row = ref job.Rows[Row];
            int end = row.Position + 1;
            int begin = WindowBegin(ref job, end);
            Length = end - begin;
            Keys = row.Cache.Keys(job.K, Group).Row(begin);
            Values = row.Cache.Values(job.K, Group).Row(begin);
        }
    }
}
