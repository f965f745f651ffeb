using System.Numerics.Tensors;
using Tiller.Law;

namespace Tiller.Cpu;

/// <summary>A law at work on the CPU: plain arrays, one line per steered row of the batch (slot).</summary>
internal sealed unsafe class CpuSteering : SteeringState
{
    private readonly float[] _input;
    private readonly float[] _inputTangent;
    private float[] _strengths = [];
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

    internal override void Use(FeedbackLaw law)
    {
        if (law.Sensors.Count != Law.Sensors.Count)
        {
            _errors = new float[_capacity * law.Sensors.Count];
        }

        Array.Clear(_inputNorms);
        base.Use(law);
    }

    /// <summary>α = β − v·x for the sensors of block k.</summary>
    public void Sense(int k, int slot, ReadOnlySpan<float> x)
    {
        if (k == 0)
        {
            Enter(slot);
        }

        var law = Law.Packed(k);
        var errors = Errors(slot);
        int state = (slot * Law.Layers) + k;
        fixed (float* at = x, v = law.V)
        {
            if (law.SensorCount == 1)
            {
                var (projection, square) = VectorMath.DotAndSquare(at, v, x.Length);
                errors[law.Sensors[0]] = law.Beta[0] - projection;
                _stateNorms[state] = law.TermCount > 0 ? MathF.Sqrt(square) : 0;
                return;
            }

            var projections = Project(law, x);
            var sensors = law.Sensors;
            var beta = law.Beta;
            for (int i = 0; i < projections.Length; i++)
            {
                errors[sensors[i]] = beta[i] - projections[i];
            }

            _stateNorms[state] = law.TermCount > 0 ? MathF.Sqrt(VectorMath.Dot(at, at, x.Length)) : 0;
        }
    }

    /// <summary>y += u_k = Σ (c + s α) w, held to the bound.</summary>
    public void Act(int k, int slot, Span<float> y)
    {
        var law = Law.Packed(k);
        if (law.TermCount == 0)
        {
            return;
        }

        if (law.TermCount == 1 && float.IsPositiveInfinity(Law.MaxEffort))
        {
            // u = (c + s α) w, |u| = |c + s α| |w|
            float strength = 0;
            Weigh(law, Errors(slot), new Span<float>(ref strength));
            float length = MathF.Abs(strength) * law.Lengths[0];
            _freeNorms[(slot * Law.Layers) + k] = length;
            _inputNorms[(slot * Law.Layers) + k] = length;
            fixed (float* w = law.W, to = y)
            {
                VectorMath.AddScaled(strength, w, to, y.Length);
            }

            return;
        }

        Input(law, slot, _input);
        double norm;
        if (float.IsPositiveInfinity(Law.MaxEffort))
        {
            fixed (float* u = _input, to = y)
            {
                norm = VectorMath.AddWithNorm(u, to, y.Length);
            }

            _freeNorms[(slot * Law.Layers) + k] = (float)norm;
            _inputNorms[(slot * Law.Layers) + k] = (float)norm;
            return;
        }

        norm = VectorMath.NormWidened(_input);
        _freeNorms[(slot * Law.Layers) + k] = (float)norm;
        if (norm > Law.MaxEffort)
        {
            Normalise(_input);
            norm = Bound(_input, Law.MaxEffort);
        }

        _inputNorms[(slot * Law.Layers) + k] = (float)norm;
        TensorPrimitives.Add(y, _input, y);
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

        var law = Law.Packed(k);
        var projections = Project(law, dx);
        var sensors = law.Sensors;
        for (int i = 0; i < projections.Length; i++)
        {
            errors[sensors[i]] = -projections[i];
        }
    }

    /// <summary>dy += du_k = Σ s dα w; where u_k is at its bound, du keeps only what leaves |u| as it is.</summary>
    public void ActTangent(int k, int slot, int tangent, Span<float> dy)
    {
        var law = Law.Packed(k);
        if (law.TermCount == 0)
        {
            return;
        }

        var dg = _inputTangent.AsSpan();
        InputTangent(law, TangentErrors(tangent), dg);
        if (_freeNorms[(slot * Law.Layers) + k] <= Law.MaxEffort)
        {
            TensorPrimitives.Add(dy, dg, dy);
            return;
        }

        // u = U ĝ, ĝ = g/|g|: du = U/|g| (dg − ĝ (ĝ·dg))
        var g = _input.AsSpan();
        Input(law, slot, g);
        float norm = Normalise(g);
        TensorPrimitives.MultiplyAdd(g, -TensorPrimitives.Dot<float>(g, dg), dg, dg);
        TensorPrimitives.MultiplyAdd(dg, Law.MaxEffort / norm, dy, dy);
    }

    protected override void GetErrors(int slot, Span<float> errors) => Errors(slot).CopyTo(errors);

    protected override void SetErrors(ReadOnlySpan<float> errors) => errors.CopyTo(Errors(_last));

    protected override void GetEffort(int slot, Span<float> inputNorms, Span<float> stateNorms)
    {
        _inputNorms.AsSpan(slot * Law.Layers, Law.Layers).CopyTo(inputNorms);
        _stateNorms.AsSpan(slot * Law.Layers, Law.Layers).CopyTo(stateNorms);
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

    // u, of unit length, gets the length of the bound. Rounding may leave it a last bit above; step down until it is not, in growing steps,
    // since denormal numbers do not move by a small one.
    private static double Bound(Span<float> u, float bound)
    {
        float scale = bound;
        for (float step = 1f / (1 << 24); ; step *= 2)
        {
            TensorPrimitives.Multiply(u, scale, u);
            double norm = VectorMath.NormWidened(u);
            if (norm <= bound)
            {
                return norm;
            }

            scale = 1 - step;
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

    /// <summary>v·x of every sensor of a block, valid until the next call.</summary>
    private Span<float> Project(PackedLaw law, ReadOnlySpan<float> x)
    {
        int count = law.SensorCount;
        var projections = Strengths(count);
        fixed (float* at = x, v = law.V, z = projections)
        {
            VectorMath.ScaledDots(1, at, v, count, Law.Width, z);
        }

        return projections;
    }

    /// <summary>u = Σ (c + s α) w, before the bound.</summary>
    private void Input(PackedLaw law, int slot, Span<float> u)
    {
        var strengths = Strengths(law.TermCount);
        Weigh(law, Errors(slot), strengths);
        Combine(law, strengths, u);
    }

    /// <summary>c + s α of every term.</summary>
    private static void Weigh(PackedLaw law, ReadOnlySpan<float> errors, Span<float> strengths)
    {
        var sensor = law.TermSensor;
        var c = law.C;
        var s = law.S;
        for (int i = 0; i < strengths.Length; i++)
        {
            strengths[i] = sensor[i] < 0 ? c[i] : c[i] + (s[i] * errors[sensor[i]]);
        }
    }

    /// <summary>du = Σ s dα w, before the bound.</summary>
    private void InputTangent(PackedLaw law, ReadOnlySpan<float> errors, Span<float> du)
    {
        var strengths = Strengths(law.TermCount);
        var sensor = law.TermSensor;
        var s = law.S;
        for (int i = 0; i < strengths.Length; i++)
        {
            strengths[i] = sensor[i] < 0 ? 0 : s[i] * errors[sensor[i]];
        }

        Combine(law, strengths, du);
    }

    private void Combine(PackedLaw law, ReadOnlySpan<float> strengths, Span<float> u)
    {
        fixed (float* w = law.W, p = strengths, sum = u)
        {
            VectorMath.WeightedSum(p, w, strengths.Length, Law.Width, sum);
        }
    }

    private Span<float> Strengths(int count)
    {
        if (_strengths.Length < count)
        {
            _strengths = new float[count];
        }

        return _strengths.AsSpan(0, count);
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
