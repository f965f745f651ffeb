using System.Text.Json.Serialization;
using Tiller.Checkpoint;
using Tiller.Model;

namespace Tiller.Tool;

/// <summary>Prints a checkpoint, for <c>tiller inspect</c>.</summary>
internal static class CheckpointOutput
{
    public static void WriteText(Terminal terminal, CheckpointInspection inspection)
    {
        var (checkpoint, chat, noChat, nonFinite) = inspection;
        var (folder, c, tokenizer) = (checkpoint.Folder, checkpoint.Config, checkpoint.Tokenizer);
        Row("folder", folder.Path);
        Row("family", c.Family);
        Row("shape", $"L {c.L} layers, D {c.D} wide, H {c.H} heads, G {c.G} key/value heads, E {c.E} head size, F {c.F} feed-forward, "
            + $"V {c.V} vocabulary");
        Row("context", $"{c.MaxPositions} tokens{Window(c)}");
        Row("rotary", string.Join("; ", c.Rotary.GroupBy(rotary => rotary).Select(group => Rotary(group.Key, group.Count(), c))));
        string files = $"{Size(folder.SizeInBytes)} in {folder.Files.Count} file{(folder.Files.Count == 1 ? "" : "s")}";
        string head = !c.TiedHead ? "own head" : HasHead(folder) ? $"embedding and head tied, {ModelWeights.HeadName} not used"
            : "embedding and head tied";
        Row("weights", $"{Parameters(folder):N0} parameters, {files}, {head}");
        string beyond = tokenizer.VocabularySize > c.V ? $", those from {c.V} on without a row in the embedding" : "";
        Row("tokenizer", $"{tokenizer.VocabularySize} ids{beyond}");
        Row("ends at", Ends(checkpoint));
        Row("chat", chat ?? $"none: {noChat}");
        Row("fingerprint", folder.Fingerprint);
        foreach (string warning in checkpoint.Warnings)
        {
            Row("warning", warning);
        }

        terminal.Output.WriteLine();
        terminal.Output.WriteLine($"{"tensor",-52} {"type",-6}{"shape",-18}{"count",6}{"size",12}");
        foreach (var kind in folder.Tensors.GroupBy(t => (Name: AnyLayer(t.Name), t.Type, t.ShapeText)))
        {
            string size = Size(kind.Sum(t => t.SizeInBytes));
            terminal.Output.WriteLine(
                $"{VisibleText.Of(kind.Key.Name),-52} {kind.Key.Type.SpecName(),-6}{kind.Key.ShapeText,-18}{kind.Count(),6}{size,12}");
        }

        if (nonFinite is not null)
        {
            terminal.Output.WriteLine();
            Row("values", nonFinite.Sum() == 0
                ? $"all {Parameters(folder):N0} are finite"
                : $"{nonFinite.Sum():N0} of {Parameters(folder):N0} are NaN or infinite:");
            foreach (var (tensor, count) in folder.Tensors.Zip(nonFinite).Where(pair => pair.Second > 0))
            {
                Row("", $"{count:N0} of {tensor.ElementCount:N0} in {tensor.Name}");
            }
        }

        void Row(string name, string value) => terminal.Output.WriteLine($"{name,-12}{VisibleText.Of(value)}");
    }

    public static void WriteJson(Terminal terminal, CheckpointInspection inspection)
    {
        var (checkpoint, chat, noChat, nonFinite) = inspection;
        var (folder, c) = (checkpoint.Folder, checkpoint.Config);
        var told = new CheckpointJson(c)
        {
            Folder = folder.Path,
            Parameters = Parameters(folder),
            SizeInBytes = folder.SizeInBytes,
            Files = folder.Files.Count,
            Tokens = checkpoint.Tokenizer.VocabularySize,
            EndIds = checkpoint.EndIds.Value,
            Chat = chat,
            NoChat = noChat,
            Fingerprint = folder.Fingerprint,
            Warnings = checkpoint.Warnings,
            Tensors = [.. folder.Tensors.Select((x, i) => new TensorJson(x.Name, x.Type.SpecName(), x.Shape, x.SizeInBytes, nonFinite?[i]))],
        };
        Json.Write(terminal.Output, told, CheckpointJsonContext.Default.CheckpointJson);
    }

    private static bool HasHead(CheckpointFolder folder) => folder.TryFind(ModelWeights.HeadName) is not null;

    // Layers with the same rotation; if all layers have it, their number is not shown.
    private static string Rotary(Rotary? rotary, int layers, ModelConfig c)
    {
        string how = rotary is null ? "none"
            : $"theta {rotary.Theta:G}{(c.R < c.E ? $", {c.R} of {c.E}" : "")}{(rotary.Scaling is { } scaling ? $", {scaling}" : "")}";
        return layers == c.L ? how : $"{how} in {layers} layers";
    }

    private static string Ends(LoadableCheckpoint checkpoint) => checkpoint.EndIds.Value is { Count: > 0 } ids
        ? string.Join(", ", ids.Select(id => checkpoint.Tokenizer.Tokens.Contains(id) ? $"{checkpoint.Tokenizer.TokenOf(id)} ({id})" : $"{id}"))
        : "no token: texts end only by --max-tokens and --stop";

    private static long Parameters(CheckpointFolder folder) => folder.Tensors.Sum(t => t.ElementCount);

    private static string Window(ModelConfig c) =>
        c.Windows.Any(w => w > 0) ? $", window {c.Windows.Where(w => w > 0).Min()} on {c.Windows.Count(w => w > 0)} of {c.L} layers" : "";

    // model.layers.7.mlp.up_proj.weight → model.layers.*.mlp.up_proj.weight
    private static string AnyLayer(string name)
        => string.Join('.', name.Split('.').Select(part => part.Length > 0 && part.All(char.IsAsciiDigit) ? "*" : part));

    private static string Size(long bytes) => bytes switch
    {
        >= 1_000_000_000 => $"{bytes / 1e9:F2} GB",
        >= 1_000_000 => $"{bytes / 1e6:F1} MB",
        >= 1_000 => $"{bytes / 1e3:F1} kB",
        _ => $"{bytes} B",
    };
}

/// <summary>The JSON of <c>inspect</c> for a checkpoint.</summary>
internal sealed record CheckpointJson
{
    public CheckpointJson(ModelConfig c)
    {
        (Family, MaxPositions, TiedHead) = (c.Family, c.MaxPositions, c.TiedHead);
        (L, D, H, G, E, F, V) = (c.L, c.D, c.H, c.G, c.E, c.F, c.V);
    }

    public string Kind { get; } = "checkpoint";

    public required string Folder { get; init; }

    public string Family { get; }

    [JsonPropertyName("L")]
    public int L { get; }

    [JsonPropertyName("D")]
    public int D { get; }

    [JsonPropertyName("H")]
    public int H { get; }

    [JsonPropertyName("G")]
    public int G { get; }

    [JsonPropertyName("E")]
    public int E { get; }

    [JsonPropertyName("F")]
    public int F { get; }

    [JsonPropertyName("V")]
    public int V { get; }

    public int MaxPositions { get; }

    public bool TiedHead { get; }

    public required long Parameters { get; init; }

    public required long SizeInBytes { get; init; }

    public required int Files { get; init; }

    public required int Tokens { get; init; }

    public required IReadOnlyList<int> EndIds { get; init; }

    public required string? Chat { get; init; }

    public required string? NoChat { get; init; }

    public required string Fingerprint { get; init; }

    public required IReadOnlyList<string> Warnings { get; init; }

    public required IReadOnlyList<TensorJson> Tensors { get; init; }
}

/// <summary>The JSON of a tensor, with the number of its NaN and infinite values if they were counted.</summary>
internal sealed record TensorJson(
    string Name, string Type, IReadOnlyList<long> Shape, long SizeInBytes,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] long? NonFinite);

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, GenerationMode = JsonSourceGenerationMode.Serialization)]
[JsonSerializable(typeof(CheckpointJson))]
internal sealed partial class CheckpointJsonContext : JsonSerializerContext;
