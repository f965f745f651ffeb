using System.Runtime.InteropServices;
using Tiller.Kernels;
using Tiller.Law;
using Tiller.Ops;

namespace Tiller.Cuda;

/// <summary>
/// A law that runs on a CUDA device. One buffer contains the law: first its numbers and then its directions, so that for another λ with the same
/// directions only the numbers are sent. Another buffer contains the values that the kernels read and computed in the last step; the host fetches all
/// of it when it first needs a value. A step that the device begins by itself has a buffer of its own, so that the last step's values can be read
/// until the begun step is accepted.
/// </summary>
internal sealed class CudaSteering : SteeringState
{
    private readonly CudaOps _ops;
    private DeviceBuffer? _law;
    private DeviceBuffer? _tangents;
    private CudaLaw? _packed;
    private CudaSteeringRecord _now;
    private CudaSteeringRecord? _next;
    private bool _headersAreThere;
    private float[] _fetched = [];
    private int _fetchedLines;
    private bool _isFetched;

    public CudaSteering(CudaOps ops, FeedbackLaw law)
        : base(law)
    {
        _ops = ops;
        _now = new CudaSteeringRecord(ops);
        try
        {
            Send(law);
            _now.Grow(law, 1, keep: false);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public override int Slots => _now.Last + 1;

    /// <summary>Number of floats of a line that <see cref="HeadKernels.Advance"/> copies to the host.</summary>
    public int HandedOut => CudaSteeringRecord.HandedOut(Law);

    private int Sensors => Law.Sensors.Count;

    internal override void Use(FeedbackLaw law)
    {
        bool carries = law.Sensors.Count == Sensors, fits = CudaSteeringRecord.AreAlike(law, Law);
        float[] errors = carries && !fits ? new float[Sensors] : [];
        if (errors.Length > 0)
        {
            GetErrors(_now.Last, errors);
        }

        _headersAreThere = _isFetched = false;
        Send(law);
        base.Use(law);
        if (fits)
        {
            _now.ClearNorms(law);
            _next?.ClearNorms(law);
            return;
        }

        _now.Grow(law, _now.Capacity, keep: false);
        _next?.Grow(law, 1, keep: false);
        if (errors.Length > 0)
        {
            SetErrors(errors);
        }
    }

    /// <summary>Prepares line <paramref name="slot"/> for a pass, and returns the address of the <see cref="DeviceSteering"/>.</summary>
    /// <param name="slot">The line. The lines of a pass are entered in order.</param>
    /// <param name="tangents">Number of the batch's tangent rows up to the last one of this row.</param>
    public nint Enter(int slot, int tangents)
    {
        _isFetched = false;
        if (slot == 0 && _now.Last > 0)
        {
            // A term or a gate may read the previous token's sensors; that token is the last row of the previous step.
            _ops.Copy(_now.ErrorsAt(_now.Last, Sensors), _now.ErrorsAt(0, Sensors), 4L * Sensors);
        }
        else if (slot >= _now.Capacity)
        {
            _headersAreThere = false;
            _now.Grow(Law, Math.Max(slot + 1, 2 * _now.Capacity), keep: true);
        }

        _now.Last = slot;
        if (tangents > 0 && Sensors > 0 && (_tangents is null || _tangents.SizeInBytes < 4L * tangents * Sensors))
        {
            _headersAreThere = false;
            _tangents?.Dispose();
            _tangents = null;
            _tangents = _ops.Allocate(8L * tangents * Sensors);
        }

        SendHeaders();
        return _now.Address;
    }

    /// <summary>
    /// Prepares a step that the device begins by itself. <see cref="HeadKernels.Advance"/> changes the row's steering from the first of the returned
    /// addresses to the second.
    /// </summary>
    /// <returns>Address of the last step's <see cref="DeviceSteering"/>, its last line, and address of the next step's.</returns>
    public (nint Last, int Slot, nint Next) Precede()
    {
        if (_next is null)
        {
            var next = new CudaSteeringRecord(_ops);
            try
            {
                next.Grow(Law, 1, keep: false);
            }
            catch
            {
                next.Dispose();
                throw;
            }

            _next = next;
            _headersAreThere = false;
        }

        SendHeaders();
        return (_now.Address, _now.Last, _next.Address);
    }

    /// <summary>
    /// Takes over the values of the last step that the device has copied to the host, so that they need not be fetched.
    /// </summary>
    /// <param name="numbers">The values of the step's last line // (<see cref="HandedOut"/>).</param>
    public void Receive(ReadOnlySpan<float> numbers)
    {
        if (!_isFetched && _now.Last == 0)
        {
            MakeRoom(HandedOut);
            numbers[..HandedOut].CopyTo(_fetched);
            (_fetchedLines, _isFetched) = (1, true);
        }
    }

    /// <summary>Accepts the step that the device began: it becomes the last step.</summary>
    public void Follow()
    {
        (_now, _next) = (_next!, _now);
        (_now.Last, _isFetched) = (0, false);
    }

    protected override void GetErrors(int slot, Span<float> errors) => Fetched(0, slot, Sensors).CopyTo(errors);

    protected override void SetErrors(ReadOnlySpan<float> errors)
    {
        _isFetched = false;
        _ops.Upload(MemoryMarshal.AsBytes(errors), _now.ErrorsAt(_now.Last, Sensors));
    }

    protected override void GetEffort(int slot, Span<float> inputNorms, Span<float> stateNorms)
    {
        int norms = Sensors + Law.Stages;
        Law.PerBlock(
            Fetched(Sensors, slot, Law.Stages), Fetched(norms, slot, Law.Stages), Fetched(norms + Law.Stages, slot, Law.EditStages),
            inputNorms, stateNorms);
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _ops.Settle();
            _now.Dispose();
            _next?.Dispose();
            _law?.Dispose();
            _tangents?.Dispose();
        }

        base.Dispose(disposing);
    }

    // The buffer has one array (lines, length) for each kind of value. `at` is the number of floats in a line that come before this kind.
    private Span<float> Fetched(int at, int slot, int length)
    {
        if (!_isFetched)
        {
            MakeRoom(_now.Capacity * CudaSteeringRecord.LineLength(Law));
            _now.Read(Law, _fetched);
            (_fetchedLines, _isFetched) = (_now.Capacity, true);
        }

        return _fetched.AsSpan((_fetchedLines * at) + (slot * length), length);
    }

    private void Send(FeedbackLaw law)
    {
        var packed = CudaLaw.Of(law);
        if (_law is null || _law.SizeInBytes < packed.SizeInBytes)
        {
            var room = _ops.Allocate(packed.SizeInBytes);
            _law?.Dispose();
            (_law, _packed) = (room, null);
        }

        bool sameDirections = _packed is not null && _packed.HasDirectionsOf(packed);
        _ops.Upload(packed.Bytes(_law.Address, directions: !sameDirections), _law.Address);
        _packed = packed;
    }

    private void SendHeaders()
    {
        if (!_headersAreThere)
        {
            var (edits, begins) = _packed!.EditsAt;
            (nint, nint) at = edits == 0 ? default : (_law!.Address + edits, _law.Address + begins);
            _now.SendHeader(Law, _law!.Address, at, _tangents?.Address ?? 0, _next?.Address ?? 0);
            _next?.SendHeader(Law, _law.Address, at, _tangents?.Address ?? 0, _now.Address);
            _headersAreThere = true;
        }
    }

    private void MakeRoom(int numbers)
    {
        if (_fetched.Length < numbers)
        {
            _fetched = new float[numbers];
        }
    }
}
