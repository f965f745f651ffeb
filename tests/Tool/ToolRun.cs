using System.Text;
using System.Text.Json;
using Tiller.Tool;

namespace Tiller.Tests.Tool;

/// <summary>A command line that was run in this process, with its exit code and its output.</summary>
internal sealed record ToolRun(int Code, string Output, string Error)
{
    public static string Model { get; } = Repository.Path("models", "demo");

    /// <summary>The output of --json.</summary>
    public JsonElement Json
    {
        get
        {
            using var document = JsonDocument.Parse(Output);
            return document.RootElement.Clone();
        }
    }

    /// <summary>The bytes that were written to standard output as data.</summary>
    public byte[] Data { get; private init; } = [];

    public static Task<ToolRun> Of(params string[] args) => Of(args, [], default);

    public static async Task<ToolRun> Of(
        string[] args, byte[] input, CancellationToken cancellationToken, bool outputIsTerminal = false, Action<StageProgress>? onStage = null)
    {
        await using var output = new StringWriter { NewLine = "\n" };
        await using var error = new StringWriter { NewLine = "\n" };
        using var data = new MemoryStream();
        var terminal = new Terminal(new MemoryStream(input), inputIsTerminal: false, output, outputIsLive: false, error, errorIsLive: false)
        {
            OutputIsTerminal = outputIsTerminal,
            Data = data,
            OnStage = onStage,
        };
        int code = await CommandLine.RunAsync(Runs.Commands(terminal, args: args), args, terminal, cancellationToken);
        return new ToolRun(code, output.ToString(), error.ToString()) { Data = data.ToArray() };
    }

    public static byte[] Bytes(string text) => Encoding.UTF8.GetBytes(text);

    /// <summary>A file of the demo task's contrast sets.</summary>
    public static string Contrast(string file) => Path.Combine(Model, "contrast", $"{file}.txt");
}

/// <summary>A folder for one test.</summary>
internal sealed class Scratch : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("tiller-");

    public string this[string name] => Path.Combine(_folder.FullName, name);

    public string[] Files => [.. _folder.GetFiles().Select(f => f.Name)];

    public void Dispose() => _folder.Delete(recursive: true);

    /// <summary>Writes a file with the first prompts of a demo contrast file, so few that a fit is fast.</summary>
    public string Few(string file, int count = 6)
    {
        string path = this[$"{file}.few.txt"];
        File.WriteAllLines(path, File.ReadLines(ToolRun.Contrast(file)).Take(count));
        return path;
    }
}
