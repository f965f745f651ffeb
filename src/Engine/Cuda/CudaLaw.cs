using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tiller.Kernels;
using Tiller.Law;

namespace Tiller.Cuda;

/// <summary>
/// The layout of a law in device memory: <see cref="DeviceLayerLaw"/> // (stages), <see cref="DeviceEdit"/> // (edits), <see cref="DeviceCurve"/>
/// // (feeds of stages with curves), then its numbers, its directions with the tables of its curves, and the vectors of its edits.
/// </summary>
internal sealed class CudaLaw
{
    private readonly FeedbackLaw _law;
    private readonly CudaEdits _edits;
    private readonly int _numbersInBytes;
    private readonly int _curves;

    private CudaLaw(FeedbackLaw law)
    {
        _law = law;
        _edits = new CudaEdits(law);
        int numbers = _edits.Begins.Length;
        long directions = 0;
        for (int k = 0; k < law.Stages; k++)
        {
            var part = law.Packed(k);
            numbers += (3 * part.SensorCount) + (3 * part.TermCount) + 1 + (2 * part.FeedCount) + (4 * part.PlaneCount);
            directions += part.V.Length + part.W.Length + Tables(part.Curves);
            _curves += part.Curves.Length;
        }

        _numbersInBytes = Align(StructsInBytes + (4 * numbers));
        SizeInBytes = _numbersInBytes + (4 * directions) + _edits.VectorsInBytes;
    }

    public long SizeInBytes { get; }

    // The edits, 0 without any, and where those of each point begin, from the start of the law.
    public (int Edits, int Begins) EditsAt =>
        _edits.IsEmpty ? (0, 0) : (_law.Stages * Unsafe.SizeOf<DeviceLayerLaw>(), StructsInBytes);

    private int CurvesAt => (_law.Stages * Unsafe.SizeOf<DeviceLayerLaw>()) + (_edits.Count * Unsafe.SizeOf<DeviceEdit>());

    private int StructsInBytes => CurvesAt + (_curves * Unsafe.SizeOf<DeviceCurve>());

    public static CudaLaw Of(FeedbackLaw law) => new(law);

    /// <summary>
    /// Whether <paramref name="other"/> has the same directions and thus the same layout. Directions are compared by reference, because laws of one
    /// controller share them.
    /// </summary>
    public bool HasDirectionsOf(CudaLaw other)
    {
        var (a, b) = (_law, other._law);
        if (_numbersInBytes != other._numbersInBytes || a.Width != b.Width || a.Stages != b.Stages
            || a.Sensors.Count != b.Sensors.Count || a.Terms.Count != b.Terms.Count || !_edits.HasVectorsOf(other._edits))
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

        for (int k = 0; k < a.Stages; k++)
        {
            ReadOnlySpan<ErrorCurve?> one = a.Packed(k).Curves, two = b.Packed(k).Curves;
            if (one.Length != two.Length)
            {
                return false;
            }

            for (int i = 0; i < one.Length; i++)
            {
                if (one[i] is null ? two[i] is not null : two[i] is null || !one[i]!.HasArraysOf(two[i]!))
                {
                    return false;
                }
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
        int at = StructsInBytes, curveAt = CurvesAt;
        long far = _numbersInBytes;
        Near(MemoryMarshal.AsBytes(_edits.Begins));
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
                Curves = Curved(part.Curves),
                PlaneSensors = Near(MemoryMarshal.AsBytes(part.PlaneSensors)),
                PlaneTargets = Near(MemoryMarshal.AsBytes(part.PlaneTargets)),
                V = Far(part.V),
                W = Far(part.W),
                Sensors = part.SensorCount,
                Terms = part.TermCount,
                Planes = part.PlaneCount,
                Bends = part.Bends ? 1 : 0,
                KeepsNorm = part.KeepsNorm ? 1 : 0,
            };
        }

        var edits = bytes.AsSpan(_law.Stages * Unsafe.SizeOf<DeviceLayerLaw>(), _edits.Count * Unsafe.SizeOf<DeviceEdit>());
        _edits.Write(MemoryMarshal.Cast<byte, DeviceEdit>(edits), (nint)(address + far), directions ? bytes.AsSpan((int)far) : []);
        return bytes;

        nint Near(ReadOnlySpan<byte> values)
        {
            values.CopyTo(bytes.AsSpan(at));
            at += values.Length;
            return address + at - values.Length;
        }

        // The curves of a stage's feeds, 0 without any.
        nint Curved(ReadOnlySpan<ErrorCurve?> curves)
        {
            if (curves.IsEmpty)
            {
                return 0;
            }

            var told = MemoryMarshal.Cast<byte, DeviceCurve>(bytes.AsSpan(curveAt, curves.Length * Unsafe.SizeOf<DeviceCurve>()));
            long end = far + (4L * Tables(curves));
            ErrorCurve? before = null;
            nint nodes = 0;
            for (int i = 0; i < curves.Length; i++)
            {
                if (curves[i] is { } curve)
                {
                    nodes = before?.HasNodesOf(curve) == true ? nodes : Far(curve.Nodes());
                    told[i] = new DeviceCurve
                    {
                        Nodes = nodes,
                        Cubics = Far(curve.Cubics()),
                        Count = curve.Nodes().Length,
                        Knee = curve.Knee,
                        Slope = curve.Slope,
                        Scale = curve.Scale,
                    };
                    before = curve;
                }
            }

            curveAt += curves.Length * Unsafe.SizeOf<DeviceCurve>();
            far = end;
            return address + curveAt - (curves.Length * Unsafe.SizeOf<DeviceCurve>());
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

    // Floats of the tables of a stage's curves. Nodes that several curves share are there once.
    private static int Tables(ReadOnlySpan<ErrorCurve?> curves)
    {
        int floats = 0;
        ErrorCurve? before = null;
        foreach (var curve in curves)
        {
            if (curve is not null)
            {
                floats += (before?.HasNodesOf(curve) == true ? 2 : 3) * curve.Nodes().Length;
                before = curve;
            }
        }

        return Align(4 * floats) / 4;
    }

    private static int Align(int bytes) => (bytes + 63) / 64 * 64;
}
