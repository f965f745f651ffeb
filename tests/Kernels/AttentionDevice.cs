using Tiller.Interop;
using Tiller.Kernels;

namespace Tiller.Tests.Kernels;

/// <summary>A problem on the device; results are NaN until written.</summary>
internal sealed class AttentionDevice : IDisposable
{
    private readonly PrimaryContext _context;
    private readonly List<IDisposable> _owned = [];
    private readonly CudaDeviceVariable<float> _heads;
    private readonly CudaDeviceVariable<float> _qkvBar;

    public AttentionDevice(PrimaryContext context, AttentionProblem problem, float[]? heads = null)
    {
        _context = context;
        int width = problem.Shape.H * problem.Shape.E, tangents = problem.Owners.Length;
        nint[] caches = [.. problem.Caches.Select(cache => Send(cache))];
        Rows = Send([.. problem.Rows.Select((row, r) => new DeviceRow
        {
            Position = row.Length - 1,
            Capacity = problem.Capacity(r),
            FirstTangent = problem.Begin[r],
            EndTangent = problem.Begin[r + 1],
            Cache = caches[problem.CacheOf(r)],
        })]);
        Qkv = Send(problem.Qkv);
        Owners = Send(problem.Owners);
        Begin = Send(problem.Begin);
        HeadsBar = Send(problem.HeadsBar);
        _heads = Unwritten((problem.Rows.Length + tangents) * width);
        _qkvBar = Unwritten(Math.Max(1, tangents * problem.Width));
        _owned.AddRange([_heads, _qkvBar]);
        if (heads is not null)
        {
            _heads.CopyToDevice(heads);
        }
    }

    public nint Rows { get; }

    public nint Qkv { get; }

    public nint Owners { get; }

    public nint Begin { get; }

    public nint HeadsBar { get; }

    public nint Heads => _heads.DevicePointer;

    public nint QkvBar => _qkvBar.DevicePointer;

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

    private nint Send<T>(T[] values)
        where T : unmanaged
    {
        var memory = new CudaDeviceVariable<T>(_context, Math.Max(1, values.Length));
        _owned.Add(memory);
        memory.CopyToDevice(values);
        return memory.DevicePointer;
    }
}
