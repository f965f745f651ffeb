using Tiller.Checkpoint;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cuda;

// The stages backwards, at the values that the forward stages have left in Activations.
internal sealed partial class CudaOps
{
    /// <inheritdoc/>
    public override void PullDown(ModelConfig c, BlockWeights w, RowBatch rows, Activations a, RowGroups groups, Cotangents y)
    {
        // This is the first stage of a pullback. The later stages use the same groups.
        var placed = (CudaGroups)(y.OnDevice ??= new CudaGroups(this));
        placed.Place(groups);
        Table(a).ReserveScratch(Math.Max(
            LinearScratchInBytes(c, new RowCounts(Values: 0, groups.Total)),
            AttentionKernels.ScratchInBytes(Shape(c, 0), new RowCounts(rows.Values, groups.Total),
                new AttentionExtent(Table(a).Longest, placed.All.MaxRows))));
        PullProject(c, w.Down, w.PostFeedForwardNorm, a.RawFeedForward, a, groups, y, y.Gated);
    }

    /// <inheritdoc/>
    public override void PullGateUp(ModelConfig c, BlockWeights w, RowBatch rows, Activations a, RowGroups groups, Cotangents y)
    {
        lock (_launching)
        {
            _gate.Pull(_stream, a.GateUp, Groups(y).Owners, y.Gated, y.GateUp, c.Activation, c.ResidualScale);
            PullNormed(c, w.GateUp, y.GateUp, w.FeedForwardNorm, a.R, a, groups, y);
        }
    }

    /// <inheritdoc/>
    public override void PullOutput(ModelConfig c, BlockWeights w, RowBatch rows, Activations a, RowGroups groups, Cotangents y) =>
        PullProject(c, w.Output, w.PostAttentionNorm, a.RawAttention, a, groups, y, y.Heads);

    /// <inheritdoc/>
    public override void PullAttend(ModelConfig c, int k, RowBatch rows, Activations a, RowGroups groups, Cotangents y)
    {
        var table = Table(a);
        lock (_launching)
        {
            _attention.Pull(_stream, Shape(c, k), table.All.Rows, Groups(y), table.Longest, new AttentionValues(a.Qkv, a.Heads), y.Heads, y.Qkv,
                table.Scratch);
        }
    }

    /// <inheritdoc/>
    public override void PullQkv(ModelConfig c, BlockWeights w, RowBatch rows, Activations a, RowGroups groups, Cotangents y)
    {
        lock (_launching)
        {
            _qkv.Pull(_stream, Groups(y).Owners, y.Qkv, a.RawQk, a.Rotation(w.Rotation), SingleHeadNorms(c, w), Heads(c));
            if (c.QkNorm == QkNorm.Width)
            {
                _qkv.PullWidth(_stream, Groups(y).Owners, y.Qkv, a.RawQk, HeadNorms(c, w), Heads(c));
            }

            PullNormed(c, w.Qkv, y.Qkv, w.AttentionNorm, a.X, a, groups, y);
        }
    }

    private static CotangentGroups Groups(Cotangents y) => ((CudaGroups)y.OnDevice!).All;

    // x̄ = Wᵀ [norm′ᵀ] ȳ; norm′ is the Jacobian of the post-norm, if there is one
    private void PullProject(ModelConfig c, Matrix w, Floats postNorm, Floats raw, Activations a, RowGroups groups, Cotangents y, Floats x)
    {
        lock (_launching)
        {
            var stream = y.Stream;
            if (!postNorm.IsAbsent)
            {
                _norm.Pull(_stream, y.Stream, raw, Groups(y).Owners, new RmsNorm(postNorm, c.NormEpsilon), y.Normed, accumulate: false);
                stream = y.Normed;
            }

            _linear.Transposed(_stream, stream, groups.Total, w, x, Table(a).Scratch);
        }
    }

    // stream += [norm′ᵀ] Wᵀ ȳ; norm′ is the Jacobian of the norm before W, if there is one
    private void PullNormed(ModelConfig c, Matrix w, Floats outputs, Floats norm, Floats at, Activations a, RowGroups groups, Cotangents y)
    {
        _linear.Transposed(_stream, outputs, groups.Total, w, y.Normed, Table(a).Scratch);
        if (norm.IsAbsent)
        {
            _linear.Add(_stream, y.Normed, groups.Total, y.Stream);
            return;
        }

        _norm.Pull(_stream, y.Normed, at, Groups(y).Owners, new RmsNorm(norm, c.NormEpsilon), y.Stream, accumulate: true);
    }
}
