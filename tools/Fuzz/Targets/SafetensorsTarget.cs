using System.Buffers.Binary;
using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Tiller.Checkpoint;

namespace Tiller.Fuzz.Targets;

/// <summary>The header of a safetensors file. The data is not part of the input: the header's own claim says how long the file is.</summary>
internal sealed class SafetensorsTarget(Corpus corpus) : FuzzTarget
{
    private static readonly string[] s_types = [.. TensorTypes.All.Select(t => t.SpecName())];

    public override string Name => "safetensors";

    public override IReadOnlyList<byte[]> Seeds { get; } =
        [.. corpus.Safetensors(), File("{}"), File("""{"__metadata__":{"format":"pt"},"t":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}""")];

    public override IReadOnlyList<byte[]> Words { get; } = [.. new[]
    {
        "\"dtype\":", "\"shape\":", "\"data_offsets\":", "\"__metadata__\":", "\"F32\"", "\"BF16\"", "\"F4\"", "\"F6_E2M3\"", "[0,0]", "[0,8]", "[]",
        "{}", "null", "\\ud800", "{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}", "[9223372036854775808,2,0]", " ", "\t\n",
    }.Select(Encoding.UTF8.GetBytes)];

    public override Gen<byte[]> Structure { get; } = Tensors().Select(File);

    /// <summary>The prefix gets the length of what follows it.</summary>
    public override byte[] Repair(byte[] input)
    {
        if (input.Length < SafetensorsHeader.PrefixLength)
        {
            return input;
        }

        BinaryPrimitives.WriteUInt64LittleEndian(input, (ulong)(input.Length - SafetensorsHeader.PrefixLength));
        return input;
    }

    public override void Read(byte[] input)
    {
        bool whole = input.Length >= SafetensorsHeader.PrefixLength
            && BinaryPrimitives.ReadUInt64LittleEndian(input) <= (ulong)(input.Length - SafetensorsHeader.PrefixLength);
        long length = whole ? SafetensorsHeader.PrefixLength + (long)BinaryPrimitives.ReadUInt64LittleEndian(input) + Claimed(input) : input.Length;
        SafetensorsHeader header = SafetensorsFile.ParseHeader(input.AsSpan(0, (int)Math.Min(input.Length, length)), length);
        long position = 0;
        foreach (TensorInfo tensor in header.Tensors)
        {
            Promise(tensor.Begin == position, "tensors follow one another without a gap");
            position += tensor.SizeInBytes;
        }

        Promise(position == length - header.LengthInBytes, "tensors fill the file");
        if (position <= 1 << 16)
        {
            RoundTrip(header);
        }
    }

    // Hostile §2 row 64: what is accepted can be written, and reads as the same.
    private static void RoundTrip(SafetensorsHeader header)
    {
        using var stream = new MemoryStream();
        SafetensorsWriter.Write(stream, header.Metadata,
            [.. header.Tensors.Select(t => new TensorData(t.Name, t.Type, [.. t.Shape], new byte[t.SizeInBytes]))]);
        SafetensorsHeader again = SafetensorsFile.ParseHeader(stream.GetBuffer().AsSpan(0, (int)stream.Length), stream.Length);
        Promise(again.Tensors.Select(t => t.ToString()).Order(StringComparer.Ordinal)
            .SequenceEqual(header.Tensors.Select(t => t.ToString()).Order(StringComparer.Ordinal)), "tensors survive writing");
        Promise(again.Metadata.Count == header.Metadata.Count && again.Metadata.All(x => header.Metadata[x.Key] == x.Value),
            "metadata survives writing");
    }

    // The largest end of a data_offsets that stands in the text, so that sound headers meet a file of their length.
    private static long Claimed(byte[] input)
    {
        ReadOnlySpan<byte> rest = input;
        ulong most = 0;
        ReadOnlySpan<byte> key = "\"data_offsets\":["u8;
        for (int at; (at = rest.IndexOf(key)) >= 0;)
        {
            rest = rest[(at + key.Length)..];
            int comma = rest.IndexOf((byte)',');
            if (comma >= 0 && System.Buffers.Text.Utf8Parser.TryParse(rest[(comma + 1)..], out ulong end, out _))
            {
                most = Math.Max(most, end);
            }
        }

        return (long)Math.Min(most, 1UL << 60);
    }

    private static byte[] File(string json)
    {
        byte[] text = Encoding.UTF8.GetBytes(json);
        byte[] file = new byte[SafetensorsHeader.PrefixLength + text.Length];
        BinaryPrimitives.WriteUInt64LittleEndian(file, (ulong)text.Length);
        text.CopyTo(file, SafetensorsHeader.PrefixLength);
        return file;
    }

    private static Gen<string> Tensors()
    {
        var shape = Gen.Choose(0, 4).SelectMany(rank => Gen.ArrayOf(Gen.Frequency((12, Gen.Choose(0, 9)), (1, Gen.Choose(0, 1 << 20))), rank));
        var tensor = Gen.Elements(s_types).Zip(shape, (type, dimensions) => (type, dimensions));
        var sound = Gen.Choose(0, 6).SelectMany(n => Gen.ArrayOf(tensor, n)).SelectMany(Entries);
        var metadata = HostileJson.Object(("format", HostileJson.Text), ("version", HostileJson.One("\"1\"")));
        return sound.Zip(HostileJson.Mostly(metadata), (tensors, m) => tensors.Length == 0
            ? $"{{\"__metadata__\":{m}}}"
            : $"{{\"__metadata__\":{m},{tensors}}}");
    }

    private static Gen<string> Entries((string Type, int[] Shape)[] tensors)
    {
        var members = new List<(string, Gen<string>)>();
        ulong position = 0;
        for (int i = 0; i < tensors.Length; i++)
        {
            (string type, int[] shape) = tensors[i];
            _ = TensorTypes.TryParse(type, out TensorType known);
            ulong bits = shape.Aggregate((ulong)known.BitsPerElement(), (a, n) => unchecked(a * (ulong)n));
            ulong end = position + (bits / 8);
            members.Add(($"t{i}", HostileJson.Mostly(HostileJson.Object(
                ("dtype", HostileJson.One($"\"{type}\"")), ("shape", HostileJson.One($"[{string.Join(',', shape)}]")),
                ("data_offsets", HostileJson.One($"[{position},{end}]"))))));
            position = end;
        }

        return HostileJson.Object([.. members]).Select(text => text[1..^1]);
    }
}
