using System.Collections.Concurrent;
using System.Text.Json;
using Tiller.Features;
using Tiller.Model;

namespace Tiller.Tests.Model;

/// <summary>The golden checkpoints, each loaded once for all tests, and their prompts.</summary>
internal static class TestModels
{
    private static readonly ConcurrentDictionary<string, Lazy<LanguageModel>> s_loaded = new(StringComparer.Ordinal);
    private static Device? s_device;

    public static IEnumerable<string> Families => Repository.Goldens.Select(folder => Path.GetFileName(folder)!);

    /// <summary>The small models, of width 64.</summary>
    public static IEnumerable<string> Tiny => Families.Where(name => name != "demo");

    public static LanguageModel Demo => Load("demo");

    /// <summary>Loads a golden checkpoint, or one of <see cref="FamilyCheckpoint"/>.</summary>
    public static LanguageModel Load(string family) =>
        s_loaded.GetOrAdd(s_device + family, _ => new Lazy<LanguageModel>(() => LoadAnew(family))).Value;

    /// <summary>Loads a test's own checkpoint; the test disposes of the model.</summary>
    public static LanguageModel LoadFrom(string folder) => LanguageModel.Load(folder, new LoadOptions { Device = s_device, Threads = 2 });

    /// <summary>Sets the device for models that are loaded from now on; null is the default of the tests.</summary>
    public static void Use(Device? device) => s_device = device;

    /// <summary>Disposes of all models on a device.</summary>
    public static void Unload(Device device)
    {
        foreach (string key in s_loaded.Keys.Where(key => key.StartsWith(device.ToString(), StringComparison.Ordinal)))
        {
            if (s_loaded.TryRemove(key, out var model))
            {
                model.Value.Dispose();
            }
        }
    }

    public static string Folder(string family) => Repository.Path("tests", "goldens", family, "checkpoint");

    /// <summary>The token ids of the golden prompts, which have different lengths.</summary>
    public static int[][] Prompts(string family)
    {
        if (FamilyCheckpoint.Has(family))
        {
            return FamilyCheckpoint.Prompts();
        }

        using var json = JsonDocument.Parse(File.ReadAllBytes(Repository.Path("tests", "goldens", family, "golden.json")));
        return
        [
            .. json.RootElement.GetProperty("prompts").EnumerateArray()
                .Select(p => p.GetProperty("ids").EnumerateArray().Select(id => id.GetInt32()).ToArray()),
        ];
    }

    /// <summary>The texts of one side of the golden contrast set.</summary>
    public static string[] Texts(string family, string side)
    {
        using var json = JsonDocument.Parse(File.ReadAllBytes(Repository.Path("tests", "goldens", family, "golden.json")));
        return [.. json.RootElement.GetProperty(side).EnumerateArray().Select(text => text.GetString()!)];
    }

    /// <summary>A golden prompt followed by random ids from a fixed seed, <paramref name="length"/> ids in all.</summary>
    public static int[] LongPrompt(string family, int length)
    {
        var random = new Random(length);
        int[] prompt = Prompts(family)[0];
        int vocabulary = Load(family).Config.V;
        return [.. prompt.Concat(Enumerable.Range(0, length).Select(_ => random.Next(3, vocabulary))).Take(length)];
    }

    private static LanguageModel LoadAnew(string family)
    {
        if (!FamilyCheckpoint.Has(family))
        {
            return LoadFrom(Folder(family));
        }

        using var checkpoint = new FamilyCheckpoint(family);
        return LoadFrom(checkpoint.Save());
    }

    /// <summary>Runs prompts once and keeps their caches.</summary>
    public static IReadOnlyList<PromptState> States(LanguageModel model, params int[][] prompts) =>
        PromptState.Collect(model, prompts, keepCaches: true, done: null, CancellationToken.None);
}

/// <summary>Collects what is reported, at once and on the reporting thread.</summary>
internal sealed class Told<T>(Action<T>? also = null) : IProgress<T>
{
    public List<T> Values { get; } = [];

    public void Report(T value)
    {
        Values.Add(value);
        also?.Invoke(value);
    }
}
