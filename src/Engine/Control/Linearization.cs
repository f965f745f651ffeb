using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using MathNet.Numerics.LinearAlgebra;
using Tiller.Features;
using Tiller.Model;
using Tiller.Tensors;

namespace Tiller.Control;

/// <summary>
/// The blocks linearised at the last token of calibration prompts, averaged over the prompts in float64: A_k = mean ∂f_k/∂x_k
/// (MATH.md §1, §9). A_k is formed only by <see cref="Jacobian(int, Doubles, CancellationToken)"/>, and stays on the device;
/// <see cref="Push"/> and <see cref="Pull"/> apply it and its transpose. Products run in float32 on directions of unit length. Scratch
/// is bounded by <see cref="RowsPerPass"/> rows.
/// </summary>
internal sealed class Linearization : IDisposable
{
    /// <summary>Rows in one pass through a block.</summary>
    public const int RowsPerPass = 512;

    private readonly LanguageModel _model;
    private readonly IReadOnlyList<PromptState> _prompts;
    private readonly Activations _a;
    private readonly Cotangents _y;
    private readonly RowBatch _rows = new();
    private readonly RowGroups _groups = new();
    private float[] _host = [];

    /// <summary>Prepares scratch.</summary>
    /// <param name="model">The plain model.</param>
    /// <param name="prompts">Calibration prompts, run with their caches kept; stay the caller's.</param>
    public Linearization(LanguageModel model, IReadOnlyList<PromptState> prompts)
    {
        (_model, _prompts) = (model, prompts);
        _a = model.NewActivations();
        _y = model.NewCotangents();
    }

    /// <summary>Rows that the activations have grown to.</summary>
    public int Capacity => _a.Capacity;

    private Ops Ops => _model.Ops;

    private int D => _model.Config.D;

    /// <summary>A_k // (D, D), by pushing the identity forward.</summary>
    /// <param name="k">The block.</param>
    /// <param name="result">Gets A_k, on the model's device.</param>
    /// <param name="cancellationToken">Looked at before every pass.</param>
    public void Jacobian(int k, Doubles result, CancellationToken cancellationToken) =>
        ForPasses(D, (prompts, column, p) =>
        {
            cancellationToken.ThrowIfCancellationRequested();
            Place(k, prompts, p, cancellationToken);
            var tangents = _a.X.Slice(_rows.Values, _rows.Tangents);
            Ops.IdentityRows(column, tangents.Slice(0, p));
            Ops.RepeatPanel(tangents, p);
            _model.Forward(k, _rows, _a);
            cancellationToken.ThrowIfCancellationRequested();
            Gather(_a.Y.Slice(_rows.Values, _rows.Tangents), Enumerable.Repeat(1.0, p).ToArray(), prompts, result.Slice(column, p));
        });

    /// <summary>A_k // (D, D) in host memory.</summary>
    public Matrix<double> Jacobian(int k, CancellationToken cancellationToken) => OnHost(D, result => Jacobian(k, result, cancellationToken));

    /// <summary>A_k X, for X // (D, p).</summary>
    public Matrix<double> Push(int k, Matrix<double> x, CancellationToken cancellationToken) => OnHost(x.ColumnCount, result =>
        ForPasses(x.ColumnCount, (prompts, column, p) =>
        {
            cancellationToken.ThrowIfCancellationRequested();
            Place(k, prompts, p, cancellationToken);
            var tangents = _a.X.Slice(_rows.Values, _rows.Tangents);
            double[] scales = UploadUnits(x, column, p, tangents);
            _model.Forward(k, _rows, _a);
            cancellationToken.ThrowIfCancellationRequested();
            Gather(_a.Y.Slice(_rows.Values, _rows.Tangents), scales, prompts, result.Slice(column, p));
        }));

    /// <summary>A_k' Z, for Z // (D, p).</summary>
    public Matrix<double> Pull(int k, Matrix<double> z, CancellationToken cancellationToken) => OnHost(z.ColumnCount, result =>
        ForPasses(z.ColumnCount, (prompts, column, p) =>
        {
            cancellationToken.ThrowIfCancellationRequested();
            Place(k, prompts, 0, cancellationToken);
            _groups.Clear();
            for (int i = 0; i < _rows.Values; i++)
            {
                _groups.Add(p);
            }

            _y.Reserve(_groups.Total);
            double[] scales = UploadUnits(z, column, p, _y.Stream.Slice(0, _groups.Total));
            _model.Forward(k, _rows, _a);
            _model.Pullback(k, _rows, _a, _groups, _y);
            cancellationToken.ThrowIfCancellationRequested();
            Gather(_y.Stream.Slice(0, _groups.Total), scales, prompts, result.Slice(column, p));
        }));

    /// <inheritdoc/>
    public void Dispose()
    {
        _a.Dispose();
        _y.Dispose();
    }

    private Matrix<double> OnHost(int columns, Action<Doubles> compute)
    {
        double[] numbers = new double[(long)D * columns];
        using (var memory = Ops.Allocate(D, columns, out var result))
        {
            compute(result);
            Ops.Download(result, numbers);
        }

        return Matrix<double>.Build.Dense(D, columns, numbers);
    }

    /// <summary>Cuts columns × prompts into passes (prompts, first column, p) of bounded size: all prompts at once where the columns are few.</summary>
    private void ForPasses(int columns, Action<Range, int, int> pass)
    {
        int columnsPerPass = Pass(columns).Columns;
        for (int c = 0; c < columns; c += columnsPerPass)
        {
            int p = Math.Min(columnsPerPass, columns - c);
            int promptsPerPass = Pass(p).Prompts;
            for (int i = 0; i < _prompts.Count; i += promptsPerPass)
            {
                pass(i..Math.Min(i + promptsPerPass, _prompts.Count), c, p);
            }
        }
    }

    /// <summary>Columns and prompts that go through a block together.</summary>
    internal static (int Columns, int Prompts) Pass(int columns)
    {
        int p = Math.Min(columns, RowsPerPass - 1);
        return (p, Math.Max(1, RowsPerPass / (p + 1)));
    }

    /// <summary>Value rows: the prompts' last tokens as they enter block k, each with room for <paramref name="tangents"/> tangents.</summary>
    private void Place(int k, Range prompts, int tangents, CancellationToken cancellationToken)
    {
        var (begin, count) = prompts.GetOffsetAndLength(_prompts.Count);
        _rows.Clear();
        var values = Host(count);
        for (int i = 0; i < count; i++)
        {
            var prompt = _prompts[begin + i];
            _rows.Add(0, prompt.Position, prompt.Cache!, steering: null, tangents);
            prompt.X[k].CopyTo(values.Slice(i * D, D));
        }

        _rows.Cancellation = cancellationToken;
        _a.Reserve(_rows.Total);
        Ops.Upload(MemoryMarshal.AsBytes(values), _a.X.Address);
        _model.Begin(_rows, _a);
    }

    /// <summary>Columns column .. column + p − 1 as float32 rows of unit length, in every panel of <paramref name="rows"/>; returns the lengths taken out.</summary>
    private double[] UploadUnits(Matrix<double> x, int column, int p, Floats rows)
    {
        double[] scales = new double[p], numbers = DenseAlgebra.Numbers(x);
        var units = Host(p);
        for (int j = 0; j < p; j++)
        {
            scales[j] = ToUnit(numbers.AsSpan((column + j) * D, D), units.Slice(j * D, D));
        }

        Ops.Upload(MemoryMarshal.AsBytes(units), rows.Address);
        Ops.RepeatPanel(rows, p);
        return scales;
    }

    /// <summary>result[:, j] = Σ_i scales[j] · row / prompts, over the prompts of all passes in order.</summary>
    private void Gather(Floats rows, double[] scales, Range prompts, Doubles result)
    {
        TensorPrimitives.Divide(scales, _prompts.Count, scales);
        Ops.SumPanels(rows, scales, add: prompts.Start.Value > 0, result);
    }

    private Span<float> Host(int rows)
    {
        if (_host.Length < rows * D)
        {
            _host = new float[rows * D];
        }

        return _host.AsSpan(0, rows * D);
    }

    /// <summary>x as a float32 vector of unit length; returns the length taken out.</summary>
    private static double ToUnit(ReadOnlySpan<double> x, Span<float> unit)
    {
        double length = Math.Sqrt(TensorPrimitives.SumOfSquares(x));
        if (length == 0)
        {
            unit.Clear();
            return 0;
        }

        for (int e = 0; e < unit.Length; e++)
        {
            unit[e] = (float)(x[e] / length);
        }

        return length;
    }
}
