using System.CommandLine;

namespace Tiller.Tool.Commands;

/// <summary>What <c>tiller verify</c> was asked for.</summary>
internal sealed record VerifyRequest(IReadOnlyList<string> Folders, DeviceRequest Device, bool Json);

/// <summary><c>tiller verify</c>: the engine against golden values.</summary>
internal sealed class VerifyCommand : TillerCommand
{
    private readonly Argument<string[]> _folders = new("folder")
    {
        Description = "Folders with a checkpoint/ and golden.json, golden.safetensors, tokens.json, or some of them.",
        HelpName = "DIR",
        Arity = ArgumentArity.OneOrMore,
    };

    private readonly DeviceArguments _device = new();

    public VerifyCommand(Func<VerifyRequest, CancellationToken, Task<int>> run)
        : base("verify", "Check the engine against golden values: count, worst error, bound, pass or fail for each kind. Exit code 1 if any fails.")
    {
        Add(_folders);
        _device.AddTo(this);
        SetAction((parse, cancellationToken) => run(new VerifyRequest(parse.GetRequiredValue(_folders), _device.Read(parse), parse.GetValue(Json)), cancellationToken));
    }

    public override string Examples =>
        """
          # every family that comes with the sources
          tiller verify tests/goldens/*/
          # one, for machines: an array of folder, kind, count, worst, bound, passed
          tiller verify --json tests/goldens/qwen3-f32
        """;
}
