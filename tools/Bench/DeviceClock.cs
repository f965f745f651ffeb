using Tiller.Cuda;
using Tiller.Interop;

namespace Tiller.Bench;

/// <summary>
/// Times a stage as it runs inside a step: many runs are recorded as one graph with programmatic launches, between two events of the device. It times
/// one work at a time.
/// </summary>
internal sealed class DeviceClock : IDisposable
{
    // A graph takes about a millisecond, so that its start does not matter, but it does not have thousands of nodes.
    private const double EnoughMs = 1;
    private const int MaxRuns = 64;

    private readonly CudaStream _stream;
    private readonly int _turns;
    private int _runs;
    private readonly CudaEvent _begin;
    private readonly CudaEvent _end;
    private Work? _recorded;
    private CudaGraphExec? _graph;

    /// <summary>Creates the events.</summary>
    /// <param name="ops">The operations whose stream the works use.</param>
    /// <param name="turns">Number of layers that take turns. Each replay of a graph goes through all of them.</param>
    public DeviceClock(CudaOps ops, int turns)
    {
        (_stream, _turns) = (ops.Stream, turns);
        _begin = new CudaEvent(_stream.Context);
        _end = new CudaEvent(_stream.Context);
    }

    /// <summary>Measures the seconds of one run, the mean over the runs of a graph.</summary>
    /// <param name="work">The work. It must have run before, because allocations and choices of a first run cannot be recorded.</param>
    public double Time(Work work)
    {
        if (!ReferenceEquals(_recorded, work))
        {
            Forget();
            _begin.Record(_stream);
            Run(_turns);
            _end.Record(_stream);
            _end.Synchronize();
            double rounds = Math.Ceiling(EnoughMs / CudaEvent.ElapsedMs(_begin, _end));
            _runs = _turns * (int)Math.Clamp(rounds, 1, Math.Max(1, MaxRuns / _turns));
            using var graph = _stream.Capture(() => Run(_runs));
            _graph = graph.Instantiate();
            _recorded = work;
            _graph.Launch(_stream);
            work.Prepare?.Invoke(_runs);
        }

        _begin.Record(_stream);
        _graph!.Launch(_stream);
        _end.Record(_stream);
        _end.Synchronize();
        return CudaEvent.ElapsedMs(_begin, _end) / 1000.0 / _runs;

        void Run(int runs)
        {
            for (int i = 0; i < runs; i++)
            {
                work.Run();
            }
        }
    }

    public void Dispose()
    {
        Forget();
        _begin.Dispose();
        _end.Dispose();
    }

    private void Forget()
    {
        _graph?.Dispose();
        _graph = null;
        _recorded = null;
    }
}
