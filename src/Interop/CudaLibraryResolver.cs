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
    internal static nint Load(string library) => TryLoad(library, out nint handle) is { } missing ? throw missing : handle;

    /// <summary>Loads a library if necessary, and throws nothing: most machines have no GPU, and asking for one is part of every start.</summary>
    /// <returns>The reason why it was not found, with the places that were searched; null if it was.</returns>
    internal static CudaLibraryMissingException? TryLoad(string library, out nint handle)
    {
        lock (Gate)
        {
            if (Loaded.TryGetValue(library, out handle))
            {
                return null;
            }

            var missing = Find(library, Environment.GetEnvironmentVariable(FolderVariable), out handle);
            if (missing is null)
            {
                Loaded.Add(library, handle);
            }

            return missing;
        }
    }

    internal static CudaLibraryMissingException? Find(string library, string? folder, out nint handle)
    {
        var lookedIn = new List<string>();
        string[] names = FileNames(library);
        if (folder is { Length: > 0 } && FindIn(folder, names, lookedIn, out handle))
        {
            return null;
        }

        foreach (string name in names)
        {
            if (TryOpen(name, "the system's loader", lookedIn, out handle))
            {
                return null;
            }
        }

        foreach (string candidate in Folders())
        {
            if (FindIn(candidate, names, lookedIn, out handle))
            {
                return null;
            }
        }

        handle = 0;
        return new CudaLibraryMissingException(library, lookedIn);
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
                if (TryOpen(file, file, lookedIn, out handle))
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

    private static bool TryOpen(string file, string where, List<string> lookedIn, out nint handle)
    {
        if (NativeLibrary.TryLoad(file, out handle))
        {
            return true;
        }

        lookedIn.Add($"{where}: {(Path.IsPathRooted(file) ? WhyNot(file) : $"no {file}")}");
        return false;
    }

    // A file that is there and cannot be loaded: the loader's message is that of the exception. Its first line; the other lines repeat it for every
    // spelling that the loader tried.
    private static string WhyNot(string file)
    {
        try
        {
            NativeLibrary.Free(NativeLibrary.Load(file));
            return "could not be loaded at first";
        }
        catch (Exception e) when (e is DllNotFoundException or BadImageFormatException)
        {
            return e.Message.Split('\n')[0];
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
