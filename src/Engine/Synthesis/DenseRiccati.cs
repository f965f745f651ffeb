// Sign convention: u = K e, where e = −δx is the displacement that the state lacks.
//
// The minimum of Σ_k (δx_k' Q_k δx_k + r |u_k|²) + δx_L' Q_L δx_L  subject to  δx_{k+1} = A_k δx_k + u_k  is δx_0' S_0 δx_0, and the
// minimising input is u_k = −K_k δx_k, where backward from S_L = Q_L
//
//     F   = S_{k+1} A_k
//     K_k = (S_{k+1} + r I)^{-1} F
//     S_k = Q_k + r A_k' K_k
//
// This is the textbook recursion S = Q + A'SA − A'S (S + rI)^{-1} SA with S − S (S + rI)^{-1} S = r (S + rI)^{-1} S inserted. It subtracts no nearly
// equal quantities, so that a small r costs no digits. (docs/math.md §3; Skifstad, Yang, Chou, arXiv:2604.19018.)
//
// A layer without an input is the limit r → ∞ for this layer: K_k = 0, S_k = Q_k + A_k' S_{k+1} A_k.
using System.Numerics.Tensors;
using MathNet.Numerics.LinearAlgebra;
using Tiller.Cpu;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Synthesis;

/// <summary>
/// LQR gains by the Riccati recursion with full matrices, in float64 (docs/math.md §3). One implementation for all devices: A_k, S_k and K_k stay on
/// the device, and only a few vectors are copied to the host.
/// </summary>
public static class DenseRiccati
{
    private const int Probes = 4;

    /// <summary>Solves for the gains and keeps all of them: L·D²·8 bytes.</summary>
    /// <param name="layers">L, at least 0.</param>
    /// <param name="jacobian">Returns A_k // (D, D). Called once for each k, from L-1 down to 0.</param>
    /// <param name="cost">Q_k, Q_L and r.</param>
    /// <param name="cancellationToken">Checked between blocks of every product.</param>
    /// <returns>The report and the gains: <see cref="DenseGain"/>, or <see cref="ZeroGain"/> at layers without an input.</returns>
    /// <exception cref="RiccatiException">Shapes disagree, a number is not finite, or S + rI has no Cholesky factor.</exception>
    public static RiccatiSolution Solve(int layers, Func<int, Matrix<double>> jacobian, QuadraticCost cost,
        CancellationToken cancellationToken = default)
    {
        var gains = new Gain?[layers];
        int width = 0;
        var report = Stream(layers, Sized, cost, (k, gain) => gains[k] = new DenseGain(gain), cancellationToken);
        return new RiccatiSolution([.. gains.Select(gain => gain ?? new ZeroGain(width))], report);

        Matrix<double> Sized(int k)
        {
            var a = jacobian(k);
            width = a.RowCount;
            return a;
        }
    }

    /// <summary>
    /// Solves on the CPU, and passes on each gain as soon as it is found, last layer first. At most six D×D matrices are in memory.
    /// </summary>
    /// <param name="layers">L, at least 0.</param>
    /// <param name="jacobian">Returns A_k // (D, D). Called once for each k, from L-1 down to 0.</param>
    /// <param name="cost">Q_k, Q_L and r.</param>
    /// <param name="onGain">Receives (k, K_k // (D, D)) for every layer with an input. It may keep the matrix.</param>
    /// <param name="cancellationToken">Checked between blocks of every product.</param>
    /// <returns>The report for k = 0..L-1.</returns>
    /// <exception cref="RiccatiException">Shapes disagree, a number is not finite, or S + rI has no Cholesky factor.</exception>
    public static RiccatiReport Stream(
        int layers, Func<int, Matrix<double>> jacobian, QuadraticCost cost, Action<int, Matrix<double>> onGain,
        CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(layers);
        cancellationToken.ThrowIfCancellationRequested();
        if (layers == 0)
        {
            return new RiccatiReport([]);
        }

        // The last Jacobian gives D.
        DeviceOps ops = CpuOps.Shared;
        var last = jacobian(layers - 1);
        int width = last.RowCount;
        using var memory = ops.Allocate(width, width, out var a);
        return Solve(
            ops, layers, width,
            k =>
            {
                var given = k == layers - 1 ? last : jacobian(k);
                if (given.RowCount != width || given.ColumnCount != width)
                {
                    throw RiccatiException.Shape("The Jacobian A", k, $"{width}×{width}", $"{given.RowCount}×{given.ColumnCount}");
                }

                ops.Upload(DenseAlgebra.Numbers(given), a);
                return a;
            },
            cost,
            (k, gain) =>
            {
                double[] numbers = new double[gain.Length];
                ops.Download(gain, numbers);
                onGain(k, Matrix<double>.Build.Dense(width, width, numbers));
            },
            cancellationToken);
    }

    /// <summary>
    /// Size in bytes of one A_k and of the device memory of
    /// <see cref="Solve(DeviceOps, int, int, Func{int, ColumnMajor}, QuadraticCost, Action{int, ColumnMajor}, CancellationToken)"/>.
    /// </summary>
    internal static long SizeInBytes(int width)
        => sizeof(double) * (long)width * (((1 + Workspace.Matrices) * (long)width) + (Workspace.ProbePanels * Probes));

    /// <summary>Solves on a device.</summary>
    /// <param name="ops">The device.</param>
    /// <param name="layers">L, at least 0.</param>
    /// <param name="width">D.</param>
    /// <param name="jacobian">Returns A_k // (D, D), for k = L-1 down to 0. It is not written to, and not read once the next is asked for.</param>
    /// <param name="cost">Q_k, Q_L and r.</param>
    /// <param name="onGain">Receives (k, K_k // (D, D)) for every layer with an input. K_k is overwritten after the call.</param>
    /// <param name="cancellationToken">Checked between blocks of every product.</param>
    internal static RiccatiReport Solve(
        DeviceOps ops, int layers, int width, Func<int, ColumnMajor> jacobian, QuadraticCost cost, Action<int, ColumnMajor> onGain,
        CancellationToken cancellationToken)
    {
        using var w = new Workspace(ops, width);
        var (s, l, gain) = (w.S, w.L, w.K);
        var steps = new RiccatiStep[layers];

        // S_L = Q_L
        cost.AddTo(layers, terminal: true, ops, s);
        for (int k = layers - 1; k >= 0; k--)
        {
            cancellationToken.ThrowIfCancellationRequested();
            var a = jacobian(k);
            CheckFinite(ops, a, k);
            if (!cost.HasInput(k))
            {
                // S_k = Q_k + A_k' S_{k+1} A_k, in the memory of L
                ops.Multiply(1, s, a, 0, gain, cancellationToken);
                ops.Multiply(1, a.T, gain, 0, l, cancellationToken);
                cost.AddTo(k, terminal: false, ops, l);
                double asymmetry = ops.Symmetrise(l);
                steps[k] = new RiccatiStep(k, ResidualWithoutInput(ops, w, k, a, s, l, cost), asymmetry, 1, width, 0, 0);
                (s, l) = (l, s);
                continue;
            }

            // L L' = S_{k+1} + r I
            ops.Copy(s, l);
            ops.AddToDiagonal(cost.R, l);
            var pivots = ops.Cholesky(l, cancellationToken);
            if (pivots.Failed >= 0)
            {
                throw RiccatiException.FailedPivot(k, pivots.Failed, pivots.Value, cost.R, LargestDiagonal(ops, s) + cost.R);
            }

            // K_k = (S_{k+1} + r I)^{-1} S_{k+1} A_k
            ops.Multiply(1, s, a, 0, gain, cancellationToken);
            ops.CholeskySolve(l, gain, cancellationToken);

            // S_k = Q_k + r A_k' K_k, in the memory of L
            var next = l;
            ops.Multiply(cost.R, a.T, gain, 0, next, cancellationToken);
            cost.AddTo(k, terminal: false, ops, next);
            double symmetryError = ops.Symmetrise(next);

            steps[k] = new RiccatiStep(k, Residual(ops, w, k, a, s, next, cost), symmetryError, pivots.Condition, width, 0, 0);
            onGain(k, gain);
            (s, l) = (next, s);
        }

        return new RiccatiReport(steps);
    }

    private static double Residual(DeviceOps ops, Workspace w, int k, ColumnMajor a, ColumnMajor s, ColumnMajor next, QuadraticCost cost)
    {
        var z = Probe(s.Rows, Probes, k);
        ops.Upload(DenseAlgebra.Numbers(z), w.Probe(0));
        var (az, kz, closed) = (w.Probe(1), w.Probe(2), w.Probe(3));
        var (saz, skz, rest) = (w.Probe(4), w.Probe(5), w.Probe(6));
        var (value, nextz) = (w.Probe(7), w.Probe(8));
        ops.Multiply(1, a, w.Probe(0), 0, az);
        ops.Multiply(1, w.K, w.Probe(0), 0, kz);
        ops.Copy(az, closed);
        ops.Add(-1, kz, closed);
        ops.Multiply(1, s, w.ProbesFrom(1, 3), 0, w.ProbesFrom(4, 3));

        // (S_{k+1} + rI) K_k z = S_{k+1} A_k z
        ops.Add(cost.R, kz, skz);
        double gainError = Relative(Host(ops, skz), Host(ops, saz));

        // S_k z = Q_k z + r K'K z + (A − K)' S_{k+1} (A − K) z   (Joseph's form: all terms are positive semidefinite)
        //       = Q_k z + r K'(K z − rest/r) + A' rest,  rest = S_{k+1} (A − K) z
        ops.Add(-1 / cost.R, rest, kz);
        ops.Multiply(cost.R, w.K.T, kz, 0, value);
        ops.Multiply(1, a.T, rest, 1, value);
        ops.Multiply(1, next, w.Probe(0), 0, nextz);
        return Math.Max(gainError, Relative(cost.Multiply(k, terminal: false, z) + Host(ops, value), Host(ops, nextz)));
    }

    private static double ResidualWithoutInput(
        DeviceOps ops, Workspace w, int k, ColumnMajor a, ColumnMajor s, ColumnMajor next, QuadraticCost cost)
    {
        var z = Probe(s.Rows, Probes, k);
        ops.Upload(DenseAlgebra.Numbers(z), w.Probe(0));
        var (az, saz, value, nextz) = (w.Probe(1), w.Probe(2), w.Probe(3), w.Probe(4));

        // S_k z = Q_k z + A' S_{k+1} A z
        ops.Multiply(1, a, w.Probe(0), 0, az);
        ops.Multiply(1, s, az, 0, saz);
        ops.Multiply(1, a.T, saz, 0, value);
        ops.Multiply(1, next, w.Probe(0), 0, nextz);
        return Relative(cost.Multiply(k, terminal: false, z) + Host(ops, value), Host(ops, nextz));
    }

    private static Matrix<double> Host(DeviceOps ops, ColumnMajor m)
    {
        double[] numbers = new double[m.Length];
        ops.Download(m, numbers);
        return Matrix<double>.Build.Dense(m.Rows, m.Columns, numbers);
    }

    private static void CheckFinite(DeviceOps ops, ColumnMajor a, int k)
    {
        long bad = ops.FirstNonFinite(a);
        if (bad >= 0)
        {
            double[] value = new double[1];
            ops.Download(new ColumnMajor(a.Address + (nint)(sizeof(double) * bad), 1, 1), value);
            throw RiccatiException.NonFinite("The Jacobian A", k, (int)(bad % a.Rows), (int)(bad / a.Rows), value[0]);
        }
    }

    private static double LargestDiagonal(DeviceOps ops, ColumnMajor s)
    {
        double largest = double.NegativeInfinity;
        double[] value = new double[1];
        for (int i = 0; i < s.Rows; i++)
        {
            ops.Download(new ColumnMajor(s.Address + (nint)(sizeof(double) * (long)i * (s.Rows + 1)), 1, 1), value);
            largest = Math.Max(largest, value[0]);
        }

        return largest;
    }

    /// <summary>Random signs from a fixed seed. For each column z, the expected |M z|² is |M|² (Frobenius).</summary>
    internal static Matrix<double> Probe(int rows, int columns, int seed)
    {
        var random = new Random(seed);
        return Matrix<double>.Build.Dense(rows, columns, (_, _) => random.Next(2) == 0 ? -1 : 1);
    }

    /// <summary>|a − b| / max(|a|, |b|); 0 if both are 0.</summary>
    internal static double Relative(Matrix<double> a, Matrix<double> b)
    {
        double scale = Math.Max(DenseAlgebra.Norm(a), DenseAlgebra.Norm(b));
        return scale == 0 ? 0 : TensorPrimitives.Distance<double>(DenseAlgebra.Numbers(a), DenseAlgebra.Numbers(b)) / scale;
    }

    /// <summary>
    /// The three matrices S_{k+1}, L and K_k // (D, D) each, and the probes of the residual. S_k is written to the memory of L.
    /// </summary>
    private sealed class Workspace : IDisposable
    {
        public const int Matrices = 3;
        public const int ProbePanels = 9;

        private readonly DeviceBuffer _memory;
        private readonly ColumnMajor _probes;

        public Workspace(DeviceOps ops, int width)
        {
            _memory = ops.Allocate(width, (Matrices * width) + (ProbePanels * Probes), out var all);
            (S, L, K) = (all.Slice(0, width), all.Slice(width, width), all.Slice(2 * width, width));
            _probes = all.Slice(Matrices * width, ProbePanels * Probes);
        }

        public ColumnMajor S { get; }

        public ColumnMajor L { get; }

        public ColumnMajor K { get; }

        /// <summary>Panel i // (D, probes).</summary>
        public ColumnMajor Probe(int i) => ProbesFrom(i, 1);

        /// <summary>Panels i .. i + count − 1, as one matrix.</summary>
        public ColumnMajor ProbesFrom(int i, int count) => _probes.Slice(i * Probes, count * Probes);

        public void Dispose() => _memory.Dispose();
    }
}
