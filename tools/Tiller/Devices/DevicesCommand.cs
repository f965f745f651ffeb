namespace Tiller.Tool;

/// <summary>What <c>tiller devices</c> was asked for.</summary>
internal sealed record DevicesRequest(bool Json);

/// <summary><c>tiller devices</c>: what Tiller can run on here, and if not on a GPU, why.</summary>
internal sealed class DevicesCommand : TillerCommand
{
    public DevicesCommand(Func<DevicesRequest, CancellationToken, Task<int>> run)
        : base("devices", "Show the processor and the CUDA devices, which CUDA libraries were found and where the kernels come from; "
            + "or why there is no device.") =>
        SetAction((parse, cancellationToken) => run(new DevicesRequest(parse.GetValue(Json)), cancellationToken));

    public override string Examples =>
        """
          # is there a GPU, and if not, why?
          tiller devices
          # the same for machines
          tiller devices --json
        """;
}
