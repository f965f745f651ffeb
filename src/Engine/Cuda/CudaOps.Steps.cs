using System.Numerics;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cuda;

// A step that comes again is recorded once as a CUDA graph and then launched whole. What changes from token to token (ids, positions,
// caches, laws) is in tables on the device; what a recording depends on is its CudaStepKey.
internal sealed partial class CudaOps
{
    // More rows are a prefill, which does not come again; and the library's first product of a shape may not be captured.
    private const int MostRows = LinearKernels.LibraryRows - 1;

    /// <summary>Rows that the tensor cores take together, so that rows which fill up a batch to a multiple of it cost next to nothing.</summary>
    internal const int RowsTile = 16;

    private CudaStepKey _recording;

    /// <inheritdoc/>
    public override int FillUp(int values)
    {
        return values > MostRows ? values
            : values <= LinearKernels.FewRows ? (int)BitOperations.RoundUpToPowerOf2((uint)values)
            : Math.Min((values + RowsTile - 1) / RowsTile * RowsTile, MostRows);
    }

    /// <inheritdoc/>
    public override bool BeginStep(RowBatch rows, Activations a, Floats logits)
    {
        var table = Table(a);
        if (table.Values + table.Tangents > MostRows)
        {
            return true;
        }

        var key = new CudaStepKey(
            a.X.Address, a.Y.Address, a.Capacity, logits.Address, table.Values, table.Tangents, table.MostTangents, table.Longest, rows.AnySteered, table.OneSequence);
        _launching.Enter();
        try
        {
            if (table.Find(key) is { } graph)
            {
                graph.Launch(_stream);
                _launching.Exit();
                return false;
            }

            _stream.BeginCapture();
            _recording = key;
            return true;
        }
        catch
        {
            _launching.Exit();
            throw;
        }
    }

    /// <inheritdoc/>
    public override void EndStep(Activations a, bool complete)
    {
        var table = Table(a);
        if (table.Values + table.Tangents > MostRows)
        {
            return;
        }

        try
        {
            using var graph = _stream.EndCapture();
            if (complete)
            {
                var ready = graph.Instantiate();
                table.Keep(_recording, ready);
                ready.Launch(_stream);
            }
        }
        finally
        {
            _launching.Exit();
        }
    }
}
