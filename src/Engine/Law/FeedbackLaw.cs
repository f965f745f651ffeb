using System.Numerics.Tensors;
using System.Runtime.InteropServices;

namespace Tiller.Law;

// Sign convention: α = β − v·x is what the state is short of, and u = K e = α K v is added to the block's output.

/// <summary>Reads one number off the residual stream entering a block: α = Beta − V·x.</summary>
/// <param name="Layer">Block k whose input is read.</param>
/// <param name="V">Direction // (D).</param>
/// <param name="Beta">Setpoint of the projection V·x.</param>
public sealed record Sensor(int Layer, float[] V, float Beta);

/// <summary>Adds (C + S α) W to the output of a block, where α comes from <paramref name="Sensor"/>.</summary>
/// <param name="Layer">Block k whose output is moved.</param>
/// <param name="W">Direction // (D).</param>
/// <param name="C">Open-loop strength.</param>
/// <param name="S">Feedback gain on α.</param>
/// <param name="Sensor">
/// Index into <see cref="FeedbackLaw.Sensors"/>, or -1 when S is 0. A sensor of an earlier layer gives this token's value; a sensor of
/// a later layer gives the previous token's (0 before the first).
/// </param>
public sealed record Term(int Layer, float[] W, float C, float S, int Sensor);

/// <summary>
/// The run-time form every steering method compiles to (docs/math.md §6): at block k, u_k = Σ_i (c_i + s_i α_i) w_i is added to the
/// block's output, optionally bounded to |u_k| ≤ MaxEffort. A law without terms is the plain model, bit for bit. Immutable, so
/// sessions share it.
/// </summary>
public sealed class FeedbackLaw
{
    /// <summary>Checks the parts and groups them by layer.</summary>
    /// <param name="layers">L of the model the law is for.</param>
    /// <param name="width">D of the model the law is for.</param>
    /// <param name="sensors">All sensors, any order; terms refer to them by index.</param>
    /// <param name="terms">All terms, any order; within a layer they are summed in this order.</param>
    /// <param name="maxEffort">Bound on |u_k| per layer, positive infinity for none.</param>
    /// <exception cref="ArgumentException">A layer, length, index or number is out of range.</exception>
    public FeedbackLaw(int layers, int width, IReadOnlyList<Sensor> sensors, IReadOnlyList<Term> terms, float maxEffort = float.PositiveInfinity)
    {
        Layers = layers;
        Width = width;
        Sensors = sensors;
        Terms = terms;
        MaxEffort = maxEffort;
        if (!(maxEffort > 0))
        {
            throw new ArgumentException($"The bound on |u| must be positive, got {maxEffort}.", nameof(maxEffort));
        }

        foreach (var s in sensors)
        {
            Check(s.Layer, s.V, nameof(sensors));
            CheckFinite(s.Beta, "β", s.Layer);
        }

        foreach (var t in terms)
        {
            Check(t.Layer, t.W, nameof(terms));
            CheckFinite(t.C, "c", t.Layer);
            CheckFinite(t.S, "s", t.Layer);
            if (t.Sensor < -1 || t.Sensor >= sensors.Count || (t.Sensor < 0 && t.S != 0))
            {
                throw new ArgumentException($"Term at layer {t.Layer} refers to sensor {t.Sensor}; there are {sensors.Count}.", nameof(terms));
            }
        }

        LooksBack = terms.Any(t => t.Sensor >= 0 && sensors[t.Sensor].Layer > t.Layer);
        _sensorsOf = GroupByLayer(sensors.Select(s => s.Layer), layers);
        _termsOf = GroupByLayer(terms.Select(t => t.Layer), layers);
        _packed = [.. Enumerable.Range(0, layers).Select(k => new PackedLaw(this, k))];
    }

    private readonly int[][] _sensorsOf;
    private readonly int[][] _termsOf;
    private readonly PackedLaw[] _packed;

    /// <summary>L of the model this law is for.</summary>
    public int Layers { get; }

    /// <summary>D of the model this law is for.</summary>
    public int Width { get; }

    /// <summary>Every sensor; a session keeps one α for each.</summary>
    public IReadOnlyList<Sensor> Sensors { get; }

    /// <summary>Every term.</summary>
    public IReadOnlyList<Term> Terms { get; }

    /// <summary>Bound on |u_k|; positive infinity for none.</summary>
    public float MaxEffort { get; }

    /// <summary>Whether a term uses an α of the previous token, so that steered tokens must be run one after another.</summary>
    public bool LooksBack { get; }

    /// <summary>Indices into <see cref="Sensors"/> of those that read block <paramref name="k"/>'s input.</summary>
    public ReadOnlySpan<int> SensorsOf(int k) => _sensorsOf[k];

    /// <summary>Indices into <see cref="Terms"/> of those that move block <paramref name="k"/>'s output.</summary>
    public ReadOnlySpan<int> TermsOf(int k) => _termsOf[k];

    /// <summary>What block <paramref name="k"/> does, as contiguous arrays.</summary>
    internal PackedLaw Packed(int k) => _packed[k];

    /// <summary>The law that applies all of <paramref name="laws"/> at once: inputs add up, the tightest bound holds.</summary>
    /// <exception cref="ArgumentException">The laws are for models of different shape, or there is none.</exception>
    public static FeedbackLaw Sum(IReadOnlyList<FeedbackLaw> laws)
    {
        if (laws.Count == 0)
        {
            throw new ArgumentException("At least one law is needed.", nameof(laws));
        }

        var sensors = new List<Sensor>();
        var terms = new List<Term>();
        float bound = float.PositiveInfinity;
        foreach (var law in laws)
        {
            if (law.Layers != laws[0].Layers || law.Width != laws[0].Width)
            {
                throw new ArgumentException($"Laws of different models: L {laws[0].Layers}, D {laws[0].Width} and L {law.Layers}, D {law.Width}.",
                    nameof(laws));
            }

            int shift = sensors.Count;
            sensors.AddRange(law.Sensors);
            terms.AddRange(law.Terms.Select(t => t with { Sensor = t.Sensor < 0 ? -1 : t.Sensor + shift }));
            bound = MathF.Min(bound, law.MaxEffort);
        }

        return new FeedbackLaw(laws[0].Layers, laws[0].Width, sensors, terms, bound);
    }

    private static int[][] GroupByLayer(IEnumerable<int> layerOf, int layers)
    {
        var groups = new List<int>[layers];
        int index = 0;
        foreach (int k in layerOf)
        {
            (groups[k] ??= []).Add(index++);
        }

        return [.. groups.Select(g => g is null ? [] : g.ToArray())];
    }

    private static void CheckFinite(float value, string name, int layer)
    {
        if (!float.IsFinite(value))
        {
            throw new ArgumentOutOfRangeException(name, value, $"{name} at layer {layer} must be finite.");
        }
    }

    private void Check(int layer, float[] direction, string what)
    {
        if ((uint)layer >= (uint)Layers)
        {
            throw new ArgumentException($"Layer {layer} is outside 0..{Layers - 1}.", what);
        }

        if (direction.Length != Width)
        {
            throw new ArgumentException($"Direction at layer {layer} has {direction.Length} numbers, the model's width is {Width}.", what);
        }

        int bad = direction.AsSpan().IndexOfAnyExceptInRange(float.MinValue, float.MaxValue);
        if (bad >= 0)
        {
            throw new ArgumentException($"Direction at layer {layer} is {direction[bad]} at {bad}; it must be finite.", what);
        }
    }
}

/// <summary>
/// One block's part of a <see cref="FeedbackLaw"/> as a device reads it: all numbers in one array, the short ones first, then the directions
/// under each other. Between two blocks the weights pass through the cache, so that every further array would be one more miss.
/// </summary>
internal sealed class PackedLaw
{
    private const int LineInFloats = 16;

    private readonly float[] _numbers;
    private readonly int _directions;
    private readonly int _width;

    public PackedLaw(FeedbackLaw law, int k)
    {
        var sensors = law.SensorsOf(k);
        var terms = law.TermsOf(k);
        (SensorCount, TermCount, _width) = (sensors.Length, terms.Length, law.Width);
        _directions = ((2 * SensorCount) + (4 * TermCount) + LineInFloats - 1) / LineInFloats * LineInFloats;
        _numbers = new float[_directions + ((SensorCount + TermCount) * _width)];
        for (int i = 0; i < SensorCount; i++)
        {
            var sensor = law.Sensors[sensors[i]];
            _numbers[i] = BitConverter.Int32BitsToSingle(sensors[i]);
            _numbers[SensorCount + i] = sensor.Beta;
            sensor.V.CopyTo(_numbers.AsSpan(_directions + (i * _width)));
        }

        for (int i = 0; i < TermCount; i++)
        {
            var term = law.Terms[terms[i]];
            var at = _numbers.AsSpan((2 * SensorCount) + i);
            at[0] = BitConverter.Int32BitsToSingle(term.Sensor);
            at[TermCount] = term.C;
            at[2 * TermCount] = term.S;
            at[3 * TermCount] = TensorPrimitives.Norm<float>(term.W);
            term.W.CopyTo(_numbers.AsSpan(_directions + ((SensorCount + i) * _width)));
        }
    }

    /// <summary>m, sensors of this block.</summary>
    public int SensorCount { get; }

    /// <summary>n, terms of this block.</summary>
    public int TermCount { get; }

    /// <summary>Indices of the sensors of this block among all of the law's // (m).</summary>
    public ReadOnlySpan<int> Sensors => MemoryMarshal.Cast<float, int>(_numbers.AsSpan(0, SensorCount));

    /// <summary>Setpoints // (m).</summary>
    public ReadOnlySpan<float> Beta => _numbers.AsSpan(SensorCount, SensorCount);

    /// <summary>Sensor of each term among all of the law's, or -1 // (n).</summary>
    public ReadOnlySpan<int> TermSensor => MemoryMarshal.Cast<float, int>(Term(0));

    /// <summary>Open-loop strengths // (n).</summary>
    public ReadOnlySpan<float> C => Term(1);

    /// <summary>Gains // (n).</summary>
    public ReadOnlySpan<float> S => Term(2);

    /// <summary>|w| of each term // (n).</summary>
    public ReadOnlySpan<float> Lengths => Term(3);

    /// <summary>Directions read // (m, D).</summary>
    public ReadOnlySpan<float> V => _numbers.AsSpan(_directions, SensorCount * _width);

    /// <summary>Directions moved along // (n, D).</summary>
    public ReadOnlySpan<float> W => _numbers.AsSpan(_directions + (SensorCount * _width), TermCount * _width);

    private Span<float> Term(int field) => _numbers.AsSpan((2 * SensorCount) + (field * TermCount), TermCount);
}
