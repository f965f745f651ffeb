using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Tiller.Checkpoint;
using Tiller.Law;
using Tiller.Model;

namespace Tiller.Controllers;

/// <summary>
/// A control vector of llama.cpp's: a GGUF file of architecture controlvector whose tensor direction.N is added to what leaves block N, block 0
/// excepted. "GGUF", version u32, tensors u64, pairs u64; the pairs, each a name, a type u32 and a value; the tensors, each a name, dimensions u32
/// and their sizes u64, a type u32 and an offset u64; then, aligned, the tensors' bytes. All little-endian, strings with their length u64 before
/// them.
/// The format does not say what is done with a direction. A file that is written here does, in pairs of its own: tiller.operation (add or ablate),
/// tiller.hook (output or input), tiller.layer_offset (what is added to N) and tiller.fingerprint of the model.
/// Sources: the GGUF specification in ggml's docs/gguf.md; llama.cpp's common/common.cpp, which loads control vectors.
/// </summary>
public static class ControlVectorFile
{
    private const int MaxSize = 64 << 20;
    private const int MaxPairs = 4096;
    private const int MaxText = 1 << 16;
    private const int DeepestArray = 4;
    private const string Architecture = "controlvector";
    private const string Direction = "direction.";
    private const string OperationKey = "tiller.operation";
    private const string HookKey = "tiller.hook";
    private const string OffsetKey = "tiller.layer_offset";
    private const string FingerprintKey = "tiller.fingerprint";
    private const uint UnsignedType = 4;
    private const uint SignedType = 5;
    private const uint TextType = 8;
    private const uint Alignment = 32;

    // Size in bytes of a value of each type, or 0 for types of variable size: 8, a string, and 9, an array.
    private static readonly int[] s_sizes = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];

    private enum TensorType : uint
    {
        F32 = 0,
        F16 = 1,
    }

    /// <summary>Whether the bytes begin as a GGUF file does.</summary>
    public static bool IsGguf(ReadOnlySpan<byte> file) => file.StartsWith("GGUF"u8);

    /// <summary>Makes a control vector a controller, λ being llama.cpp's scale.</summary>
    /// <param name="file">The file's bytes, at most 64 MiB.</param>
    /// <param name="model">The model that it is for: the file need not say, so its width and depth alone are checked then.</param>
    /// <param name="use">What is done with its directions; null for what the file says, or <see cref="VectorUse.LlamaCpp"/> if it does not.</param>
    /// <exception cref="ControllerException">
    /// It is malformed, too large, of another model, width or depth, or all zero; or it says something else of its use.
    /// </exception>
    public static Controller Read(ReadOnlySpan<byte> file, LanguageModel model, VectorUse? use = null)
    {
        ArgumentNullException.ThrowIfNull(model);
        return Read(file, use, model.Name, model.Fingerprint, model.Config.L, model.Config.D);
    }

    /// <summary>Makes a control vector a controller of a model that need not be loaded.</summary>
    /// <param name="file">The file's bytes, at most 64 MiB.</param>
    /// <param name="use">What is done with its directions; null for what the file says, or <see cref="VectorUse.LlamaCpp"/> if it does not.</param>
    /// <param name="modelName">Name of the model.</param>
    /// <param name="fingerprint">Fingerprint of the model.</param>
    /// <param name="layers">L of the model.</param>
    /// <param name="width">D of the model.</param>
    /// <param name="blocks">Blocks whose directions are used; null for all.</param>
    /// <exception cref="ControllerException">As for a model that is loaded.</exception>
    public static Controller Read(
        ReadOnlySpan<byte> file, VectorUse? use, string modelName, string fingerprint, int layers, int width, LayerSet? blocks = null)
    {
        var content = Parse(file, layers, width);
        if (content.Fingerprint is { } of && of != fingerprint)
        {
            throw new ControllerException(
                ControllerFault.ModelMismatch,
                $"The control vector was written for a model of another fingerprint than {modelName}'s, {Quoted.Text(of)}: give it to that model.");
        }

        if (use is not null && content.Use is { } said && said != use)
        {
            throw new ControllerException(
                ControllerFault.Schema,
                $"The control vector says what is done with its directions, {said}, and {use} was asked for: leave VectorUse out.");
        }

        string hash = Convert.ToHexStringLower(SHA256.HashData(file));
        var method = (use ?? content.Use ?? VectorUse.LlamaCpp).ToMethod(content.Directions, layers, width, blocks);
        return new Controller(method, new ControllerSource
        {
            ModelName = modelName,
            ModelFingerprint = fingerprint,
            Positive = new PromptSet(hash, 1),
            Negative = new PromptSet(hash, 1),
            Settings = new Dictionary<string, string>(StringComparer.Ordinal) { ["source"] = "control vector (GGUF)" },
        });
    }

    /// <summary>What a control vector says of the use of its directions; null if it does not, as those of others do not.</summary>
    /// <param name="file">The file's bytes, at most 64 MiB.</param>
    /// <param name="layers">L of the model.</param>
    /// <param name="width">D of the model.</param>
    /// <exception cref="ControllerException">It is malformed, too large, or of another width or depth.</exception>
    public static VectorUse? UseOf(ReadOnlySpan<byte> file, int layers, int width) => Parse(file, layers, width).Use;

    /// <summary>
    /// Writes a controller as a control vector: open-loop addition (ActAdd, CAA, PID Steering), which llama.cpp then does at scale λ, or ablation.
    /// Other methods are feedback, which a list of directions does not hold.
    /// </summary>
    /// <param name="stream">Is written front to back and left open.</param>
    /// <param name="controller">The controller.</param>
    /// <exception cref="ControllerException">The method is another, or moves block 0, for which the format has no direction.</exception>
    /// <exception cref="IOException">The stream takes no more.</exception>
    public static void Write(Stream stream, Controller controller)
    {
        ArgumentNullException.ThrowIfNull(stream);
        ArgumentNullException.ThrowIfNull(controller);
        var feature = controller.Method.Feature;
        var use = controller.Method switch
        {
            OpenLoopAddition => VectorUse.LlamaCpp,
            Ablation ablation => new VectorUse(VectorOperation.Ablate, ablation.Hook),
            var other => throw new ControllerException(
                ControllerFault.Schema,
                $"A control vector holds directions to add or to ablate, and the controller is {other.Name}, which is more than that: fit one of "
                + "actadd, caa, pid-steering or ablation."),
        };
        (int Block, float[] Row)[] rows =
        [
            .. controller.Method.Layers.Blocks.Select(k => (k, use.Operation == VectorOperation.Add ? feature.Difference(k + 1) : feature.V[k]))
                .Where(x => x.Item2.AsSpan().ContainsAnyExcept(0)),
        ];
        if (rows.Length > 0 && rows[0].Block == 0)
        {
            throw new ControllerException(
                ControllerFault.Range, "The controller moves block 0, for which a control vector has no direction: fit it with layers from 1 on.");
        }

        var source = controller.Source;
        var header = new MemoryStream();
        using (var to = new BinaryWriter(header, Encoding.UTF8, leaveOpen: true))
        {
            to.Write("GGUF"u8);
            to.Write(3u);
            to.Write((ulong)rows.Length);
            to.Write(7ul);
            Pair(to, "general.architecture", Architecture);
            Pair(to, "controlvector.model_hint", source.ModelName);
            WriteText(to, "controlvector.layer_count");
            to.Write(UnsignedType);
            to.Write((uint)rows.Length);
            Pair(to, OperationKey, NameOf(use.Operation));
            Pair(to, HookKey, NameOf(use.Hook));
            WriteText(to, OffsetKey);
            to.Write(SignedType);
            to.Write(use.Offset);
            Pair(to, FingerprintKey, source.ModelFingerprint);
            ulong offset = 0;
            foreach (var (block, row) in rows)
            {
                WriteText(to, string.Create(CultureInfo.InvariantCulture, $"{Direction}{block}"));
                to.Write(1u);
                to.Write((ulong)row.Length);
                to.Write((uint)TensorType.F32);
                to.Write(offset);
                offset += Aligned((ulong)row.Length * sizeof(float));
            }

            to.Write(new byte[Aligned((ulong)header.Length) - (ulong)header.Length]);
            foreach (var (_, row) in rows)
            {
                var bytes = MemoryMarshal.AsBytes(row.AsSpan());
                to.Write(bytes);
                to.Write(new byte[Aligned((ulong)bytes.Length) - (ulong)bytes.Length]);
            }
        }

        header.WriteTo(stream);
    }

    private static void Pair(BinaryWriter to, string key, string value)
    {
        WriteText(to, key);
        to.Write(TextType);
        WriteText(to, value);
    }

    private static void WriteText(BinaryWriter to, string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        to.Write((ulong)bytes.Length);
        to.Write(bytes);
    }

    private static ulong Aligned(ulong size) => (size + Alignment - 1) / Alignment * Alignment;

    private static string NameOf<T>(T value)
        where T : struct, Enum => value.ToString().ToLowerInvariant();

    private static Content Parse(ReadOnlySpan<byte> file, int layers, int width)
    {
        if (file.Length > MaxSize)
        {
            throw new ControllerException(ControllerFault.LimitExceeded, $"The control vector has {file.Length} bytes; at most {MaxSize} are read.");
        }

        return new Reader(file).Read(layers, width);
    }

    /// <summary>What a file holds.</summary>
    /// <param name="Directions">By number.</param>
    /// <param name="Use">What it says of their use; null for nothing.</param>
    /// <param name="Fingerprint">Of the model; null if it does not say.</param>
    private sealed record Content(IReadOnlyDictionary<int, float[]> Directions, VectorUse? Use, string? Fingerprint);

    private ref struct Reader(ReadOnlySpan<byte> file)
    {
        private readonly ReadOnlySpan<byte> _file = file;
        private int _at;

        public Content Read(int layers, int width)
        {
            if (!IsGguf(Take(4)))
            {
                throw Malformed("does not begin with GGUF");
            }

            uint version = U32();
            if (version is not (2 or 3))
            {
                throw new ControllerException(
                    ControllerFault.UnsupportedVersion, $"The control vector is GGUF of version {version}; versions 2 and 3 can be read.");
            }

            ulong tensors = U64(), pairs = U64();
            if (pairs > MaxPairs || tensors > (ulong)layers)
            {
                throw new ControllerException(ControllerFault.Shape,
                    $"The control vector has {tensors} tensors and {pairs} pairs; a model of {layers} blocks has at most {layers} directions, and at "
                    + $"most {MaxPairs} pairs are read.");
            }

            uint alignment = Alignment;
            string architecture = "";
            string? fingerprint = null, operation = null, hook = null;
            int offset = 0;
            for (ulong i = 0; i < pairs; i++)
            {
                string key = Text();
                uint type = U32();
                if (key == "general.architecture" && type == TextType)
                {
                    architecture = Text();
                }
                else if (key == "general.alignment" && type == UnsignedType)
                {
                    alignment = U32();
                }
                else if (key == OperationKey && type == TextType)
                {
                    operation = Text();
                }
                else if (key == HookKey && type == TextType)
                {
                    hook = Text();
                }
                else if (key == FingerprintKey && type == TextType)
                {
                    fingerprint = Text();
                }
                else if (key == OffsetKey && type == SignedType)
                {
                    offset = (int)U32();
                }
                else
                {
                    Skip(type, 0);
                }
            }

            if (architecture != Architecture)
            {
                throw Malformed($"is of the architecture '{architecture}', not {Architecture}");
            }

            if (alignment == 0 || alignment > 1 << 16)
            {
                throw Malformed($"has the alignment {alignment}; 1 to 65536 can be read");
            }

            var use = operation is null ? null : new VectorUse(Named<VectorOperation>(OperationKey, operation), Named<Hook>(HookKey, hook), offset);
            if (Math.Abs((long)offset) > layers)
            {
                throw Malformed($"has the {OffsetKey} {offset}");
            }

            var infos = new (int Number, TensorType Type, ulong Offset)[(int)tensors];
            for (int i = 0; i < infos.Length; i++)
            {
                infos[i] = Info(layers, width);
            }

            long data = (_at + (long)alignment - 1) / alignment * alignment;
            var directions = new Dictionary<int, float[]>();
            foreach (var (number, type, at) in infos)
            {
                float[] direction = new float[width];
                Values(data, at, type, direction, number);
                if (!directions.TryAdd(number, direction))
                {
                    throw Malformed($"has {Direction}{number} twice");
                }
            }

            return new Content(directions, use, fingerprint);
        }

        private static T Named<T>(string key, string? name)
            where T : struct, Enum => Enum.GetValues<T>().Where(value => NameOf(value) == name) is var found && found.Any()
                ? found.First()
                : throw Malformed($"has the {key} {Quoted.Text(name)}, which is none of {string.Join(", ", Enum.GetValues<T>().Select(NameOf))}");

        private (int Number, TensorType Type, ulong Offset) Info(int layers, int width)
        {
            string name = Text();
            if (!name.StartsWith(Direction, StringComparison.Ordinal)
                || !int.TryParse(name.AsSpan(Direction.Length), NumberStyles.None, CultureInfo.InvariantCulture, out int number) || number < 1)
            {
                throw Malformed("has a tensor that is none of direction.1, direction.2 and so on");
            }

            if (number >= 2 * layers)
            {
                throw new ControllerException(ControllerFault.ModelMismatch,
                    $"The control vector has a direction {number}; the model has blocks 0-{layers - 1}.");
            }

            uint dimensions = U32();
            ulong size = dimensions == 1 ? U64() : 0;
            if (dimensions != 1 || size != (ulong)width)
            {
                throw new ControllerException(ControllerFault.ModelMismatch,
                    $"{name} has {dimensions} dimensions and {size} numbers; the model's width is {width}.");
            }

            var type = (TensorType)U32();
            return type is TensorType.F32 or TensorType.F16
                ? (number, type, U64())
                : throw Malformed($"has {name} in the type {(uint)type}; 0 (F32) and 1 (F16) are read");
        }

        private readonly void Values(long data, ulong offset, TensorType type, float[] to, int block)
        {
            int each = type == TensorType.F32 ? 4 : 2;
            if (offset > MaxSize || data + (long)offset + ((long)each * to.Length) > _file.Length)
            {
                throw Malformed($"ends before the numbers of {Direction}{block}");
            }

            var bytes = _file.Slice((int)(data + (long)offset), each * to.Length);
            for (int i = 0; i < to.Length; i++)
            {
                to[i] = type == TensorType.F32
                    ? BinaryPrimitives.ReadSingleLittleEndian(bytes[(4 * i)..])
                    : (float)BinaryPrimitives.ReadHalfLittleEndian(bytes[(2 * i)..]);
                if (!float.IsFinite(to[i]))
                {
                    throw new ControllerException(ControllerFault.NonFinite, $"{Direction}{block} holds {to[i]} at {i}; it must be finite.")
                    {
                        Layer = block,
                        Index = i,
                    };
                }
            }
        }

        private void Skip(uint type, int depth)
        {
            if (type == TextType)
            {
                Text();
            }
            else if (type == 9 && depth < DeepestArray)
            {
                uint of = U32();
                ulong count = U64();
                if (of < s_sizes.Length && s_sizes[(int)of] is > 0 and var size)
                {
                    Take(count <= MaxSize ? (long)count * size : long.MaxValue);
                    return;
                }

                for (ulong i = 0; i < count; i++)
                {
                    Skip(of, depth + 1);
                }
            }
            else if (type < s_sizes.Length && s_sizes[(int)type] is > 0 and var size)
            {
                Take(size);
            }
            else
            {
                throw Malformed($"has a value of the type {type}, which is unknown or nested too deeply");
            }
        }

        private string Text()
        {
            ulong length = U64();
            return length <= MaxText
                ? Encoding.UTF8.GetString(Take((long)length))
                : throw Malformed($"has a text of {length} bytes; at most 65536 can be read");
        }

        private uint U32() => BinaryPrimitives.ReadUInt32LittleEndian(Take(4));

        private ulong U64() => BinaryPrimitives.ReadUInt64LittleEndian(Take(8));

        private ReadOnlySpan<byte> Take(long count)
        {
            if (count > _file.Length - _at)
            {
                throw Malformed($"ends at byte {_file.Length}, within its tables");
            }

            var bytes = _file.Slice(_at, (int)count);
            _at += (int)count;
            return bytes;
        }

        private static ControllerException Malformed(string what) =>
            new(ControllerFault.Schema, $"The control vector {what}: give a file as llama.cpp's cvector-generator writes it.");
    }
}
