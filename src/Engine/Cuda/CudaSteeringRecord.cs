using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tiller.Kernels;
using Tiller.Law;
using Tiller.Ops;

namespace Tiller.Cuda;

/// <summary>
/// The values that the kernels read and computed in one step: lines of α, then |u|, |x| and |u| before the bound, of every stage, then |Δz| of every
/// point of edits. Each kind is one array over the lines.
/// </summary>
internal sealed class CudaSteeringRecord : IDisposable
{
    private readonly CudaOps _ops;
    private readonly DeviceBuffer _header;
    private DeviceBuffer? _state;
    private DeviceBuffer? _flows; // (capacity, D), of a law with flows

    public CudaSteeringRecord(CudaOps ops)
    {
        _ops = ops;
        _header = ops.Allocate(Unsafe.SizeOf<DeviceSteering>());
    }

    /// <summary>Address of the <see cref="DeviceSteering"/>.</summary>
    public nint Address => _header.Address;

    public int Capacity { get; private set; }

    /// <summary>Index of the step's last line.</summary>
    public int Last { get; set; }

    public static int LineLength(FeedbackLaw law) => law.Sensors.Count + (3 * law.Stages) + EditPoints(law) + Joined(law);

    /// <summary>Points of a law with edits, whose |Δz| are taken down; 0 of a law without.</summary>
    public static int EditPoints(FeedbackLaw law) => law.Edits.Count == 0 ? 0 : FeedbackLaw.EditPoints * law.Layers;

    // |z| before and after, of rows that are scaled back together.
    private static int Joined(FeedbackLaw law) => law.Edits.Count == 0 ? 0 : 2;

    public nint ErrorsAt(int slot, int sensors) => _state!.Address + (4 * slot * sensors);

    public void Read(FeedbackLaw law, Span<float> numbers)
        => _ops.Download(_state!.Address, MemoryMarshal.AsBytes(numbers[..(Capacity * LineLength(law))]));

    public void ClearNorms(FeedbackLaw law) => _ops.Clear(NormsAt(law), 4L * Capacity * (LineLength(law) - law.Sensors.Count));

    public void Grow(FeedbackLaw law, int capacity, bool keep)
    {
        var (sensors, old, state) = (law.Sensors.Count, _state, _ops.Allocate(4L * capacity * LineLength(law)));
        if (keep && old is not null)
        {
            var (from, to) = (old.Address, state.Address);
            foreach (int width in (ReadOnlySpan<int>)[sensors, law.Stages, law.Stages, law.Stages, EditPoints(law), Joined(law)])
            {
                _ops.Copy(from, to, 4L * Capacity * width);
                (from, to) = (from + (4 * Capacity * width), to + (4 * capacity * width));
            }
        }

        old?.Dispose();
        (_state, Capacity) = (state, capacity);
        if (law.Edits.Any(e => e is FlowEdit) && (_flows is null || _flows.SizeInBytes < 4L * capacity * law.Width))
        {
            _flows?.Dispose();
            _flows = null;
            _flows = _ops.Allocate(4L * capacity * law.Width);
        }
    }

    public void SendHeader(FeedbackLaw law, nint layers, (nint Edits, nint Begins) edits, nint tangents, nint next)
    {
        nint norms = NormsAt(law), editNorms = norms + (12 * Capacity * law.Stages);
        var header = new DeviceSteering
        {
            Layers = layers,
            Errors = _state!.Address,
            TangentErrors = tangents,
            InputNorms = norms,
            StateNorms = norms + (4 * Capacity * law.Stages),
            FreeNorms = norms + (8 * Capacity * law.Stages),
            Sensors = law.Sensors.Count,
            LayerCount = law.Stages,
            FirstStage = law.FirstStage,
            MaxEffort = law.MaxEffort,
            Next = next,
            Edits = edits.Edits,
            EditBegin = edits.Begins,
            EditNorms = editNorms,
            Joined = editNorms + (4 * Capacity * EditPoints(law)),
            EditScratch = _flows?.Address ?? 0,
            EditPoints = EditPoints(law),
        };
        _ops.Upload(MemoryMarshal.AsBytes(new ReadOnlySpan<DeviceSteering>(in header)), _header.Address);
    }

    public void Dispose()
    {
        _header.Dispose();
        _state?.Dispose();
        _flows?.Dispose();
    }

    private nint NormsAt(FeedbackLaw law) => _state!.Address + (4 * Capacity * law.Sensors.Count);
}
