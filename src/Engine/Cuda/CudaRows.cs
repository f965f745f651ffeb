using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tiller.Checkpoint;
using Tiller.Interop;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Cuda;

/// <summary>
/// The rows of a batch on the device: a <see cref="DeviceRow"/> for each value row, then the index of the value row of each tangent row. Also the
/// scratch memory of the stages, and the recordings of steps on these buffers. Belongs to one <see cref="Activations"/>.
/// </summary>
internal sealed class CudaRows : IDisposable
{
    private readonly CudaOps _ops;
    private readonly List<CudaRecording> _recordings = [];
    private byte[] _table = []; // a copy of the rows on the device, except for ids that the device has drawn
    private int _there;         // number of its rows that are on the device
    private nint[] _nextSteerings = [];
    private DeviceBuffer? _onDevice;
    private DeviceBuffer? _scratch;
    private DeviceBuffer? _inputs;
    private Floats _inputsOfFew;
    private DeviceBuffer? _fillers;
    private int _sequences; // value rows without padding rows

    public CudaRows(CudaOps ops) => _ops = ops;

    /// <summary>The rows in the layout of the kernels.</summary>
    public RowTable All => new(new(_onDevice!.Address, Values), new(_onDevice.Address + (Values * Unsafe.SizeOf<DeviceRow>()), Tangents));

    /// <summary>The sizes that the launches of attention depend on.</summary>
    public AttentionExtent Extent => new(Longest, MaxTangents, OneSequence, OwnCaches);

    /// <summary>
    /// Whether the rows of the pass that <see cref="CudaOps.Begin"/> starts next are on the device already. Rows cannot be copied while a pass is
    /// recorded.
    /// </summary>
    public bool IsPlaced { get; set; }

    /// <summary>Whether the previous stage has already normed the input of the next stage's linear map into that map's panels.</summary>
    public bool IsNormed { get; set; }

    /// <summary>Number of value rows, including padding rows. A padding row is the first token of no sequence, with a cache of its own.</summary>
    public int Values { get; private set; }

    /// <summary>Number of tangent rows.</summary>
    public int Tangents { get; private set; }

    /// <summary>The largest number of tangents of a value row.</summary>
    public int MaxTangents { get; private set; }

    /// <summary>
    /// An upper bound for the length of every sequence of the batch: a power of two, so that a recorded step still fits for later tokens.
    /// </summary>
    public int Longest { get; private set; }

    /// <summary>Whether the rows are consecutive tokens of one sequence.</summary>
    public bool OneSequence { get; private set; }

    /// <summary>
    /// Whether no two rows belong to the same sequence. For a batch of more than <see cref="LinearKernels.FewRows"/> rows this may be false although
    /// no two do, because it is not searched.
    /// </summary>
    public bool OwnCaches { get; private set; }

    /// <summary>Whether the rows are few enough for the fused kernels of decoding.</summary>
    public bool IsFew => Values + Tangents <= LinearKernels.FewRows;

    /// <summary>Whether stage 4 may compute u_k.</summary>
    public bool FormsInputs { get; set; } = true;

    /// <summary>u_k of steered rows, from stage 4 to stage 5 // (rows, D); absent if stage 5 computes them.</summary>
    public Floats Inputs => IsFew && FormsInputs ? _inputsOfFew : default;

    /// <summary>Scratch memory of a stage.</summary>
    public DeviceSpan<byte> Scratch => new(_scratch!.Address, _scratch.SizeInBytes);

    /// <summary>Data of steps that the device begins by itself; null before the first such step.</summary>
    public CudaAhead? Ahead { get; set; }

    /// <summary>Copies the rows of a batch to the device.</summary>
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
    /// Prepares rows from which <see cref="HeadKernels.Advance"/> will make those of the next step. Copies them to the device, unless they are there
    /// because a step has run with them or the device has made them itself. The batch then consists of the new rows.
    /// </summary>
    /// <param name="rows">The rows of the next step, each of a different sequence. Their ids are unknown.</param>
    /// <param name="c">The model's shape.</param>
    public void PlaceNext(RowBatch rows, ModelConfig c)
    {
        int there = _there, longest = 0;
        _there = 0; // until the copy equals the rows on the device
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

    /// <summary>Updates the copy of the rows as the device updates its own in <see cref="HeadKernels.Advance"/>.</summary>
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

    /// <summary>The rows in the layout of the fused kernels of decoding.</summary>
    public DecodeRows Few(RowBatch rows) => new(All, rows.AnySteered, Inputs);

    /// <summary>Makes room for <see cref="Inputs"/> on the first call. The size does not depend on the number of rows.</summary>
    public void ReserveInputs(int width)
    {
        _inputs ??= _ops.Allocate(4L * LinearKernels.FewRows * width);
        _inputsOfFew = new Floats(_inputs.Address, LinearKernels.FewRows, width);
    }

    /// <summary>Makes room for a stage's scratch memory. If it has to grow, recordings are discarded, because they contain its address.</summary>
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

    /// <summary>The recording of a key; null if there is none.</summary>
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

    /// <summary>Keeps a recording. If there are too many, the least recently used one is discarded.</summary>
    public void Keep(in CudaStepKey key, CudaGraphExec graph)
    {
        const int Max = 48; // two for each size of a batch, because a step writes its logits to two places in turn
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
            _ops.Settle(); // a recording may be running
        }

        foreach (var recording in _recordings)
        {
            recording.Graph.Dispose();
        }

        _recordings.Clear();
    }

    private sealed record CudaRecording(CudaStepKey Key, CudaGraphExec Graph);
}

/// <summary>Everything that a recorded step depends on. All other data are in tables on the device.</summary>
/// <param name="X">Address of the step's first activations.</param>
/// <param name="Y">Address of the first block's output.</param>
/// <param name="Capacity">Number of rows that the activations have room for. With the two addresses it determines all other addresses.</param>
/// <param name="Logits">Address of the logits.</param>
/// <param name="Values">Number of value rows, including padding rows.</param>
/// <param name="Tangents">Number of tangent rows.</param>
/// <param name="MaxTangents">The largest number of tangents of a value row.</param>
/// <param name="Longest">Upper bound for the sequences' lengths.</param>
/// <param name="Steered">Whether any row is steered.</param>
/// <param name="InputMoved">Whether a law also moves the inputs of blocks.</param>
/// <param name="EditedPoints">Points at which a law edits activations.</param>
/// <param name="Joined">Whether rows are scaled back together.</param>
/// <param name="OneSequence">Whether the rows are consecutive tokens of one sequence.</param>
/// <param name="OwnCaches">Whether no two rows belong to the same sequence.</param>
/// <param name="Variants">The optional parts of the kernels.</param>
internal readonly record struct CudaStepKey(
    nint X, nint Y, int Capacity, nint Logits, int Values, int Tangents, int MaxTangents, int Longest, bool Steered, bool InputMoved,
    int EditedPoints, bool Joined, bool OneSequence, bool OwnCaches, KernelVariants Variants);

/// <summary>
/// Groups of cotangent rows on the device: the first row of each value row's group, and the value row of each cotangent row. Belongs to one
/// <see cref="Cotangents"/>.
/// </summary>
internal sealed class CudaGroups : IDisposable
{
    private readonly CudaOps _ops;
    private int[] _table = [];
    private DeviceBuffer? _onDevice;

    public CudaGroups(CudaOps ops) => _ops = ops;

    /// <summary>The groups in the layout of the kernels.</summary>
    public CotangentGroups All { get; private set; }

    /// <summary>Copies the groups to the device.</summary>
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
