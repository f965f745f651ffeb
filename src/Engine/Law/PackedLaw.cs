using System.Numerics.Tensors;
using System.Runtime.InteropServices;

namespace Tiller.Law;

/// <summary>
/// One stage of a <see cref="FeedbackLaw"/> in the layout that devices read: all numbers in one array, first the short lists, then the directions,
/// row after row. One array, because the weights of a block evict the law from the cache before the next stage, and every further array would cost a
/// cache miss.
/// </summary>
internal sealed class PackedLaw
{
    private const int LineInFloats = 16;

    private readonly float[] _numbers;
    private readonly ErrorCurve?[]? _curves;
    private readonly int _terms;
    private readonly int _feeds;
    private readonly int _planes;
    private readonly int _directions;
    private readonly int _width;

    public PackedLaw(FeedbackLaw law, int stage)
    {
        var sensors = law.SensorsOf(stage);
        Term[] terms = [.. law.TermsOf(stage).ToArray().Select(i => law.Terms[i])];
        int[] here = sensors.ToArray();
        Plane[] planes = [.. law.Planes.Where(plane => here.Contains(plane.First))];
        (SensorCount, TermCount, PlaneCount, _width) = (sensors.Length, terms.Length, planes.Length, law.Width);
        FeedCount = terms.Sum(t => t.Feeds.Count);
        KeepsNorm = TermCount > 0 || (stage < law.Layers && law.IsEdited(stage));
        _terms = 3 * SensorCount;
        _feeds = _terms + (4 * TermCount) + 1;
        _planes = _feeds + (2 * FeedCount);
        _directions = (_planes + (4 * PlaneCount) + LineInFloats - 1) / LineInFloats * LineInFloats;
        _numbers = new float[_directions + ((SensorCount + TermCount) * _width)];
        var ints = MemoryMarshal.Cast<float, int>(_numbers.AsSpan());
        for (int i = 0; i < SensorCount; i++)
        {
            var sensor = law.Sensors[sensors[i]];
            ints[i] = sensors[i];
            _numbers[SensorCount + i] = sensor.Low;
            _numbers[(2 * SensorCount) + i] = sensor.High;
            Bends |= sensor.Low != sensor.High;
            sensor.V.CopyTo(_numbers.AsSpan(_directions + (i * _width)));
        }

        int fed = 0;
        for (int i = 0; i < TermCount; i++)
        {
            var term = terms[i];
            _numbers[_terms + i] = term.C;
            _numbers[_terms + TermCount + i] = TensorPrimitives.Norm<float>(term.W);
            ints[_terms + (2 * TermCount) + i] = term.Gate;
            foreach (var feed in term.Feeds)
            {
                if (feed.Curve is not null)
                {
                    _curves ??= new ErrorCurve?[FeedCount];
                    _curves[fed] = feed.Curve;
                }

                ints[_feeds + fed] = feed.Sensor;
                _numbers[_feeds + FeedCount + fed++] = feed.Gain;
            }

            ints[_terms + (3 * TermCount) + i + 1] = fed;
            term.W.CopyTo(_numbers.AsSpan(_directions + ((SensorCount + i) * _width)));
        }

        for (int i = 0; i < PlaneCount; i++)
        {
            (ints[_planes + (2 * i)], ints[_planes + (2 * i) + 1]) = (sensors.IndexOf(planes[i].First), sensors.IndexOf(planes[i].Second));
            int targets = _planes + (2 * PlaneCount) + (2 * i);
            (_numbers[targets], _numbers[targets + 1]) = (planes[i].T1, planes[i].T2);
        }

        Bends |= PlaneCount > 0;
    }

    /// <summary>m, the number of sensors of this stage.</summary>
    public int SensorCount { get; }

    /// <summary>n, the number of terms of this stage.</summary>
    public int TermCount { get; }

    /// <summary>f, the number of feeds of all terms of this stage.</summary>
    public int FeedCount { get; }

    /// <summary>Number of planes of this stage.</summary>
    public int PlaneCount { get; }

    /// <summary>Whether the stage has an interval or a plane, whose errors have a derivative that depends on the state.</summary>
    public bool Bends { get; }

    /// <summary>Whether |x| is wanted: the stage has a term, or its block an edit.</summary>
    public bool KeepsNorm { get; }

    /// <summary>Index in the law of each sensor of this stage // (m).</summary>
    public ReadOnlySpan<int> Sensors => Ints(0, SensorCount);

    /// <summary>Lower ends of the intervals; of a setpoint, the setpoint // (m).</summary>
    public ReadOnlySpan<float> Low => _numbers.AsSpan(SensorCount, SensorCount);

    /// <summary>Upper ends of the intervals; of a setpoint, the setpoint // (m).</summary>
    public ReadOnlySpan<float> High => _numbers.AsSpan(2 * SensorCount, SensorCount);

    /// <summary>Open-loop strengths // (n).</summary>
    public ReadOnlySpan<float> C => _numbers.AsSpan(_terms, TermCount);

    /// <summary>|w| of each term // (n).</summary>
    public ReadOnlySpan<float> Lengths => _numbers.AsSpan(_terms + TermCount, TermCount);

    /// <summary>Index in the law of the sensor that gates each term, or -1 // (n).</summary>
    public ReadOnlySpan<int> Gates => Ints(_terms + (2 * TermCount), TermCount);

    /// <summary>Index of each term's first feed, and f at the end // (n + 1).</summary>
    public ReadOnlySpan<int> FeedBegins => Ints(_terms + (3 * TermCount), TermCount + 1);

    /// <summary>Index in the law of each feed's sensor // (f).</summary>
    public ReadOnlySpan<int> FeedSensors => Ints(_feeds, FeedCount);

    /// <summary>Gain of each feed // (f).</summary>
    public ReadOnlySpan<float> FeedGains => _numbers.AsSpan(_feeds + FeedCount, FeedCount);

    /// <summary>The curve of each feed, null for the error itself // (f); empty if no feed has one.</summary>
    public ReadOnlySpan<ErrorCurve?> Curves => _curves;

    /// <summary>Indices in this stage of the two sensors of each plane // (planes, 2).</summary>
    public ReadOnlySpan<int> PlaneSensors => Ints(_planes, 2 * PlaneCount);

    /// <summary>cos θ and sin θ of each plane // (planes, 2).</summary>
    public ReadOnlySpan<float> PlaneTargets => _numbers.AsSpan(_planes + (2 * PlaneCount), 2 * PlaneCount);

    /// <summary>Directions v of the sensors // (m, D).</summary>
    public ReadOnlySpan<float> V => _numbers.AsSpan(_directions, SensorCount * _width);

    /// <summary>Directions w of the terms // (n, D).</summary>
    public ReadOnlySpan<float> W => _numbers.AsSpan(_directions + (SensorCount * _width), TermCount * _width);

    private ReadOnlySpan<int> Ints(int at, int count) => MemoryMarshal.Cast<float, int>(_numbers.AsSpan(at, count));
}
