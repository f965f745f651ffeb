using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Tiller.Control;
using Tiller.Kernels;

namespace Tiller.Tensors;

/// <summary>
/// A law at work on a CUDA device. The law lies in one buffer (its numbers first, then its directions, so that another λ of the same
/// directions sends the numbers alone); what the kernels read and did lies in another, fetched whole when it is first asked for.
/// </summary>
internal sealed class CudaSteering : SteeringState
{
    private readonly CudaOps _ops;
    private readonly DeviceBuffer _header;
    private DeviceBuffer? _law;
    private DeviceBuffer? _state;
    private DeviceBuffer? _tangents;
    private Packing? _packing;
    private float[] _fetched = [];
    private bool _isFetched;
    private int _capacity;
    private int _last;

    public CudaSteering(CudaOps ops, FeedbackLaw law)
        : base(law)
    {
        _ops = ops;
        _header = ops.Allocate(Unsafe.SizeOf<DeviceSteering>());
        try
        {
            Send(law);
            Grow(1, keep: false);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public override int Slots => _last + 1;

    private int Sensors => Law.Sensors.Count;

    // α, then |u|, |x| and |u| before the bound for every layer.
    private static int LineLength(FeedbackLaw law) => law.Sensors.Count + (3 * law.Layers);

    public override void Use(FeedbackLaw law)
    {
        bool carries = law.Sensors.Count == Sensors;
        Send(law);
        base.Use(law);
        if (!carries)
        {
            Grow(_capacity, keep: false);
            return;
        }

        _isFetched = false;
        _ops.Clear(NormsAt, 12L * _capacity * law.Layers);
        SendHeader();
    }

    public override void ReadErrors(int slot, Span<float> errors) => Fetched(0, slot, Sensors).CopyTo(errors);

    public override void WriteErrors(ReadOnlySpan<float> errors)
    {
        _isFetched = false;
        _ops.Upload(MemoryMarshal.AsBytes(errors), ErrorsAt(_last));
    }

    public override void ReadEffort(int slot, Span<float> inputNorms, Span<float> stateNorms)
    {
        int at = _capacity * Sensors;
        Fetched(at, slot, Law.Layers).CopyTo(inputNorms);
        Fetched(at + (_capacity * Law.Layers), slot, Law.Layers).CopyTo(stateNorms);
    }

    /// <summary>Readies line <paramref name="slot"/> for a pass; gives back the address of the <see cref="DeviceSteering"/>.</summary>
    /// <param name="slot">The next line: lines of a pass are entered in order.</param>
    /// <param name="tangents">Tangent rows of the batch up to and with this row's.</param>
    public nint Enter(int slot, int tangents)
    {
        _isFetched = false;
        if (slot == 0 && _last > 0)
        {
            // A term may look back at the previous token, which is the last row of the step before.
            _ops.Copy(ErrorsAt(_last), ErrorsAt(0), 4L * Sensors);
        }
        else if (slot >= _capacity)
        {
            Grow(Math.Max(slot + 1, 2 * _capacity), keep: true);
        }

        _last = slot;
        if (tangents > 0 && Sensors > 0 && (_tangents is null || _tangents.SizeInBytes < 4L * tangents * Sensors))
        {
            _tangents?.Dispose();
            _tangents = null;
            _tangents = _ops.Allocate(8L * tangents * Sensors);
            SendHeader();
        }

        return _header.Address;
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _header.Dispose();
            _law?.Dispose();
            _state?.Dispose();
            _tangents?.Dispose();
        }

        base.Dispose(disposing);
    }

    private nint NormsAt => _state!.Address + (4 * _capacity * Sensors);

    private nint ErrorsAt(int slot) => _state!.Address + (4 * slot * Sensors);

    private Span<float> Fetched(int at, int slot, int length)
    {
        if (!_isFetched)
        {
            _ops.Download(_state!.Address, MemoryMarshal.AsBytes(_fetched.AsSpan()));
            _isFetched = true;
        }

        return _fetched.AsSpan(at + (slot * length), length);
    }

    private void Grow(int capacity, bool keep)
    {
        int lines = LineLength(Law);
        var old = _state;
        var state = _ops.Allocate(4L * capacity * lines);
        if (keep && old is not null)
        {
            var (from, to) = (old.Address, state.Address);
            foreach (int width in (ReadOnlySpan<int>)[Sensors, Law.Layers, Law.Layers, Law.Layers])
            {
                _ops.Copy(from, to, 4L * _capacity * width);
                (from, to) = (from + (4 * _capacity * width), to + (4 * capacity * width));
            }
        }

        old?.Dispose();
        (_state, _capacity, _fetched, _isFetched) = (state, capacity, new float[capacity * lines], false);
        SendHeader();
    }

    private void Send(FeedbackLaw law)
    {
        var packing = Packing.Of(law);
        if (_law is null || _law.SizeInBytes < packing.SizeInBytes)
        {
            var room = _ops.Allocate(packing.SizeInBytes);
            _law?.Dispose();
            (_law, _packing) = (room, null);
        }

        bool sameDirections = _packing is not null && _packing.HasDirectionsOf(packing);
        _ops.Upload(packing.Bytes(_law.Address, directions: !sameDirections), _law.Address);
        _packing = packing;
    }

    private void SendHeader()
    {
        nint norms = NormsAt;
        var header = new DeviceSteering
        {
            Layers = _law!.Address,
            Errors = _state!.Address,
            TangentErrors = _tangents?.Address ?? 0,
            InputNorms = norms,
            StateNorms = norms + (4 * _capacity * Law.Layers),
            FreeNorms = norms + (8 * _capacity * Law.Layers),
            Sensors = Sensors,
            LayerCount = Law.Layers,
            MaxEffort = Law.MaxEffort,
        };
        _ops.Upload(MemoryMarshal.AsBytes(new ReadOnlySpan<DeviceSteering>(in header)), _header.Address);
    }

    /// <summary>A law as it lies in memory: <see cref="DeviceLayerLaw"/> // (L), numbers, directions.</summary>
    private sealed class Packing
    {
        private readonly FeedbackLaw _law;
        private readonly int _numbersInBytes;

        private Packing(FeedbackLaw law)
        {
            _law = law;
            int numbers = 0;
            long directions = 0;
            for (int k = 0; k < law.Layers; k++)
            {
                var part = law.Packed(k);
                numbers += (2 * part.SensorCount) + (3 * part.TermCount);
                directions += part.V.Length + part.W.Length;
            }

            _numbersInBytes = Align((law.Layers * Unsafe.SizeOf<DeviceLayerLaw>()) + (4 * numbers));
            SizeInBytes = _numbersInBytes + (4 * directions);
        }

        public long SizeInBytes { get; }

        public static Packing Of(FeedbackLaw law) => new(law);

        /// <summary>Whether the directions, and so the whole layout, are those of <paramref name="other"/>: compared by identity, as laws of one controller share them.</summary>
        public bool HasDirectionsOf(Packing other)
        {
            var (a, b) = (_law, other._law);
            if (a.Width != b.Width || a.Layers != b.Layers || a.Sensors.Count != b.Sensors.Count || a.Terms.Count != b.Terms.Count)
            {
                return false;
            }

            for (int i = 0; i < a.Sensors.Count; i++)
            {
                if (a.Sensors[i].Layer != b.Sensors[i].Layer || !ReferenceEquals(a.Sensors[i].V, b.Sensors[i].V))
                {
                    return false;
                }
            }

            for (int i = 0; i < a.Terms.Count; i++)
            {
                if (a.Terms[i].Layer != b.Terms[i].Layer || !ReferenceEquals(a.Terms[i].W, b.Terms[i].W))
                {
                    return false;
                }
            }

            return true;
        }

        /// <summary>The bytes for <paramref name="address"/>, with or without the directions at their end.</summary>
        public ReadOnlySpan<byte> Bytes(nint address, bool directions)
        {
            byte[] bytes = new byte[directions ? SizeInBytes : _numbersInBytes];
            var layers = MemoryMarshal.Cast<byte, DeviceLayerLaw>(bytes.AsSpan(0, _law.Layers * Unsafe.SizeOf<DeviceLayerLaw>()));
            int at = _law.Layers * Unsafe.SizeOf<DeviceLayerLaw>();
            long far = _numbersInBytes;
            for (int k = 0; k < _law.Layers; k++)
            {
                var part = _law.Packed(k);
                layers[k] = new DeviceLayerLaw
                {
                    Beta = Near(MemoryMarshal.AsBytes(part.Beta)),
                    Sensor = Near(MemoryMarshal.AsBytes(part.Sensors)),
                    C = Near(MemoryMarshal.AsBytes(part.C)),
                    S = Near(MemoryMarshal.AsBytes(part.S)),
                    TermSensor = Near(MemoryMarshal.AsBytes(part.TermSensor)),
                    V = Far(part.V),
                    W = Far(part.W),
                    Sensors = part.SensorCount,
                    Terms = part.TermCount,
                };
            }

            return bytes;

            nint Near(ReadOnlySpan<byte> values)
            {
                values.CopyTo(bytes.AsSpan(at));
                at += values.Length;
                return address + at - values.Length;
            }

            nint Far(ReadOnlySpan<float> values)
            {
                if (directions)
                {
                    MemoryMarshal.AsBytes(values).CopyTo(bytes.AsSpan((int)far));
                }

                far += 4L * values.Length;
                return (nint)(address + far - (4L * values.Length));
            }
        }

        private static int Align(int bytes) => (bytes + 63) / 64 * 64;
    }
}
