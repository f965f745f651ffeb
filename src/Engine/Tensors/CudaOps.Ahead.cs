using Tiller.Kernels;

namespace Tiller.Tensors;

// The drawn token goes to the host and to the step that takes it at the same time: the host waits for four bytes and a law's numbers while
// the step runs.
internal sealed partial class CudaOps
{
    /// <inheritdoc/>
    public override bool PlaceNext(RowBatch rows, Activations a)
    {
        if (a.Config.V > HeadKernels.MaxVocabulary)
        {
            return false;
        }

        lock (_launching)
        {
            var table = (CudaRows)(a.OnDevice ??= new CudaRows(this));
            if (!(table.Ahead ??= new CudaAhead(_context, this)).Reserve((CudaSteering?)rows[0].Steering))
            {
                return false;
            }

            ReserveDraw(a.Config.V);
            table.PlaceNext(rows);
            Reserve(rows, a, table);
            return true;
        }
    }

    /// <inheritdoc/>
    public override void DrawNext(Floats logits, in DrawSettings settings, Activations a)
    {
        var table = Table(a);
        var ahead = table.Ahead!;
        lock (_launching)
        {
            if (settings.Temperature > 0)
            {
                ahead.Send(_stream, Sampling(settings), settings.RandomAfter);
            }

            nint id = Launch(logits, settings, ahead.Sampling);
            table.Advance(); // first: should the launch fail, the row is sent again
            _head.Advance(_stream, table.Rows, rows: 1, sampling: 0, id, ahead.Line, ahead.Width, capacity: 1, ahead.Count);
            ahead.Mark(_stream);
        }
    }

    /// <inheritdoc/>
    public override int? TakeNext(Activations a) => Table(a).Ahead!.Take() is >= 0 and var id ? id : null;

    /// <inheritdoc/>
    public override void KeepNext(Activations a) => Table(a).Ahead!.Keep();
}
