namespace Tiller.Bench;

/// <summary>Runs a request and returns its rows.</summary>
internal static class Suite
{
    /// <summary>Measures the rows one by one as they are enumerated.</summary>
    /// <exception cref="TillerException">The requested measurement is not possible, or there is not enough memory.</exception>
    public static IEnumerable<BenchRow> Run(BenchRequest request, CancellationToken cancellationToken)
    {
        using var meter = new Meter(Machine.Open(request), request.Seconds, cancellationToken);

        // The device that auto chose is used for the models too.
        request = request with { Device = meter.Machine.Device };
        var rows = request.Mode switch
        {
            BenchMode.Decode => DecodeBench.Decode(request, meter),
            BenchMode.Prefill => DecodeBench.Prefill(request, meter),
            BenchMode.Batch => DecodeBench.Batch(request, meter),
            BenchMode.Schedule => SchedulerBench.Run(request, meter),
            BenchMode.Jacobian => ControlBench.Jacobian(request, meter, cancellationToken),
            BenchMode.Pullback => ControlBench.Pullback(request, meter, cancellationToken),
            BenchMode.Riccati => ControlBench.Riccati(request, meter, cancellationToken),
            BenchMode.Fit => FitBench.Run(request, meter, cancellationToken),
            BenchMode.Load => LoadBench.Run(request, meter, cancellationToken),
            BenchMode.Tokenize => TokenizeBench.Run(request, meter),
            BenchMode.Kernels => KernelBench.Run(request, meter),
            BenchMode.Sharing => SharingBench.Run(request, meter),
            BenchMode.Busy => BusyBench.Run(request, meter),
            BenchMode.Interrupt => InterruptBench.Run(request, meter, cancellationToken),
            BenchMode.Ceilings => CeilingBench.Run(meter),
            _ => throw new ArgumentOutOfRangeException(nameof(request), request.Mode, "No such measurement."),
        };
        foreach (var row in rows)
        {
            yield return row;
        }
    }
}
