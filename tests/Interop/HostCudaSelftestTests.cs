namespace Tiller.Tests.Interop;

/// <summary>The host CUDA's own self-test, a native program built with each of its checks.</summary>
[NonParallelizable]
public class HostCudaSelftestTests
{
    [Test]
    public void KernelsAreCleanUnderAddressSanitizer()
    {
        (int exitCode, string output) = Run("addresses");
        Assert.That(exitCode, Is.Zero, output);
        Assert.That(output, Does.Contain("host CUDA selftest passed"));
    }

    [Test]
    public void AnOverrunOfSharedMemoryIsCaught()
    {
        (int exitCode, string output) = Run("addresses", "overrun");
        Assert.That(exitCode, Is.Not.Zero);
        Assert.That(output, Does.Contain("AddressSanitizer").And.Contain("tillerTestTranspose"));
    }

    [Test]
    public void WhatLacksABarrierAFenceOrAWaitIsToldFromWhatDoesNot()
    {
        (int exitCode, string output) = Run("races", "races");
        Assert.That(exitCode, Is.Zero, output);
        Assert.That(output, Does.Contain("races.cu:").And.Contain("host CUDA tells races"));
    }

    private static (int ExitCode, string Output) Run(string checks, params string[] arguments) =>
        HostCuda.Run(Path.Combine(HostCuda.BuildWith(checks), "tests", "HostCuda", "hostcuda-selftest"), arguments);
}
