using System.Globalization;
using System.IO.Compression;
using System.Security.Cryptography;
using System.Text;

namespace Tiller.Kernels;

/// <summary>A folder of kernel images, or what it holds, is damaged.</summary>
public sealed class KernelImagesException : TillerException
{
    internal KernelImagesException(string place, string problem)
        : base($"{place}: {problem} Build the kernels again with cmake, or remove the folder.")
    {
    }
}

/// <summary>A GPU's architecture, or the one an image is for.</summary>
/// <param name="Major">X of sm_XY.</param>
/// <param name="Minor">Y of sm_XY.</param>
/// <param name="Only">Whether the image uses instructions of that one architecture (sm_90a).</param>
internal readonly record struct KernelArchitecture(int Major, int Minor, bool Only = false)
{
    /// <summary>The first that the kernels run on: bf16 mma, cp.async.</summary>
    public const int FirstMajor = 8;

    /// <summary>What is said of an earlier one.</summary>
    public static readonly string TooOld = string.Create(CultureInfo.InvariantCulture, $"the kernels need sm_{FirstMajor}0 or later");

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"sm_{Major}{Minor}{(Only ? "a" : "")}");

    /// <summary>Reads sm_80, sm_90a, sm_100; null for anything else.</summary>
    public static KernelArchitecture? Parse(string text)
    {
        const string Prefix = "sm_";
        bool only = text.EndsWith('a');
        ReadOnlySpan<char> digits = text.AsSpan(0, text.Length - (only ? 1 : 0));
        return text.StartsWith(Prefix, StringComparison.Ordinal) && digits.Length is > 4 and < 7
            && int.TryParse(digits[Prefix.Length..], NumberStyles.None, CultureInfo.InvariantCulture, out int number)
            ? new KernelArchitecture(number / 10, number % 10, only)
            : null;
    }

    /// <summary>What this GPU's kernels are compiled for where they are compiled for it alone: sm_90a on 9.0.</summary>
    public KernelArchitecture Native => this with { Only = (Major, Minor) == (9, 0) };

    // NVIDIA, CUDA C++ Programming Guide, "Binary Compatibility", "PTX Compatibility": a cubin runs on its own major number from its own minor number
    // on; PTX is compiled for anything that is not older; what is for one architecture only runs nowhere else.
    public bool Runs(KernelImage image) =>
        image.Architecture.Only ? (Major, Minor) == (image.Architecture.Major, image.Architecture.Minor)
        : image.IsPtx ? (image.Architecture.Major, image.Architecture.Minor).CompareTo((Major, Minor)) <= 0
        : image.Architecture.Major == Major && image.Architecture.Minor <= Minor;
}

/// <summary>One image of a manifest.</summary>
/// <param name="File">Its file, as norm.sm_90a.cubin.</param>
/// <param name="Source">The source it was made from, as norm.cu.</param>
/// <param name="Architecture">What it is for.</param>
/// <param name="IsPtx">Whether the driver has to compile it.</param>
/// <param name="Compiler">What made it, as nvcc-13.0.</param>
/// <param name="Sha256">Of its content, lower-case hexadecimal.</param>
internal sealed record KernelImage(string File, string Source, KernelArchitecture Architecture, bool IsPtx, string Compiler, string Sha256);

/// <summary>Images made ahead of time by CMake, with their manifest (manifest.cmake): a folder, or the PTX embedded in this assembly.</summary>
internal sealed class KernelImages
{
    /// <summary>The manifest's name, in a folder and as a resource.</summary>
    public const string Manifest = "kernels.manifest";

    private const string Packed = "ptx.zip";

    private static readonly Lazy<KernelImages?> s_builtIn = new(() =>
        KernelResources.Names.Contains(Manifest, StringComparer.Ordinal)
            ? new KernelImages("this assembly", KernelResources.Read(Manifest), ReadPacked, file => file.EndsWith(".ptx", StringComparison.Ordinal))
            : null);

    private readonly Func<string, byte[]> _read;

    /// <summary>Reads a manifest.</summary>
    /// <param name="place">What errors call it.</param>
    /// <param name="manifest">Content of the manifest.</param>
    /// <param name="read">Content of an image.</param>
    /// <param name="listed">Whether an image counts: of this assembly's only the PTX is embedded.</param>
    /// <exception cref="KernelImagesException">The manifest is damaged.</exception>
    public KernelImages(string place, byte[] manifest, Func<string, byte[]> read, Func<string, bool> listed)
    {
        Place = place;
        _read = read;
        string[] lines = Encoding.UTF8.GetString(manifest).Split('\n', StringSplitOptions.RemoveEmptyEntries);
        if (lines.Length < 2 || lines[0] != "tiller kernels 1" || lines[1].Split(' ') is not ["sources", { Length: 64 } hash])
        {
            throw new KernelImagesException(place, $"{Manifest} must begin with 'tiller kernels 1' and a line 'sources SHA-256'.");
        }

        SourcesHash = hash;
        Images = [.. lines.Skip(2).Select(Parse).Where(image => listed(image.File))];
    }

    /// <summary>The PTX of this assembly; null if it was built where there was none.</summary>
    public static KernelImages? BuiltIn => s_builtIn.Value;

    /// <summary>The folder, or what it is called.</summary>
    public string Place { get; }

    /// <summary><see cref="KernelSources.Hash"/> of the sources that the images were made from.</summary>
    public string SourcesHash { get; }

    public IReadOnlyList<KernelImage> Images { get; }

    /// <summary>Opens a folder; null if it has no manifest.</summary>
    /// <exception cref="KernelImagesException">The manifest is damaged.</exception>
    public static KernelImages? Open(string folder)
    {
        string manifest = Path.Combine(folder, Manifest);
        return File.Exists(manifest) ? new KernelImages(folder, File.ReadAllBytes(manifest), file => File.ReadAllBytes(Path.Combine(folder, file)),
            _ => true) : null;
    }

    /// <summary>
    /// An image of every source that runs on <paramref name="gpu"/>: a cubin before PTX, then the nearest architecture. Null if a source has none.
    /// </summary>
    public IReadOnlyDictionary<string, KernelImage>? Pick(KernelSources sources, KernelArchitecture gpu, bool ptx)
    {
        var picked = new Dictionary<string, KernelImage>(StringComparer.Ordinal);
        foreach (string source in sources.Files)
        {
            KernelImage? best = Images.Where(image => image.Source == source && gpu.Runs(image) && (ptx || !image.IsPtx))
                .OrderBy(image => image.IsPtx)
                .ThenByDescending(image => (image.Architecture.Only, image.Architecture.Major, image.Architecture.Minor))
                .FirstOrDefault();
            if (best is null)
            {
                return null;
            }

            picked.Add(source, best);
        }

        return picked;
    }

    /// <summary>The content of an image, checked against the manifest.</summary>
    /// <exception cref="KernelImagesException">The file is missing, or is not what the manifest says.</exception>
    public byte[] Read(KernelImage image)
    {
        byte[] content;
        try
        {
            content = _read(image.File);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new KernelImagesException(Place, $"{image.File} is in {Manifest} and cannot be read: {e.Message}");
        }

        return Convert.ToHexStringLower(SHA256.HashData(content)) == image.Sha256
            ? content
            : throw new KernelImagesException(Place, $"{image.File} is not what {Manifest} says (SHA-256).");
    }

    /// <summary>What is here, in a few words: cubin for sm_80, PTX for sm_80 and sm_90a.</summary>
    public string Describe()
    {
        string[] kinds = [.. Images.GroupBy(image => image.IsPtx).OrderBy(kind => kind.Key).Select(kind =>
            (kind.Key ? "PTX" : "cubin") + " for "
            + string.Join(", ", kind.Select(image => image.Architecture.ToString()).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)))];
        return kinds.Length > 0 ? string.Join("; ", kinds) : "nothing";
    }

    // A zip for each reader: an archive is not to be read from two threads.
    private static byte[] ReadPacked(string file)
    {
        using var zip = new ZipArchive(new MemoryStream(KernelResources.Read(Packed)));
        using Stream entry = (zip.GetEntry(file) ?? throw new FileNotFoundException($"{Packed} has no {file}.")).Open();
        using var content = new MemoryStream();
        entry.CopyTo(content);
        return content.ToArray();
    }

    private KernelImage Parse(string line) =>
        line.Split(' ') is [{ Length: 64 } sha256, var compiler, var file]
        && file.Split('.') is [var stem, var architecture, ("cubin" or "ptx") and var kind]
        && KernelArchitecture.Parse(architecture) is { } target
        && file == Path.GetFileName(file)
            ? new KernelImage(file, $"{stem}.cu", target, kind == "ptx", compiler, sha256)
            : throw new KernelImagesException(Place, $"{Manifest} has the line '{line}', expected 'SHA-256 compiler name.sm_XY.cubin|ptx'.");
}
