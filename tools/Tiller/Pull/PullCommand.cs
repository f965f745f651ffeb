using System.CommandLine;

namespace Tiller.Tool;

/// <summary>The request of <c>tiller pull</c>.</summary>
/// <param name="Model">OWNER/NAME, with or without @REVISION.</param>
/// <param name="Revision">A branch, a tag or a commit; null for the revision in the name, or main.</param>
/// <param name="To">A plain folder; null for the cache.</param>
/// <param name="Json">Whether to print JSON.</param>
internal sealed record PullRequest(string Model, string? Revision, string? To, bool Json);

/// <summary><c>tiller pull</c>: downloads a model from the hub.</summary>
internal sealed class PullCommand : TillerCommand
{
    private readonly Argument<string> _model = new("model")
    {
        Description = "A model on the Hugging Face hub, OWNER/NAME or OWNER/NAME@REVISION. Afterwards every --model accepts that name.",
        HelpName = "OWNER/NAME",
    };

    private readonly Option<string?> _revision = new("--revision") { Description = "A branch, a tag or a commit [default: main]", HelpName = "R" };

    private readonly Option<string?> _to = new("--to")
    {
        Description = "A plain folder for the files [default: the cache of Python's hub client: HF_HUB_CACHE, HF_HOME]",
        HelpName = "DIR",
    };

    public PullCommand(Func<PullRequest, CancellationToken, Task<int>> run)
        : base("pull", "Download and verify a model: config, tokenizer, chat templates and safetensors. "
            + "An interrupted download continues where it stopped. "
            + "HF_TOKEN opens private and gated models; HF_ENDPOINT names another hub, HTTPS_PROXY a proxy.")
    {
        Add(_model);
        Add(_revision);
        Add(_to);
        SetAction((parse, cancellationToken) => run(
            new PullRequest(parse.GetRequiredValue(_model), parse.GetValue(_revision), parse.GetValue(_to), parse.GetValue(Json)),
                cancellationToken));
    }

    public override string Examples =>
        """
          # a small chat model, 270 MB, and a question to it
          tiller pull HuggingFaceTB/SmolLM2-135M-Instruct
          tiller generate --model HuggingFaceTB/SmolLM2-135M-Instruct --chat "Which way is north?"
          # a certain commit, into a folder of its own
          tiller pull HuggingFaceTB/SmolLM2-135M-Instruct --revision 12fd25f77366 --to smollm2
          # where the files are
          tiller pull --json HuggingFaceTB/SmolLM2-135M-Instruct
        """;
}
