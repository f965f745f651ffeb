using System.Runtime.CompilerServices;

namespace Tiller.Tests;

/// <summary>Finds the files of the checkout that the tests read.</summary>
internal static class Repository
{
    public static string Root { get; } = Find();

    /// <summary>Folders of golden values, one per family; each holds a checkpoint, golden.json, golden.safetensors, tokens.json.</summary>
    public static IEnumerable<string> Goldens => Directory.GetDirectories(Path("tests", "goldens")).Order(StringComparer.Ordinal);

    public static string Path(params string[] parts) => System.IO.Path.Combine([Root, .. parts]);

    private static string Find([CallerFilePath] string here = "")
    {
        for (var folder = new DirectoryInfo(System.IO.Path.GetDirectoryName(here)!); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(System.IO.Path.Combine(folder.FullName, "Engine.sln")))
            {
                return folder.FullName;
            }
        }

        throw new DirectoryNotFoundException($"No Engine.sln above {here}.");
    }
}
