using System.Text;

namespace Tiller.Tests.Onnx;

/// <summary>A tiny graph, which the test writes itself as ONNX's protobuf: logits = the mean over a text's tokens of rows of a table.</summary>
internal sealed record OnnxFile
{
    public const int Float = 1;
    public const int Int32 = 6;
    public const int Int64 = 7;

    private const int Opset = 13;
    private const int IrVersion = 8;

    /// <summary>The table // (V, labels).</summary>
    public required float[][] Table { get; init; }

    /// <summary>Name of a file beside the graph that has the table's numbers; null if they are in the graph.</summary>
    public string? TableFile { get; init; }

    /// <summary>What is added to every token of the type 0; null for a graph without token_type_ids.</summary>
    public float[]? TypeZero { get; init; }

    /// <summary>Whether the graph takes attention_mask; without one it averages over padding too.</summary>
    public bool HasMask { get; init; } = true;

    public string IdsName { get; init; } = "input_ids";

    public int IdsType { get; init; } = Int64;

    /// <summary>Number of tokens that the graph is fixed to; 0 for any.</summary>
    public int Length { get; init; }

    public string OutputName { get; init; } = "logits";

    /// <summary>Whether the graph gives the mean alone, or the rows of all tokens.</summary>
    public bool Averages { get; init; } = true;

    /// <summary>Whether the mean is given as a sequence of one tensor.</summary>
    public bool GivesSequence { get; init; }

    /// <summary>The name of a sequence of tensors that the graph takes besides, and does not read; null for none.</summary>
    public string? SequenceName { get; init; }

    /// <summary>Whether the graph also gives how many tokens there are.</summary>
    public bool GivesCount { get; init; }

    private int Labels => Table[0].Length;

    public void Write(string path)
    {
        File.WriteAllBytes(path, Model());
        if (TableFile is not null)
        {
            File.WriteAllBytes(Path.Combine(Path.GetDirectoryName(path)!, TableFile), Raw(Table));
        }
    }

    private byte[] Model() => [.. Number(1, IrVersion), .. Message(8, [.. Text(1, ""), .. Number(2, Opset)]), .. Message(7, Graph())];

    private byte[] Graph()
    {
        List<byte> nodes = [], constants = [], inputs = [];
        inputs.AddRange(Message(11, Value(IdsName, IdsType, "B", Length)));
        constants.AddRange(Message(5, Floats("table", Table, TableFile)));
        nodes.AddRange(Node("Gather", ["table", IdsName], "rows"));
        string rows = "rows";
        if (TypeZero is { } zero)
        {
            inputs.AddRange(Message(11, Value("token_type_ids", Int64, "B", 0)));
            constants.AddRange(Message(5, Floats("types", [zero, Array.ConvertAll(zero, static x => x + 100)])));
            nodes.AddRange(Node("Gather", ["types", "token_type_ids"], "typed"));
            nodes.AddRange(Node("Add", [rows, "typed"], "sums"));
            rows = "sums";
        }

        if (SequenceName is { } sequence)
        {
            inputs.AddRange(Message(11, Sequence(sequence, Int64, [Dimension("B"), Dimension("T")])));
        }

        string result = GivesSequence ? "mean" : OutputName;
        constants.AddRange(Message(5, Longs("one", 1)));
        constants.AddRange(Message(5, Longs("two", 2)));
        if (!Averages)
        {
            nodes.AddRange(Node("Identity", [rows], OutputName));
        }
        else if (HasMask)
        {
            inputs.AddRange(Message(11, Value("attention_mask", Int64, "B", 0)));
            nodes.AddRange(Node("Cast", ["attention_mask"], "mask", ("to", Float)));
            nodes.AddRange(Node("Unsqueeze", ["mask", "two"], "wide"));
            nodes.AddRange(Node("Mul", [rows, "wide"], "kept"));
            nodes.AddRange(Node("ReduceSum", ["kept", "one"], "sum", ("keepdims", 0)));
            nodes.AddRange(Node("ReduceSum", ["wide", "one"], "count", ("keepdims", 0)));
            nodes.AddRange(Node("Div", ["sum", "count"], result));
        }
        else
        {
            nodes.AddRange(Node("ReduceSum", [rows, "one"], "sum", ("keepdims", 0)));
            nodes.AddRange(Node("Shape", [IdsName], "shape"));
            nodes.AddRange(Node("Gather", ["shape", "one"], "length"));
            nodes.AddRange(Node("Cast", ["length"], "count", ("to", Float)));
            nodes.AddRange(Node("Div", ["sum", "count"], result));
        }

        byte[] output = Averages ? Value(OutputName, Float, "B", Labels) : Cube(OutputName, Labels);
        if (GivesSequence)
        {
            nodes.AddRange(Node("SequenceConstruct", [result], OutputName));
            output = Sequence(OutputName, Float, [Dimension("B"), Dimension("", Labels)]);
        }

        byte[] count = GivesCount ? Message(12, Value("count", Float, "B", 1)) : [];
        return [.. nodes, .. Text(2, "tiny"), .. constants, .. inputs, .. Message(12, output), .. count];
    }

    private static byte[] Node(string kind, string[] inputs, string output, (string Name, int Value)? attribute = null) => Message(1,
    [
        .. inputs.SelectMany(static name => Text(1, name)), .. Text(2, output), .. Text(4, kind),
        .. attribute is var (name, value) ? Message(5, [.. Text(1, name), .. Number(3, value), .. Number(20, 2)]) : [],
    ]);

    private static byte[] Floats(string name, float[][] rows, string? file = null) =>
    [
        .. Number(1, rows.Length), .. Number(1, rows[0].Length), .. Number(2, Float), .. Text(8, name),
        .. file is null ? Message(9, Raw(rows)) : [.. Message(13, [.. Text(1, "location"), .. Text(2, file)]), .. Number(14, 1)],
    ];

    private static byte[] Raw(float[][] rows) => [.. rows.SelectMany(static row => row).SelectMany(BitConverter.GetBytes)];

    private static byte[] Longs(string name, long value) =>
        [.. Number(1, 1), .. Number(2, Int64), .. Text(8, name), .. Message(9, BitConverter.GetBytes(value))];

    // A value (B, second), where 0 stands for any number.
    private static byte[] Value(string name, int type, string first, int second) => Shaped(name, type, [Dimension(first), Dimension("T", second)]);

    private static byte[] Cube(string name, int last) => Shaped(name, Float, [Dimension("B"), Dimension("T"), Dimension("", last)]);

    private static byte[] Sequence(string name, int type, byte[][] dimensions) =>
        [.. Text(1, name), .. Message(2, Message(4, Message(1, Tensor(type, dimensions))))];

    private static byte[] Shaped(string name, int type, byte[][] dimensions) => [.. Text(1, name), .. Message(2, Tensor(type, dimensions))];

    private static byte[] Tensor(int type, byte[][] dimensions) =>
        Message(1, [.. Number(1, type), .. Message(2, [.. dimensions.SelectMany(static x => Message(1, x))])]);

    private static byte[] Dimension(string name, int value = 0) => value > 0 ? Number(1, value) : Text(2, name);

    // Protobuf: a field is its number and kind, 0 for a varint and 2 for bytes with their length before them.
    private static byte[] Number(int field, long value) => [.. Varint((field << 3) | 0), .. Varint(value)];

    private static byte[] Text(int field, string text) => Message(field, Encoding.UTF8.GetBytes(text));

    private static byte[] Message(int field, byte[] bytes) => [.. Varint((field << 3) | 2), .. Varint(bytes.Length), .. bytes];

    private static byte[] Varint(long value)
    {
        var bytes = new List<byte>();
        for (; value >= 0x80; value >>= 7)
        {
            bytes.Add((byte)(value | 0x80));
        }

        bytes.Add((byte)value);
        return [.. bytes];
    }
}
