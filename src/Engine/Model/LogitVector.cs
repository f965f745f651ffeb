using System.Runtime.Intrinsics;

namespace Tiller.Model;

/// <summary>
/// Passes over a vector of logits, eight lanes at a time. They use only IEEE operations in a fixed order and no fused multiply-add, so the result is
/// the same on every machine.
/// </summary>
internal static class LogitVector
{
    private const int Lanes = 8;

    // Lowest index of the largest logit, as in torch.argmax. Throws if a logit is NaN or +∞, or if all are -∞.
    public static int ArgMax(ReadOnlySpan<float> logits)
    {
        var most = Vector256.Create(float.NegativeInfinity);
        var bad = Vector256<float>.Zero;
        int i = 0;
        for (; i <= logits.Length - Lanes; i += Lanes)
        {
            var x = Vector256.Create(logits.Slice(i, Lanes));
            most = Vector256.ConditionalSelect(Vector256.GreaterThan(x, most), x, most);
            bad |= ~Vector256.LessThan(x, Vector256.Create(float.PositiveInfinity));
        }

        float max = float.NegativeInfinity;
        for (int lane = 0; lane < Lanes; lane++)
        {
            max = most[lane] > max ? most[lane] : max;
        }

        bool fails = bad.AsUInt32() != Vector256<uint>.Zero;
        for (; i < logits.Length; i++)
        {
            max = logits[i] > max ? logits[i] : max;
            fails |= !(logits[i] < float.PositiveInfinity);
        }

        if (fails || max == float.NegativeInfinity)
        {
            throw NonFiniteLogitsException.Of(logits);
        }

        return logits.IndexOf(max);
    }

    // l <- exp((l - max) / temperature), in place; at most 1, and 0 for -∞.
    public static void ToWeights(Span<float> logits, float max, float temperature)
    {
        var top = Vector256.Create(max);
        var t = Vector256.Create(temperature);
        int i = 0;
        for (; i <= logits.Length - Lanes; i += Lanes)
        {
            var lanes = logits.Slice(i, Lanes);
            Exp((Vector256.Create<float>(lanes) - top) / t).CopyTo(lanes);
        }

        for (; i < logits.Length; i++)
        {
            logits[i] = Exp(Vector256.Create((logits[i] - max) / temperature))[0];
        }
    }

    // Σ exp(l - max) in float64, in order of id. The result equals that of ToWeights at temperature 1 followed by Sum, but the logits are not
    // changed.
    public static double SumOfWeights(ReadOnlySpan<float> logits, float max)
    {
        var top = Vector256.Create(max);
        double sum = 0;
        int i = 0;
        for (; i <= logits.Length - Lanes; i += Lanes)
        {
            var weights = Exp(Vector256.Create(logits.Slice(i, Lanes)) - top);
            for (int lane = 0; lane < Lanes; lane++)
            {
                sum += weights[lane];
            }
        }

        for (; i < logits.Length; i++)
        {
            sum += Exp(Vector256.Create(logits[i] - max))[0];
        }

        return sum;
    }

    public static double Sum(ReadOnlySpan<float> values)
    {
        double sum = 0;
        foreach (float v in values)
        {
            sum += v;
        }

        return sum;
    }

    // exp(x) for x ≤ 0 with a relative error of 2e-7: x = n ln 2 + r, |r| ≤ ln(2)/2, Taylor series of degree 7. Results below the smallest normal
    // number are 0.
    public static Vector256<float> Exp(Vector256<float> x)
    {
        var least = Vector256.Create(-87.3f);
        var inRange = Vector256.GreaterThan(x, least);
        x = Vector256.ConditionalSelect(inRange, x, least);
        var n = Vector256.Floor((x * Vector256.Create(1.44269504f)) + Vector256.Create(0.5f));
        var r = x - (n * Vector256.Create(0.693359375f)) - (n * Vector256.Create(-2.12194440e-4f));
        var sum = Vector256.Create(1f / 5040);
        sum = (sum * r) + Vector256.Create(1f / 720);
        sum = (sum * r) + Vector256.Create(1f / 120);
        sum = (sum * r) + Vector256.Create(1f / 24);
        sum = (sum * r) + Vector256.Create(1f / 6);
        sum = (sum * r) + Vector256.Create(0.5f);
        sum = (sum * r) + Vector256.Create(1f);
        sum = (sum * r) + Vector256.Create(1f);
        var power = ((Vector256.ConvertToInt32(n) + Vector256.Create(127)) << 23).AsSingle();
        return Vector256.ConditionalSelect(inRange, sum * power, Vector256<float>.Zero);
    }
}
