using System.Text.Json;
using System.Text.Json.Serialization;
using Tiller.Checkpoint;

namespace Tiller.Evaluation.Comparing;

/// <summary>The result of one method at one strength on one task with one seed. Each cell is a file.</summary>
/// <param name="Identity">Hash of everything that the result depends on.</param>
/// <param name="Task">The task's name.</param>
/// <param name="Method">The method's name; "plain" for the plain model.</param>
/// <param name="IsControl">Whether the method is a control.</param>
/// <param name="Lambda">The strength; 0 for methods without one.</param>
/// <param name="Seed">Index of the seed, counted from 0.</param>
/// <param name="Effort">Mean |u|/|x|; 0 if nothing was steered.</param>
/// <param name="Scores">The task's scores.</param>
/// <param name="NewTokens">Number of tokens drawn.</param>
/// <param name="Seconds">Time of decoding in seconds.</param>
public sealed record ComparisonCell(
    string Identity, string Task, string Method, bool IsControl, double Lambda, int Seed, double Effort, IReadOnlyList<CellScore> Scores,
    long NewTokens, double Seconds)
{
    /// <summary>Reads a cell; null if the file is missing, is not a cell, or has another identity.</summary>
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

    /// <summary>Writes the cell to a file, completely or not at all.</summary>
    /// <exception cref="IOException">The disk is full, or the folder is not writable.</exception>
    internal void Write(string path)
    {
        string full = Path.GetFullPath(path);
        Directory.CreateDirectory(Path.GetDirectoryName(full)!);
        AtomicFile.Write(full, stream => JsonSerializer.Serialize(stream, this, CellJsonContext.Default.ComparisonCell));
    }
}

/// <summary>One score of a cell. A value that is not finite is null.</summary>
/// <param name="Name">The scorer's name.</param>
/// <param name="Value">The score of all texts.</param>
/// <param name="Without">For each text i, the score of all texts but i.</param>
public sealed record CellScore(string Name, double? Value, IReadOnlyList<double?> Without)
{
    internal static CellScore Of(Score score) => new(score.Name, Finite(score.Value), [.. score.Without.Select(Finite)]);

    private static double? Finite(double value) => double.IsFinite(value) ? value : null;
}

[JsonSourceGenerationOptions(PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase, WriteIndented = false)]
[JsonSerializable(typeof(ComparisonCell))]
internal sealed partial class CellJsonContext : JsonSerializerContext;
