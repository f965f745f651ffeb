using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tiller.Kernels;
using Tiller.Law;
using Tiller.Ops;

namespace Tiller.Cuda;

/// <summary>
/// The values that the kernels read and computed in one step: lines of α, then |u|, |x| and |u| before the bound, of every stage. Each kind is one
/// array over the lines.
/// </summary>
internal sealed class CudaSteeringRecord : IDisposable
{
    private readonly CudaOps _ops;
    private readonly DeviceBuffer _header;
    private DeviceBuffer? _state;

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

    public static int LineLength(FeedbackLaw law) => law.Sensors.Count + (3 * law.Stages);

    public nint ErrorsAt(int slot, int sensors) => _state!.Address + (4 * slot * sensors);

    public void Read(FeedbackLaw law, Span<float> numbers)
        => _ops.Download(_state!.Address, MemoryMarshal.AsBytes(numbers[..(Capacity * LineLength(law))]));

    public void ClearNorms(FeedbackLaw law) => _ops.Clear(NormsAt(law), 12L * Capacity * law.Stages);

    public void Grow(FeedbackLaw law, int capacity, bool keep)
    {
        var (sensors, old, state) = (law.Sensors.Count, _state, _ops.Allocate(4L * capacity * LineLength(law)));
        if (keep && old is not null)
        {
            var (from, to) = (old.Address, state.Address);
            foreach (int width in (ReadOnlySpan<int>)[sensors, law.Stages, law.Stages, law.Stages])
            {
                _ops.Copy(from, to, 4L * Capacity * width);
                (from, to) = (from + (4 * Capacity * width), to + (4 * capacity * width));
            }
        }

        old?.Dispose();
        (_state, Capacity) = (state, capacity);
    }

    public void SendHeader(FeedbackLaw law, nint layers, nint tangents, nint next)
    {
        nint norms = NormsAt(law);
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
        };
        _ops.Upload(MemoryMarshal.AsBytes(new ReadOnlySpan<DeviceSteering>(in header)), _header.Address);
    }

    public void Dispose()
    {
        _header.Dispose();
        _state?.Dispose();
    }

    private nint NormsAt(FeedbackLaw law) => _state!.Address + (4 * Capacity * law.Sensors.Count);
}
