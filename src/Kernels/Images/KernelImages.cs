using System.Globalization;
using System.IO.Compression;
using System.Security.Cryptography;
using System.Text;

namespace Tiller.Kernels;

/// <summary>A folder of kernel images, or a file in it, is damaged.</summary>
public sealed class KernelImagesException : TillerException
{
    internal KernelImagesException(string place, string problem)
        : base($"{place}: {problem} Build the kernels again with cmake, or remove the folder.")
    {
    }
}

/// <summary>The architecture of a GPU, or the architecture that an image is for.</summary>
/// <param name="Major">The X of sm_XY.</param>
/// <param name="Minor">The Y of sm_XY.</param>
/// <param name="Only">Whether the image runs only on this architecture, because it uses instructions that others lack (sm_90a).</param>
internal readonly record struct KernelArchitecture(int Major, int Minor, bool Only = false)
{
    /// <summary>The first major version on which the kernels run, because they need bf16 mma and cp.async.</summary>
    public const int FirstMajor = 8;

    /// <summary>The message for an earlier architecture.</summary>
    public static readonly string TooOld = string.Create(CultureInfo.InvariantCulture, $"the kernels need sm_{FirstMajor}0 or later");

    public override string ToString() => string.Create(CultureInfo.InvariantCulture, $"sm_{Major}{Minor}{(Only ? "a" : "")}");

    /// <summary>Parses a name such as sm_80, sm_90a or sm_100; null for anything else.</summary>
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

    /// <summary>The architecture for which kernels are compiled if they are for this GPU only: sm_90a for 9.0.</summary>
    public KernelArchitecture Native => this with { Only = (Major, Minor) == (9, 0) };

    // NVIDIA, CUDA C++ Programming Guide, "Binary Compatibility", "PTX Compatibility": a cubin runs on GPUs of the same major version whose minor
    // version is not lower. PTX can be compiled for any architecture that is not older. An image for one architecture only runs on no other.
    public bool Runs(KernelImage image) =>
        image.Architecture.Only ? (Major, Minor) == (image.Architecture.Major, image.Architecture.Minor)
        : image.IsPtx ? (image.Architecture.Major, image.Architecture.Minor).CompareTo((Major, Minor)) <= 0
        : image.Architecture.Major == Major && image.Architecture.Minor <= Minor;
}

/// <summary>An image in a manifest.</summary>
/// <param name="File">The name of its file, such as norm.sm_90a.cubin.</param>
/// <param name="Source">The name of its source, such as norm.cu.</param>
/// <param name="Architecture">The architecture that it is for.</param>
/// <param name="IsPtx">Whether it is PTX, which the driver has to compile.</param>
/// <param name="Compiler">The compiler that made it, such as nvcc-13.0.</param>
/// <param name="Sha256">SHA-256 of its content, in lower-case hexadecimal.</param>
internal sealed record KernelImage(string File, string Source, KernelArchitecture Architecture, bool IsPtx, string Compiler, string Sha256);

/// <summary>Images that CMake has made ahead of time, with their manifest (manifest.cmake): in a folder, or the PTX in this assembly.</summary>
internal sealed class KernelImages
{
    /// <summary>The manifest's name, as a file and as a resource.</summary>
    public const string Manifest = "kernels.manifest";

    private const string Packed = "ptx.zip";

    private static readonly Lazy<KernelImages?> s_builtIn = new(() =>
        KernelResources.Names.Contains(Manifest, StringComparer.Ordinal)
            ? new KernelImages("this assembly", KernelResources.Read(Manifest), ReadPacked, file => file.EndsWith(".ptx", StringComparison.Ordinal))
            : null);

    private readonly Func<string, byte[]> _read;

    /// <summary>Reads a manifest.</summary>
    /// <param name="place">The name of the place in error messages.</param>
    /// <param name="manifest">Content of the manifest.</param>
    /// <param name="read">Reads the content of an image.</param>
    /// <param name="listed">Whether an image of the manifest counts. The assembly has the whole manifest but only the PTX.</param>
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

    /// <summary>The PTX in this assembly; null if the assembly was built without.</summary>
    public static KernelImages? BuiltIn => s_builtIn.Value;

    /// <summary>The folder, or another name of the place.</summary>
    public string Place { get; }

    /// <summary><see cref="KernelSources.Hash"/> of the sources from which the images were made.</summary>
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
    /// For every source, the best image that runs on <paramref name="gpu"/>: a cubin rather than PTX, then the nearest architecture. Null if a source
    /// has none.
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

    /// <summary>The content of an image, after a check of its SHA-256.</summary>
    /// <exception cref="KernelImagesException">The file is missing, or its SHA-256 is not that of the manifest.</exception>
    public byte[] Read(KernelImage image)
    {
        byte[] content;
        try
        {
            content = _read(image.File);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new KernelImagesException(Place, $"{image.File}, which {Manifest} lists, cannot be read: {e.Message}");
        }

        return Convert.ToHexStringLower(SHA256.HashData(content)) == image.Sha256
            ? content
            : throw new KernelImagesException(Place, $"the SHA-256 of {image.File} is not that in {Manifest}.");
    }

    /// <summary>A short description of the images, such as "cubin for sm_80; PTX for sm_80, sm_90a".</summary>
    public string Describe()
    {
        string[] kinds = [.. Images.GroupBy(image => image.IsPtx).OrderBy(kind => kind.Key).Select(kind =>
            (kind.Key ? "PTX" : "cubin") + " for "
            + string.Join(", ", kind.Select(image => image.Architecture.ToString()).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)))];
        return kinds.Length > 0 ? string.Join("; ", kinds) : "nothing";
    }

    // Each call opens its own archive, because an archive must not be used by two threads.
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
