using System.Numerics.Tensors;
using Tiller.Control;

namespace Tiller.Tensors;

/// <summary>A law at work on the CPU: plain arrays.</summary>
internal sealed class CpuSteering : SteeringState
{
    private float[] _errors;
    private float[] _tangentErrors = [];
    private float[] _input;
    private readonly float[] _inputNorms;
    private readonly float[] _stateNorms;

    public CpuSteering(FeedbackLaw law)
        : base(law)
    {
        _errors = new float[law.Sensors.Count];
        _input = new float[law.Width];
        _inputNorms = new float[law.Layers];
        _stateNorms = new float[law.Layers];
    }

    public override void Use(FeedbackLaw law)
    {
        if (law.Sensors.Count != _errors.Length)
        {
            _errors = new float[law.Sensors.Count];
        }

        base.Use(law);
    }

    public override void ReadErrors(Span<float> errors) => _errors.CopyTo(errors);

    public override void ReadEffort(Span<float> inputNorms, Span<float> stateNorms)
    {
        _inputNorms.CopyTo(inputNorms);
        _stateNorms.CopyTo(stateNorms);
    }

    public override void Reset()
    {
        Array.Clear(_errors);
        Array.Clear(_tangentErrors);
    }

    /// <summary>α = β − v·x for the sensors of block k.</summary>
    public void Sense(int k, ReadOnlySpan<float> x)
    {
        foreach (int i in Law.SensorsOf(k))
        {
            var sensor = Law.Sensors[i];
            _errors[i] = sensor.Beta - TensorPrimitives.Dot(sensor.V, x);
        }

        if (Law.TermsOf(k).Length > 0)
        {
            _stateNorms[k] = TensorPrimitives.Norm(x);
        }
    }

    /// <summary>y += u_k = Σ (c + s α) w, held to the bound.</summary>
    public void Act(int k, Span<float> y)
    {
        var terms = Law.TermsOf(k);
        if (terms.Length == 0)
        {
            return;
        }

        var u = _input.AsSpan();
        u.Clear();
        foreach (int i in terms)
        {
            var term = Law.Terms[i];
            float strength = term.Sensor < 0 ? term.C : term.C + (term.S * _errors[term.Sensor]);
            TensorPrimitives.MultiplyAdd(term.W, strength, u, u);
        }

        float norm = TensorPrimitives.Norm<float>(u);
        if (norm > Law.MaxEffort)
        {
            norm = Bound(u, norm, Law.MaxEffort);
        }

        _inputNorms[k] = norm;
        TensorPrimitives.Add(y, u, y);
    }

    /// <summary>dα = −v·dx for tangent row <paramref name="tangent"/> of this sequence.</summary>
    public void SenseTangent(int k, int tangent, ReadOnlySpan<float> dx)
    {
        var errors = TangentErrors(tangent);
        foreach (int i in Law.SensorsOf(k))
        {
            errors[i] = -TensorPrimitives.Dot(Law.Sensors[i].V, dx);
        }
    }

    /// <summary>dy += du_k = Σ s dα w; where u_k is at its bound, du keeps only what leaves |u| as it is.</summary>
    public void ActTangent(int k, int tangent, Span<float> dy)
    {
        var terms = Law.TermsOf(k);
        if (terms.Length == 0)
        {
            return;
        }

        var errors = TangentErrors(tangent);
        if (_inputNorms[k] < Law.MaxEffort)
        {
            foreach (int i in terms)
            {
                var term = Law.Terms[i];
                if (term.Sensor >= 0)
                {
                    TensorPrimitives.MultiplyAdd(term.W, term.S * errors[term.Sensor], dy, dy);
                }
            }

            return;
        }

        // u = U g/|g|: du = U/|g| (dg − ĝ (ĝ·dg))
        var g = new float[Law.Width];
        var dg = new float[Law.Width];
        foreach (int i in terms)
        {
            var term = Law.Terms[i];
            float alpha = term.Sensor < 0 ? 0 : _errors[term.Sensor];
            TensorPrimitives.MultiplyAdd(term.W, term.C + (term.S * alpha), g, g);
            TensorPrimitives.MultiplyAdd(term.W, term.Sensor < 0 ? 0 : term.S * errors[term.Sensor], dg, dg);
        }

        float norm = TensorPrimitives.Norm<float>(g);
        float along = TensorPrimitives.Dot<float>(g, dg) / (norm * norm);
        TensorPrimitives.MultiplyAdd(g, -along, dg, dg);
        TensorPrimitives.MultiplyAdd(dg, Law.MaxEffort / norm, dy, dy);
    }

    // Rounding may leave the scaled vector a last bit above the bound; step down until it is not.
    private static float Bound(Span<float> u, float norm, float bound)
    {
        for (float scale = bound / norm; ; scale = MathF.BitDecrement(scale))
        {
            TensorPrimitives.Multiply(u, scale, u);
            norm = TensorPrimitives.Norm<float>(u);
            if (norm <= bound)
            {
                return norm;
            }

            scale = 1;
        }
    }

    private Span<float> TangentErrors(int tangent)
    {
        int n = _errors.Length;
        if (_tangentErrors.Length < (tangent + 1) * n)
        {
            Array.Resize(ref _tangentErrors, Math.Max((tangent + 1) * n, 2 * _tangentErrors.Length));
        }

        return _tangentErrors.AsSpan(tangent * n, n);
    }
}
