using System.CommandLine;
using System.Globalization;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Law;
using Tiller.Synthesis;

namespace Tiller.Tool;

/// <summary>The request of <c>tiller fit</c>.</summary>
internal sealed record FitRequest
{
    public required string Model { get; init; }

    public required DeviceRequest Device { get; init; }

    /// <summary>File of prompts that show the feature; null with <see cref="Pairs"/>.</summary>
    public string? Positive { get; init; }

    /// <summary>File of prompts that lack the feature; null with <see cref="Pairs"/>.</summary>
    public string? Negative { get; init; }

    /// <summary>A file with both sides, instead of two files; null for none.</summary>
    public string? Pairs { get; init; }

    /// <summary>Where the prompts are in each file, in order; one entry for all files, or none for the usual columns and fields.</summary>
    public IReadOnlyList<PromptSelection> Selections { get; init; } = [];

    /// <summary>Whether to make each text a user's message in the checkpoint's chat format.</summary>
    public bool Chat { get; init; }

    /// <summary>The system message of every prompt; only with <see cref="Chat"/>.</summary>
    public string? System { get; init; }

    /// <summary>The controller file to write; null only for a plan.</summary>
    public required string? Out { get; init; }

    /// <summary>Whether to print memory, FLOPs and time of the fit instead of fitting.</summary>
    public bool Plan { get; init; }

    /// <summary>The method, with its parameters.</summary>
    public FitMethod Method { get; init; } = FitMethod.Lqr;

    /// <summary>How the feature's direction is found.</summary>
    public DirectionRule Direction { get; init; } = DirectionRule.Mean;

    /// <summary>File of prompts that show a second feature; null for none.</summary>
    public string? Alternative { get; init; }

    /// <summary>The prompt whose states a trajectory follows; null for none.</summary>
    public string? Nominal { get; init; }

    /// <summary>File of prompts held out for a certificate; null for none.</summary>
    public string? Certify { get; init; }

    /// <summary>Where a page with plots of the certificates goes; null for none.</summary>
    public string? Page { get; init; }

    public FitCost Cost { get; init; }

    /// <summary>Order p of a reduced controller; null for a full one.</summary>
    public int? Order { get; init; }

    public Setpoint Setpoint { get; init; }

    /// <summary>q, r and q_f of every controller: all that --q, --r and --qf combine to, q outermost.</summary>
    public IReadOnlyList<LqrWeights> Weights { get; init; } = [FitOptions.StandardWeights];

    /// <summary>The steered blocks; null for all.</summary>
    public LayerSet? Layers { get; init; }

    /// <summary>File of prompts over which the Jacobians are averaged; null for the contrast prompts.</summary>
    public string? Calibration { get; init; }

    /// <summary>File of Jacobians to read, complete or make; null for none.</summary>
    public string? Jacobians { get; init; }

    /// <summary>The part that is measured into the folder <see cref="Out"/>; null for a whole fit.</summary>
    public Shard? Shard { get; init; }

    /// <summary>The command line but for the part and its folder; null for the whole.</summary>
    public ShardedCommand? Command { get; init; }

    /// <summary>Folders with all parts, which are put together; null to measure.</summary>
    public IReadOnlyList<string>? Shards { get; init; }

    /// <summary>Refuse a prompt that would lose characters.</summary>
    public bool Strict { get; init; }

    public bool Json { get; init; }

    /// <summary>The request with paths as they were meant in the folder of a command.</summary>
    public FitRequest In(ShardedCommand command)
    {
        return this with
        {
            Model = command.FolderOf(Model),
            Positive = PathOf(Positive),
            Negative = PathOf(Negative),
            Pairs = PathOf(Pairs),
            Alternative = PathOf(Alternative),
            Certify = PathOf(Certify),
            Calibration = PathOf(Calibration),
            Jacobians = PathOf(Jacobians),
        };

        string? PathOf(string? path) => path is null ? null : command.PathOf(path);
    }
}

/// <summary><c>tiller fit</c>: fits a controller from two lists of prompts.</summary>
internal sealed class FitCommand : TillerCommand
{
    /// <summary>The range of q and q_f.</summary>
    public const string CostRange = "0 to 1e12";

    /// <summary>The range of r.</summary>
    public const string InputCostRange = "above 0 and at most 1e12";

    private readonly Option<string> _model = OptionKinds.Model();
    private readonly DeviceArguments _device = new();
    private readonly Option<bool> _strict = OptionKinds.Strict();
    private readonly Option<string?> _positive = new("--positive")
    {
        Description = "Prompts that show the feature: a text with one prompt per line, .jsonl, a .json array, or a table (.csv, .tsv, .parquet). "
            + "(REQUIRED without --pairs)",
        HelpName = "FILE",
    };

    private readonly Option<string?> _negative = new("--negative")
    {
        Description = "Prompts that lack the feature and are otherwise similar. (REQUIRED without --pairs)",
        HelpName = "FILE",
    };

    private readonly Option<string?> _pairs = new("--pairs")
    {
        Description = "A file whose items have both sides: answers that match a behaviour and that do not, right and wrong choices, "
            + "or statements with labels (docs/data.md).",
        HelpName = "FILE",
    };

    private readonly Option<string[]> _columns = SelectionArguments.Column<string[]>("One for all files, or one for each, repeated: ");
    private readonly Option<string[]> _fields = SelectionArguments.Field<string[]>("One for all files, or one for each, repeated: ");

    private readonly Option<bool> _chat = new("--chat")
    {
        Description = "Format every prompt by the checkpoint's chat template, as steer --chat does: a text becomes a user's message.",
    };

    private readonly Option<string?> _system = new("--system")
    {
        Description = "With --chat: the system message of every prompt.",
        HelpName = "text",
    };

    private readonly Option<string?> _out = new("--out")
    {
        Description = "The controller file to write; - is standard output. With --shard: a folder for what the part measures. (REQUIRED without "
            + "--plan)",
        HelpName = "FILE",
    };

    private readonly ShardArguments _shard = new();

    private readonly Option<bool> _plan = new("--plan")
    {
        Description = "Print memory, FLOPs and time of the fit, and do not fit. No weights are loaded; config.json is enough.",
    };

    private readonly Option<FitMethod?> _method = OptionKinds.Named(
        "--method", "The method to fit; tiller methods describes what each does, needs and costs.", FitMethod.All, method => method.Name, "name");

    private readonly Option<DirectionRule?> _direction = OptionKinds.Named(
        "--direction", "How to find the feature's direction; tiller methods lists the choices.", DirectionRule.All, rule => rule.Name, "name");

    // One option for each name, which several methods may share.
    private readonly IReadOnlyList<Option<double?>> _parameters =
    [
        .. FitMethod.All.SelectMany(method => method.Parameters, (method, parameter) => (Method: method.Name, Parameter: parameter))
            .GroupBy(x => x.Parameter.Name, StringComparer.Ordinal)
            .Select(same => OptionKinds.NumberOrNone<double>(
                "--" + same.Key,
                string.Join(' ', same.GroupBy(x => (x.Parameter.Description, x.Parameter.Value)).Select(x =>
                    $"{x.Key.Description} ({string.Join(", ", x.Select(y => y.Method))})"
                    + (x.Key.Value is { } value ? string.Create(CultureInfo.InvariantCulture, $" [default: {value}].") : "."))),
                IsParameter, "a number that fits in float32")),
    ];

    private readonly Option<string?> _alternative = new("--alternative")
    {
        Description = "Prompts that show a second feature, compared with the same --negative. It is the other axis of methods that steer in a plane. "
            + "For --method cast: the prompts on which it shall act, if they are not those of --positive.",
        HelpName = "FILE",
    };

    private readonly Option<string?> _nominal = new("--nominal")
    {
        Description = "With --method trajectory: the prompt whose states are followed.",
        HelpName = "text",
    };

    private readonly Option<string?> _certify = new("--certify")
    {
        Description = "Prompts that the fit does not use: measure on how many of them the bound on the tracking error holds, and how "
            + "loose it is (docs/math.md §7). All Jacobians and gains are kept in memory.",
        HelpName = "FILE",
    };

    private readonly Option<string?> _page = OptionKinds.Page("With --certify: plot the certificate");

    private readonly Option<FitCost> _cost = OptionKinds.Choice<FitCost>(
        "--cost", "What the cost penalises: deviations of the whole state (dense, as published), or of the feature only (factored; much faster, no "
            + "Jacobian).");

    private readonly Option<int?> _order = OptionKinds.NumberOrNone<int>(
        "--order", "Fit a reduced controller from p Jacobian-vector products per layer [default of la-lqr: 64]", p => p > 0, "a whole number above 0",
        "p");

    private readonly Option<Setpoint> _setpoint = OptionKinds.Choice<Setpoint>(
        "--setpoint", "The meaning of λ: a multiple of the mean difference (published), or a point from the negative mean, 0, to the positive mean, "
            + "1 (affine).");

    private readonly NumbersOption _q = new("--q", IsCost, CostRange)
    {
        Description = "Cost of being off the setpoint, at every layer. Several values of it, --r or --qf fit a controller for each combination. "
            + "[default: 0.1]",
    };

    private readonly NumbersOption _r = new("--r", IsInputCost, InputCostRange)
    {
        Description = "Cost of steering: more means gentler. [default: 1]",
    };

    private readonly NumbersOption _qf = new("--qf", IsCost, CostRange)
    {
        Description = "Cost of being off the setpoint after the last layer. [default: 1]",
    };

    private readonly Option<LayerSet?> _layers = OptionKinds.Layers(
        "--layers", "Steer only these blocks, counted from 0, for example 1-3,8-9 [default: all; for actadd and caa the middle block]");

    private readonly Option<string?> _calibration = new("--calibration")
    {
        Description = "Prompts over which the Jacobians are averaged [default: the contrast prompts]",
        HelpName = "FILE",
    };

    private readonly Option<string?> _jacobians = new("--jacobians")
    {
        Description = "File that keeps the mean Jacobians (4 L D² bytes) and the prompts' states: made or completed block by block if it is not, "
            + "so that other weights, layers, directions and methods that need Jacobians are solved without running the model again.",
        HelpName = "FILE",
    };

    public FitCommand(Func<FitRequest, CancellationToken, Task<int>> run)
        : base("fit", "Fit a controller from two lists of prompts. The feature is their mean difference and the gains are optimal (LQR), "
            + "unless --method or --direction says otherwise.")
    {
        Option[] options =
        [
            _model, _positive, _negative, _pairs, _columns, _fields, _chat, _system, _out, _method, .. _parameters, _direction, _alternative,
            _nominal, _certify, _page, _cost, _order, _setpoint, _q, _r, _qf, _layers,
            _calibration, _jacobians, _plan,
        ];
        foreach (var option in options)
        {
            Add(option);
        }

        _shard.AddTo(this);
        Add(_strict);
        _device.AddTo(this);
        Validators.Add(result =>
        {
            bool paired = result.GetResult(_pairs) is not null;
            Option[] missing = [.. new[] { _positive, _negative }.Where(side => !paired && result.GetResult(side) is null)];
            foreach (Option side in missing)
            {
                result.AddError($"Option '{side.Name}' is required.");
            }

            bool others = result.GetResult(_model) is not null && missing.Length == 0;
            if (others && result.GetResult(_out) is null && !result.GetValue(_plan))
            {
                result.AddError("Option '--out' is required.");
            }
        });

        SetAction((parse, cancellationToken) => run(Read(parse), cancellationToken));
    }

    public override string Examples =>
        """
          # the published controller
          tiller fit --model models/demo --positive sea.txt --negative other.txt --out sea.tiller --q 0.03
          # without any Jacobian: seconds instead of minutes on a large model
          tiller fit --model DIR --positive kind.txt --negative rude.txt --out kind.tiller --cost feature
          # memory, FLOPs and time of that fit, without loading the model
          tiller fit --model DIR --positive kind.txt --negative rude.txt --cost feature --plan
          # for steer --chat: each line is a user's message, and the feature is read where the answer begins
          tiller fit --model DIR --positive a.txt --negative b.txt --out a.tiller --chat --system "Be brief."
          # measured once, solved often: the second fit does not run the model
          tiller fit --model DIR --positive a.txt --negative b.txt --out a.tiller --jacobians a.jacobians
          tiller fit --model DIR --positive a.txt --negative b.txt --out b.tiller --jacobians a.jacobians --q 1 --layers 4-20
          # a quarter of the passes over the model, as one task of an array; tiller merge makes the controller of the four
          tiller fit --model DIR --positive a.txt --negative b.txt --out parts --shard 3/4
          # a controller for each of six weights, from one sweep through the layers
          tiller fit --model DIR --positive a.txt --negative b.txt --out a-{q}-{r}.tiller --cost feature --q 0.03 0.1 1 --r 0.5 2
          # how far the gains can be trusted: the bound on the tracking error, checked on prompts that the fit does not use, with plots
          tiller fit --model DIR --positive a.txt --negative b.txt --out a.tiller --certify held.txt --page certificate.html
          # contrast pairs as they are published, and two fields of one file
          tiller fit --model DIR --pairs sycophancy.json --out sycophancy.tiller
          tiller fit --model DIR --positive pairs.json --field creative --negative pairs.json --field mundane --out creative.tiller
          # other methods: a lower limit for the feature's projection, and the angle in the plane of two features
          tiller fit --model DIR --positive a.txt --negative b.txt --out floor.tiller --method clamp --low 0.5
          tiller fit --model DIR --positive a.txt --negative b.txt --alternative c.txt --out turn.tiller --method angular --cost feature
          # a vector that is added to answers of prompts like those of c.txt alone, with a threshold that is searched for
          tiller fit --model DIR --positive a.txt --negative b.txt --alternative c.txt --out when.tiller --method cast
          # 16 tangents per layer, and only blocks 4 to 20 are steered
          tiller fit --model DIR --positive a.jsonl --negative b.jsonl --out a.tiller --order 16 --layers 4-20
        """;

    /// <summary>Whether a number can be q or q_f.</summary>
    public static bool IsCost(double value) => value is >= 0 and <= 1e12;

    /// <summary>Whether a number can be r.</summary>
    public static bool IsInputCost(double value) => IsCost(value) && value > 0;

    private static bool IsParameter(double value) => float.IsFinite((float)value);

    private FitRequest Read(ParseResult parse)
    {
        var request = Asked(parse);
        CheckMethod(parse, request.Method);
        PromptArguments.CheckSystem(request.Chat, request.System);
        if (request.Pairs is not null && (request.Positive is not null || request.Negative is not null))
        {
            throw new UsageException("--pairs has both sides: leave --positive and --negative out.");
        }

        if (request is { Page: not null, Certify: null } or { Page: not null, Plan: true })
        {
            throw new UsageException(request.Plan
                ? "--plan fits nothing that could be plotted: leave --page out."
                : "--page plots the certificate that --certify FILE measures: give both, or leave --page out.");
        }

        CheckSweep(request);
        CheckShard(request);
        return !request.Weights.Any(w => w is { Q: 0, Qf: 0 }) || !request.Method.Takes(FitInputs.Gains)
            ? request
            : throw new UsageException(
                "--q and --qf are both 0: a deviation from the setpoint costs nothing, so the best controller does nothing. Raise one of them.");
    }

    private static void CheckShard(FitRequest request)
    {
        ShardArguments.Check(request.Shard, request.Out, request.Page);
        if (request is { Shard: not null, Plan: true })
        {
            throw new UsageException("--plan is that of the whole fit: leave --shard out.");
        }

        if (request is { Shard: not null, Jacobians: null } && request.Method.Takes(FitInputs.Gains)
            && (request.Cost == FitCost.Feature || (request.Order ?? request.Method.StandardOrder) is not null)
            && !request.Method.Takes(FitInputs.AllJacobians))
        {
            throw new UsageException(
                "Parts sum Jacobians, and with --cost feature or an order one process forms none: add --jacobians FILE, so that it forms them, or "
                + "leave --shard out.");
        }
    }

    // Several controllers have files of their own, and must not measure every block anew for each of them.
    private static void CheckSweep(FitRequest request)
    {
        if (request.Weights.Count == 1)
        {
            return;
        }

        (string Name, int Values)[] names =
        [
            ("q", request.Weights.DistinctBy(w => w.Q).Count()), ("r", request.Weights.DistinctBy(w => w.R).Count()),
            ("qf", request.Weights.DistinctBy(w => w.Qf).Count()),
        ];
        foreach (var (name, _) in names.Where(x => x.Values > 1))
        {
            if (request is { Out: { } path, Shard: null } && !path.Contains($"{{{name}}}", StringComparison.Ordinal))
            {
                throw new UsageException(
                    $"--{name} has several values, each of which gives a controller: put {{{name}}} in the name that --out gives, such as "
                    + $"sea-{{{name}}}.tiller.");
            }
        }

        if (request.Jacobians is null && (request.Cost != FitCost.Feature || request.Order is not null)
            && !request.Method.Takes(FitInputs.AllJacobians))
        {
            throw new UsageException(
                "Several weights would measure every block anew for each of them: add --jacobians FILE to measure once, or --cost feature without "
                + "--order to solve for all in one sweep.");
        }
    }

    // What a method does not take would be without effect.
    private void CheckMethod(ParseResult parse, FitMethod method)
    {
        (FitInputs Input, Option[] Options)[] taken =
        [
            (FitInputs.Gains, [_q, _r, _qf, _calibration]), (FitInputs.Cost, [_cost]), (FitInputs.Order, [_order]),
            (FitInputs.Setpoint, [_setpoint]), (method.Takes(FitInputs.Condition) ? FitInputs.Condition : FitInputs.Alternative, [_alternative]),
            (FitInputs.Nominal, [_nominal]),
            (FitInputs.HeldOut, [_certify]),
            (FitInputs.Layers, [_layers]),
        ];
        if (taken.Where(x => !method.Takes(x.Input)).SelectMany(x => x.Options).FirstOrDefault(IsGiven) is { } unused)
        {
            throw new UsageException($"--method {method.Name} does not use {unused.Name}: leave it out.");
        }

        foreach (var (input, option) in new[] { (FitInputs.Alternative, (Option)_alternative), (FitInputs.Nominal, _nominal) })
        {
            if (method.Takes(input) && !IsGiven(option))
            {
                throw new UsageException($"--method {method.Name} needs {option.Name}.");
            }
        }

        string[] own = [.. method.Parameters.Select(p => "--" + p.Name)];
        if (_parameters.FirstOrDefault(option => IsGiven(option) && !own.Contains(option.Name)) is { } other)
        {
            throw new UsageException(
                $"{other.Name} is not a parameter of --method {method.Name}, which has {(own.Length == 0 ? "none" : string.Join(", ", own))}.");
        }

        if (method.Contradiction is { } wrong)
        {
            throw new UsageException(OptionNames.Of(wrong));
        }

        bool IsGiven(Option option) => parse.GetResult(option) is { Implicit: false };
    }

    private FitMethod Method(ParseResult parse)
    {
        var method = parse.GetValue(_method) ?? FitMethod.All[0];
        foreach (var option in _parameters)
        {
            if (parse.GetValue(option) is { } value && method.Parameters.FirstOrDefault(p => "--" + p.Name == option.Name) is { } parameter)
            {
                method = parameter.With(value);
            }
        }

        return method;
    }

    // The selections of the files, in the order positive, negative, calibration, alternative, held out.
    private PromptSelection[] Selections(ParseResult parse)
    {
        string[] columns = parse.GetValue(_columns) ?? [], fields = parse.GetValue(_fields) ?? [];
        int files = new[] { _positive, _negative, _calibration, _alternative, _certify }.Count(x => parse.GetValue(x) is not null);
        foreach ((string name, int count) in new[] { ("--column", columns.Length), ("--field", fields.Length) })
        {
            if (count > 1 && count != files)
            {
                throw new UsageException($"Expected one {name} for all files or one for each of the {files}, got {count}.");
            }
        }

        int all = Math.Max(columns.Length, fields.Length);
        if (all > 0 && files == 0)
        {
            throw new UsageException("--column and --field have no effect on --pairs, whose form is fixed: leave them out.");
        }

        return [.. Enumerable.Range(0, all).Select(i => new PromptSelection { Column = Of(columns, i), Field = Of(fields, i) })];

        static string? Of(string[] values, int index) => values.Length == 0 ? null : values[Math.Min(index, values.Length - 1)];
    }

    private LqrWeights[] Weights(ParseResult parse)
    {
        var standard = FitOptions.StandardWeights;
        return
        [
            .. from q in Of(_q, standard.Q) from r in Of(_r, standard.R) from qf in Of(_qf, standard.Qf) select new LqrWeights(q, r, qf),
        ];

        IEnumerable<double> Of(NumbersOption option, double one) =>
            parse.GetValue(option) is { Length: > 0 } given ? given.Distinct() : [one];
    }

    private FitRequest Asked(ParseResult parse) => new()
    {
        Shard = _shard.Read(parse),
        Command = _shard.Asked(parse, [_out, .. _device.Options]),
        Model = parse.GetRequiredValue(_model),
        Device = _device.Read(parse),
        Strict = parse.GetValue(_strict),
        Positive = parse.GetValue(_positive),
        Negative = parse.GetValue(_negative),
        Pairs = parse.GetValue(_pairs),
        Selections = Selections(parse),
        Chat = parse.GetValue(_chat),
        System = parse.GetValue(_system),
        Out = parse.GetValue(_out),
        Plan = parse.GetValue(_plan),
        Method = Method(parse),
        Direction = parse.GetValue(_direction) ?? DirectionRule.All[0],
        Alternative = parse.GetValue(_alternative),
        Nominal = parse.GetValue(_nominal),
        Certify = parse.GetValue(_certify),
        Page = parse.GetValue(_page),
        Cost = parse.GetValue(_cost),
        Order = parse.GetValue(_order),
        Setpoint = parse.GetValue(_setpoint),
        Weights = Weights(parse),
        Layers = parse.GetValue(_layers),
        Calibration = parse.GetValue(_calibration),
        Jacobians = parse.GetValue(_jacobians),
        Json = parse.GetValue(Json),
    };
}
