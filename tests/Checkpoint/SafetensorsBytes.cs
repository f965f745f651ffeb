using System.Buffers.Binary;
using System.Text;

namespace Tiller.Tests.Checkpoint;

/// <summary>Builds safetensors files byte by byte, valid ones and broken ones.</summary>
internal static class SafetensorsBytes
{
    /// <summary>A file whose length field is the length of the JSON: the field, the JSON, then <paramref name="data"/> zero bytes.</summary>
    public static byte[] Whole(string json, int data = 0) => Whole(Encoding.UTF8.GetBytes(json), data);

    public static byte[] Whole(byte[] json, int data = 0) => WithLength((ulong)json.Length, json, data);

    public static byte[] WithLength(ulong n, byte[] json, int data = 0)
    {
        var bytes = new byte[8 + json.Length + data];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, n);
        json.CopyTo(bytes, 8);
        return bytes;
    }

    public static string Entry(string type, string shape, string offsets)
        => $$"""{"dtype":"{{type}}","shape":{{shape}},"data_offsets":{{offsets}}}""";

    /// <summary>A file of one tensor called t.</summary>
    public static byte[] One(string type, string shape, string offsets, int data) => Whole($$"""{"t":{{Entry(type, shape, offsets)}}}""", data);
}
