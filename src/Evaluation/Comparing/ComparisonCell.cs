using System.Text.Json;
using System.Text.Json.Serialization;
using Tiller.Checkpoint;

namespace Tiller.Evaluation.Comparing;

/// <summary>What came of a method at a strength on a task, with a seed; a file of its own.</summary>
/// <param name="Identity">Hash of all that it depends on.</param>
/// <param name="Task">The task's name.</param>
/// <param name="Method">The method's name; "plain" for the plain model.</param>
/// <param name="IsControl">Whether the method is a control.</param>
/// <param name="Lambda">The strength; 0 where there is none.</param>
/// <param name="Seed">Number of the seed, from 0 on.</param>
/// <param name="Effort">Mean |u|/|x|; 0 where nothing was steered.</param>
/// <param name="Scores">The task's scores.</param>
/// <param name="NewTokens">Tokens that were drawn.</param>
/// <param name="Seconds">Time that decoding took.</param>
public sealed record ComparisonCell(
    string Identity, string Task, string Method, bool IsControl, double Lambda, int Seed, double Effort, IReadOnlyList<CellScore> Scores,
    long NewTokens, double Seconds)
{
    /// <summary>Reads a cell; null if there is none, or one of something else.</summary>
    internal static ComparisonCell? Read(string path, string identity)
    {
        try
        {
            using var file = File.OpenRead(path);
            var cell = JsonSerializer.Deserialize(file, CellJsonContext.Default.ComparisonCell);
            return cell?.Identity == identity ? cell : null;
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException or JsonException)
        {
            return null;
        }
    }

    /// <summary>Writes it whole or not at all.</summary>
    /// <exception cref="IOException">The disk is full, or the folder cannot be written in.</exception>
    internal void Write(string path)
    {
        string full = Path.GetFullPath(path);
        Directory.CreateDirectory(Path.GetDirectoryName(full)!);
        AtomicFile.Write(full, stream => JsonSerializer.Serialize(stream, this, CellJsonContext.Default.ComparisonCell));
    }
}

/// <summary>A score of a cell. NaN is null in the file.</summary>
/// <param name="Name">The scorer's name.</param>
/// <param name="Value">Over all texts.</param>
/// <param name="Without">Over all texts but one, for each.</param>
public sealed record CellScore(string Name, double? Value, IReadOnlyList<double?> Without)
{
    internal static CellScore Of(Score score) => new(score.Name, Finite(score.Value), [.. score.Without.Select(Finite)]);

    private static double? Finite(double value) => double.IsFinite(value) ? value : null;
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, WriteIndented = false)]
[JsonSerializable(typeof(ComparisonCell))]
internal sealed partial class CellJsonContext : JsonSerializerContext;
