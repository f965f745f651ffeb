using System.CommandLine;
using System.Globalization;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Law;

namespace Tiller.Tool;

/// <summary>What <c>tiller fit</c> was asked for.</summary>
internal sealed record FitRequest
{
    public required string Model { get; init; }

    public required DeviceRequest Device { get; init; }

    /// <summary>Null with <see cref="Pairs"/>.</summary>
    public string? Positive { get; init; }

    /// <summary>Null with <see cref="Pairs"/>.</summary>
    public string? Negative { get; init; }

    /// <summary>One file with both sides, in place of two.</summary>
    public string? Pairs { get; init; }

    /// <summary>Where the prompts are, of the files in order; one for all of them, or none for what is usual.</summary>
    public IReadOnlyList<PromptSelection> Selections { get; init; } = [];

    /// <summary>Whether texts are users' messages in the checkpoint's chat format.</summary>
    public bool Chat { get; init; }

    /// <summary>System message of every prompt, with <see cref="Chat"/> only.</summary>
    public string? System { get; init; }

    /// <summary>Where the controller goes; null only for a plan.</summary>
    public required string? Out { get; init; }

    /// <summary>Tell what the fit takes, and stop.</summary>
    public bool Plan { get; init; }

    /// <summary>The method, with its numbers.</summary>
    public FitMethod Method { get; init; } = FitMethod.Lqr;

    /// <summary>What the feature's direction is.</summary>
    public DirectionRule Direction { get; init; } = DirectionRule.Mean;

    /// <summary>Prompts that show a second feature; null for none.</summary>
    public string? Alternative { get; init; }

    /// <summary>A prompt whose run is followed; null for none.</summary>
    public string? Nominal { get; init; }

    /// <summary>Prompts held out for a certificate; null for none.</summary>
    public string? Certify { get; init; }

    public FitCost Cost { get; init; }

    /// <summary>p of the reduced controller; null for a full one.</summary>
    public int? Order { get; init; }

    public Setpoint Setpoint { get; init; }

    public double Q { get; init; }

    public double R { get; init; }

    public double Qf { get; init; }

    /// <summary>Blocks that are steered; null for all.</summary>
    public LayerSet? Layers { get; init; }

    /// <summary>Prompts the Jacobians are averaged over; null for the contrast prompts.</summary>
    public string? Calibration { get; init; }

    /// <summary>Refuse a prompt that would lose characters.</summary>
    public bool Strict { get; init; }

    public bool Json { get; init; }
}

/// <summary><c>tiller fit</c>: two lists of prompts become a controller file.</summary>
internal sealed class FitCommand : TillerCommand
{
    private const string CostRange = "0 to 1e12";

    private readonly Option<string> _model = OptionKinds.Model();
    private readonly DeviceArguments _device = new();
    private readonly Option<bool> _strict = OptionKinds.Strict();
    private readonly Option<string?> _positive = new("--positive")
    {
        Description = "Prompts that show the feature: a text with one a line, .jsonl, a .json array, or a table (.csv, .tsv, .parquet). "
            + "(REQUIRED without --pairs)",
        HelpName = "FILE",
    };

    private readonly Option<string?> _negative = new("--negative")
    {
        Description = "Prompts that lack it, otherwise alike. (REQUIRED without --pairs)",
        HelpName = "FILE",
    };

    private readonly Option<string?> _pairs = new("--pairs")
    {
        Description = "One file whose items have both sides: answers that match a behaviour and that do not, right and wrong choices, "
            + "statements with labels (docs/data.md).",
        HelpName = "FILE",
    };

    private readonly Option<string[]> _columns = SelectionArguments.Column<string[]>("One for all files, or one each, repeated: ");
    private readonly Option<string[]> _fields = SelectionArguments.Field<string[]>("One for all files, or one each, repeated: ");

    private readonly Option<bool> _chat = new("--chat")
    {
        Description = "Put every prompt in the checkpoint's chat format, as steer --chat does: a text becomes a user's message.",
    };

    private readonly Option<string?> _system = new("--system") { Description = "System message of every prompt, with --chat.", HelpName = "text" };

    private readonly Option<string?> _out = new("--out")
    {
        Description = "Controller file to write, whole or not at all; - is standard output. (REQUIRED without --plan)",
        HelpName = "FILE",
    };

    private readonly Option<bool> _plan = new("--plan")
    {
        Description = "Tell memory, FLOPs and time before anything starts, and stop; weights are not loaded, config.json is enough.",
    };

    private readonly Option<FitMethod?> _method = OptionKinds.Named(
        "--method", "What is fitted; tiller methods tells what each does, needs and costs.", FitMethod.All, method => method.Name, "name");

    private readonly Option<DirectionRule?> _direction = OptionKinds.Named(
        "--direction", "How the feature's direction is found; tiller methods lists the ways.", DirectionRule.All, rule => rule.Name, "name");

    // One option for each name, whichever methods have it.
    private readonly IReadOnlyList<Option<double?>> _parameters =
    [
        .. FitMethod.All.SelectMany(method => method.Parameters, (method, parameter) => (Method: method.Name, Parameter: parameter))
            .GroupBy(x => x.Parameter.Name, StringComparer.Ordinal)
            .Select(same => OptionKinds.NumberOrNone<double>(
                "--" + same.Key,
                string.Join(' ', same.GroupBy(x => (x.Parameter.Description, x.Parameter.Value)).Select(x =>
                    $"{x.Key.Description}, of {string.Join(" and ", x.Select(y => y.Method))}"
                    + (x.Key.Value is { } value ? string.Create(CultureInfo.InvariantCulture, $" [default: {value}].") : "."))),
                IsParameter, "a number that fits in float32")),
    ];

    private readonly Option<string?> _alternative = new("--alternative")
    {
        Description = "Prompts that show a second feature, against the same --negative: the other axis of methods that steer in a "
            + "plane, or the prompts on which --method cast shall act, if they are not --positive.",
        HelpName = "FILE",
    };

    private readonly Option<string?> _nominal = new("--nominal")
    {
        Description = "Prompt whose run --method trajectory follows.",
        HelpName = "text",
    };

    private readonly Option<string?> _certify = new("--certify")
    {
        Description = "Prompts held out of the fit: certify the gains on them, the share that is inside the bound on the tracking error and how "
            + "loose the bound is (docs/math.md §7). Keeps every Jacobian and gain at once.",
        HelpName = "FILE",
    };

    private readonly Option<FitCost> _cost = OptionKinds.Choice<FitCost>(
        "--cost", "What may not stray: the whole state (dense, as published), or the feature only (factored; much faster, no Jacobian).");

    private readonly Option<int?> _order = OptionKinds.NumberOrNone<int>(
        "--order", "Fit a reduced controller from p Jacobian-vector products a layer [default of la-lqr: 64]", p => p > 0, "a whole number above 0",
        "p");

    private readonly Option<Setpoint> _setpoint = OptionKinds.Choice<Setpoint>(
        "--setpoint", "What λ means: a multiple of the mean difference (published), or 0 = negative mean to 1 = positive mean (affine).");

    private readonly Option<double> _q = OptionKinds.Number("--q", "Cost of being off the setpoint, at every layer.", 0.1, IsCost, CostRange);
    private readonly Option<double> _r = OptionKinds.Number("--r", "Cost of steering: more means gentler.", 1.0, r => IsCost(r)
        && r > 0, "above 0 and at most 1e12");
    private readonly Option<double> _qf = OptionKinds.Number("--qf", "Cost of being off the setpoint after the last layer.", 1.0, IsCost, CostRange);
    private readonly Option<LayerSet?> _layers = OptionKinds.Layers(
        "--layers", "Steer these blocks only, counted from 0; 1-3,8-9 leaves those between alone [default: all; of actadd and caa the middle one]");

    private readonly Option<string?> _calibration = new("--calibration")
    {
        Description = "Prompts whose Jacobians are averaged [default: the contrast prompts]",
        HelpName = "FILE",
    };

    public FitCommand(Func<FitRequest, CancellationToken, Task<int>> run)
        : base("fit", "Fit a controller from two lists of prompts: the feature is their mean difference, the gains are optimal (LQR), "
            + "if no other --method or --direction is asked for.")
    {
        Option[] options =
        [
            _model, _positive, _negative, _pairs, _columns, _fields, _chat, _system, _out, _method, .. _parameters, _direction, _alternative,
            _nominal, _certify, _cost, _order, _setpoint, _q, _r, _qf, _layers,
            _calibration, _plan,
        ];
        foreach (var option in options)
        {
            Add(option);
        }

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
          # memory, FLOPs and time of that, before anything is loaded
          tiller fit --model DIR --positive kind.txt --negative rude.txt --cost feature --plan
          # for steer --chat: each line is a user's message, and the feature is read where the answer begins
          tiller fit --model DIR --positive a.txt --negative b.txt --out a.tiller --chat --system "Be brief."
          # contrast pairs as they are published, and two fields of one file
          tiller fit --model DIR --pairs sycophancy.json --out sycophancy.tiller
          tiller fit --model DIR --positive pairs.json --field creative --negative pairs.json --field mundane --out creative.tiller
          # other methods: a floor under the feature's projection, and the angle in the plane of two features
          tiller fit --model DIR --positive a.txt --negative b.txt --out floor.tiller --method clamp --low 0.5
          tiller fit --model DIR --positive a.txt --negative b.txt --alternative c.txt --out turn.tiller --method angular --cost feature
          # a vector that is added to answers of prompts like those of c.txt alone, with a threshold that is searched for
          tiller fit --model DIR --positive a.txt --negative b.txt --alternative c.txt --out when.tiller --method cast
          # 16 tangents a layer, steering blocks 4 to 20 only
          tiller fit --model DIR --positive a.jsonl --negative b.jsonl --out a.tiller --order 16 --layers 4-20
        """;

    private static bool IsCost(double value) => value is >= 0 and <= 1e12;

    private static bool IsParameter(double value) => float.IsFinite((float)value);

    private FitRequest Read(ParseResult parse)
    {
        var request = Asked(parse);
        CheckMethod(parse, request.Method);
        PromptArguments.CheckSystem(request.Chat, request.System);
        if (request.Pairs is not null && (request.Positive is not null || request.Negative is not null))
        {
            throw new UsageException("--pairs has both sides: leave out --positive and --negative.");
        }

        return request is not { Q: 0, Qf: 0 } || !request.Method.Takes(FitInputs.Gains)
            ? request
            : throw new UsageException(
                "--q and --qf are both 0: being off the setpoint costs nothing, so the best controller does nothing. Raise one of them.");
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
            throw new UsageException($"{unused.Name} has no use for --method {method.Name}: leave it out.");
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
                $"{other.Name} is no number of --method {method.Name}, which has {(own.Length == 0 ? "none" : string.Join(", ", own))}.");
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

    // By file in order: positive, negative, calibration, alternative, held out.
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
            throw new UsageException("--column and --field say where prompts are, and --pairs has a form of its own: leave them out.");
        }

        return [.. Enumerable.Range(0, all).Select(i => new PromptSelection { Column = Of(columns, i), Field = Of(fields, i) })];

        static string? Of(string[] values, int index) => values.Length == 0 ? null : values[Math.Min(index, values.Length - 1)];
    }

    private FitRequest Asked(ParseResult parse) => new()
    {
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
        Cost = parse.GetValue(_cost),
        Order = parse.GetValue(_order),
        Setpoint = parse.GetValue(_setpoint),
        Q = parse.GetValue(_q),
        R = parse.GetValue(_r),
        Qf = parse.GetValue(_qf),
        Layers = parse.GetValue(_layers),
        Calibration = parse.GetValue(_calibration),
        Json = parse.GetValue(Json),
    };
}
