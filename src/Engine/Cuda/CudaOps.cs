using Tiller.Checkpoint;
using Tiller.Interop;
using Tiller.Kernels;
using Tiller.Law;
using Tiller.Ops;

namespace Tiller.Cuda;

/// <summary>
/// The stages on a CUDA device. A stage is a few kernels in one stream. Threads take turns to launch, and data that outlive a stage are in the
/// caller's own <see cref="Activations"/>. After an error of the device, every later call throws.
/// </summary>
internal sealed partial class CudaOps : DeviceOps
{
    /// <summary>
    /// Maximum number of rows in a pass over a prompt. Products of 1024 rows are limited by arithmetic; those of 256 rows are limited as much by
    /// reading the weights.
    /// </summary>
    internal const int MaxPassRows = 1024;

    /// <summary>
    /// Most rows of a pass of a linearisation: 2048 directions, so that the tiles of every map's product fill the multiprocessors several times over,
    /// and what a plan of passes leaves for prompts and uneven panels.
    /// </summary>
    internal const int MaxJacobianRows = 2048 + 48;

    private const int ChunkInBytes = 4 << 20;

    private readonly PrimaryContext _context;
    private readonly CudaStream _stream;
    private readonly KernelLibrary _library;
    private readonly CudaBlasLt? _blas;
    private readonly EmbedKernels _embed;
    private readonly NormKernels _norm;
    private readonly QkvKernels _qkv;
    private readonly UnitKernels _units;
    private readonly GateKernels _gate;
    private readonly SteerKernels _steer;
    private readonly EditKernels _edit;
    private readonly HeadKernels _head;
    private readonly LinearKernels _linear;
    private readonly DecodeKernels _decode;
    private readonly AttentionKernels _attention;
    private readonly AlgebraKernels _algebraKernels;
    private readonly CholeskyKernels _cholesky;

    private readonly Lock _launching = new();
    private CudaStaging? _staging;
    private bool _isReleased;

    /// <summary>Opens a device and loads its kernels.</summary>
    /// <param name="ordinal">The device's number among those that CUDA shows.</param>
    /// <exception cref="CudaException">The device does not exist, or no kernel image fits it.</exception>
    public CudaOps(int ordinal = 0)
    {
        _context = new PrimaryContext(ordinal);
        try
        {
            _stream = new CudaStream(_context);
            _library = new KernelLibrary(_context);
            _library.LoadAll();
            _blas = OpenBlas(_context);
            _embed = new EmbedKernels(_library.Get);
            _norm = new NormKernels(_library.Get);
            _qkv = new QkvKernels(_library.Get);
            _units = new UnitKernels(_library.Get);
            _gate = new GateKernels(_library.Get);
            _steer = new SteerKernels(_library.Get);
            _edit = new EditKernels(_library.Get);
            _head = new HeadKernels(_library.Get);
            _linear = new LinearKernels(_library.Get, _blas);
            _decode = new DecodeKernels(_library.Get);
            _attention = new AttentionKernels(_library.Get);
            _algebraKernels = new AlgebraKernels(_library.Get);
            _cholesky = new CholeskyKernels(_library.Get);
            Variants = KernelVariants.Default;
        }
        catch
        {
            Release();
            throw;
        }
    }

    /// <inheritdoc/>
    public override string Device => Name;

    /// <summary>The device's number among those that CUDA shows.</summary>
    public int Ordinal => _context.Device.Ordinal;

    /// <inheritdoc/>
    internal override int PassRows => Variants.WidePasses ? MaxPassRows : base.PassRows;

    /// <inheritdoc/>
    internal override int JacobianRows => Variants.WidePanels ? MaxJacobianRows : base.JacobianRows;

    /// <summary>The stream of all work.</summary>
    internal CudaStream Stream => _stream;

    /// <summary>Held during launches, so that another thread can neither use a stage's scratch memory nor add work to a recording.</summary>
    internal Lock Launching => _launching;

    /// <summary>The launchers of linear maps.</summary>
    internal LinearKernels Linears => _linear;

    /// <summary>
    /// Optional parts of the kernels, which a measurement can switch off. They hold from the next launch on, and each choice has its own recordings.
    /// </summary>
    internal KernelVariants Variants
    {
        get => _linear.Variants;
        set
        {
            lock (_launching)
            {
                _linear.Variants = _decode.Variants = _attention.Variants = value;
                _library.SharedCarveout = value.OneCarveout ? 100 : -1;
            }
        }
    }

    /// <inheritdoc/>
    public override DeviceBuffer Allocate(long sizeInBytes)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(sizeInBytes);
        lock (_launching)
        {
            var (free, _) = _context.GetMemoryInfo();
            if (sizeInBytes > free)
            {
                throw new DeviceMemoryException(Name, sizeInBytes, free);
            }

            try
            {
                var memory = new CudaDeviceVariable<byte>(_context, Math.Max(64, sizeInBytes));
                try
                {
                    memory.ClearAsync(_stream);
                    return new CudaBuffer(memory);
                }
                catch
                {
                    memory.Dispose();
                    throw;
                }
            }
            catch (CudaOutOfMemoryException e)
            {
                throw new DeviceMemoryException(Name, sizeInBytes, e.Fault?.FreeInBytes ?? free, e);
            }
        }
    }

    /// <inheritdoc/>
    public override void Upload(ReadOnlySpan<byte> source, nint destination)
    {
        lock (_launching)
        {
            _stream.CopyToDevice(destination, source);
        }
    }

    /// <inheritdoc/>
    public override void Fill(nint destination, int sizeInBytes, FillBytes fill)
    {
        CudaStaging staging;
        lock (_launching)
        {
            staging = _staging ??= new CudaStaging(_context, _stream, ChunkInBytes);
        }

        ArgumentOutOfRangeException.ThrowIfGreaterThan(sizeInBytes, staging.SizeInBytes);
        staging.Fill(destination, sizeInBytes, fill, _launching);
    }

    /// <inheritdoc/>
    public override void EndFill()
    {
        lock (_launching)
        {
            _stream.Synchronize();
            _staging?.Dispose();
            _staging = null;
        }
    }

    /// <inheritdoc/>
    public override void Download(nint source, Span<byte> destination)
    {
        lock (_launching)
        {
            _stream.CopyToHost(source, destination);
        }
    }

    /// <inheritdoc/>
    public override void Copy(nint source, nint destination, long sizeInBytes)
    {
        lock (_launching)
        {
            _stream.CopyWithinDevice(source, destination, sizeInBytes);
        }
    }

    /// <summary>Sets device memory to zero.</summary>
    public void Clear(nint destination, long sizeInBytes)
    {
        lock (_launching)
        {
            _stream.Clear(destination, sizeInBytes);
        }
    }

    /// <inheritdoc/>
    public override void Settle()
    {
        lock (_launching)
        {
            if (_isReleased)
            {
                return;
            }

            try
            {
                _stream.Synchronize();
            }
            catch (CudaException)
            {
                // The next call reports the error again, and a lost device runs nothing.
            }
        }
    }

    /// <inheritdoc/>
    public override SteeringState NewSteering(FeedbackLaw law) => new CudaSteering(this, law);

    /// <inheritdoc/>
    internal override Stepper NewStepper(ModelConfig c, StepStages stages) => new CudaStepper(this, c, stages);

    /// <summary>Copies the rows of a pass to the device, and makes room for its scratch.</summary>
    internal void Place(RowBatch rows, Activations a)
    {
        var table = (CudaRows)(a.OnDevice ??= new CudaRows(this));
        table.Place(rows, a.Config);
        Reserve(rows, a, table);
    }

    private void Reserve(RowBatch rows, Activations a, CudaRows table)
    {
        table.ReserveScratch(ScratchInBytes(a.Config, table));
        if (rows.AnySteered && table.IsFew && a.Config.PreNorms && !a.Config.PostNorms)
        {
            table.ReserveInputs(a.Config.D);
        }

        // What the down projection gives is edited before u_k is added.
        table.FormsInputs = !rows.IsEditedAt(EditPoint.FeedForward);
    }

    /// <inheritdoc/>
    public override void Begin(ModelConfig c, Floats frequencies, Matrix? embedding, RowBatch rows, Activations a)
    {
        if (a.OnDevice is not CudaRows { IsPlaced: true })
        {
            Place(rows, a);
        }

        var table = Table(a);
        table.IsPlaced = table.IsNormed = false;
        lock (_launching)
        {
            _embed.Rotate(_stream, table.All.Rows, frequencies, a.Rotations.Rows / a.Capacity, a.Rotations);
            if (embedding is { } weights)
            {
                _embed.Embed(_stream, table.All.Rows, weights, c.EmbeddingScale, a.X);
            }
        }
    }

    /// <inheritdoc/>
    public override void NormQkv(ModelConfig c, int k, BlockWeights w, RowBatch rows, Activations a)
    {
        var table = Table(a);
        var norm = new RmsNorm(w.AttentionNorm, c.NormEpsilon);
        LinearSums left = default;
        lock (_launching)
        {
            if (rows.AnyInputMoved)
            {
                _steer.Sense(_stream, table.All, a.X, c.L + k);
                _steer.Act(_stream, table.All, a.X, c.L + k);
            }

            Edit(c, k, EditPoint.Input, rows, table, a.X);
            if (table.IsFew && c.PreNorms)
            {
                var rotation = c.QkNorm == QkNorm.None ? a.Rotation(w.Rotation) : default;
                _decode.NormQkv(_stream, table.Few(rows), a.X, norm, w.Qkv, w.QkvBias, rotation, a.Qkv, Heads(c), k);
                if (c.QkNorm == QkNorm.None)
                {
                    return;
                }
            }
            else if (rows.UnitTangents is { } first)
            {
                // Multiplies the values; their tangents then come from W's columns.
                var values = c.PreNorms ? a.Normed : a.X;
                if (c.PreNorms)
                {
                    _norm.Forward(_stream, a.X, new DualRows(table.Values, default), norm, values);
                }

                _linear.Forward(_stream, values, new RowCounts(table.Values, Tangents: 0), w.Qkv, a.Qkv, table.Scratch, w.QkvBias);
                _units.Push(_stream, a.X.Slice(0, table.Values), norm, w.Qkv, a.Qkv, w.QkvBias, first, a.Qkv.Slice(table.Values, table.Tangents));
            }
            else
            {
                var x = c.PreNorms ? a.Normed : a.X;
                if (rows.AnySteered && c.PreNorms)
                {
                    _steer.SenseNorm(_stream, table.All, a.X, k, norm, x);
                }
                else if (rows.AnySteered)
                {
                    _steer.Sense(_stream, table.All, x, k);
                }
                else if (c.PreNorms)
                {
                    x = Normed(table, a.X, norm, w.Qkv, x);
                }

                left = Linear(table, x, w.Qkv, a.Qkv, bias: w.QkvBias, leaves: c.QkNorm != QkNorm.Width);
            }

            if (c.QkNorm == QkNorm.Width)
            {
                _qkv.NormWidth(_stream, table.All.Dual, a.Qkv, a.RawQk, HeadNorms(c, w), Heads(c));
            }

            _qkv.Finish(_stream, table.All, a.Qkv, a.RawQk, a.Rotation(w.Rotation), SingleHeadNorms(c, w), Heads(c), k, left);
        }
    }

    /// <inheritdoc/>
    public override void Attend(ModelConfig c, int k, RowBatch rows, Activations a)
    {
        var table = Table(a);
        var shape = Shape(c, k);
        lock (_launching)
        {
            _attention.Forward(_stream, shape, table.All, table.Extent, a.Qkv, a.Heads, table.Scratch);
            if (table.Tangents > 0)
            {
                _attention.Push(_stream, shape, table.All, table.Extent, a.Qkv, a.Heads, table.Scratch);
            }
        }
    }

    /// <inheritdoc/>
    public override void ProjectOutput(ModelConfig c, int k, BlockWeights w, RowBatch rows, Activations a)
    {
        bool foresees = c.PreNorms && !rows.IsEditedAt(EditPoint.Attention);
        Project(c, k, EditPoint.Attention, rows, a, a.Heads, w.Output, w.OutputBias, w.PostAttentionNorm, a.RawAttention, a.X, a.R,
            foresees ? w.FeedForwardNorm : default, w.GateUp);
    }

    /// <inheritdoc/>
    public override void NormGateUp(ModelConfig c, int k, BlockWeights w, RowBatch rows, Activations a)
    {
        var table = Table(a);
        var norm = new RmsNorm(w.FeedForwardNorm, c.NormEpsilon);
        lock (_launching)
        {
            if (table.IsFew && c.PreNorms)
            {
                _decode.NormGateUp(
                    _stream, table.Few(rows), a.R, norm, w.GateUp, w.GateUpBias, a.GateUp, a.Gated, c.Activation, c.ResidualScale, k);
                return;
            }

            var x = c.PreNorms ? a.Normed : a.R;
            if (c.PreNorms)
            {
                x = Normed(table, a.R, norm, w.GateUp, x);
            }

            LinearSums left = Linear(table, x, w.GateUp, a.GateUp, bias: w.GateUpBias, leaves: c.F % 4 == 0);
            _gate.Forward(_stream, a.GateUp, table.All.Dual, a.Gated, c.Activation, c.ResidualScale, left);
        }
    }

    /// <inheritdoc/>
    public override void ProjectDown(ModelConfig c, int k, BlockWeights w, RowBatch rows, Activations a, BlockWeights? next)
    {
        var table = Table(a);
        if (rows.AnySteered && !table.Inputs.IsAbsent)
        {
            lock (_launching)
            {
                _decode.ProjectDown(_stream, table.Few(rows), a.Gated, w.Down, w.DownBias, a.R, a.Y);
                Edit(c, k, EditPoint.Output, rows, table, a.Y);
            }

            return;
        }

        bool foresees = next is not null && c.PreNorms && !rows.AnySteered && rows.UnitTangents is null;
        Project(c, k, EditPoint.FeedForward, rows, a, a.Gated, w.Down, w.DownBias, w.PostFeedForwardNorm, a.RawFeedForward, a.R, a.Y,
            foresees ? next!.AttentionNorm : default, foresees ? next!.Qkv : default);
        if (rows.AnySteered)
        {
            lock (_launching)
            {
                _steer.Act(_stream, table.All, a.Y, k);
                Edit(c, k, EditPoint.Output, rows, table, a.Y);
            }
        }
    }

    /// <inheritdoc/>
    public override void Head(ModelConfig c, Floats norm, Matrix head, Activations a, int row, int count, Floats logits)
    {
        var table = Table(a);
        var normed = a.Normed.Slice(row, count);
        lock (_launching)
        {
            _norm.Forward(_stream, a.X.Slice(row, count), new DualRows(count, default), new RmsNorm(norm, c.NormEpsilon), normed);
            _linear.Forward(_stream, normed, new RowCounts(count, Tangents: 0), head, logits, table.Scratch);
            if (c.LogitSoftCap > 0)
            {
                _head.SoftCap(_stream, logits.Slice(0, count), c.LogitSoftCap);
            }
        }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            // Sessions may be disposed of at the same time or later. They wait for the device first (Settle).
            lock (_launching)
            {
                Settle();
                _isReleased = true;
                Release();
            }
        }

        base.Dispose(disposing);
    }

    private string Name => $"cuda:{Ordinal} ({_context.Device.Name})";

    // Without cuBLASLt, wide batches use the kernels of this repository.
    private static CudaBlasLt? OpenBlas(PrimaryContext context)
    {
        try
        {
            return new CudaBlasLt(context);
        }
        catch (CudaLibraryMissingException)
        {
            return null;
        }
    }

    // The constructor also calls this when only some of the resources have been created.
    private void Release()
    {
        _staging?.Dispose();
        _draw?.Dispose();
        _algebra?.Dispose();
        _solver?.Dispose();
        _blas64?.Dispose();
        _blas?.Dispose();
        _library?.Dispose();
        _stream?.Dispose();
        _context.Dispose();
    }

    internal static CudaRows Table(Activations a) => (CudaRows)a.OnDevice!;

    private static AttentionShape Shape(ModelConfig c, int k) => new(k, c.H, c.G, c.E, c.ScoreScale, c.AttentionSoftCap, c.Windows[k]);

    private static HeadShape Heads(ModelConfig c) => new(c.H, c.G, c.E);

    private static HeadNorms HeadNorms(ModelConfig c, BlockWeights w) => new(w.QueryNorm, w.KeyNorm, c.NormEpsilon);

    private static HeadNorms SingleHeadNorms(ModelConfig c, BlockWeights w) => c.QkNorm == QkNorm.Heads ? HeadNorms(c, w) : default;

    private long ScratchInBytes(ModelConfig c, CudaRows rows)
    {
        var counts = new RowCounts(rows.Values, rows.Tangents);
        return Math.Max(LinearScratchInBytes(c, counts), AttentionKernels.ScratchInBytes(Shape(c, 0), counts, rows.Extent));
    }

    // The head, whose output rows are long, is never multiplied transposed.
    private long LinearScratchInBytes(ModelConfig c, RowCounts rows)
    {
        long most = _linear.ScratchInBytes(rows, new Matrix(0, WeightType.BF16, c.V, c.D), isTransposed: false);
        foreach (var (outputs, inputs) in (ReadOnlySpan<(int, int)>)[((c.H + (2 * c.G)) * c.E, c.D), (c.D, c.H * c.E), (2 * c.F, c.D), (c.D, c.F)])
        {
            most = Math.Max(most, _linear.ScratchInBytes(rows, new Matrix(0, WeightType.BF16, outputs, inputs)));
        }

        return most;
    }

    private LinearSums Linear(
        CudaRows table, Floats x, Matrix w, Floats y, Floats bias = default, Floats residual = default, bool leaves = false) =>
        _linear.Forward(_stream, x, table.All.Counts, w, y, table.Scratch, bias, residual, leaves);

    // Norms x for the map w. The result is in `normed`; it is absent if it is in the map's panels instead.
    private Floats Normed(CudaRows table, Floats x, RmsNorm norm, Matrix w, Floats normed)
    {
        bool isThere = table.IsNormed;
        table.IsNormed = false;
        if (isThere)
        {
            return default;
        }

        if (_linear.TakesPanels(table.All.Counts, w))
        {
            _norm.ToPanels(_stream, default, x, table.All.Dual, norm, LinearKernels.PanelsOf(table.All.Counts, table.Scratch));
            return default;
        }

        _norm.Forward(_stream, x, table.All.Dual, norm, normed);
        return normed;
    }

    // z is in y, in which the residual stream may have been added to it.
    private void Edit(ModelConfig c, int k, EditPoint point, RowBatch rows, CudaRows table, Floats y, Floats residual = default)
    {
        if (rows.IsEditedAt(point))
        {
            int stage = FeedbackLaw.EditStage(c.L, k, point);
            _edit.Edit(_stream, table.All, y, residual, stage);
            if (rows.AnyJoined)
            {
                _edit.Join(_stream, table.All, y, residual, stage);
            }
        }
    }

    // out = residual + [norm] (W x + b), where the output of the map is edited first. If the next norm and map are known and both maps read panels,
    // also norms the output into the next map's panels.
    private void Project(
        ModelConfig c, int k, EditPoint point, RowBatch rows, Activations a, Floats x, Matrix w, Floats bias, Floats postNorm, Floats raw,
        Floats residual, Floats output, Floats nextNorm, Matrix next)
    {
        var table = Table(a);
        lock (_launching)
        {
            if (postNorm.IsAbsent)
            {
                var counts = table.All.Counts;
                bool folds = !nextNorm.IsAbsent && _linear.TakesPanels(counts, w) && _linear.TakesPanels(counts, next);
                LinearSums left = Linear(table, x, w, output, bias, residual, leaves: folds);
                Edit(c, k, point, rows, table, output, residual);
                if (folds)
                {
                    _norm.ToPanels(
                        _stream, left, output, table.All.Dual, new RmsNorm(nextNorm, c.NormEpsilon), LinearKernels.PanelsOf(counts, table.Scratch));
                    table.IsNormed = true;
                }

                return;
            }

            Linear(table, x, w, raw, bias);
            Edit(c, k, point, rows, table, raw);
            _norm.AddNormed(_stream, residual, raw, table.All.Dual, new RmsNorm(postNorm, c.NormEpsilon), output);
        }
    }
}
