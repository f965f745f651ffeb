using System.Text.Json.Nodes;

namespace Tiller.Tests.Model;

/// <summary>
/// The forward pass of a <see cref="FamilyCheckpoint"/> in float64, written from the families' definitions without any code of the engine. It
/// computes one token after another and one head after another.
/// </summary>
internal sealed class ReferenceModel(FamilyCheckpoint checkpoint)
{
    private readonly JsonObject _c = checkpoint.Config;

    private string Family => FamilyCheckpoint.FamilyOf(_c);

    private int D => Number("hidden_size");

    private int H => Number("num_attention_heads");

    private int G => Number("num_key_value_heads");

    private int E => _c["head_dim"]?.GetValue<int>() ?? D / H;

    /// <summary>For tokens read together, the states that enter the blocks and leave the last // (L + 1, N, D), and the logits // (N, V).</summary>
    public (double[][][] States, double[][] Logits) Run(int[] ids)
    {
        double[][] x = [.. ids.Select(id => Row("model.embed_tokens.weight", id, D).Select(v => v * EmbeddingScale).ToArray())];
        var states = new List<double[][]> { x };
        for (int k = 0; k < Number("num_hidden_layers"); k++)
        {
            x = Block($"model.layers.{k}.", k, x);
            states.Add(x);
        }

        double cap = Real("final_logit_softcapping", 0), divisor = Real("logits_scaling", 1);
        double[][] logits = [.. x.Select(row =>
            Map("model.embed_tokens", "", Norm("model.norm", row)).Select(z => cap > 0 ? cap * Math.Tanh(z / cap) : z / divisor).ToArray())];
        return ([.. states], logits);
    }

    private double EmbeddingScale => Family == "gemma3_text" ? Math.Sqrt(D) : Real("embedding_multiplier", 1);

    private double[][] Block(string block, int k, double[][] x)
    {
        bool after = Family is "gemma3_text" or "olmo2", before = Family != "olmo2";
        double m = Real("residual_multiplier", 1);
        double[][] attended = Attention(block + "self_attn.", k, [.. x.Select(row => before ? Norm(block + "input_layernorm", row) : row)]);
        double[][] r = [.. x.Select((row, t) => Sum(row, m, after ? Norm(block + "post_attention_layernorm", attended[t]) : attended[t]))];
        string second = Family == "gemma3_text" ? "pre_feedforward_layernorm" : "post_attention_layernorm";
        return [.. r.Select(row =>
        {
            double[] fed = FeedForward(block + "mlp.", before ? Norm(block + second, row) : row);
            return Sum(row, m, after ? Norm(block + "post_feedforward_layernorm", fed) : fed);
        })];
    }

    private double[] FeedForward(string mlp, double[] x)
    {
        double[] both = Family == "phi3" ? Map(mlp + "gate_up_proj", "", x)
            : [.. Map(mlp + "gate_proj", mlp + "gate_proj", x), .. Map(mlp + "up_proj", mlp + "up_proj", x)];
        int F = both.Length / 2;
        return Map(mlp + "down_proj", mlp + "down_proj", [.. Enumerable.Range(0, F).Select(f => Activate(both[f]) * both[F + f])]);
    }

    private double Activate(double a) => Family == "gemma3_text"
        ? 0.5 * a * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (a + (0.044715 * a * a * a))))
        : a / (1 + Math.Exp(-a));

    private double[][] Attention(string attention, int k, double[][] x)
    {
        double scale = Family switch
        {
            "gemma3_text" => 1 / Math.Sqrt(Real("query_pre_attn_scalar", 0)),
            "granite" => Real("attention_multiplier", 0),
            _ => 1 / Math.Sqrt(E),
        };
        bool slides = Family == "phi3" || (Family == "gemma3_text" && (k + 1) % Number("sliding_window_pattern") != 0);
        int window = slides ? Number("sliding_window") : int.MaxValue;
        var (q, k2, v) = (new double[x.Length][][], new double[x.Length][][], new double[x.Length][][]);
        for (int t = 0; t < x.Length; t++)
        {
            double[] all = Family == "phi3"
                ? Map(attention + "qkv_proj", "", x[t])
                : [.. new[] { "q_proj", "k_proj", "v_proj" }.SelectMany(name => Map(attention + name, attention + name, x[t]))];
            double[] queries = all[..(H * E)], keys = all[(H * E)..((H + G) * E)];
            if (Family == "olmo2")
            {
                (queries, keys) = (Norm(attention + "q_norm", queries), Norm(attention + "k_norm", keys));
            }

            bool normed = Family is "gemma3_text" or "qwen3";
            q[t] = [.. Heads(queries).Select(head => Turn(k, t, x.Length, slides, normed ? Norm(attention + "q_norm", head) : head))];
            k2[t] = [.. Heads(keys).Select(head => Turn(k, t, x.Length, slides, normed ? Norm(attention + "k_norm", head) : head))];
            v[t] = [.. Heads(all[((H + G) * E)..])];
        }

        return [.. Enumerable.Range(0, x.Length).Select(t =>
            Map(attention + "o_proj", attention + "o_proj", [.. Enumerable.Range(0, H).SelectMany(h => Attend(q, k2, v, t, h, window, scale))]))];
    }

    private double[] Attend(double[][][] q, double[][][] keys, double[][][] values, int t, int h, int window, double scale)
    {
        int g = h / (H / G), first = Math.Max(0, t - window + 1);
        double[] z = [.. Enumerable.Range(first, t + 1 - first).Select(j => Math.Exp(scale * q[t][h].Zip(keys[j][g], (a, b) => a * b).Sum()))];
        return [.. Enumerable.Range(0, E).Select(e => z.Select((weight, j) => weight * values[first + j][g][e]).Sum() / z.Sum())];
    }

    private IEnumerable<double[]> Heads(double[] row) => row.Chunk(E);

    // Rotates the first R numbers of a head, in pairs (e, e + R/2).
    private double[] Turn(int k, int t, int length, bool slides, double[] head)
    {
        if (Family == "smollm3" && (k + 1) % Number("no_rope_layer_interval") == 0)
        {
            return head;
        }

        int R = (int)(E * Real("partial_rotary_factor", 1));
        double[] turned = [.. head];
        for (int e = 0; e < R / 2; e++)
        {
            var (frequency, amplitude) = Frequency(e, R, length, Family == "gemma3_text" && slides);
            double cosine = amplitude * Math.Cos(t * frequency), sine = amplitude * Math.Sin(t * frequency);
            (turned[e], turned[e + (R / 2)]) = ((head[e] * cosine) - (head[e + (R / 2)] * sine), (head[e + (R / 2)] * cosine) + (head[e] * sine));
        }

        return turned;
    }

    private (double Frequency, double Amplitude) Frequency(int e, int R, int length, bool isLocal)
    {
        double theta = isLocal ? Real("rope_local_base_freq", 0) : Real("rope_theta", Family == "smollm3" ? 2e6 : 10000), plain =
            Math.Pow(theta, -2.0 * e / R);
        var scaling = isLocal ? null : _c["rope_scaling"]?.AsObject();
        double Of(string key, double missing) => scaling![key]?.GetValue<double>() ?? missing;
        switch ((scaling?["rope_type"] ?? scaling?["type"])?.GetValue<string>())
        {
            case null:
                return (plain, 1);
            case "linear":
                return (plain / Of("factor", 0), 1);
            case "longrope":
                string list = length > Number("original_max_position_embeddings") ? "long_factor" : "short_factor";
                return (plain / scaling![list]![e]!.GetValue<double>(), Of("attention_factor", 0));
            default:
                // Pairs that turn more than β_fast times in the original context are kept; those that turn less than β_slow times are interpolated.
                double PairOf(double turns) =>
                    R * Math.Log(Of("original_max_position_embeddings", 0) / (2 * Math.PI * turns)) / (2 * Math.Log(theta));
                double low = PairOf(Of("beta_fast", 32)), high = PairOf(Of("beta_slow", 1));
                if (scaling!["truncate"]?.GetValue<bool>() ?? true)
                {
                    (low, high) = (Math.Floor(low), Math.Ceiling(high));
                }

                double ramp = Math.Clamp((e - Math.Max(0, low)) / (Math.Min(R - 1, high) - Math.Max(0, low)), 0, 1);
                return (plain * ((1 - ramp) + (ramp / Of("factor", 0))), Of("attention_factor", (0.1 * Math.Log(Of("factor", 0))) + 1));
        }
    }

    private double[] Norm(string name, double[] x)
    {
        double s = 1 / Math.Sqrt(x.Select(v => v * v).Average() + Real("rms_norm_eps", 0));
        float[] g = checkpoint.Tensors[name + ".weight"].Values;
        return [.. x.Select((v, i) => s * v * (g[i] + (Family == "gemma3_text" ? 1 : 0)))];
    }

    private double[] Map(string name, string biased, double[] x)
    {
        var (shape, w) = checkpoint.Tensors[name + ".weight"];
        float[]? bias = checkpoint.Tensors.TryGetValue(biased + ".bias", out var b) ? b.Values : null;
        double[] y = new double[shape[0]];
        for (int n = 0; n < y.Length; n++)
        {
            double sum = bias?[n] ?? 0;
            for (int i = 0; i < x.Length; i++)
            {
                sum += w[(n * x.Length) + i] * x[i];
            }

            y[n] = sum;
        }

        return y;
    }

    private IEnumerable<double> Row(string name, int row, int columns) =>
        checkpoint.Tensors[name].Values.Skip(row * columns).Take(columns).Select(v => (double)v);

    private static double[] Sum(double[] x, double m, double[] y) => [.. x.Zip(y, (a, b) => a + (m * b))];

    private int Number(string key) => _c[key]!.GetValue<int>();

    private double Real(string key, double missing) => _c[key]?.GetValue<double>() ?? missing;
}
