using System.Runtime.InteropServices;

namespace Tiller.Interop;

/// <summary>
/// Finds the CUDA libraries when they are first needed, so that only the feature that needs a missing one fails. Looked at, in this order:
/// the folder named by TILLER_CUDA_LIBRARIES; the system's loader (LD_LIBRARY_PATH, ld.so.conf) by versioned names; CUDA_HOME, CUDA_PATH and
/// /usr/local/cuda; and the nvidia/*/lib folders of pip's wheels under VIRTUAL_ENV, CONDA_PREFIX, the user's and the system's prefixes.
/// </summary>
public static class CudaLibraryResolver
{
    internal const string Driver = "libcuda";
    internal const string Nvrtc = "libnvrtc";
    internal const string Cublas = "libcublas";
    internal const string CublasLt = "libcublasLt";
    internal const string Cusolver = "libcusolver";

    /// <summary>The environment variable that names a folder to look in first.</summary>
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

    /// <summary>The handle of a library, loaded now if it was not.</summary>
    /// <exception cref="CudaLibraryMissingException">It is nowhere; the exception lists where it was looked for.</exception>
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

    // NVRTC opens libnvrtc-builtins.so.X.Y by its bare name when it first compiles. Where the system's loader does not know the folder and the
    // library has no search path of its own, as Debian's, that finds only what is in the process already.
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
            // The loader's own words stand on the first line; the rest repeats them for every spelling that it tried.
            lookedIn.Add(Path.IsPathRooted(file) ? $"{where}: {e.Message.Split('\n')[0]}" : $"{where}: no {file}");
            handle = 0;
            return false;
        }
    }

    // cuSOLVER's number trails the toolkit's by one: 13 ships libcusolver.so.12.
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
