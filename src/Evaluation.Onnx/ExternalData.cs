using System.Text;

namespace Tiller.Evaluation.Onnx;

/// <summary>
/// Finds the files in which a graph keeps tensors outside itself: the entries "location" of its tensors' external_data (onnx.proto). Other fields are
/// passed over.
/// </summary>
internal static class ExternalData
{
    // Kinds of fields in protobuf.
    private const ulong IsVarint = 0;
    private const ulong Is64Bits = 1;
    private const ulong HasLength = 2;
    private const ulong Is32Bits = 5;

    // Fields of an entry.
    private const ulong Key = 1;
    private const ulong Value = 2;

    private const ulong LongestText = 4096;

    // The messages on the way to external_data, by the message around them and their field's number.
    private static readonly Dictionary<(Message Around, ulong Field), Message> s_parts = new()
    {
        [(Message.Model, 7)] = Message.Graph,
        [(Message.Model, 20)] = Message.Training,
        [(Message.Model, 25)] = Message.Function,
        [(Message.Training, 1)] = Message.Graph,
        [(Message.Training, 2)] = Message.Graph,
        [(Message.Function, 7)] = Message.Node,
        [(Message.Graph, 1)] = Message.Node,
        [(Message.Graph, 5)] = Message.Tensor,
        [(Message.Graph, 15)] = Message.SparseTensor,
        [(Message.Node, 5)] = Message.Attribute,
        [(Message.Attribute, 5)] = Message.Tensor,
        [(Message.Attribute, 6)] = Message.Graph,
        [(Message.Attribute, 10)] = Message.Tensor,
        [(Message.Attribute, 11)] = Message.Graph,
        [(Message.Attribute, 22)] = Message.SparseTensor,
        [(Message.Attribute, 23)] = Message.SparseTensor,
        [(Message.SparseTensor, 1)] = Message.Tensor,
        [(Message.SparseTensor, 2)] = Message.Tensor,
        [(Message.Tensor, 13)] = Message.Entry,
    };

    private enum Message
    {
        Model,
        Training,
        Function,
        Graph,
        Node,
        Attribute,
        Tensor,
        SparseTensor,
        Entry,
    }

    /// <summary>Paths of the files, each once, in ordinal order of their names.</summary>
    /// <param name="graph">Path of the graph.</param>
    /// <exception cref="OnnxScorerException">The graph is not in ONNX's own format.</exception>
    /// <exception cref="IOException">The graph cannot be read.</exception>
    public static IReadOnlyList<string> PathsOf(string graph)
    {
        string folder = Path.GetDirectoryName(Path.GetFullPath(graph))!;
        using var stream = File.OpenRead(graph);
        try
        {
            return [.. NamesIn(stream).Select(name => Path.Combine(folder, name))];
        }
        catch (InvalidDataException)
        {
            throw new OnnxScorerException(graph, "this is not in ONNX's own format (protobuf): name the .onnx file of a text classifier.");
        }
    }

    private static SortedSet<string> NamesIn(FileStream stream)
    {
        var names = new SortedSet<string>(StringComparer.Ordinal);
        var open = new Stack<(Message Kind, long End)>([(Message.Model, stream.Length)]);
        string key = "", value = ""; // of the entry at hand
        while (open.TryPeek(out var around))
        {
            long left = around.End - stream.Position;
            if (left < 0)
            {
                throw new InvalidDataException();
            }

            if (left == 0)
            {
                open.Pop();
                if (around.Kind == Message.Entry && key == "location")
                {
                    names.Add(value);
                }

                continue;
            }

            ulong tag = Varint(stream), field = tag >> 3, kind = tag & 7;
            if (kind == IsVarint)
            {
                Varint(stream);
                continue;
            }

            ulong length = kind switch
            {
                Is64Bits => sizeof(long),
                HasLength => Varint(stream),
                Is32Bits => sizeof(int),
                _ => throw new InvalidDataException(),
            };
            if (length > (ulong)Math.Max(0, around.End - stream.Position))
            {
                throw new InvalidDataException();
            }

            if (kind == HasLength && s_parts.TryGetValue((around.Kind, field), out Message part))
            {
                open.Push((part, stream.Position + (long)length));
                (key, value) = ("", "");
            }
            else if (kind == HasLength && around.Kind == Message.Entry && field is Key or Value)
            {
                string text = Text(stream, length);
                (key, value) = field == Key ? (text, value) : (key, text);
            }
            else
            {
                stream.Seek((long)length, SeekOrigin.Current);
            }
        }

        return names;
    }

    private static string Text(FileStream stream, ulong length)
    {
        var bytes = new byte[length <= LongestText ? length : throw new InvalidDataException()];
        stream.ReadExactly(bytes);
        return Encoding.UTF8.GetString(bytes);
    }

    private static ulong Varint(FileStream stream)
    {
        ulong value = 0;
        for (int shift = 0; shift < 64; shift += 7)
        {
            int next = stream.ReadByte();
            if (next < 0)
            {
                break;
            }

            value |= (ulong)(next & 0x7F) << shift;
            if (next < 0x80)
            {
                return value;
            }
        }

        throw new InvalidDataException();
    }
}
