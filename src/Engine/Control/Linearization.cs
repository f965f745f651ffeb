using MathNet.Numerics.LinearAlgebra;
using Tiller.Features;
using Tiller.Model;
using Tiller.Tensors;

namespace Tiller.Control;

/// <summary>
/// The blocks linearised at the last token of calibration prompts, averaged over the prompts in float64: A_k = mean ∂f_k/∂x_k
/// (MATH.md §1, §9). A_k is formed only by <see cref="Jacobian"/>; <see cref="Push"/> and <see cref="Pull"/> apply it and its transpose.
/// Products run in float32 on directions of unit length. Scratch is bounded by <see cref="RowsPerPass"/> rows.
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
    private readonly float[] _row;

    /// <summary>Prepares scratch.</summary>
    /// <param name="model">The plain model.</param>
    /// <param name="prompts">Calibration prompts, run with their caches kept; stay the caller's.</param>
    public Linearization(LanguageModel model, IReadOnlyList<PromptState> prompts)
    {
        (_model, _prompts) = (model, prompts);
        _a = model.NewActivations();
        _y = model.NewCotangents();
        _row = new float[model.Config.D];
    }

    /// <summary>A_k // (D, D), by pushing the identity forward.</summary>
    public Matrix<double> Jacobian(int k, CancellationToken cancellationToken)
    {
        int d = _model.Config.D;
        double[] columns = new double[(long)d * d];
        PushColumns(k, d, (j, row) =>
        {
            row.Clear();
            row[j] = 1;
            return 1;
        }, columns, cancellationToken);
        return Matrix<double>.Build.Dense(d, d, columns);
    }

    /// <summary>A_k X, for X // (D, p).</summary>
    public Matrix<double> Push(int k, Matrix<double> x, CancellationToken cancellationToken)
    {
        double[] source = x.ToColumnMajorArray();
        double[] result = new double[source.Length];
        PushColumns(k, x.ColumnCount, (j, row) => ToUnit(source, j, row), result, cancellationToken);
        return Matrix<double>.Build.Dense(x.RowCount, x.ColumnCount, result);
    }

    /// <summary>A_k' Z, for Z // (D, p).</summary>
    public Matrix<double> Pull(int k, Matrix<double> z, CancellationToken cancellationToken)
    {
        double[] source = z.ToColumnMajorArray();
        double[] result = new double[source.Length];
        ForPasses(z.ColumnCount, (prompts, columns) =>
        {
            cancellationToken.ThrowIfCancellationRequested();
            int p = columns.End.Value - columns.Start.Value;
            _groups.Clear();
            Place(k, prompts, 0, cancellationToken);
            _y.Reserve(_rows.Values * p);
            double[] scales = new double[p];
            for (int i = 0; i < _rows.Values; i++)
            {
                _groups.Add(p);
                for (int j = 0; j < p; j++)
                {
                    scales[j] = ToUnit(source, columns.Start.Value + j, _row);
                    _model.Ops.UploadRow(_row, _y.Stream, (i * p) + j);
                }
            }

            _model.Forward(k, _rows, _a);
            _model.Pullback(k, _rows, _a, _groups, _y);
            cancellationToken.ThrowIfCancellationRequested();
            Accumulate(_y.Stream, 0, scales, columns, result);
        });
        return Matrix<double>.Build.Dense(z.RowCount, z.ColumnCount, result);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _a.Dispose();
        _y.Dispose();
    }

    private delegate double Fill(int column, Span<float> row);

    private void PushColumns(int k, int count, Fill fill, double[] result, CancellationToken cancellationToken)
    {
        ForPasses(count, (prompts, columns) =>
        {
            cancellationToken.ThrowIfCancellationRequested();
            int p = columns.End.Value - columns.Start.Value;
            Place(k, prompts, p, cancellationToken);
            double[] scales = new double[p];
            for (int i = 0; i < _rows.Values; i++)
            {
                for (int j = 0; j < p; j++)
                {
                    scales[j] = fill(columns.Start.Value + j, _row);
                    _model.Ops.UploadRow(_row, _a.X, _rows.Values + (i * p) + j);
                }
            }

            _model.Forward(k, _rows, _a);
            cancellationToken.ThrowIfCancellationRequested();
            Accumulate(_a.Y, _rows.Values, scales, columns, result);
        });
    }

    /// <summary>Cuts prompts × columns into passes of bounded size: all prompts at once where the columns are few.</summary>
    private void ForPasses(int columns, Action<Range, Range> pass)
    {
        int columnsPerPass = Math.Min(columns, RowsPerPass - 1);
        for (int c = 0; c < columns; c += columnsPerPass)
        {
            int p = Math.Min(columnsPerPass, columns - c);
            int promptsPerPass = Math.Max(1, RowsPerPass / (p + 1));
            for (int i = 0; i < _prompts.Count; i += promptsPerPass)
            {
                pass(i..Math.Min(i + promptsPerPass, _prompts.Count), c..(c + p));
            }
        }
    }

    /// <summary>Value rows: the prompts' last tokens as they enter block k, each with room for <paramref name="tangents"/> tangents.</summary>
    private void Place(int k, Range prompts, int tangents, CancellationToken cancellationToken)
    {
        var (begin, count) = prompts.GetOffsetAndLength(_prompts.Count);
        _rows.Clear();
        for (int i = begin; i < begin + count; i++)
        {
            _rows.Add(0, _prompts[i].Position, _prompts[i].Cache!, steering: null, tangents);
        }

        _rows.Cancellation = cancellationToken;
        _a.Reserve(_rows.Total);
        for (int i = 0; i < count; i++)
        {
            _model.Ops.UploadRow(_prompts[begin + i].X[k], _a.X, i);
        }

        _model.Begin(_rows, _a);
    }

    /// <summary>result[:, column] += scale · row / prompts, for the rows of every prompt of the pass.</summary>
    private void Accumulate(Floats rows, int first, double[] scales, Range columns, double[] result)
    {
        int d = _model.Config.D;
        int p = scales.Length;
        for (int i = 0; i < _rows.Values; i++)
        {
            for (int j = 0; j < p; j++)
            {
                _model.Ops.DownloadRow(rows, first + (i * p) + j, _row);
                VectorMath.AddScaledWidened(scales[j] / _prompts.Count, _row, result.AsSpan((columns.Start.Value + j) * d, d));
            }
        }
    }

    /// <summary>Column j as a float32 vector of unit length; returns the length taken out.</summary>
    private static double ToUnit(double[] columns, int j, Span<float> row)
    {
        var column = columns.AsSpan(j * row.Length, row.Length);
        double length = Math.Sqrt(System.Numerics.Tensors.TensorPrimitives.SumOfSquares<double>(column));
        if (length == 0)
        {
            row.Clear();
            return 0;
        }

        for (int e = 0; e < row.Length; e++)
        {
            row[e] = (float)(column[e] / length);
        }

        return length;
    }
}
