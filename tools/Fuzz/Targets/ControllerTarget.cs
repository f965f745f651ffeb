using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Tiller.Checkpoint;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Law;
using Tiller.Synthesis;

namespace Tiller.Fuzz.Targets;

/// <summary>A controller file, through a real file. Most inputs get a fresh checksum, or none would come past it.</summary>
internal sealed class ControllerTarget : FuzzTarget
{
    private readonly string _path = Path.Combine(Directory.Exists("/dev/shm") ? "/dev/shm" : Path.GetTempPath(),
        $"tiller-fuzz-{Environment.ProcessId}.tiller");

    public override string Name => "controller";

    public override IReadOnlyList<byte[]> Seeds { get; } = [.. Methods().Select(method => Bytes(method))];

    public override IReadOnlyList<byte[]> Words { get; } = [.. new[]
    {
        "\"method\":\"a-lqr\"", "\"method\":\"s-pid\"", "\"method\":\"ablation\"", "\"setpoint\":\"affine\"", "\"layers\":\"0-1\"",
        "\"layers\":\"1-0\"", "\"layers\":\"0-0,1-1\"", "\"version\":\"1\"", "\"version\":\"3\"", "\"order\":\"0\"", "\"r\":\"0\"",
        "\"form\":\"chat\"", "\"form\":\"raw\"", "\"template.sha256\":\"00\"", "\"system\":\"s\"", "\"system.varies\":\"true\"",
        "\"method\":\"mpc\"", "\"bound\":\"0\"", "\"nodes\":\"2,1\"", "\"directions\":\"0,1\"",
        "\"kp\":\"NaN\"", "\"shape\":[2,0]", "\"shape\":[0,2]", "\"F64\"", "\"BF16\"", "\"origin\"", "\"residual\"", "\"rank\"", "\"w\"",
        "\0\0\u0080\u007f", "\0\0\u00c0\u00ff",
    }.Select(Encoding.Latin1.GetBytes)];

    public override Gen<byte[]> Structure { get; } = Controllers();

    public override byte[] Repair(byte[] input)
    {
        try
        {
            SafetensorsHeader header = SafetensorsFile.ParseHeader(input, input.Length);
            TensorData[] tensors =
                [.. header.Tensors.Select(t =>
                    new TensorData(t.Name, t.Type, [.. t.Shape], input.AsMemory((int)(header.LengthInBytes + t.Begin), (int)t.SizeInBytes)))];
            return Write(new Dictionary<string, string>(header.Metadata, StringComparer.Ordinal), tensors);
        }
        catch (SafetensorsException)
        {
            return input; // the safetensors reader refuses it, whatever its checksum
        }
    }

    public override void Read(byte[] input)
    {
        File.WriteAllBytes(_path, input);
        try
        {
            Controller controller = Controller.Load(_path);
            Promise(controller.L > 0 && controller.D > 0 && controller.Method.Layers.Last < controller.L,
                "layers and width are positive, and the layers steered exist");
            Promise(controller.Method.Feature.V.All(v => v.All(float.IsFinite)), "directions are finite");
            try
            {
                _ = controller.ToLaw(1.5);
            }
            catch (ArgumentException)
            {
                // λμ may lie beyond float32.
            }

            controller.Save(_path);
            Controller again = Controller.Load(_path);
            Promise(
                (again.Method.Name, again.Source.Form) == (controller.Method.Name, controller.Source.Form),
                "what is accepted can be saved and loaded");
        }
        finally
        {
            File.Delete(_path);
        }
    }

    private static IEnumerable<SteeringMethod> Methods()
    {
        float[][] Rows(int seed, int count)
        {
            var random = new System.Random(seed);
            return [.. Enumerable.Range(0, count).Select(_ => Enumerable.Range(0, 3).Select(_ => (float)random.NextDouble() - 0.5f).ToArray())];
        }

        var feature = Feature.FromDifference(Rows(1, 3), Rows(2, 3));
        yield return new LinearQuadratic(feature, Rows(3, 2), Setpoint.Affine);
        yield return new LinearQuadratic(Feature.FromDifference(Rows(4, 3)), Rows(3, 2));
        yield return new OpenLoopAddition(feature, new LayerSet(1, 1));
        yield return new Proportional(feature, 0.1);
        yield return new Ablation(feature);
        yield return new SPid(feature, 0.7, 0.01, 0.3);
        InputCurve curve = new(Rows(5, 1)[0], 0.5f, Rows(6, 1), [0, 0.25f, 1], [[1, 0.75f, 0.5f], [0.25f, 0.125f, 0]], [[-1, -1, 0], [0, 0, 0.5f]]);
        yield return new PredictiveSteering(feature, [curve, null], 0.75);
    }

    private static byte[] Bytes(SteeringMethod method)
    {
        string path = Path.GetTempFileName();
        try
        {
            new Controller(method, new ControllerSource
            {
                ModelName = "demo",
                ModelFingerprint = "00",
                Positive = new PromptSet("11", 8),
                Negative = new PromptSet("22", 9),
                Calibration = new PromptSet("33", 17),
                Weights = new LqrWeights(0.03, 1, 0.1),
                Form = new ChatForm { TemplateSha256 = "44", System = "Be brief." },
                Cost = FitCost.State,
                Order = 2,
                Residuals = [1e-15, 0],
                Ranks = [2, 1],
                OpenLoop = [1.1, -0.9],
            }).Save(path);
            return File.ReadAllBytes(path);
        }
        finally
        {
            File.Delete(path);
        }
    }

    private static byte[] Write(Dictionary<string, string> metadata, TensorData[] tensors)
    {
        using var stream = new MemoryStream();
        ControllerFile.Write(stream, metadata, tensors);
        return stream.ToArray();
    }

    private static Gen<byte[]> Controllers()
    {
        Gen<string> number = Gen.Frequency((40, Gen.Elements("0.1", "1", "2.5")),
            (1, Gen.Elements("-1", "NaN", "Infinity", "-Infinity", "1e999", "1e-320", "", " 1", "1,5", "x", "99999999999", "0")));
        Gen<string> Text(params string[] right) => Gen.Frequency((80, Gen.Elements(right)), (1, number), (1, HostileText()));
        (string Key, Gen<string> Value)[] entries =
        [
            ("format", Text("tiller.controller")), ("version", Text("1", "2")),
            ("method", Text("a-lqr", "addition", "proportional", "ablation", "s-pid")), ("setpoint", Text("published", "affine")),
            ("layers", Text("0-1", "0-1", "0-1", "1-1", "0-0", "0-0,1-1", "0-2")), ("model", Text("demo")), ("fingerprint", Text("00")),
            ("positive.sha256", Text("11")), ("positive.count", Text("8")), ("negative.sha256", Text("22")), ("negative.count", Text("9")),
            ("form", Text("raw", "chat", "tokens")), ("template.sha256", Text("00")), ("system", HostileText()),
            ("system.varies", Text("true", "true")),
            ("q", number), ("r", number), ("qf", number), ("order", Text("2")), ("kp", number), ("ki", number), ("kd", number),
        ];
        var metadata = Gen.CollectToArray(entries, e => e.Value.Zip(Gen.Choose(0, 99), (v, drop) => (e.Key, Value: drop == 0 ? null : v)));
        return metadata.Zip(Tensors(),
            (m, t) => Write(m.Where(e => e.Value is not null).ToDictionary(e => e.Key, e => e.Value!, StringComparer.Ordinal), [.. t]));
    }

    private static Gen<string> HostileText()
        => Gen.Elements("", "\0", "\u202e", "é", "../x", new string('x', 5000), "0-1-2", "-", "0-1,", "2147483648-2147483649");

    private static Gen<TensorData[]> Tensors()
    {
        Gen<float> value = Gen.Frequency((3000, Gen.Choose(-99, 99).Select(n => n / 100f)),
            (1, Gen.Elements(float.NaN, float.PositiveInfinity, float.MaxValue, float.Epsilon, -0f)));
        Gen<TensorData> Tensor(string name, params int[] shape) =>
            from edit in Gen.Choose(0, 199)
            from real in Gen.Constant(edit == 0 ? Array.ConvertAll(shape, n => n - 1) : edit == 1 ? [.. shape, 1] : edit == 2
                ? [shape.Aggregate(1, (a, b) => a * b)]
                : shape)
            from values in Gen.ArrayOf(value, real.Aggregate(1, (a, b) => a * b))
            select edit == 3 || name is "residual" or "rank" or "open"
                ? TensorData.FromFloat64(name, Array.ConvertAll(real, n => (long)n),
                    Array.ConvertAll(values, x => name == "rank" ? Math.Round(Math.Abs(x) * 3) : (double)x))
                : TensorData.FromFloat32(name, Array.ConvertAll(real, n => (long)n), name == "v" ? Unit(values, shape[^1]) : values);
        return Gen.CollectToArray(
            new[] { Tensor("v", 3, 3), Tensor("mu", 3).Select(Positive), Tensor("origin", 3), Tensor("w", 2, 3), Tensor("residual", 2),
                Tensor("rank", 2), Tensor("open", 2) },
            t => t.Zip(Gen.Choose(0, 99), (tensor, drop) => (tensor, drop)))
                .Select(all => all.Where(x => x.drop > 0).Select(x => x.tensor).ToArray());
    }

    private static TensorData Positive(TensorData mu) =>
        mu.Type == TensorType.F32 ? mu with
        {
            Data = TensorData.FromFloat32("mu", [.. mu.Shape],
                Array.ConvertAll(System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(mu.Data.Span).ToArray(), Math.Abs)).Data,
        } : mu;

    private static float[] Unit(float[] rows, int width)
    {
        for (int i = 0; i + width <= rows.Length; i += width)
        {
            double length = Math.Sqrt(rows.Skip(i).Take(width).Sum(x => (double)x * x));
            for (int j = i; j < i + width && length > 0; j++)
            {
                rows[j] = (float)(rows[j] / length);
            }
        }

        return rows;
    }
}
