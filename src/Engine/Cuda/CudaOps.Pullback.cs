using Tiller.Checkpoint;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cuda;

// The stages backwards, at the values the forward stages left in Activations.
internal sealed partial class CudaOps
{
    /// <inheritdoc/>
    public override void PullDown(ModelConfig c, BlockWeights w, RowBatch rows, Activations a, RowGroups groups, Cotangents y)
    {
        // The first stage of a pullback: the groups are the same in those that follow.
        var placed = (CudaGroups)(y.OnDevice ??= new CudaGroups(this));
        placed.Place(groups);
        Table(a).ReserveScratch(Math.Max(LinearScratchInBytes(c, values: 0, groups.Total), AttentionKernels.ScratchInBytes(Shape(c, 0), rows.Values, groups.Total, Most(groups), Table(a).Longest)));
        PullProject(c, w.Down, w.PostFeedForwardNorm, a.RawFeedForward, a, groups, y, y.Gated);
    }

    /// <inheritdoc/>
    public override void PullGateUp(ModelConfig c, BlockWeights w, RowBatch rows, Activations a, RowGroups groups, Cotangents y)
    {
        lock (_launching)
        {
            _gate.Pull(_stream, a.GateUp.Address, Groups(y).Owners, groups.Total, y.Gated.Address, y.GateUp.Address, c.F, c.Activation);
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
            _attention.Pull(_stream, Shape(c, k), table.Rows, table.Values, Groups(y).Begin, Groups(y).Owners, groups.Total, Most(groups), table.Longest,
                a.Qkv.Address, a.Heads.Address, y.Heads.Address, y.Qkv.Address, table.Scratch);
        }
    }

    /// <inheritdoc/>
    public override void PullQkv(ModelConfig c, BlockWeights w, RowBatch rows, Activations a, RowGroups groups, Cotangents y)
    {
        lock (_launching)
        {
            _qkv.Pull(_stream, Groups(y).Owners, groups.Total, y.Qkv.Address, a.RawQk.Address, a.Rotation.Address, w.QueryNorm.Address,
                w.KeyNorm.Address, c.NormEpsilon, c.H, c.G, c.E);
            PullNormed(c, w.Qkv, y.Qkv, w.AttentionNorm, a.X, a, groups, y);
        }
    }

    private static CudaGroups Groups(Cotangents y) => (CudaGroups)y.OnDevice!;

    private static int Most(RowGroups groups)
    {
        int most = 0;
        for (int i = 0; i < groups.Count; i++)
        {
            most = Math.Max(most, groups.End(i) - groups.Begin(i));
        }

        return most;
    }

    // x̄ = W' [norm'] ȳ
    private void PullProject(ModelConfig c, Matrix w, Floats postNorm, Floats raw, Activations a, RowGroups groups, Cotangents y, Floats x)
    {
        lock (_launching)
        {
            var stream = y.Stream;
            if (!postNorm.IsAbsent)
            {
                _norm.Pull(_stream, y.Stream.Address, raw.Address, Groups(y).Owners, groups.Total, postNorm.Address, y.Normed.Address, c.D, c.NormEpsilon, accumulate: false);
                stream = y.Normed;
            }

            _linear.Transposed(_stream, stream.Address, groups.Total, w, x.Address, Table(a).Scratch);
        }
    }

    // stream += norm' W' ȳ
    private void PullNormed(ModelConfig c, Matrix w, Floats outputs, Floats norm, Floats at, Activations a, RowGroups groups, Cotangents y)
    {
        _linear.Transposed(_stream, outputs.Address, groups.Total, w, y.Normed.Address, Table(a).Scratch);
        _norm.Pull(_stream, y.Normed.Address, at.Address, Groups(y).Owners, groups.Total, norm.Address, y.Stream.Address, c.D, c.NormEpsilon, accumulate: true);
    }
}
