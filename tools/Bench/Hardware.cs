using System.Globalization;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using Tiller.Cpu;
using Tiller.Interop;

namespace Tiller.Bench;

/// <summary>Lines "key: value" of Linux's /proc; null on other systems.</summary>
internal static class ProcFile
{
    public static string? Text(string path, string key)
    {
        if (!File.Exists(path))
        {
            return null;
        }

        string? line = File.ReadLines(path).FirstOrDefault(l => l.StartsWith(key, StringComparison.Ordinal));
        return line?[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim();
    }

    public static long? Kilobytes(string path, string key) =>
        Text(path, key)?.Split(' ')[0] is { } number && long.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out long value)
            ? value
            : null;
}

/// <summary>The hardware and software of the measurement.</summary>
internal static class Hardware
{
    private const long UnknownCacheInBytes = 32L << 20;

    /// <summary>
    /// One line with the CUDA device if one is measured, CPU, threads, system, runtime, and the commit of the checkout that contains the program.
    /// </summary>
    public static string Describe(BenchRequest request, string programFolder)
    {
        int threads = request.ThreadCount;
        string cpu = ProcFile.Text("/proc/cpuinfo", "model name") ?? RuntimeInformation.ProcessArchitecture.ToString();
        string vectors = Avx512.Code != Avx512Code.None ? "512" : Vector256.IsHardwareAccelerated ? "256" : "128";
        string commit = Commit(programFolder) is { } hash ? $", commit {hash[..Math.Min(12, hash.Length)]}" : "";
        return $"{Cuda(request)}{cpu}, {Environment.ProcessorCount} cores ({threads} used), {vectors}-bit "
            + $"vectors, {RuntimeInformation.OSDescription.Trim()}, "
            + $"{RuntimeInformation.FrameworkDescription}{commit}";
    }

    private static string Cuda(BenchRequest request)
    {
        if (Machine.OrdinalOf(request) is not { } ordinal)
        {
            return "";
        }

        var list = CudaDevices.List();
        var device = list.Devices[ordinal];
        return string.Create(
            CultureInfo.InvariantCulture,
            $"{device.Name}, sm_{device.ComputeCapabilityMajor}{device.ComputeCapabilityMinor}, {device.MultiprocessorCount} "
            + $"multiprocessors, {device.TotalInBytes / 1073741824.0:0.0} GiB, "
            + $"driver for CUDA {list.DriverVersion / 1000}.{list.DriverVersion % 1000 / 10}; ");
    }

    /// <summary>Size of the largest cache.</summary>
    public static long LargestCacheInBytes()
    {
        const string Caches = "/sys/devices/system/cpu/cpu0/cache";
        if (!Directory.Exists(Caches))
        {
            return UnknownCacheInBytes;
        }

        long largest = 0;
        foreach (string index in Directory.EnumerateDirectories(Caches, "index*"))
        {
            string size = Path.Combine(index, "size");
            string text = File.Exists(size) ? File.ReadAllText(size).Trim() : "";
            if (text.EndsWith('K') && long.TryParse(text.AsSpan(0, text.Length - 1), NumberStyles.None, CultureInfo.InvariantCulture,
                out long kilobytes))
            {
                largest = Math.Max(largest, kilobytes * 1024);
            }
        }

        return largest > 0 ? largest : UnknownCacheInBytes;
    }

    /// <summary>The checked-out commit of the git checkout that contains a folder; null if there is none.</summary>
    public static string? Commit(string folder)
    {
        for (var at = new DirectoryInfo(folder); at is not null; at = at.Parent)
        {
            string git = Path.Combine(at.FullName, ".git");
            if (File.Exists(git))
            {
                // In a linked worktree, .git is a file "gitdir: path".
                string link = File.ReadAllText(git).Trim();
                const string Prefix = "gitdir:";
                return link.StartsWith(Prefix, StringComparison.Ordinal) ? Head(Path.Combine(at.FullName, link[Prefix.Length..].Trim())) : null;
            }

            if (Directory.Exists(git))
            {
                return Head(git);
            }
        }

        return null;
    }

    private static string? Head(string git)
    {
        const string Prefix = "ref:";
        string path = Path.Combine(git, "HEAD");
        string head = File.Exists(path) ? File.ReadAllText(path).Trim() : "";
        if (!head.StartsWith(Prefix, StringComparison.Ordinal))
        {
            return head.Length > 0 ? head : null;
        }

        string name = head[Prefix.Length..].Trim();
        string common = File.Exists(Path.Combine(git, "commondir"))
            ? Path.Combine(git, File.ReadAllText(Path.Combine(git, "commondir")).Trim())
            : git;
        string loose = Path.Combine(common, name);
        if (File.Exists(loose))
        {
            return File.ReadAllText(loose).Trim();
        }

        string packed = Path.Combine(common, "packed-refs");
        return File.Exists(packed)
            ? File.ReadLines(packed).FirstOrDefault(l => l.EndsWith($" {name}", StringComparison.Ordinal))?.Split(' ')[0]
            : null;
    }
}
