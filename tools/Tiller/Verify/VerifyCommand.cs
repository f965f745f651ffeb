using System.CommandLine;

namespace Tiller.Tool;

/// <summary>The request of <c>tiller verify</c>.</summary>
/// <param name="Folders">Folders of golden values.</param>
/// <param name="Values">The file for the engine's values; null for none.</param>
/// <param name="Templates">Folder of the templates that renderings.json names; null for the folder itself.</param>
/// <param name="Device">The device that runs the model.</param>
/// <param name="Json">Whether to print JSON.</param>
internal sealed record VerifyRequest(IReadOnlyList<string> Folders, string? Values, string? Templates, DeviceRequest Device, bool Json);

/// <summary><c>tiller verify</c>: compares the engine with golden values.</summary>
internal sealed class VerifyCommand : TillerCommand
{
    private readonly Argument<string[]> _folders = new("folder")
    {
        Description = "Folders with checkpoint/ and any of golden.json, golden.safetensors, tokens.json; "
            + "or with cases of chat templates, renderings.json and snippets.json.",
        HelpName = "DIR",
        Arity = ArgumentArity.OneOrMore,
    };

    private readonly Option<string?> _values = new("--values")
    {
        Description = "Write the engine's hidden states, logits and Jacobians to this file (safetensors, with the names of golden.safetensors), "
            + "to compare devices or builds; - is standard output. Only for a single folder.",
        HelpName = "FILE",
    };

    private readonly Option<string?> _templates = new("--templates")
    {
        Description = "Folder of the .jinja files that renderings.json names. Default: the folder of renderings.json.",
        HelpName = "DIR",
    };

    private readonly DeviceArguments _device = new();

    public VerifyCommand(Func<VerifyRequest, CancellationToken, Task<int>> run)
        : base("verify", "Compare the engine with golden values: count, largest error, bound, pass or fail for each kind. Exit code 1 if any fails.")
    {
        Add(_folders);
        Add(_values);
        Add(_templates);
        _device.AddTo(this);
        Validators.Add(result =>
        {
            if (result.GetValue(_values) is not null && result.GetValue(_folders) is { Length: > 1 } folders)
            {
                result.AddError($"Option '--values' is for a single folder, and {folders.Length} were given.");
            }
        });
        SetAction((parse, cancellationToken) => run(
            new VerifyRequest(parse.GetRequiredValue(_folders), parse.GetValue(_values), parse.GetValue(_templates), _device.Read(parse),
                parse.GetValue(Json)), cancellationToken));
    }

    public override string Examples =>
        """
          # all families in the repository
          tiller verify tests/goldens/*/
          # one folder, as JSON: an array of folder, kind, count, worst, bound, passed
          tiller verify --json tests/goldens/qwen3-f32
          # chat templates: every case must give the same text or the same error
          tiller verify tests/Jinja/cases --templates tests/Jinja/cases
          # the values that the GPU computes instead of the golden ones
          tiller verify --device cuda --values gpu.safetensors tests/goldens/demo
        """;
}
