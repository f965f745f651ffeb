namespace Tiller.Tests;

/// <summary>Tests that name no device run on the CPU, unless TILLER_DEVICE says otherwise: with the host CUDA loaded, "auto" would find it.</summary>
[SetUpFixture]
public sealed class DefaultDevice
{
    [OneTimeSetUp]
    public void Choose()
    {
        Environment.SetEnvironmentVariable("TILLER_DEVICE", Environment.GetEnvironmentVariable("TILLER_DEVICE") ?? "cpu");

        // The user's cache of kernels is not for tests.
        Environment.SetEnvironmentVariable("TILLER_KERNEL_CACHE", Environment.GetEnvironmentVariable("TILLER_KERNEL_CACHE") ?? "off");
    }
}
