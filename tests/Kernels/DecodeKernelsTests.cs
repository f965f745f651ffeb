using Tiller.Cpu;
using Tiller.Kernels;
using Tiller.Law;

namespace Tiller.Tests.Kernels;

public class DecodeKernelsTests : SteeredKernelTest
{
    private const float Eps = 1e-6f;
    private const int H = 3, G = 1, Heads = H + (2 * G), Layer = 1, Capacity = 5;
    private const double ByFma = 4e-6; // a linear map and a norm

    public static IEnumerable<TestCaseData> Shapes() =>
        from type in Enum.GetValues<WeightType>()
        from shape in new[] { (1, 0, 33, 31), (1, 0, 516, 4097), (1, 1, 127, 264), (2, 0, 1032, 1), (1, 3, 31, 127), (4, 0, 256, 33),
            (3, 5, 4097, 127), (8, 0, 520, 516), (1, 7, 40, 31) }
        select new TestCaseData(type, shape.Item1, shape.Item2, shape.Item3, shape.Item4);

    [TestCaseSource(nameof(Shapes))]
    public void AStageIsWhatItsPartsAreOneByOne(WeightType type, int values, int tangents, int D, int F)
    {
        // Every other value row is steered, each in a slot of its own.
        var stage = new Stage(this, type, values, [.. Enumerable.Range(0, tangents).Select(t => t * values / tangents)], D, F, row => row % 2 == 0);
        var law = NewLaw(D, D, [0, 9, 2], [2, 5, 1], 3f);
        var cpu = new CpuSteering(law);
        stage.Run(Ready(law, values, Math.Max(1, tangents)).Address);
        float[] qkv = Receive(stage.Qkv), gateUp = Receive(stage.GateUp), gated = Receive(stage.Gated), y = Receive(stage.Y);
        double[][] input = new double[stage.Rows][];
        for (int row = 0; row < stage.Rows; row++)
        {
            bool value = row < values;
            int owner = value ? row : stage.Owners[row - values];
            input[row] = value ? RowReference.Norm(Row(stage.X, D, row), stage.Norm, Eps)
                : RowReference.Tangent(Row(stage.X, D, owner), Row(stage.X, D, row), stage.Norm, Eps);

            double[] projected = RowReference.Times(stage.WeightsQkv, input[row]);
            double[] turned = [.. Enumerable.Range(0, Heads).SelectMany(head =>
            {
                double[] x = [.. projected.Skip(head * stage.E).Take(stage.E).Select((v, e) => value ? v + stage.Bias[(head * stage.E) + e] : v)];
                return head < H + G ? RowReference.Rotate(x, Row(stage.Rotation, stage.E, owner), 1) : x;
            })];
            Close(Row(qkv, stage.Line, row), turned, $"q, k, v of row {row}", ByFma);

            double[] pre = Biased(RowReference.Times(stage.WeightsGateUp, input[row]), value ? stage.BiasGateUp : null);
            double[] ofOwner = Biased(RowReference.Times(stage.WeightsGateUp, input[owner]), stage.BiasGateUp);
            Close(Row(gateUp, 2 * F, row), pre, $"gate and up of row {row}", ByFma);
            Close(Row(gated, F, row), [.. Enumerable.Range(0, F).Select(c =>
            {
                var (act, slope) = RowReference.Activate(Activation.Silu, ofOwner[c]);
                (act, slope) = (stage.Scale * act, stage.Scale * slope);
                return value ? act * pre[F + c] : (slope * ofOwner[F + c] * pre[c]) + (act * pre[F + c]);
            })], $"gated units of row {row}", 2 * ByFma, 1e-6);

            float[] u = new float[D];
            if (owner % 2 == 0)
            {
                if (value)
                {
                    cpu.Sense(0, owner / 2, Row(stage.X, D, row)); // where a slot is entered
                    cpu.Sense(Layer, owner / 2, Row(stage.X, D, row));
                    cpu.Act(Layer, owner / 2, u);
                }
                else
                {
                    cpu.SenseTangent(Layer, row - values, Row(stage.X, D, owner), Row(stage.X, D, row));
                    cpu.ActTangent(Layer, owner / 2, row - values, u);
                }
            }

            double[] down = Biased(RowReference.Times(stage.WeightsDown, [.. Row(stage.Units, F, row).Select(v => (double)v)]), value
                ? stage.BiasDown : null);
            Close(Row(y, D, row), [.. down.Select((v, i) => v + stage.Residual[(row * D) + i] + u[i])], $"output of row {row}", ByFma);
        }

        for (int row = 0; row < values; row++)
        {
            float[] cache = Receive<float>(stage.Caches[row], L * 2 * G * Capacity * stage.E);
            for (int head = 0; head < 2 * G; head++)
            {
                int first = ((((Layer * 2 * G) + head) * Capacity) + (row % Capacity)) * stage.E;
                Assert.That(Bits(cache[first..(first + stage.E)]), Is.EqualTo(Bits(Row(qkv, stage.E, (row * Heads) + H + head))),
                    $"row {row} cached head {head}");
            }

            Assert.That(cache.Count(float.IsNaN), Is.EqualTo(cache.Length - (2 * G * stage.E)), "nothing else of the cache is written");
        }
    }

    [Test]
    public void ARowsBitsDependOnThatRowAlone([Values] WeightType type, [Values(40, 1032)] int D)
    {
        var law = NewLaw(D, D, [0, 3, 0], [0, 2, 0], 3f);
        float[] Bits3(int before, int values)
        {
            var stage = new Stage(this, type, values, [before], D, 127, row => row == before, before);
            stage.Run(Ready(law, values, 1).Address);
            float[] qkv = Receive(stage.Qkv), gated = Receive(stage.Gated), y = Receive(stage.Y);
            return [.. Row(qkv, stage.Line, before), .. Row(gated, 127, before), .. Row(y, D, before), .. Row(gated, 127, values),
                .. Row(y, D, values)];
        }

        uint[] alone = Bits(Bits3(0, 1));
        Assert.That(Bits3(0, 1), Has.None.NaN);
        Assert.That(Bits(Bits3(2, 3)), Is.EqualTo(alone));
        Assert.That(Bits(Bits3(6, 7)), Is.EqualTo(alone), "its neighbours are NaN");
    }

    // Rows longer than what is in flight, brought to the cache, or normed at a time; sensors for several blocks, with and without planes.
    [Test]
    public void NoVariantChangesABit([Values] WeightType type, [Values(1, 3, 8)] int values, [Values(264, 4104)] int D)
    {
        const int Sensors = 19;
        FeedbackLaw held = NewLaw(D, D, [0, Sensors, 0], [0, 3, 0], 0.5f, hasPlanes: false), turned = NewLaw(D, D, [0, 5, 0], [0, 2, 0], 3f);
        FeedbackLaw free = NewLaw(D, D, [0, 9, 0], [0, 9, 0], float.PositiveInfinity, hasPlanes: false);
        Assert.That((held.Planes.Count, free.Planes.Count, turned.Planes.Count), Is.EqualTo((0, 0, 1)));
        uint[] Run(FeedbackLaw law, KernelVariants variants)
        {
            var stage = new Stage(this, type, values, values == 3 ? [1, 1, 2] : [], D, 40, row => row % 2 == 0);
            var ready = Ready(law, values, 3);
            stage.Run(ready.Address, variants: variants);
            return Bits([.. Receive(stage.Qkv), .. Receive(stage.GateUp), .. Receive(stage.Gated), .. Receive(stage.Y),
                .. Receive<float>(ready.Errors, values * law.Sensors.Count), .. Receive<float>(ready.StateNorms, values * L),
                .. Receive<float>(ready.FreeNorms, values * L), .. Receive<float>(ready.InputNorms, values * L)]);
        }

        uint[] all = Run(held, KernelVariants.Default);
        foreach (var variant in KernelVariant.All.Where(v => v.SeenIn is VariantWork.Steps or VariantWork.Laws))
        {
            Assert.That(Run(held, variant.Choice), Is.EqualTo(all), variant.Name);
        }

        foreach (var law in (FeedbackLaw[])[turned, free])
        {
            Assert.That(Run(law, new KernelVariants { SpreadSteering = false }), Is.EqualTo(Run(law, KernelVariants.Default)));
        }
    }

    [Test]
    public void WithoutAnglesHeadsAreLeftAsTheyAreAndNothingIsCached()
    {
        var stage = new Stage(this, WeightType.BF16, 2, [1], 72, 31, _ => false);
        stage.Run(0, turned: false);
        float[] qkv = Receive(stage.Qkv);
        double[] projected = RowReference.Times(stage.WeightsQkv, RowReference.Norm(Row(stage.X, 72, 1), stage.Norm, Eps));
        Close(Row(qkv, stage.Line, 1), [.. projected.Select((v, i) => v + stage.Bias[i])], "a value row", ByFma);
        Assert.That(Receive<float>(stage.Caches[1], L * 2 * G * Capacity * stage.E), Is.All.NaN);
    }

    private static double[] Biased(double[] x, float[]? bias) => [.. x.Select((v, i) => v + (bias?[i] ?? 0))];

    /// <summary>
    /// The three stages over random numbers; those of the row <c>before</c> and of its tangent are the same whatever stands before them, which is
    /// NaN.
    /// </summary>
    private sealed class Stage
    {
        private readonly DecodeKernelsTests _test;
        private readonly WeightType _type;
        private readonly int _values, _width, _units;
        private readonly Func<int, bool> _steered;

        public Stage(DecodeKernelsTests test, WeightType type, int values, int[] owners, int D, int F, Func<int, bool> steered, int before = 0)
        {
            (_test, _type, _values, _width, _units, _steered, Owners) = (test, type, values, D, F, steered, owners);
            E = D % 2 == 0 ? 20 : 6;
            float[] Numbers(int seed, int columns) =>
                [.. Enumerable.Repeat(float.NaN, before * columns), .. Normal(seed, (values - before) * columns),
                    .. Normal(seed + 1, owners.Length * columns)];
            (X, Units, Residual) = (Numbers(10, D), Numbers(20, F), Numbers(30, D));
            (Norm, Bias) = (Normal(40, D), Normal(50, Line));
            (BiasGateUp, BiasDown, Scale) = D % 2 == 0 ? (null, null, 1) : (Normal(70, 2 * F), Normal(80, D), 0.6f);
            Rotation = [.. Enumerable.Repeat(float.NaN, before * E), .. Normal(60, (values - before) * E)];
            (WeightsQkv, WeightsGateUp, WeightsDown) =
                (LinearJob.Weights(type, Line, D), LinearJob.Weights(type, 2 * F, D), LinearJob.Weights(type, D, F));
            Caches = [.. Enumerable.Range(0, values).Select(_ => test.Poisoned<float>(L * 2 * G * Capacity * E))];
            (Qkv, GateUp) = (test.PoisonedRows(Rows, Line), test.PoisonedRows(Rows, 2 * F));
            (Gated, Inputs, Y) = (test.PoisonedRows(Rows, F), test.PoisonedRows(Rows, D), test.PoisonedRows(Rows, D));
        }

        public int[] Owners { get; }

        public int E { get; }

        public int Rows => _values + Owners.Length;

        public int Line => Heads * E;

        public float[] X { get; }

        public float[] Norm { get; }

        public float[] Bias { get; }

        /// <summary>Of gate and up, of the way down: every other shape has them.</summary>
        public float[]? BiasGateUp { get; }

        public float[]? BiasDown { get; }

        /// <summary>Factor on the activation.</summary>
        public float Scale { get; }

        public float[] Rotation { get; }

        public float[] Units { get; }

        public float[] Residual { get; }

        public float[] WeightsQkv { get; }

        public float[] WeightsGateUp { get; }

        public float[] WeightsDown { get; }

        public nint[] Caches { get; }

        public Floats Qkv { get; }

        public Floats GateUp { get; }

        public Floats Gated { get; }

        public Floats Inputs { get; }

        public Floats Y { get; }

        public void Run(nint law, bool turned = true, KernelVariants? variants = null)
        {
            var kernels = _test.Load(k => new DecodeKernels(k));
            kernels.Variants = variants ?? KernelVariants.Default;
            DeviceRow[] table = [.. Caches.Select((cache, row) => new DeviceRow
            {
                Position = row % Capacity,
                Capacity = Capacity,
                Cache = cache,
                Slot = row / 2,
                Steering = _steered(row) ? law : 0,
            })];
            var rows = new DecodeRows(new RowTable(_test.SendSpan(table), _test.SendSpan(Owners)), law != 0, Inputs);
            Matrix Matrix(float[] w, int columns) => new(_test.Send(LinearJob.Stored(w, _type)), _type, w.Length / columns, columns);
            Floats Send(float[]? bias) => bias is null ? default : _test.SendRows(bias.Length, bias);
            Floats x = _test.SendRows(_width, X), angles = turned ? _test.SendRows(E, Rotation) : default, bias = _test.SendRows(Line, Bias);
            var norm = new RmsNorm(_test.SendRows(_width, Norm), Eps);
            kernels.NormQkv(_test.Stream, rows, x, norm, Matrix(WeightsQkv, _width), bias, angles, Qkv, new HeadShape(H, G, E), Layer);
            kernels.NormGateUp(_test.Stream, rows, x, norm, Matrix(WeightsGateUp, _width), Send(BiasGateUp), GateUp, Gated, Activation.Silu, Scale,
                Layer);
            kernels.ProjectDown(
                _test.Stream, rows, _test.SendRows(_units, Units), Matrix(WeightsDown, _units), Send(BiasDown), _test.SendRows(_width, Residual), Y);
        }
    }
}
