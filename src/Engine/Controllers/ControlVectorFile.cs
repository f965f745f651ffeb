using System.Buffers.Binary;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Tiller.Features;
using Tiller.Model;

namespace Tiller.Controllers;

/// <summary>
/// Reads a control vector of llama.cpp. It is a GGUF file of the architecture controlvector, whose tensor direction.N is added to the output of block
/// N; block 0 has no tensor. The file holds: "GGUF", the version (u32), the number of tensors (u64) and the number of pairs (u64); the pairs, each a
/// name, a type (u32) and a value; the tensors, each a name, the number of dimensions (u32), their sizes (u64), a type (u32) and an offset (u64);
/// then, aligned, the tensors' bytes. Numbers are little-endian; a string is preceded by its length (u64). Sources: the GGUF specification in ggml's
/// docs/gguf.md; llama.cpp's common/common.cpp, which loads control vectors.
/// </summary>
public static class ControlVectorFile
{
    private const int MaxSize = 64 << 20;
    private const int MaxPairs = 4096;
    private const int MaxText = 1 << 16;
    private const int DeepestArray = 4;
    private const string Architecture = "controlvector";
    private const string Direction = "direction.";

    // Size in bytes of a value of each type, or 0 for types of variable size: 8, a string, and 9, an array.
    private static readonly int[] s_sizes = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];

    private enum TensorType : uint
    {
        F32 = 0,
        F16 = 1,
    }

    /// <summary>Whether the bytes begin as a GGUF file does.</summary>
    public static bool IsGguf(ReadOnlySpan<byte> file) => file.StartsWith("GGUF"u8);

    /// <summary>Makes a controller of a control vector: open-loop addition, with llama.cpp's scale as λ.</summary>
    /// <param name="file">The file's bytes, at most 64 MiB.</param>
    /// <param name="model">The model that the control vector is for. The file does not name its model, so only width and depth are checked.</param>
    /// <exception cref="ControllerException">
    /// The control vector is malformed, too large, for a model of another width or depth, or 0 everywhere.
    /// </exception>
    public static Controller Read(ReadOnlySpan<byte> file, LanguageModel model)
    {
        ArgumentNullException.ThrowIfNull(model);
        if (file.Length > MaxSize)
        {
            throw new ControllerException(ControllerFault.LimitExceeded, $"The control vector has {file.Length} bytes; at most {MaxSize} are read.");
        }

        float[][] directions = [.. Enumerable.Range(0, model.Config.L + 1).Select(_ => new float[model.Config.D])];
        new Reader(file).Read(directions);
        var feature = Feature.FromDifference(directions);
        string hash = Convert.ToHexStringLower(SHA256.HashData(file));
        var method = new OpenLoopAddition(feature);
        if (method.Idle is { } reason)
        {
            throw new ControllerException(ControllerFault.Idle, $"The control vector does nothing, as {reason}.");
        }

        return new Controller(method, new ControllerSource
        {
            ModelName = model.Name,
            ModelFingerprint = model.Fingerprint,
            Positive = new PromptSet(hash, 1),
            Negative = new PromptSet(hash, 1),
            Settings = new Dictionary<string, string>(StringComparer.Ordinal) { ["source"] = "control vector (GGUF)" },
        });
    }

    private ref struct Reader(ReadOnlySpan<byte> file)
    {
        private readonly ReadOnlySpan<byte> _file = file;
        private int _at;

        public void Read(float[][] directions)
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
            if (pairs > MaxPairs || tensors >= (ulong)directions.Length)
            {
                throw new ControllerException(ControllerFault.Shape,
                    $"The control vector has {tensors} tensors and {pairs} pairs; a model of {directions.Length - 1} blocks has at most "
                    + $"{directions.Length - 1} directions, and at most {MaxPairs} pairs are read.");
            }

            uint alignment = 32;
            string architecture = "";
            for (ulong i = 0; i < pairs; i++)
            {
                string key = Text();
                uint type = U32();
                if (key == "general.architecture" && type == 8)
                {
                    architecture = Text();
                }
                else if (key == "general.alignment" && type == 4)
                {
                    alignment = U32();
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

            var infos = new (int Block, TensorType Type, ulong Offset)[(int)tensors];
            for (int i = 0; i < infos.Length; i++)
            {
                infos[i] = Info(directions);
            }

            long data = (_at + (long)alignment - 1) / alignment * alignment;
            foreach (var (block, type, offset) in infos)
            {
                Values(data, offset, type, directions[block + 1], block);
            }
        }

        private (int Block, TensorType Type, ulong Offset) Info(float[][] directions)
        {
            string name = Text();
            int blocks = directions.Length - 1, width = directions[0].Length;
            if (!name.StartsWith(Direction, StringComparison.Ordinal)
                || !int.TryParse(name.AsSpan(Direction.Length), NumberStyles.None, CultureInfo.InvariantCulture, out int block) || block < 1)
            {
                throw Malformed("has a tensor that is none of direction.1, direction.2 and so on");
            }

            if (block >= blocks)
            {
                throw new ControllerException(ControllerFault.ModelMismatch,
                    $"The control vector has a direction for block {block}; the model has blocks 0-{blocks - 1}.");
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
                ? (block, type, U64())
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
            if (type == 8)
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
