namespace Tiller.Synthesis;

/// <summary>
/// What the curves of all horizons of a model cost (<see cref="InputCurve"/>), by what they took for 29 blocks of SmolLM2-135M-Instruct: the plant
/// decides how many vectors and plans a curve needs.
/// </summary>
internal static class CurveCost
{
    // A curve of N steps had 15 to 20 vectors in its basis and 90 to 100 maxima of the dual for each step.
    private const int VectorsOfStep = 17, MaximaOfStep = 95;

    // How much slower than products of matrices passes over the plant are, which wait for memory, and work on the small factors.
    private const int Passes = 8, Factors = 6;

    /// <summary>Bytes of the inverses and of the longest curve's basis.</summary>
    public static long SizeInBytes(int horizon, int width) =>
        PlanInverses.SizeInBytes(horizon, width) + (2 * 8L * VectorsOfStep * horizon * horizon * width);

    /// <summary>FLOPs at the rate of float64 products.</summary>
    public static double Flops(int horizon, int width)
    {
        double square = (double)width * width, flops = 0;
        for (int steps = 1; steps <= horizon; steps++)
        {
            // Two recursions; a dozen passes for each vector, over A or an inverse; n³/3 of a factor, and n² for the length of each step's input.
            double n = VectorsOfStep * steps;
            flops += 2 * 8.3 * steps * square * width;
            flops += Passes * n * 12 * 2 * steps * square;
            flops += Factors * MaximaOfStep * steps * ((n * n * n / 3) + (3 * steps * n * n));
        }

        return flops;
    }
}
