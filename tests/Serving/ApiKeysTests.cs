using Tiller.Serving;

namespace Tiller.Tests.Serving;

/// <summary>Which key a request has.</summary>
public sealed class ApiKeysTests
{
    [TestCase("Bearer one", 0)]
    [TestCase("Bearer two", 1)]
    [TestCase("bearer  two ", 1)]
    [TestCase("Bearer schlüssel", 2)]
    [TestCase("Bearer One", null)]
    [TestCase("Bearer on", null)]
    [TestCase("Bearer onee", null)]
    [TestCase("Bearer ", null)]
    [TestCase("Bearer", null)]
    [TestCase("Basic one", null)]
    [TestCase("one", null)]
    [TestCase("", null)]
    [TestCase(null, null)]
    public void A_key_is_found_only_if_it_is_whole(string? authorization, int? found) =>
        Assert.That(new ApiKeys(["one", "two", "schlüssel"]).Find(authorization), Is.EqualTo(found));

    [TestCase(null)]
    [TestCase("Bearer any")]
    public void Without_keys_none_is_needed(string? authorization) => Assert.That(new ApiKeys([]).Find(authorization), Is.EqualTo(-1));

    // No clock can be asked how long a comparison takes, so this asks for its causes: no key ends the search, and what compares two hashes reads both
    // to their end.
    [Test]
    public void A_right_key_does_not_end_the_comparison_and_a_wrong_byte_neither()
    {
        Assert.That(new ApiKeys(["one", "two", "one", "three"]).Find("Bearer one"), Is.EqualTo(2), "the last of equal keys");
        string source = File.ReadAllText(Repository.Path("src", "Serving", "Http", "ApiKeys.cs"));
        Assert.That(source, Does.Contain("CryptographicOperations.FixedTimeEquals(hash, _hashes[i])").And.Not.Contain("SequenceEqual"));
    }
}
