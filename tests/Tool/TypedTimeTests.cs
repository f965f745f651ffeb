using Tiller.Tool;

namespace Tiller.Tests.Tool;

/// <summary>Times that people type.</summary>
public sealed class TypedTimeTests
{
    [TestCase("30s", 30)]
    [TestCase("30", 30)]
    [TestCase("0", 0)]
    [TestCase("1.5", 1.5)]
    [TestCase("500ms", 0.5)]
    [TestCase("2m", 120)]
    [TestCase("0.5h", 1800)]
    [TestCase("-1s", -1)]
    public void A_number_has_a_unit_or_is_of_seconds(string text, double seconds)
    {
        Assert.That(TypedTime.TryRead(text, out var time), Is.True);
        Assert.That(time, Is.EqualTo(TimeSpan.FromSeconds(seconds)));
    }

    [TestCase("")]
    [TestCase("s")]
    [TestCase("ms")]
    [TestCase("30 s")]
    [TestCase("30S")]
    [TestCase("30sec")]
    [TestCase("1d")]
    [TestCase("1h30m")]
    [TestCase("1,5s")]
    [TestCase("NaNs")]
    [TestCase("1e300h")]
    public void Anything_else_is_no_time(string text) => Assert.That(TypedTime.TryRead(text, out _), Is.False);
}
