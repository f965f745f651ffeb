using System.Runtime.CompilerServices;

namespace Tiller.Tests;

/// <summary>Finds the files of the checkout that the tests read.</summary>
internal static class Repository
{
    /// <summary>The environment variable that names the checkout if the tests run on another machine than they were built on.</summary>
    private const string Variable = "TILLER_REPOSITORY";

    public static string Root { get; } = Find();

    /// <summary>The folders of golden values, one per family; each holds a checkpoint, golden.json, golden.safetensors and tokens.json.</summary>
    public static IEnumerable<string> Goldens => Directory.GetDirectories(Path("tests", "goldens")).Order(StringComparer.Ordinal);

    public static string Path(params string[] parts) => System.IO.Path.Combine([Root, .. parts]);

    private static string Find([CallerFilePath] string here = "")
    {
        string built = System.IO.Path.GetDirectoryName(here)!, current = Directory.GetCurrentDirectory();
        string[] starts = Environment.GetEnvironmentVariable(Variable) is { Length: > 0 } named ? [named] : [built, current];
        foreach (string start in starts)
        {
            for (var folder = new DirectoryInfo(start); folder is not null; folder = folder.Parent)
            {
                if (File.Exists(System.IO.Path.Combine(folder.FullName, "Engine.sln")))
                {
                    return folder.FullName;
                }
            }
        }

        throw new DirectoryNotFoundException($"No Engine.sln in or above {string.Join(" or ", starts)}; name the checkout in {Variable}.");
    }
}
