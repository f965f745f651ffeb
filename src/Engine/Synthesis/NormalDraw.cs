namespace Tiller.Synthesis;

/// <summary>Standard normal numbers, each from two uniform ones (Box and Muller).</summary>
internal static class NormalDraw
{
    /// <summary>The next number.</summary>
    public static double Next(Random random) => Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(Math.Tau * random.NextDouble());
}
