using System.Numerics.Tensors;
using System.Text.Json;
using Tiller.Decode;
using Tiller.Law;
using Tiller.Model;

namespace Tiller.Tool;

/// <summary>
/// A text under predictive control: at every block of a steered token the first input of a plan over the blocks that are left. As a plan needs the
/// state before it, a token is run once for each block, with the inputs that are known so far, from the beginning of the text.
/// </summary>
internal sealed class RecedingRun(LanguageModel model, GoldenMethods methods, JsonElement run, int[] prompt, CancellationToken cancellationToken)
{
    private readonly int _layers = model.Config.L;
    private readonly double _lambda = run.GetProperty("lam").GetDouble();
    private readonly double _bound = run.GetProperty("bound").GetDouble();
    private readonly List<int> _taken = [];
    private readonly List<FeedbackLaw> _laws = []; // of the steered tokens so far

    /// <summary>|u_k| of the last token // (L).</summary>
    public float[] Inputs { get; } = new float[model.Config.L];

    /// <summary>|x_k| of the last token // (L).</summary>
    public float[] States { get; } = new float[model.Config.L];

    /// <summary>Runs the next token and draws greedily.</summary>
    /// <param name="last">The token before; -1 at the prompt's end.</param>
    public int Step(int last)
    {
        if (last >= 0)
        {
            _taken.Add(last);
        }

        var feature = methods.Feature;
        float[][] inputs = new float[_layers][];
        for (int k = 0; ; k++)
        {
            var law = new FeedbackLaw(
                _layers, model.Config.D, [.. Enumerable.Range(0, _layers).Select(i => new Sensor(i, feature.V[i], (float)(_lambda * feature.Mu[i])))],
                [.. Enumerable.Range(0, k).Select(i => new Term(i, inputs[i], 1))]);
            using var session = new Session(model, _laws.Count > 0 ? _laws[0] : law);
            session.Append(prompt, cancellationToken);
            for (int t = 0; t < _taken.Count; t++)
            {
                session.Use(t + 1 < _laws.Count ? _laws[t + 1] : law);
                session.Append(_taken[t], cancellationToken);
            }

            if (k == _layers)
            {
                _laws.Add(law);
                session.Steering!.ReadEffort(0, Inputs, States);
                return TensorPrimitives.IndexOfMax(session.Logits);
            }

            float[] errors = new float[_layers];
            session.Steering!.ReadErrors(0, errors);
            inputs[k] = Array.ConvertAll(methods.Receding(k, errors[k], _bound, cancellationToken), u => (float)u);
        }
    }
}
