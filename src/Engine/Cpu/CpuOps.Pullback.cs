using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using Tiller.Checkpoint;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cpu;

// The pullbacks of the stages, at the values that the forward stages left in Activations. On entry, y.Stream is the cotangent of the block's output;
// on return, that of its input.
internal sealed unsafe partial class CpuOps
{
    /// <inheritdoc/>
    public override void PullDown(ModelConfig c, BlockWeights w, RowBatch rows, Activations a, RowGroups groups, Cotangents y) =>
        PullProject(c, w.Down, w.PostFeedForwardNorm, a.RawFeedForward, rows, groups, y, y.Gated);

    /// <inheritdoc/>
    public override void PullGateUp(ModelConfig c, BlockWeights w, RowBatch rows, Activations a, RowGroups groups, Cotangents y)
    {
        var job = new RowJob { C = c, Rows = rows, A = a, Groups = groups, Back = y, Slopes = HostScratch.ForCaller(2L * rows.Values * c.F) };
        ForRows(rows.Values, ref job, &GateSlopes);
        ForRows(groups.Total, ref job, &PullGate);
        PullNormed(c, w.GateUp, y.GateUp, w.FeedForwardNorm, a.R, rows, groups, y);
    }

    /// <inheritdoc/>
    public override void PullOutput(ModelConfig c, BlockWeights w, RowBatch rows, Activations a, RowGroups groups, Cotangents y) =>
        PullProject(c, w.Output, w.PostAttentionNorm, a.RawAttention, rows, groups, y, y.Heads);

    /// <inheritdoc/>
    public override void PullQkv(ModelConfig c, BlockWeights w, RowBatch rows, Activations a, RowGroups groups, Cotangents y)
    {
        var job = new RowJob { C = c, W = w, Rows = rows, A = a, Groups = groups, Back = y };
        ForRows(groups.Total, ref job, &PullRotation);
        PullNormed(c, w.Qkv, y.Qkv, w.AttentionNorm, a.X, rows, groups, y);
    }

    // x̄ = W' [norm'] ȳ
    private void PullProject(ModelConfig c, Matrix w, Floats postNorm, Floats raw, RowBatch rows, RowGroups groups, Cotangents y, Floats x)
    {
        var stream = y.Stream;
        if (!postNorm.IsAbsent)
        {
            var job = new RowJob { C = c, Rows = rows, Groups = groups, X = raw, Weight = postNorm, A = null!, Back = y };
            ForRows(groups.Total, ref job, &PullPostNorm);
            stream = y.Normed;
        }

        CpuLinear.Transposed(_pool, stream.Slice(0, groups.Total), w, x.Slice(0, groups.Total), rows.Cancellation);
    }

    // stream += [norm'] W' ȳ
    private void PullNormed(ModelConfig c, Matrix w, Floats outputs, Floats norm, Floats at, RowBatch rows, RowGroups groups, Cotangents y)
    {
        CpuLinear.Transposed(_pool, outputs.Slice(0, groups.Total), w, y.Normed.Slice(0, groups.Total), rows.Cancellation);
        var job = new RowJob { C = c, Rows = rows, Groups = groups, X = at, Weight = norm, Back = y };
        delegate*<ref RowJob, int, void> pull = norm.IsAbsent ? &PullAndAdd : &PullNormAndAdd;
        ForRows(groups.Total, ref job, pull);
    }

    private static void PullPostNorm(ref RowJob job, int row)
    {
        int d = job.C.D;
        float* to = job.Back.Normed.Row(row);
        job.Back.Stream.HostRow(row).CopyTo(new Span<float>(to, d));
        PullNorm(job.X.Row(job.Groups.Owner(row)), job.Weight.Row(0), to, d, job.C.NormEpsilon);
    }

    private static void PullAndAdd(ref RowJob job, int row) => VectorMath.AddScaled(1, job.Back.Normed.Row(row), job.Back.Stream.Row(row), job.C.D);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PullNormAndAdd(ref RowJob job, int row)
    {
        int d = job.C.D;
        float* bar = job.Back.Normed.Row(row);
        PullNorm(job.X.Row(job.Groups.Owner(row)), job.Weight.Row(0), bar, d, job.C.NormEpsilon);
        VectorMath.AddScaled(1, bar, job.Back.Stream.Row(row), d);
    }

    /// <summary>Pulls ȳ back through RMSNorm in place: x̄ = s (z − (z·h) h / n), z = g ∘ ȳ, h = s x.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PullNorm(float* x, float* g, float* bar, int n, float epsilon)
    {
        float s = InverseRms(x, n, epsilon);
        VectorMath.ScaledProduct(s, bar, g, bar, n);
        VectorMath.AddScaled(-s * s * VectorMath.Dot(bar, x, n) / n, x, bar, n);
    }

    /// <summary>ā = act'(a) ∘ u ∘ f̄, ū = act(a) ∘ f̄.</summary>
    private static void PullGate(ref RowJob job, int row)
    {
        int f = job.C.F;
        float* slopes = job.Slopes + (2L * job.Groups.Owner(row) * f);
        var bar = job.Back.Gated.HostRow(row);
        var to = job.Back.GateUp.HostRow(row);
        TensorPrimitives.Multiply(new Span<float>(slopes, f), bar, to[..f]);
        TensorPrimitives.Multiply(new Span<float>(slopes + f, f), bar, to[f..]);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PullRotation(ref RowJob job, int row)
    {
        var (c, a) = (job.C, job.A);
        int at = job.Groups.Owner(row);
        float* qkv = job.Back.Qkv.Row(row);
        float* rotation = a.Rotation(job.W.Rotation).Row(at);
        for (int h = 0; h < c.H + c.G; h++)
        {
            Rotate(qkv + (h * c.E), rotation, c.E / 2, forward: false);
        }

        for (int i = 0; i < QkNorms(c); i++)
        {
            var (first, g) = QkNormAt(c, job.W, i);
            PullNorm(a.RawQk.Row(at) + first, g.Row(0), qkv + first, g.Columns, c.NormEpsilon);
        }
    }
}
