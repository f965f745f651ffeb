namespace Tiller.Tests.Interop;

/// <summary>
/// NVIDIA's own libraries and compilers, which need no GPU: in the folder that TILLER_TEST_NVIDIA names, or in artifacts/cuda, where
/// tools/gpu/compilers.sh unpacks them. The process of the tests loads the host CUDA instead, so a test that needs them starts another process.
/// </summary>
internal static class NvidiaToolkit
{
    private static readonly string s_unpacked = Repository.Path("artifacts", "cuda");

    /// <summary>The folder with libnvrtc.so.*, and perhaps other libraries; null if there is none.</summary>
    public static string? Libraries { get; } =
        Environment.GetEnvironmentVariable("TILLER_TEST_NVIDIA") is { Length: > 0 } named ? named
        : Directory.Exists(Path.Combine(s_unpacked, "lib")) ? Path.Combine(s_unpacked, "lib")
        : null;

    /// <summary>How to start a tool, such as cuobjdump or ptxas; null if it is not found.</summary>
    public static string? Tool(string name) =>
        Path.Combine(s_unpacked, "bin", name) is var unpacked && File.Exists(unpacked) ? unpacked
        : HostCuda.Run(name, ["--version"]).ExitCode == 0 ? name
        : null;
}
