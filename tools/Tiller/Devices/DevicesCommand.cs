namespace Tiller.Tool;

/// <summary>The request of <c>tiller devices</c>.</summary>
internal sealed record DevicesRequest(bool Json);

/// <summary><c>tiller devices</c>: lists the devices of this machine, or says why there is no GPU.</summary>
internal sealed class DevicesCommand : TillerCommand
{
    public DevicesCommand(Func<DevicesRequest, CancellationToken, Task<int>> run)
        : base("devices", "Show the processor, the CUDA devices and libraries, and the origin of the kernels, "
            + "or say why there is no CUDA device.") =>
        SetAction((parse, cancellationToken) => run(new DevicesRequest(parse.GetValue(Json)), cancellationToken));

    public override string Examples =>
        """
          # is there a GPU, and if not, why?
          tiller devices
          # the same for machines
          tiller devices --json
        """;
}
