using System.Text;
using FsCheck;
using FsCheck.Fluent;

namespace Tiller.Fuzz;

/// <summary>Generates JSON text of a given form with some wrong parts.</summary>
internal static class HostileJson
{
    /// <summary>Numbers at the limits of every type, and texts that are almost numbers.</summary>
    public static Gen<string> Number { get; } = Gen.Elements(
        "0", "-0", "1", "-1", "2", "7", "8", "64", "1.5", "1.0", "1e2", "1e999", "-1e999", "1e-400", "0.1", "127", "128", "255", "256",
        "65535", "65536", "2147483647", "2147483648", "-2147483649", "4294967295", "4294967296", "9007199254740993", "9223372036854775807",
        "9223372036854775808", "18446744073709551615", "18446744073709551616", "100000000000000000000000000000000000000000", "01", "+1", "NaN",
        "Infinity", "1e", "0x10");

    /// <summary>Contents of strings, with JSON escapes.</summary>
    public static Gen<string> Characters { get; } = Gen.Elements(
        "", "a", "t", "weight", "__metadata__", "\\u0000", "\\ud800", "\\udc00\\ud800", "\\ud83d\\ude00", "é", "e\u0301", "\u202e", "../../x",
        "/etc/passwd", "C:\\\\x", "\\\"", "\\n", "\\u0074", "▁", "Ġ", "<0x41>", "<s>", "\U0001F6A2", new string('n', 300), "\u0001", "%2e%2e%2fx");

    public static Gen<string> Text { get; } = Characters.Select(c => $"\"{c}\"");

    /// <summary>Any value.</summary>
    public static Gen<string> Any { get; } = Gen.Frequency(
        (6, Number), (6, Text), (3, Gen.Elements("null", "true", "false", "[]", "{}", "[[]]", "[null]", "{\"a\":1}", "")), (1, Deep()),
        (2, Gen.ArrayOf(Number, 3).Select(n => $"[{string.Join(',', n)}]")));

    /// <summary>A value that is right in twenty of twenty-one cases.</summary>
    public static Gen<string> Mostly(Gen<string> right) => Gen.Frequency((40, right), (1, Any), (1, Number));

    /// <summary>In most cases, a whole number from a range.</summary>
    public static Gen<string> Whole(int least, int most) => Mostly(Gen.Choose(least, most).Select(n => n.ToString()));

    /// <summary>In most cases, one of the given values.</summary>
    public static Gen<string> One(params string[] values) => Mostly(Gen.Elements(values));

    /// <summary>An array of up to the given number of items.</summary>
    public static Gen<string> List(Gen<string> item, int most) =>
        Gen.Choose(0, most).SelectMany(n => Gen.ArrayOf(item, n)).Select(items => $"[{string.Join(',', items)}]");

    /// <summary>An object. In most cases each member is present once and in order.</summary>
    public static Gen<string> Object(params (string Key, Gen<string> Value)[] members) =>
        Gen.CollectToArray(members, m => Member(m.Key, m.Value)).Select(parts => $"{{{string.Join(',', parts.Where(p => p.Length > 0))}}}");

    public static Gen<byte[]> Bytes(this Gen<string> text) => text.Select(Encoding.UTF8.GetBytes);

    private static Gen<string> Member(string key, Gen<string> value)
    {
        Gen<string> sound = value.Select(v => $"\"{key}\":{v}");
        return Gen.Frequency(
            (60, sound),
            (2, Gen.Constant("")),
            (1, sound.Two().Select(both => $"{both.Item1},{both.Item2}")),
            (1, Text.Zip(value, (k, v) => $"{k}:{v}")),
            (1, value.Select(v => $"\"\\u{(int)key[0]:x4}{key[1..]}\":{v}")));
    }

    private static Gen<string> Deep() => Gen.Elements(3, 9, 63, 64, 65, 2000).SelectMany(
        _ => Gen.Elements("[", "{\"a\":"), (depth, open) => string.Concat(Enumerable.Repeat(open, depth)) + "1"
            + new string(open == "[" ? ']' : '}', depth));
}
