using System.Globalization;
using System.Text;
using Tiller.Checkpoint;
using static Tiller.Tests.Checkpoint.SafetensorsBytes;

namespace Tiller.Tests.Checkpoint;

/// <summary>Malformed headers, each with the error it must give. The number is the row of docs/hostile-inputs.md §2.</summary>
[TestFixture]
internal sealed class SafetensorsHostileTests
{
    private const string F32 = """{"dtype":"F32","shape":[2],"data_offsets":[0,8]}""";

    [TestCaseSource(nameof(Rejected))]
    public void Header_is_rejected(byte[] file, SafetensorsError expected)
    {
        var error = Assert.Throws<SafetensorsException>(() => SafetensorsFile.ParseHeader(file, file.Length));

        Assert.That(error!.Error, Is.EqualTo(expected), error.Message);
    }

    [TestCaseSource(nameof(Accepted))]
    public void Header_is_accepted(byte[] file, int tensors)
        => Assert.That(SafetensorsFile.ParseHeader(file, file.Length).Tensors, Has.Count.EqualTo(tensors));

    [TestCaseSource(nameof(Hints))]
    public void Foreign_file_is_recognised(byte[] start, string hint)
    {
        byte[] file = [.. start, .. new byte[100]];

        var error = Assert.Throws<SafetensorsException>(() => SafetensorsFile.ParseHeader(file, file.Length));

        Assert.That(error!.Error, Is.EqualTo(SafetensorsError.HeaderTooLarge));
        Assert.That(error.Message, Does.Contain(hint));
    }

    [Test]
    public void Shared_range_hints_at_tied_weights()
    {
        byte[] file = Whole($$"""{"a":{{F32}},"b":{{F32}}}""", 8);

        var error = Assert.Throws<SafetensorsException>(() => SafetensorsFile.ParseHeader(file, file.Length));

        Assert.That(error!.Error, Is.EqualTo(SafetensorsError.InvalidOffset));
        Assert.That(error.Message, Does.Contain("tied weights"));
    }

    [Test]
    public void Error_carries_file_tensor_expected_and_actual()
    {
        byte[] file = One("F32", "[2,2]", "[0,15]", 15);

        var error = Assert.Throws<SafetensorsException>(() => SafetensorsFile.ParseHeader(file, file.Length, "weights.safetensors"));

        Assert.That(error!.File, Is.EqualTo("weights.safetensors"));
        Assert.That(error.Tensor, Is.EqualTo("t"));
        Assert.That(error.Expected, Does.StartWith("16 bytes"));
        Assert.That(error.Actual, Is.EqualTo("15"));
        Assert.That(error.Message, Does.Contain("weights.safetensors").And.Contain("\"t\"").And.Contain("(2, 2)"));
    }

    [Test]
    public void Hostile_names_are_escaped_in_messages()
    {
        byte[] file = Whole("""{"a\u001b[31m\u0000\u202e":1}""");

        var error = Assert.Throws<SafetensorsException>(() => SafetensorsFile.ParseHeader(file, file.Length));

        Assert.That(error!.Tensor, Is.EqualTo("a\u001b[31m\0\u202e"));
        Assert.That(error.Message, Does.Contain(@"a\u001b[31m\u0000\u202e").And.Not.Contain("\u001b").And.Not.Contain("\u202e"));
    }

    [Test]
    public void Row18_header_of_100_MB_is_refused_at_its_first_fault_in_little_memory()
    {
        byte[] json = new byte[SafetensorsHeader.MaxLength];
        json.AsSpan().Fill((byte)'0');
        for (int i = 0; i < json.Length; i += 2)
        {
            json[i] = (byte)',';
        }

        foreach (var (start, expected) in new[]
        {
            ("{\"t\":[0", SafetensorsError.InvalidJson), ("{\"t\":{\"shape\":[0", SafetensorsError.LimitExceeded),
        })
        {
            Encoding.ASCII.GetBytes(start).CopyTo(json, 0);
            long before = GC.GetAllocatedBytesForCurrentThread();
            var error = Assert.Throws<SafetensorsException>(() => SafetensorsHeader.Parse(json, json.Length + 8L, "big"));
            long allocated = GC.GetAllocatedBytesForCurrentThread() - before;

            Assert.That(error!.Error, Is.EqualTo(expected));
            Assert.That(allocated, Is.LessThan(1 << 20));
            Assert.That(BytesParsed(json), Is.LessThan(100));
        }
    }

    [Test]
    public void Row19_many_tensors_over_one_range()
    {
        var json = new StringBuilder("{");
        for (int i = 0; i < 100_000; i++)
        {
            json.Append(CultureInfo.InvariantCulture, $"{(i == 0 ? "" : ",")}\"t{i}\":{Entry("U8", "[160000]", "[0,160000]")}");
        }

        byte[] file = Whole(json.Append('}').ToString(), 160_000);

        Assert.That(() => SafetensorsFile.ParseHeader(file, file.Length), Throws.TypeOf<SafetensorsException>()
            .With.Property(nameof(SafetensorsException.Error)).EqualTo(SafetensorsError.InvalidOffset));
    }

    [Test]
    public void Row19_too_many_tensors()
    {
        string entry = "\":" + Entry("U8", "[0]", "[0,0]") + ",\"";
        var json = new StringBuilder("{\"");
        for (int i = 0; i < SafetensorsHeader.MaxTensors; i++)
        {
            json.Append(i).Append(entry);
        }

        json.Append("last\":").Append(Entry("U8", "[0]", "[0,0]"));

        byte[] file = Whole(json.Append('}').ToString());

        Assert.That(() => SafetensorsFile.ParseHeader(file, file.Length), Throws.TypeOf<SafetensorsException>()
            .With.Property(nameof(SafetensorsException.Error)).EqualTo(SafetensorsError.LimitExceeded));
    }

    [Test]
    public void Row50_every_prefix_of_a_valid_file()
    {
        byte[] file = Whole($$"""{"a":{{F32}},"b":{{Entry("BF16", "[2,8]", "[8,40]")}}}       """, 40);
        Assert.That(SafetensorsFile.ParseHeader(file, file.Length).Tensors, Has.Count.EqualTo(2));

        for (int length = 0; length < file.Length; length++)
        {
            byte[] prefix = file[..length];
            var expected = length < 8 ? SafetensorsError.HeaderTooSmall : length < file.Length - 40
                ? SafetensorsError.InvalidHeaderLength
                : SafetensorsError.IncompleteBuffer;

            var error = Assert.Throws<SafetensorsException>(() => SafetensorsFile.ParseHeader(prefix, prefix.Length));

            Assert.That(error!.Error, Is.EqualTo(expected), $"prefix of {length} bytes");
        }
    }

    [Test]
    public void Row64_every_bit_flip_of_a_header_is_an_error_or_round_trips()
    {
        byte[] file = Whole($$"""{"__metadata__":{"k":"v"},"ab":{{F32}},"cd":{{Entry("BF16", "[2,8]", "[8,40]")}}}  """, 40);
        int accepted = 0;
        for (int bit = 0; bit < (file.Length - 40) * 8; bit++)
        {
            byte[] flipped = [.. file];
            flipped[bit / 8] ^= (byte)(1 << (bit % 8));
            SafetensorsHeader header;
            try
            {
                header = SafetensorsFile.ParseHeader(flipped, flipped.Length);
            }
            catch (SafetensorsException)
            {
                continue;
            }

            accepted++;
            AssertRoundTrips(header, bit);
        }

        // Flips inside names, metadata and types of the same size stay valid.
        Assert.That(accepted, Is.GreaterThan(10));
    }

    // Up to the fault.
    private static long BytesParsed(byte[] json)
    {
        var parser = new SafetensorsHeaderParser(json, "big");
        try
        {
            parser.Read();
        }
        catch (SafetensorsException)
        {
            // Wanted is where.
        }

        return parser.Position;
    }

    private static void AssertRoundTrips(SafetensorsHeader header, int bit)
    {
        using var stream = new MemoryStream();
        SafetensorsWriter.Write(stream, header.Metadata,
            [.. header.Tensors.Select(t => new TensorData(t.Name, t.Type, [.. t.Shape], new byte[t.SizeInBytes]))]);
        SafetensorsHeader again = SafetensorsFile.ParseHeader(stream.ToArray(), stream.Length);

        Assert.That(again.Tensors.Select(t => t.ToString()).Order(), Is.EqualTo(header.Tensors.Select(t => t.ToString()).Order()), $"bit {bit}");
        Assert.That(again.Metadata, Is.EquivalentTo(header.Metadata), $"bit {bit}");
    }

    private static TestCaseData Row(string row, SafetensorsError error, byte[] file) => new TestCaseData(file, error).SetArgDisplayNames(row);

    private static TestCaseData Row(string row, SafetensorsError error, string json, int data = 0) => Row(row, error, Whole(json, data));

    private static IEnumerable<TestCaseData> Rejected()
    {
        for (int n = 0; n < 8; n++)
        {
            yield return Row($"1: {n} bytes", SafetensorsError.HeaderTooSmall, new byte[n]);
        }

        yield return Row("2: N = 0", SafetensorsError.InvalidJson, "");
        yield return Row("2: N = 0 and data", SafetensorsError.InvalidJson, "", 16);
        yield return Row("3: N = 60, end", SafetensorsError.InvalidHeaderLength, WithLength(60, []));
        yield return Row("3: N = 1000, 100 bytes", SafetensorsError.InvalidHeaderLength, WithLength(1000, new byte[92]));
        yield return Row("3: N = 100 million, short", SafetensorsError.InvalidHeaderLength, WithLength(100_000_000, new byte[92]));
        foreach (ulong n in new[] { 100_000_001UL, 0xFFFFFFFF_0000003CUL, ulong.MaxValue, 1UL << 63, (1UL << 32) + 60, 0x3C00000000000000UL })
        {
            yield return Row($"4: N = {n}", SafetensorsError.HeaderTooLarge, WithLength(n, new byte[60]));
        }

        byte[] good = Encoding.UTF8.GetBytes($$"""{"t":{{F32}}}""");
        yield return Row("6: N one too small", SafetensorsError.InvalidJson, WithLength((ulong)good.Length - 1, good, 8));
        yield return Row("7: N one too large, then 00", SafetensorsError.InvalidJson, WithLength((ulong)good.Length + 1, good, 8));
        yield return Row("7: N one too large, then 20", SafetensorsError.IncompleteBuffer, WithLength((ulong)good.Length + 1, [.. good, 0x20], 7));
        yield return Row("8: FF", SafetensorsError.InvalidUtf8, Whole([0xFF]));
        yield return Row("8: FF in a name", SafetensorsError.InvalidUtf8, Whole([.. "{\""u8, 0xFF, .. "\":1}"u8]));
        yield return Row("8: overlong", SafetensorsError.InvalidUtf8, Whole([.. "{\""u8, 0xC0, 0xAF, .. "\":1}"u8]));
        yield return Row("8: CESU", SafetensorsError.InvalidUtf8, Whole([.. "{\""u8, 0xED, 0xA0, 0x80, .. "\":1}"u8]));
        yield return Row("8: UTF-16 with BOM", SafetensorsError.InvalidUtf8, Whole([0xFF, 0xFE, .. Encoding.Unicode.GetBytes("{}")]));
        yield return Row("9: UTF-8 BOM", SafetensorsError.InvalidJson, Whole([0xEF, 0xBB, 0xBF, .. "{}"u8]));
        yield return Row("9: UTF-16 without BOM", SafetensorsError.InvalidJson, Whole(Encoding.Unicode.GetBytes("{}")));
        foreach (string json in new[] { "{", "[]", "null", "1", "\"x\"" })
        {
            yield return Row($"10: {json}", SafetensorsError.InvalidJson, json);
        }

        yield return Row("12: bytes after {}", SafetensorsError.IncompleteBuffer, "{}", 1);
        foreach (string json in new[] { "{}\0", "{}{}", "{}//c", $$"""{"t":{{F32}},}""", "{'a':1}", """{"t":NaN}""" })
        {
            yield return Row($"13: {json.Replace('\0', '0')}", SafetensorsError.InvalidJson, json);
        }

        yield return Row("13: leading zero", SafetensorsError.InvalidJson, One("F32", "[01]", "[0,4]", 4));
        yield return Row("14: raw 01 in a name", SafetensorsError.InvalidJson, $"{{\"a\u0001\":{F32}}}", 8);
        yield return Row("14: raw line feed in a name", SafetensorsError.InvalidJson, $"{{\"a\n\":{F32}}}", 8);
        yield return Row("15: lone surrogate", SafetensorsError.InvalidJson, $$"""{"\ud800":{{F32}}}""", 8);
        yield return Row("15: lone surrogate as field", SafetensorsError.InvalidJson, """{"t":{"\ud800":1}}""");
        yield return Row("15: lone surrogate as dtype", SafetensorsError.InvalidJson, """{"t":{"dtype":"\ud800"}}""");
        yield return Row("15: lone surrogate in metadata", SafetensorsError.InvalidJson, """{"__metadata__":{"a":"\udc00"}}""");
        foreach (int depth in new[] { 9, 127, 128, 100_000 })
        {
            yield return Row($"17: depth {depth}", SafetensorsError.InvalidJson, "{\"t\":" + new string('[', depth) + new string(']', depth) + "}");
            yield return Row($"17: depth {depth} in a shape", SafetensorsError.InvalidJson, "{\"t\":{\"shape\":" + new string('[', depth)
                + new string(']', depth) + "}}");
        }

        yield return Row("20: name of 1 MB", SafetensorsError.LimitExceeded, $$"""{"{{new string('n', 1 << 20)}}":{{F32}}}""", 8);
        yield return Row("20: name of 4097 bytes", SafetensorsError.LimitExceeded, $$"""{"{{new string('n', 4097)}}":{{F32}}}""", 8);
        foreach (string metadata in new[] { """{"a":1}""", """{"a":{}}""", """{"a":null}""", "[]", "\"x\"", F32 })
        {
            yield return Row($"22: {metadata}", SafetensorsError.InvalidJson, $$"""{"__metadata__":{{metadata}}}""", 8);
        }

        yield return Row("23: metadata twice", SafetensorsError.DuplicateName, """{"__metadata__":{},"__metadata__":{}}""");
        yield return Row("24: metadata key twice", SafetensorsError.DuplicateName, """{"__metadata__":{"a":"1","a":"2"}}""");
        yield return Row("25: name twice, identical", SafetensorsError.DuplicateName, $$"""{"t":{{F32}},"t":{{F32}}}""", 8);
        yield return Row("25: name twice, escaped", SafetensorsError.DuplicateName, $$"""{"t":{{F32}},"\u0074":{{F32}}}""", 8);
        string low = Entry("U8", "[4]", "[0,4]");
        string high = Entry("U8", "[4]", "[4,8]");
        yield return Row("26: name twice, ascending", SafetensorsError.DuplicateName, $$"""{"t":{{low}},"t":{{high}}}""", 8);
        yield return Row("26: name twice, descending", SafetensorsError.DuplicateName, $$"""{"t":{{high}},"t":{{low}}}""", 8);
        yield return Row("27: dtype twice", SafetensorsError.DuplicateName,
            """{"t":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}""", 8);
        yield return Row("27: shape twice", SafetensorsError.DuplicateName, """{"t":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}""",
            8);
        yield return Row("27: data_offsets twice", SafetensorsError.DuplicateName,
            """{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"data_offsets":[0,8]}}""", 8);
        yield return Row("29: no dtype", SafetensorsError.InvalidJson, """{"t":{"shape":[2],"data_offsets":[0,8]}}""", 8);
        yield return Row("29: no shape", SafetensorsError.InvalidJson, """{"t":{"dtype":"F32","data_offsets":[0,8]}}""", 8);
        yield return Row("29: no data_offsets", SafetensorsError.InvalidJson, """{"t":{"dtype":"F32","shape":[2]}}""", 8);
        foreach (string entry in new[] { "null", "1", "\"x\"", "true" })
        {
            yield return Row($"29: entry {entry}", SafetensorsError.InvalidJson, $$"""{"t":{{entry}}}""");
        }

        yield return Row("30: strides", SafetensorsError.UnknownField, """{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"strides":[1]}}""", 8);
        yield return Row("31: entry as array", SafetensorsError.InvalidJson, """{"t":["F32",[2],[0,8]]}""", 8);
        yield return Row("32: dtype as object", SafetensorsError.InvalidJson, """{"t":{"dtype":{"F32":null},"shape":[2],"data_offsets":[0,8]}}""", 8);
        foreach (string type in new[] { "\"f32\"", "\"F33\"", "\"\"", "32", "null" })
        {
            yield return Row($"33: dtype {type}", SafetensorsError.UnsupportedType,
                $$$"""{"t":{"dtype":{{{type}}},"shape":[2],"data_offsets":[0,8]}}""", 8);
        }

        foreach (string item in new[] { "-1", "1.0", "1e2", "\"2\"", "null", "true", "[2]", "-0", "18446744073709551616" })
        {
            yield return Row($"35: shape item {item}", SafetensorsError.InvalidJson, One("F32", $"[{item}]", "[0,8]", 8));
        }

        yield return Row("37: no elements, 4 bytes", SafetensorsError.TensorInvalidInfo, One("F32", "[0]", "[0,4]", 4));
        yield return Row("37: scalar, no bytes", SafetensorsError.TensorInvalidInfo, One("F32", "[]", "[0,0]", 0));
        yield return Row("38: rank 65", SafetensorsError.LimitExceeded,
            One("U8", "[" + string.Join(',', Enumerable.Repeat(1, 65)) + "]", "[0,1]", 1));
        yield return Row("38: rank 9", SafetensorsError.LimitExceeded, One("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]", 1));
        yield return Row("39: elements overflow", SafetensorsError.Overflow, One("F32", "[2,18446744073709551614]", "[0,16]", 16));
        yield return Row("39: bits overflow", SafetensorsError.Overflow, One("I32", "[2,9223372036854775807]", "[0,16]", 16));
        yield return Row("39: U8 2^61", SafetensorsError.Overflow, One("U8", "[2305843009213693952]", "[0,16]", 16));
        yield return Row("40: 2^63, 2, 0", SafetensorsError.Overflow, One("U8", "[9223372036854775808,2,0]", "[0,0]", 0));
        yield return Row("41: U8 2^61 - 1", SafetensorsError.IncompleteBuffer, One("U8", "[2305843009213693951]", "[0,2305843009213693951]", 4));
        yield return Row("42: nine tensors to 2^64 - 1", SafetensorsError.Overflow, NineToTheEnd());
        foreach (int end in new[] { 4, 15, 17 })
        {
            yield return Row($"43: [0,{end}] for 16 bytes", SafetensorsError.TensorInvalidInfo, One("F32", "[2,2]", $"[0,{end}]", end));
        }

        yield return Row("44: hole at the front", SafetensorsError.InvalidOffset, One("F32", "[2]", "[8,16]", 16));
        yield return Row("44: hole in the middle", SafetensorsError.InvalidOffset, $$"""{"a":{{F32}},"b":{{Entry("F32", "[1]", "[12,16]")}}}""", 16);
        yield return Row("45: overlap", SafetensorsError.InvalidOffset, $$"""{"a":{{F32}},"b":{{Entry("F32", "[2]", "[4,12]")}}}""", 12);
        yield return Row(
            "45: ten on one range", SafetensorsError.InvalidOffset,
            "{" + string.Join(',', Enumerable.Range(0, 10).Select(i => $"\"t{i}\":{Entry("F32", "[2,2]", "[0,16]")}")) + "}", 16);
        yield return Row("46: begin after end", SafetensorsError.InvalidOffset, One("F32", "[2]", "[8,0]", 8));
        yield return Row("46: second begins after its end", SafetensorsError.InvalidOffset,
            $$"""{"a":{{F32}},"b":{{Entry("F32", "[1]", "[8,4]")}}}""", 8);
        yield return Row("47: empty inside another", SafetensorsError.InvalidOffset, $$"""{"a":{{F32}},"b":{{Entry("F32", "[0]", "[4,4]")}}}""", 8);
        yield return Row("49: bytes after the last", SafetensorsError.IncompleteBuffer, One("F32", "[2]", "[0,8]", 9));
        yield return Row("50: 2 bytes missing", SafetensorsError.IncompleteBuffer, One("F32", "[2]", "[0,8]", 6));
        foreach (string offsets in new[] { "[0]", "[0,4,8]", "[]", "{}", "\"0,4\"", "[0.0,4]", "[-1,4]", "[0,18446744073709551616]", "null" })
        {
            yield return Row($"51: data_offsets {offsets}", SafetensorsError.InvalidJson, One("F32", "[1]", offsets, 4));
        }

        yield return Row("52: absolute offsets", SafetensorsError.InvalidOffset, One("F32", "[2]", "[64,72]", 8));
        yield return Row("54: F4 of 12 bits", SafetensorsError.MisalignedSlice, One("F4", "[1,3]", "[0,2]", 2));
        yield return Row("54: F6 of 18 bits", SafetensorsError.MisalignedSlice, One("F6_E3M2", "[3]", "[0,3]", 3));
    }

    private static byte[] NineToTheEnd()
    {
        const ulong Size = (1UL << 61) - 1;
        var entries = Enumerable.Range(0, 9).Select(i =>
        {
            ulong begin = (ulong)i * Size;
            ulong size = i < 8 ? Size : ulong.MaxValue - begin;
            return $"\"t{i}\":{Entry("U8", $"[{size}]", $"[{begin},{begin + size}]")}";
        });
        return Whole("{" + string.Join(',', entries) + "}");
    }

    private static IEnumerable<TestCaseData> Accepted()
    {
        TestCaseData A(string row, int tensors, byte[] file) => new TestCaseData(file, tensors).SetArgDisplayNames(row);

        yield return A("11: {}", 0, Whole("{}"));
        yield return A("11: {} and spaces", 0, Whole("{}   "));
        yield return A("11: white space around {}", 0, Whole("\t\n{}\r "));
        foreach (string name in new[] { @"a\u0000b", "../../x", @"C:\\x", "" })
        {
            yield return A($"16: name {name}", 1, Whole($$"""{"{{name}}":{{F32}}}""", 8));
        }

        yield return A("20: name of 4096 bytes", 1, Whole($$"""{"{{new string('n', 4096)}}":{{F32}}}""", 8));
        yield return A("21: no metadata", 1, Whole($$"""{"t":{{F32}}}""", 8));
        yield return A("21: empty metadata", 1, Whole($$"""{"__metadata__":{},"t":{{F32}}}""", 8));
        yield return A("21: null metadata", 1, Whole($$"""{"__metadata__":null,"t":{{F32}}}""", 8));
        yield return A("28: T and t", 2, Whole($$"""{"T":{{F32}},"t":{{Entry("U8", "[1]", "[8,9]")}}}""", 9));
        yield return A("28: NFC and NFD", 2, Whole($$"""{"\u00e9":{{F32}},"e\u0301":{{Entry("U8", "[1]", "[8,9]")}}}""", 9));
        foreach (TensorType type in TensorTypes.All)
        {
            int size = type.BitsPerElement();
            yield return A($"34: {type.SpecName()}", 1, One(type.SpecName(), "[8]", $"[0,{size}]", size));
        }

        yield return A("36: scalar", 1, One("F32", "[]", "[0,4]", 4));
        yield return A("36: [2,0]", 1, One("F32", "[2,0]", "[0,0]", 0));
        yield return A("40: 0, 2^63, 2", 1, One("U8", "[0,9223372036854775808,2]", "[0,0]", 0));
        yield return A("47: empty after another", 2, Whole($$"""{"a":{{F32}},"b":{{Entry("F32", "[0]", "[8,8]")}}}""", 8));
        yield return A("47: empty before another", 2, Whole($$"""{"a":{{F32}},"b":{{Entry("F32", "[0]", "[0,0]")}}}""", 8));
        yield return A("48: order of JSON and types", 2, Whole($$"""{"b":{{Entry("U8", "[1]", "[8,9]")}},"a":{{F32}}}""", 9));
        yield return A("53: F4 [1,2]", 1, One("F4", "[1,2]", "[0,1]", 1));
        yield return A("53: F6_E2M3 [4]", 1, One("F6_E2M3", "[4]", "[0,3]", 3));
        yield return A("55: unaligned F64", 2, Whole($$"""{"a":{{Entry("BOOL", "[1]", "[0,1]")}},"b":{{Entry("F64", "[1]", "[1,9]")}}} """, 9));
    }

    private static IEnumerable<TestCaseData> Hints()
    {
        yield return new TestCaseData("GGUF\u0003\0\0\0"u8.ToArray(), "GGUF").SetArgDisplayNames("5: GGUF");
        yield return new TestCaseData("PK\u0003\u0004...."u8.ToArray(), "ZIP").SetArgDisplayNames("5: ZIP");
        yield return new TestCaseData("version https://git-lfs.github.com/spec/v1"u8.ToArray(), "git lfs pull").SetArgDisplayNames("5: LFS pointer");
        yield return new TestCaseData("<!DOCTYPE html>"u8.ToArray(), "HTML").SetArgDisplayNames("5: HTML");
    }
}
