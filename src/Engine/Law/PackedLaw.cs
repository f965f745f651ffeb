using System.Numerics.Tensors;
using System.Runtime.InteropServices;

namespace Tiller.Law;

/// <summary>
/// One stage of a <see cref="FeedbackLaw"/> as a device reads it: all numbers in one array, the short ones first, then the directions
/// under each other. Between two blocks the weights pass through the cache, so that every further array would be one more miss.
/// </summary>
internal sealed class PackedLaw
{
    private const int LineInFloats = 16;

    private readonly float[] _numbers;
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

    /// <summary>m, sensors of this block.</summary>
    public int SensorCount { get; }

    /// <summary>n, terms of this block.</summary>
    public int TermCount { get; }

    /// <summary>f, feeds of this block's terms, all together.</summary>
    public int FeedCount { get; }

    /// <summary>Pairs of sensors of this block that are planes.</summary>
    public int PlaneCount { get; }

    /// <summary>Whether an error is more than a constant minus a projection, so that its derivative depends on the state.</summary>
    public bool Bends { get; }

    /// <summary>Whether |x| is wanted: the stage has a term, or its block an edit.</summary>
    public bool KeepsNorm { get; }

    /// <summary>Indices of the sensors of this block among all of the law's // (m).</summary>
    public ReadOnlySpan<int> Sensors => Ints(0, SensorCount);

    /// <summary>Lower ends of the intervals, or setpoints // (m).</summary>
    public ReadOnlySpan<float> Low => _numbers.AsSpan(SensorCount, SensorCount);

    /// <summary>Upper ends of the intervals, or the setpoints again // (m).</summary>
    public ReadOnlySpan<float> High => _numbers.AsSpan(2 * SensorCount, SensorCount);

    /// <summary>Open-loop strengths // (n).</summary>
    public ReadOnlySpan<float> C => _numbers.AsSpan(_terms, TermCount);

    /// <summary>|w| of each term // (n).</summary>
    public ReadOnlySpan<float> Lengths => _numbers.AsSpan(_terms + TermCount, TermCount);

    /// <summary>Sensor among all of the law's that switches each term, or -1 // (n).</summary>
    public ReadOnlySpan<int> Gates => Ints(_terms + (2 * TermCount), TermCount);

    /// <summary>Where each term's feeds begin, and where the last one's end // (n + 1).</summary>
    public ReadOnlySpan<int> FeedBegins => Ints(_terms + (3 * TermCount), TermCount + 1);

    /// <summary>Sensor of each feed among all of the law's // (f).</summary>
    public ReadOnlySpan<int> FeedSensors => Ints(_feeds, FeedCount);

    /// <summary>Gain of each feed // (f).</summary>
    public ReadOnlySpan<float> FeedGains => _numbers.AsSpan(_feeds + FeedCount, FeedCount);

    /// <summary>The two sensors of each plane among those of this block // (planes, 2).</summary>
    public ReadOnlySpan<int> PlaneSensors => Ints(_planes, 2 * PlaneCount);

    /// <summary>cos θ and sin θ of each plane // (planes, 2).</summary>
    public ReadOnlySpan<float> PlaneTargets => _numbers.AsSpan(_planes + (2 * PlaneCount), 2 * PlaneCount);

    /// <summary>Directions read // (m, D).</summary>
    public ReadOnlySpan<float> V => _numbers.AsSpan(_directions, SensorCount * _width);

    /// <summary>Directions moved along // (n, D).</summary>
    public ReadOnlySpan<float> W => _numbers.AsSpan(_directions + (SensorCount * _width), TermCount * _width);

    private ReadOnlySpan<int> Ints(int at, int count) => MemoryMarshal.Cast<float, int>(_numbers.AsSpan(at, count));
}
