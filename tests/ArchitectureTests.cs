using System.Text.RegularExpressions;

namespace Tiller.Tests;

/// <summary>Checks the order of the engine's rooms: which other rooms each of them may use (docs/architecture.md).</summary>
public sealed partial class ArchitectureTests
{
    // checkpoint → tokens → forward → features → pushforward/pullback → Riccati → feedback law → steered decode.
    // A room may use only the rooms that are listed with it, and all of those stand above it, so there can be no cycle.
    private static readonly (string Room, string[] Uses)[] s_rooms =
    [
        ("Checkpoint", []),
        ("Hub", ["Checkpoint"]),
        ("Tokens", ["Checkpoint"]),
        ("Jinja", []),
        ("Chat", ["Checkpoint", "Tokens", "Jinja"]),
        ("Law", []),
        ("Ops", ["Checkpoint", "Law"]),
        ("Cpu", ["Checkpoint", "Law", "Ops"]),
        ("Cuda", ["Checkpoint", "Law", "Ops"]),
        ("Model", ["Checkpoint", "Tokens", "Chat", "Law", "Ops", "Cpu", "Cuda"]),
        ("Features", ["Tokens", "Chat", "Ops", "Model"]),
        ("Synthesis", ["Checkpoint", "Law", "Ops", "Cpu", "Model", "Features"]),
        ("Controllers", ["Checkpoint", "Law", "Ops", "Cpu", "Model", "Features", "Synthesis"]),
        ("Decode", ["Checkpoint", "Tokens", "Chat", "Law", "Ops", "Model"]),
        ("Online", ["Law", "Features", "Synthesis", "Controllers", "Decode"]),
        ("Scheduling", ["Law", "Ops", "Model", "Decode"]),
    ];

    private static readonly string s_engine = Repository.Path("src", "Engine");

    private static IEnumerable<string> RoomNames => s_rooms.Select(r => r.Room);

    private static IEnumerable<string> Files =>
        Directory.EnumerateFiles(s_engine, "*.cs", SearchOption.AllDirectories).Select(f => Path.GetRelativePath(s_engine, f).Replace('\\', '/'))
            .Order(StringComparer.Ordinal);

    [Test]
    public void Every_folder_is_a_room_and_every_room_a_folder()
    {
        Assert.That(Directory.GetDirectories(s_engine).Where(d => Directory.EnumerateFiles(d, "*.cs").Any()).Select(Path.GetFileName),
            Is.EquivalentTo(s_rooms.Select(r => r.Room)));
        Assert.That(Files.Where(f => f.Count(c => c == '/') > 1), Is.Empty, "a room has no rooms inside");
    }

    [Test]
    public void A_room_uses_only_rooms_above_it()
    {
        for (int i = 0; i < s_rooms.Length; i++)
        {
            Assert.That(s_rooms[i].Uses, Is.SubsetOf(s_rooms[..i].Select(r => r.Room)), s_rooms[i].Room);
        }
    }

    [TestCaseSource(nameof(Files))]
    public void A_file_names_only_what_its_room_uses(string file)
    {
        string code = Code(file);
        string room = file.Contains('/', StringComparison.Ordinal) ? file[..file.IndexOf('/', StringComparison.Ordinal)] : "";
        Assert.That(Namespaces().Match(code).Groups["name"].Value, Is.EqualTo(room.Length == 0 ? "Tiller" : "Tiller." + room));
        Assert.That(Named(code).Where(name => name != room).Distinct(StringComparer.Ordinal),
            Is.SubsetOf(s_rooms.SingleOrDefault(r => r.Room == room).Uses ?? []), file);
    }

    [TestCaseSource(nameof(RoomNames))]
    public void What_a_room_may_use_it_does_use(string room)
    {
        var named = Files.Where(f => f.StartsWith(room + "/", StringComparison.Ordinal)).SelectMany(f => Named(Code(f))).Where(name => name != room);
        Assert.That(named.Distinct(StringComparer.Ordinal), Is.EquivalentTo(s_rooms.Single(r => r.Room == room).Uses));
    }

    [Test]
    public void The_library_knows_nothing_of_the_tools()
    {
        Assert.That(ReferencesOf("src", "Engine", "Tiller.Engine.csproj"), Is.EqualTo(new[] { "../Kernels/Tiller.Kernels.csproj" }));
        Assert.That(ReferencesOf("src", "Kernels", "Tiller.Kernels.csproj"), Is.EqualTo(new[] { "../Interop/Tiller.Interop.csproj" }));
        Assert.That(ReferencesOf("src", "Interop", "Tiller.Interop.csproj"), Is.Empty);
        Assert.That(ReferencesOf("src", "Evaluation", "Tiller.Evaluation.csproj"), Is.EqualTo(new[] { "../Engine/Tiller.Engine.csproj" }));
        Assert.That(
            ReferencesOf("src", "Evaluation.Onnx", "Tiller.Evaluation.Onnx.csproj"), Is.EqualTo(new[] { "../Evaluation/Tiller.Evaluation.csproj" }));
        Assert.That(ReferencesOf("src", "Serving", "Tiller.Serving.csproj"), Is.EqualTo(new[] { "../Engine/Tiller.Engine.csproj" }));
        Assert.That(ReferencesOf("src", "Native", "Tiller.Native.csproj"), Is.EqualTo(new[] { "../Engine/Tiller.Engine.csproj" }));
        Assert.That(Files.Where(f => Code(f).Contains("Tiller.Tool", StringComparison.Ordinal)), Is.Empty);
        foreach (string tool in Directory.EnumerateFiles(Repository.Path("tools"), "*.csproj", SearchOption.AllDirectories))
        {
            Assert.That(ReferencesOf(tool), Is.All.Matches<string>(r => r!.EndsWith("src/Engine/Tiller.Engine.csproj", StringComparison.Ordinal)
                || r.EndsWith("src/Evaluation/Tiller.Evaluation.csproj", StringComparison.Ordinal)
                || r == "../../src/Serving/Tiller.Serving.csproj"
                || (tool.EndsWith("Tiller.Eval.csproj", StringComparison.Ordinal)
                    && r is "../../src/Evaluation.Onnx/Tiller.Evaluation.Onnx.csproj" or "../Tiller/Tiller.csproj")
                || r.EndsWith("/Tiller.Bench.csproj", StringComparison.Ordinal)), tool);
        }
    }

    [Test]
    public void What_a_rule_forbids_is_found()
    {
        Assert.That(Named("using Tiller.Model;\nnamespace Tiller.Checkpoint;"), Is.EquivalentTo(new[] { "Checkpoint", "Model" }));
        Assert.That(Named("namespace Tiller.Checkpoint; class A { Ops.KvCache x; Tiller.Decode.Session y; }"),
            Is.EquivalentTo(new[] { "Checkpoint", "Ops", "Decode" }));
        Assert.That(Named("using System.Numerics.Tensors; class A { int x = this.Model.Length; }"), Is.Empty);
        Assert.That(Stripped("a // Tiller.Model\n/* Tiller.Decode */ b \"Tiller.Tokens\" /// Model.X"),
            Does.Not.Contain("Tiller").And.Not.Contain("Model"));
    }

    private static string[] ReferencesOf(params string[] project) =>
        [.. References().Matches(File.ReadAllText(Repository.Path(project))).Select(m => m.Groups["name"].Value.Replace('\\', '/'))];

    private static string Code(string file) => Stripped(File.ReadAllText(Path.Combine(s_engine, file)));

    // Comments and the text of simple strings say nothing about imports.
    private static string Stripped(string source) => Comments().Replace(source, match => match.Value.StartsWith('"') ? "\"\"" : " ");

    private static IEnumerable<string> Named(string code) =>
        Usings().Matches(code)
            .Concat(Qualified().Matches(code).Where(match => TypesOf(match.Groups["name"].Value).Contains(match.Groups["type"].Value)))
            .Select(match => match.Groups["name"].Value).Where(name => RoomNames.Contains(name));

    private static IEnumerable<string> TypesOf(string folder) =>
        typeof(Tiller.Ops.DeviceOps).Assembly.GetTypes().Where(t => t.Namespace == "Tiller." + folder && !t.IsNested)
            .Select(t => t.Name.Split('`')[0]).Where(name => !name.StartsWith('<')).Distinct(StringComparer.Ordinal);

    [GeneratedRegex("""//[^\n]*|/\*.*?\*/|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)+'""", RegexOptions.Singleline, 5000)]
    private static partial Regex Comments();

    [GeneratedRegex(@"^\s*namespace\s+(?<name>[\w.]+)\s*;", RegexOptions.Multiline, 5000)]
    private static partial Regex Namespaces();

    [GeneratedRegex(@"\bTiller\.(?<name>\w+)", RegexOptions.None, 5000)]
    private static partial Regex Usings();

    // A folder's name before a dot and a type: Ops.KvCache. Preceded by a dot it is a member or another library's namespace.
    [GeneratedRegex(@"(?<![\w.])(?<name>Checkpoint|Hub|Tokens|Jinja|Chat|Law|Ops|Cpu|Cuda|Model|Features|Synthesis|Controllers|Decode|Scheduling)"
        + @"\.(?<type>[A-Z]\w*)", RegexOptions.None, 5000)]
    private static partial Regex Qualified();

    [GeneratedRegex("ProjectReference\\s+Include=\"(?<name>[^\"]+)\"", RegexOptions.None, 5000)]
    private static partial Regex References();
}
