using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cuda;

// The drawn tokens go to the host and to the step that takes them at the same time: the host waits for four bytes a row and the laws' numbers
// while the step runs.
internal sealed partial class CudaOps
{
    /// <inheritdoc/>
    public override bool PlaceNext(RowBatch rows, ReadOnlySpan<DrawSettings> settings, Activations a)
    {
        if (!Draws(a.Config.V))
        {
            return false;
        }

        lock (_launching)
        {
            var table = (CudaRows)(a.OnDevice ??= new CudaRows(this));
            if (!(table.Ahead ??= new CudaAhead(_context, this)).Reserve(rows))
            {
                return false;
            }

            ReserveDraw(rows.Values, a.Config.V, Samples(settings));
            table.PlaceNext(rows, a.Config);
            Reserve(rows, a, table);
            return true;
        }
    }

    /// <inheritdoc/>
    public override void DrawNext(Floats logits, ReadOnlySpan<DrawSettings> settings, Activations a)
    {
        var table = Table(a);
        var ahead = table.Ahead!;
        lock (_launching)
        {
            bool samples = Samples(settings);
            if (samples)
            {
                ahead.Send(_stream, settings);
            }

            nint ids = Launch(logits, settings.Length, samples ? ahead.Sampling : 0);
            table.Advance(); // first: should the launch fail, the rows are sent again
            _head.Advance(_stream, table.Rows, settings.Length, sampling: 0, ids, ahead.Line, ahead.Width, capacity: 1, ahead.Count);
            ahead.Mark(_stream);
        }
    }

    /// <inheritdoc/>
    public override void TakeNext(Activations a, Span<int> ids) => Table(a).Ahead!.Take(ids);

    /// <inheritdoc/>
    public override void KeepNext(Activations a, int row) => Table(a).Ahead!.Keep(row);

    /// <inheritdoc/>
    public override bool AreAlike(int rows, int others) => rows == others
        || (rows < LinearKernels.LibraryRows && others < LinearKernels.LibraryRows && rows <= LinearKernels.FewRows == others <= LinearKernels.FewRows);
}
