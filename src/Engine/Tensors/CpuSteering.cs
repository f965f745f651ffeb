using System.Numerics.Tensors;
using Tiller.Control;

namespace Tiller.Tensors;

/// <summary>A law at work on the CPU: plain arrays, one line per steered row of the batch (slot).</summary>
internal sealed class CpuSteering : SteeringState
{
    private readonly float[] _input;
    private readonly float[] _inputTangent;
    private float[] _errors;
    private float[] _freeNorms;
    private float[] _inputNorms;
    private float[] _stateNorms;
    private float[] _tangentErrors = [];
    private int _capacity = 1;
    private int _last;

    public CpuSteering(FeedbackLaw law)
        : base(law)
    {
        _input = new float[law.Width];
        _inputTangent = new float[law.Width];
        _errors = new float[law.Sensors.Count];
        _freeNorms = new float[law.Layers];
        _inputNorms = new float[law.Layers];
        _stateNorms = new float[law.Layers];
    }

    public override int Slots => _last + 1;

    public override void Use(FeedbackLaw law)
    {
        if (law.Sensors.Count != Law.Sensors.Count)
        {
            _errors = new float[_capacity * law.Sensors.Count];
        }

        Array.Clear(_inputNorms);
        base.Use(law);
    }

    public override void ReadErrors(int slot, Span<float> errors) => Errors(slot).CopyTo(errors);

    public override void WriteErrors(ReadOnlySpan<float> errors) => errors.CopyTo(Errors(_last));

    public override void ReadEffort(int slot, Span<float> inputNorms, Span<float> stateNorms)
    {
        _inputNorms.AsSpan(slot * Law.Layers, Law.Layers).CopyTo(inputNorms);
        _stateNorms.AsSpan(slot * Law.Layers, Law.Layers).CopyTo(stateNorms);
    }

    public override void Reset()
    {
        Array.Clear(_errors);
        Array.Clear(_tangentErrors);
    }

    /// <summary>α = β − v·x for the sensors of block k.</summary>
    public void Sense(int k, int slot, ReadOnlySpan<float> x)
    {
        if (k == 0)
        {
            Enter(slot);
        }

        var errors = Errors(slot);
        foreach (int i in Law.SensorsOf(k))
        {
            var sensor = Law.Sensors[i];
            errors[i] = sensor.Beta - TensorPrimitives.Dot(sensor.V, x);
        }

        if (Law.TermsOf(k).Length > 0)
        {
            _stateNorms[(slot * Law.Layers) + k] = TensorPrimitives.Norm(x);
        }
    }

    /// <summary>y += u_k = Σ (c + s α) w, held to the bound.</summary>
    public void Act(int k, int slot, Span<float> y)
    {
        if (Law.TermsOf(k).Length == 0)
        {
            return;
        }

        var u = _input.AsSpan();
        Input(k, slot, u);
        float norm = TensorPrimitives.Norm<float>(u);
        _freeNorms[(slot * Law.Layers) + k] = norm;
        if (norm > Law.MaxEffort)
        {
            Normalise(u);
            norm = Bound(u, Law.MaxEffort);
        }

        _inputNorms[(slot * Law.Layers) + k] = norm;
        TensorPrimitives.Add(y, u, y);
    }

    /// <summary>dα = −v·dx for tangent row <paramref name="tangent"/> of this sequence.</summary>
    public void SenseTangent(int k, int tangent, ReadOnlySpan<float> dx)
    {
        var errors = TangentErrors(tangent);
        if (k == 0)
        {
            // What a term may look back at is the token before, which this tangent does not move.
            errors.Clear();
        }

        foreach (int i in Law.SensorsOf(k))
        {
            errors[i] = -TensorPrimitives.Dot(Law.Sensors[i].V, dx);
        }
    }

    /// <summary>dy += du_k = Σ s dα w; where u_k is at its bound, du keeps only what leaves |u| as it is.</summary>
    public void ActTangent(int k, int slot, int tangent, Span<float> dy)
    {
        var terms = Law.TermsOf(k);
        if (terms.Length == 0)
        {
            return;
        }

        var errors = TangentErrors(tangent);
        if (_freeNorms[(slot * Law.Layers) + k] <= Law.MaxEffort)
        {
            AddSlope(terms, errors, dy);
            return;
        }

        // u = U ĝ, ĝ = g/|g|: du = U/|g| (dg − ĝ (ĝ·dg))
        var g = _input.AsSpan();
        var dg = _inputTangent.AsSpan();
        Input(k, slot, g);
        float norm = Normalise(g);
        dg.Clear();
        AddSlope(terms, errors, dg);
        TensorPrimitives.MultiplyAdd(g, -TensorPrimitives.Dot<float>(g, dg), dg, dg);
        TensorPrimitives.MultiplyAdd(dg, Law.MaxEffort / norm, dy, dy);
    }

    /// <summary>u /= |u|; returns |u|. Scaled first, so that the squares neither overflow nor vanish.</summary>
    private static float Normalise(Span<float> u)
    {
        float largest = MathF.Abs(TensorPrimitives.MaxMagnitude<float>(u));
        TensorPrimitives.Divide(u, largest, u);
        float norm = TensorPrimitives.Norm<float>(u);
        TensorPrimitives.Divide(u, norm, u);
        return largest * norm;
    }

    // u, of unit length, gets the length of the bound. Rounding may leave it a last bit above; step down until it is not.
    private static float Bound(Span<float> u, float bound)
    {
        float scale = bound;
        while (true)
        {
            TensorPrimitives.Multiply(u, scale, u);
            float norm = TensorPrimitives.Norm<float>(u);
            if (norm <= bound)
            {
                return norm;
            }

            scale = MathF.BitDecrement(1);
        }
    }

    private void Enter(int slot)
    {
        int sensors = Law.Sensors.Count;
        if (slot == 0)
        {
            // A term may look back at the previous token, which is the last row of the step before.
            Errors(_last).CopyTo(Errors(0));
        }
        else if (slot >= _capacity)
        {
            _capacity = Math.Max(slot + 1, 2 * _capacity);
            Array.Resize(ref _errors, _capacity * sensors);
            Array.Resize(ref _freeNorms, _capacity * Law.Layers);
            Array.Resize(ref _inputNorms, _capacity * Law.Layers);
            Array.Resize(ref _stateNorms, _capacity * Law.Layers);
        }

        _last = slot;
    }

    /// <summary>u = Σ (c + s α) w, before the bound.</summary>
    private void Input(int k, int slot, Span<float> u)
    {
        var errors = Errors(slot);
        u.Clear();
        foreach (int i in Law.TermsOf(k))
        {
            var term = Law.Terms[i];
            float strength = term.Sensor < 0 ? term.C : term.C + (term.S * errors[term.Sensor]);
            TensorPrimitives.MultiplyAdd(term.W, strength, u, u);
        }
    }

    private void AddSlope(ReadOnlySpan<int> terms, ReadOnlySpan<float> errors, Span<float> dy)
    {
        foreach (int i in terms)
        {
            var term = Law.Terms[i];
            if (term.Sensor >= 0)
            {
                TensorPrimitives.MultiplyAdd(term.W, term.S * errors[term.Sensor], dy, dy);
            }
        }
    }

    private Span<float> Errors(int slot) => _errors.AsSpan(slot * Law.Sensors.Count, Law.Sensors.Count);

    private Span<float> TangentErrors(int tangent)
    {
        int n = Law.Sensors.Count;
        if (_tangentErrors.Length < (tangent + 1) * n)
        {
            Array.Resize(ref _tangentErrors, Math.Max((tangent + 1) * n, 2 * _tangentErrors.Length));
        }

        return _tangentErrors.AsSpan(tangent * n, n);
    }
}
