using Tiller.Model;

namespace Tiller.Tests.Model;

public sealed class DeviceTests
{
    [TestCase("auto")]
    [TestCase("cpu")]
    [TestCase("cuda:0")]
    [TestCase("cuda:13")]
    public void A_name_comes_back_as_it_was(string name) => Assert.That(Device.Parse(name).ToString(), Is.EqualTo(name));

    [Test]
    public void The_first_cuda_device_needs_no_number() => Assert.That(Device.Parse("cuda"), Is.EqualTo(Device.Cuda()).And.EqualTo(Device.Cuda(0)));

    [Test]
    public void Nothing_named_is_auto()
    {
        Assert.That(default(Device), Is.EqualTo(Device.Auto));
        Assert.That((Device.Auto.CudaOrdinal, Device.Cpu.CudaOrdinal, Device.Cuda(2).CudaOrdinal), Is.EqualTo(((int?)null, (int?)null, (int?)2)));
    }

    [TestCase("")]
    [TestCase("CPU")]
    [TestCase("cuda:")]
    [TestCase("cuda:-1")]
    [TestCase("cuda: 1")]
    [TestCase("cuda:4294967296")]
    [TestCase("gpu")]
    public void Another_name_is_refused(string name) => Assert.That(
        () => Device.Parse(name),
        Throws.TypeOf<DeviceNameException>().With.Message.EndsWith($"\"{name}\" is none of them."));

    [Test]
    public void A_number_is_not_negative() => Assert.That(() => Device.Cuda(-1), Throws.TypeOf<ArgumentOutOfRangeException>());
}
