using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using Tiller.Interop;

namespace Tiller.Tests.Interop;

/// <summary>
/// Every import resolves: in the host CUDA always, in NVIDIA's libraries where they are installed or <see cref="NvidiaToolkit"/> finds them.
/// </summary>
[NonParallelizable]
public partial class ImportTests
{
    private static IEnumerable<string> Libraries =>
    [
        CudaLibraryResolver.Driver, CudaLibraryResolver.Nvrtc, CudaLibraryResolver.Cublas, CudaLibraryResolver.CublasLt, CudaLibraryResolver.Cusolver,
    ];

    [TestCaseSource(nameof(Libraries))]
    public void TheHostCudaHasEveryImport(string library)
    {
        HostCuda.Require();
        Assert.That(CudaLibraryResolver.Find(library, HostCuda.Folder, out nint handle), Is.Null);
        Assert.That(Missing(handle, library), Is.Empty);
    }

    [TestCaseSource(nameof(Libraries))]
    public void NvidiasLibraryHasEveryImport(string library)
    {
        if (CudaLibraryResolver.Find(library, NvidiaToolkit.Libraries, out nint handle) is { } missing)
        {
            Assert.Ignore($"Not on this machine: {missing.Library}");
        }

        Assert.That(Missing(handle, library), Is.Empty);
    }

    private static string[] Missing(nint handle, string library)
    {
        string file = Repository.Path("src", "Interop", FileOf(library));
        string[] imports = [.. Import().Matches(File.ReadAllText(file)).Select(m => m.Groups["name"].Value)];
        Assert.That(imports, Has.Length.GreaterThan(4), $"the imports of {file}");
        return [.. imports.Where(name => !NativeLibrary.TryGetExport(handle, name, out _))];
    }

    private static string FileOf(string library) => library switch
    {
        CudaLibraryResolver.Driver => "DriverApi.cs",
        CudaLibraryResolver.Nvrtc => "NvrtcApi.cs",
        CudaLibraryResolver.Cublas => "CublasApi.cs",
        CudaLibraryResolver.CublasLt => "CublasLtApi.cs",
        _ => "CusolverApi.cs",
    };

    [GeneratedRegex(@"static partial \w+ (?<name>\w+)\(", RegexOptions.ExplicitCapture, 5000)]
    private static partial Regex Import();
}
