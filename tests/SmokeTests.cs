namespace Tiller.Tests;

public class SmokeTests
{
    [Test]
    public void Runs() => Assert.That(new Uri("http://x").Host, Is.EqualTo("x"));
}
