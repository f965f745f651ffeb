using System.Text.Json;
using Tiller.Checkpoint;

namespace Tiller.Tool;

/// <summary>A folder of golden values does not have the form that verification expects.</summary>
internal sealed class GoldenException : TillerException
{
    public GoldenException(string path, string message, Exception? cause = null)
        : base($"{path}: {message}", cause)
    {
    }
}

/// <summary>
/// A folder of golden values: checkpoint/, and any of golden.json, golden.safetensors and tokens.json. Only the existing files are checked.
/// </summary>
internal sealed class GoldenFolder : IDisposable
{
    // Cases of chat templates contain deeply nested schemas.
    private const int DeepestJson = 600;

    private readonly JsonDocument? _golden;
    private readonly JsonDocument? _tokens;

    public GoldenFolder(string path)
    {
        if (!Directory.Exists(path))
        {
            throw new GoldenException(path, "no such folder. Expected a folder with checkpoint/ and golden.json, golden.safetensors or tokens.json.");
        }

        Path = path;
        Checkpoint = System.IO.Path.Combine(path, "checkpoint");
        if (!Directory.Exists(Checkpoint))
        {
            throw new GoldenException(path, "has no folder checkpoint/. Expected the checkpoint that the golden values belong to.");
        }

        _golden = Parse("golden.json");
        _tokens = Parse("tokens.json");
        string tensors = System.IO.Path.Combine(path, "golden.safetensors");
        Tensors = File.Exists(tensors) ? SafetensorsFile.Open(tensors) : null;
        if (_golden is null && _tokens is null && Tensors is null)
        {
            throw new GoldenException(path, "has none of golden.json, golden.safetensors, tokens.json: there is nothing to verify.");
        }
    }

    public string Path { get; }

    public string Checkpoint { get; }

    /// <summary>Whether the checkpoint has weights, and not only a tokenizer.</summary>
    public bool HasModel => File.Exists(System.IO.Path.Combine(Checkpoint, "config.json")) &&
        (File.Exists(System.IO.Path.Combine(Checkpoint, CheckpointFolder.SingleFileName))
            || File.Exists(System.IO.Path.Combine(Checkpoint, CheckpointFolder.IndexFileName)));

    public JsonElement? Golden => _golden?.RootElement;

    public JsonElement? Tokens => _tokens?.RootElement;

    public SafetensorsFile? Tensors { get; }

    /// <summary>A tensor as float64 with its shape; null if the file does not have it.</summary>
    public GoldenTensor? Tensor(string name)
    {
        if (Tensors?.TryFind(name) is not { } info)
        {
            return null;
        }

        return new GoldenTensor([.. info.Shape.Select(n => checked((int)n))], Tensors.ReadFloat64(info));
    }

    public void Dispose()
    {
        _golden?.Dispose();
        _tokens?.Dispose();
        Tensors?.Dispose();
    }

    /// <summary>Parses a file of golden values as JSON.</summary>
    public static JsonDocument ParseFile(string path)
    {
        try
        {
            return JsonDocument.Parse(File.ReadAllBytes(path), new JsonDocumentOptions { MaxDepth = DeepestJson });
        }
        catch (JsonException e)
        {
            throw new GoldenException(path, $"is not JSON: {e.Message}", e);
        }
    }

    private JsonDocument? Parse(string name)
    {
        string path = System.IO.Path.Combine(Path, name);
        return File.Exists(path) ? ParseFile(path) : null;
    }
}

/// <summary>Golden numbers, or the engine's numbers to compare with them // Shape, row-major.</summary>
internal sealed record GoldenTensor(int[] Shape, double[] Values)
{
    /// <summary>Number of values in an entry along the slowest axis.</summary>
    public int Stride => Values.Length / Shape[0];

    /// <summary>Entry <paramref name="i"/> along the slowest axis.</summary>
    public ReadOnlySpan<double> this[int i] => Values.AsSpan(i * Stride, Stride);

    /// <summary>The numbers in float32, in the layout of a golden file.</summary>
    public TensorData ToTensorData(string name) => TensorData.FromFloat32(name, [.. Shape], Array.ConvertAll(Values, x => (float)x));
}
