using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cuda;

// A step that the device begins by itself (CudaStepper): its rows and the draw of their tokens.
internal sealed partial class CudaOps
{
    /// <summary>Prepares the rows of the next step, whose tokens have not been drawn yet.</summary>
    /// <returns>False if the device cannot write to host memory. Nothing has changed then.</returns>
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

    /// <summary>
    /// Draws the tokens of the rows of <see cref="PlaceNext"/> and makes them the rows of the next step. It does not wait for the device.
    /// </summary>
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
            table.Advance(); // before the launch: if it fails, the rows no longer match and are sent again
            _head.Advance(_stream, table.All.Rows.Slice(0, settings.Length), ids, ahead.Ring);
            ahead.Mark(_stream);
        }
    }
}
