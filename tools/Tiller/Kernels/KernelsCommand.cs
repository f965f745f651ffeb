using System.CommandLine;

namespace Tiller.Tool;

/// <summary>The request of <c>tiller kernels</c>.</summary>
/// <param name="Compile">Architectures to compile the kernels for; empty to list sources, images and the cache.</param>
/// <param name="Json">Whether to print JSON.</param>
internal sealed record KernelsRequest(IReadOnlyList<string> Compile, bool Json);

/// <summary><c>tiller kernels</c>: shows the origin of the CUDA kernels, or fills the cache for the GPU of another machine.</summary>
internal sealed class KernelsCommand : TillerCommand
{
    private readonly Option<string[]> _compile = new("--compile")
    {
        Description = "Compile all kernels for this GPU architecture with NVRTC into the cache (TILLER_KERNEL_CACHE). "
            + "Needs no GPU and no driver. Repeatable.",
        HelpName = "sm_XY",
        Arity = ArgumentArity.OneOrMore,
    };

    public KernelsCommand(Func<KernelsRequest, CancellationToken, Task<int>> run)
        : base("kernels", "Show the CUDA kernels: images made ahead of time, the run-time compiler and its cache. Or fill the cache, "
            + "for example for a container's image.")
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
