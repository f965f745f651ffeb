using Tiller.Controllers;
using Tiller.Decode;
using Tiller.Features;
using Tiller.Law;

namespace Tiller.Fuzz;

/// <summary>Saves two versions of a controller and a trace alternately until it is killed.</summary>
internal static class SaveLoop
{
    /// <summary>The line that it prints after saving both files.</summary>
    public const string Ready = "ready";

    private const int Layers = 6;
    private const int Width = 512;
    private const string ControllerFile = "c.tiller";
    private const string TraceFile = "t.jsonl";

    public static IReadOnlyList<string> Files { get; } = [ControllerFile, TraceFile];

    public static int Run(string folder, TextWriter output)
    {
        for (int version = 0; ; version ^= 1)
        {
            SaveBoth(folder, version);
            if (version == 0)
            {
                output.WriteLine(Ready);
                output = TextWriter.Null;
            }
        }
    }

    /// <summary>Saves one of the two files once. An error is reported by its type.</summary>
    public static int SaveOnce(string folder, string kind, TextWriter error)
    {
        try
        {
            if (kind == "controller")
            {
                MakeController(0).Save(Path.Combine(folder, ControllerFile));
            }
            else
            {
                MakeTrace(0).Write(Path.Combine(folder, TraceFile));
            }

            return 0;
        }
        catch (TillerException e)
        {
            error.WriteLine($"{e.GetType().Name}: {e.Message}");
            return 1;
        }
    }

    public static void SaveBoth(string folder, int version)
    {
        MakeController(version).Save(Path.Combine(folder, ControllerFile));
        MakeTrace(version).Write(Path.Combine(folder, TraceFile));
    }

    /// <summary>The bytes of both versions of a file, written without interruption.</summary>
    public static byte[][] Versions(string file)
    {
        DirectoryInfo folder = Directory.CreateTempSubdirectory("tiller-versions-");
        try
        {
            return [.. Enumerable.Range(0, 2).Select(version =>
            {
                SaveBoth(folder.FullName, version);
                return System.IO.File.ReadAllBytes(Path.Combine(folder.FullName, file));
            })];
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    public static Controller MakeController(int version)
    {
        var random = new Random(version);
        float[][] Rows(int count)
            => [.. Enumerable.Range(0, count).Select(_ => Enumerable.Range(0, Width + version).Select(_ => random.NextSingle() - 0.5f).ToArray())];
        var feature = Feature.FromDifference(Rows(Layers + 1));
        return new Controller(new LinearQuadratic(feature, Rows(Layers)), new ControllerSource
        {
            ModelName = $"version {version}",
            ModelFingerprint = "0",
            Positive = new PromptSet("1", 1),
            Negative = new PromptSet("2", 1),
        });
    }

    public static SteeringTrace MakeTrace(int version)
    {
        FeedbackLaw law = MakeController(version).ToLaw(1);
        var trace = new SteeringTrace(law);
        using var state = new Still(law, version);
        int[] ids = [.. Enumerable.Range(0, 200 + version)];
        foreach (int i in ids)
        {
            trace.Add(state, ids, [i]);
        }

        return trace;
    }

    // A steering state with made-up readings.
    private sealed class Still(FeedbackLaw law, int version) : SteeringState(law)
    {
        public override int Slots => 1;

        protected override void GetErrors(int slot, Span<float> errors) => errors.Fill(1.5f + version);

        protected override void SetErrors(ReadOnlySpan<float> errors)
        {
        }

        protected override void GetEffort(int slot, Span<float> inputNorms, Span<float> stateNorms)
        {
            inputNorms.Fill(0.25f + version);
            stateNorms.Fill(1);
        }
    }
}
