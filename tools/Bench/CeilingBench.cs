namespace Tiller.Bench;

/// <summary>
/// Measures the ceilings themselves, on a CUDA device the time from one node of a graph to the next, and on the CPU the time that a line of the cache
/// takes from one thread to the next.
/// </summary>
internal static class CeilingBench
{
    /// <summary>A row for each ceiling, in billions of bytes or FLOPs per second.</summary>
    public static IEnumerable<BenchRow> Run(Meter meter)
    {
        foreach (var ceiling in meter.Machine.Ceilings)
        {
            yield return meter.Measure(ceiling);
        }

        if (meter.Machine is CpuMachine { Threads: > 1 } cpu)
        {
            yield return meter.Figures("a line of the cache to another thread", "ns", cpu.PassNs);
        }

        if (meter.Machine is CudaMachine cuda)
        {
            foreach (bool programmatic in new[] { false, true })
            {
                string name = $"graph, node to node, {(programmatic ? "programmatic" : "plain")} launches, empty kernels";
                yield return meter.Figures(name, "us", () => cuda.NodeUs(programmatic));
            }
        }
    }
}
