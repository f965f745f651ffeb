namespace Tiller.Tests.Interop;

/// <summary>
/// NVIDIA's own libraries and compilers, which need no GPU: the folder of libraries that TILLER_TEST_NVIDIA names, or what tools/gpu/compilers.sh
/// unpacked into artifacts/cuda. The tests' own process has the host CUDA in their place, so what is to run on them runs in another.
/// </summary>
internal static class NvidiaToolkit
{
    private static readonly string s_unpacked = Repository.Path("artifacts", "cuda");

    /// <summary>The folder with libnvrtc.so.*, and perhaps others; null if there is none.</summary>
    public static string? Libraries { get; } =
        Environment.GetEnvironmentVariable("TILLER_TEST_NVIDIA") is { Length: > 0 } named ? named
        : Directory.Exists(Path.Combine(s_unpacked, "lib")) ? Path.Combine(s_unpacked, "lib")
        : null;

    /// <summary>cuobjdump, ptxas; null if there is none.</summary>
    public static string? Tool(string name) =>
        Path.Combine(s_unpacked, "bin", name) is var unpacked && File.Exists(unpacked) ? unpacked
        : HostCuda.Run(name, ["--version"]).ExitCode == 0 ? name
        : null;
}
