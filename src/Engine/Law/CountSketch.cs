namespace Tiller.Law;

/// <summary>
/// A polynomial count sketch of degree 2 (Pham and Pagh, KDD 2013, as ODESteer takes it): m features whose products come near those of (γ x̂·ŷ +
/// c₀)², x̂ the state at unit length. With h = [√γ x/(|x| + 10⁻¹²), √c₀] // (D+1), two hashes put the coordinates of h into m places each, with
/// a sign: s_d[i] = Σ_{j: place_d(j) = i} sign_d(j) h_j; the features are the circular convolution of s_0 and s_1.
/// </summary>
public sealed class CountSketch
{
    private const double LengthFloor = 1e-12;
    private const double SlopeFloor = 1e-10;

    private readonly int[] _places; // (2, D+1)
    private readonly float[] _signs; // (2, D+1)

    /// <summary>Takes the hashes.</summary>
    /// <param name="components">m.</param>
    /// <param name="gamma">γ, positive.</param>
    /// <param name="constant">c₀, not negative.</param>
    /// <param name="places">place_d(j), 0..m−1 // (2, D+1).</param>
    /// <param name="signs">sign_d(j), 1 or −1 // (2, D+1).</param>
    /// <exception cref="ArgumentException">Lengths disagree, a place is not one of the m, or a sign is no sign.</exception>
    public CountSketch(int components, double gamma, double constant, IReadOnlyList<int> places, IReadOnlyList<int> signs)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(components);
        if (!(gamma > 0 && gamma < double.PositiveInfinity) || !(constant >= 0 && constant < double.PositiveInfinity))
        {
            throw new ArgumentOutOfRangeException(nameof(gamma), $"{gamma}, {constant}", "A sketch needs a positive γ and a c₀ of at least 0.");
        }

        if (places.Count != signs.Count || places.Count % 2 != 0 || places.Count < 4)
        {
            throw new ArgumentException(
                $"A sketch has two places and two signs for each coordinate and for the constant, got {places.Count} and {signs.Count}.",
                nameof(places));
        }

        if (places.Any(place => (uint)place >= (uint)components) || signs.Any(sign => sign is not (1 or -1)))
        {
            throw new ArgumentException($"The places of a sketch are 0-{components - 1}, and its signs 1 or -1.", nameof(places));
        }

        (Components, Gamma, Constant) = (components, gamma, constant);
        (_places, _signs) = ([.. places], [.. signs.Select(sign => (float)sign)]);
    }

    /// <summary>m.</summary>
    public int Components { get; }

    /// <summary>γ.</summary>
    public double Gamma { get; }

    /// <summary>c₀.</summary>
    public double Constant { get; }

    /// <summary>D.</summary>
    public int Width => (_places.Length / 2) - 1;

    /// <summary>place_d(j) // (2, D+1).</summary>
    public ReadOnlySpan<int> Places => _places;

    /// <summary>sign_d(j) // (2, D+1).</summary>
    public ReadOnlySpan<float> Signs => _signs;

    /// <summary>sign_d(j) as one array that laws share.</summary>
    internal float[] SignArray => _signs;

    /// <summary>A sketch with random hashes, as good as any.</summary>
    /// <param name="width">D.</param>
    /// <param name="components">m.</param>
    /// <param name="gamma">γ.</param>
    /// <param name="constant">c₀.</param>
    /// <param name="seed">Gives the hashes: a seed always gives the same.</param>
    public static CountSketch Random(int width, int components, double gamma, double constant, ulong seed)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(width);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(components);
        int count = 2 * (width + 1);
        int[] places = new int[count], signs = new int[count];
        for (int i = 0; i < count; i++)
        {
            ulong bits = Mixed(seed + ((ulong)i * 0x9E3779B97F4A7C15));
            places[i] = (int)((bits >> 32) % (ulong)components);
            signs[i] = (bits & 1) == 0 ? 1 : -1;
        }

        return new CountSketch(components, gamma, constant, places, signs);
    }

    /// <summary>φ(x) // (m).</summary>
    /// <param name="x">A state // (D).</param>
    public double[] Features(ReadOnlySpan<double> x)
    {
        var (first, second) = (new double[Components], new double[Components]);
        Sketch(x, first, second);
        double[] features = new double[Components];
        for (int i = 0; i < Components; i++)
        {
            for (int j = 0; j < Components; j++)
            {
                features[Wrapped(i + j)] += first[i] * second[j];
            }
        }

        return features;
    }

    /// <summary>∇h/(|∇h| + 10⁻¹⁰) at x, h = c·φ(x).</summary>
    /// <param name="weights">c // (m).</param>
    /// <param name="x">A state // (D).</param>
    /// <param name="field">Result // (D).</param>
    public void Field(ReadOnlySpan<double> weights, ReadOnlySpan<double> x, Span<double> field)
    {
        Span<double> all = Components <= 256 ? stackalloc double[4 * Components] : new double[4 * Components];
        all.Clear();
        Span<double> first = all[..Components], second = all.Slice(Components, Components);
        Span<double> towardsFirst = all.Slice(2 * Components, Components), towardsSecond = all.Slice(3 * Components, Components);
        double length = Sketch(x, first, second);

        // ∂(c·φ)/∂s_0[i] = Σ_j s_1[j] c[i + j], and the other way round.
        for (int i = 0; i < Components; i++)
        {
            for (int j = 0; j < Components; j++)
            {
                double weight = weights[Wrapped(i + j)];
                towardsFirst[i] += second[j] * weight;
                towardsSecond[j] += first[i] * weight;
            }
        }

        // With g = ∂(c·φ)/∂h and n = |x| + 10⁻¹², ∂(c·φ)/∂x = √γ (g − x (x·g)/(|x| n))/n.
        double along = 0;
        for (int j = 0; j < Width; j++)
        {
            field[j] = (_signs[j] * towardsFirst[_places[j]]) + (_signs[Width + 1 + j] * towardsSecond[_places[Width + 1 + j]]);
            along += x[j] * field[j];
        }

        double floored = length + LengthFloor, turned = length > 0 ? along / (length * floored) : 0, scale = Math.Sqrt(Gamma) / floored, square = 0;
        for (int j = 0; j < Width; j++)
        {
            field[j] = scale * (field[j] - (x[j] * turned));
            square += field[j] * field[j];
        }

        double step = 1 / (Math.Sqrt(square) + SlopeFloor);
        for (int j = 0; j < Width; j++)
        {
            field[j] *= step;
        }
    }

    private static ulong Mixed(ulong x)
    {
        x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
        x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
        return x ^ (x >> 31);
    }

    private int Wrapped(int i) => i < Components ? i : i - Components;

    // s_0 and s_1, which are 0 before; gives back |x|.
    private double Sketch(ReadOnlySpan<double> x, Span<double> first, Span<double> second)
    {
        double square = 0;
        foreach (double value in x)
        {
            square += value * value;
        }

        double length = Math.Sqrt(square), scale = Math.Sqrt(Gamma) / (length + LengthFloor);
        for (int j = 0; j <= Width; j++)
        {
            double h = j < Width ? scale * x[j] : Math.Sqrt(Constant);
            first[_places[j]] += _signs[j] * h;
            second[_places[Width + 1 + j]] += _signs[Width + 1 + j] * h;
        }

        return length;
    }
}
