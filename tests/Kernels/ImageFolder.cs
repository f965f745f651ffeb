using System.Security.Cryptography;
using System.Text;
using Tiller.Kernels;

namespace Tiller.Tests.Kernels;

/// <summary>A folder for one test, for kernel images with their manifest or for a cache.</summary>
internal sealed class ImageFolder : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("tiller-kernels-");

    /// <summary>The sources of the test kernels, which the host CUDA can run.</summary>
    public static KernelSources TestSources { get; } = Sources("vector_add.cu", "transpose.cu", "block_sum.cu");

    public string Path => _folder.FullName;

    public string this[string name] => System.IO.Path.Combine(Path, name);

    public string[] Entries => [.. _folder.GetFiles().Select(f => f.Name).Order(StringComparer.Ordinal)];

    /// <summary>Some of the test kernels' sources, with the header that they include.</summary>
    public static KernelSources Sources(params string[] names) => new(names
        .Select(name => KeyValuePair.Create(name, File.ReadAllBytes(Repository.Path("tests", "HostCuda", "kernels", name))))
        .Append(KeyValuePair.Create("platform.cuh", File.ReadAllBytes(Repository.Path("src", "Kernels", "platform.cuh")))));

    /// <summary>Writes the manifest, and for each kind (sm_80.ptx, sm_90a.cubin) an image of every source that the host CUDA can load.</summary>
    public ImageFolder With(KernelSources sources, string[] kinds, string? sourcesHash = null)
    {
        var manifest = new StringBuilder($"tiller kernels 1\nsources {sourcesHash ?? sources.Hash}\n");
        foreach (string source in sources.Files)
        {
            foreach (string kind in kinds)
            {
                string file = $"{System.IO.Path.GetFileNameWithoutExtension(source)}.{kind}";
                string text = ".version 8.0\n"
                    + string.Concat(sources.Kernels.Where(k => k.Value == source).Select(k => $".visible .entry {k.Key}(\n)\n{{ ret; }}\n"));
                File.WriteAllText(this[file], text);
                manifest.Append(Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text))))
                    .Append(kind.EndsWith("ptx", StringComparison.Ordinal) ? " clang-19 " : " nvcc-13.0 ").Append(file).Append('\n');
            }
        }

        File.WriteAllText(this[KernelImages.Manifest], manifest.ToString());
        return this;
    }

    /// <summary>The images, as if they were embedded.</summary>
    public KernelImages Open() => KernelImages.Open(Path)!;

    public void Dispose() => _folder.Delete(recursive: true);
}
