using System.Globalization;
using System.Security.Cryptography;
using System.Text.Json;
using Tiller.Law;

namespace Tiller.Controllers;

/// <summary>
/// A steering vector of IBM's activation-steering (.svec), a JSON object: <c>directions</c> has a list of D numbers for each block's number;
/// <c>model_type</c> and <c>explained_variances</c> are for people. A direction is measured on what leaves its block, and published code adds it to
/// what enters that block (<see cref="VectorUse.ActivationSteering"/>), but the file does not say so.
/// Source: activation_steering/steering_vector.py.
/// </summary>
public static class SteeringVectorFile
{
    private const int MaxSize = 64 << 20;

    /// <summary>Makes a steering vector a controller.</summary>
    /// <param name="file">The file's bytes, at most 64 MiB.</param>
    /// <param name="use">What is done with its directions.</param>
    /// <param name="modelName">Name of the model that it is for: the file does not say, so its width and depth alone are checked.</param>
    /// <param name="fingerprint">Fingerprint of the model.</param>
    /// <param name="layers">L of the model.</param>
    /// <param name="width">D of the model.</param>
    /// <param name="blocks">Blocks whose directions are used; null for all.</param>
    /// <exception cref="ControllerException">It is malformed, too large, of another width or depth, or all zero.</exception>
    public static Controller Read(
        ReadOnlyMemory<byte> file, VectorUse use, string modelName, string fingerprint, int layers, int width, LayerSet? blocks = null)
    {
        ArgumentNullException.ThrowIfNull(use);
        if (file.Length > MaxSize)
        {
            throw new ControllerException(ControllerFault.LimitExceeded, $"The steering vector has {file.Length} bytes; at most {MaxSize} are read.");
        }

        var directions = new Dictionary<int, float[]>();
        try
        {
            using var json = JsonDocument.Parse(file, new JsonDocumentOptions { MaxDepth = 8 });
            if (json.RootElement.ValueKind != JsonValueKind.Object || !json.RootElement.TryGetProperty("directions", out var given)
                || given.ValueKind != JsonValueKind.Object)
            {
                throw Malformed("has no object 'directions'");
            }

            foreach (var entry in given.EnumerateObject())
            {
                if (!int.TryParse(entry.Name, NumberStyles.None, CultureInfo.InvariantCulture, out int number) || number >= layers)
                {
                    throw new ControllerException(
                        ControllerFault.ModelMismatch, $"The steering vector has a direction of no block of the model, which are 0-{layers - 1}.");
                }

                if (!directions.TryAdd(number, Numbers(entry.Value, number, width)))
                {
                    throw Malformed($"has direction {number} twice");
                }
            }
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException) // half a surrogate pair in a name
        {
            throw Malformed($"is no JSON: {e.Message}", e);
        }

        string hash = Convert.ToHexStringLower(SHA256.HashData(file.Span));
        return new Controller(use.ToMethod(directions, layers, width, blocks), new ControllerSource
        {
            ModelName = modelName,
            ModelFingerprint = fingerprint,
            Positive = new PromptSet(hash, 1),
            Negative = new PromptSet(hash, 1),
            Settings = new Dictionary<string, string>(StringComparer.Ordinal) { ["source"] = "steering vector (.svec)" },
        });
    }

    private static float[] Numbers(JsonElement list, int number, int width)
    {
        if (list.ValueKind != JsonValueKind.Array || list.GetArrayLength() != width)
        {
            throw new ControllerException(
                ControllerFault.ModelMismatch, $"Direction {number} is no list of {width} numbers, the width of the model.");
        }

        float[] numbers = new float[width];
        int i = 0;
        foreach (var value in list.EnumerateArray())
        {
            if (value.ValueKind != JsonValueKind.Number || !value.TryGetSingle(out numbers[i]))
            {
                throw Malformed($"has something other than a number in direction {number} at {i}");
            }

            if (!float.IsFinite(numbers[i]))
            {
                throw new ControllerException(ControllerFault.NonFinite, $"Direction {number} is too large for float32 at {i}.")
                {
                    Layer = number,
                    Index = i,
                };
            }

            i++;
        }

        return numbers;
    }

    private static ControllerException Malformed(string what, Exception? cause = null) =>
        new(ControllerFault.Schema, $"The steering vector {what}. Give a file as activation-steering's SteeringVector.save writes it.", cause);
}
