namespace Tiller.Tests.Interop;

/// <summary>The host CUDA's own self-test, a native program built with AddressSanitizer.</summary>
[NonParallelizable]
public class HostCudaSelftestTests
{
    private static readonly Lazy<string> Program =
        new(() => Path.Combine(HostCuda.BuildWith("addresses"), "tests", "HostCuda", "hostcuda-selftest"));

    [Test]
    public void KernelsAreCleanUnderAddressSanitizer()
    {
        (int exitCode, string output) = HostCuda.Run(Program.Value, []);
        Assert.That(exitCode, Is.Zero, output);
        Assert.That(output, Does.Contain("host CUDA selftest passed"));
    }

    [Test]
    public void AnOverrunOfSharedMemoryIsCaught()
    {
        (int exitCode, string output) = HostCuda.Run(Program.Value, ["overrun"]);
        Assert.That(exitCode, Is.Not.Zero);
        Assert.That(output, Does.Contain("AddressSanitizer").And.Contain("tillerTestTranspose"));
    }
}
