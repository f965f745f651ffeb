using System.CommandLine;

namespace Tiller.Tool;

/// <summary>What <c>tiller verify</c> was asked for.</summary>
/// <param name="Folders">Folders of golden values.</param>
/// <param name="Values">Where to write the engine's values; null for nowhere.</param>
/// <param name="Templates">Folder of the templates that renderings.json names; null for the folder itself.</param>
/// <param name="Device">What runs the model.</param>
/// <param name="Json">For machines.</param>
internal sealed record VerifyRequest(IReadOnlyList<string> Folders, string? Values, string? Templates, DeviceRequest Device, bool Json);

/// <summary><c>tiller verify</c>: the engine against golden values.</summary>
internal sealed class VerifyCommand : TillerCommand
{
    private readonly Argument<string[]> _folders = new("folder")
    {
        Description = "Folders with a checkpoint/ and golden.json, golden.safetensors, tokens.json, or some of them; "
            + "or with cases of chat templates, renderings.json and snippets.json.",
        HelpName = "DIR",
        Arity = ArgumentArity.OneOrMore,
    };

    private readonly Option<string?> _values = new("--values")
    {
        Description = "Write the engine's own hidden states, logits and Jacobians here (safetensors, named as in golden.safetensors), "
            + "to compare devices or builds with each other; - is standard output. One folder only.",
        HelpName = "FILE",
    };

    private readonly Option<string?> _templates = new("--templates")
    {
        Description = "Where the .jinja files are that a folder's renderings.json names. Default: in the folder itself.",
        HelpName = "DIR",
    };

    private readonly DeviceArguments _device = new();

    public VerifyCommand(Func<VerifyRequest, CancellationToken, Task<int>> run)
        : base("verify", "Check the engine against golden values: count, worst error, bound, pass or fail for each kind. Exit code 1 if any fails.")
    {
        Add(_folders);
        Add(_values);
        Add(_templates);
        _device.AddTo(this);
        Validators.Add(result =>
        {
            if (result.GetValue(_values) is not null && result.GetValue(_folders) is { Length: > 1 } folders)
            {
                result.AddError($"Option '--values' goes with one folder, and {folders.Length} were given.");
            }
        });
        SetAction((parse, cancellationToken) => run(
            new VerifyRequest(parse.GetRequiredValue(_folders), parse.GetValue(_values), parse.GetValue(_templates), _device.Read(parse),
                parse.GetValue(Json)), cancellationToken));
    }

    public override string Examples =>
        """
          # every family that comes with the sources
          tiller verify tests/goldens/*/
          # one, for machines: an array of folder, kind, count, worst, bound, passed
          tiller verify --json tests/goldens/qwen3-f32
          # chat templates: every case has to give the same text, or the same refusal
          tiller verify tests/Jinja/cases --templates tests/Jinja/cases
          # what the GPU has in place of the golden values
          tiller verify --device cuda --values gpu.safetensors tests/goldens/demo
        """;
}
