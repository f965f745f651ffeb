using System.CommandLine;

namespace Tiller.Tool;

/// <summary>The request of <c>tiller generate</c>.</summary>
internal sealed record GenerateRequest(string Model, DeviceRequest Device, PromptRequest Prompt, DecodingRequest Decoding, bool Strict, bool Json)
{
    /// <summary>The file of prompts; null for a single prompt.</summary>
    public ManyPromptsRequest? Many { get; init; }
}

/// <summary><c>tiller generate</c>: decodes with the plain model.</summary>
internal sealed class GenerateCommand : TillerCommand
{
    private readonly Option<string> _model = OptionKinds.Model();
    private readonly DeviceArguments _device = new(decodes: true);
    private readonly PromptArguments _prompt = new();
    private readonly ManyPromptsArguments _many = new();
    private readonly Option<bool> _strict = OptionKinds.Strict();
    private readonly DecodingArguments _decoding = new();

    public GenerateCommand(Func<GenerateRequest, CancellationToken, Task<int>> run)
        : base("generate", "Decode with the plain model, and print the text as it is decoded.")
    {
        _prompt.AddTo(this);
        _many.AddTo(this);
        Add(_strict);
        Add(_model);
        _device.AddTo(this);
        _decoding.AddTo(this);
        SetAction((parse, cancellationToken) => run(Read(parse), cancellationToken));
    }

    public override string Examples =>
        """
          # always the most probable token
          tiller generate --model models/demo "Once upon a time"
          # drawn at random, the same for the same seed
          tiller generate --model models/demo --temperature 0.7 --top-p 0.95 --seed 3 "One day"
          # a question to a chat model, in its own chat format, with a variable of its template
          tiller generate --model DIR --chat --chat-arg enable_thinking=false "Which way is north?"
          # a long prompt, up to the next blank line
          tiller generate --model DIR --file prompt.txt --stop $'\n\n' --max-tokens 400
          # every question of a published data set; after an interruption the same command continues
          tiller generate --model DIR --chat --prompts TruthfulQA.csv --out answers.jsonl
        """;

    private GenerateRequest Read(ParseResult parse)
    {
        var prompt = _prompt.Read(parse);
        var many = _many.Read(parse, prompt);
        return new(parse.GetRequiredValue(_model), _device.Read(parse), prompt, _decoding.Read(parse, parse.GetValue(Json), many is not null),
            parse.GetValue(_strict), parse.GetValue(Json))
        {
            Many = many,
        };
    }
}
