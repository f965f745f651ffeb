using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cuda;

// The drawn tokens are the only thing that comes back to the host: four bytes a row instead of V logits.
internal sealed partial class CudaOps
{
    private DeviceSampling[] _sampling = [];

    // DeviceSampling // (rows), then the ids, then scratch, each at a multiple of 64 bytes.
    private DeviceBuffer? _draw;

    /// <summary>Draws a token from each row of logits, and waits for the ids.</summary>
    internal void Draw(Floats logits, ReadOnlySpan<DrawSettings> settings, Span<int> ids)
    {
        int rows = settings.Length;
        lock (_launching)
        {
            bool samples = Samples(settings);
            ReserveDraw(rows, logits.Columns, samples);
            if (samples)
            {
                if (_sampling.Length < rows)
                {
                    _sampling = new DeviceSampling[Math.Max(rows, 2 * _sampling.Length)];
                }

                for (int i = 0; i < rows; i++)
                {
                    _sampling[i] = Sampling(settings[i]);
                }

                _stream.CopyToDevice(_draw!.Address, MemoryMarshal.AsBytes(_sampling.AsSpan(0, rows)));
            }

            _stream.CopyToHost(Launch(logits, rows, samples ? new(_draw!.Address, rows) : default).Address, MemoryMarshal.AsBytes(ids[..rows]));
        }
    }

    /// <summary>How a row is drawn, as the kernels take it.</summary>
    internal static DeviceSampling Sampling(in DrawSettings settings) => new()
    {
        Random = settings.Random,
        Temperature = settings.Temperature,
        TopK = settings.TopK,
        TopP = settings.TopP,
        MinP = settings.MinP,
        Penalty = 1,
    };

    private static bool Samples(ReadOnlySpan<DrawSettings> settings)
    {
        foreach (ref readonly var one in settings)
        {
            if (one.Temperature > 0)
            {
                return true;
            }
        }

        return false;
    }

    private static int IdsAt(int rows) => ((rows * Unsafe.SizeOf<DeviceSampling>()) + 63) / 64 * 64;

    private static int ScratchAt(int rows) => IdsAt(rows) + (((4 * rows) + 63) / 64 * 64);

    private void ReserveDraw(int rows, int vocabulary, bool samples)
    {
        long size = ScratchAt(rows) + HeadKernels.ScratchSizeInBytes(rows, vocabulary, samples);
        if (_draw is null || _draw.SizeInBytes < size)
        {
            _draw?.Dispose();
            _draw = null;
            _draw = Allocate(size);
        }
    }

    // Draws as told, absent where all rows take the largest; gives back the ids, which hold until the next draw.
    private DeviceSpan<int> Launch(Floats logits, int rows, DeviceSpan<DeviceSampling> sampling)
    {
        var ids = new DeviceSpan<int>(_draw!.Address + IdsAt(rows), rows);
        var scratch = new DeviceSpan<byte>(_draw.Address, _draw.SizeInBytes).Slice(ScratchAt(rows), _draw.SizeInBytes - ScratchAt(rows));
        if (sampling.IsAbsent)
        {
            _head.ArgMax(_stream, logits, ids, scratch);
        }
        else
        {
            _head.Sample(_stream, logits, sampling, ids, scratch);
        }

        return ids;
    }
}
