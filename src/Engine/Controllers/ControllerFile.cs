using System.Buffers.Binary;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Tiller.Checkpoint;
using Tiller.Features;
using Tiller.Law;
using Tiller.Synthesis;

namespace Tiller.Controllers;

// A controller is a safetensors file with these tensors:
//
//   all methods        v (L+1, D) F32, mu (L+1) F32; optional: origin (L+1) F32; residual, rank, open (L) F64
//   a-lqr              w (L, D) F32
//   angular            second, w1, w2 (L, D) F32
//   angular-steering   second (L, D) F32
//   trajectory         record (L, D) F32; read, push (Σ p_k, D) F32
//   mpc                w (L, D), knee (L), directions (Σ p_k, D), nodes (Σ n_k), values, slopes (Σ (p_k + 1) n_k) F32
//   a gate             gate (D) F32
//   a certificate      certificate.contraction, certificate.curvature (S) F64; certificate.propagation (S+1) F64;
//                      certificate.error, certificate.bound (n, S+1) F64; metadata certificate.first and certificate.heldout
//
// Metadata: format, version, sha256, method, layers, the method's parameters, and the source. sha256 covers every other metadata entry and every
// tensor (name, shape, bytes), so that a change of any bit outside the header's own syntax is detected.
//
// Version 1 has prompts of raw text only. Version 2 adds several ranges of layers and the form of the prompts (form, optional: raw, chat or tokens;
// for chat also template.sha256 and, if there is a system message, system or system.varies). Version 3 adds the methods angular, angular-steering
// (optional: adaptive = true), clamp (low and high, of which one may be absent) and trajectory (columns: p_0,…,p_{L-1}), ablation of block inputs
// (optional: hook = input), and a token gate for any method (gate.layer, gate.threshold). Version 4 adds the methods directional-ablation (block),
// linear-act (slope, offset, low, high (L, D) F32), ode-steer (gamma, constant, components, steps; weights (L, m) F32, places, signs (2, D+1) F64)
// and cast (optional: norm = token or pass; vectors (L, D) F32), and a condition on the prompt for any method (condition.threshold, condition.blocks,
// condition.side = above or below; condition (probes, D) F32). Version 5 adds the method mpc (bound, setpoint; directions: p_0,…,p_{L-1}; nodes:
// n_0,…,n_{L-1}, 0 where K v is 0). Every version stays readable; tests/controllers holds files of each.

/// <summary>Writes and reads the file of a controller.</summary>
internal static class ControllerFile
{
    public const string Format = "tiller.controller";
    public const int Version = 5;

    private const int FirstVersionWithForm = 2;

    /// <summary>Largest file that is read, in bytes: about 30 times the size of an A-LQR controller for 128 layers of width 16,384.</summary>
    public const long MaxLength = 512L << 20;

    private const string Setting = "setting.";
    private const string Certificate = "certificate.";

    /// <summary>Writes a controller to a file.</summary>
    public static void Write(string path, Controller controller)
    {
        var (metadata, tensors) = Parts(controller);
        Write(path, metadata, tensors);
    }

    /// <summary>Writes a controller to a stream.</summary>
    public static void Write(Stream stream, Controller controller)
    {
        var (metadata, tensors) = Parts(controller);
        Write(stream, metadata, tensors);
    }

    private static (Dictionary<string, string> Metadata, List<TensorData> Tensors) Parts(Controller controller)
    {
        var (feature, source) = (controller.Method.Feature, controller.Source);
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal)
        {
            ["format"] = Format,
            ["version"] = Text(Version),
            ["method"] = controller.Method.Name,
            ["layers"] = controller.Method.Layers.ToString(),
            ["model"] = source.ModelName,
            ["fingerprint"] = source.ModelFingerprint,
        };
        AddPrompts(metadata, "positive", source.Positive);
        AddPrompts(metadata, "negative", source.Negative);
        AddPrompts(metadata, "calibration", source.Calibration);
        AddForm(metadata, source.Form);
        Add(metadata, "cost", source.Cost switch { null => null, FitCost.State => "state", _ => "feature" });
        Add(metadata, "order", source.Order is { } order ? Text(order) : null);
        if (source.Weights is { } weights)
        {
            (metadata["q"], metadata["r"], metadata["qf"]) = (Text(weights.Q), Text(weights.R), Text(weights.Qf));
        }

        foreach (var (name, value) in source.Settings)
        {
            metadata[Setting + name] = value;
        }

        long rows = feature.L + 1, layers = feature.L, width = feature.D;
        var tensors = new List<TensorData>
        {
            TensorData.FromFloat32("v", [rows, width], Flatten(feature.V)),
            TensorData.FromFloat32("mu", [rows], [.. feature.Mu]),
        };
        if (feature.Origin is { } origin)
        {
            tensors.Add(TensorData.FromFloat32("origin", [rows], [.. origin]));
        }

        var method = controller.Method;
        if (method is Conditional { Condition: var condition } conditional)
        {
            (metadata["condition.threshold"], metadata["condition.side"]) = (Text(condition.Threshold), condition.Above ? "above" : "below");
            metadata["condition.blocks"] = string.Join(',', condition.Probes.Select(probe => Text(probe.Layer)));
            tensors.Add(TensorData.FromFloat32(
                "condition", [condition.Probes.Count, width], Flatten([.. condition.Probes.Select(probe => probe.Direction)])));
            method = conditional.Method;
        }

        if (method is Gated gated)
        {
            (metadata["gate.layer"], metadata["gate.threshold"]) = (Text(gated.Gate.Layer), Text(gated.Gate.Threshold));
            tensors.Add(TensorData.FromFloat32("gate", [width], gated.Gate.Direction));
            method = gated.Method;
        }

        switch (method)
        {
            case LinearQuadratic lqr:
                metadata["setpoint"] = NameOf(lqr.Setpoint);
                tensors.Add(TensorData.FromFloat32("w", [layers, width], Flatten(lqr.W)));
                break;
            case PredictiveSteering predictive:
                (metadata["bound"], metadata["setpoint"]) = (Text(predictive.Bound), NameOf(predictive.Setpoint));
                var curves = predictive.Curves;
                metadata["directions"] = string.Join(',', curves.Select(curve => Text(curve?.Directions.Count ?? 0)));
                metadata["nodes"] = string.Join(',', curves.Select(curve => Text(curve?.Nodes.Length ?? 0)));
                tensors.Add(TensorData.FromFloat32("w", [layers, width], Flatten([.. curves.Select(curve => curve?.W ?? new float[width])])));
                tensors.Add(TensorData.FromFloat32("knee", [layers], [.. curves.Select(curve => curve?.Knee ?? 0)]));
                float[][] directions = [.. curves.SelectMany(curve => curve?.Directions ?? [])];
                tensors.Add(TensorData.FromFloat32("directions", [directions.Length, width], Flatten(directions)));
                AddCurves("nodes", curve => [curve.Nodes]);
                AddCurves("values", curve => curve.Values);
                AddCurves("slopes", curve => curve.Slopes);
                break;

                void AddCurves(string name, Func<InputCurve, IReadOnlyList<float[]>> rows)
                {
                    float[] numbers = Flatten([.. curves.SelectMany(curve => curve is null ? [] : rows(curve))]);
                    tensors.Add(TensorData.FromFloat32(name, [numbers.Length], numbers));
                }

            case Ablation ablation:
                Add(metadata, "hook", ablation.Hook == Hook.Input ? "input" : null);
                break;
            case AngularSteering turning:
                Add(metadata, "adaptive", turning.Adaptive ? "true" : null);
                tensors.Add(TensorData.FromFloat32("second", [layers, width], Flatten(turning.Second)));
                break;
            case Proportional proportional:
                metadata["kp"] = Text(proportional.Gain);
                break;
            case SPid pid:
                (metadata["kp"], metadata["ki"], metadata["kd"]) = (Text(pid.Kp), Text(pid.Ki), Text(pid.Kd));
                break;
            case AngularSetpoint angular:
                tensors.Add(TensorData.FromFloat32("second", [layers, width], Flatten(angular.Second)));
                tensors.Add(TensorData.FromFloat32("w1", [layers, width], Flatten(angular.W1)));
                tensors.Add(TensorData.FromFloat32("w2", [layers, width], Flatten(angular.W2)));
                break;
            case DirectionalAblation directional:
                metadata["block"] = Text(directional.Block);
                break;
            case ActivationTransport transport:
                tensors.Add(TensorData.FromFloat32("slope", [layers, width], Flatten(transport.Slope)));
                tensors.Add(TensorData.FromFloat32("offset", [layers, width], Flatten(transport.Offset)));
                tensors.Add(TensorData.FromFloat32("low", [layers, width], Flatten(transport.Low)));
                tensors.Add(TensorData.FromFloat32("high", [layers, width], Flatten(transport.High)));
                break;
            case OdeSteering { Sketch: var sketch } flow:
                (metadata["gamma"], metadata["constant"]) = (Text(sketch.Gamma), Text(sketch.Constant));
                (metadata["components"], metadata["steps"]) = (Text(sketch.Components), Text(flow.Steps));
                tensors.Add(TensorData.FromFloat32("weights", [layers, sketch.Components], Flatten(flow.Weights)));
                tensors.Add(TensorData.FromFloat64("places", [2, width + 1], [.. sketch.Places.ToArray().Select(place => (double)place)]));
                tensors.Add(TensorData.FromFloat64("signs", [2, width + 1], [.. sketch.Signs.ToArray().Select(sign => (double)sign)]));
                break;
            case CastSteering cast:
                Add(metadata, "norm", cast.Norm switch { NormRule.None => null, NormRule.Token => "token", _ => "pass" });
                tensors.Add(TensorData.FromFloat32("vectors", [layers, width], Flatten(cast.Vectors)));
                break;
            case Clamp clamp:
                Add(metadata, "low", clamp.Low is { } low ? Text(low) : null);
                Add(metadata, "high", clamp.High is { } high ? Text(high) : null);
                break;
            case Trajectory trajectory:
                long columns = trajectory.Read.Sum(rows => (long)rows.Count);
                if (8 * columns * width >= MaxLength)
                {
                    throw new ControllerException(
                        ControllerFault.LimitExceeded,
                        $"The factors of the gains have {columns} columns in all, {8 * columns * width} bytes; a controller file "
                        + $"may have at most {MaxLength}. "
                        + "Track with gains of fewer columns: those of a feature's cost, or of a reduced order.");
                }

                metadata["columns"] = string.Join(',', trajectory.Read.Select(rows => Text(rows.Count)));
                tensors.Add(TensorData.FromFloat32("record", [layers, width], Flatten(trajectory.Record)));
                tensors.Add(TensorData.FromFloat32("read", [columns, width], Flatten([.. trajectory.Read.SelectMany(rows => rows)])));
                tensors.Add(TensorData.FromFloat32("push", [columns, width], Flatten([.. trajectory.Push.SelectMany(rows => rows)])));
                break;
        }

        AddSeries(tensors, "residual", source.Residuals);
        AddSeries(tensors, "rank", source.Ranks?.Select(x => (double)x));
        AddSeries(tensors, "open", source.OpenLoop);
        if (source.Certificate is { } certificate)
        {
            metadata[Certificate + "first"] = Text(certificate.First);
            AddPrompts(metadata, Certificate + "heldout", certificate.HeldOut);
            AddSeries(tensors, Certificate + "contraction", certificate.Contraction);
            AddSeries(tensors, Certificate + "propagation", certificate.Propagation);
            AddSeries(tensors, Certificate + "curvature", certificate.Curvature);
            AddTable(Certificate + "error", certificate.Error);
            AddTable(Certificate + "bound", certificate.Bound);
        }

        return (metadata, tensors);

        void AddTable(string name, IReadOnlyList<IReadOnlyList<double>> table) =>
            tensors.Add(TensorData.FromFloat64(name, [table.Count, table[0].Count], [.. table.SelectMany(row => row)]));
    }

    /// <summary>Adds the checksum and writes the file.</summary>
    public static void Write(string path, Dictionary<string, string> metadata, IReadOnlyList<TensorData> tensors)
    {
        metadata["sha256"] = Checksum(metadata, tensors);
        SafetensorsWriter.Write(path, metadata, tensors);
    }

    /// <summary>Adds the checksum and writes to a stream.</summary>
    public static void Write(Stream stream, Dictionary<string, string> metadata, IReadOnlyList<TensorData> tensors)
    {
        metadata["sha256"] = Checksum(metadata, tensors);
        SafetensorsWriter.Write(stream, metadata, tensors);
    }

    /// <summary>Reads and checks a controller.</summary>
    public static Controller Read(string path)
    {
        using var file = SafetensorsFile.Open(path);
        var reader = new ControllerReader(path, file);
        if (!string.Equals(file.Metadata.GetValueOrDefault("format"), Format, StringComparison.Ordinal))
        {
            throw reader.Schema(
                $"has no metadata format = {Format}: it is a safetensors file of another kind. Pass a file that Controller.Save wrote");
        }

        int version = reader.Integer("version");
        if (version > Version)
        {
            throw new ControllerException(
                ControllerFault.UnsupportedVersion, $"{path} is a controller of format version {version}; this program reads up to {Version}. "
                    + "Update it.");
        }

        if (version < 1)
        {
            throw reader.Schema($"has format version {version}; versions start at 1");
        }

        if (file.LengthInBytes > MaxLength)
        {
            throw new ControllerException(ControllerFault.LimitExceeded,
                $"{path} has {file.LengthInBytes} bytes; a controller file may have at most {MaxLength}.");
        }

        CheckChecksum(path, file, reader);
        var feature = ReadFeature(file, reader);
        try
        {
            return new Controller(ReadMethod(feature, file, reader), ReadSource(feature.L, version, file, reader));
        }
        catch (ArgumentException e)
        {
            throw new ControllerException(ControllerFault.Range, $"{path} holds a controller that cannot be used: {e.Message}", e);
        }
        catch (RiccatiException e)
        {
            throw new ControllerException(ControllerFault.Range, $"{path}: {e.Message}", e);
        }
    }

    private static void CheckChecksum(string path, SafetensorsFile file, ControllerReader reader)
    {
        string expected = reader.Required("sha256");
        byte[] block = new byte[1 << 16];
        string actual = Checksum(file.Metadata, file.Tensors.OrderBy(t => t.Name, StringComparer.Ordinal)
            .Select(t => (t.Name, t.Shape, Data: Blocks(t))));
        IEnumerable<ReadOnlyMemory<byte>> Blocks(TensorInfo tensor)
        {
            for (long done = 0; done < tensor.SizeInBytes; done += block.Length)
            {
                var part = block.AsMemory(0, (int)Math.Min(block.Length, tensor.SizeInBytes - done));
                file.Read(tensor, done, part.Span);
                yield return part;
            }
        }

        if (!string.Equals(expected, actual, StringComparison.Ordinal))
        {
            throw new ControllerException(
                ControllerFault.Checksum, $"{path} is damaged: its contents have the SHA-256 {actual}, but the file states {expected}. "
                    + "Copy or fit it again.");
        }
    }

    private static Feature ReadFeature(SafetensorsFile file, ControllerReader reader)
    {
        var shape = reader.Find("v").Shape;
        if (shape.Count != 2 || shape[0] < 2 || shape[1] < 1)
        {
            throw reader.Shape("v", "(L+1, D)", reader.Find("v").ShapeText);
        }

        long rows = shape[0], width = shape[1];
        float[] v = reader.Float32("v", (int)width, rows, width);
        float[] mu = reader.Float32("mu", 1, rows);
        float[]? origin = file.TryFind("origin") is null ? null : reader.Float32("origin", 1, rows);
        try
        {
            return new Feature([.. v.Chunk((int)width)], mu, origin);
        }
        catch (ArgumentException e)
        {
            throw new ControllerException(ControllerFault.Range, $"{file.Path} holds no valid feature: {e.Message}", e);
        }
    }

    private static SteeringMethod ReadMethod(Feature feature, SafetensorsFile file, ControllerReader reader)
    {
        var method = ReadUngated(feature, file, reader);
        if (file.Metadata.ContainsKey("gate.layer"))
        {
            method = new Gated(method,
                new TokenGate(reader.Count("gate.layer", 0), reader.Float32("gate", feature.D, feature.D), (float)reader.Number("gate.threshold")));
        }

        return file.Metadata.ContainsKey("condition.blocks") ? new Conditional(method, ReadCondition(feature, reader)) : method;
    }

    private static PromptCondition ReadCondition(Feature feature, ControllerReader reader)
    {
        int[] blocks = reader.Counts("condition.blocks");
        float[][] directions = [.. reader.Float32("condition", feature.D, blocks.Length, feature.D).Chunk(feature.D)];
        bool above = reader.Required("condition.side") switch
        {
            "above" => true,
            "below" => false,
            var other => throw reader.Schema($"has the side '{other}' of its condition; known are above and below"),
        };
        return new PromptCondition([.. blocks.Zip(directions, (k, c) => new ConditionProbe(k, c))], reader.Number("condition.threshold"), above);
    }

    private static SteeringMethod ReadUngated(Feature feature, SafetensorsFile file, ControllerReader reader)
    {
        var layers = reader.Layers(feature.L);
        switch (reader.Required("method"))
        {
            case "a-lqr":
                return new LinearQuadratic(feature, Rows("w"), SetpointOf(), layers);
            case "mpc":
                return new PredictiveSteering(feature, Curves(), reader.Number("bound"), SetpointOf(), layers);
            case "addition":
                return new OpenLoopAddition(feature, layers);
            case "proportional":
                return new Proportional(feature, reader.Number("kp"), layers);
            case "ablation":
                return new Ablation(feature, layers, reader.Flag("hook", "input") ? Hook.Input : Hook.Output);
            case "s-pid":
                return new SPid(feature, reader.Number("kp"), reader.Number("ki"), reader.Number("kd"));
            case "angular-steering":
                return new AngularSteering(feature, Rows("second"), reader.Flag("adaptive", "true"), layers);
            case "angular":
                return new AngularSetpoint(feature, Rows("second"), Rows("w1"), Rows("w2"), layers);
            case "directional-ablation":
                return new DirectionalAblation(feature, reader.Count("block", 0), layers);
            case "linear-act":
                return new ActivationTransport(feature, Rows("slope"), Rows("offset"), Rows("low"), Rows("high"), layers);
            case "ode-steer":
                int components = reader.Count("components", 1);
                float[][] weights = [.. reader.Float32("weights", components, feature.L, components).Chunk(components)];
                var sketch = new CountSketch(components, reader.Number("gamma"), reader.Number("constant"), Whole("places"), Whole("signs"));
                return new OdeSteering(feature, sketch, weights, reader.Count("steps", 1), layers);
            case "cast":
                var norm = file.Metadata.GetValueOrDefault("norm") switch
                {
                    null => NormRule.None,
                    "token" => NormRule.Token,
                    "pass" => NormRule.Pass,
                    var other => throw reader.Schema($"has the norm rule '{other}'; known are token and pass"),
                };
                return new CastSteering(feature, Rows("vectors"), norm, layers);
            case "clamp":
                return new Clamp(feature, End("low"), End("high"), layers);
            case "trajectory":
                int[] columns = reader.Counts("columns", feature.L);
                return new Trajectory(feature, Rows("record"), Factors("read", columns), Factors("push", columns), layers);
            case var other:
                throw reader.Schema(
                    $"has the method '{other}'; known are a-lqr, mpc, addition, proportional, ablation, s-pid, angular, "
                    + "angular-steering, clamp, trajectory, directional-ablation, linear-act, ode-steer and cast");
        }

        Setpoint SetpointOf() => reader.Required("setpoint") switch
        {
            "published" => Setpoint.Published,
            "affine" => Setpoint.Affine,
            var other => throw reader.Schema($"has the setpoint '{other}'; known are published and affine"),
        };

        InputCurve?[] Curves()
        {
            int[] columns = reader.Counts("directions", feature.L), nodes = reader.Counts("nodes", feature.L);
            long numbers = columns.Zip(nodes, (p, n) => (p + 1L) * n).Sum();
            var (w, knees, directions) = (Rows("w"), reader.Float32("knee", 1, feature.L), Factors("directions", columns));
            float[] q = reader.Float32("nodes", 1, nodes.Sum()), values = reader.Float32("values", 1, numbers);
            float[] slopes = reader.Float32("slopes", 1, numbers);
            var curves = new InputCurve?[feature.L];
            for (int k = 0, at = 0, row = 0; k < curves.Length; k++)
            {
                int n = nodes[k], end = row + ((columns[k] + 1) * n);
                curves[k] = n == 0 ? null : new InputCurve(
                    w[k], knees[k], directions[k], q[at..(at + n)], [.. values[row..end].Chunk(n)], [.. slopes[row..end].Chunk(n)]);
                (at, row) = (at + n, end);
            }

            return curves;
        }

        float[][] Rows(string name) => [.. reader.Float32(name, feature.D, feature.L, feature.D).Chunk(feature.D)];

        int[] Whole(string name) =>
            [.. reader.Float64(name, 2, feature.D + 1).Select(x => x == Math.Floor(x) && Math.Abs(x) < int.MaxValue ? (int)x : int.MaxValue)];

        double? End(string key) => file.Metadata.ContainsKey(key) ? reader.Number(key) : null;

        IReadOnlyList<float[]>[] Factors(string name, int[] columns)
        {
            float[][] rows = [.. reader.Float32(name, feature.D, columns.Sum(count => (long)count), feature.D).Chunk(feature.D)];
            var factors = new IReadOnlyList<float[]>[columns.Length];
            int at = 0;
            for (int k = 0; k < columns.Length; k++)
            {
                factors[k] = rows[at..(at += columns[k])];
            }

            return factors;
        }
    }

    private static string NameOf(Setpoint setpoint) => setpoint == Setpoint.Affine ? "affine" : "published";

    private static ControllerSource ReadSource(int layers, int version, SafetensorsFile file, ControllerReader reader)
    {
        var metadata = file.Metadata;
        double[]? Series(string name) => file.TryFind(name) is null ? null : reader.Float64(name, layers);
        return new ControllerSource
        {
            ModelName = reader.Required("model"),
            ModelFingerprint = reader.Required("fingerprint"),
            Positive = reader.Prompts("positive"),
            Negative = reader.Prompts("negative"),
            Calibration = metadata.ContainsKey("calibration.sha256") ? reader.Prompts("calibration") : null,
            Form = version < FirstVersionWithForm ? new RawForm() : reader.Form(),
            Weights = metadata.ContainsKey("r") ? new LqrWeights(reader.Number("q"), reader.Number("r"), reader.Number("qf")) : null,
            Cost = metadata.GetValueOrDefault("cost") switch
            {
                null => null,
                "state" => FitCost.State,
                "feature" => FitCost.Feature,
                var other => throw reader.Schema($"has the cost '{other}'; known are state and feature"),
            },
            Order = metadata.ContainsKey("order") ? reader.Count("order", 1) : null,
            Residuals = Series("residual"),
            Ranks = Series("rank") is { } ranks ? reader.Ranks(ranks, reader.Layers(layers)) : null,
            OpenLoop = Series("open"),
            Certificate = metadata.ContainsKey(Certificate + "first") ? ReadCertificate(file, reader) : null,
            Settings = metadata.Where(x => x.Key.StartsWith(Setting, StringComparison.Ordinal))
                .ToDictionary(x => x.Key[Setting.Length..], x => x.Value, StringComparer.Ordinal),
        };
    }

    private static ControllerCertificate ReadCertificate(SafetensorsFile file, ControllerReader reader)
    {
        var shape = reader.Find(Certificate + "contraction").Shape;
        if (shape.Count != 1 || shape[0] < 1 || shape[0] > int.MaxValue - 1)
        {
            throw reader.Shape(Certificate + "contraction", "(steps)", reader.Find(Certificate + "contraction").ShapeText);
        }

        long steps = shape[0];
        var heldOut = reader.Prompts(Certificate + "heldout");
        return new ControllerCertificate(
            reader.Count(Certificate + "first", 0), reader.Float64(Certificate + "contraction", steps),
            reader.Float64(Certificate + "propagation", steps + 1), reader.Float64(Certificate + "curvature", steps), heldOut, Table("error"),
            Table("bound"));

        double[][] Table(string name) =>
            [.. reader.Float64(Certificate + name, heldOut.Count, steps + 1).Chunk((int)steps + 1)];
    }

    private static string Checksum(IReadOnlyDictionary<string, string> metadata, IReadOnlyList<TensorData> tensors) => Checksum(
        metadata,
        tensors.OrderBy(t => t.Name, StringComparer.Ordinal)
            .Select(t => (t.Name, (IReadOnlyList<long>)t.Shape, (IEnumerable<ReadOnlyMemory<byte>>)[t.Data])));

    // Tensors are sorted by name; the blocks of a tensor are consecutive.
    private static string Checksum(
        IReadOnlyDictionary<string, string> metadata,
        IEnumerable<(string Name, IReadOnlyList<long> Shape, IEnumerable<ReadOnlyMemory<byte>> Data)> tensors)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (var (key, value) in metadata.Where(x => x.Key != "sha256").OrderBy(x => x.Key, StringComparer.Ordinal))
        {
            AppendText(hash, key);
            AppendText(hash, value);
        }

        foreach (var (name, shape, data) in tensors)
        {
            AppendText(hash, name);
            AppendText(hash, string.Join(',', shape.Select(n => n.ToString(CultureInfo.InvariantCulture))));
            foreach (var block in data)
            {
                hash.AppendData(block.Span);
            }
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }

    private static void AppendText(IncrementalHash hash, string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        Span<byte> length = stackalloc byte[sizeof(int)];
        BinaryPrimitives.WriteInt32LittleEndian(length, bytes.Length);
        hash.AppendData(length);
        hash.AppendData(bytes);
    }

    private static void Add(Dictionary<string, string> metadata, string key, string? value)
    {
        if (value is not null)
        {
            metadata[key] = value;
        }
    }

    private static void AddPrompts(Dictionary<string, string> metadata, string key, PromptSet? prompts)
    {
        Add(metadata, key + ".sha256", prompts?.Sha256);
        Add(metadata, key + ".count", prompts is null ? null : Text(prompts.Count));
    }

    private static void AddForm(Dictionary<string, string> metadata, PromptForm? form)
    {
        switch (form)
        {
            case RawForm:
                metadata["form"] = "raw";
                break;
            case ChatForm chat:
                (metadata["form"], metadata["template.sha256"]) = ("chat", chat.TemplateSha256);
                Add(metadata, "system", chat.System);
                Add(metadata, "system.varies", chat.SystemVaries ? "true" : null);
                break;
            case TokenForm:
                metadata["form"] = "tokens";
                break;
        }
    }

    private static void AddSeries(List<TensorData> tensors, string name, IEnumerable<double>? values)
    {
        if (values is not null)
        {
            double[] data = [.. values];
            tensors.Add(TensorData.FromFloat64(name, [data.Length], data));
        }
    }

    private static float[] Flatten(IReadOnlyList<float[]> rows) => [.. rows.SelectMany(row => row)];

    private static string Text(double value) => value.ToString("R", CultureInfo.InvariantCulture);

    private static string Text(int value) => value.ToString(CultureInfo.InvariantCulture);
}
