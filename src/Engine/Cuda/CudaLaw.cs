using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tiller.Kernels;
using Tiller.Law;

namespace Tiller.Cuda;

/// <summary>The layout of a law in device memory: <see cref="DeviceLayerLaw"/> // (stages), then its numbers, then its directions.</summary>
internal sealed class CudaLaw
{
    private readonly FeedbackLaw _law;
    private readonly int _numbersInBytes;

    private CudaLaw(FeedbackLaw law)
    {
        _law = law;
        int numbers = 0;
        long directions = 0;
        for (int k = 0; k < law.Stages; k++)
        {
            var part = law.Packed(k);
            numbers += (3 * part.SensorCount) + (3 * part.TermCount) + 1 + (2 * part.FeedCount) + (4 * part.PlaneCount);
            directions += part.V.Length + part.W.Length;
        }

        _numbersInBytes = Align((law.Stages * Unsafe.SizeOf<DeviceLayerLaw>()) + (4 * numbers));
        SizeInBytes = _numbersInBytes + (4 * directions);
    }

    public long SizeInBytes { get; }

    public static CudaLaw Of(FeedbackLaw law) => new(law);

    /// <summary>
    /// Whether <paramref name="other"/> has the same directions and thus the same layout. Directions are compared by reference, because laws of one
    /// controller share them.
    /// </summary>
    public bool HasDirectionsOf(CudaLaw other)
    {
        var (a, b) = (_law, other._law);
        if (_numbersInBytes != other._numbersInBytes || a.Width != b.Width || a.Stages != b.Stages
            || a.Sensors.Count != b.Sensors.Count || a.Terms.Count != b.Terms.Count)
        {
            return false;
        }

        for (int i = 0; i < a.Sensors.Count; i++)
        {
            if (a.Sensors[i].Layer != b.Sensors[i].Layer || a.Sensors[i].Hook != b.Sensors[i].Hook
                || !ReferenceEquals(a.Sensors[i].V, b.Sensors[i].V))
            {
                return false;
            }
        }

        for (int i = 0; i < a.Terms.Count; i++)
        {
            if (a.Terms[i].Layer != b.Terms[i].Layer || a.Terms[i].Hook != b.Terms[i].Hook || !ReferenceEquals(a.Terms[i].W, b.Terms[i].W))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>The content of a buffer at <paramref name="address"/>, with or without the directions at the end.</summary>
    public ReadOnlySpan<byte> Bytes(nint address, bool directions)
    {
        byte[] bytes = new byte[directions ? SizeInBytes : _numbersInBytes];
        var layers = MemoryMarshal.Cast<byte, DeviceLayerLaw>(bytes.AsSpan(0, _law.Stages * Unsafe.SizeOf<DeviceLayerLaw>()));
        int at = _law.Stages * Unsafe.SizeOf<DeviceLayerLaw>();
        long far = _numbersInBytes;
        for (int k = 0; k < _law.Stages; k++)
        {
            var part = _law.Packed(k);
            layers[k] = new DeviceLayerLaw
            {
                Low = Near(MemoryMarshal.AsBytes(part.Low)),
                High = Near(MemoryMarshal.AsBytes(part.High)),
                Sensor = Near(MemoryMarshal.AsBytes(part.Sensors)),
                C = Near(MemoryMarshal.AsBytes(part.C)),
                Gate = Near(MemoryMarshal.AsBytes(part.Gates)),
                FeedBegin = Near(MemoryMarshal.AsBytes(part.FeedBegins)),
                FeedSensor = Near(MemoryMarshal.AsBytes(part.FeedSensors)),
                FeedGain = Near(MemoryMarshal.AsBytes(part.FeedGains)),
                PlaneSensors = Near(MemoryMarshal.AsBytes(part.PlaneSensors)),
                PlaneTargets = Near(MemoryMarshal.AsBytes(part.PlaneTargets)),
                V = Far(part.V),
                W = Far(part.W),
                Sensors = part.SensorCount,
                Terms = part.TermCount,
                Planes = part.PlaneCount,
                Bends = part.Bends ? 1 : 0,
            };
        }

        return bytes;

        nint Near(ReadOnlySpan<byte> values)
        {
            values.CopyTo(bytes.AsSpan(at));
            at += values.Length;
            return address + at - values.Length;
        }

        nint Far(ReadOnlySpan<float> values)
        {
            if (directions)
            {
                MemoryMarshal.AsBytes(values).CopyTo(bytes.AsSpan((int)far));
            }

            far += 4L * values.Length;
            return (nint)(address + far - (4L * values.Length));
        }
    }

    private static int Align(int bytes) => (bytes + 63) / 64 * 64;
}
