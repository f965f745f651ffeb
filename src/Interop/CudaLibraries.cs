using System.Globalization;
using System.Runtime.InteropServices;

namespace Tiller.Interop;

/// <summary>A CUDA library of this machine.</summary>
/// <param name="Name">Name of the library, such as "cuBLAS".</param>
/// <param name="File">The loaded file, with links resolved if the system shows it; null if there is none.</param>
/// <param name="Reason">Why the library is missing, with the places that were searched; null if it was found.</param>
public sealed record CudaLibraryInfo(string Name, string? File, CudaLibraryMissingException? Reason);

/// <summary>The CUDA libraries on this machine.</summary>
public static class CudaLibraries
{
    private static readonly (string Name, string Library, string Export)[] s_all =
    [
        ("driver", CudaLibraryResolver.Driver, nameof(DriverApi.cuInit)),
        ("NVRTC", CudaLibraryResolver.Nvrtc, nameof(NvrtcApi.nvrtcVersion)),
        ("cuBLAS", CudaLibraryResolver.Cublas, nameof(CublasApi.cublasCreate_v2)),
        ("cuBLASLt", CudaLibraryResolver.CublasLt, nameof(CublasLtApi.cublasLtCreate)),
        ("cuSOLVER", CudaLibraryResolver.Cusolver, nameof(CusolverApi.cusolverDnCreate)),
    ];

    /// <summary>Searches for every library that Tiller can use, and loads those that it finds, as the resolver would on first use.</summary>
    public static IReadOnlyList<CudaLibraryInfo> List() => [.. s_all.Select(library =>
    {
        try
        {
            nint handle = CudaLibraryResolver.Load(library.Library);
            return new CudaLibraryInfo(library.Name, FileOf(handle, library.Export) ?? library.Library, null);
        }
        catch (CudaLibraryMissingException e)
        {
            return new CudaLibraryInfo(library.Name, null, e);
        }
    })];

    // Finds the memory mapping of this process that contains one of the library's functions: "from-to rwxp offset device inode path".
    private static string? FileOf(nint handle, string export)
    {
        const string Maps = "/proc/self/maps";
        if (!File.Exists(Maps) || !NativeLibrary.TryGetExport(handle, export, out nint address))
        {
            return null;
        }

        foreach (string line in File.ReadLines(Maps))
        {
            int dash = line.IndexOf('-', StringComparison.Ordinal), space = line.IndexOf(' ', StringComparison.Ordinal),
                path = line.IndexOf('/', StringComparison.Ordinal);
            if (path > space && dash < space
                && ulong.TryParse(line.AsSpan(0, dash), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong from)
                && ulong.TryParse(line.AsSpan(dash + 1, space - dash - 1), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong to)
                && (ulong)address >= from && (ulong)address < to)
            {
                return line[path..];
            }
        }

        return null;
    }
}
