using System.Diagnostics;
using Tiller.Checkpoint;
using Tiller.Decode;
using Tiller.Kernels;
using Tiller.Law;
using Tiller.Model;
using Tiller.Ops;
using Tiller.Tokens;

namespace Tiller.Bench;

/// <summary>Random models, laws and vectors from fixed seeds.</summary>
internal static class RandomParts
{
    /// <summary>Creates the model of a request after a check of the memory.</summary>
    /// <param name="request">Shape, type, device, threads.</param>
    /// <param name="machine">The machine for the model.</param>
    /// <param name="extraInBytes">Memory in bytes that the measurement needs in addition to the weights.</param>
    /// <param name="tokenizer">The tokenizer of another model; null for none.</param>
    /// <exception cref="DeviceMemoryException">There is no room.</exception>
    public static LanguageModel Model(BenchRequest request, Machine machine, double extraInBytes, Tokenizer? tokenizer = null)
    {
        machine.Require(request.Counts.AllBytes + extraInBytes);
        return LanguageModel.WithRandomWeights(request.Shape.Config, request.Type, request.LoadOptions, tokenizer);
    }

    private const int CurveNodes = 100;

    /// <summary>Kinds of sensors and terms of a law.</summary>
    public enum LawKind
    {
        /// <summary>Each term has its own setpoint.</summary>
        Setpoints,

        /// <summary>Sensors only, without terms.</summary>
        Sensors,

        /// <summary>Each term has its own interval, and the layer a gate.</summary>
        GatedIntervals,

        /// <summary>Sensors form planes, each with a target angle.</summary>
        Planes,

        /// <summary>Setpoints whose terms move the block's input.</summary>
        Inputs,

        /// <summary>One setpoint, whose terms have strengths that are curves of its error, as those of predictive control.</summary>
        Curves,
    }

    /// <summary>
    /// Creates a feedback law with the given number of terms at every layer, each with its own sensor. The terms are weak, so that activations keep
    /// their size.
    /// </summary>
    public static FeedbackLaw Law(ModelConfig c, int termsPerLayer, int seed, LawKind kind = LawKind.Setpoints)
    {
        var random = new Random(seed);
        var sensors = new List<Sensor>();
        var terms = new List<Term>();
        var planes = new List<Plane>();
        var hook = kind == LawKind.Inputs ? Hook.Input : Hook.Output;
        for (int k = 0; k < c.L; k++)
        {
            int first = sensors.Count;
            float[] nodes = [.. Enumerable.Range(0, CurveNodes).Select(i => i / (CurveNodes - 1f))];
            for (int i = 0; i < termsPerLayer; i++)
            {
                int gate = kind == LawKind.GatedIntervals ? first : -1;
                var curve = kind == LawKind.Curves ? new ErrorCurve(nodes, nodes, [.. nodes.Select(_ => 1f)], 1e-3f, 1) : null;
                int read = kind == LawKind.Curves ? first : sensors.Count;
                terms.Add(new Term(k, Unit(random, c.D), 0, new Feed(read, 0.01f) { Curve = curve }) { Gate = gate, Hook = hook });
                float[] v = Unit(random, c.D);
                if (kind == LawKind.Curves && i > 0)
                {
                    continue;
                }

                sensors.Add(kind switch
                {
                    LawKind.GatedIntervals => new Sensor(k, v, -0.5f, 0.5f),
                    LawKind.Planes => new Sensor(k, v, 0f),
                    _ => new Sensor(k, v, 0.5f) { Hook = hook },
                });
                if (kind == LawKind.Planes && i % 2 == 1)
                {
                    planes.Add(new Plane(sensors.Count - 2, sensors.Count - 1, 0.6f, 0.8f));
                }
            }
        }

        return new FeedbackLaw(c.L, c.D, sensors, kind == LawKind.Sensors ? [] : terms, planes: planes);
    }

    /// <summary>Kinds of edits of a law without terms.</summary>
    public enum EditKind
    {
        /// <summary>A map of every neuron of a block's output.</summary>
        Affine,

        /// <summary>A direction removed from what attention and the feed-forward part add.</summary>
        Ablations,

        /// <summary>A vector added to a block's input, whose length is kept.</summary>
        KeptNorm,

        /// <summary>A flow of ten steps on 64 features at the middle block's output.</summary>
        Flow,
    }

    /// <summary>Creates a law of edits at every block, or a flow at one, weak enough that activations keep their size.</summary>
    public static FeedbackLaw Edits(ModelConfig c, int seed, EditKind kind)
    {
        var random = new Random(seed);
        float[] All(float value) => [.. Enumerable.Repeat(value, c.D)];
        var edits = new List<ActivationEdit>();
        for (int k = 0; k < c.L; k++)
        {
            switch (kind)
            {
                case EditKind.Affine:
                    edits.Add(new AffineEdit(k, EditPoint.Output, 0.1f, All(1.01f), Unit(random, c.D), All(-1e6f), All(1e6f)));
                    break;
                case EditKind.Ablations:
                    edits.Add(new AblationEdit(k, EditPoint.Attention, 1, Unit(random, c.D)));
                    edits.Add(new AblationEdit(k, EditPoint.FeedForward, 1, Unit(random, c.D)));
                    break;
                case EditKind.KeptNorm:
                    edits.Add(new NormKeepingEdit(k, EditPoint.Input, 0.1f, Unit(random, c.D), WholePass: false));
                    break;
                case EditKind.Flow when k == c.L / 2:
                    edits.Add(new FlowEdit(k, EditPoint.Output, 0.1f, CountSketch.Random(c.D, 64, 0.1, 1, seed: 1), Unit(random, 64), 10));
                    break;
            }
        }

        return new FeedbackLaw(c.L, c.D, [], [], edits: edits);
    }

    /// <summary>A direction // (D).</summary>
    public static float[] Unit(Random random, int d)
    {
        float[] v = new float[d];
        double squares = 0;
        for (int i = 0; i < d; i++)
        {
            v[i] = (float)((2 * random.NextDouble()) - 1);
            squares += v[i] * v[i];
        }

        float scale = (float)(1 / Math.Sqrt(squares));
        for (int i = 0; i < d; i++)
        {
            v[i] *= scale;
        }

        return v;
    }

    /// <summary>Token ids // (count).</summary>
    public static int[] Tokens(int vocabulary, int count, int seed)
    {
        var random = new Random(seed);
        int[] ids = new int[count];
        for (int i = 0; i < count; i++)
        {
            ids[i] = random.Next(vocabulary);
        }

        return ids;
    }
}

/// <summary>Sessions that stay near one length of context. When they have grown too long they are replaced, outside the measured time.</summary>
internal sealed class DecodeLoop : IDisposable
{
    /// <summary>Number of tokens by which the context is shorter than its nominal length at first, and longer at the end.</summary>
    public const int Margin = 64;

    private readonly LanguageModel _model;
    private readonly IReadOnlyList<FeedbackLaw?> _laws;
    private readonly SessionBatch? _batch;
    private readonly int[] _ids;
    private readonly int _context;
    private readonly int _first;
    private readonly int _last;
    private readonly Sampler[] _samplers;
    private BatchRow[] _rows = [];

    /// <summary>Creates one session for each of <paramref name="laws"/>. Several sessions are stepped as a batch.</summary>
    public DecodeLoop(LanguageModel model, int context, params IReadOnlyList<FeedbackLaw?> laws)
    {
        (_model, _context, _laws) = (model, context, laws);
        (_first, _last) = (Math.Max(1, context - Margin), LastLength(context));
        if (_last > model.Config.MaxPositions)
        {
            throw new BenchException($"A context of {context} tokens is held up to {_last}; this shape has {model.Config.MaxPositions} positions. "
                + "Use a shorter --context.");
        }

        _ids = RandomParts.Tokens(model.Config.V, laws.Count, seed: 3);
        _batch = laws.Count > 1 ? new SessionBatch(model) : null;
        using var stepper = model.NewStepper();
        _samplers = stepper.Draws ? [.. laws.Select(_ => new Sampler(new SamplingOptions(), model.Config.V))] : [];
    }

    /// <summary>Makes the law of a loop of one session anew in front of every token; null to leave it.</summary>
    public Func<Session, int, FeedbackLaw>? Refit { get; init; }

    /// <summary>Maximum length of a context of a nominal length.</summary>
    public static int LastLength(int context) => context + Math.Min(context, Margin);

    /// <summary>Maximum number of steps between two replacements.</summary>
    public int MaxRuns => Math.Max(1, _last - _first - 2);

    /// <summary>A step as a row of the bench: it reads all weights, and the keys and values of the nominal context for each session.</summary>
    /// <param name="name">Name of the row.</param>
    /// <param name="counts">Bytes and FLOPs of the model.</param>
    public Work AsWork(string name, Counts counts)
    {
        int sessions = _laws.Count;
        return new Work
        {
            Name = name,
            Bytes = counts.DecodeBytes + (sessions * counts.CacheBytes(_context)),
            Flops = sessions * (counts.RowFlops(_context) + counts.HeadFlops),
            WorkingSet = counts.DecodeBytes,
            Rows = sessions,
            Amount = sessions,
            RateUnit = "tok/s",
            Prepare = Prepare,
            MaxRuns = MaxRuns,
            Run = Step,
        };
    }

    /// <summary>Makes sure that the given number of steps is possible, with room for one more that a device begins ahead.</summary>
    public void Prepare(int steps)
    {
        if (_rows.Length > 0 && _rows[0].Session.Length + steps < _last)
        {
            return;
        }

        Release();
        _rows = [.. _laws.Select((law, i) => new BatchRow(new Session(_model, law), _samplers.ElementAtOrDefault(i)))];
        foreach (var row in _rows)
        {
            Place(row.Session);
        }

        // The first step allocates scratch memory.
        Step();
    }

    /// <summary>Decodes one token for every session and waits as a user would: for the logits, or for the next token if a device draws it.</summary>
    public void Step()
    {
        if (Refit is not null)
        {
            Debug.Assert(_rows.Length == 1, "laws are made anew for one session alone");
            _rows[0].Session.Use(Refit(_rows[0].Session, _ids[0]));
        }

        if (_batch is not null)
        {
            _batch.Step(_rows, _ids);
            if (_samplers.Length > 0)
            {
                _batch.Draw(_rows, _ids);
            }
        }
        else if (_samplers.Length > 0)
        {
            _rows[0].Session.Append(_ids[0]);
            _ids[0] = _rows[0].Session.Draw(_samplers[0]);
        }
        else
        {
            _rows[0].Session.Step(_ids[0]);
        }
    }

    public void Dispose()
    {
        Release();
        _batch?.Dispose();
    }

    // Keys and values of zero have the same cost as others, and need no prefill.
    private void Place(Session session)
    {
        session.Cache.Reserve(_last, used: 0);
        session.Prepare(new int[_first]);
        session.Advance(_first);
    }

    private void Release()
    {
        foreach (var row in _rows)
        {
            row.Session.Dispose();
        }

        _rows = [];
    }
}

/// <summary>Decodes one token at a fixed position together with tangents of its residual stream.</summary>
internal sealed class TangentLoop : IDisposable
{
    private readonly LanguageModel _model;
    private readonly Stepper _stepper;
    private readonly KvCache _cache;
    private readonly DeviceBuffer _tangents; // (tangents, D)
    private readonly int _count;
    private readonly float[] _logits;
    private readonly DeviceBuffer _logitsOnDevice;
    private readonly int _position;

    private readonly int[] _id = new int[1];

    private static readonly DrawSettings[] s_greedy = [new(Temperature: 0, TopK: 0, TopP: 1, MinP: 0, Random: 0)];

    /// <summary>Prepares scratch memory.</summary>
    public TangentLoop(LanguageModel model, int position, int tangents)
    {
        (_model, _position) = (model, position);
        _stepper = model.NewStepper();
        _stepper.A.Reserve(1 + tangents);
        _cache = model.NewCache();
        _cache.Reserve(position + 1, used: 0);
        var random = new Random(5);
        _count = tangents;
        _tangents = model.Ops.Allocate(4L * tangents * model.Config.D);
        for (int i = 0; i < tangents; i++)
        {
            model.Ops.UploadRow(RandomParts.Unit(random, model.Config.D), new Floats(_tangents.Address, tangents, model.Config.D), i);
        }

        _logits = new float[model.Config.V];
        _logitsOnDevice = model.Ops.Allocate(4L * model.Config.V);
    }

    /// <summary>Runs the token, its tangents and its logits.</summary>
    public void Step()
    {
        _stepper.Rows.Clear();
        _stepper.Rows.Add(1, _position, _cache, steering: null, _count);
        _model.Ops.Copy(_tangents.Address, _stepper.A.X.Slice(1, _count).Address, _tangents.SizeInBytes);
        var logits = new Floats(_logitsOnDevice.Address, 1, _logits.Length);
        var idle = _stepper.State.Drop();
        idle.Run(logits, CancellationToken.None);
        if (_stepper.Draws)
        {
            idle.Draw(logits, s_greedy, _id);
        }
        else
        {
            _model.Ops.DownloadRow(logits, 0, _logits);
        }
    }

    public void Dispose()
    {
        _cache.Dispose();
        _stepper.Dispose();
        _tangents.Dispose();
        _logitsOnDevice.Dispose();
    }
}
