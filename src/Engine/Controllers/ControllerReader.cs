using System.Globalization;
using Tiller.Checkpoint;
using Tiller.Features;
using Tiller.Law;

namespace Tiller.Controllers;

/// <summary>Reads and checks the parts of a controller file. Every exception names the file and the part.</summary>
internal sealed class ControllerReader(string path, SafetensorsFile file)
{
    public string Required(string key) => file.Metadata.GetValueOrDefault(key) ?? throw Schema($"lacks the metadata entry '{key}'");

    public int Integer(string key) =>
        int.TryParse(Required(key), NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out int value)
            ? value
            : throw Schema($"has {key} = '{Required(key)}', expected an integer");

    public int Count(string key, int least)
    {
        int value = Integer(key);
        return value >= least
            ? value
            : throw new ControllerException(ControllerFault.Range, $"{path} has {key} = {value}; it must be at least {least}.");
    }

    /// <summary>Reads integers of at least 0, separated by commas, whose sum fits in an int.</summary>
    public int[] Counts(string key) => Counts(key, Required(key).AsSpan().Count(',') + 1);

    /// <summary>Reads <paramref name="count"/> integers of at least 0, separated by commas, whose sum fits in an int.</summary>
    public int[] Counts(string key, int count)
    {
        string[] parts = Required(key).Split(',');
        int[] values = new int[count];
        long sum = 0;
        for (int i = 0; i < count; i++)
        {
            if (parts.Length != count || !int.TryParse(parts[i], NumberStyles.None, CultureInfo.InvariantCulture, out values[i])
                || (sum += values[i]) > int.MaxValue)
            {
                throw Schema($"has {key} = '{Required(key)}', expected {count} whole numbers separated by commas");
            }
        }

        return values;
    }

    /// <summary>Reads an entry that is either absent (false) or has one given value (true).</summary>
    public bool Flag(string key, string value) => file.Metadata.GetValueOrDefault(key) switch
    {
        null => false,
        var other => other == value ? true : throw Schema($"has {key} = '{other}'; it must be {value} or absent"),
    };

    public double Number(string key)
    {
        if (!double.TryParse(Required(key), NumberStyles.Float, CultureInfo.InvariantCulture, out double value))
        {
            throw Schema($"has {key} = '{Required(key)}', expected a number");
        }

        return double.IsFinite(value)
            ? value
            : throw new ControllerException(ControllerFault.Range, $"{path} has {key} = {value}; it must be finite.");
    }

    public PromptSet Prompts(string key) => new(Required(key + ".sha256"), Count(key + ".count", 1));

    public PromptForm? Form() => file.Metadata.GetValueOrDefault("form") switch
    {
        null => null,
        "raw" => new RawForm(),
        "tokens" => new TokenForm(),
        "chat" => new ChatForm
        {
            TemplateSha256 = Required("template.sha256"),
            System = file.Metadata.GetValueOrDefault("system"),
            SystemVaries = Flag("system.varies", "true"),
        },
        var other => throw Schema($"has the form '{other}'; known are raw, chat and tokens"),
    };

    public LayerSet Layers(int layers)
    {
        string text = Required("layers");
        var ranges = LayerSet.RangesOf(text) ?? throw Schema($"has layers = '{text}', expected ranges first-last, separated by commas");
        return Array.TrueForAll(ranges, range => range.First <= range.Last && range.Last < layers)
            ? new LayerSet(ranges)
            : throw new ControllerException(ControllerFault.Range, $"{path} steers layers {text} of a model with layers 0-{layers - 1}.");
    }

    /// <summary>Converts ranks to integers: at least 1 at solved layers, at least 0 at others.</summary>
    public int[] Ranks(double[] values, LayerSet solved)
    {
        for (int k = 0; k < values.Length; k++)
        {
            int least = solved.Contains(k) ? 1 : 0;
            if (!(values[k] >= least && values[k] <= int.MaxValue && values[k] == Math.Floor(values[k])))
            {
                throw new ControllerException(ControllerFault.Range, $"{path} has rank {values[k]} at layer {k}; it must be a whole number, "
                    + $"at least {least}.")
                { Layer = k };
            }
        }

        return Array.ConvertAll(values, x => (int)x);
    }

    public TensorInfo Find(string name) => file.TryFind(name) ?? throw Schema($"lacks the tensor '{name}'");

    public float[] Float32(string name, int rowLength, params ReadOnlySpan<long> shape)
    {
        float[] values = file.ReadFloat32(Checked(name, TensorType.F32, shape));
        int bad = values.AsSpan().IndexOfAnyExceptInRange(float.MinValue, float.MaxValue);
        return bad < 0 ? values : throw NonFinite(name, bad / rowLength, bad % rowLength, values[bad]);
    }

    public double[] Float64(string name, params ReadOnlySpan<long> shape)
    {
        double[] values = file.ReadFloat64(Checked(name, TensorType.F64, shape));
        int bad = values.AsSpan().IndexOfAnyExceptInRange(double.MinValue, double.MaxValue);
        return bad < 0 ? values : throw NonFinite(name, bad, 0, values[bad]);
    }

    public ControllerException Schema(string problem) => new(ControllerFault.Schema, $"{path} {problem}.");

    public ControllerException Shape(string name, string expected, string actual) =>
        new(ControllerFault.Shape, $"{path}: the tensor '{name}' is {actual}, expected {expected}.");

    private TensorInfo Checked(string name, TensorType type, ReadOnlySpan<long> shape)
    {
        var tensor = Find(name);
        if (tensor.Type != type || !tensor.HasShape(shape))
        {
            throw Shape(name, $"{type} ({string.Join(", ", shape.ToArray())})", $"{tensor.Type} {tensor.ShapeText}");
        }

        return tensor;
    }

    private ControllerException NonFinite(string name, int layer, int index, double value) =>
        new(ControllerFault.NonFinite, $"{path}: the tensor '{name}' holds {value} at layer {layer}, index {index}; every number must be finite. "
            + "Fit it again.")
        { Layer = layer, Index = index };
}
