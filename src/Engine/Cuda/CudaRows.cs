using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tiller.Checkpoint;
using Tiller.Interop;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cuda;

/// <summary>
/// The rows of a batch on the device: a <see cref="DeviceRow"/> for each value row, then the owner of each tangent row; scratch of the
/// stages; and the steps recorded on these buffers. Belongs to one <see cref="Activations"/>.
/// </summary>
internal sealed class CudaRows : IDisposable
{
    private readonly CudaOps _ops;
    private readonly List<CudaRecording> _recordings = [];
    private byte[] _table = []; // as on the device, but for ids that the device has drawn
    private int _there;         // rows of it that are on the device
    private nint[] _nextSteerings = [];
    private DeviceBuffer? _onDevice;
    private DeviceBuffer? _scratch;
    private DeviceBuffer? _inputs;
    private Floats _inputsOfFew;
    private DeviceBuffer? _fillers;
    private int _sequences; // value rows without those that fill the batch up

    public CudaRows(CudaOps ops) => _ops = ops;

    /// <summary>The rows as the kernels take them.</summary>
    public RowTable All => new(new(_onDevice!.Address, Values), new(_onDevice.Address + (Values * Unsafe.SizeOf<DeviceRow>()), Tangents));

    /// <summary>What a launch of attention is sized for.</summary>
    public AttentionExtent Extent => new(Longest, MaxTangents, OneSequence, OwnCaches);

    /// <summary>
    /// Whether the rows of the pass that <see cref="CudaOps.Begin"/> opens next are here already; a pass that is recorded may not bring them.
    /// </summary>
    public bool IsPlaced { get; set; }

    /// <summary>Whether the input of the next stage's linear map, normed, stands in its panels already.</summary>
    public bool IsNormed { get; set; }

    /// <summary>Value rows, with those that fill the batch up: the first token of a sequence that nobody has, in a cache of its own.</summary>
    public int Values { get; private set; }

    /// <summary>Tangent rows.</summary>
    public int Tangents { get; private set; }

    /// <summary>Tangents of the value row that has most of them.</summary>
    public int MaxTangents { get; private set; }

    /// <summary>No sequence of the batch is longer; a power of two, so that a recorded step still fits when it comes again.</summary>
    public int Longest { get; private set; }

    /// <summary>Whether the rows are consecutive tokens of one sequence.</summary>
    public bool OneSequence { get; private set; }

    /// <summary>
    /// Whether each row is of a sequence that no other row is of; of more than few rows only told where that is known without a search.
    /// </summary>
    public bool OwnCaches { get; private set; }

    /// <summary>Whether the rows are few enough for the fused kernels of decoding.</summary>
    public bool IsFew => Values + Tangents <= LinearKernels.FewRows;

    /// <summary>Whether stage 4 may form u_k.</summary>
    public bool FormsInputs { get; set; } = true;

    /// <summary>u_k of steered rows on their way from stage 4 to stage 5 // (rows, D); absent where stage 5 forms them.</summary>
    public Floats Inputs => IsFew && FormsInputs ? _inputsOfFew : default;

    /// <summary>Scratch of a stage.</summary>
    public DeviceSpan<byte> Scratch => new(_scratch!.Address, _scratch.SizeInBytes);

    /// <summary>For steps that the device begins by itself; null before the first.</summary>
    public CudaAhead? Ahead { get; set; }

    /// <summary>Puts a batch on the device.</summary>
    public void Place(RowBatch rows, ModelConfig c)
    {
        _there = 0;
        (Values, _sequences, Tangents, MaxTangents) = (rows.Filled, rows.Values, rows.Tangents, 0);
        int rowsInBytes = Values * Unsafe.SizeOf<DeviceRow>();
        int sizeInBytes = rowsInBytes + (Tangents * sizeof(int));
        if (_table.Length < sizeInBytes)
        {
            _table = new byte[Math.Max(sizeInBytes, 2 * _table.Length)];
        }

        var table = MemoryMarshal.Cast<byte, DeviceRow>(_table.AsSpan(0, rowsInBytes));
        var owners = MemoryMarshal.Cast<byte, int>(_table.AsSpan(rowsInBytes, Tangents * sizeof(int)));
        int longest = 0;
        (OneSequence, OwnCaches) = (true, _sequences <= LinearKernels.FewRows);
        for (int i = 0; i < _sequences; i++)
        {
            ref readonly var row = ref rows[i];
            var (begin, end) = (rows.TangentGroups.Begin(i), rows.TangentGroups.End(i));
            table[i] = new DeviceRow
            {
                Id = row.Id,
                Position = row.Position,
                Capacity = row.Cache.Capacity,
                Slot = row.Slot,
                FirstTangent = begin,
                EndTangent = end,
                IsLong = row.Cache.IsLong ? 1 : 0,
                Cache = row.Cache.Keys(0, 0).Address,
                Steering = row.Steering is CudaSteering steering ? steering.Enter(row.Slot, end) : 0,
            };
            owners[begin..end].Fill(i);
            MaxTangents = Math.Max(MaxTangents, end - begin);
            longest = Math.Max(longest, row.Position + 1);
            OneSequence &= i == 0 || (ReferenceEquals(rows[i - 1].Cache, row.Cache) && rows[i - 1].Position + 1 == row.Position);
            for (int j = 0; OwnCaches && j < i; j++)
            {
                OwnCaches = !ReferenceEquals(rows[j].Cache, row.Cache);
            }
        }

        for (int i = _sequences; i < Values; i++)
        {
            table[i] = Filler(i, c);
        }

        Bound(longest);
        Send(sizeInBytes);
    }

    /// <summary>
    /// Readies the rows that <see cref="HeadKernels.Advance"/> makes of those before them: puts these on the device, unless they are there
    /// because a step has taken them or the device has made them. The batch is then the new rows.
    /// </summary>
    /// <param name="rows">The new rows, each of another sequence; their ids are not known.</param>
    /// <param name="c">Shape of the model.</param>
    public void PlaceNext(RowBatch rows, ModelConfig c)
    {
        int there = _there, longest = 0;
        _there = 0; // until all rows are as on the device
        (Values, _sequences, Tangents, MaxTangents, OneSequence, OwnCaches) = (rows.Filled, rows.Values, 0, 0, rows.Values == 1, true);
        int sizeInBytes = Values * Unsafe.SizeOf<DeviceRow>();
        if (_table.Length < sizeInBytes)
        {
            (_table, there) = (new byte[Math.Max(sizeInBytes, 2 * _table.Length)], 0);
        }

        if (_nextSteerings.Length < Values)
        {
            _nextSteerings = new nint[Math.Max(Values, 2 * _nextSteerings.Length)];
        }

        var table = MemoryMarshal.Cast<byte, DeviceRow>(_table.AsSpan(0, sizeInBytes));
        bool same = there >= Values;
        for (int i = 0; i < _sequences; i++)
        {
            ref readonly var row = ref rows[i];
            var steering = ((CudaSteering?)row.Steering)?.Precede() ?? default;
            _nextSteerings[i] = steering.Next;
            var before = new DeviceRow
            {
                Id = table[i].Id,
                Position = row.Position - 1,
                Capacity = row.Cache.Capacity,
                Slot = steering.Slot,
                IsLong = row.Cache.IsLong ? 1 : 0,
                Cache = row.Cache.Keys(0, 0).Address,
                Steering = steering.Last,
            };
            same &= Agree(before, table[i]);
            table[i] = before;
            longest = Math.Max(longest, row.Position + 1);
        }

        for (int i = _sequences; i < Values; i++)
        {
            var filler = Filler(i, c);
            same &= Agree(filler, table[i]);
            table[i] = filler;
        }

        Bound(longest);
        if (same)
        {
            _there = there;
        }
        else
        {
            Send(sizeInBytes);
        }
    }

    /// <summary>Takes down that the device makes the new rows of <see cref="PlaceNext"/>.</summary>
    public void Advance()
    {
        var table = MemoryMarshal.Cast<byte, DeviceRow>(_table.AsSpan(0, _sequences * Unsafe.SizeOf<DeviceRow>()));
        for (int i = 0; i < table.Length; i++)
        {
            ref var row = ref table[i];
            row.Position++;
            if (row.Steering != 0)
            {
                (row.Slot, row.Steering) = (0, _nextSteerings[i]);
            }
        }
    }

    /// <summary>The rows as the fused kernels take them.</summary>
    public DecodeRows Few(RowBatch rows) => new(All, rows.AnySteered, Inputs);

    /// <summary>Makes room for <see cref="Inputs"/>, once: it is as large for any few rows.</summary>
    public void ReserveInputs(int width)
    {
        _inputs ??= _ops.Allocate(4L * LinearKernels.FewRows * width);
        _inputsOfFew = new Floats(_inputs.Address, LinearKernels.FewRows, width);
    }

    /// <summary>Makes room for a stage's scratch; recorded steps are forgotten when it has to grow.</summary>
    public void ReserveScratch(long sizeInBytes)
    {
        if (_scratch is null || _scratch.SizeInBytes < sizeInBytes)
        {
            Forget();
            _scratch?.Dispose();
            _scratch = null;
            _scratch = _ops.Allocate(Math.Max(sizeInBytes, 64));
        }
    }

    /// <summary>The step recorded under a key, or null.</summary>
    public CudaGraphExec? Find(in CudaStepKey key)
    {
        for (int i = _recordings.Count - 1; i >= 0; i--)
        {
            if (_recordings[i].Key == key)
            {
                var found = _recordings[i];
                _recordings.RemoveAt(i);
                _recordings.Add(found);
                return found.Graph;
            }
        }

        return null;
    }

    /// <summary>Keeps a recorded step, where there are many at the expense of that which was not run for longest.</summary>
    public void Keep(in CudaStepKey key, CudaGraphExec graph)
    {
        const int Max = 48; // all sizes of a batch, twice: a step's logits go to two places in turn
        if (_recordings.Count == Max)
        {
            _ops.Settle();
            _recordings[0].Graph.Dispose();
            _recordings.RemoveAt(0);
        }

        _recordings.Add(new CudaRecording(key, graph));
    }

    public void Dispose()
    {
        Forget();
        Ahead?.Dispose();
        _onDevice?.Dispose();
        _scratch?.Dispose();
        _inputs?.Dispose();
        _fillers?.Dispose();
    }

    private static bool Agree(DeviceRow a, DeviceRow b) =>
        MemoryMarshal.AsBytes(new ReadOnlySpan<DeviceRow>(in a)).SequenceEqual(MemoryMarshal.AsBytes(new ReadOnlySpan<DeviceRow>(in b)));

    private DeviceRow Filler(int row, ModelConfig c)
    {
        long sizeInBytes = 4L * c.L * 2 * c.G * c.E;
        _fillers ??= _ops.Allocate((CudaStepper.RowsTile - 1) * sizeInBytes);
        return new DeviceRow { Capacity = 1, Cache = _fillers.Address + (nint)((row - _sequences) * sizeInBytes) };
    }

    private void Bound(int longest)
    {
        const int Shortest = 32;
        Longest = (int)System.Numerics.BitOperations.RoundUpToPowerOf2((uint)Math.Max(Shortest, longest));
    }

    private void Send(int sizeInBytes)
    {
        if (_onDevice is null || _onDevice.SizeInBytes < sizeInBytes)
        {
            Forget();
            _onDevice?.Dispose();
            _onDevice = null;
            _onDevice = _ops.Allocate(_table.Length);
        }

        _ops.Upload(_table.AsSpan(0, sizeInBytes), _onDevice.Address);
        _there = Values;
    }

    private void Forget()
    {
        if (_recordings.Count > 0)
        {
            _ops.Settle(); // one of them may be running
        }

        foreach (var recording in _recordings)
        {
            recording.Graph.Dispose();
        }

        _recordings.Clear();
    }

    private sealed record CudaRecording(CudaStepKey Key, CudaGraphExec Graph);
}

/// <summary>What must agree for a recorded step to be run again; all else is in tables on the device.</summary>
/// <param name="X">Where the step starts.</param>
/// <param name="Y">Where its first block ends.</param>
/// <param name="Capacity">Rows that there is room for, which with the addresses tells where everything else is.</param>
/// <param name="Logits">Where its logits go.</param>
/// <param name="Values">Value rows, with those that fill the batch up.</param>
/// <param name="Tangents">Tangent rows.</param>
/// <param name="MaxTangents">Tangents of the value row that has most of them.</param>
/// <param name="Longest">Bound on the sequences' lengths.</param>
/// <param name="Steered">Whether any row is steered.</param>
/// <param name="InputMoved">Whether a law moves the inputs of blocks.</param>
/// <param name="EditedPoints">Points at which a law edits activations.</param>
/// <param name="Joined">Whether rows are scaled back together.</param>
/// <param name="OneSequence">Whether the rows are consecutive tokens of one sequence.</param>
/// <param name="OwnCaches">Whether no two rows are of one sequence.</param>
/// <param name="Variants">What its kernels do.</param>
internal readonly record struct CudaStepKey(
    nint X, nint Y, int Capacity, nint Logits, int Values, int Tangents, int MaxTangents, int Longest, bool Steered, bool InputMoved,
    int EditedPoints, bool Joined, bool OneSequence, bool OwnCaches, KernelVariants Variants);

/// <summary>
/// Groups of cotangent rows on the device: where each value row's begin, and the owner of each row. Belongs to one <see cref="Cotangents"/>.
/// </summary>
internal sealed class CudaGroups : IDisposable
{
    private readonly CudaOps _ops;
    private int[] _table = [];
    private DeviceBuffer? _onDevice;

    public CudaGroups(CudaOps ops) => _ops = ops;

    /// <summary>The groups as the kernels take them.</summary>
    public CotangentGroups All { get; private set; }

    /// <summary>Puts the groups on the device.</summary>
    public void Place(RowGroups groups)
    {
        int size = groups.Count + 1 + groups.Total, most = 0;
        if (_table.Length < size)
        {
            _table = new int[Math.Max(size, 2 * _table.Length)];
        }

        for (int i = 0; i < groups.Count; i++)
        {
            int count = groups.End(i) - groups.Begin(i);
            _table[i] = groups.Begin(i);
            _table.AsSpan(groups.Count + 1 + groups.Begin(i), count).Fill(i);
            most = Math.Max(most, count);
        }

        _table[groups.Count] = groups.Total;
        if (_onDevice is null || _onDevice.SizeInBytes < sizeof(int) * size)
        {
            _onDevice?.Dispose();
            _onDevice = null;
            _onDevice = _ops.Allocate(sizeof(int) * _table.Length);
        }

        var onDevice = new DeviceSpan<int>(_onDevice.Address, size);
        All = new CotangentGroups(onDevice.Slice(0, groups.Count + 1), onDevice.Slice(groups.Count + 1, groups.Total), most);
        _ops.Upload(MemoryMarshal.AsBytes(_table.AsSpan(0, size)), _onDevice.Address);
    }

    public void Dispose() => _onDevice?.Dispose();
}
