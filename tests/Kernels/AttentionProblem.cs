using Tiller.Kernels;

namespace Tiller.Tests.Kernels;

/// <summary>A row of a problem, at position <paramref name="Length"/> - 1.</summary>
/// <param name="Length">The number of positions up to and including its own.</param>
/// <param name="Tangents">The number of its tangents.</param>
public readonly record struct AttentionRow(int Length, int Tangents = 0);

/// <summary>
/// Random rows, caches and cotangents, and the results of attention on them, computed in float64 by the formulas of docs/math.md §9. The pushforward
/// is computed without a formula, as the central difference of the forward pass. Everything that no row may read, other blocks included, is NaN.
/// </summary>
internal sealed class AttentionProblem
{
    private const int Spare = 3; // positions of a cache after that of the last row

    public AttentionProblem(AttentionShape shape, AttentionRow[] rows, bool oneSequence = false, int seed = 1)
    {
        (Shape, Rows, OneSequence) = (shape, rows, oneSequence);
        var random = new Random(seed);
        Begin = new int[rows.Length + 1];
        for (int r = 0; r < rows.Length; r++)
        {
            Begin[r + 1] = Begin[r] + rows[r].Tangents;
        }

        Owners = [.. rows.SelectMany((row, r) => Enumerable.Repeat(r, row.Tangents))];
        int longest = rows.Max(row => row.Length);
        Caches = [.. rows.Take(oneSequence ? 1 : rows.Length).Select(row => Cache(random, oneSequence ? longest : row.Length))];
        Qkv = Random(random, (rows.Length + Owners.Length) * Width);
        HeadsBar = Random(random, Owners.Length * shape.H * shape.E);
    }

    public AttentionShape Shape { get; }

    public AttentionRow[] Rows { get; }

    public bool OneSequence { get; }

    /// <summary>The first tangent of each row, then the number of tangents // (rows + 1).</summary>
    public int[] Begin { get; }

    public int[] Owners { get; }

    public float[][] Caches { get; }

    /// <summary>(rows + tangents, (H + 2 G) E).</summary>
    public float[] Qkv { get; }

    /// <summary>(tangents, H E).</summary>
    public float[] HeadsBar { get; }

    public int Width => (Shape.H + (2 * Shape.G)) * Shape.E;

    public int Longest => (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)Rows.Max(row => row.Length));

    public int Capacity(int row) => Caches[CacheOf(row)].Length / (Shape.E * 2 * Shape.G * (Shape.Layer + 2));

    public int CacheOf(int row) => OneSequence ? 0 : row;

    /// <summary>The output o of a row // (H E).</summary>
    public double[] Forward(int row) => Forward(row, _ => 0, (_, _) => 0, (_, _) => 0);

    /// <summary>The tangent do of the output, by central differences // (H E).</summary>
    public double[] Push(int tangent)
    {
        const double Step = 1e-5;
        int row = Owners[tangent], at = (Rows.Length + tangent) * Width;
        double[] Moved(double by) => Forward(row, i => by * Qkv[at + i],
            (g, e) => by * Qkv[at + ((Shape.H + g) * Shape.E) + e], (g, e) => by * Qkv[at + ((Shape.H + Shape.G + g) * Shape.E) + e]);
        return [.. Moved(Step).Zip(Moved(-Step), (more, less) => (more - less) / (2 * Step))];
    }

    /// <summary>The pullback q̄, k̄, v̄ of a cotangent, from M and b // ((H + 2 G) E).</summary>
    public double[] Pull(int cotangent)
    {
        var (h, g, size) = (Shape.H, Shape.G, Shape.E);
        int row = Owners[cotangent];
        double[] o = Forward(row), result = new double[Width];
        for (int head = 0; head < h; head++)
        {
            int group = head / (h / g), own = Rows[row].Length - 1;
            double[] p = Softmax(row, head, i => Qkv[(row * Width) + i], (_, _) => 0, out double[] slopes);
            double Bar(int e) => HeadsBar[(((cotangent * h) + head) * size) + e];
            double Arm(int j) => Enumerable.Range(0, size).Sum(e => (Value(row, group, j, e) - o[(head * size) + e]) * Bar(e));
            for (int j = 0; j < p.Length; j++)
            {
                double s = slopes[j] * Arm(First(row) + j); // (M'ō) = Σ_j a P_j c_j ((v_j − o)·ō) k_j
                for (int e = 0; e < size; e++)
                {
                    result[(head * size) + e] += s * Key(row, group, First(row) + j, e);
                }
            }

            double toKey = slopes[^1] * Arm(own);
            for (int e = 0; e < size; e++)
            {
                result[((h + group) * size) + e] += toKey * Qkv[(row * Width) + (head * size) + e];
                result[((h + g + group) * size) + e] += p[^1] * Bar(e);
            }
        }

        return result;
    }

    private double[] Forward(int row, Func<int, double> dq, Func<int, int, double> dk, Func<int, int, double> dv)
    {
        var o = new double[Shape.H * Shape.E];
        for (int head = 0; head < Shape.H; head++)
        {
            int group = head / (Shape.H / Shape.G), own = Rows[row].Length - 1;
            double[] p = Softmax(row, head, i => Qkv[(row * Width) + i] + dq(i), dk, out _);
            for (int j = 0; j < p.Length; j++)
            {
                for (int e = 0; e < Shape.E; e++)
                {
                    int at = First(row) + j;
                    o[(head * Shape.E) + e] += p[j] * (Value(row, group, at, e) + (at == own ? dv(group, e) : 0));
                }
            }
        }

        return o;
    }

    // The weights P_j over the window, and in `slopes` a P_j c_j.
    private double[] Softmax(int row, int head, Func<int, double> q, Func<int, int, double> dk, out double[] slopes)
    {
        int first = First(row), own = Rows[row].Length - 1, group = head / (Shape.H / Shape.G);
        var z = new double[own + 1 - first];
        for (int j = 0; j < z.Length; j++)
        {
            for (int e = 0; e < Shape.E; e++)
            {
                z[j] += q((head * Shape.E) + e) * (Key(row, group, first + j, e) + (first + j == own ? dk(group, e) : 0));
            }

            z[j] *= Shape.Scale;
            z[j] = Shape.SoftCap > 0 ? Shape.SoftCap * Math.Tanh(z[j] / Shape.SoftCap) : z[j];
        }

        double top = z.Max(), sum = z.Sum(v => Math.Exp(v - top));
        double[] p = [.. z.Select(v => Math.Exp(v - top) / sum)];
        slopes = [.. z.Zip(p, (v, weight) => Shape.Scale * weight * (Shape.SoftCap > 0 ? 1 - (v / Shape.SoftCap * (v / Shape.SoftCap)) : 1))];
        return p;
    }

    private int First(int row) => Shape.Window > 0 ? Math.Max(0, Rows[row].Length - Shape.Window) : 0;

    private double Key(int row, int group, int j, int e) => Caches[CacheOf(row)][KeyAt(row, group, j) + e];

    private double Value(int row, int group, int j, int e) => Caches[CacheOf(row)][KeyAt(row, group + Shape.G, j) + e];

    private int KeyAt(int row, int slot, int j) => ((((2 * Shape.Layer * Shape.G) + slot) * Capacity(row)) + j) * Shape.E;

    /// <summary>The index in a cache of the value of a group at position j.</summary>
    public int ValueAt(int row, int group, int j) => KeyAt(row, group + Shape.G, j);

    private float[] Cache(Random random, int length)
    {
        int capacity = length + Spare;
        var cache = new float[(Shape.Layer + 2) * 2 * Shape.G * capacity * Shape.E];
        Array.Fill(cache, float.NaN);
        for (int slot = 2 * Shape.Layer * Shape.G; slot < 2 * (Shape.Layer + 1) * Shape.G; slot++)
        {
            Random(random, length * Shape.E).CopyTo(cache, slot * capacity * Shape.E);
        }

        return cache;
    }

    private static float[] Random(Random random, int count) => [.. Enumerable.Range(0, count).Select(_ => random.NextSingle() * 2 - 1)];
}
