using System.Numerics.Tensors;
using System.Text.Json;
using MathNet.Numerics.LinearAlgebra;
using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Law;
using Tiller.Model;
using Tiller.Synthesis;

namespace Tiller.Tool;

/// <summary>
/// Checks golden values of the other methods: methods.json and methods.safetensors of a folder. They name the folders with their checkpoint and
/// Jacobians by relative paths. Values that follow from stored matrices have a bound of 1e-9. Steered texts must have the same tokens up to a near
/// tie.
/// </summary>
internal sealed class MethodChecks : IDisposable
{
    /// <summary>Bound on the error of values that are computed from stored matrices and states.</summary>
    public const double FromStored = 1e-9;

    /// <summary>Bound on the error of differences from the engine's own float32 passes, relative to the largest quantity in the difference.</summary>
    public const double FromOurs = 1e-5;

    private const string FileName = "methods.json";

    private readonly string _path;
    private readonly JsonDocument _json;
    private readonly SafetensorsFile _tensors;

    public MethodChecks(string path)
    {
        _path = path;
        _json = GoldenFolder.ParseFile(Path.Combine(path, FileName));
        _tensors = SafetensorsFile.Open(Path.Combine(path, "methods.safetensors"));
    }

    private JsonElement Values => _json.RootElement.GetProperty("values");

    /// <summary>Whether a folder has golden values of methods.</summary>
    public static bool Has(string path) => File.Exists(Path.Combine(path, FileName));

    public IEnumerable<VerificationRow> Run(LoadOptions options, int oneIn, CancellationToken cancellationToken)
    {
        foreach (var row in SystemChecks.Run(_path, Values, Tensor, cancellationToken))
        {
            yield return row;
        }

        if (!Values.TryGetProperty("checkpoint", out var checkpoint))
        {
            yield break;
        }

        using var golden = SafetensorsFile.Open(Path.Combine(_path, Values.GetProperty("golden").GetString()!, "golden.safetensors"));
        var solved = new GoldenMethods(Values, Tensor, name => Read(golden, name));
        foreach (var row in solved.Check(_path, cancellationToken))
        {
            yield return row;
        }

        using var model = LanguageModel.Load(Path.Combine(_path, checkpoint.GetString()!), options, cancellationToken);
        using var texts = GoldenFolder.ParseFile(Path.Combine(_path, Values.GetProperty("golden").GetString()!, "golden.json"));
        var linearity = Values.GetProperty("linearity");
        var ids = Prompts;
        int[][] pair = [ids[linearity.GetProperty("prompt").GetInt32()], ids[linearity.GetProperty("other_prompt").GetInt32()]];
        double[] sizes = [.. linearity.GetProperty("sizes").EnumerateArray().Select(x => x.GetDouble())];
        foreach (var row in StateChecks.Run(_path, texts.RootElement, model, Tensor, solved.Jacobians, pair, sizes, cancellationToken))
        {
            yield return row;
        }

        foreach (var row in EditChecks.FromStates(_path, texts.RootElement, model, Tensor, solved.Sketch, cancellationToken))
        {
            yield return row;
        }

        foreach (var row in solved.Steered(_path, model, ids, cancellationToken).Concat(Texts(model, solved, oneIn, null, cancellationToken)))
        {
            yield return row;
        }
    }

    /// <summary>Checks predictive control alone: the states of a prompt and the texts that it steers.</summary>
    public IEnumerable<VerificationRow> Predictive(LoadOptions options, CancellationToken cancellationToken)
    {
        using var golden = SafetensorsFile.Open(Path.Combine(_path, Values.GetProperty("golden").GetString()!, "golden.safetensors"));
        var solved = new GoldenMethods(Values, Tensor, name => Read(golden, name));
        using var model = LanguageModel.Load(Path.Combine(_path, Values.GetProperty("checkpoint").GetString()!), options, cancellationToken);
        return [.. solved.Steered(_path, model, Prompts, cancellationToken), .. Texts(model, solved, 1, "mpc", cancellationToken)];
    }

    public void Dispose()
    {
        _json.Dispose();
        _tensors.Dispose();
    }

    private Dictionary<int, int[]> Prompts => _json.RootElement.GetProperty("prompts").EnumerateArray()
        .ToDictionary(p => p.GetProperty("index").GetInt32(), p => TokenChecks.Ids(p, "ids"));

    private IEnumerable<VerificationRow> Texts(
        LanguageModel model, GoldenMethods methods, int oneIn, string? only, CancellationToken cancellationToken)
    {
        var prompts = Prompts;
        foreach (var method in _json.RootElement.GetProperty("runs").EnumerateArray()
            .GroupBy(run => run.GetProperty("method").GetString()!, StringComparer.Ordinal).Where(group => only is null || group.Key == only))
        {
            var continuations = new Continuations();
            var (compared, worst) = (0, 0.0);
            foreach (var run in method.Where((_, i) => i % oneIn == 0))
            {
                int[] ids = prompts[run.GetProperty("prompt").GetInt32()];
                var effort = Tensor(run.GetProperty("name").GetString() + ".effort")!;
                void Compared(int step, ReadOnlySpan<float> inputs, ReadOnlySpan<float> states)
                {
                    for (int k = 0; k < inputs.Length; k++)
                    {
                        double size = Math.Max(Math.Max(states[k], inputs[k]), double.Epsilon);
                        worst = Verification.Worse(worst, Math.Abs(inputs[k] - effort[step][k]) / size);
                    }

                    compared++;
                }

                var law = methods.LawOf(method.Key, run);
                using var session = new Session(model, law, TokensOf(run.GetProperty("tokens").GetString()!));
                float[] inputs = new float[law.Layers], states = new float[law.Layers], errors = new float[law.Sensors.Count];
                continuations.Compare(session, ids, run, cancellationToken, step =>
                {
                    if (!session.SteeredPositions.IsEmpty && step < effort.Shape[0])
                    {
                        int slot = session.SteeredPositions.Length - 1;
                        session.Steering!.ReadEffort(slot, inputs, states);
                        if (method.Key == "ablation.published")
                        {
                            // Golden is what the terms alone do, one a block at its input, whose error is what is removed.
                            session.Steering.ReadErrors(slot, errors);
                            errors.AsSpan().CopyTo(inputs);
                            TensorPrimitives.Abs<float>(inputs, inputs);
                        }

                        Compared(step, inputs, states);
                    }
                });
            }

            yield return continuations.ToRow(_path, $"{method.Key} continuations");
            yield return new VerificationRow(_path, $"{method.Key} effort over state", compared * model.Config.L, worst, FromOurs);
        }
    }

    private static SteeredTokens TokensOf(string name) => name switch
    {
        "last" => SteeredTokens.Last,
        "all" => SteeredTokens.All,
        "first" => SteeredTokens.First,
        "clean" => SteeredTokens.LastOverCleanPrefix,
        _ => throw new FormatException($"a run steers the unknown kind of tokens '{name}'"),
    };

    private GoldenTensor? Tensor(string name) => Read(_tensors, name);

    private static GoldenTensor? Read(SafetensorsFile file, string name) =>
        file.TryFind(name) is { } info ? new GoldenTensor([.. info.Shape.Select(n => checked((int)n))], Numbers(file, info)) : null;

    private static double[] Numbers(SafetensorsFile file, TensorInfo info)
    {
        if (info.Type != TensorType.I64)
        {
            return file.ReadFloat64(info);
        }

        byte[] bytes = new byte[info.SizeInBytes];
        file.Read(info, 0, bytes);
        return Array.ConvertAll(System.Runtime.InteropServices.MemoryMarshal.Cast<byte, long>(bytes).ToArray(), x => (double)x);
    }
}

/// <summary>The methods' gains and directions from the golden Jacobians and features, in float64, and the laws made from them.</summary>
internal sealed class GoldenMethods
{
    private readonly JsonElement _values;
    private readonly Func<string, GoldenTensor?> _tensor;
    private readonly Matrix<double>[] _a;
    private readonly Matrix<double>[] _own;
    private readonly double[][] _difference;
    private readonly double[][] _v;
    private readonly double[][] _other;
    private readonly Feature _feature;
    private readonly LqrWeights _weights;
    private readonly Lazy<IReadOnlyList<Gain>> _lqr;
    private readonly Lazy<InputCurve?[]> _curves;
    private readonly Lazy<IReadOnlyList<Gain>> _ownGains;

    public GoldenMethods(JsonElement values, Func<string, GoldenTensor?> tensor, Func<string, GoldenTensor?> golden)
    {
        (_values, _tensor) = (values, tensor);
        _a = Matrices(golden("A_exact") ?? golden("A")!);
        _own = Matrices(golden("jacobian.1")!);
        _difference = Rows(tensor("feature")!);
        _v = [.. _difference.Select(Unit)];
        _other = [.. Rows(tensor("feature_alt")!).Select(Unit)];
        _feature = Feature.FromDifference([.. _difference.Select(Narrow)]);
        _weights = new LqrWeights(values.GetProperty("q").GetDouble(), values.GetProperty("r").GetDouble(), values.GetProperty("qf").GetDouble());
        _lqr = new(() => Dense(_a));
        _curves = new(() => [.. Enumerable.Range(0, L).Select(k => _feature.Mu[k] > 0
            ? InputCurve.Solve(_a[k..], [.. _lqr.Value.Skip(k)], _weights, _feature.V[k]) : null)]);
        _ownGains = new(() => Dense(_own));
    }

    /// <summary>The Jacobians A_k.</summary>
    public IReadOnlyList<Matrix<double>> Jacobians => _a;

    private int L => _a.Length;

    private double[][] Second => [.. Enumerable.Range(0, L + 1).Select(k => AngularSetpoint.SecondDirection(_v[k], _other[k]))];

    private IReadOnlyList<Gain> FeatureCost => Factored(_weights, _v);

    private IReadOnlyList<Gain> Reduced => InBasis("reduced.W");

    private IReadOnlyList<Gain> Latent => InBasis("latent.V");

    // V v_z, the direction in full coordinates that the latent law reads, times the length |e_z|.
    private Feature LatentFeature
    {
        get
        {
            var e = _tensor("latent.e_z")!;
            Matrix<double>[] bases = Matrices(_tensor("latent.V")!);
            return Feature.FromDifference([.. bases
                .Select((basis, k) => Narrow((basis * Vector<double>.Build.DenseOfArray(e[k].ToArray())).ToArray()))]);
        }
    }

    /// <summary>Checks the values that follow from the stored matrices.</summary>
    public IEnumerable<VerificationRow> Check(string path, CancellationToken cancellationToken)
    {
        double[] probe = _tensor("probe_vector")!.Values;
        yield return Products(path, "lqr.w", _lqr.Value, _v);
        yield return Probed(path, "lqr.Kg", _lqr.Value, probe);
        yield return Row(path, "angular.b1", _v);
        yield return Row(path, "angular.b2", Second);
        yield return Products(path, "angular.w1", _lqr.Value, _v);
        yield return Products(path, "angular.w2", _lqr.Value, Second);
        yield return Products(path, "trajectory.own.w", _ownGains.Value, _v);
        yield return Probed(path, "trajectory.own.Kg", _ownGains.Value, probe);
        yield return Products(path, "feature_cost.w", FeatureCost, _v);
        yield return Probed(path, "feature_cost.Kg", FeatureCost, probe);
        LqrWeights[] settings = [.. _values.GetProperty("feature_cost").GetProperty("grid").EnumerateArray()
            .Select(setting => (double[])[.. setting.EnumerateArray().Select(x => x.GetDouble())]).Select(x => new LqrWeights(x[0], x[1], x[2]))];
        var directions = Enumerable.Range(0, L + 1).Select(k => Matrix<double>.Build.DenseOfColumns([_v[k]]));
        var swept = WeightSweep.Solve(
            L, (k, b) => _a[k].TransposeThisAndMultiply(b), [.. directions], settings, cancellationToken: cancellationToken);
        List<double[]> grid = [.. swept.SelectMany(solution => Times(solution.Gains, _v))];
        yield return Row(path, "feature_cost.grid.w", grid);
        var two = Factored(_weights, _v, _other);
        yield return Products(path, "feature_cost.two.w1", two, _v);
        yield return Products(path, "feature_cost.two.w2", two, _other);
        yield return Products(path, "reduced.w", Reduced, _v);
        yield return Inner(path, "reduced.K", Reduced);
        yield return Inner(path, "latent.K", Latent);
        double[][] latent = [.. Enumerable.Range(0, L).Select(k =>
            (Matrices(_tensor("latent.V")!)[k] * Vector<double>.Build.DenseOfArray(Unit(_tensor("latent.e_z")![k].ToArray()))).ToArray())];
        yield return Products(path, "latent.w", Latent, latent);

        var hinf = _values.GetProperty("hinf");
        var plant = DisturbedPlant.Isotropic(_a, _weights);
        double least = HInfinityRiccati.LeastGamma(plant, 1e-10, cancellationToken), star = hinf.GetProperty("gamma_star").GetDouble();
        yield return new VerificationRow(path, "hinf γ*", 1, Math.Abs(least - star) / star, 1e-6);
        foreach (var (name, gains) in new[] { ("hinf.1001", Robust("gamma_used")), ("hinf.3", Robust("gamma_used_3")) })
        {
            yield return Products(path, name + ".w", gains, _v);
            yield return Probed(path, name + ".Kg", gains, probe);
        }

        foreach (var row in Predictive(path, cancellationToken))
        {
            yield return row;
        }

        double[][] nominal = Rows(_tensor("trajectory.nominal")!);
        var certificates = _values.GetProperty("certificate");
        foreach (var (name, a, gains) in new[] { ("own", _own, _ownGains.Value), ("mean", _a, _lqr.Value) })
        {
            Matrix<double>[] closed = [.. a.Zip(gains, (jacobian, gain) => jacobian - ((DenseGain)gain).K)];
            foreach (var row in CertificateChecks.Rollouts(
                path, name, closed, nominal, probe, certificates.GetProperty(name), _tensor, cancellationToken))
            {
                yield return row;
            }
        }

        foreach (var row in EditChecks.FromStored(path, _values, _tensor, Sketch))
        {
            yield return row;
        }

        yield return Row(
            path, "pid.direction", PidSteering.Directions(_difference, PidSteering.PublishedKp, PidSteering.PublishedKi, PidSteering.PublishedKd));
    }

    // Checks a plan with a bound, a plan without, and the first input of a plan at every block of a prompt.
    private IEnumerable<VerificationRow> Predictive(string path, CancellationToken cancellationToken)
    {
        var mpc = _values.GetProperty("mpc");
        double[] start = _tensor("mpc.plan.x0")!.Values;
        var plan = PredictiveControl.Plan(_a, _weights, start, mpc.GetProperty("plan_bound").GetDouble(), cancellationToken);
        yield return Row(path, "mpc.plan.u", plan.Inputs);
        yield return new VerificationRow(
            path, "mpc.plan.multiplier", L, Verification.RelativeError([.. plan.Multipliers], _tensor("mpc.plan.multiplier")!.Values),
            MethodChecks.FromStored);
        yield return Row(
            path, "mpc.plan.u_free", PredictiveControl.Plan(_a, _weights, start, double.PositiveInfinity, cancellationToken).Inputs);
        double[][] first = [.. Rows(_tensor("mpc.prompt.e")!).Select((e, k) => PredictiveControl.Plan(
            _a[k..], _weights, Array.ConvertAll(e, x => -x), mpc.GetProperty("prompt_bound").GetDouble(), cancellationToken).Inputs[0])];
        yield return Row(path, "mpc.prompt.u", first);

        // Of the curves that a controller has, in units of the bound.
        double bound = mpc.GetProperty("prompt_bound").GetDouble();
        var (e, u) = (Rows(_tensor("mpc.prompt.e")!), Rows(_tensor("mpc.prompt.u")!));
        yield return new VerificationRow(
            path, "mpc.prompt.u by curves", L,
            Enumerable.Range(0, L).Select(k => Distance(Curved(k, Dot(e[k], _v[k]), bound), u[k]) / bound).Aggregate(0.0, Verification.Worse),
            2 * InputCurve.Tolerance, "in units of the bound on |u|");
    }

    /// <summary>Checks the states, errors and inputs of a prompt's last token under predictive control, with a bound and without.</summary>
    public IEnumerable<VerificationRow> Steered(
        string path, LanguageModel model, IReadOnlyDictionary<int, int[]> prompts, CancellationToken cancellationToken)
    {
        var mpc = _values.GetProperty("mpc");
        double lambda = mpc.GetProperty("lam").GetDouble(), bound = mpc.GetProperty("prompt_bound").GetDouble();
        int[] ids = prompts[mpc.GetProperty("prompt").GetInt32()];
        double[][] states = Rows(_tensor("mpc.prompt.states")!), errors = Rows(_tensor("mpc.prompt.e")!);
        var (held, free) = (Run(Predictive(bound).Compile(lambda)), Run(LinearQuadratic.FromGains(_feature, _lqr.Value).Compile(lambda)));
        yield return Worst("mpc.prompt.states", L + 1, k => Distance(held[k], states[k]) / Length(states[k]));
        yield return Worst("mpc.prompt.e", L, k => Distance(Scaled(Error(held, k), _v[k]), errors[k]) / Length(states[k]));
        yield return Worst(
            "mpc.prompt.u of the law", L, k => Distance(Curved(k, Error(held, k), bound), _tensor("mpc.prompt.u")![k].ToArray()) / Length(states[k]));
        yield return Worst(
            "mpc.prompt.u_free of the law", L,
            k => Distance(Scaled(Error(free, k), _lqr.Value[k].Apply(_v[k])), _tensor("mpc.prompt.u_free")![k].ToArray()) / Length(states[k]));

        double[][] Run(FeedbackLaw law) =>
            [.. BlockProbe.Steered(model, ids, law, SteeredTokens.Last, null, cancellationToken).Select(x => Array.ConvertAll(x, y => (double)y))];
        double Error(double[][] x, int k) => _v[k].Any(y => y != 0) ? (lambda * _feature.Mu[k]) - Dot(_v[k], x[k]) : 0;
        VerificationRow Worst(string name, int count, Func<int, double> error) => new(
            path, name, count, Enumerable.Range(0, count).Select(error).Aggregate(0.0, Verification.Worse), MethodChecks.FromOurs);
    }

    private PredictiveSteering Predictive(double bound) => new(_feature, _curves.Value, bound);

    // The input of a curve in float64, but for what it is stored in.
    private double[] Curved(int k, double error, double bound)
    {
        double[] sum = new double[_feature.D];
        if (_curves.Value[k] is { } curve)
        {
            for (int j = 0; j <= curve.Directions.Count; j++)
            {
                double share = new ErrorCurve(curve.Nodes, curve.Values[j], curve.Slopes[j], curve.Knee, (float)bound).At((float)error);
                float[] direction = j == 0 ? curve.W : curve.Directions[j - 1];
                sum = [.. sum.Zip(direction, (x, y) => x + (share * y))];
            }
        }

        return sum;
    }

    private static double Dot(double[] x, double[] y) => TensorPrimitives.Dot<double>(x, y);

    private static double Length(double[] x) => TensorPrimitives.Norm<double>(x);

    private static double Distance(double[] x, double[] y) => TensorPrimitives.Distance<double>(x, y);

    private static double[] Scaled(double factor, double[] x) => Array.ConvertAll(x, y => factor * y);

    /// <summary>The law of a run.</summary>
    /// <exception cref="FormatException">Nothing is known of its method.</exception>
    public FeedbackLaw LawOf(string method, JsonElement run)
    {
        int middle = _values.GetProperty("middle_layer").GetInt32();
        double Number(string key) => run.GetProperty(key).GetDouble();
        double? End(string key) => run.GetProperty(key) is { ValueKind: JsonValueKind.Number } end ? end.GetDouble() : null;
        LayerSet? Layers() => run.TryGetProperty("layers", out var layers)
            ? new LayerSet([.. layers.EnumerateArray().Select(k => new LayerRange(k.GetInt32(), k.GetInt32()))]) : null;
        SteeringMethod Lqr(IReadOnlyList<Gain> gains) => LinearQuadratic.FromGains(_feature, gains);
        SteeringMethod Track(IReadOnlyList<Gain> gains) =>
            Trajectory.FromGains(_feature, [.. Rows(_tensor("trajectory.nominal")!).Take(L).Select(Narrow)], gains);
        SteeringMethod Angular() => new AngularSetpoint(
            _feature, [.. Second.Take(L).Select(Narrow)], Narrow(Times(_lqr.Value, _v)), Narrow(Times(_lqr.Value, Second)));
        return method switch
        {
            "lqr" => Lqr(_lqr.Value).Compile(Number("lam")),
            "mpc" => Predictive(Number("bound")).Compile(Number("lam")),
            "angular.0" or "angular.60" or "angular.180" => Angular().Compile(Number("theta")),
            "trajectory.mean" => Track(_lqr.Value).Compile(1),
            "trajectory.own" => Track(_ownGains.Value).Compile(1),
            "feature_cost" => Lqr(FeatureCost).Compile(Number("lam")),
            "reduced" => Lqr(Reduced).Compile(Number("lam")),
            "latent" => LinearQuadratic.FromGains(LatentFeature, Latent).Compile(Number("lam")),
            "latent.calibrated" => Calibrated().Compile(0),
            "hinf.1001" => Lqr(Robust("gamma_used")).Compile(Number("lam")),
            "hinf.3" => Lqr(Robust("gamma_used_3")).Compile(Number("lam")),
            "caa" or "actadd" => new OpenLoopAddition(_feature, Layers()).Compile(Number("strength")),
            "pid.add" => new OpenLoopAddition(PidSteering.Directions(_feature, Number("kp"), Number("ki"), Number("kd")), Layers())
                .Compile(Number("strength")),
            "clamp" => new Clamp(_feature, Number("kp"), Number("kp")).Compile(Number("lam")),
            "proportional" => new Proportional(_feature, Number("kp"), Layers()).Compile(Number("lam")),
            "ablation.law" => new Ablation(_feature).Compile(1),
            "ablation.input" => new Ablation(_feature, hook: Hook.Input).Compile(1),
            "pid.ablate" => new Ablation(PidSteering.Directions(_feature, Number("kp"), Number("ki"), Number("kd")), hook: Hook.Input).Compile(1),
            "angular_steering.180" or "angular_steering.90" or "angular_steering.adaptive.180" or "angular_steering.adaptive.90" =>
                new AngularSteering(_feature, [.. Second.Take(L).Select(Narrow)], run.GetProperty("adaptive").GetBoolean()).Compile(Number("theta")),
            "interval.floor" or "interval.cap" or "interval.both" => new Clamp(_feature, End("lo"), End("hi")).Compile(1),
            "gated_clamp" => new Gated(new Clamp(_feature, 1, 1, Layers()), Probe(middle)).Compile(Number("lam")),
            "ablation.published" => new DirectionalAblation(_feature, run.GetProperty("direction_layer").GetInt32()).Compile(1),
            "act.linear.mean.1" or "act.linear.mean.0.5" or "act.linear.last.1" =>
                Transport("act.linear." + run.GetProperty("pooling").GetString()).Compile(Number("strength")),
            "act.mean.mean.1" or "act.mean.mean.0.5" => Shift().Compile(Number("strength")),
            "ode" => Flow(run.GetProperty("layer").GetInt32()).Compile(Number("T")),
            "cast" or "cast.normalised" => Cast(run, method == "cast" ? NormRule.None : NormRule.Pass).Compile(Number("strength")),
            _ => throw new FormatException($"of the method '{method}' nothing is known"),
        };
    }

    /// <summary>v and μ.</summary>
    public Feature Feature => _feature;

    private ActivationTransport Transport(string name) => new(
        _feature, Narrow(Rows(_tensor(name + ".w")!)), Narrow(Rows(_tensor(name + ".b")!)), Narrow(Rows(_tensor(name + ".low")!)),
        Narrow(Rows(_tensor(name + ".high")!)));

    private ActivationTransport Shift()
    {
        float[][] All(float value) => [.. Enumerable.Range(0, L).Select(_ => Enumerable.Repeat(value, _feature.D).ToArray())];
        return new ActivationTransport(_feature, All(1), Narrow(Rows(_tensor("act.mean.mean.b")!)), All(-1e6f), All(1e6f));
    }

    /// <summary>The sketch of the flow.</summary>
    public CountSketch Sketch => new(
        _values.GetProperty("ode").GetProperty("components").GetInt32(), _values.GetProperty("ode").GetProperty("gamma").GetDouble(),
        _values.GetProperty("ode").GetProperty("coef0").GetDouble(), Whole("ode.index"), Whole("ode.sign"));

    private int[] Whole(string name) => Array.ConvertAll(_tensor(name)!.Values, x => (int)x);

    private OdeSteering Flow(int layer)
    {
        float[][] weights = [.. Enumerable.Range(0, L).Select(_ => new float[Sketch.Components])];
        weights[layer] = Narrow(_tensor("ode.coef")!.Values);
        return new OdeSteering(_feature, Sketch, weights, _values.GetProperty("ode").GetProperty("steps").GetInt32());
    }

    private Conditional Cast(JsonElement run, NormRule norm)
    {
        float[][] vectors = Narrow(Rows(_tensor("cast.condition")!));
        var cast = _values.GetProperty("cast");
        int[] behaviour = [.. run.GetProperty("behaviour_layers").EnumerateArray().Select(k => k.GetInt32())];
        int asked = cast.GetProperty("layer").GetInt32();
        return new Conditional(
            new CastSteering(_feature, vectors, norm, new LayerSet([.. behaviour.Select(k => new LayerRange(k, k))])),
            new PromptCondition(
                [new ConditionProbe(asked, vectors[asked])], cast.GetProperty("threshold").GetDouble(),
                cast.GetProperty("threshold_is").GetString() == "smaller"));
    }

    // A probe w·x + b that opens the gate above the threshold t.
    private TokenGate Probe(int layer) => new(
        layer,
        Narrow(_tensor("direction.logistic")![layer].ToArray()),
        (float)(_values.GetProperty("gated_clamp").GetProperty("threshold").GetDouble() - _tensor("direction.logistic_intercept")!.Values[layer]));

    // The stored β is not a multiple of |μ|. It is the affine setpoint at λ = 0.
    private LinearQuadratic Calibrated()
    {
        var feature = LatentFeature;
        var beta = new Feature(feature.V, feature.Mu, Narrow(_tensor("latent.beta_calibrated")!.Values));
        return LinearQuadratic.FromGains(beta, Latent, Setpoint.Affine);
    }

    private IReadOnlyList<Gain> Dense(Matrix<double>[] a) => DenseRiccati.Solve(L, k => a[k], new IsotropicCost(_weights)).Gains;

    private IReadOnlyList<Gain> Robust(string gamma) =>
        [.. HInfinityRiccati.TrySolve(DisturbedPlant.Isotropic(_a, _weights), _values.GetProperty("hinf").GetProperty(gamma).GetDouble())!
            .Select(k => new DenseGain(k))];

    // C_k = √q [v_k …], C_L = √qf [v_L …], in float64, because a Feature has only float32.
    private IReadOnlyList<Gain> Factored(LqrWeights weights, params double[][][] directions)
    {
        var c = Enumerable.Range(0, L + 1).Select(k =>
            Math.Sqrt(k == L ? weights.Qf : weights.Q) * Matrix<double>.Build.DenseOfColumns(directions.Select(v => v[k])));
        return FactoredRiccati.Solve(L, (k, z) => _a[k].TransposeThisAndMultiply(z), new FactoredCost([.. c], weights.R)).Gains;
    }

    private IReadOnlyList<Gain> InBasis(string name) =>
        ReducedRiccati.Solve(Matrices(_tensor(name)!), (k, basis) => _a[k] * basis, new IsotropicCost(_weights)).Gains;

    private VerificationRow Products(string path, string name, IReadOnlyList<Gain> gains, double[][] directions) =>
        Row(path, name, Times(gains, directions));

    private VerificationRow Probed(string path, string name, IReadOnlyList<Gain> gains, double[] probe) =>
        Row(path, name, [.. gains.Select(gain => gain.Apply(probe))]);

    private VerificationRow Inner(string path, string name, IReadOnlyList<Gain> gains) =>
        Row(path, name, [.. gains.Select(gain => ((ThinGain)gain).Inner.ToRowMajorArray())]);

    // A row that is 0 in both has no error.
    private VerificationRow Row(string path, string name, IReadOnlyList<double[]> rows)
    {
        double[] ours = [.. rows.SelectMany(row => row)];
        return new VerificationRow(path, name, rows.Count, Verification.WorstRow(ours, _tensor(name)!.Values, rows[0].Length),
            MethodChecks.FromStored);
    }

    private static double[][] Times(IReadOnlyList<Gain> gains, double[][] directions) => [.. gains.Select((gain, k) => gain.Apply(directions[k]))];

    private static double[] Unit(double[] x)
    {
        double length = Math.Sqrt(x.Sum(y => y * y));
        return length <= 1e-12 ? new double[x.Length] : Array.ConvertAll(x, y => y / length);
    }

    private static float[] Narrow(double[] x) => Array.ConvertAll(x, y => (float)y);

    private static float[][] Narrow(double[][] rows) => [.. rows.Select(Narrow)];

    private static double[][] Rows(GoldenTensor tensor) => [.. Enumerable.Range(0, tensor.Shape[0]).Select(i => tensor[i].ToArray())];

    internal static Matrix<double>[] Matrices(GoldenTensor tensor) =>
        [.. Enumerable.Range(0, tensor.Shape[0])
            .Select(k => Matrix<double>.Build.DenseOfRowMajor(tensor.Shape[1], tensor.Shape[2], tensor[k].ToArray()))];
}

/// <summary>Checks small systems with known answers: gains of difficult plants, and H∞.</summary>
internal static class SystemChecks
{
    private const double Rounding = 1.0 / (1L << 52);

    public static IEnumerable<VerificationRow> Run(string path, JsonElement values, Func<string, GoldenTensor?> tensor,
        CancellationToken cancellationToken)
    {
        if (values.TryGetProperty("awkward", out var awkward))
        {
            foreach (var row in Awkward(path, awkward, tensor, cancellationToken))
            {
                yield return row;
            }
        }

        if (values.TryGetProperty("certificate", out var certificate) && certificate.TryGetProperty("violated", out _))
        {
            foreach (var row in CertificateChecks.Systems(path, certificate, tensor, cancellationToken))
            {
                yield return row;
            }
        }

        if (values.TryGetProperty("mpc", out var mpc) && !mpc.TryGetProperty("plan_bound", out _))
        {
            foreach (var row in Plans(path, mpc, tensor, cancellationToken))
            {
                yield return row;
            }
        }

        if (!values.TryGetProperty("hinf", out var hinf) || hinf.TryGetProperty("gamma_star", out _))
        {
            yield break;
        }

        double worstGamma = 0, worstGain = 0;
        int systems = 0;
        foreach (var system in hinf.EnumerateObject())
        {
            string name = system.Value.TryGetProperty("system", out var of) ? of.GetString()! : system.Name;
            Matrix<double>[] Part(string part) => GoldenMethods.Matrices(tensor($"hinf.{name}.{part}")!);
            var last = tensor($"hinf.{name}.QN")!;
            var plant = new DisturbedPlant(
                Part("A"), Part("B"), Part("D"), [.. Part("Q"), Matrix<double>.Build.DenseOfRowMajor(last.Shape[0], last.Shape[1], last.Values)],
                    Part("R"));
            if (system.Value.TryGetProperty("gamma", out var gamma))
            {
                bool feasible = HInfinityRiccati.TrySolve(plant, gamma.GetDouble(), cancellationToken) is not null;
                yield return new VerificationRow(path, $"hinf γ {gamma.GetDouble()} is not feasible", 1, feasible ? 1 : 0, 0);
                continue;
            }

            double star = system.Value.GetProperty("gamma_star").GetDouble();
            worstGamma = Verification.Worse(worstGamma,
                Math.Abs(HInfinityRiccati.LeastGamma(plant, cancellationToken: cancellationToken) - star) / star);
            var gains = HInfinityRiccati.TrySolve(plant, system.Value.GetProperty("gamma_used").GetDouble(), cancellationToken);
            double[] ours = [.. (gains ?? []).SelectMany(k => k.ToRowMajorArray())];
            var expected = tensor($"hinf.{name}.K")!;
            worstGain = Verification.Worse(worstGain, Verification.WorstRow(ours, expected.Values, expected.Stride));
            systems++;
        }

        yield return new VerificationRow(path, "hinf γ* of systems", systems, worstGamma, 1e-6);
        yield return new VerificationRow(path, "hinf gains of systems", systems, worstGain, MethodChecks.FromStored);
    }

    private static IEnumerable<VerificationRow> Plans(
        string path, JsonElement mpc, Func<string, GoldenTensor?> tensor, CancellationToken cancellationToken)
    {
        double worst = 0, worstCost = 0;
        int count = 0;
        foreach (var system in mpc.EnumerateObject())
        {
            double Number(string key) => system.Value.GetProperty(key).GetDouble();
            GoldenTensor Part(string part) => tensor($"mpc.{system.Name}.{part}")!;
            var weights = new LqrWeights(Number("q"), Number("r"), Number("qf"));
            var a = GoldenMethods.Matrices(Part("A"));
            var plan = PredictiveControl.Plan(a, weights, Part("x0").Values, Number("bound"), cancellationToken);
            var free = PredictiveControl.Plan(a, weights, Part("x0").Values, double.PositiveInfinity, cancellationToken);
            worst = Verification.Worse(worst, Error(Part("u"), plan.Inputs.SelectMany(u => u)));
            worst = Verification.Worse(worst, Error(Part("u_free"), free.Inputs.SelectMany(u => u)));
            worst = Verification.Worse(worst, Error(Part("multiplier"), plan.Multipliers));
            worstCost = Verification.Worse(worstCost, Math.Abs(plan.Cost - Number("cost")) / Number("cost"));
            count++;
        }

        yield return new VerificationRow(path, "plans with a bound", count, worst, MethodChecks.FromStored);
        yield return new VerificationRow(path, "costs of plans", count, worstCost, MethodChecks.FromStored);
    }

    private static IEnumerable<VerificationRow> Awkward(string path, JsonElement awkward, Func<string, GoldenTensor?> tensor,
        CancellationToken cancellationToken)
    {
        double worstDense = 0, worstFactored = 0, worstRobust = 0, worstGamma = 0, worstNorms = 0;
        int count = 0, robust = 0;
        foreach (var system in awkward.EnumerateObject())
        {
            string name = $"awkward.{system.Name}.";
            var a = GoldenMethods.Matrices(tensor(name + "A")!);
            double Number(string key) => system.Value.GetProperty(key).GetDouble();
            var weights = new LqrWeights(Number("q"), Number("r"), Number("qf"));
            var dense = DenseRiccati.Solve(a.Length, k => a[k], new IsotropicCost(weights), cancellationToken);
            worstDense = Verification.Worse(worstDense,
                Error(tensor(name + "K")!, dense.Gains.SelectMany(gain => ((DenseGain)gain).K.ToRowMajorArray())));

            var certificate = new TrackingCertificate(
                [.. a.Zip(GoldenMethods.Matrices(tensor(name + "K")!), (open, gain) => open - gain)], cancellationToken);
            worstNorms = Verification.Worse(worstNorms, CertificateChecks.WorstNorms(
                certificate, tensor(name + "phi")!, tensor(name + "contraction")!, certificate.P[0].ToRowMajorArray(), tensor(name + "P0")!.Values));

            var v = tensor(name + "v")!;
            var c = Enumerable.Range(0, a.Length + 1).Select(k =>
                Math.Sqrt(k == a.Length ? weights.Qf : weights.Q) * Matrix<double>.Build.DenseOfColumns([v[k].ToArray()]));
            var factored = FactoredRiccati.Solve(
                a.Length, (k, z) => a[k].TransposeThisAndMultiply(z), new FactoredCost([.. c], weights.R), cancellationToken: cancellationToken);

            // Golden values with r = 1e-8 are off themselves. w is of q v v' rounded to float64, whose remainder beside rank one is rounding/r of r:
            // against 60 digits of C = √q v, that of r_tiny has an error of 5.8e-8, and FactoredRiccati one of 2e-16. The H∞ gains come from a
            // recursion that subtracts: those of r_tiny_q0 have an error of 1.8e-6, and HInfinityRiccati's one of 3e-15.
            double lost = Math.Max(1, 100 * Rounding / weights.R / MethodChecks.FromStored);
            double error = Error(tensor(name + "w_feature_cost")!, factored.Gains.SelectMany((gain, k) => gain.Apply(v[k])));
            worstFactored = Verification.Worse(worstFactored, error / lost);
            count++;

            if (tensor(name + "K_hinf") is { } expected)
            {
                var plant = DisturbedPlant.Isotropic(a, weights);
                double star = Number("gamma_star");
                worstGamma = Verification.Worse(worstGamma,
                    Math.Abs(HInfinityRiccati.LeastGamma(plant, cancellationToken: cancellationToken) - star) / star);
                var gains = HInfinityRiccati.TrySolve(plant, Number("gamma_used"), cancellationToken);
                worstRobust = Verification.Worse(worstRobust, Error(expected, (gains ?? []).SelectMany(k => k.ToRowMajorArray())) / lost);
                robust++;
            }
        }

        yield return new VerificationRow(path, "awkward certificates", count, worstNorms, MethodChecks.FromStored);
        yield return new VerificationRow(path, "awkward gains", count, worstDense, MethodChecks.FromStored);
        yield return new VerificationRow(path, "awkward gains of a feature's cost", count, worstFactored, MethodChecks.FromStored,
            "if r is tiny, the bound is larger by what 1/r costs the golden values");
        yield return new VerificationRow(path, "awkward γ*", robust, worstGamma, 1e-6);
        yield return new VerificationRow(path, "awkward hinf gains", robust, worstRobust, MethodChecks.FromStored,
            "if r is tiny, the bound is larger by what 1/r costs the golden values");
    }

    // The error relative to the largest gain of the system, because a nilpotent plant also has gains of 0.
    private static double Error(GoldenTensor expected, IEnumerable<double> ours)
    {
        double[] values = [.. ours];
        double scale = expected.Values.Max(Math.Abs);
        double worst = values.Length == expected.Values.Length ? 0 : double.PositiveInfinity;
        for (int i = 0; i < values.Length && i < expected.Values.Length; i++)
        {
            worst = Verification.Worse(worst, Math.Abs(values[i] - expected.Values[i]) / (scale > 0 ? scale : 1));
        }

        return worst;
    }
}
