using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cuda;

// A step that the device begins by itself (CudaStepper): its rows, and their tokens.
internal sealed partial class CudaOps
{
    /// <summary>Readies rows whose tokens are yet to be drawn.</summary>
    /// <returns>False if the device cannot write to the host: nothing has changed.</returns>
    internal bool PlaceNext(RowBatch rows, ReadOnlySpan<DrawSettings> settings, Activations a)
    {
        lock (_launching)
        {
            var table = (CudaRows)(a.OnDevice ??= new CudaRows(this));
            if (!(table.Ahead ??= new CudaAhead(_context, this)).Reserve(rows, settings))
            {
                return false;
            }

            ReserveDraw(rows.Values, a.Config.V, Samples(settings));
            table.PlaceNext(rows, a.Config);
            Reserve(rows, a, table);
            return true;
        }
    }

    /// <summary>Draws the tokens of the rows of <see cref="PlaceNext"/> and makes them the next step's; waits for nothing.</summary>
    internal void DrawNext(Floats logits, ReadOnlySpan<DrawSettings> settings, Activations a)
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

            var ids = Launch(logits, settings, samples ? ahead.Sampling : default, ahead.Softmax);
            table.Advance(); // first: should the launch fail, the rows are sent again
            _head.Advance(_stream, table.All.Rows.Slice(0, settings.Length), ids, ahead.Ring);
            ahead.Mark(_stream);
        }
    }
}
