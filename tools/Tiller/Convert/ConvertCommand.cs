using System.CommandLine;
using Tiller.Controllers;
using Tiller.Law;

namespace Tiller.Tool;

/// <summary>What <c>tiller convert</c> was asked for.</summary>
/// <param name="File">A controller, or a vector of another program.</param>
/// <param name="Out">What it becomes.</param>
/// <param name="Model">The model that a vector is for; null for a controller.</param>
/// <param name="Use">What is done with a vector's directions; null where the file says so.</param>
/// <param name="Layers">Blocks whose directions are taken; null for all.</param>
/// <param name="Json">For machines.</param>
internal sealed record ConvertRequest(string File, string Out, string? Model, VectorUse? Use, LayerSet? Layers, bool Json);

/// <summary><c>tiller convert</c>: vectors of other programs to controllers, and controllers to control vectors.</summary>
internal sealed class ConvertCommand : TillerCommand
{
    private readonly Argument<string> _file = new("file")
    {
        Description = "A GGUF control vector or a steering vector (.svec), to become a controller; or a controller, to become a GGUF control vector.",
        HelpName = "FILE",
    };

    private readonly Option<string> _out = OptionKinds.RequiredPath("--out", "File to write, whole or not at all; - is standard output.", "FILE");
    private readonly Option<string?> _model = new("--model")
    {
        Description = "Checkpoint that a vector is for; its weights are not loaded. (REQUIRED for a vector)",
        HelpName = "DIR",
    };

    private readonly Option<VectorOperation?> _operation = OptionKinds.ChoiceOrNone<VectorOperation>(
        "--operation", "What is done with a vector's directions: added λ times, or the projection on them removed. "
        + "(REQUIRED if the file does not say)");

    private readonly Option<Hook?> _hook = OptionKinds.ChoiceOrNone<Hook>(
        "--hook", "Whether it is done to what leaves a block or to what enters it. [default: output]");

    private readonly Option<int?> _offset = OptionKinds.NumberOrNone<int>(
        "--layer-offset", "Direction n is of block n + this. [default: 0]", x => Math.Abs((long)x) < 100_000, "a whole number");

    private readonly Option<LayerSet?> _layers = OptionKinds.Layers(
        "--layers", "Take the directions of these blocks only, counted from 0 [default: all]");

    public ConvertCommand(Func<ConvertRequest, CancellationToken, Task<int>> run)
        : base("convert", "Make a controller of a control vector (GGUF) or a steering vector (.svec), or a control vector of a controller.")
    {
        Add(_file);
        foreach (Option option in new Option[] { _out, _model, _operation, _hook, _offset, _layers })
        {
            Add(option);
        }

        SetAction((parse, cancellationToken) => run(Read(parse), cancellationToken));
    }

    public override string Examples =>
        """
          # llama.cpp adds direction n to what leaves block n
          tiller convert happy.gguf --model DIR --out happy.tiller --operation add
          # activation-steering adds it to what enters block n
          tiller convert happy.svec --model DIR --out happy.tiller --operation add --hook input --layers 15-23
          # for llama-cli --control-vector-scaled caa.gguf 1.5; the file says what is done with it, so that it comes back without questions
          tiller fit --model DIR --positive a.txt --negative b.txt --out caa.tiller --method caa
          tiller convert caa.tiller --out caa.gguf
        """;

    private ConvertRequest Read(ParseResult parse)
    {
        var operation = parse.GetValue(_operation);
        if (operation is null && (parse.GetValue(_hook) is not null || parse.GetValue(_offset) is not null))
        {
            throw new UsageException("--hook and --layer-offset belong to --operation: add it, or leave them out if the file says what is done.");
        }

        return new ConvertRequest(
            parse.GetRequiredValue(_file), parse.GetRequiredValue(_out), parse.GetValue(_model),
            operation is { } done ? new VectorUse(done, parse.GetValue(_hook) ?? Hook.Output, parse.GetValue(_offset) ?? 0) : null,
            parse.GetValue(_layers), parse.GetValue(Json));
    }
}
