using System.Buffers.Binary;
using System.Text;

namespace Tiller.Real;

/// <summary>A GGUF file is malformed, or holds what this tool does not read.</summary>
internal sealed class GgufException(string message, Exception? cause = null) : TillerException(message, cause);

/// <summary>A tensor of a GGUF file.</summary>
/// <param name="Name">Its name, as llama.cpp has it.</param>
/// <param name="Shape">Dimensions, slowest first.</param>
/// <param name="Type">0 for F32, 3 for Q4_1, 8 for Q8_0.</param>
/// <param name="Offset">Where its blocks begin in the file.</param>
internal sealed record GgufTensor(string Name, int[] Shape, uint Type, long Offset)
{
    /// <summary>Its elements.</summary>
    public int Count => Shape.Aggregate(1, (product, n) => product * n);
}

/// <summary>
/// A GGUF file of version 3, little-endian: "GGUF", version u32, tensors u64, pairs u64; the pairs, each a name, a type u32 and a value; the tensors,
/// each a name, dimensions u32 and their sizes u64, fastest first, a type u32 and an offset u64; then, aligned, the tensors' bytes. Strings have
/// their length u64 before them. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
/// </summary>
internal sealed class GgufFile
{
    private const uint Version = 3;
    private const uint TextType = 8;
    private const uint ArrayType = 9;
    private const int MaxDimensions = 4;
    private const int DeepestArray = 4;
    private const int MaxElements = 1 << 28;

    private readonly byte[] _bytes;
    private readonly Dictionary<string, ulong> _numbers = new(StringComparer.Ordinal);
    private int _at;

    private GgufFile(byte[] bytes) => _bytes = bytes;

    /// <summary>The tensors, in the file's order.</summary>
    public IReadOnlyList<GgufTensor> Tensors { get; private set; } = [];

    /// <summary>Reads a file's tables.</summary>
    /// <exception cref="GgufException">It is malformed.</exception>
    public static GgufFile Parse(byte[] bytes)
    {
        var file = new GgufFile(bytes);
        file.Parse();
        return file;
    }

    /// <summary>A whole number of the pairs.</summary>
    /// <exception cref="GgufException">There is none of that name, or it does not fit.</exception>
    public int Number(string name) => _numbers.TryGetValue(name, out ulong number) && number <= int.MaxValue
        ? (int)number
        : throw new GgufException($"The file has no number {name}.");

    /// <summary>A tensor's elements as float32.</summary>
    /// <exception cref="GgufException">The type is another, or the file is too short.</exception>
    public float[] Read(GgufTensor tensor)
    {
        var values = new float[tensor.Count];
        var (length, size) = tensor.Type switch
        {
            0 => (1, sizeof(float)),
            3 => (QuantLength, 20),
            8 => (QuantLength, 34),
            _ => throw new GgufException($"{tensor.Name} has the type {tensor.Type}; expected 0 (F32), 3 (Q4_1) or 8 (Q8_0)."),
        };
        if (values.Length % length != 0 || tensor.Offset > _bytes.Length - ((long)(values.Length / length) * size))
        {
            throw new GgufException($"{tensor.Name} reaches beyond the file's end, or is no whole number of blocks.");
        }

        ReadOnlySpan<byte> data = _bytes.AsSpan((int)tensor.Offset);
        for (int i = 0; i < values.Length / length; i++)
        {
            ReadBlock(tensor.Type, data.Slice(i * size, size), values.AsSpan(i * length, length));
        }

        return values;
    }

    private const int QuantLength = 32;

    // Q4_1: x = d q + m, d and m in float16, q in halves of bytes, the low halves first. Q8_0: x = d q, d in float16, q signed bytes.
    private static void ReadBlock(uint type, ReadOnlySpan<byte> block, Span<float> values)
    {
        if (type == 0)
        {
            values[0] = BinaryPrimitives.ReadSingleLittleEndian(block);
            return;
        }

        float d = (float)BinaryPrimitives.ReadHalfLittleEndian(block);
        if (type == 8)
        {
            for (int i = 0; i < QuantLength; i++)
            {
                values[i] = d * (sbyte)block[2 + i];
            }

            return;
        }

        float m = (float)BinaryPrimitives.ReadHalfLittleEndian(block[2..]);
        for (int i = 0; i < QuantLength / 2; i++)
        {
            float low = d * (block[4 + i] & 15), high = d * (block[4 + i] >> 4); // rounded before m is added, as numpy does
            values[i] = low + m;
            values[i + (QuantLength / 2)] = high + m;
        }
    }

    private void Parse()
    {
        if (!Take(4).SequenceEqual("GGUF"u8) || U32() != Version)
        {
            throw new GgufException($"Expected a GGUF file of version {Version}.");
        }

        ulong tensors = U64(), pairs = U64();
        for (ulong i = 0; i < pairs; i++)
        {
            string name = Text();
            if (Value(U32(), 0) is { } number)
            {
                _numbers[name] = number;
            }
        }

        var entries = new List<GgufTensor>();
        for (ulong i = 0; i < tensors; i++)
        {
            entries.Add(Entry());
        }

        uint alignment = (uint)_numbers.GetValueOrDefault("general.alignment", 32ul);
        if (alignment is 0 or > 1 << 20)
        {
            throw new GgufException($"An alignment of {alignment} bytes is none.");
        }

        long data = (_at + alignment - 1) / alignment * alignment;
        Tensors = [.. entries.Select(e => e with { Offset = data + e.Offset })];
    }

    private GgufTensor Entry()
    {
        string name = Text();
        uint dimensions = U32();
        if (dimensions is 0 or > MaxDimensions)
        {
            throw new GgufException($"{name} has {dimensions} dimensions; expected 1 to {MaxDimensions}.");
        }

        var shape = new int[dimensions];
        ulong count = 1;
        for (uint i = dimensions; i-- > 0;)
        {
            ulong n = U64();
            count = n is 0 or > MaxElements ? MaxElements + 1 : count * n;
            if (count > MaxElements)
            {
                throw new GgufException($"{name} has more than {MaxElements} elements, or none.");
            }

            shape[i] = (int)n;
        }

        uint type = U32();
        ulong offset = U64();
        return offset <= int.MaxValue ? new GgufTensor(name, shape, type, (long)offset)
            : throw new GgufException($"{name} begins beyond the file's end.");
    }

    // The number that a value is; null for what is none.
    private ulong? Value(uint type, int depth)
    {
        switch (type)
        {
            case 0 or 1 or 7:
                return Take(1)[0];
            case 2 or 3:
                return BinaryPrimitives.ReadUInt16LittleEndian(Take(2));
            case 4 or 5:
                return U32();
            case 10 or 11:
                return U64();
            case 6:
                Take(4);
                return null;
            case 12:
                Take(8);
                return null;
            case TextType:
                Text();
                return null;
            case ArrayType when depth < DeepestArray:
                uint inner = U32();
                ulong count = U64();
                for (ulong i = 0; i < count; i++)
                {
                    Value(inner, depth + 1);
                }

                return null;
            default:
                throw new GgufException($"A value has the type {type}, which does not exist, or arrays are nested too deep.");
        }
    }

    private string Text()
    {
        ulong length = U64();
        return length <= int.MaxValue ? Encoding.UTF8.GetString(Take((int)length)) : throw new GgufException($"A text has {length} bytes.");
    }

    private uint U32() => BinaryPrimitives.ReadUInt32LittleEndian(Take(sizeof(uint)));

    private ulong U64() => BinaryPrimitives.ReadUInt64LittleEndian(Take(sizeof(ulong)));

    private ReadOnlySpan<byte> Take(int count)
    {
        if (count > _bytes.Length - _at)
        {
            throw new GgufException($"The file ends at byte {_bytes.Length}, in the middle of its tables.");
        }

        _at += count;
        return _bytes.AsSpan(_at - count, count);
    }
}
