using System.Text.Json;
using System.Text.Json.Serialization;
using Tiller.Checkpoint;

namespace Tiller.Evaluation.Comparing;

/// <summary>A cell that a comparison has.</summary>
/// <param name="Path">Its file, in the comparison's folder.</param>
/// <param name="Identity">Hash of all that it depends on.</param>
public sealed record PlannedCell(string Path, string Identity);

/// <summary>All cells of a comparison, so that those who computed a part of them need not be asked what the others are to compute.</summary>
/// <param name="Model">The model's name.</param>
/// <param name="Cells">The cells, in the order of the report.</param>
public sealed record ComparisonPlan(string Model, IReadOnlyList<PlannedCell> Cells)
{
    private const string FileName = "comparison.json";

    /// <summary>Whether a folder holds a comparison.</summary>
    public static bool IsIn(string folder) => File.Exists(Path.Combine(folder, FileName));

    /// <summary>Reads the plan of a folder.</summary>
    /// <exception cref="ComparisonException">There is none, or it is damaged.</exception>
    public static ComparisonPlan Read(string folder)
    {
        string path = Path.Combine(folder, FileName);
        try
        {
            using var file = File.OpenRead(path);
            return JsonSerializer.Deserialize(file, PlanJsonContext.Default.ComparisonPlan) is { Cells: not null, Model: not null } plan
                && plan.Cells.All(static x => x is { Path: not null, Identity: not null } && IsInside(x.Path))
                    ? plan
                    : throw new ComparisonException($"{path} is no list of a comparison's cells.");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException)
        {
            throw new ComparisonException($"{path} cannot be read: {e.Message} Name a folder that a comparison was run in.");
        }
    }

    /// <summary>Puts the cells of one comparison together, which several processes computed in one folder or in several.</summary>
    /// <param name="folders">The folders, at least one.</param>
    /// <returns>The plan, and every cell of it.</returns>
    /// <exception cref="ComparisonException">The folders hold different comparisons, or a cell is in none of them.</exception>
    public static (ComparisonPlan Plan, IReadOnlyList<ComparisonCell> Cells) Gather(IReadOnlyList<string> folders)
    {
        ArgumentNullException.ThrowIfNull(folders);
        var plan = Read(folders[0]);
        foreach (string folder in folders.Skip(1))
        {
            if (!Read(folder).IsSameAs(plan))
            {
                throw new ComparisonException(
                    $"{folders[0]} and {folder} hold different comparisons: run all shards with the same model, tasks, methods and settings.");
            }
        }

        var found = Found(plan, folders);
        int missing = Array.IndexOf(found, null);
        return missing < 0
            ? (plan, [.. found.OfType<ComparisonCell>()])
            : throw new ComparisonException(
                $"{found.Count(static x => x is null)} of {found.Length} cells are missing; the first is number {missing}, "
                + $"{plan.Cells[missing].Path}. "
                + "Run the shards again that did not end: cells that are there are not computed again.");
    }

    /// <summary>The cells of folders that hold one comparison; null if one is missing.</summary>
    internal static IReadOnlyList<ComparisonCell>? Find(IReadOnlyList<string> folders)
    {
        var found = Found(Read(folders[0]), folders);
        return Array.IndexOf(found, null) < 0 ? [.. found.OfType<ComparisonCell>()] : null;
    }

    private static ComparisonCell?[] Found(ComparisonPlan plan, IReadOnlyList<string> folders) =>
    [
        .. plan.Cells.Select(planned =>
            folders.Select(folder => ComparisonCell.Read(Path.Combine(folder, planned.Path), planned.Identity)).FirstOrDefault(x => x is not null)),
    ];

    /// <summary>Keeps the plan in a folder with all its cells, so that a comparison goes on there as where it was run.</summary>
    /// <param name="folder">The folder, which is created if necessary.</param>
    /// <param name="cells">The cells, in the order of the plan.</param>
    /// <exception cref="IOException">The folder cannot be written in.</exception>
    internal void Write(string folder, IReadOnlyList<ComparisonCell> cells)
    {
        Write(folder);
        foreach (var (planned, cell) in Cells.Zip(cells))
        {
            string path = Path.Combine(folder, planned.Path);
            if (ComparisonCell.Read(path, planned.Identity) is null)
            {
                cell.Write(path);
            }
        }
    }

    /// <summary>Keeps the plan in a folder, whole or not at all.</summary>
    /// <exception cref="IOException">The folder cannot be written in.</exception>
    internal void Write(string folder)
    {
        string path = Path.GetFullPath(Path.Combine(folder, FileName));
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        byte[] bytes = JsonSerializer.SerializeToUtf8Bytes(this, PlanJsonContext.Default.ComparisonPlan);
        if (!File.Exists(path) || !File.ReadAllBytes(path).AsSpan().SequenceEqual(bytes)) // another shard may have written it
        {
            AtomicFile.Write(path, stream => stream.Write(bytes));
        }
    }

    private bool IsSameAs(ComparisonPlan other) => Model == other.Model && Cells.SequenceEqual(other.Cells);

    // A plan comes from a file, and names files.
    private static bool IsInside(string path) =>
        !Path.IsPathRooted(path) && !path.Split('/', '\\').Contains("..") && path.StartsWith("cells", StringComparison.Ordinal);
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase)]
[JsonSerializable(typeof(ComparisonPlan))]
internal sealed partial class PlanJsonContext : JsonSerializerContext;
