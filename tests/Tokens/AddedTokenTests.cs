using System.Text;
using Tiller.Tokens;

namespace Tiller.Tests.Tokens;

/// <summary>Added tokens in text: longest first, stripping, whole words, Unicode spaces.</summary>
internal sealed class AddedTokenTests
{
    [TestCase("dancing", "", "danc|i|n|g")]
    [TestCase("a  X  b", "\"lstrip\":true", "a|X| | |b")]
    [TestCase("a  X  b", "\"rstrip\":true", "a| | |X|b")]
    [TestCase("a\u3000X\u2003b", "\"lstrip\":true,\"rstrip\":true", "a|X|b")]
    [TestCase("XbX X", "\"single_word\":true", "?|b|?| |X")]
    [TestCase("\U0001F6A2X\U0001F6A2", "\"single_word\":true", "?|X|?")]
    [TestCase("é" + "X", "\"single_word\":true", "?|?")]
    public void Parts(string text, string options, string expected)
    {
        string x = options.Length == 0 ? "" : "," + options;
        string json = $$$"""
            {"version":"1.0","added_tokens":[
              {"id":20,"content":"X","special":false,"normalized":false{{{x}}}},{"id":21,"content":"danc","normalized":false,"special":false},
              {"id":22,"content":"nci","normalized":false,"special":false},{"id":23,"content":"dan","normalized":false,"special":false}],
             "model":{"type":"BPE","unk_token":"?","vocab":{"?":0,"a":1,"b":2," ":3,"i":4,"n":5,"g":6},"merges":[]}}
            """;
        Tokenizer tokenizer = Tokenizer.Parse(Encoding.UTF8.GetBytes(json));
        Assert.That(string.Join('|', tokenizer.Encode(text).Select(tokenizer.TokenOf)), Is.EqualTo(expected));
    }

    [Test]
    public void Metaspace_prepends_to_the_first_part_only_or_to_every_part()
    {
        static string Run(string scheme, bool split)
        {
            string json = $$$"""
                {"version":"1.0","added_tokens":[{"id":20,"content":"X","special":true,"normalized":false}],
                 "pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"{{{scheme}}}","split":{{{(split ? "true" : "false")}}}},
                 "model":{"type":"BPE","vocab":{"a":1,"▁":3,"▁a":4,"▁▁":5,"a▁":6},"merges":[["▁","▁"],["a","▁"],["▁","a"]]}}
                """;
            Tokenizer tokenizer = Tokenizer.Parse(Encoding.UTF8.GetBytes(json));
            return string.Join('|', tokenizer.Encode("aXa  a", parseSpecial: true).Select(tokenizer.TokenOf));
        }

        Assert.Multiple(() =>
        {
            Assert.That(Run("first", false), Is.EqualTo("▁a|X|a|▁▁|a"));
            Assert.That(Run("always", false), Is.EqualTo("▁a|X|▁a|▁▁|a"));
            Assert.That(Run("never", false), Is.EqualTo("a|X|a|▁▁|a"));
            Assert.That(Run("first", true), Is.EqualTo("▁a|X|a|▁|▁a"));
        });
    }
}
