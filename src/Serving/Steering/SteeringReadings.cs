using System.Text.Json;
using Tiller.Decode;

namespace Tiller.Serving;

/// <summary>Mean errors and efforts over tokens, for <c>usage.steering</c> and for the objects in chunks.</summary>
internal sealed class SteeringReadings(SteeringPlan plan)
{
    private readonly Means _all = new();
    private readonly Means[] _parts = [.. plan.Parts.Select(_ => new Means())];
    private long _tokens;
    private long _bounded;
    private long _inputs;
    private double _input;
    private double _effort;

    /// <summary>Adds a token.</summary>
    public void Add(TokenSteering token, PlannedLaw law)
    {
        _tokens++;
        _bounded += IsBounded(token) ? 1 : 0;
        _all.Begin();
        Array.ForEach(_parts, part => part.Begin());
        foreach (int sensor in law.Law.FedBack())
        {
            double error = Math.Abs(token.Errors[sensor]);
            _all.Add(error);
            _parts[law.PartOf[sensor]].Add(error);
        }

        for (int k = 0; k < law.Law.Layers; k++)
        {
            if (law.Law.Moves(k))
            {
                _input += token.InputNorms[k];
                _effort += Relative(token, k);
                _inputs++;
            }
        }
    }

    /// <summary>Adds the tokens of another text.</summary>
    public void Add(SteeringReadings other)
    {
        (_tokens, _bounded, _inputs) = (_tokens + other._tokens, _bounded + other._bounded, _inputs + other._inputs);
        (_input, _effort) = (_input + other._input, _effort + other._effort);
        _all.Add(other._all);
        for (int i = 0; i < _parts.Length; i++)
        {
            _parts[i].Add(other._parts[i]);
        }
    }

    /// <summary>Mean |β − v·x| over tokens and fed-back sensors.</summary>
    public double Error => _all.Mean;

    /// <summary>Mean |u|/|x| over tokens and steered layers.</summary>
    public double Effort => _inputs == 0 ? 0 : _effort / _inputs;

    /// <summary>Writes <c>usage.steering</c>.</summary>
    /// <param name="json">The writer.</param>
    /// <param name="lambdas">The last λ of each part.</param>
    public void WriteSummary(Utf8JsonWriter json, ReadOnlySpan<double> lambdas)
    {
        json.WriteStartObject("steering");
        json.WriteNumber("tokens", _tokens);
        _all.Write(json);
        json.WriteNumber("effort", Effort);
        json.WriteNumber("input", _inputs == 0 ? 0 : _input / _inputs);
        json.WriteNumber("bounded_tokens", _bounded);
        json.WriteStartArray("controllers");
        for (int i = 0; i < _parts.Length; i++)
        {
            json.WriteStartObject();
            json.WriteString("name", plan.Parts[i].Name);
            json.WriteNumber("lambda", lambdas[i]);
            _parts[i].Write(json);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    /// <summary>Writes the object of a token; null if the law did not steer it.</summary>
    public void WriteToken(Utf8JsonWriter json, TokenSteering? token, PlannedLaw? law)
    {
        if (token is null || law is null)
        {
            json.WriteNullValue();
            return;
        }

        json.WriteStartObject();
        if (plan.Telemetry == Telemetry.Layers)
        {
            WriteLayers(json, token, law);
        }
        else
        {
            var one = new SteeringReadings(plan);
            one.Add(token, law);
            json.WriteNumber("error", one.Error);
            json.WriteNumber("effort", one.Effort);
            json.WriteNumber("input", one._inputs == 0 ? 0 : one._input / one._inputs);
        }

        json.WriteBoolean("bounded", IsBounded(token));
        json.WriteEndObject();
    }

    private void WriteLayers(Utf8JsonWriter json, TokenSteering token, PlannedLaw law)
    {
        WriteErrors(json, "error", token, law, part: null);
        json.WriteStartArray("effort");
        for (int k = 0; k < law.Law.Layers; k++)
        {
            json.WriteNumberValue(Relative(token, k));
        }

        json.WriteEndArray();
        json.WriteStartArray("input");
        foreach (float input in token.InputNorms)
        {
            json.WriteNumberValue(input);
        }

        json.WriteEndArray();
        if (plan.Parts.Count > 1)
        {
            json.WriteStartObject("controllers");
            for (int i = 0; i < plan.Parts.Count; i++)
            {
                WriteErrors(json, plan.Parts[i].Name, token, law, i);
            }

            json.WriteEndObject();
        }
    }

    // Writes each layer's largest error of its sensors; null for a layer without sensors.
    private static void WriteErrors(Utf8JsonWriter json, string name, TokenSteering token, PlannedLaw law, int? part)
    {
        Span<float> errors = stackalloc float[law.Law.Layers];
        errors.Fill(float.NaN);
        foreach (int sensor in law.Law.FedBack())
        {
            ref float error = ref errors[law.Law.Sensors[sensor].Layer];
            if ((part is null || part == law.PartOf[sensor]) && !(MathF.Abs(error) >= MathF.Abs(token.Errors[sensor])))
            {
                error = token.Errors[sensor];
            }
        }

        json.WriteStartArray(name);
        foreach (float error in errors)
        {
            if (float.IsNaN(error))
            {
                json.WriteNullValue();
            }
            else
            {
                json.WriteNumberValue(error);
            }
        }

        json.WriteEndArray();
    }

    private static double Relative(TokenSteering token, int k) => token.StateNorms[k] > 0 ? token.InputNorms[k] / token.StateNorms[k] : 0;

    // The tolerance is for the rounding of |u|, which is scaled to the bound in float32.
    private static bool IsBounded(TokenSteering token)
    {
        float bound = token.Law.MaxEffort;
        return float.IsFinite(bound) && token.InputNorms.IndexOfAnyInRange(bound * (1 - 1e-5f), float.MaxValue) >= 0;
    }

    /// <summary>The mean over all tokens, and the mean over the last token.</summary>
    private sealed class Means
    {
        private double _sum;
        private double _last;
        private long _count;
        private long _lastCount;

        public double Mean => _count == 0 ? 0 : _sum / _count;

        public void Begin() => (_last, _lastCount) = (0, 0);

        public void Add(double value)
        {
            (_sum, _last) = (_sum + value, _last + value);
            _count++;
            _lastCount++;
        }

        public void Add(Means other)
        {
            (_sum, _last) = (_sum + other._sum, _last + other._last);
            (_count, _lastCount) = (_count + other._count, _lastCount + other._lastCount);
        }

        public void Write(Utf8JsonWriter json)
        {
            json.WriteStartObject("error");
            json.WriteNumber("mean", Mean);
            json.WriteNumber("last", _lastCount == 0 ? 0 : _last / _lastCount);
            json.WriteEndObject();
        }
    }
}
