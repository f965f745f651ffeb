using System.Numerics.Tensors;
using Tiller.Law;

namespace Tiller.Cpu;

/// <summary>The state of a law on the CPU: plain arrays with one row for each steered row of the batch (slot).</summary>
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
    private float[] _editNorms; // (slots, points of the law)
    private (float Before, float After)[] _joined = []; // (slots) |z| of rows that are scaled back together, 0 of others
    private bool _hasGrown;
    private int _capacity = 1;
    private int _last;

    public CpuSteering(FeedbackLaw law)
        : base(law)
    {
        _input = new float[law.Width];
        _inputTangent = new float[law.Width];
        _errors = new float[law.Sensors.Count];
        _freeNorms = new float[law.Stages];
        _inputNorms = new float[law.Stages];
        _stateNorms = new float[law.Stages];
        _editNorms = new float[law.EditStages];
    }

    public override int Slots => _last + 1;

    internal override void Use(FeedbackLaw law)
    {
        if (law.Sensors.Count != Law.Sensors.Count)
        {
            _errors = new float[_capacity * law.Sensors.Count];
        }

        if (law.Stages != Law.Stages)
        {
            _freeNorms = new float[_capacity * law.Stages];
            _inputNorms = new float[_capacity * law.Stages];
            _stateNorms = new float[_capacity * law.Stages];
        }

        if (law.EditStages != Law.EditStages)
        {
            _editNorms = new float[_capacity * law.EditStages];
        }

        Array.Clear(_inputNorms);
        Array.Clear(_editNorms);
        base.Use(law);
    }

    /// <summary>
    /// Computes e = clip(v·x, low, high) − v·x for the sensors of stage k, which is β − v·x if both ends are β; then applies the planes.
    /// </summary>
    public void Sense(int k, int slot, ReadOnlySpan<float> x)
    {
        if (k == Law.FirstStage)
        {
            Enter(slot);
        }

        var law = Law.Packed(k);
        var errors = Errors(slot);
        int state = (slot * Law.Stages) + k;
        fixed (float* at = x, v = law.V)
        {
            if (law.SensorCount == 1)
            {
                var (projection, square) = VectorMath.DotAndSquare(at, v, x.Length);
                errors[law.Sensors[0]] = Nearest(projection, law.Low[0], law.High[0]) - projection;
                _stateNorms[state] = law.KeepsNorm ? MathF.Sqrt(square) : 0;
                return;
            }

            var projections = Project(law, x);
            var sensors = law.Sensors;
            var low = law.Low;
            var high = law.High;
            for (int i = 0; i < projections.Length; i++)
            {
                errors[sensors[i]] = Nearest(projections[i], low[i], high[i]) - projections[i];
            }

            Turn(law, errors);

            _stateNorms[state] = law.KeepsNorm ? MathF.Sqrt(VectorMath.Dot(at, at, x.Length)) : 0;
        }
    }

    /// <summary>Adds u_k = Σ (c + Σ m φ(e)) w of stage k to y, after applying the bound.</summary>
    public void Act(int k, int slot, Span<float> y)
    {
        var law = Law.Packed(k);
        if (law.TermCount == 0)
        {
            return;
        }

        if (law.TermCount == 1 && float.IsPositiveInfinity(Law.MaxEffort))
        {
            // u = p w with the strength p, |u| = |p| |w|
            float strength = 0;
            Weigh(law, Errors(slot), new Span<float>(ref strength));
            float length = MathF.Abs(strength) * law.Lengths[0];
            _freeNorms[(slot * Law.Stages) + k] = length;
            _inputNorms[(slot * Law.Stages) + k] = length;
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

            _freeNorms[(slot * Law.Stages) + k] = (float)norm;
            _inputNorms[(slot * Law.Stages) + k] = (float)norm;
            return;
        }

        norm = VectorMath.NormWidened(_input);
        _freeNorms[(slot * Law.Stages) + k] = (float)norm;
        if (norm > Law.MaxEffort)
        {
            Normalise(_input);
            norm = Bound(_input, Law.MaxEffort);
        }

        _inputNorms[(slot * Law.Stages) + k] = (float)norm;
        TensorPrimitives.Add(y, _input, y);
    }

    /// <summary>
    /// The edits at a point of block k: z ← f(z), z what lies there. Rows that are scaled back together are so by <see cref="Join"/>, after this of
    /// all of them.
    /// </summary>
    /// <param name="k">The block.</param>
    /// <param name="point">The point.</param>
    /// <param name="slot">The row's, in order.</param>
    /// <param name="y">z, or the stream with z in it, which changes as z does // (D).</param>
    /// <param name="origin">The stream without z; empty where y is z // (D).</param>
    public void Edit(int k, EditPoint point, int slot, Span<float> y, ReadOnlySpan<float> origin)
    {
        var edits = Law.EditsOf(k, point);
        if (edits.Length == 0)
        {
            return;
        }

        Span<float> z = _input, before = _inputTangent;
        Take(y, origin, z);
        float moved = 0;
        bool changed = false;
        _hasGrown &= slot > 0;
        foreach (var edit in edits)
        {
            bool acts = edit.Gate < 0 || Errors(slot)[edit.Gate] < 0;
            changed |= acts;
            if (edit.JoinsRows)
            {
                if (_joined.Length <= slot)
                {
                    Array.Resize(ref _joined, _capacity);
                }

                float length = acts ? ((NormKeepingEdit)edit).Add(z) : 0;
                _joined[slot] = (length, acts ? TensorPrimitives.Norm<float>(z) : 0);
                _hasGrown |= acts && _joined[slot].After > length;
                moved += acts ? MathF.Abs(edit.Strength) * TensorPrimitives.Norm<float>(edit.Vectors[0]) : 0;
            }
            else if (acts)
            {
                z.CopyTo(before);
                edit.Apply(z);
                moved += TensorPrimitives.Distance(z, before);
            }
        }

        // Behind closed gates the stream keeps its bits, which z and what it is added to do not give back.
        if (changed)
        {
            Put(z, origin, y);
        }

        _editNorms[(slot * Law.EditStages) + Law.EditStage(k, point)] = moved;
    }

    /// <summary>Scales z back where the tokens of a pass decide on that together and one of them grew.</summary>
    public void Join(int k, EditPoint point, int slot, Span<float> y, ReadOnlySpan<float> origin)
    {
        var edits = Law.EditsOf(k, point);
        if (!_hasGrown || edits.Length == 0 || !edits[^1].JoinsRows || _joined[slot].After == 0)
        {
            return;
        }

        Span<float> z = _input, before = _inputTangent;
        Take(y, origin, z);
        var edit = (NormKeepingEdit)edits[^1];
        TensorPrimitives.MultiplyAdd(edit.Direction, -edit.Strength, z, before);
        NormKeepingEdit.Restore(z, _joined[slot].Before, _joined[slot].After);
        Put(z, origin, y);
        _editNorms[(slot * Law.EditStages) + Law.EditStage(k, point)] +=
            TensorPrimitives.Distance(z, before) - (MathF.Abs(edit.Strength) * TensorPrimitives.Norm<float>(edit.Direction));
    }

    /// <summary>
    /// Computes de for tangent row <paramref name="tangent"/> of this sequence, after <see cref="Sense"/> of its value row: −v·dx, corrected by
    /// <see cref="Bend"/>.
    /// </summary>
    public void SenseTangent(int k, int tangent, ReadOnlySpan<float> x, ReadOnlySpan<float> dx)
    {
        var errors = TangentErrors(tangent);
        if (k == Law.FirstStage)
        {
            // Terms may use errors of the previous token, on which this tangent does not depend.
            errors.Clear();
        }

        var law = Law.Packed(k);
        var projections = Project(law, dx);
        var sensors = law.Sensors;
        for (int i = 0; i < projections.Length; i++)
        {
            errors[sensors[i]] = -projections[i];
        }

        if (law.Bends)
        {
            Bend(law, Project(law, x), errors);
        }
    }

    /// <summary>Adds du_k = Σ m φ'(e) de w to dy. If u_k is at its bound, du keeps only the part that does not change |u|.</summary>
    public void ActTangent(int k, int slot, int tangent, Span<float> dy)
    {
        var law = Law.Packed(k);
        if (law.TermCount == 0)
        {
            return;
        }

        var dg = _inputTangent.AsSpan();
        InputTangent(law, Errors(slot), TangentErrors(tangent), dg);
        if (_freeNorms[(slot * Law.Stages) + k] <= Law.MaxEffort)
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
        int points = Law.EditStages;
        Law.PerBlock(
            _inputNorms.AsSpan(slot * Law.Stages, Law.Stages), _stateNorms.AsSpan(slot * Law.Stages, Law.Stages),
            _editNorms.AsSpan(slot * points, points), inputNorms, stateNorms);
    }

    private static void Take(ReadOnlySpan<float> y, ReadOnlySpan<float> origin, Span<float> z)
    {
        if (origin.IsEmpty)
        {
            y.CopyTo(z);
        }
        else
        {
            TensorPrimitives.Subtract(y, origin, z);
        }
    }

    private static void Put(ReadOnlySpan<float> z, ReadOnlySpan<float> origin, Span<float> y)
    {
        if (origin.IsEmpty)
        {
            z.CopyTo(y);
        }
        else
        {
            TensorPrimitives.Add(z, origin, y);
        }
    }

    /// <summary>
    /// Divides u by |u|, and returns |u|. It first divides by the largest element, so that the squares neither overflow nor underflow.
    /// </summary>
    private static float Normalise(Span<float> u)
    {
        float largest = MathF.Abs(TensorPrimitives.MaxMagnitude<float>(u));
        TensorPrimitives.Divide(u, largest, u);
        float norm = TensorPrimitives.Norm<float>(u);
        TensorPrimitives.Divide(u, norm, u);
        return largest * norm;
    }

    // Scales u, which has unit length, to the length of the bound. Rounding may leave |u| one bit above the bound; then it is reduced by growing
    // steps, because a small step does not change denormal numbers.
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
            // A term may use errors of the previous token, which is the last row of the previous step.
            Errors(_last).CopyTo(Errors(0));
        }
        else if (slot >= _capacity)
        {
            _capacity = Math.Max(slot + 1, 2 * _capacity);
            Array.Resize(ref _errors, _capacity * sensors);
            Array.Resize(ref _freeNorms, _capacity * Law.Stages);
            Array.Resize(ref _inputNorms, _capacity * Law.Stages);
            Array.Resize(ref _stateNorms, _capacity * Law.Stages);
            Array.Resize(ref _editNorms, _capacity * Law.EditStages);
        }

        _last = slot;
    }

    /// <summary>Computes v·x of every sensor of a stage; valid until the next call.</summary>
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

    private static float Nearest(float projection, float low, float high) => projection < low ? low : projection > high ? high : projection;

    /// <summary>Applies the planes of a stage: the errors −b·x of their sensors become |Px| t − b·x.</summary>
    private static void Turn(PackedLaw law, Span<float> errors)
    {
        var sensors = law.Sensors;
        var pairs = law.PlaneSensors;
        var targets = law.PlaneTargets;
        for (int i = 0; i < pairs.Length; i += 2)
        {
            ref float first = ref errors[sensors[pairs[i]]], second = ref errors[sensors[pairs[i + 1]]];
            float length = MathF.Sqrt((first * first) + (second * second));
            first += length * targets[i];
            second += length * targets[i + 1];
        }
    }

    /// <summary>
    /// Corrects the tangents −v·dx of the errors for intervals and planes: inside an interval, de = 0; in a plane, de = t (Px·dPx)/|Px| − dPx, and
    /// −dPx if Px is 0, where the length has no derivative.
    /// </summary>
    private static void Bend(PackedLaw law, ReadOnlySpan<float> projections, Span<float> errors)
    {
        var sensors = law.Sensors;
        var pairs = law.PlaneSensors;
        var targets = law.PlaneTargets;
        var low = law.Low;
        var high = law.High;
        for (int i = 0; i < projections.Length; i++)
        {
            if (low[i] < projections[i] && projections[i] < high[i])
            {
                errors[sensors[i]] = 0;
            }
        }

        for (int i = 0; i < pairs.Length; i += 2)
        {
            ref float first = ref errors[sensors[pairs[i]]], second = ref errors[sensors[pairs[i + 1]]];
            float a = projections[pairs[i]], b = projections[pairs[i + 1]], length = MathF.Sqrt((a * a) + (b * b));
            float change = length > 0 ? -((a * first) + (b * second)) / length : 0;
            first += change * targets[i];
            second += change * targets[i + 1];
        }
    }

    /// <summary>Computes u = Σ (c + Σ m φ(e)) w, without the bound.</summary>
    private void Input(PackedLaw law, int slot, Span<float> u)
    {
        var strengths = Strengths(law.TermCount);
        Weigh(law, Errors(slot), strengths);
        Combine(law, strengths, u);
    }

    /// <summary>Computes c + Σ m φ(e) of every term; 0 if its gate is closed.</summary>
    private static void Weigh(PackedLaw law, ReadOnlySpan<float> errors, Span<float> strengths)
    {
        law.C.CopyTo(strengths);
        AddFeeds(law, errors, [], strengths);
    }

    /// <summary>Computes du = Σ m φ'(e) de w, without the bound.</summary>
    private void InputTangent(PackedLaw law, ReadOnlySpan<float> errors, ReadOnlySpan<float> tangentErrors, Span<float> du)
    {
        var strengths = Strengths(law.TermCount);
        strengths.Clear();
        AddFeeds(law, errors, tangentErrors, strengths);
        Combine(law, strengths, du);
    }

    /// <summary>
    /// Adds Σ_j m_ij φ_ij(e_j) to p_i, or of a tangent Σ_j m_ij φ'_ij(e_j) de_j; and sets p_i to 0 if its gate is closed. Gates use the errors of the
    /// value row. <paramref name="tangentErrors"/> is empty for a value row.
    /// </summary>
    private static void AddFeeds(PackedLaw law, ReadOnlySpan<float> errors, ReadOnlySpan<float> tangentErrors, Span<float> strengths)
    {
        var begins = law.FeedBegins;
        var sensors = law.FeedSensors;
        var gains = law.FeedGains;
        var gates = law.Gates;
        var curves = law.Curves;
        for (int i = 0; i < strengths.Length; i++)
        {
            float strength = strengths[i];
            for (int j = begins[i]; j < begins[i + 1]; j++)
            {
                int sensor = sensors[j];
                float fed = tangentErrors.IsEmpty ? errors[sensor] : tangentErrors[sensor];
                if (!curves.IsEmpty && curves[j] is { } curve)
                {
                    fed = tangentErrors.IsEmpty ? curve.At(fed) : curve.SlopeAt(errors[sensor]) * fed;
                }

                strength += gains[j] * fed;
            }

            strengths[i] = gates[i] < 0 || errors[gates[i]] < 0 ? strength : 0;
        }
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
