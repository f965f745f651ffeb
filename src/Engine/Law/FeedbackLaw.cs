namespace Tiller.Law;

// Sign convention: the error e = target − v·x is the deficit of the projection, and u = K e is added to the block's output.

/// <summary>Where a law moves the residual stream of a block, and which state its sensors read.</summary>
public enum Hook
{
    /// <summary>The block's output; the sensors read the block's input.</summary>
    Output,

    /// <summary>
    /// The block's input. It is moved before attention, the residual and the sensors of <see cref="Output"/> read it. At block 0 it is the embedding.
    /// </summary>
    Input,
}

/// <summary>
/// Reads the projection V·x of a block's input, and gives its error: the nearest number of the interval [Low, High] minus V·x. A setpoint β is the
/// interval [β, β]; an infinite end leaves that side open.
/// </summary>
/// <param name="Layer">Block k whose input is read.</param>
/// <param name="V">Direction v // (D).</param>
/// <param name="Low">Lower end of the interval; negative infinity for none.</param>
/// <param name="High">Upper end of the interval, at least <paramref name="Low"/>; infinity for none.</param>
public sealed record Sensor(int Layer, float[] V, float Low, float High)
{
    /// <summary>
    /// Whether the sensor reads the block's input after the terms at <see cref="Hook.Input"/> have moved it, the default, or before.
    /// </summary>
    public Hook Hook { get; init; }

    /// <summary>Makes a sensor with a setpoint; its error is α = β − V·x.</summary>
    /// <param name="layer">Block k whose input is read.</param>
    /// <param name="v">Direction v // (D).</param>
    /// <param name="beta">Setpoint β of the projection.</param>
    public Sensor(int layer, float[] v, float beta)
        : this(layer, v, beta, beta)
    {
    }

    /// <summary>The setpoint β; NaN if the interval has different ends.</summary>
    public float Beta => Low == High ? Low : float.NaN;

    /// <summary>Computes the projection V·x from an error; NaN inside an interval, where the error is 0 for every projection.</summary>
    /// <param name="error">The sensor's error. The sensor must not belong to a <see cref="Plane"/>.</param>
    public float Projection(float error) => Low == High || error > 0 ? Low - error : error < 0 ? High - error : float.NaN;
}

/// <summary>
/// Joins two sensors of one block, both with setpoint 0, whose directions b₁ and b₂ are orthonormal. With Px = (b₁·x, b₂·x), their errors become
/// |Px| t − Px: the target keeps the length in the plane and sets the angle (docs/math.md §2).
/// </summary>
/// <param name="First">Index of the sensor of b₁ in <see cref="FeedbackLaw.Sensors"/>.</param>
/// <param name="Second">Index of the sensor of b₂ in <see cref="FeedbackLaw.Sensors"/>.</param>
/// <param name="T1">t₁ = cos θ, the target along b₁.</param>
/// <param name="T2">t₂ = sin θ, the target along b₂.</param>
public sealed record Plane(int First, int Second, float T1, float T2);

/// <summary>An entry of the matrix m between errors and strengths: it adds Gain times an error to a term's strength.</summary>
/// <param name="Sensor">
/// Index into <see cref="FeedbackLaw.Sensors"/>. A sensor of the term's layer or of an earlier layer gives the error of this token; a sensor of a
/// later layer gives the error of the previous steered token, or 0 if there is none.
/// </param>
/// <param name="Gain">m_ij of this term and sensor.</param>
public readonly record struct Feed(int Sensor, float Gain)
{
    /// <summary>What of the error is added: Gain times φ(e); null for the error itself.</summary>
    public ErrorCurve? Curve { get; init; }
}

/// <summary>Adds (C + Σ_j m_j φ_j(e_j)) W to the output of a block, or to its input.</summary>
/// <param name="Layer">Block k that the term steers.</param>
/// <param name="W">Direction w // (D).</param>
/// <param name="C">Open-loop strength c.</param>
/// <param name="Feeds">The term's row of the matrix m, summed in this order; empty for a term without feedback.</param>
public sealed record Term(int Layer, float[] W, float C, params IReadOnlyList<Feed> Feeds)
{
    /// <summary>
    /// Index of the sensor that gates the term for each token: the term acts only if the sensor's error is negative, so that the projection is above
    /// the setpoint. The default, −1, is no gate. <see cref="Feed.Sensor"/> tells which token's error is used.
    /// </summary>
    public int Gate { get; init; } = -1;

    /// <summary>Index into <see cref="FeedbackLaw.Conditions"/> of what a prompt must meet for the term to act; the default, −1, is none.</summary>
    public int Condition { get; init; } = -1;

    /// <summary>Whether the term moves the block's output, the default, or its input.</summary>
    public Hook Hook { get; init; }
}

/// <summary>
/// The run-time form of every low-rank steering method (docs/math.md §6). At block k, u_k = Σ_i (c_i + Σ_j m_ij φ_ij(e_j)) w_i is added to the
/// block's output or input, without the terms whose gate is closed. u_k may be bounded, |u_k| ≤ MaxEffort. Edits change activations in other ways.
/// A law without terms and edits is the plain model, bit for bit. A law is immutable, so that sessions can share it.
/// </summary>
public sealed class FeedbackLaw
{
    /// <summary>Checks the parts and groups them by layer.</summary>
    /// <param name="layers">L of the model the law is for.</param>
    /// <param name="width">D of the model the law is for.</param>
    /// <param name="sensors">All sensors, in any order; terms refer to them by index.</param>
    /// <param name="terms">All terms, in any order; within a layer they are summed in this order.</param>
    /// <param name="maxEffort">Bound on |u_k| at each layer and hook; positive infinity for none.</param>
    /// <param name="planes">Pairs of sensors with an angle as their target; null for none.</param>
    /// <param name="edits">Edits of activations, at a point of a block in this order; null for none.</param>
    /// <param name="conditions">What prompts are asked, for terms and edits that act on some alone; null for nothing.</param>
    /// <exception cref="ArgumentException">A layer, length, index or number is out of range.</exception>
    /// <exception cref="LawCombinationException">
    /// The parts do not go together: edits and a bound, or an edit that rows decide on together and anything that runs them one by one or acts behind
    /// it.
    /// </exception>
    public FeedbackLaw(
        int layers,
        int width,
        IReadOnlyList<Sensor> sensors,
        IReadOnlyList<Term> terms,
        float maxEffort = float.PositiveInfinity,
        IReadOnlyList<Plane>? planes = null,
        IReadOnlyList<ActivationEdit>? edits = null,
        IReadOnlyList<PromptCondition>? conditions = null)
    {
        Layers = layers;
        Width = width;
        Sensors = sensors;
        Terms = terms;
        Planes = planes ?? [];
        Edits = edits ?? [];
        Conditions = conditions ?? [];
        Undecided = this;
        MaxEffort = maxEffort;
        if (!(maxEffort > 0))
        {
            throw new ArgumentException($"The bound on |u| must be positive, got {maxEffort}.", nameof(maxEffort));
        }

        foreach (var s in sensors)
        {
            Check(s.Layer, s.V, nameof(sensors));
            if (!(s.Low <= s.High) || s.Low == float.PositiveInfinity || s.High == float.NegativeInfinity)
            {
                throw new ArgumentOutOfRangeException(
                    nameof(sensors),
                    $"{s.Low} to {s.High}",
                    $"The sensor at layer {s.Layer} needs a finite setpoint, or an interval from a low end to a high one, "
                    + "either of which may be infinite.");
            }
        }

        foreach (var t in terms)
        {
            Check(t.Layer, t.W, nameof(terms));
            CheckFinite(t.C, "c", t.Layer);
            foreach (var feed in t.Feeds)
            {
                CheckFinite(feed.Gain, "m", t.Layer);
                CheckSensor(t.Layer, feed.Sensor, nameof(terms));
            }

            if (t.Gate != -1)
            {
                CheckSensor(t.Layer, t.Gate, nameof(terms));
            }

            CheckCondition(t.Layer, t.Condition, nameof(terms));
        }

        CheckPlanes(nameof(planes));
        foreach (var e in Edits)
        {
            CheckLayer(e.Layer, nameof(edits));
            e.Check(width);
            EditedPoints |= 1 << (int)e.Point;
            JoinsRows |= e.JoinsRows;
            if (e.Gate != -1)
            {
                CheckSensor(e.Layer, e.Gate, nameof(edits));
            }

            CheckCondition(e.Layer, e.Condition, nameof(edits));
        }

        foreach (var condition in Conditions)
        {
            condition.Check(layers, width);
        }

        bool atInputs = sensors.Any(s => s.Hook == Hook.Input) || terms.Any(t => t.Hook == Hook.Input) || Edits.Any(e => e.Point == EditPoint.Input);
        Stages = atInputs ? 2 * layers : layers;
        bool IsLater(Term t, int sensor) => sensor >= 0 && Time(sensors[sensor].Layer, sensors[sensor].Hook) > Time(t.Layer, t.Hook);
        _fedBack = [.. terms.SelectMany(term => term.Feeds, (_, feed) => feed.Sensor).Distinct().Order()];
        LooksBack = terms.Any(t => t.Feeds.Any(feed => IsLater(t, feed.Sensor)) || IsLater(t, t.Gate))
            || Edits.Any(e => e.Gate >= 0 && Time(sensors[e.Gate].Layer, sensors[e.Gate].Hook) > Time(e.Layer, HookOf(e.Point)));
        _sensorsOf = GroupByStage(sensors.Select(s => Stage(s.Layer, s.Hook)));
        _termsOf = GroupByStage(terms.Select(t => Stage(t.Layer, t.Hook)));
        _editsOf = new ActivationEdit[EditStages][];
        for (int i = 0; i < _editsOf.Length; i++)
        {
            _editsOf[i] = [.. Edits.Where(e => EditStage(e.Layer, e.Point) == i)];
        }

        CheckEdits();
        _packed = [.. Enumerable.Range(0, Stages).Select(stage => new PackedLaw(this, stage))];
    }

    // The input stage of a block comes before its output stage.
    private static int Time(int layer, Hook hook) => (2 * layer) + (hook == Hook.Input ? 0 : 1);

    private static Hook HookOf(EditPoint point) => point == EditPoint.Input ? Hook.Input : Hook.Output;

    private readonly ActivationEdit[][] _editsOf; // (points, L), or nothing without edits
    private readonly int[][] _sensorsOf;
    private readonly int[] _fedBack;
    private readonly int[][] _termsOf;
    private readonly PackedLaw[] _packed;

    /// <summary>L of the model this law is for.</summary>
    public int Layers { get; }

    /// <summary>D of the model this law is for.</summary>
    public int Width { get; }

    /// <summary>All sensors. A session keeps one error for each.</summary>
    public IReadOnlyList<Sensor> Sensors { get; }

    /// <summary>All terms.</summary>
    public IReadOnlyList<Term> Terms { get; }

    /// <summary>Pairs of sensors with an angle as their target. A sensor belongs to at most one pair.</summary>
    public IReadOnlyList<Plane> Planes { get; }

    /// <summary>Every edit.</summary>
    public IReadOnlyList<ActivationEdit> Edits { get; }

    /// <summary>Every condition on the prompt. A law with any acts as soon as it has been decided for a prompt, which a session does.</summary>
    public IReadOnlyList<PromptCondition> Conditions { get; }

    /// <summary>Which conditions of <see cref="Undecided"/> the prompt met; empty of a law that was not decided.</summary>
    public IReadOnlyList<bool> Decisions { get; private init; } = [];

    /// <summary>The law that this one was decided from; itself, if it was not.</summary>
    public FeedbackLaw Undecided { get; private init; }

    /// <summary>Bound on |u_k| at each layer and hook; positive infinity for none.</summary>
    public float MaxEffort { get; }

    /// <summary>The sensors that a term feeds back, in order. A sensor that only gates use has no setpoint to track.</summary>
    public ReadOnlySpan<int> FedBack() => _fedBack;

    /// <summary>Whether a term uses an error of the previous steered token, so that steered tokens must be run one after another.</summary>
    public bool LooksBack { get; }

    /// <summary>
    /// Number of stages. Stage k moves the output of block k. If the law uses <see cref="Hook.Input"/>, it has 2 L stages, and stage L + k moves the
    /// input of block k.
    /// </summary>
    internal int Stages { get; }

    /// <summary>The stage that runs first.</summary>
    internal int FirstStage => Stages - Layers;

    /// <summary>Whether the law has stages for block inputs.</summary>
    internal bool MovesInputs => Stages > Layers;

    /// <summary>
    /// Indices into <see cref="Sensors"/> of the sensors that read block <paramref name="k"/>'s input at <see cref="Hook.Output"/>.
    /// </summary>
    public ReadOnlySpan<int> SensorsOf(int k) => _sensorsOf[k];

    /// <summary>Indices into <see cref="Terms"/> of the terms that move block <paramref name="k"/>'s output.</summary>
    public ReadOnlySpan<int> TermsOf(int k) => _termsOf[k];

    /// <summary>Edits at one point of block <paramref name="k"/>, in order.</summary>
    public ReadOnlySpan<ActivationEdit> EditsOf(int k, EditPoint point) => _editsOf.Length == 0 ? [] : _editsOf[EditStage(k, point)];

    /// <summary>Points of blocks with edits, a bit for each <see cref="EditPoint"/>.</summary>
    internal int EditedPoints { get; }

    /// <summary>Whether an edit scales the rows of a pass back together.</summary>
    internal bool JoinsRows { get; }

    /// <summary>Whether anything moves block <paramref name="k"/>'s output or its input, or edits what is in it.</summary>
    public bool Moves(int k) => _termsOf[k].Length > 0 || (MovesInputs && _termsOf[Layers + k].Length > 0) || IsEdited(k);

    /// <summary>Whether block <paramref name="k"/> has an edit.</summary>
    internal bool IsEdited(int k)
    {
        for (int at = k; at < _editsOf.Length; at += Layers)
        {
            if (_editsOf[at].Length > 0)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Number of points that edits may be at, four in every block; 0 of a law without edits.</summary>
    internal int EditStages => Edits.Count == 0 ? 0 : EditStage(Layers, 0, EditPoint.Output + 1);

    /// <summary>Index of a point of a block among all points of <paramref name="layers"/> blocks, those of one kind side by side.</summary>
    internal static int EditStage(int layers, int k, EditPoint point) => ((int)point * layers) + k;

    /// <summary><see cref="EditStage(int, int, EditPoint)"/> in the model that the law is for.</summary>
    internal int EditStage(int k, EditPoint point) => EditStage(Layers, k, point);

    /// <summary>A stage as contiguous arrays.</summary>
    internal PackedLaw Packed(int stage) => _packed[stage];

    /// <summary>Computes |u_k| and |x_k| of each block. The lengths at its input, inside it and at its output are added.</summary>
    /// <param name="inputs">|u| of every stage // (stages).</param>
    /// <param name="states">|x| of every stage that has a term // (stages).</param>
    /// <param name="edits">|Δz| of every point // (<see cref="EditStages"/>).</param>
    /// <param name="inputNorms">Result: |u_k| // (L).</param>
    /// <param name="stateNorms">
    /// Result: |x_k|, as the output stage read it if that stage has a term or the block an edit, else as the input stage did // (L).
    /// </param>
    internal void PerBlock(
        ReadOnlySpan<float> inputs, ReadOnlySpan<float> states, ReadOnlySpan<float> edits, Span<float> inputNorms, Span<float> stateNorms)
    {
        inputs[..Layers].CopyTo(inputNorms);
        states[..Layers].CopyTo(stateNorms);
        for (int k = 0; k < Stages - Layers; k++)
        {
            inputNorms[k] += inputs[Layers + k];
            stateNorms[k] = _packed[k].KeepsNorm ? stateNorms[k] : states[Layers + k];
        }

        for (int i = 0; i < edits.Length; i++)
        {
            inputNorms[i % Layers] += edits[i];
        }
    }

    private int Stage(int layer, Hook hook) => hook == Hook.Input ? Layers + layer : layer;

    /// <summary>
    /// Makes the law that applies all of <paramref name="laws"/> at once: their inputs u_k add up, the smallest bound holds, and their edits follow
    /// one another. The sum of one law is that law.
    /// </summary>
    /// <exception cref="ArgumentException">The laws are for models of different shapes, or there are none.</exception>
    /// <exception cref="LawCombinationException">One of them is bounded and another edits activations, or two edits exclude each other.</exception>
    public static FeedbackLaw Sum(IReadOnlyList<FeedbackLaw> laws)
    {
        if (laws.Count == 0)
        {
            throw new ArgumentException("At least one law is needed.", nameof(laws));
        }

        if (laws.Count == 1)
        {
            return laws[0];
        }

        var sensors = new List<Sensor>();
        var terms = new List<Term>();
        var planes = new List<Plane>();
        var edits = new List<ActivationEdit>();
        var conditions = new List<PromptCondition>();
        float bound = float.PositiveInfinity;
        foreach (var law in laws)
        {
            if (law.Layers != laws[0].Layers || law.Width != laws[0].Width)
            {
                throw new ArgumentException($"Laws of different models: L {laws[0].Layers}, D {laws[0].Width} and L {law.Layers}, D {law.Width}.",
                    nameof(laws));
            }

            int shift = sensors.Count, asked = conditions.Count;
            sensors.AddRange(law.Sensors);
            conditions.AddRange(law.Conditions);
            int Shifted(int sensor) => sensor < 0 ? -1 : sensor + shift;
            int Asked(int condition) => condition < 0 ? -1 : condition + asked;
            terms.AddRange(law.Terms.Select(t => t with
            {
                Feeds = [.. t.Feeds.Select(f => f with { Sensor = Shifted(f.Sensor) })],
                Gate = Shifted(t.Gate),
                Condition = Asked(t.Condition),
            }));
            planes.AddRange(law.Planes.Select(p => p with { First = Shifted(p.First), Second = Shifted(p.Second) }));
            edits.AddRange(law.Edits.Select(e => e with { Gate = Shifted(e.Gate), Condition = Asked(e.Condition) }));
            bound = MathF.Min(bound, law.MaxEffort);
        }

        return new FeedbackLaw(laws[0].Layers, laws[0].Width, sensors, terms, bound, planes, edits, conditions);
    }

    /// <summary>
    /// Restricts the law to some blocks: terms and edits of other blocks are left out, and so are sensors and conditions on the prompt that none of
    /// those that remain uses.
    /// </summary>
    /// <param name="layers">The blocks. Blocks that the model does not have are ignored.</param>
    public FeedbackLaw Within(LayerSet layers)
    {
        ArgumentNullException.ThrowIfNull(layers);
        Term[] terms = [.. Terms.Where(t => layers.Contains(t.Layer))];
        ActivationEdit[] edits = [.. Edits.Where(e => layers.Contains(e.Layer))];
        var used = terms.SelectMany(t => t.Feeds.Select(feed => feed.Sensor).Append(t.Gate)).Concat(edits.Select(e => e.Gate))
            .Where(sensor => sensor >= 0).ToHashSet();
        Plane[] planes = [.. Planes.Where(plane => used.Contains(plane.First) || used.Contains(plane.Second))];
        used.UnionWith(planes.SelectMany(plane => new[] { plane.First, plane.Second }));
        int[] kept = [.. used.Order()];
        int[] asked = [.. terms.Select(t => t.Condition).Concat(edits.Select(e => e.Condition)).Where(asks => asks >= 0).Distinct().Order()];
        int Moved(int sensor) => sensor < 0 ? -1 : Array.BinarySearch(kept, sensor);
        int Asked(int condition) => condition < 0 ? -1 : Array.BinarySearch(asked, condition);
        return new FeedbackLaw(
            Layers, Width, [.. kept.Select(sensor => Sensors[sensor])],
            [.. terms.Select(t => t with
            {
                Feeds = [.. t.Feeds.Select(feed => feed with { Sensor = Moved(feed.Sensor) })],
                Gate = Moved(t.Gate),
                Condition = Asked(t.Condition),
            })],
            MaxEffort, [.. planes.Select(plane => plane with { First = Moved(plane.First), Second = Moved(plane.Second) })],
            [.. edits.Select(e => e with { Gate = Moved(e.Gate), Condition = Asked(e.Condition) })],
            [.. asked.Select(condition => Conditions[condition])]);
    }

    /// <summary>
    /// The law for a prompt: without the terms and edits whose condition it does not meet. All sensors stay, so that what is read does not depend on
    /// the prompt.
    /// </summary>
    /// <param name="holds">Whether each of <see cref="Conditions"/> is met.</param>
    /// <exception cref="ArgumentException">There are more or fewer answers than conditions.</exception>
    public FeedbackLaw Decide(IReadOnlyList<bool> holds)
    {
        if (holds.Count != Conditions.Count)
        {
            throw new ArgumentException($"The law has {Conditions.Count} conditions, got {holds.Count} answers.", nameof(holds));
        }

        if (holds.Count == 0)
        {
            return this;
        }

        return new FeedbackLaw(
            Layers, Width, Sensors, [.. Terms.Where(t => t.Condition < 0 || holds[t.Condition]).Select(t => t with { Condition = -1 })], MaxEffort,
            Planes, [.. Edits.Where(e => e.Condition < 0 || holds[e.Condition]).Select(e => e with { Condition = -1 })])
        {
            Decisions = [.. holds],
            Undecided = this,
        };
    }

    private int[][] GroupByStage(IEnumerable<int> stageOf)
    {
        var groups = new List<int>[Stages];
        int index = 0;
        foreach (int stage in stageOf)
        {
            (groups[stage] ??= []).Add(index++);
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

    private void CheckSensor(int layer, int sensor, string what)
    {
        if ((uint)sensor >= (uint)Sensors.Count)
        {
            throw new ArgumentException($"What acts at layer {layer} refers to sensor {sensor}; there are {Sensors.Count}, counted from 0.", what);
        }
    }

    private void CheckCondition(int layer, int condition, string what)
    {
        if (condition < -1 || condition >= Conditions.Count)
        {
            throw new ArgumentException(
                $"What acts at layer {layer} refers to condition {condition}; there are {Conditions.Count}, counted from 0.", what);
        }
    }

    private void CheckPlanes(string what)
    {
        var taken = new HashSet<int>();
        foreach (var plane in Planes)
        {
            foreach (int i in (ReadOnlySpan<int>)[plane.First, plane.Second])
            {
                if ((uint)i >= (uint)Sensors.Count || Sensors[i].Beta != 0 || !taken.Add(i)
                    || Sensors[i].Layer != Sensors[plane.First].Layer || Sensors[i].Hook != Sensors[plane.First].Hook)
                {
                    throw new ArgumentException(
                        $"A plane joins two sensors of one layer and hook, each with setpoint 0 and in no other plane; "
                        + $"sensor {i} of {Sensors.Count} is not.",
                        what);
                }
            }

            // t must be a unit vector in float32.
            if (!(MathF.Abs(1 - ((plane.T1 * plane.T1) + (plane.T2 * plane.T2))) < 1e-5f))
            {
                throw new ArgumentException(
                    $"The target of the plane at layer {Sensors[plane.First].Layer} is ({plane.T1}, {plane.T2}); it must be of unit length, "
                    + "the cosine and sine of an angle.",
                    what);
            }
        }
    }

    private void CheckEdits()
    {
        if (Edits.Count > 0 && !float.IsPositiveInfinity(MaxEffort))
        {
            throw new LawCombinationException(
                $"The bound maxEffort = {MaxEffort} holds what sensors and terms add to a state; this law also edits activations in place "
                + $"({Edits.Count} edits), which the bound cannot hold. Leave the bound out, or steer by methods without edits alone.");
        }

        var joined = _editsOf.FirstOrDefault(edits => edits.Any(e => e.JoinsRows) && (LooksBack || edits[..^1].Any(e => e.JoinsRows)));
        if (joined is not null)
        {
            throw new LawCombinationException(
                $"At layer {joined[0].Layer} the tokens of a pass are scaled back together (NormRule.Pass). Nothing may be edited there after it, "
                + "and no term or gate may look back at the token before, since the tokens are run one by one then. Use one of the two controllers "
                + "alone, or NormRule.Token.");
        }
    }

    private void CheckLayer(int layer, string what)
    {
        if ((uint)layer >= (uint)Layers)
        {
            throw new ArgumentException($"Layer {layer} is outside 0..{Layers - 1}.", what);
        }
    }

    private void Check(int layer, float[] direction, string what)
    {
        CheckLayer(layer, what);
        if (direction.Length != Width)
        {
            throw new ArgumentException($"Direction at layer {layer} has {direction.Length} numbers; the model's width is {Width}.", what);
        }

        int bad = direction.AsSpan().IndexOfAnyExceptInRange(float.MinValue, float.MaxValue);
        if (bad >= 0)
        {
            throw new ArgumentException($"Direction at layer {layer} is {direction[bad]} at {bad}; it must be finite.", what);
        }
    }
}
