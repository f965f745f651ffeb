using Tiller.Interop;
using Tiller.Kernels;

namespace Tiller.Tests.Kernels;

/// <summary>An attention problem in device memory; results are NaN until a kernel writes them.</summary>
internal sealed class AttentionDevice : IDisposable
{
    private readonly PrimaryContext _context;
    private readonly List<IDisposable> _owned = [];
    private readonly CudaDeviceVariable<float> _heads;
    private readonly CudaDeviceVariable<float> _qkvBar;
    private readonly int _width, _qkvWidth;

    public AttentionDevice(PrimaryContext context, AttentionProblem problem, float[]? heads = null)
    {
        _context = context;
        int tangents = problem.Owners.Length;
        (_width, _qkvWidth) = (problem.Shape.H * problem.Shape.E, problem.Width);
        nint[] caches = [.. problem.Caches.Select(cache => Send(cache).Address)];
        Rows = Send<DeviceRow>([.. problem.Rows.Select((row, r) => new DeviceRow
        {
            Position = row.Length - 1,
            Capacity = problem.Capacity(r),
            FirstTangent = problem.Begin[r],
            EndTangent = problem.Begin[r + 1],
            Cache = caches[problem.CacheOf(r)],
        })]);
        Qkv = new Floats(Send(problem.Qkv).Address, problem.Rows.Length + tangents, _qkvWidth);
        Owners = Send(problem.Owners);
        Begin = Send(problem.Begin);
        HeadsBar = new Floats(Send(problem.HeadsBar).Address, tangents, _width);
        _heads = Unwritten((problem.Rows.Length + tangents) * _width);
        _qkvBar = Unwritten(Math.Max(1, tangents * _qkvWidth));
        _owned.AddRange([_heads, _qkvBar]);
        if (heads is not null)
        {
            _heads.CopyToDevice(heads);
        }
    }

    public DeviceSpan<DeviceRow> Rows { get; }

    public Floats Qkv { get; }

    public DeviceSpan<int> Owners { get; }

    public DeviceSpan<int> Begin { get; }

    public Floats HeadsBar { get; }

    public Floats Heads => new(_heads.DevicePointer, (int)_heads.Length / _width, _width);

    public Floats QkvBar => new(_qkvBar.DevicePointer, (int)_qkvBar.Length / _qkvWidth, _qkvWidth);

    /// <summary>The rows and the owners of the tangents.</summary>
    public RowTable Table => new(Rows, Owners);

    public float[] ReadHeads() => Read(_heads);

    public float[] ReadQkvBar() => Read(_qkvBar);

    public void Dispose() => _owned.ForEach(owned => owned.Dispose());

    private static float[] Read(CudaDeviceVariable<float> from)
    {
        var values = new float[from.Length];
        from.CopyToHost(values);
        return values;
    }

    private CudaDeviceVariable<float> Unwritten(int length)
    {
        var memory = new CudaDeviceVariable<float>(_context, length);
        float[] values = new float[length];
        Array.Fill(values, float.NaN);
        memory.CopyToDevice(values);
        return memory;
    }

    private DeviceSpan<T> Send<T>(T[] values)
        where T : unmanaged
    {
        var memory = new CudaDeviceVariable<T>(_context, Math.Max(1, values.Length));
        _owned.Add(memory);
        memory.CopyToDevice(values);
        return new(memory.DevicePointer, values.Length);
    }
}
