using System.Reflection;
using System.Security.Cryptography;
using System.Text;
using System.Text.RegularExpressions;

namespace Tiller.Kernels;

/// <summary>
/// The kernels' sources in CUDA C++: files (*.cu), each of which becomes a module, and headers (*.cuh) that they include. The kernels of a file are
/// found by its lines <c>TILLER_KERNEL(name)</c>, or <c>MACRO(name, …)</c> if the file defines a macro that ends in TILLER_KERNEL of its first
/// parameter.
/// </summary>
internal sealed partial class KernelSources
{
    private static readonly Lazy<KernelSources> s_builtIn = new(() => new KernelSources(ReadResources()));

    private readonly SortedDictionary<string, byte[]> _files;
    private readonly Dictionary<string, string> _fileOfKernel = new(StringComparer.Ordinal);

    /// <summary>Creates the set from sources by file name.</summary>
    /// <exception cref="ArgumentException">Two files have a kernel of the same name.</exception>
    public KernelSources(IEnumerable<KeyValuePair<string, byte[]>> files)
    {
        _files = new SortedDictionary<string, byte[]>(files.ToDictionary(StringComparer.Ordinal), StringComparer.Ordinal);
        Files = [.. _files.Keys.Where(IsSource)];
        Headers = _files.Where(f => !IsSource(f.Key)).ToDictionary(f => f.Key, f => Encoding.UTF8.GetString(f.Value), StringComparer.Ordinal);
        foreach (string file in Files)
        {
            foreach (string name in KernelsOf(Text(file)))
            {
                if (!_fileOfKernel.TryAdd(name, file))
                {
                    throw new ArgumentException($"Kernel {name} is in {_fileOfKernel[name]} and in {file}; kernels are found by name, "
                        + "so names must differ.", nameof(files));
                }
            }
        }

        Hash = HashOf(_files);
    }

    /// <summary>The sources embedded in this assembly.</summary>
    public static KernelSources BuiltIn => s_builtIn.Value;

    /// <summary>Names of the *.cu files, in order.</summary>
    public IReadOnlyList<string> Files { get; }

    /// <summary>Texts of the *.cuh files, by name.</summary>
    public IReadOnlyDictionary<string, string> Headers { get; }

    /// <summary>The file of every kernel, by the kernel's name.</summary>
    public IReadOnlyDictionary<string, string> Kernels => _fileOfKernel;

    /// <summary>SHA-256 of all files, computed as in manifest.cmake. Images were made from these sources if their hash is the same.</summary>
    public string Hash { get; }

    /// <summary>The text of a *.cu file.</summary>
    public string Text(string file) => Encoding.UTF8.GetString(_files[file]);

    /// <summary>
    /// SHA-256 of everything that an image depends on: the file, all headers, and <paramref name="settings"/>; in lower-case hexadecimal.
    /// </summary>
    public string KeyOf(string file, IEnumerable<string> settings)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (string name in _files.Keys.Where(name => name == file || !IsSource(name)))
        {
            Add(Encoding.UTF8.GetBytes(name));
            Add(_files[name]);
        }

        foreach (string setting in settings)
        {
            Add(Encoding.UTF8.GetBytes(setting));
        }

        return Convert.ToHexStringLower(hash.GetHashAndReset());

        // The length comes first, so that no two lists of parts give the same bytes.
        void Add(byte[] part)
        {
            hash.AppendData(BitConverter.GetBytes(part.LongLength));
            hash.AppendData(part);
        }
    }

    private static IEnumerable<string> KernelsOf(string text)
    {
        string[] macros = [.. Macro().Matches(text)
            .Where(m => m.Groups["body"].Value.Contains($"TILLER_KERNEL({m.Groups["name"].Value})", StringComparison.Ordinal))
            .Select(m => m.Groups["macro"].Value), "TILLER_KERNEL"];
        return Line().Matches(Macro().Replace(text, "")).Where(m => macros.Contains(m.Groups["macro"].Value, StringComparer.Ordinal))
            .Select(m => m.Groups["name"].Value);
    }

    // The hash is over a line for each file in order of names: SHA-256, two spaces, name.
    private static string HashOf(SortedDictionary<string, byte[]> files)
    {
        var lines = new StringBuilder();
        foreach ((string name, byte[] content) in files)
        {
            lines.Append(Convert.ToHexStringLower(SHA256.HashData(content))).Append("  ").Append(name).Append('\n');
        }

        return Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(lines.ToString())));
    }

    private static Dictionary<string, byte[]> ReadResources() =>
        KernelResources.Names.Where(name => IsSource(name) || name.EndsWith(".cuh", StringComparison.Ordinal))
            .ToDictionary(name => name, KernelResources.Read, StringComparer.Ordinal);

    private static bool IsSource(string name) => name.EndsWith(".cu", StringComparison.Ordinal);

    [GeneratedRegex(@"^[ \t]*(?<macro>\w+)\((?<name>\w+)", RegexOptions.Multiline | RegexOptions.ExplicitCapture, 5000)]
    private static partial Regex Line();

    // Matches "#define MACRO(name, …) body", including continuation lines after a backslash.
    [GeneratedRegex(@"^[ \t]*#[ \t]*define[ \t]+(?<macro>\w+)\((?<name>\w+)[^)\n]*\)(?<body>([^\n]*\\\n)*[^\n]*)$",
        RegexOptions.Multiline | RegexOptions.ExplicitCapture, 5000)]
    private static partial Regex Macro();
}

/// <summary>Files embedded in this assembly.</summary>
internal static class KernelResources
{
    private static readonly Assembly s_assembly = typeof(KernelResources).Assembly;

    public static string[] Names { get; } = s_assembly.GetManifestResourceNames();

    public static byte[] Read(string name)
    {
        using Stream resource = s_assembly.GetManifestResourceStream(name)
            ?? throw new FileNotFoundException($"{s_assembly.GetName().Name} holds no {name}.");
        byte[] content = new byte[resource.Length];
        resource.ReadExactly(content);
        return content;
    }
}
