using System.Globalization;
using Tiller.Model;

namespace Tiller.Bench;

/// <summary>The CPU. Times are wall time; ceilings are measured by as many threads as the engine's.</summary>
internal sealed class CpuMachine(int threads) : Machine
{
    private readonly Dictionary<int, Ceilings> _ceilings = [];

    public override Device Device => Device.Cpu;

    public override string Name => string.Create(CultureInfo.InvariantCulture, $"cpu ({threads} thread{(threads == 1 ? "" : "s")})");

    /// <summary>Number of threads of the engine.</summary>
    public int Threads => threads;

    public override double SampleSeconds => 1e-3;

    protected override double ReserveInBytes => Bench.Ceilings.AllBuffersInBytes + (128.0 * 1024 * 1024);

    public override IReadOnlyList<Ceiling> Ceilings =>
    [
        new(CeilingKind.Read, threads, Bench.Ceilings.MaxBufferInBytes), new(CeilingKind.Copy, threads, Bench.Ceilings.MaxBufferInBytes),
        new(CeilingKind.Fma32, threads, 0), new(CeilingKind.Fma64, threads, 0),
    ];

    public override Ceiling MemoryOf(Work work) =>
        new(work.Copies ? CeilingKind.Copy : CeilingKind.Read, ThreadsOf(work), Bench.Ceilings.BufferFor(work.WorkingSet));

    public override Ceiling ArithmeticOf(Work work)
        => new(work.Precision == Precision.Single ? CeilingKind.Fma32 : CeilingKind.Fma64, ThreadsOf(work), 0);

    /// <summary>Nanoseconds that a line of the cache takes from one of the threads to another.</summary>
    public double PassNs() => CeilingsOf(threads).PassNs();

    public override double Measure(Ceiling ceiling)
    {
        var machine = CeilingsOf(ceiling.Threads);
        return ceiling.Kind switch
        {
            CeilingKind.Read => machine.Read(ceiling.SizeInBytes),
            CeilingKind.Copy => machine.Copy(ceiling.SizeInBytes),
            CeilingKind.Fma32 => machine.Peak(Precision.Single),
            CeilingKind.Fma64 => machine.Peak(Precision.Double),
            _ => throw new ArgumentOutOfRangeException(nameof(ceiling), ceiling, "Not a ceiling of the CPU."),
        };
    }

    public override string NameOf(Ceiling ceiling)
    {
        string what = ceiling.Kind switch
        {
            CeilingKind.Read => $"read {Size(ceiling.SizeInBytes, Hardware.LargestCacheInBytes())}",
            CeilingKind.Copy => $"copy {Size(ceiling.SizeInBytes, Hardware.LargestCacheInBytes())}",
            CeilingKind.Fma32 => "FMA float32",
            _ => "FMA float64",
        };
        return string.Create(CultureInfo.InvariantCulture, $"{what}, {ceiling.Threads} thread{(ceiling.Threads == 1 ? "" : "s")}");
    }

    public override void Wait()
    {
    }

    /// <summary>Available memory without swapping, within the limit of a container.</summary>
    public override long AvailableInBytes()
    {
        var gc = GC.GetGCMemoryInfo();
        long available = gc.TotalAvailableMemoryBytes;
        return ProcFile.Kilobytes("/proc/meminfo", "MemAvailable") is { } kilobytes ? Math.Min(available, kilobytes * 1024) : available;
    }

    public override void Release()
    {
        foreach (var ceilings in _ceilings.Values)
        {
            ceilings.Release();
        }
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            foreach (var ceilings in _ceilings.Values)
            {
                ceilings.Dispose();
            }
        }
    }

    private Ceilings CeilingsOf(int count)
    {
        if (!_ceilings.TryGetValue(count, out var machine))
        {
            machine = new Ceilings(count);
            _ceilings.Add(count, machine);
        }

        return machine;
    }

    private int ThreadsOf(Work work) => work.Threads == 0 ? threads : work.Threads;
}
