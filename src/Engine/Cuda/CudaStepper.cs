using System.Numerics;
using Tiller.Checkpoint;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cuda;

/// <summary>
/// Steps on a CUDA device. A step is recorded once as a CUDA graph and launched as a whole when it is repeated. Everything that changes from token to
/// token (ids, positions, caches, laws) is in tables on the device; everything else that a recording depends on is its <see cref="CudaStepKey"/>. The
/// device draws the tokens and runs ahead: it passes a drawn token to the host and to the step that appends it at the same time. So the host waits
/// only for four bytes per row and the laws' numbers, while the step runs.
/// </summary>
internal sealed class CudaStepper(CudaOps ops, ModelConfig c, StepStages stages) : Stepper(ops, c, stages)
{
    /// <summary>Number of rows that tensor cores compute together. Padding a batch to a multiple of it costs almost nothing.</summary>
    internal const int RowsTile = 16;

    // Larger batches are prefills, which are not repeated. Also, cuBLASLt's first product of a shape may not be captured.
    private const int MaxRows = LinearKernels.LibraryRows - 1;

    /// <inheritdoc/>
    public override bool Draws => Config.V <= HeadKernels.MaxVocabulary;

    /// <inheritdoc/>
    protected override int FillUp(int values)
    {
        return values > MaxRows ? values
            : values <= LinearKernels.FewRows ? (int)BitOperations.RoundUpToPowerOf2((uint)values)
            : Math.Min((values + RowsTile - 1) / RowsTile * RowsTile, MaxRows);
    }

    /// <inheritdoc/>
    protected override void Run(Floats logits, CancellationToken cancellationToken)
    {
        ops.Place(Rows, A);
        RunPlaced(logits, cancellationToken);
    }

    /// <inheritdoc/>
    protected override void Draw(Floats logits, ReadOnlySpan<DrawSettings> settings, Span<int> ids) => ops.Draw(logits, settings, ids);

    /// <inheritdoc/>
    protected override bool PlaceNext(ReadOnlySpan<DrawSettings> settings) => Draws && ops.PlaceNext(Rows, settings, A);

    /// <inheritdoc/>
    protected override void RunNext(Floats logits, ReadOnlySpan<DrawSettings> settings, Floats next, Span<int> ids)
    {
        ops.DrawNext(logits, settings, A);
        RunPlaced(next, CancellationToken.None);
        CudaOps.Table(A).Ahead!.Take(ids, Config.V);
    }

    /// <inheritdoc/>
    protected override void KeepNext(int row) => CudaOps.Table(A).Ahead!.Keep(row);

    /// <inheritdoc/>
    protected override bool AreAlike(int rows, int others) => rows == others
        || (rows < LinearKernels.LibraryRows && others < LinearKernels.LibraryRows
            && rows <= LinearKernels.FewRows == others <= LinearKernels.FewRows);

    // Runs the step of rows that are already on the device: they cannot be copied while a step is recorded.
    private void RunPlaced(Floats logits, CancellationToken cancellationToken)
    {
        var table = CudaOps.Table(A);
        if (table.Values + table.Tangents > MaxRows)
        {
            table.IsPlaced = true;
            Stages(Rows, A, logits, cancellationToken);
            return;
        }

        var key = new CudaStepKey(
            A.X.Address, A.Y.Address, A.Capacity, logits.Address, table.Values, table.Tangents, table.MaxTangents, table.Longest, Rows.AnySteered,
            Rows.AnyInputMoved, Rows.EditedPoints, Rows.AnyJoined, table.OneSequence, table.OwnCaches, ops.Variants);
        lock (ops.Launching)
        {
            if (table.Find(key) is { } graph)
            {
                graph.Launch(ops.Stream);
                if (Config.L % 2 == 1)
                {
                    A.Advance();
                }

                return;
            }

            Record(key, table, logits, cancellationToken);
        }
    }

    private void Record(in CudaStepKey key, CudaRows table, Floats logits, CancellationToken cancellationToken)
    {
        ops.Stream.BeginCapture();
        bool isComplete = false;
        try
        {
            table.IsPlaced = true;
            Stages(Rows, A, logits, cancellationToken);
            isComplete = true;
        }
        finally
        {
            using var recorded = ops.Stream.EndCapture();
            if (isComplete)
            {
                var graph = recorded.Instantiate();
                table.Keep(key, graph);
                graph.Launch(ops.Stream);
            }
        }
    }
}
