namespace Tiller.Tests;

/// <summary>
/// Makes tests that name no device run on the CPU, unless TILLER_DEVICE says otherwise: once the host CUDA is loaded, "auto" would choose it.
/// </summary>
[SetUpFixture]
public sealed class DefaultDevice
{
    [OneTimeSetUp]
    public void Choose()
    {
        Environment.SetEnvironmentVariable("TILLER_DEVICE", Environment.GetEnvironmentVariable("TILLER_DEVICE") ?? "cpu");

        // Tests must not use the user's cache of kernels.
        Environment.SetEnvironmentVariable("TILLER_KERNEL_CACHE", Environment.GetEnvironmentVariable("TILLER_KERNEL_CACHE") ?? "off");
    }
}
