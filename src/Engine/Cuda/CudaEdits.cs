using System.Runtime.InteropServices;
using Tiller.Kernels;
using Tiller.Law;

namespace Tiller.Cuda;

/// <summary>The edits of a law as the device has them: by point and block, their vectors one after another.</summary>
internal sealed class CudaEdits
{
    private const int LineInFloats = 16;

    private readonly ActivationEdit[] _edits;

    public CudaEdits(FeedbackLaw law)
    {
        _edits = [.. law.Edits.OrderBy(e => law.EditStage(e.Layer, e.Point))];
        Begins = new int[law.EditStages + 1];
        foreach (var edit in _edits)
        {
            Begins[law.EditStage(edit.Layer, edit.Point) + 1]++;
        }

        for (int i = 1; i < Begins.Length; i++)
        {
            Begins[i] += Begins[i - 1];
        }
    }

    public bool IsEmpty => _edits.Length == 0;

    public int Count => _edits.Length;

    /// <summary>Where the edits of each point of a block begin, and where the last one's end // (4 L + 1), or 0 alone without edits.</summary>
    public int[] Begins { get; }

    public long VectorsInBytes => _edits.Sum(e => 4L * Aligned(Length(e)));

    /// <summary>Whether the vectors, and so the whole layout, are those of <paramref name="other"/>, compared by identity.</summary>
    public bool HasVectorsOf(CudaEdits other) =>
        _edits.Length == other._edits.Length && Begins.AsSpan().SequenceEqual(other.Begins)
        && _edits.Zip(other._edits, HasVectorsOf).All(same => same);

    /// <summary>Writes the edits, and their vectors where there is room for them.</summary>
    /// <param name="edits">Result // (edits).</param>
    /// <param name="address">Where the vectors are on the device.</param>
    /// <param name="vectors">Result, from that address on; or nothing.</param>
    public void Write(Span<DeviceEdit> edits, nint address, Span<byte> vectors)
    {
        var floats = MemoryMarshal.Cast<byte, float>(vectors);
        int at = 0;
        for (int i = 0; i < edits.Length; i++)
        {
            var edit = _edits[i];
            int numbers = edit.Vectors.Sum(vector => vector.Length);
            edits[i] = new DeviceEdit
            {
                Numbers = address + (4 * at),
                Places = address + (4 * (at + numbers)),
                Gate = edit.Gate,
                Strength = edit.Strength,
                Joins = edit.JoinsRows ? 1 : 0,
            };
            switch (edit)
            {
                case AffineEdit:
                    edits[i].Kind = 0;
                    break;
                case AblationEdit:
                    edits[i].Kind = 1;
                    break;
                case NormKeepingEdit:
                    edits[i].Kind = 2;
                    break;
                case FlowEdit flow:
                    (edits[i].Kind, edits[i].Size, edits[i].Steps) = (3, flow.Sketch.Components, flow.Steps);
                    (edits[i].RootGamma, edits[i].RootConstant) = ((float)Math.Sqrt(flow.Sketch.Gamma), (float)Math.Sqrt(flow.Sketch.Constant));
                    break;
                default:
                    throw new NotSupportedException($"The CUDA device has no kernel for {edit.GetType().Name}.");
            }

            if (!floats.IsEmpty)
            {
                int to = at;
                foreach (float[] vector in edit.Vectors)
                {
                    vector.CopyTo(floats[to..]);
                    to += vector.Length;
                }

                if (edit is FlowEdit flow)
                {
                    WriteTables(flow.Sketch, MemoryMarshal.Cast<float, int>(floats[to..]));
                }
            }

            at += Aligned(Length(edit));
        }
    }

    // Places of the coordinates, coordinates by place, where each place begins: a place sums its own coordinates in order.
    private static void WriteTables(CountSketch sketch, Span<int> tables)
    {
        int all = sketch.Width + 1, m = sketch.Components;
        var places = sketch.Places;
        places.CopyTo(tables);
        Span<int> order = tables.Slice(2 * all, 2 * all), begins = tables.Slice(4 * all, (2 * m) + 1);
        int at = 0;
        for (int place = 0; place < 2 * m; place++)
        {
            begins[place] = at;
            var own = places.Slice(place / m * all, all);
            for (int j = 0; j < all; j++)
            {
                if (own[j] == place % m)
                {
                    order[at++] = j;
                }
            }
        }

        begins[2 * m] = at;
    }

    private static bool HasVectorsOf(ActivationEdit one, ActivationEdit other) =>
        one.GetType() == other.GetType() && one.Vectors.Zip(other.Vectors, ReferenceEquals).All(same => same);

    private static int Length(ActivationEdit edit) => edit.Vectors.Sum(vector => vector.Length)
        + (edit is FlowEdit { Sketch: var sketch } ? (4 * (sketch.Width + 1)) + (2 * sketch.Components) + 1 : 0);

    private static int Aligned(int numbers) => (numbers + LineInFloats - 1) / LineInFloats * LineInFloats;
}
