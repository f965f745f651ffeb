using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tiller.Kernels;
using Tiller.Law;
using Tiller.Ops;

namespace Tiller.Cuda;

/// <summary>
/// The values that the kernels read and computed in one step. Each kind is one array over the lines: first what a device hands out with a token, α,
/// |u| and |x| of every stage and |Δz| of every point of edits; then |u| before the bound, of every stage, and the lengths of rows that are scaled
/// back together.
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

    /// <summary>Number of floats of a line that <see cref="HeadKernels.Advance"/> copies to the host.</summary>
    public static int HandedOut(FeedbackLaw law) => law.Sensors.Count + (2 * law.Stages) + law.EditStages;

    /// <summary>Number of floats of a line.</summary>
    public static int LineLength(FeedbackLaw law) => HandedOut(law) + law.Stages + Joined(law);

    /// <summary>Whether two laws leave lines of the same kinds.</summary>
    public static bool AreAlike(FeedbackLaw law, FeedbackLaw other) =>
        law.Sensors.Count == other.Sensors.Count && law.Stages == other.Stages && law.EditStages == other.EditStages
        && law.JoinsRows == other.JoinsRows && HasFlows(law) == HasFlows(other);

    // α; |u|, |x|; |Δz|; |u| before the bound; |z| before and after
    private static int[] Widths(FeedbackLaw law) => [law.Sensors.Count, law.Stages, law.Stages, law.EditStages, law.Stages, Joined(law)];

    private static int Joined(FeedbackLaw law) => law.JoinsRows ? 2 : 0;

    private static bool HasFlows(FeedbackLaw law) => law.Edits.Any(e => e is FlowEdit);

    public nint ErrorsAt(int slot, int sensors) => _state!.Address + (4 * slot * sensors);

    public void Read(FeedbackLaw law, Span<float> numbers)
        => _ops.Download(_state!.Address, MemoryMarshal.AsBytes(numbers[..(Capacity * LineLength(law))]));

    public void ClearNorms(FeedbackLaw law) => _ops.Clear(NormsAt(law), 4L * Capacity * (LineLength(law) - law.Sensors.Count));

    public void Grow(FeedbackLaw law, int capacity, bool keep)
    {
        var (old, state) = (_state, _ops.Allocate(4L * capacity * LineLength(law)));
        if (keep && old is not null)
        {
            var (from, to) = (old.Address, state.Address);
            foreach (int width in Widths(law))
            {
                _ops.Copy(from, to, 4L * Capacity * width);
                (from, to) = (from + (4 * Capacity * width), to + (4 * capacity * width));
            }
        }

        old?.Dispose();
        (_state, Capacity) = (state, capacity);
        if (HasFlows(law) && (_flows is null || _flows.SizeInBytes < 4L * capacity * law.Width))
        {
            _flows?.Dispose();
            _flows = null;
            _flows = _ops.Allocate(4L * capacity * law.Width);
        }
    }

    public void SendHeader(FeedbackLaw law, nint layers, (nint Edits, nint Begins) edits, nint tangents, nint next)
    {
        nint norms = NormsAt(law), stage = 4 * Capacity * law.Stages, editNorms = norms + (2 * stage), freeNorms =
            editNorms + (4 * Capacity * law.EditStages);
        var header = new DeviceSteering
        {
            Layers = layers,
            Errors = _state!.Address,
            TangentErrors = tangents,
            InputNorms = norms,
            StateNorms = norms + stage,
            FreeNorms = freeNorms,
            Sensors = law.Sensors.Count,
            LayerCount = law.Stages,
            FirstStage = law.FirstStage,
            MaxEffort = law.MaxEffort,
            Next = next,
            Edits = edits.Edits,
            EditBegin = edits.Begins,
            EditNorms = editNorms,
            Joined = freeNorms + stage,
            EditScratch = _flows?.Address ?? 0,
            EditPoints = law.EditStages,
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
