using Tiller.Kernels;
using Tiller.Law;

namespace Tiller.Tests.Kernels;

/// <summary>A test of kernels that follow laws: random ones, sent as the engine sends them.</summary>
public abstract class SteeredKernelTest : ElementKernelTest
{
    /// <summary>Layers of the laws.</summary>
    protected const int L = 3;

    /// <summary>So many sensors and terms in each of the layers; terms look at sensors of any layer.</summary>
    protected static FeedbackLaw NewLaw(int seed, int D, int[] sensors, int[] terms, float bound)
    {
        var random = new Random(seed);
        float[] Direction() => Normal(random.Next(), D, 1 / Math.Sqrt(D));
        Sensor NewSensor(int k) => new(k, Direction(), (float)random.NextDouble());
        Sensor[] read = [.. Enumerable.Range(0, L).SelectMany(k => Enumerable.Range(0, sensors[k]).Select(_ => NewSensor(k)))];
        Term[] moved = [.. Enumerable.Range(0, L).SelectMany(k => Enumerable.Range(0, terms[k]).Select(j =>
        {
            int sensor = j % 4 == 3 ? -1 : random.Next(read.Length);
            return new Term(k, Direction(), (float)random.NextDouble(), sensor < 0 ? 0 : 1 + (float)random.NextDouble(), sensor);
        }))];
        return new FeedbackLaw(L, D, read, moved, bound);
    }

    /// <summary>A law in device memory, and where it leaves its numbers.</summary>
    protected sealed record OnDevice(nint Address, nint Errors, nint InputNorms, nint StateNorms, nint FreeNorms);

    /// <summary>Sends a law, with room for the rows of so many slots.</summary>
    protected OnDevice Ready(FeedbackLaw law, int slots, int tangents)
    {
        DeviceLayerLaw Layer(int k)
        {
            Sensor[] sensors = [.. law.SensorsOf(k).ToArray().Select(i => law.Sensors[i])];
            Term[] terms = [.. law.TermsOf(k).ToArray().Select(i => law.Terms[i])];
            return new DeviceLayerLaw
            {
                V = Send<float>([.. sensors.SelectMany(s => s.V)]),
                Beta = Send<float>([.. sensors.Select(s => s.Beta)]),
                Sensor = Send(law.SensorsOf(k).ToArray()),
                W = Send<float>([.. terms.SelectMany(t => t.W)]),
                C = Send<float>([.. terms.Select(t => t.C)]),
                S = Send<float>([.. terms.Select(t => t.S)]),
                TermSensor = Send<int>([.. terms.Select(t => t.Sensor)]),
                Sensors = sensors.Length,
                Terms = terms.Length,
            };
        }

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
