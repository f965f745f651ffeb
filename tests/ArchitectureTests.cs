using System.Text.RegularExpressions;

namespace Tiller.Tests;

/// <summary>Holds the import directions of the engine's folders: which parts of it a file may name.</summary>
public sealed partial class ArchitectureTests
{
    // checkpoint → tokens → forward → features → pushforward/pullback → Riccati → feedback law → steered decode
    private static readonly Dictionary<string, string[]> s_folders = new(StringComparer.Ordinal)
    {
        ["Checkpoint"] = [],
        ["Jinja"] = [],
        ["Tokens"] = ["Checkpoint", "Jinja"],
        ["Tensors"] = ["Checkpoint", "Control"],
        ["Model"] = ["Checkpoint", "Control", "Tensors", "Tokens"],
        ["Features"] = ["Model", "Tensors", "Tokens"],
        ["Control"] = ["Checkpoint", "Features", "Tensors"],
        ["Decode"] = ["Checkpoint", "Control", "Model", "Tensors", "Tokens"],
    };

    // The only files of Control that know what a model is; the Riccati solvers and the methods see tensors and features.
    private static readonly Dictionary<string, string[]> s_files = new(StringComparer.Ordinal)
    {
        ["Control/Controller.cs"] = ["Checkpoint", "Features", "Model"],
        ["Control/ControllerFit.cs"] = ["Features", "Model"],
        ["Control/Linearization.cs"] = ["Features", "Model", "Tensors"],
    };

    // From these folders one part alone of another may be used.
    private static readonly Dictionary<(string From, string To), string[]> s_types = new()
    {
        [("Tensors", "Checkpoint")] = ["Activation", "ModelConfig", "TensorType", "TensorTypes"],
        [("Tensors", "Control")] = ["FeedbackLaw", "PackedLaw", "Sensor", "Term"],
        [("Model", "Control")] = ["FeedbackLaw"],
        [("Decode", "Checkpoint")] = ["OutputFile"],
    };

    private static readonly string s_engine = Repository.Path("src", "Engine");

    private static IEnumerable<string> Files =>
        Directory.EnumerateFiles(s_engine, "*.cs", SearchOption.AllDirectories).Select(f => Path.GetRelativePath(s_engine, f).Replace('\\', '/'))
            .Order(StringComparer.Ordinal);

    [Test]
    public void Every_folder_has_a_rule_and_every_rule_a_folder()
    {
        Assert.That(
            Directory.GetDirectories(s_engine).Where(d => Directory.EnumerateFiles(d, "*.cs").Any()).Select(Path.GetFileName), Is.EquivalentTo(s_folders.Keys));
        Assert.That(s_files.Keys, Is.SubsetOf(Files));
        Assert.That(Files.Where(f => f.Count(c => c == '/') > 1), Is.Empty, "two levels of folders");
    }

    [TestCaseSource(nameof(Files))]
    public void A_file_names_only_what_it_may(string file)
    {
        string code = Code(file);
        string folder = file.Contains('/', StringComparison.Ordinal) ? file[..file.IndexOf('/', StringComparison.Ordinal)] : "";
        string expected = folder.Length == 0 ? "Tiller" : "Tiller." + folder;
        Assert.That(Namespaces().Match(code).Groups["name"].Value, Is.EqualTo(expected));

        string[] named = [.. Named(code).Where(name => name != folder).Distinct(StringComparer.Ordinal)];
        string[] allowed = folder.Length == 0 ? [] : s_files.TryGetValue(file, out string[]? special) ? special : s_folders[folder];
        Assert.That(named, Is.SubsetOf(allowed), file);
        foreach (string other in named)
        {
            if (s_types.TryGetValue((folder, other), out string[]? types))
            {
                string[] used = [.. TypesOf(other).Where(type => Regex.IsMatch(code, $@"(?<![\w.]){type}(?!\w)", RegexOptions.None, Patience.Limit))];
                Assert.That(used, Is.SubsetOf(types), $"{file}: types of {other}");
            }
        }
    }

    [Test]
    public void The_library_knows_nothing_of_the_tools()
    {
        Assert.That(ReferencesOf("src", "Engine", "Tiller.Engine.csproj"), Is.EqualTo(new[] { "../Kernels/Tiller.Kernels.csproj" }));
        Assert.That(ReferencesOf("src", "Kernels", "Tiller.Kernels.csproj"), Is.EqualTo(new[] { "../Interop/Tiller.Interop.csproj" }));
        Assert.That(ReferencesOf("src", "Interop", "Tiller.Interop.csproj"), Is.Empty);
        Assert.That(Files.Where(f => Code(f).Contains("Tiller.Tool", StringComparison.Ordinal)), Is.Empty);
        foreach (string tool in Directory.EnumerateFiles(Repository.Path("tools"), "*.csproj", SearchOption.AllDirectories))
        {
            Assert.That(ReferencesOf(tool), Is.All.Matches<string>(r => r!.EndsWith("src/Engine/Tiller.Engine.csproj", StringComparison.Ordinal) || r == "../Bench/Tiller.Bench.csproj"), tool);
        }
    }

    [Test]
    public void What_a_rule_forbids_is_found()
    {
        Assert.That(Named("using Tiller.Model;\nnamespace Tiller.Checkpoint;"), Is.EquivalentTo(new[] { "Checkpoint", "Model" }));
        Assert.That(Named("namespace Tiller.Checkpoint; class A { Tensors.Floats x; Tiller.Decode.Session y; }"), Is.EquivalentTo(new[] { "Checkpoint", "Tensors", "Decode" }));
        Assert.That(Named("using System.Numerics.Tensors; class A { int x = this.Model.Length; }"), Is.Empty);
        Assert.That(Stripped("a // Tiller.Model\n/* Tiller.Decode */ b \"Tiller.Tokens\" /// Model.X"), Does.Not.Contain("Tiller").And.Not.Contain("Model"));
    }

    private static string[] ReferencesOf(params string[] project) =>
        [.. References().Matches(File.ReadAllText(Repository.Path(project))).Select(m => m.Groups["name"].Value.Replace('\\', '/'))];

    private static string Code(string file) => Stripped(File.ReadAllText(Path.Combine(s_engine, file)));

    // Comments and the text of simple strings say nothing about imports.
    private static string Stripped(string source) => Comments().Replace(source, match => match.Value.StartsWith('"') ? "\"\"" : " ");

    private static IEnumerable<string> Named(string code) =>
        Usings().Matches(code).Concat(Qualified().Matches(code).Where(match => TypesOf(match.Groups["name"].Value).Contains(match.Groups["type"].Value)))
            .Select(match => match.Groups["name"].Value).Where(s_folders.ContainsKey);

    private static IEnumerable<string> TypesOf(string folder) =>
        typeof(Tiller.Tensors.Ops).Assembly.GetTypes().Where(t => t.Namespace == "Tiller." + folder && !t.IsNested)
            .Select(t => t.Name.Split('`')[0]).Where(name => !name.StartsWith('<')).Distinct(StringComparer.Ordinal);

    [GeneratedRegex("""//[^\n]*|/\*.*?\*/|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)+'""", RegexOptions.Singleline, 5000)]
    private static partial Regex Comments();

    [GeneratedRegex(@"^\s*namespace\s+(?<name>[\w.]+)\s*;", RegexOptions.Multiline, 5000)]
    private static partial Regex Namespaces();

    [GeneratedRegex(@"\bTiller\.(?<name>\w+)", RegexOptions.None, 5000)]
    private static partial Regex Usings();

    // A folder's name before a dot and a type: Tensors.Floats. Preceded by a dot it is a member or another library's namespace.
    [GeneratedRegex(@"(?<![\w.])(?<name>Checkpoint|Jinja|Tokens|Tensors|Model|Features|Control|Decode)\.(?<type>[A-Z]\w*)", RegexOptions.None, 5000)]
    private static partial Regex Qualified();

    [GeneratedRegex("ProjectReference\\s+Include=\"(?<name>[^\"]+)\"", RegexOptions.None, 5000)]
    private static partial Regex References();
}
