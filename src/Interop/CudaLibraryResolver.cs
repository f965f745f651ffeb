using System.Runtime.InteropServices;

namespace Tiller.Interop;

/// <summary>
/// Finds the CUDA libraries on first use, so that a missing one makes only the features that need it fail. It searches, in this order: the folder
/// named by TILLER_CUDA_LIBRARIES; the system's loader (LD_LIBRARY_PATH, ld.so.conf) by versioned names; CUDA_HOME, CUDA_PATH and /usr/local/cuda;
/// and the nvidia/*/lib folders of pip's wheels under VIRTUAL_ENV, CONDA_PREFIX, and the user's and the system's prefixes.
/// </summary>
public static class CudaLibraryResolver
{
    internal const string Driver = "libcuda";
    internal const string Nvrtc = "libnvrtc";
    internal const string Cublas = "libcublas";
    internal const string CublasLt = "libcublasLt";
    internal const string Cusolver = "libcusolver";

    /// <summary>The environment variable that names a folder to search first.</summary>
    public const string FolderVariable = "TILLER_CUDA_LIBRARIES";

    private static readonly Lock Gate = new();
    private static readonly Dictionary<string, nint> Loaded = [];
    private static bool registered;

    internal static void Register()
    {
        lock (Gate)
        {
            if (!registered)
            {
                NativeLibrary.SetDllImportResolver(typeof(CudaLibraryResolver).Assembly,
                    static (name, _, _) => FileNames(name).Length == 0 ? 0 : Load(name));
                registered = true;
            }
        }
    }

    /// <summary>Returns the handle of a library, and loads it if necessary.</summary>
    /// <exception cref="CudaLibraryMissingException">The library was not found. The exception lists the places that were searched.</exception>
    internal static nint Load(string library)
    {
        lock (Gate)
        {
            if (!Loaded.TryGetValue(library, out nint handle))
            {
                handle = Find(library, Environment.GetEnvironmentVariable(FolderVariable));
                Loaded.Add(library, handle);
            }

            return handle;
        }
    }

    internal static nint Find(string library, string? folder)
    {
        var lookedIn = new List<string>();
        string[] names = FileNames(library);
        if (folder is { Length: > 0 } && FindIn(folder, names, lookedIn, out nint handle))
        {
            return handle;
        }

        foreach (string name in names)
        {
            if (TryLoad(name, "the system's loader", lookedIn, out handle))
            {
                return handle;
            }
        }

        foreach (string candidate in Folders())
        {
            if (FindIn(candidate, names, lookedIn, out handle))
            {
                return handle;
            }
        }

        throw new CudaLibraryMissingException(library, lookedIn);
    }

    private static bool FindIn(string folder, string[] names, List<string> lookedIn, out nint handle)
    {
        bool any = false;
        foreach (string name in names)
        {
            string file = Path.Combine(folder, name);
            if (File.Exists(file))
            {
                any = true;
                if (TryLoad(file, file, lookedIn, out handle))
                {
                    LoadBuiltins(name, folder);
                    return true;
                }
            }
        }

        if (!any)
        {
            lookedIn.Add(Directory.Exists(folder) ? $"{folder}: none of {string.Join(", ", names)}" : $"{folder}: no such folder");
        }

        handle = 0;
        return false;
    }

    // On its first compilation, NVRTC opens libnvrtc-builtins.so.X.Y by its bare name. If the system's loader does not know the folder and the
    // library has no search path of its own, as on Debian, this finds only a library that the process has loaded already.
    private static void LoadBuiltins(string name, string folder)
    {
        if (name.StartsWith(Nvrtc, StringComparison.Ordinal))
        {
            foreach (string file in Matching(() => Directory.GetFiles(folder, $"{Nvrtc}-builtins.so.*")))
            {
                _ = NativeLibrary.TryLoad(file, out _);
            }
        }
    }

    private static bool TryLoad(string file, string where, List<string> lookedIn, out nint handle)
    {
        try
        {
            handle = NativeLibrary.Load(file);
            return true;
        }
        catch (Exception e) when (e is DllNotFoundException or BadImageFormatException)
        {
            // The first line is the loader's message. The other lines repeat it for every spelling that the loader tried.
            lookedIn.Add(Path.IsPathRooted(file) ? $"{where}: {e.Message.Split('\n')[0]}" : $"{where}: no {file}");
            handle = 0;
            return false;
        }
    }

    // cuSOLVER's version number is one less than the toolkit's: toolkit 13 has libcusolver.so.12.
    private static string[] FileNames(string library) => library switch
    {
        Driver => ["libcuda.so.1", "libcuda.so"],
        Nvrtc => ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so"],
        Cublas or CublasLt or Cusolver => [$"{library}.so.13", $"{library}.so.12", $"{library}.so.11", $"{library}.so"],
        _ => [],
    };

    private static IEnumerable<string> Folders()
    {
        string[] roots =
        [
            Environment.GetEnvironmentVariable("CUDA_HOME") ?? "", Environment.GetEnvironmentVariable("CUDA_PATH") ?? "", "/usr/local/cuda",
        ];
        foreach (string root in roots.Where(r => r.Length > 0).Distinct(StringComparer.Ordinal))
        {
            yield return Path.Combine(root, "lib64");
            yield return Path.Combine(root, "lib");
        }

        yield return "/usr/lib/wsl/lib";
        string[] prefixes =
        [
            Environment.GetEnvironmentVariable("VIRTUAL_ENV") ?? "", Environment.GetEnvironmentVariable("CONDA_PREFIX") ?? "",
            Path.Combine(Environment.GetFolderPath(Environment.SpecialFolder.UserProfile), ".local"), "/usr/local", "/usr", "/opt/conda", "/opt/venv",
        ];
        foreach (string prefix in prefixes.Where(p => p.Length > 0).Distinct(StringComparer.Ordinal))
        {
            foreach (string python in Folders(Path.Combine(prefix, "lib"), "python3*"))
            {
                foreach (string packages in (string[])["site-packages", "dist-packages"])
                {
                    foreach (string package in Folders(Path.Combine(python, packages, "nvidia"), "*"))
                    {
                        yield return Path.Combine(package, "lib");
                    }
                }
            }
        }
    }

    private static string[] Folders(string folder, string pattern)
        => Matching(() => Directory.Exists(folder) ? Directory.GetDirectories(folder, pattern) : []);

    private static string[] Matching(Func<string[]> paths)
    {
        try
        {
            return [.. paths().OrderDescending(StringComparer.Ordinal)];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return [];
        }
    }
}
