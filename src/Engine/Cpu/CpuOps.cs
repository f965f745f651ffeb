using System.Diagnostics;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.ExceptionServices;
using Tiller.Checkpoint;
using Tiller.Kernels;
using Tiller.Law;
using Tiller.Ops;

namespace Tiller.Cpu;

/// <summary>The stages of a block on the CPU, for values, tangents and cotangents. CUDA is tested against this implementation.</summary>
internal sealed unsafe partial class CpuOps : DeviceOps
{
    // Rows of a part: fewer are not worth another thread.
    private const int RowsPerPart = 8;

    // The same for what follows a map of queries, keys and values. It divides eight rows like the attention of these rows, so that a row stays on its
    // thread.
    private const int QkvRowsPerPart = 4;

    // Numbers of a row whose activations alone are worth another thread.
    private const int WideRow = 1024;

    private readonly WorkerPool _pool;

    /// <summary>Starts the threads.</summary>
    /// <param name="threads">Number of threads that share a stage; 0 for one for each processor.</param>
    public CpuOps(int threads = 0) => _pool = new WorkerPool(threads);

    /// <summary>The threads.</summary>
    internal WorkerPool Pool => _pool;

    /// <inheritdoc/>
    public override string Device => $"cpu ({_pool.Threads} threads)";

    /// <inheritdoc/>
    public override int Callers => _pool.Threads;

    /// <inheritdoc/>
    public override void ForEach(int parts, Action<int> body)
    {
        var job = new CallJob { Body = body, Errors = new ExceptionDispatchInfo?[parts] };
        _pool.Run(parts, ref job, &Call);
        foreach (var error in job.Errors)
        {
            error?.Throw();
        }
    }

    /// <inheritdoc/>
    public override DeviceBuffer Allocate(long sizeInBytes) => new HostBuffer(sizeInBytes);

    /// <inheritdoc/>
    public override void Upload(ReadOnlySpan<byte> source, nint destination) => source.CopyTo(new Span<byte>((void*)destination, source.Length));

    /// <inheritdoc/>
    public override void Fill(nint destination, int sizeInBytes, FillBytes fill) => fill(new Span<byte>((void*)destination, sizeInBytes));

    /// <inheritdoc/>
    public override void Download(nint source, Span<byte> destination)
        => new ReadOnlySpan<byte>((void*)source, destination.Length).CopyTo(destination);

    /// <inheritdoc/>
    public override void Copy(nint source, nint destination, long sizeInBytes)
        => Buffer.MemoryCopy((void*)source, (void*)destination, sizeInBytes, sizeInBytes);

    /// <inheritdoc/>
    public override SteeringState NewSteering(FeedbackLaw law) => new CpuSteering(law);

    /// <inheritdoc/>
    internal override Stepper NewStepper(ModelConfig c, StepStages stages) => new CpuStepper(this, c, stages);

    /// <inheritdoc/>
    public override void Begin(ModelConfig c, Floats frequencies, Matrix? embedding, RowBatch rows, Activations a)
    {
        int tables = a.Rotations.Rows / a.Capacity;
        for (int i = 0; i < rows.Values; i++)
        {
            for (int table = 0; table < tables; table++)
            {
                Angles(frequencies.HostRow(rows[i].Cache.IsLong ? tables + table : table), rows[i].Position, a.Rotation(table).HostRow(i));
            }

            if (embedding is { } weights)
            {
                CpuLinear.Gather(weights, rows[i].Id, c.EmbeddingScale, a.X.Row(i));
            }
        }
    }

    /// <inheritdoc/>
    public override void NormQkv(ModelConfig c, int k, BlockWeights w, RowBatch rows, Activations a)
    {
        if (rows.AnySteered)
        {
            Sense(k, rows, a.X);
        }

        if (rows.UnitTangents is { } first)
        {
            QkvOfUnits(c, w, rows, first, a);
        }
        else
        {
            LinearOfNormed(c, rows, a.X, w.AttentionNorm, a, w.Qkv, w.QkvBias, a.Qkv);
        }

        var job = new RowJob { C = c, K = k, W = w, Rows = rows, A = a };
        ForRows(rows.Values, ref job, &FinishQkv, QkvRowsPerPart);
        ForRows(rows.Tangents, ref job, &FinishQkvTangent);
    }

    /// <inheritdoc/>
    public override void ProjectOutput(ModelConfig c, int k, BlockWeights w, RowBatch rows, Activations a) =>
        Project(c, a.Heads, w.Output, w.OutputBias, w.PostAttentionNorm, a.RawAttention, rows, a, a.X, a.R, k, EditPoint.Attention);

    /// <inheritdoc/>
    public override void NormGateUp(ModelConfig c, int k, BlockWeights w, RowBatch rows, Activations a)
    {
        var gated = rows.Tangents == 0 ? new GatedOutput(c.Activation, c.ResidualScale, a.Gated) : default;
        LinearOfNormed(c, rows, a.R, w.FeedForwardNorm, a, w.GateUp, w.GateUpBias, a.GateUp, gated);
        if (rows.Tangents == 0)
        {
            return;
        }

        var job = new RowJob { C = c, W = w, Rows = rows, A = a, Slopes = HostScratch.ForCaller(2L * rows.Values * c.F) };
        ForRows(rows.Values, ref job, &GateWithSlopes, c.F >= WideRow ? 1 : RowsPerPart);
        ForRows(rows.Tangents, ref job, &GateTangent);
    }

    /// <inheritdoc/>
    public override void ProjectDown(ModelConfig c, int k, BlockWeights w, RowBatch rows, Activations a, BlockWeights? next)
    {
        Project(c, a.Gated, w.Down, w.DownBias, w.PostFeedForwardNorm, a.RawFeedForward, rows, a, a.R, a.Y, k, EditPoint.FeedForward);
        if (rows.AnySteered)
        {
            Act(k, rows, a.Y);
            Edit(k, EditPoint.Output, rows, a.Y);
        }
    }

    /// <inheritdoc/>
    public override void Head(ModelConfig c, Floats norm, Matrix head, Activations a, int row, int count, Floats logits)
    {
        var x = a.X.Slice(row, count);
        var first = new InputNorm(norm, c.NormEpsilon);
        if (count > CpuLinear.DotRows)
        {
            x = a.Normed.Slice(row, count);
            for (int i = 0; i < count; i++)
            {
                NormRow(a.X.Row(row + i), norm.Row(0), x.Row(i), c.D, c.NormEpsilon);
            }

            first = default;
        }

        CpuLinear.Forward(_pool, x, count, head, default, default, logits, norm: first);
        if (c.LogitSoftCap > 0)
        {
            for (int i = 0; i < count; i++)
            {
                SoftCap(logits.HostRow(i), c.LogitSoftCap);
            }
        }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _pool.Dispose();
        }

        base.Dispose(disposing);
    }

    // Exceptions must not reach the pool's threads.
    private static void Call(ref CallJob job, int part)
    {
        try
        {
            job.Body(part);
        }
        catch (Exception e)
        {
            job.Errors[part] = ExceptionDispatchInfo.Capture(e);
        }
    }

    private static void Sense(int k, RowBatch rows, Floats x)
    {
        for (int i = 0; rows.AnyInputMoved && i < rows.Values; i++)
        {
            if (rows[i].Steering is CpuSteering { Law.MovesInputs: true } steering)
            {
                int stage = steering.Law.Layers + k;
                Sense(steering, stage, rows, i, x);
                Act(steering, stage, rows, i, x);
            }
        }

        Edit(k, EditPoint.Input, rows, x);
        for (int i = 0; i < rows.Values; i++)
        {
            if (rows[i].Steering is CpuSteering steering)
            {
                Sense(steering, k, rows, i, x);
            }
        }
    }

    // z is in y, in which the residual stream may have been added to it.
    private static void Edit(int k, EditPoint point, RowBatch rows, Floats y, Floats residual = default)
    {
        if (!rows.IsEditedAt(point))
        {
            return;
        }

        for (int i = 0; i < rows.Values; i++)
        {
            (rows[i].Steering as CpuSteering)?.Edit(k, point, rows[i].Slot, y.HostRow(i), residual.IsAbsent ? default : residual.HostRow(i));
        }

        for (int i = 0; rows.AnyJoined && i < rows.Values; i++)
        {
            (rows[i].Steering as CpuSteering)?.Join(k, point, rows[i].Slot, y.HostRow(i), residual.IsAbsent ? default : residual.HostRow(i));
        }
    }

    private static void Sense(CpuSteering steering, int stage, RowBatch rows, int i, Floats x)
    {
        steering.Sense(stage, rows[i].Slot, x.HostRow(i));
        for (int t = rows.TangentGroups.Begin(i); t < rows.TangentGroups.End(i); t++)
        {
            steering.SenseTangent(stage, t, x.HostRow(i), x.HostRow(rows.Values + t));
        }
    }

    private static void Act(CpuSteering steering, int stage, RowBatch rows, int i, Floats y)
    {
        steering.Act(stage, rows[i].Slot, y.HostRow(i));
        for (int t = rows.TangentGroups.Begin(i); t < rows.TangentGroups.End(i); t++)
        {
            steering.ActTangent(stage, rows[i].Slot, t, y.HostRow(rows.Values + t));
        }
    }

    private static void Act(int k, RowBatch rows, Floats y)
    {
        for (int i = 0; i < rows.Values; i++)
        {
            if (rows[i].Steering is CpuSteering steering)
            {
                Act(steering, k, rows, i, y);
            }
        }
    }

    // out = residual + [norm] (W x + b), edited as it comes of the map
    private void Project(
        ModelConfig c, Floats x, Matrix w, Floats bias, Floats postNorm, Floats raw, RowBatch rows, Activations a, Floats residual, Floats output,
        int k, EditPoint point)
    {
        if (postNorm.IsAbsent)
        {
            Linear(x, w, bias, rows, residual, output);
            Edit(k, point, rows, output, residual);
            return;
        }

        Linear(x, w, bias, rows, default, raw);
        Edit(k, point, rows, raw);
        Norm(c, rows, raw, postNorm, a.Normed);
        for (int i = 0; i < rows.Total; i++)
        {
            TensorPrimitives.Add(residual.HostRow(i), a.Normed.HostRow(i), output.HostRow(i));
        }
    }

    // y = W norm(x) + b, or without a norm if it is absent.
    private void LinearOfNormed(
        ModelConfig c, RowBatch rows, Floats x, Floats norm, Activations a, Matrix w, Floats bias, Floats y, GatedOutput gated = default)
    {
        bool isFew = rows.Total <= CpuLinear.DotRows && rows.Tangents == 0;
        if (!norm.IsAbsent && !isFew)
        {
            Norm(c, rows, x, norm, a.Normed);
            (x, norm) = (a.Normed, default);
        }

        Linear(x, w, bias, rows, default, y, gated, norm.IsAbsent ? default : new InputNorm(norm, c.NormEpsilon));
    }

    private void Linear(
        Floats x, Matrix w, Floats bias, RowBatch rows, Floats residual, Floats y, GatedOutput gated = default, InputNorm norm = default) =>
        CpuLinear.Forward(
            _pool, x.Slice(0, rows.Total), rows.Values, w, bias, residual.IsAbsent ? default : residual.Slice(0, rows.Total), y.Slice(0, rows.Total),
            gated, norm, rows.Cancellation);

    // A row of the table holds the pairs' frequencies and amplitudes. The result is cosines and sines at the position, times the amplitudes.
    private static void Angles(ReadOnlySpan<float> table, int position, Span<float> rotation)
    {
        int half = table.Length / 2;
        TensorPrimitives.Multiply(table[..half], position, rotation[..half]);
        for (int e = 0; e < half; e++)
        {
            var (sine, cosine) = MathF.SinCos(rotation[e]);
            (rotation[e], rotation[half + e]) = (table[half + e] * cosine, table[half + e] * sine);
        }
    }

    // ---- RMSNorm --------------------------------------------------------------------------------------------------

    private void Norm(ModelConfig c, RowBatch rows, Floats x, Floats weight, Floats y)
    {
        var job = new RowJob { C = c, Rows = rows, X = x, Weight = weight, Y = y, InverseRms = HostScratch.ForCaller(rows.Values) };
        ForRows(rows.Values, ref job, &NormValue);
        ForRows(rows.Tangents, ref job, &NormTangent);
    }

    private static void NormValue(ref RowJob job, int row) =>
        job.InverseRms[row] = NormRow(job.X.Row(row), job.Weight.Row(0), job.Y.Row(row), job.X.Columns, job.C.NormEpsilon);

    // Uses the s that NormValue stored for the tangent's value row.
    private static void NormTangent(ref RowJob job, int tangent)
    {
        int owner = job.Rows.TangentGroups.Owner(tangent);
        int row = job.Rows.Values + tangent;
        NormTangent(job.InverseRms[owner], job.X.Row(owner), job.X.Row(row), job.Weight.Row(0), job.Y.Row(row), job.X.Columns);
    }

    /// <summary>s = (mean x² + ε)^-1/2. NaN if the squares overflow float32, because s = 0 would turn such a state into a plausible one.</summary>
    private static float InverseRms(float* x, int n, float epsilon)
    {
        float mean = (VectorMath.Dot(x, x, n) / n) + epsilon;
        return mean < float.PositiveInfinity ? 1f / MathF.Sqrt(mean) : float.NaN;
    }

    /// <summary>y = g ∘ (s x); returns s.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static float NormRow(float* x, float* g, float* y, int n, float epsilon)
    {
        float s = InverseRms(x, n, epsilon);
        VectorMath.ScaledProduct(s, x, g, y, n);
        return s;
    }

    /// <summary>dy = s g ∘ (dx − (dx·h) h / n), h = s x.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void NormTangent(float s, float* x, float* dx, float* g, float* dy, int n)
    {
        float along = s * s * VectorMath.Dot(dx, x, n) / n;
        VectorMath.ScaledSumProduct(-along, x, dx, s, g, dy, n);
    }

    // ---- queries, keys, values -----------------------------------------------------------------------------------

    // If dx is the unit vector e_j, W dy = s g_j W_j − (s h_j / D) W (g ∘ h), where W_j is column j, and no product is needed.
    private void QkvOfUnits(ModelConfig c, BlockWeights w, RowBatch rows, int first, Activations a)
    {
        int units = rows.TangentGroups.End(0);
        Debug.Assert(rows.Tangents == rows.Values * units, "the same unit vectors beside every value row");
        var values = a.Qkv.Slice(0, rows.Values);
        var x = a.X;
        if (!w.AttentionNorm.IsAbsent)
        {
            var job = new RowJob { C = c, Rows = rows, X = a.X, Weight = w.AttentionNorm, Y = a.Normed };
            job.InverseRms = HostScratch.ForCaller(rows.Values);
            ForRows(rows.Values, ref job, &NormValue);
            x = a.Normed;
        }

        CpuLinear.Forward(_pool, x.Slice(0, rows.Values), rows.Values, w.Qkv, default, default, values, cancellation: rows.Cancellation);

        // The product has overwritten the scratch memory that held s.
        float* own = HostScratch.ForCaller(2L * rows.Tangents);
        float* common = own + rows.Tangents;
        for (int i = 0; i < rows.Values; i++)
        {
            UnitFactors(c, w.AttentionNorm, a.X.Row(i), first, units, own + (i * units), common + (i * units));
        }

        CpuLinear.Columns(_pool, w.Qkv, first, units, own, common, values, a.Qkv.Slice(rows.Values, rows.Tangents), rows.Cancellation);
        if (!w.QkvBias.IsAbsent)
        {
            for (int i = 0; i < rows.Values; i++)
            {
                TensorPrimitives.Add(values.HostRow(i), w.QkvBias.HostRow(0), values.HostRow(i));
            }
        }
    }

    private static void UnitFactors(ModelConfig c, Floats norm, float* x, int first, int units, float* own, float* common)
    {
        if (norm.IsAbsent)
        {
            new Span<float>(own, units).Fill(1);
            new Span<float>(common, units).Clear();
            return;
        }

        float* g = norm.Row(0) + first;
        float s = InverseRms(x, c.D, c.NormEpsilon);
        for (int j = 0; j < units; j++)
        {
            own[j] = s * g[j];
            common[j] = -s * s * x[first + j] / c.D;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void FinishQkv(ref RowJob job, int row)
    {
        var (c, a) = (job.C, job.A);
        float* qkv = a.Qkv.Row(row);
        int heads = c.H + c.G;
        if (c.QkNorm != QkNorm.None)
        {
            new ReadOnlySpan<float>(qkv, heads * c.E).CopyTo(a.RawQk.HostRow(row));
        }

        for (int i = 0; i < QkNorms(c); i++)
        {
            var (first, g) = QkNormAt(c, job.W, i);
            NormRow(qkv + first, g.Row(0), qkv + first, g.Columns, c.NormEpsilon);
        }

        float* rotation = a.Rotation(job.W.Rotation).Row(row);
        for (int h = 0; h < heads; h++)
        {
            Rotate(qkv + (h * c.E), rotation, c.E / 2, forward: true);
        }

        ref readonly var r = ref job.Rows[row];
        for (int g = 0; g < c.G; g++)
        {
            r.Cache.Keys(job.K, g).Write(r.Position, qkv + ((c.H + g) * c.E));
            r.Cache.Values(job.K, g).Write(r.Position, qkv + ((c.H + c.G + g) * c.E));
        }
    }

    // Uses the RawQk and rotation that FinishQkv stored for the tangent's value row.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void FinishQkvTangent(ref RowJob job, int tangent)
    {
        var (c, a) = (job.C, job.A);
        int row = job.Rows.Values + tangent;
        int at = job.Rows.TangentGroups.Owner(tangent);
        float* qkv = a.Qkv.Row(row);
        int heads = c.H + c.G;
        if (c.QkNorm != QkNorm.None)
        {
            new ReadOnlySpan<float>(qkv, heads * c.E).CopyTo(a.RawQk.HostRow(row));
        }

        for (int i = 0; i < QkNorms(c); i++)
        {
            var (first, g) = QkNormAt(c, job.W, i);
            float* x = a.RawQk.Row(at) + first;
            NormTangent(InverseRms(x, g.Columns, c.NormEpsilon), x, a.RawQk.Row(row) + first, g.Row(0), qkv + first, g.Columns);
        }

        float* rotation = a.Rotation(job.W.Rotation).Row(at);
        for (int h = 0; h < heads; h++)
        {
            Rotate(qkv + (h * c.E), rotation, c.E / 2, forward: true);
        }
    }

    // Number of norms in a row of queries and keys: one for each head, or one for all queries and one for all keys.
    private static int QkNorms(ModelConfig c) => c.QkNorm switch { QkNorm.None => 0, QkNorm.Heads => c.H + c.G, _ => 2 };

    // Index of the first number that norm i applies to, and its weights; it applies to as many numbers as it has weights.
    private static (int First, Floats Weight) QkNormAt(ModelConfig c, BlockWeights w, int i)
    {
        bool ofQueries = i < (c.QkNorm == QkNorm.Heads ? c.H : 1);
        return (c.QkNorm == QkNorm.Heads ? i * c.E : i * c.H * c.E, ofQueries ? w.QueryNorm : w.KeyNorm);
    }

    /// <summary>RoPE: rotates each pair (x_e, x_{e+E/2}) by the row's angle, forward or backward.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Rotate(float* x, float* rotation, int half, bool forward)
        => VectorMath.Turn(x, x + half, rotation, rotation + half, forward, half);

    // ---- gated unit ------------------------------------------------------------------------------------------------

    private static void GateWithSlopes(ref RowJob job, int row)
    {
        var c = job.C;
        float* a = job.A.GateUp.Row(row);
        GatedUnit.Values(c.Activation, c.ResidualScale, a, a + c.F, job.A.Gated.Row(row), c.F);
        GateSlopes(ref job, row);
    }

    private static void GateSlopes(ref RowJob job, int row)
    {
        var c = job.C;
        float* a = job.A.GateUp.Row(row);
        float* slopes = job.Slopes + (2L * row * c.F);
        GatedUnit.Slopes(c.Activation, c.ResidualScale, a, a + c.F, slopes, slopes + c.F, c.F);
    }

    /// <summary>df = m act'(a) ∘ u ∘ da + m act(a) ∘ du.</summary>
    private static void GateTangent(ref RowJob job, int tangent)
    {
        int f = job.C.F;
        int row = job.Rows.Values + tangent;
        float* slopes = job.Slopes + (2L * job.Rows.TangentGroups.Owner(tangent) * f);
        float* da = job.A.GateUp.Row(row);
        VectorMath.SumOfProducts(slopes, da, slopes + f, da + f, job.A.Gated.Row(row), f);
    }

    /// <summary>z = cap tanh(z / cap).</summary>
    private static void SoftCap(Span<float> z, float cap)
    {
        TensorPrimitives.Divide(z, cap, z);
        TensorPrimitives.Tanh(z, z);
        TensorPrimitives.Multiply(z, cap, z);
    }

    // ---- rows across threads -------------------------------------------------------------------------------------

    private void ForRows(int rows, ref RowJob job, delegate*<ref RowJob, int, void> body, int rowsPerPart = RowsPerPart)
    {
        job.Body = body;
        job.Count = rows;
        job.RowsPerPart = rowsPerPart;
        _pool.Run((rows + rowsPerPart - 1) / rowsPerPart, ref job, &RowsPart, job.Rows.Cancellation);
    }

    private static void RowsPart(ref RowJob job, int part)
    {
        int end = Math.Min((part + 1) * job.RowsPerPart, job.Count);
        for (int row = part * job.RowsPerPart; row < end; row++)
        {
            job.Body(ref job, row);
        }
    }

    private struct CallJob
    {
        public Action<int> Body;
        public ExceptionDispatchInfo?[] Errors;
    }

    private struct RowJob
    {
        public ModelConfig C;
        public int K;
        public BlockWeights W;
        public RowBatch Rows;
        public Activations A;
        public Floats X;
        public Floats Weight;
        public Floats Y;
        public float* InverseRms;
        public float* Slopes;
        public RowGroups Groups;
        public Cotangents Back;
        public delegate*<ref RowJob, int, void> Body;
        public int Count;
        public int RowsPerPart;
    }
}
