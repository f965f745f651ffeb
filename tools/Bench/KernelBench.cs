using Tiller.Cpu;
using Tiller.Cuda;
using Tiller.Kernels;
using Tiller.Model;
using Tiller.Ops;

namespace Tiller.Bench;

/// <summary>
/// Measures every stage of <see cref="DeviceOps"/> alone, and the linear map for many numbers of rows. Layers take turns, as in a forward pass.
/// </summary>
internal static class KernelBench
{
    private const int Cotangents = 32;

    private static readonly int[] s_rowCounts = [1, 2, 4, 8, 16, 32, 64, 256];

    /// <summary>Measures the stages for one row and for many, the stages backwards, and the linear map in both directions.</summary>
    public static IEnumerable<BenchRow> Run(BenchRequest request, Meter meter)
    {
        var c = request.Shape.Config;
        var counts = request.Counts;
        IReadOnlyList<int> rowCounts = request.Rows ?? s_rowCounts;
        int manyRows = rowCounts.Max();
        int length = Math.Max(request.ContextLength + 1, manyRows);

        // A prompt's last pass: its rows after the context, if the shape has so many positions.
        bool hasLastPass = request.ContextLength + manyRows <= c.MaxPositions;
        length = hasLastPass ? request.ContextLength + manyRows : length;
        if (length > c.MaxPositions)
        {
            throw new BenchException($"The kernels run up to {length} positions; this shape has {c.MaxPositions}. Use a shorter --context.");
        }

        meter.Machine.Require(
            counts.AllBytes + (2.5 * manyRows * Activations.RowSizeInBytes(c)) + counts.CacheBytes(length) + (4.0 * manyRows * c.V)
                + (12.0 * manyRows * (c.D + (2.0 * c.F))));
        using var ops = Devices.Open(request.Device, request.ThreadCount);
        using var clock = ops is CudaOps device ? new DeviceClock(device, c.L) : null;
        using var weights = ModelWeights.Random(ops, c, request.Type);
        using var stages = new StageBench(ops, weights, request, length, manyRows, clock);
        foreach (int rows in new[] { 1, manyRows })
        {
            stages.Place(rows);
            foreach (var work in stages.Forward(rows))
            {
                yield return meter.Measure(work);
            }
        }

        if (hasLastPass)
        {
            stages.Place(manyRows, request.ContextLength);
            yield return meter.Measure(stages.AttentionAfterContext(manyRows));
        }

        yield return meter.Measure(stages.AttentionOfTangents(Cotangents));
        stages.Place(1);
        foreach (var work in stages.Backward(Cotangents))
        {
            yield return meter.Measure(work);
        }

        using var linears = new LinearBench(ops, manyRows, request.ThreadCount, weights.Blocks[0].GateUp);
        foreach (int rows in rowCounts)
        {
            yield return meter.Measure(Linear(rows, "W x", k => linears.Forward(rows, weights.Blocks[k].GateUp)));
            yield return meter.Measure(Linear(rows, "W' y", k => linears.Transposed(rows, weights.Blocks[k].GateUp)));
        }

        Work Linear(int rows, string what, Action<int> run)
        {
            var w = weights.Blocks[0].GateUp;
            int k = 0;
            return new Work
            {
                Name = $"linear {w.Rows}x{w.Columns}, {what}, {rows} rows",
                Bytes = w.SizeInBytes + (4.0 * rows * (w.Rows + w.Columns)),
                Flops = 2.0 * w.Rows * w.Columns * rows,
                WorkingSet = (double)c.L * w.SizeInBytes,
                Rows = rows,
                Tangents = rows,
                Clock = clock is null ? null : clock.Time,
                RateUnit = "1/s",
                Run = () => run(k++ % c.L),
            };
        }
    }
}

/// <summary>The linear map alone, on its own buffers, called as in the device's stages.</summary>
internal sealed class LinearBench : IDisposable
{
    private readonly CudaOps? _device;
    private readonly WorkerPool? _pool;
    private readonly DeviceBuffer _x;
    private readonly DeviceBuffer _y;
    private readonly DeviceBuffer? _scratch;

    /// <summary>Allocates and fills buffers for one shape of matrix and a maximum number of rows.</summary>
    public LinearBench(DeviceOps ops, int rows, int threads, Matrix w)
    {
        _device = ops as CudaOps;
        _pool = _device is null ? new WorkerPool(threads) : null;
        _x = ops.Allocate(4L * rows * w.Columns);
        _y = ops.Allocate(4L * rows * w.Rows);
        _scratch = _device is null ? null : ops.Allocate(_device.Linears.ScratchInBytes(new RowCounts(0, rows), w));
        var random = new Random(14);
        for (int i = 0; i < rows; i++)
        {
            ops.UploadRow(RandomParts.Unit(random, w.Columns), X(rows, w), i);
            ops.UploadRow(RandomParts.Unit(random, w.Rows), Y(rows, w), i);
        }
    }

    private DeviceSpan<byte> Scratch => new(_scratch!.Address, _scratch.SizeInBytes);

    /// <summary>y = x W', with the rows as tangents.</summary>
    public void Forward(int rows, Matrix w)
    {
        if (_device is not null)
        {
            _device.Linears.Forward(_device.Stream, X(rows, w), new RowCounts(0, rows), w, Y(rows, w), Scratch);
        }
        else
        {
            CpuLinear.Forward(_pool!, X(rows, w), 0, w, default, default, Y(rows, w));
        }
    }

    /// <summary>x = y W.</summary>
    public void Transposed(int rows, Matrix w)
    {
        if (_device is not null)
        {
            _device.Linears.Transposed(_device.Stream, Y(rows, w), rows, w, X(rows, w), Scratch);
        }
        else
        {
            CpuLinear.Transposed(_pool!, Y(rows, w), w, X(rows, w));
        }
    }

    private Floats X(int rows, Matrix w) => new(_x.Address, rows, w.Columns);

    private Floats Y(int rows, Matrix w) => new(_y.Address, rows, w.Rows);

    public void Dispose()
    {
        _pool?.Dispose();
        _x.Dispose();
        _y.Dispose();
        _scratch?.Dispose();
    }
}

/// <summary>One sequence whose rows are ready for any stage.</summary>
internal sealed class StageBench : IDisposable
{
    private readonly DeviceOps _ops;
    private readonly ModelWeights _weights;
    private readonly Checkpoint.ModelConfig _c;
    private readonly Counts _counts;
    private readonly Activations _a;
    private readonly Cotangents _y;
    private readonly KvCache _cache;
    private readonly RowBatch _rows = new();
    private readonly RowGroups _groups = new();
    private readonly DeviceBuffer _logits;
    private readonly int _context;
    private readonly DeviceClock? _clock;
    private int _k;

    public StageBench(DeviceOps ops, ModelWeights weights, BenchRequest request, int length, int rows, DeviceClock? clock)
    {
        _clock = clock;
        (_ops, _weights, _c, _context) = (ops, weights, request.Shape.Config, request.ContextLength);
        _counts = request.Counts;
        _a = new Activations(ops, _c);
        _y = new Cotangents(ops, _c);
        _cache = new KvCache(ops, _c, length, request.Kv);
        _logits = ops.Allocate(4L * rows * _c.V);
    }

    /// <summary>
    /// Prepares one row at the end of the context, or many rows from the beginning of the sequence, and fills every buffer of the block with sensible
    /// numbers.
    /// </summary>
    public void Place(int rows) => Place(rows, rows == 1 ? _context : 0);

    /// <summary>The same for consecutive rows from <paramref name="position"/> on, the last of which has some tangents.</summary>
    public void Place(int rows, int position, int tangents = 0)
    {
        _rows.Clear();
        int[] ids = RandomParts.Tokens(_c.V, rows, seed: 11);
        for (int i = 0; i < rows; i++)
        {
            _rows.Add(ids[i], position + i, _cache, tangents: i == rows - 1 ? tangents : 0);
        }

        _a.Reserve(_rows.Total);
        var random = new Random(15);
        for (int i = 0; i < tangents; i++)
        {
            _ops.UploadRow(RandomParts.Unit(random, _c.D), _a.X, rows + i);
        }

        _ops.Begin(_c, _weights.Frequencies, _weights.Embedding, _rows, _a);
        Block.Forward(_ops, _c, 0, _weights.Blocks[0], _rows, _a);
    }

    /// <summary>The stages of a forward pass.</summary>
    public IEnumerable<Work> Forward(int rows)
    {
        double keys = rows == 1 ? _context + 1 : (rows + 1) / 2.0;
        double width = (_c.H + (2.0 * _c.G)) * _c.E;
        string at = rows == 1 ? "1 row" : $"{rows} rows";
        yield return Matrix($"norm + qkv, {at}", rows, width * _c.D, k => _ops.NormQkv(_c, k, _weights.Blocks[k], _rows, _a));
        yield return new Work
        {
            Name = $"attention, {at}",
            Bytes = _counts.CacheBytes(rows == 1 ? _context + 1 : rows) / _c.L,
            Flops = rows * _counts.AttentionFlops(keys),
            WorkingSet = _counts.CacheBytes(rows == 1 ? _context + 1 : rows),
            Clock = Clock,
            Run = Next(k => _ops.Attend(_c, k, _rows, _a)),
        };
        yield return Matrix(
            $"output + residual, {at}", rows, (double)_c.H * _c.E * _c.D, k => _ops.ProjectOutput(_c, k, _weights.Blocks[k], _rows, _a));
        yield return Matrix($"norm + gate/up + activation, {at}", rows, 2.0 * _c.F * _c.D,
            k => _ops.NormGateUp(_c, k, _weights.Blocks[k], _rows, _a));
        yield return Matrix($"down + residual, {at}", rows, (double)_c.F * _c.D, k =>
            _ops.ProjectDown(_c, k, _weights.Blocks[k], _rows, _a, next: null));
        var logits = new Floats(_logits.Address, rows, _c.V);
        yield return Matrix(
            $"norm + head, {at}", rows, _counts.HeadWeights, _ => _ops.Head(_c, _weights.Norm, _weights.Head, _a, 0, rows, logits)) with
        {
            WorkingSet = _counts.HeadWeights * _counts.WeightInBytes,
        };
    }

    /// <summary>Attention of many rows after the context.</summary>
    public Work AttentionAfterContext(int rows) => new()
    {
        Name = $"attention, {rows} rows after {_context} tokens",
        Bytes = _counts.CacheBytes(_context + rows) / _c.L,
        Flops = rows * _counts.AttentionFlops(_context + ((rows + 1) / 2.0)),
        WorkingSet = _counts.CacheBytes(_context + rows),
        Clock = Clock,
        Run = Next(k => _ops.Attend(_c, k, _rows, _a)),
    };

    /// <summary>Attention of one row at the end of the context and of its tangents.</summary>
    public Work AttentionOfTangents(int tangents)
    {
        Place(1, _context, tangents);
        return new()
        {
            Name = $"attention, 1 row and {tangents} tangents",
            Bytes = _counts.CacheBytes(_context + 1) / _c.L,
            Flops = _counts.AttentionFlops(_context + 1) + LinearisedFlops(tangents),
            WorkingSet = _counts.CacheBytes(_context + 1),
            Clock = Clock,
            Run = Next(k => _ops.Attend(_c, k, _rows, _a)),
        };
    }

    /// <summary>The stages of a pullback of one value row.</summary>
    public IEnumerable<Work> Backward(int cotangents)
    {
        _groups.Clear();
        _groups.Add(cotangents);
        _y.Reserve(cotangents);
        var random = new Random(12);
        for (int i = 0; i < cotangents; i++)
        {
            _ops.UploadRow(RandomParts.Unit(random, _c.D), _y.Stream, i);
        }

        double width = (_c.H + (2.0 * _c.G)) * _c.E;
        string at = $"{cotangents} cotangents";

        // The first stage of a pullback sends the table of rows to the device, and so cannot be recorded.
        var down = Cotangents($"down backwards, {at}", (double)_c.F * _c.D, k => _ops.PullDown(_c, _weights.Blocks[k], _rows, _a, _groups, _y));
        yield return down with { Clock = null };
        yield return Stream($"gate/up backwards, {at}", 2.0 * _c.F * _c.D, k => _ops.PullGateUp(_c, _weights.Blocks[k], _rows, _a, _groups, _y));
        yield return Cotangents(
            $"output backwards, {at}", (double)_c.H * _c.E * _c.D, k => _ops.PullOutput(_c, _weights.Blocks[k], _rows, _a, _groups, _y));
        yield return new Work
        {
            Name = $"attention backwards, {at}",
            Bytes = _counts.CacheBytes(_context + 1) / _c.L,
            Flops = LinearisedFlops(cotangents),
            WorkingSet = _counts.CacheBytes(_context + 1),
            Clock = Clock,
            Run = Next(k => _ops.PullAttend(_c, k, _rows, _a, _groups, _y)),
        };
        yield return Stream($"qkv backwards, {at}", width * _c.D, k => _ops.PullQkv(_c, _weights.Blocks[k], _rows, _a, _groups, _y));

        Work Cotangents(string name, double weights, Action<int> run) => Matrix(name, cotangents, weights, run) with { Tangents = cotangents };

        // These stages add to the stream, which would grow without bound.
        Work Stream(string name, double weights, Action<int> run)
        {
            float[] fresh = RandomParts.Unit(new Random(13), _c.D);
            return Cotangents(name, weights, run) with
            {
                Prepare = _ =>
                {
                    for (int i = 0; i < cotangents; i++)
                    {
                        _ops.UploadRow(fresh, _y.Stream, i);
                    }
                },
                MaxRuns = 1,
            };
        }
    }

    public void Dispose()
    {
        _a.Dispose();
        _y.Dispose();
        _cache.Dispose();
        _logits.Dispose();
    }

    // The fewest operations: for at least E/2 directions, those of a head's derivative (E, E) and its products; for fewer, those of two products with
    // the keys and values each.
    private double LinearisedFlops(int directions) => directions < _c.E / 2
        ? directions * _counts.AttentionFlops(_context + 1)
        : (_c.E / 2 * _counts.AttentionFlops(_context + 1)) + (2.0 * _c.H * _c.E * _c.E * directions);

    private Work Matrix(string name, int rows, double weights, Action<int> run) => new()
    {
        Name = name,
        Bytes = weights * _counts.WeightInBytes,
        Flops = 2 * weights * rows,
        WorkingSet = _c.L * weights * _counts.WeightInBytes,
        Rows = rows,
        Clock = Clock,
        Run = Next(run),
    };

    private Func<Work, double>? Clock => _clock is null ? null : _clock.Time;

    private Action Next(Action<int> run) => () => run(_k++ % _c.L);
}
