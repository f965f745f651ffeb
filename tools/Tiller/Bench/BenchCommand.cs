using System.CommandLine;
using System.Globalization;
using Tiller.Bench;
using Tiller.Checkpoint;

namespace Tiller.Tool;

/// <summary><c>tiller bench</c>: measures the engine against the machine's limits.</summary>
internal sealed class BenchCommand : TillerCommand
{
    private static readonly string[] s_modes = [.. Enum.GetNames<BenchMode>().Select(n => n.ToLowerInvariant())];

    private readonly Argument<BenchMode> _mode = new("what")
    {
        Description = $"The kind of measurement: {string.Join(", ", s_modes)}.",
        HelpName = "what",
        CustomParser = result =>
        {
            string text = result.Tokens[0].Value;
            int index = Array.IndexOf(s_modes, text);
            if (index >= 0)
            {
                return Enum.GetValues<BenchMode>()[index];
            }

            result.AddError($"bench measures one of {string.Join(", ", s_modes)}, got '{text}'.");
            return default;
        },
    };

    private readonly Option<BenchShape?> _shape = new("--shape")
    {
        Description = $"Shape of a model with random weights: {string.Join(", ", BenchShape.Names)}, or the seven numbers. [default: demo]",
        HelpName = "name|L,D,FF,H,KV,E,V",
        CustomParser = result =>
        {
            try
            {
                return BenchShape.Parse(result.Tokens[^1].Value);
            }
            catch (TillerException e)
            {
                result.AddError(e.Message);
                return null;
            }
        },
    };

    private readonly StoredTypeOption _type = new();

    private readonly Option<int> _context = OptionKinds.Number(
        "--context",
        "Tokens before the decoded one, or in the prompt; 0 for 512 if a prompt is run, for 16 with serve and eval, and for 128 otherwise.", 0,
        n => n >= 0,
        "a whole number, 0 or more");

    private readonly Option<int> _tokens = OptionKinds.Number("--tokens", "With serve: new tokens of each text.", 32, n => n is > 1 and <= 4096,
        "a whole number from 2 to 4096");
    private readonly DeviceArguments _device = new(decodes: true);
    private readonly Option<IReadOnlyList<int>?> _terms = Numbers("--terms",
        "With decode: terms per layer of the steering laws. [default: 1,16; on CUDA 1,4,16]");
    private readonly Option<IReadOnlyList<int>?> _tangents = Numbers("--tangents",
        "With decode: tangents of the token. [default: 31; on CUDA 8,31,63]");
    private readonly Option<IReadOnlyList<int>?> _batches = Numbers("--batch",
        "With batch: sessions that are stepped together, plain and steered. [default: 8,64; on CUDA 1,8,64] "
        + "With schedule: texts at once. [default: 1,8; on CUDA 1,8,64] With serve: streams at once. [default: 1,8,32] "
        + "With eval: texts at once. [default: 8]");
    private readonly Option<IReadOnlyList<int>?> _rows = Numbers("--rows",
        "With kernels: rows of the linear map; the stages run with 1 row and with the largest number. [default: 1,2,4,8,16,32,64,256]");
    private readonly Option<IReadOnlyList<string>?> _fits = new("--fits")
    {
        Description = "With fit: the fits to measure. [default: dense,factored,reduced]",
        HelpName = "dense,factored,reduced",
        CustomParser = result =>
        {
            string[] names = result.Tokens[^1].Value.Split(',');
            if (Array.TrueForAll(names, name => name is "dense" or "factored" or "reduced"))
            {
                return names;
            }

            result.AddError($"--fits takes dense, factored, reduced or a list of them with commas, got '{result.Tokens[^1].Value}'.");
            return null;
        },
    };

    private readonly Option<int> _prompts = OptionKinds.Number("--prompts", "With fit: prompts on each side of the contrast.", 50, n => n > 0,
        "a whole number, 1 or more");
    private readonly Option<double> _seconds = OptionKinds.Number("--seconds", "Time for each row.", 3.0, s => s is > 0 and <= 3600,
        "above 0 and at most 3600");
    private readonly Option<bool> _laws = new("--laws")
    {
        Description = "With decode: also laws with sensors only, with gated intervals, with planes, with terms that move a block's input, "
            + "with curves, and with each kind of edit of activations.",
    };

    private readonly Option<bool> _variants = new("--variants")
    {
        Description = "With decode, prefill and jacobian on CUDA: the step as it is and with each change of its kernels in turn, with the predicted "
            + "ratios.",
    };

    private readonly Option<bool> _plan = new("--plan")
    {
        Description = "With fit: tell memory, FLOPs and time of dense, factored and reduced fits of the shape from 100 prompts of --context tokens, "
            + "and measure nothing.",
    };

    private readonly Option<bool> _markdown = new("--markdown") { Description = "Print a Markdown table." };
    private readonly Option<bool> _jsonLines = new("--jsonl")
    {
        Description = "Print every row as a line of JSON as soon as it is measured; --json prints one array at the end.",
    };

    public BenchCommand(Func<BenchRequest, CancellationToken, Task<int>> run)
        : base("bench", "Measure the engine with random weights of any shape, against ceilings of the machine from the same run.")
    {
        Add(_mode);
        Add(_shape);
        Add(_type);
        Add(_context);
        Add(_tokens);
        _device.AddTo(this);
        Add(_terms);
        Add(_tangents);
        Add(_batches);
        Add(_rows);
        Add(_fits);
        Add(_prompts);
        Add(_seconds);
        Add(_laws);
        Add(_variants);
        Add(_plan);
        Add(_markdown);
        Add(_jsonLines);
        Validators.Add(result =>
        {
            if (result.GetValue(_markdown) && result.GetValue(Json))
            {
                result.AddError("--json and --markdown exclude each other.");
            }

            bool otherwise = result.GetValue(_markdown) || result.GetValue(Json) || result.GetValue(_plan);
            if (result.GetValue(_jsonLines) && otherwise)
            {
                result.AddError("--jsonl prints rows alone: without --json, --markdown and --plan.");
            }

            if (result.GetValue(_laws) && result.GetValue(_mode) is not BenchMode.Decode)
            {
                result.AddError("--laws goes with bench decode.");
            }

            if (result.GetValue(_laws) && result.GetValue(_variants))
            {
                result.AddError("--laws and --variants exclude each other: they are two comparisons.");
            }

            if (result.GetValue(_variants) && result.GetValue(_mode) is not (BenchMode.Decode or BenchMode.Prefill or BenchMode.Jacobian))
            {
                result.AddError("--variants goes with bench decode, bench prefill and bench jacobian.");
            }

            if (result.GetValue(_plan) && (result.GetValue(_mode) != BenchMode.Fit || result.GetValue(_markdown)))
            {
                result.AddError("--plan goes with bench fit, as text or --json.");
            }
        });
        SetAction((parse, cancellationToken) => run(
            new BenchRequest
            {
                Mode = parse.GetRequiredValue(_mode),
                Shape = parse.GetValue(_shape) ?? BenchShape.Parse("demo"),
                Type = parse.GetValue(_type) ?? TensorType.BF16,
                Context = parse.GetValue(_context) is > 0 and int context ? context : null,
                NewTokens = parse.GetValue(_tokens),
                Device = _device.Read(parse).Device,
                Threads = _device.Read(parse).Threads,
                Kv = _device.Read(parse).Kv,
                Terms = parse.GetValue(_terms),
                Tangents = parse.GetValue(_tangents),
                Batches = parse.GetValue(_batches),
                Rows = parse.GetValue(_rows),
                Fits = parse.GetValue(_fits),
                FitPrompts = parse.GetValue(_prompts),
                Seconds = parse.GetValue(_seconds),
                DemoFolder = DemoRun.ModelFolder,
                Variants = parse.GetValue(_variants),
                Laws = parse.GetValue(_laws),
                Plan = parse.GetValue(_plan),
                Json = parse.GetValue(Json),
                JsonLines = parse.GetValue(_jsonLines),
                Markdown = parse.GetValue(_markdown),
            },
            cancellationToken));
    }

    private static Option<IReadOnlyList<int>?> Numbers(string name, string description) => new(name)
    {
        Description = description,
        HelpName = "N,N,...",
        CustomParser = result =>
        {
            string text = result.Tokens[^1].Value;
            int[] numbers = [.. text.Split(',').Select(part => int.TryParse(part, NumberStyles.None, CultureInfo.InvariantCulture, out int n)
                && n <= 4096 ? n : 0)];
            if (numbers.Contains(0))
            {
                result.AddError($"{name} takes whole numbers from 1 to 4096 with commas between them, got '{text}'.");
                return null;
            }

            return numbers;
        },
    };

    public override string Examples =>
        """
          # how close is decoding to the memory's bandwidth, and what does steering cost?
          tiller bench decode --shape llama-3.2-1b
          # the same on a GPU, and what it costs to decode 1, 8 and 64 sequences under controllers of their own
          tiller bench decode --device cuda --shape llama-3-8b --terms 1,16 --tangents 31
          tiller bench batch --device cuda --shape llama-3-8b --batch 1,8,64
          # what is each choice of the CUDA kernels worth?
          tiller bench decode --device cuda --shape llama-3-8b --tangents 31 --variants
          # what this machine can do at most
          tiller bench ceilings
          # every stage alone, for machines, each row when it is there
          tiller bench kernels --shape 16,2048,8192,32,8,64,128256 --jsonl
          # do two sessions that decode at once get the same?
          tiller bench sharing
          tiller bench busy --shape smollm2-135m
          # what a server takes of the engine's speed, and steering of the server's; in five minutes with a model of 1B
          tiller bench serve --shape llama-3.2-1b --tokens 16 --seconds 1
          # how soon does the work end after Ctrl-C?
          tiller bench interrupt
          # a table for a results file
          tiller bench fit --markdown
          # would a fit of this shape fit into this machine?
          tiller bench fit --plan --shape llama-3-8b --context 32
        """;
}
