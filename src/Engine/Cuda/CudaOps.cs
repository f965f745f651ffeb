using Tiller.Checkpoint;
using Tiller.Interop;
using Tiller.Kernels;
using Tiller.Law;
using Tiller.Ops;

namespace Tiller.Cuda;

/// <summary>
/// The stages on a CUDA device: every stage is a few kernels in one stream. Callers on several threads take turns at launching; what
/// outlives a stage lies in their own <see cref="Activations"/>. An error of the device ends it: every later call throws.
/// </summary>
internal sealed partial class CudaOps : DeviceOps
{
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
    private readonly HeadKernels _head;
    private readonly LinearKernels _linear;
    private readonly DecodeKernels _decode;
    private readonly AttentionKernels _attention;
    private readonly AlgebraKernels _algebraKernels;
    private readonly CholeskyKernels _cholesky;

    // Held while launching: another thread's work must not fall into a stage's scratch, nor into a recording.
    private readonly Lock _launching = new();
    private CudaStaging? _staging;
    private bool _isReleased;

    /// <summary>Opens a device and readies its kernels.</summary>
    /// <param name="ordinal">Its number among those that CUDA shows.</param>
    /// <exception cref="CudaException">There is no such device, or no kernel image fits it.</exception>
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
            _head = new HeadKernels(_library.Get);
            _linear = new LinearKernels(_library.Get, _blas);
            _decode = new DecodeKernels(_library.Get);
            _attention = new AttentionKernels(_library.Get);
            _algebraKernels = new AlgebraKernels(_library.Get);
            _cholesky = new CholeskyKernels(_library.Get);
            RunsAhead = true;
        }
        catch
        {
            Release();
            throw;
        }
    }

    /// <inheritdoc/>
    public override string Device => Name;

    /// <summary>Where all its work runs.</summary>
    internal CudaStream Stream => _stream;

    /// <summary>Its linear maps.</summary>
    internal LinearKernels Linears => _linear;

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
                // The next call meets the error again; a device that is lost runs nothing.
            }
        }
    }

    /// <inheritdoc/>
    public override SteeringState NewSteering(FeedbackLaw law) => new CudaSteering(this, law);

    /// <inheritdoc/>
    public override void Place(RowBatch rows, Activations a)
    {
        var table = (CudaRows)(a.OnDevice ??= new CudaRows(this));
        table.Place(rows, a.Config);
        Reserve(rows, a, table);
    }

    private void Reserve(RowBatch rows, Activations a, CudaRows table)
    {
        table.ReserveScratch(ScratchInBytes(a.Config, table));
        if (rows.AnySteered && table.IsFew && !a.Config.PostNorms)
        {
            table.ReserveInputs(a.Config.D);
        }
    }

    /// <inheritdoc/>
    public override void Begin(ModelConfig c, Floats frequencies, Matrix? embedding, RowBatch rows, Activations a)
    {
        var table = Table(a);
        lock (_launching)
        {
            _embed.Rotate(_stream, table.Rows, table.Values, frequencies.Address, c.E, a.Rotation.Address);
            if (embedding is { } weights)
            {
                _embed.Embed(_stream, table.Rows, table.Values, weights, c.EmbeddingScale, a.X.Address);
            }
        }
    }

    /// <inheritdoc/>
    public override void NormQkv(ModelConfig c, int k, BlockWeights w, RowBatch rows, Activations a)
    {
        var table = Table(a);
        lock (_launching)
        {
            if (table.IsFew)
            {
                _decode.NormQkv(_stream, table.Few(rows), a.X.Address, w.AttentionNorm.Address, c.NormEpsilon, w.Qkv, w.QkvBias.Address,
                    c.QkNorm ? 0 : a.Rotation.Address, a.Qkv.Address, c.H, c.G, c.E, k);
                if (!c.QkNorm)
                {
                    return;
                }
            }
            else if (rows.UnitTangents is { } first)
            {
                // The values alone; then their tangents from W's columns.
                _norm.Forward(_stream, a.X.Address, table.Values, owners: 0, tangents: 0, w.AttentionNorm.Address, a.Normed.Address, c.D, c.NormEpsilon);
                _linear.Forward(_stream, a.Normed.Address, table.Values, tangents: 0, w.Qkv, a.Qkv.Address, table.Scratch, w.QkvBias.Address);
                _units.Push(_stream, a.X.Address, table.Values, w.AttentionNorm.Address, c.NormEpsilon, w.Qkv, a.Qkv.Address, w.QkvBias.Address,
                    first, rows.TangentGroups.End(0), a.Qkv.Slice(table.Values, table.Tangents).Address);
            }
            else
            {
                if (rows.AnySteered)
                {
                    _steer.SenseNorm(_stream, table.Rows, table.Values, table.Owners, table.Tangents, a.X.Address, k, w.AttentionNorm.Address, a.Normed.Address, c.D, c.NormEpsilon);
                }
                else
                {
                    Norm(c, table, a.X, w.AttentionNorm, a.Normed);
                }

                Linear(table, a.Normed, w.Qkv, a.Qkv, bias: w.QkvBias);
            }

            _qkv.Finish(_stream, table.Rows, table.Values, table.Owners, table.Tangents, a.Qkv.Address, a.RawQk.Address, a.Rotation.Address,
                w.QueryNorm.Address, w.KeyNorm.Address, c.NormEpsilon, c.H, c.G, c.E, k);
        }
    }

    /// <inheritdoc/>
    public override void Attend(ModelConfig c, int k, RowBatch rows, Activations a)
    {
        var table = Table(a);
        var shape = Shape(c, k);
        lock (_launching)
        {
            _attention.Forward(_stream, shape, table.Rows, table.Values, table.Longest, table.OneSequence, a.Qkv.Address, a.Heads.Address, table.Scratch);
            if (table.Tangents > 0)
            {
                _attention.Push(_stream, shape, table.Rows, table.Values, table.Owners, table.Tangents, table.MostTangents, table.Longest,
                    a.Qkv.Address, a.Heads.Address, table.Scratch);
            }
        }
    }

    /// <inheritdoc/>
    public override void ProjectOutput(ModelConfig c, BlockWeights w, RowBatch rows, Activations a) =>
        Project(c, a, a.Heads, w.Output, w.PostAttentionNorm, a.RawAttention, a.X, a.R);

    /// <inheritdoc/>
    public override void NormGateUp(ModelConfig c, int k, BlockWeights w, RowBatch rows, Activations a)
    {
        var table = Table(a);
        lock (_launching)
        {
            if (table.IsFew)
            {
                _decode.NormGateUp(_stream, table.Few(rows), a.R.Address, w.FeedForwardNorm.Address, c.NormEpsilon, w.GateUp, a.GateUp.Address,
                    a.Gated.Address, table.Inputs, c.Activation, k);
                return;
            }

            Norm(c, table, a.R, w.FeedForwardNorm, a.Normed);
            Linear(table, a.Normed, w.GateUp, a.GateUp);
            _gate.Forward(_stream, a.GateUp.Address, table.Values, table.Owners, table.Tangents, a.Gated.Address, c.F, c.Activation);
        }
    }

    /// <inheritdoc/>
    public override void ProjectDown(ModelConfig c, int k, BlockWeights w, RowBatch rows, Activations a)
    {
        var table = Table(a);
        if (rows.AnySteered && table.Inputs != 0)
        {
            lock (_launching)
            {
                _decode.ProjectDown(_stream, table.Few(rows), a.Gated.Address, w.Down, a.R.Address, table.Inputs, a.Y.Address);
            }

            return;
        }

        Project(c, a, a.Gated, w.Down, w.PostFeedForwardNorm, a.RawFeedForward, a.R, a.Y);
        if (rows.AnySteered)
        {
            lock (_launching)
            {
                _steer.Act(_stream, table.Rows, table.Values, table.Owners, table.Tangents, a.Y.Address, k, c.D);
            }
        }
    }

    /// <inheritdoc/>
    public override void Head(ModelConfig c, Floats norm, Matrix head, Activations a, int row, int count, Floats logits)
    {
        var table = Table(a);
        nint normed = a.Normed.Slice(row, count).Address;
        lock (_launching)
        {
            _norm.Forward(_stream, a.X.Slice(row, count).Address, count, 0, 0, norm.Address, normed, c.D, c.NormEpsilon);
            _linear.Forward(_stream, normed, count, tangents: 0, head, logits.Address, table.Scratch);
            if (c.LogitSoftCap > 0)
            {
                _head.SoftCap(_stream, logits.Address, (long)count * c.V, c.LogitSoftCap);
            }
        }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            // Sessions may be disposed at the same time, and later: they settle first.
            lock (_launching)
            {
                Settle();
                _isReleased = true;
                Release();
            }
        }

        base.Dispose(disposing);
    }

    private string Name => $"cuda:{_context.Device.Ordinal} ({_context.Device.Name})";

    // Without the library wide batches go through the kernels here.
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

    // Called by the constructor too, when only some of them are there.
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

    private static CudaRows Table(Activations a) => (CudaRows)a.OnDevice!;

    private static AttentionShape Shape(ModelConfig c, int k) => new(k, c.H, c.G, c.E, c.AttentionScale, c.AttentionSoftCap, c.Windows[k]);

    private long ScratchInBytes(ModelConfig c, CudaRows rows) =>
        Math.Max(LinearScratchInBytes(c, rows.Values, rows.Tangents), AttentionKernels.ScratchInBytes(Shape(c, 0), rows.Values, rows.Tangents, rows.MostTangents, rows.Longest));

    private long LinearScratchInBytes(ModelConfig c, int values, int tangents)
    {
        long most = 0;
        foreach (var (outputs, inputs) in (ReadOnlySpan<(int, int)>)[((c.H + (2 * c.G)) * c.E, c.D), (c.D, c.H * c.E), (2 * c.F, c.D), (c.D, c.F), (c.V, c.D)])
        {
            most = Math.Max(most, _linear.ScratchInBytes(values, tangents, new Matrix(0, WeightType.BF16, outputs, inputs)));
        }

        return most;
    }

    private void Norm(ModelConfig c, CudaRows table, Floats x, Floats weight, Floats y) =>
        _norm.Forward(_stream, x.Address, table.Values, table.Owners, table.Tangents, weight.Address, y.Address, c.D, c.NormEpsilon);

    private void Linear(CudaRows table, Floats x, Matrix w, Floats y, Floats bias = default, Floats residual = default) =>
        _linear.Forward(_stream, x.Address, table.Values, table.Tangents, w, y.Address, table.Scratch, bias.Address, residual.Address);

    // out = residual + [norm] (W x)
    private void Project(ModelConfig c, Activations a, Floats x, Matrix w, Floats postNorm, Floats raw, Floats residual, Floats output)
    {
        var table = Table(a);
        lock (_launching)
        {
            if (postNorm.IsAbsent)
            {
                Linear(table, x, w, output, residual: residual);
                return;
            }

            Linear(table, x, w, raw);
            _norm.AddNormed(_stream, residual.Address, raw.Address, table.Values, table.Owners, table.Tangents, postNorm.Address, output.Address, c.D, c.NormEpsilon);
        }
    }
}
