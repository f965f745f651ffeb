using System.Security.Cryptography;

namespace Tiller.Fuzz;

/// <summary>One kind of finding, with its count and its smallest input.</summary>
internal sealed record Finding(string Target, string Kind, string What)
{
    public int Times { get; set; }

    public string Detail { get; set; } = "";

    public byte[] Input { get; set; } = [];

    public string File { get; set; } = "";
}

/// <summary>The findings, one entry for each cause. Each is saved as a file.</summary>
internal sealed class Findings(string folder)
{
    private readonly Dictionary<(string, string, string), Finding> _all = [];

    public IReadOnlyCollection<Finding> All => _all.Values;

    public void Add(string target, string kind, string what, string detail, byte[] input)
    {
        if (!_all.TryGetValue((target, kind, what), out Finding? finding))
        {
            _all[(target, kind, what)] = finding = new Finding(target, kind, what);
        }

        finding.Times++;
        if (finding.Times > 1 && input.Length >= finding.Input.Length)
        {
            return;
        }

        Directory.CreateDirectory(folder);
        if (finding.File.Length > 0)
        {
            System.IO.File.Delete(finding.File);
            System.IO.File.Delete(Path.ChangeExtension(finding.File, ".txt"));
        }

        finding.Input = input;
        finding.Detail = detail;
        finding.File = Path.Combine(folder, $"{target}-{kind}-{Convert.ToHexStringLower(SHA256.HashData(input))[..12]}.bin");
        System.IO.File.WriteAllBytes(finding.File, input);
        System.IO.File.WriteAllText(Path.ChangeExtension(finding.File, ".txt"),
            $"{target}: {kind}: {what}\n{detail.Replace(" | ", "\n", StringComparison.Ordinal)}\n");
    }
}
