using System.CommandLine;

namespace Tiller.Tool;

/// <summary>What <c>tiller kernels</c> was asked for.</summary>
/// <param name="Compile">Architectures to compile the kernels for; none to list what there is.</param>
/// <param name="Json">For machines.</param>
internal sealed record KernelsRequest(IReadOnlyList<string> Compile, bool Json);

/// <summary><c>tiller kernels</c>: where CUDA kernels come from here, and the cache filled for a GPU that is elsewhere.</summary>
internal sealed class KernelsCommand : TillerCommand
{
    private readonly Option<string[]> _compile = new("--compile")
    {
        Description = "Compile all kernels with NVRTC into the cache (TILLER_KERNEL_CACHE), for GPUs of this architecture. "
            + "Needs no GPU and no driver. May be given more than once.",
        HelpName = "sm_XY",
        Arity = ArgumentArity.OneOrMore,
    };

    public KernelsCommand(Func<KernelsRequest, CancellationToken, Task<int>> run)
        : base("kernels", "Show the CUDA kernels: images made ahead of time, the run-time compiler and its cache; or fill the cache, "
            + "as for a container's image.")
    {
        Add(_compile);
        SetAction((parse, cancellationToken) => run(new KernelsRequest(parse.GetValue(_compile) ?? [], parse.GetValue(Json)), cancellationToken));
    }

    public override string Examples =>
        """
          # what would a GPU here run?
          tiller kernels
          # on a machine without a GPU, for an H100 or H200 and an A100
          TILLER_KERNEL_CACHE=/image/kernels tiller kernels --compile sm_90a --compile sm_80
        """;
}
