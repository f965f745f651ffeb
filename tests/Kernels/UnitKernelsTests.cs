using Tiller.Kernels;

namespace Tiller.Tests.Kernels;

public class UnitKernelsTests : ElementKernelTest
{
    private const float Eps = 1e-5f;

    [TestCase(WeightType.BF16, 33, 31, 0, 33, true)]
    [TestCase(WeightType.BF16, 96, 257, 17, 50, false)]
    [TestCase(WeightType.F16, 127, 40, 100, 27, true)]
    [TestCase(WeightType.F32, 300, 5, 1, 1, false)]
    [TestCase(WeightType.BF16, 65, 31, 2, 40, true, false)]
    public void UnitVectorsGiveWhatTheirTangentsGive(WeightType type, int D, int N, int first, int count, bool biased, bool normed = true)
    {
        const int Values = 2;
        var kernels = Load(k => new UnitKernels(k));
        float[] x = Normal(1, Values * D), g = Normal(2, D), bias = Normal(3, N, scale: 10);
        float[] w = [.. Normal(4, N * D).Select(v => Stored(type, v))];
        nint weights = type switch
        {
            WeightType.F32 => Send(w),
            WeightType.F16 => Send([.. w.Select(v => (Half)v)]),
            _ => Send([.. w.Select(v => (ushort)(BitConverter.SingleToUInt32Bits(v) >> 16))]),
        };
        double[][] products = [.. Enumerable.Range(0, Values).Select(i =>
            Product(w, D, normed ? Norm(Row(x, D, i), g) : [.. Row(x, D, i).Select(v => (double)v)]))];
        float[] z = [.. products.SelectMany(p => p.Select((v, n) => (float)(v + (biased ? bias[n] : 0))))];
        var y = PoisonedRows(Values * count, N, beyond: 1);
        kernels.Push(
            Stream, SendRows(D, x), new RmsNorm(normed ? SendRows(D, g) : default, Eps), new Matrix(weights, type, N, D), SendRows(N, z), biased
                ? SendRows(N, bias) : default,
            first, y);
        float[] actual = Receive(y, beyond: 1);
        for (int i = 0; i < Values; i++)
        {
            for (int j = 0; j < count; j++)
            {
                float[] unit = [.. Enumerable.Range(0, D).Select(c => c == first + j ? 1f : 0f)];
                double[] expected = Product(w, D, normed ? Tangent(Row(x, D, i), unit, g) : [.. unit.Select(v => (double)v)]);
                Close(Row(actual, N, (i * count) + j), expected, $"row {i}, vector {first + j}");
            }
        }

        Assert.That(actual[^1], Is.NaN, "nothing is written past the end");
    }

    private static float Stored(WeightType type, float v) => type switch
    {
        WeightType.F32 => v,
        WeightType.F16 => (float)(Half)v,
        _ => BitConverter.UInt32BitsToSingle(BitConverter.SingleToUInt32Bits(v) & 0xFFFF0000u),
    };

    private static double[] Product(float[] w, int D, double[] x) =>
        [.. Enumerable.Range(0, w.Length / D).Select(n => Enumerable.Range(0, D).Sum(c => w[(n * D) + c] * x[c]))];

    private static double Scale(float[] x) => 1 / Math.Sqrt(x.Average(v => (double)v * v) + Eps);

    private static double[] Norm(float[] x, float[] g) => [.. x.Zip(g, (a, b) => Scale(x) * a * b)];

    private static double[] Tangent(float[] x, float[] dx, float[] g)
    {
        double s = Scale(x), along = s * s * x.Zip(dx, (a, b) => (double)a * b).Sum() / x.Length;
        return [.. Enumerable.Range(0, x.Length).Select(c => s * g[c] * (dx[c] - (along * x[c])))];
    }
}
