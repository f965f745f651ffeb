using Tiller.Kernels;
using Tiller.Law;
using Tiller.Tests.Decode;

namespace Tiller.Tests.Kernels;

/// <summary>A test of kernels that apply laws. The laws are random, and sent as the engine sends them.</summary>
public abstract class SteeredKernelTest : ElementKernelTest
{
    /// <summary>The number of layers of the laws.</summary>
    protected const int L = 3;

    /// <summary>
    /// A law with the given number of sensors and of terms in each layer. Terms read sensors of any layer; some sensors are in planes if
    /// <paramref name="hasPlanes"/> is set, and some feeds have curves if <paramref name="hasCurves"/> is.
    /// </summary>
    protected static FeedbackLaw NewLaw(int seed, int D, int[] sensors, int[] terms, float bound, bool hasPlanes = true, bool hasCurves = false)
    {
        var random = new Random(seed);
        float[] Direction() => Normal(random.Next(), D, 1 / Math.Sqrt(D));
        Sensor NewSensor(int k, int i)
        {
            float low = (float)random.NextDouble();
            return i % 5 == 1 ? new(k, Direction(), low, low + 0.3f) : i % 5 == 2 ? new(k, Direction(), float.NegativeInfinity, low)
                : new(k, Direction(), i % 5 > 2 ? 0 : low);
        }

        Sensor[] read = [.. Enumerable.Range(0, L).SelectMany(k => Enumerable.Range(0, sensors[k]).Select(i => NewSensor(k, i)))];
        var planes = new List<Plane>();
        for (int i = 1; hasPlanes && i < read.Length; i++)
        {
            if (read[i].Beta == 0 && read[i - 1].Beta == 0 && read[i].Layer == read[i - 1].Layer)
            {
                var (sine, cosine) = MathF.SinCos(6 * random.NextSingle());
                planes.Add(new Plane(i, i - 1, cosine, sine));
            }
        }

        Term NewTerm(int k, int j)
        {
            Feed NewFeed(int i) =>
                new(random.Next(read.Length), 1 + random.NextSingle()) { Curve = hasCurves && (i + j) % 2 == 0 ? Laws.Curve(random) : null };
            Feed[] feeds = [.. Enumerable.Range(0, j % 4 == 3 ? 0 : 1 + (j % 3)).Select(NewFeed)];
            return new Term(k, Direction(), random.NextSingle(), feeds) { Gate = j % 5 == 4 ? random.Next(read.Length) : -1 };
        }

        Term[] moved = [.. Enumerable.Range(0, L).SelectMany(k => Enumerable.Range(0, terms[k]).Select(j => NewTerm(k, j)))];
        return new FeedbackLaw(L, D, read, moved, bound, planes);
    }

    /// <summary>A law in device memory, and the memory for what it measures.</summary>
    protected sealed record OnDevice(nint Address, nint Errors, nint InputNorms, nint StateNorms, nint FreeNorms);

    /// <summary>Sends a law, and allocates memory for the rows of <paramref name="slots"/> slots.</summary>
    protected OnDevice Ready(FeedbackLaw law, int slots, int tangents)
    {
        DeviceLayerLaw Layer(int k)
        {
            var part = law.Packed(k);
            return new DeviceLayerLaw
            {
                V = Send<float>([.. part.V]),
                Low = Send<float>([.. part.Low]),
                High = Send<float>([.. part.High]),
                Sensor = Send<int>([.. part.Sensors]),
                W = Send<float>([.. part.W]),
                C = Send<float>([.. part.C]),
                Gate = Send<int>([.. part.Gates]),
                FeedBegin = Send<int>([.. part.FeedBegins]),
                FeedSensor = Send<int>([.. part.FeedSensors]),
                FeedGain = Send<float>([.. part.FeedGains]),
                Curves = part.Curves.IsEmpty ? 0 : Send<DeviceCurve>([.. part.Curves.ToArray().Select(Curved)]),
                PlaneSensors = Send<int>([.. part.PlaneSensors]),
                PlaneTargets = Send<float>([.. part.PlaneTargets]),
                Sensors = part.SensorCount,
                Terms = part.TermCount,
                Planes = part.PlaneCount,
                Bends = part.Bends ? 1 : 0,
                KeepsNorm = part.KeepsNorm ? 1 : 0,
            };
        }

        DeviceCurve Curved(ErrorCurve? curve) => curve is null ? default : new DeviceCurve
        {
            Nodes = Send<float>([.. curve.Nodes()]),
            Cubics = Send(curve.Cubics()),
            Count = curve.Nodes().Length,
            Knee = curve.Knee,
            Slope = curve.Slope,
            Scale = curve.Scale,
        };

        int norms = slots * law.Layers;
        nint errors = Send(new float[slots * law.Sensors.Count]), inputs = Send(new float[norms]), states = Send(new float[norms]);
        nint free = Send(new float[norms]);
        var steering = new DeviceSteering
        {
            Layers = Send<DeviceLayerLaw>([.. Enumerable.Range(0, law.Layers).Select(Layer)]),
            Errors = errors,
            TangentErrors = Poisoned<float>(tangents * law.Sensors.Count),
            InputNorms = inputs,
            StateNorms = states,
            FreeNorms = free,
            Sensors = law.Sensors.Count,
            LayerCount = law.Layers,
            MaxEffort = law.MaxEffort,
        };
        return new OnDevice(Send(steering), errors, inputs, states, free);
    }
}
