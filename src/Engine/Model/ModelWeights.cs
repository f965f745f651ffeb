using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using Tiller.Checkpoint;
using Tiller.Kernels;
using Tiller.Ops;

namespace Tiller.Model;

/// <summary>
/// The weights of a checkpoint on the device, one allocation. Matrices keep their stored type; norm weights and biases become float32.
/// Every tensor is asked for by name and shape before anything is allocated.
/// </summary>
internal sealed class ModelWeights : IDisposable
{
    /// <summary>Name of a head that is not tied to the embedding.</summary>
    public const string HeadName = "lm_head.weight";

    private const int AlignmentInBytes = 64;
    private const int ChunkInBytes = 4 << 20;
    private const int MaxReaders = 8;

    // No multiple of a row's length, so that the rows of a matrix longer than the pattern are not all alike.
    private const int PatternInBytes = (64 << 20) - 16;

    private readonly DeviceBuffer _memory;

    private ModelWeights(DeviceBuffer memory, Plan plan, ModelConfig c, Floats frequencies)
    {
        _memory = memory;
        Frequencies = frequencies;
        Embedding = Plan.MatrixAt(plan.Embedding, memory);
        Norm = Plan.VectorAt(plan.Norm, memory);
        Head = plan.Head is null ? Embedding : Plan.MatrixAt(plan.Head, memory);
        Blocks = [.. Enumerable.Range(0, c.L).Select(k => plan.BlockAt(k, memory))];
        SizeInBytes = memory.SizeInBytes;
    }

    /// <summary>Embedding // (V, D).</summary>
    public Matrix Embedding { get; }

    /// <summary>Final norm // (1, D).</summary>
    public Floats Norm { get; }

    /// <summary>Head // (V, D); the embedding where they are tied.</summary>
    public Matrix Head { get; }

    /// <summary>Rotary frequencies // (1, E/2).</summary>
    public Floats Frequencies { get; }

    /// <summary>L blocks.</summary>
    public IReadOnlyList<BlockWeights> Blocks { get; }

    /// <summary>Bytes on the device.</summary>
    public long SizeInBytes { get; }

    /// <summary>Checks every tensor that the model needs against <paramref name="c"/>; reads and allocates nothing.</summary>
    /// <returns>Names of the tensors that the model does not use, in order.</returns>
    /// <exception cref="CheckpointException">A tensor is missing, or of another shape or type.</exception>
    public static string[] Check(CheckpointFolder folder, ModelConfig c)
    {
        var used = PlanFor(folder, c).Parts.Select(part => part.Tensor.Name).ToHashSet(StringComparer.Ordinal);
        return [.. folder.Tensors.Select(tensor => tensor.Name).Where(name => !used.Contains(name))];
    }

    /// <summary>Checks every tensor against <paramref name="c"/>, then reads all of them.</summary>
    /// <param name="ops">Where to.</param>
    /// <param name="folder">Where from.</param>
    /// <param name="c">Expected shapes.</param>
    /// <param name="progress">Told the bytes read so far.</param>
    /// <param name="cancellationToken">Looked at between chunks.</param>
    public static ModelWeights Load(DeviceOps ops, CheckpointFolder folder, ModelConfig c, IProgress<long>? progress,
        CancellationToken cancellationToken)
    {
        var plan = PlanFor(folder, c);
        return Fill(ops, plan, c, memory =>
        {
            var gate = new Lock();
            long done = 0;
            InParallel(plan.Parts.SelectMany(part => Chunks(part.Tensor.SizeInBytes).Select(chunk => (part, chunk))), piece =>
            {
                var (part, (at, size)) = piece;
                if (part.IsVector)
                {
                    byte[] bytes = new byte[size];
                    folder.Read(part.Tensor, at, bytes);
                    ops.Upload(MemoryMarshal.AsBytes<float>(Widen(part.Tensor.Type, bytes, part.Increment)), memory.Address + part.DestinationOf(at));
                }
                else
                {
                    ops.Fill(memory.Address + part.DestinationOf(at), size, bytes => folder.Read(part.Tensor, at, bytes));
                }

                lock (gate)
                {
                    progress?.Report(done += size);
                }
            }, cancellationToken);
        });
    }

    /// <summary>
    /// Weights drawn from a fixed seed, of a size that keeps activations finite. Those of matrices are a pattern of 64 MiB at most, sent once and
    /// repeated on the device.
    /// </summary>
    public static ModelWeights Random(DeviceOps ops, ModelConfig c, TensorType type)
    {
        float scale = 2f / MathF.Sqrt(c.D);
        var plan = new Plan((name, shape) => Plan.Describe(name, type, shape), "random", c);
        return Fill(ops, plan, c, memory =>
        {
            int size = (int)Math.Min(PatternInBytes, plan.Parts.Where(part => !part.IsVector).Sum(part => part.Tensor.SizeInBytes));
            using var pattern = ops.Allocate(size);
            InParallel(
                Chunks(size),
                chunk => ops.Fill(pattern.Address + (nint)chunk.At, chunk.Size, bytes => FillUniform(bytes, type, scale, (ulong)chunk.At)),
                CancellationToken.None);
            long from = 0;
            foreach (var part in plan.Parts)
            {
                if (part.IsVector)
                {
                    byte[] bytes = new byte[part.Tensor.SizeInBytes];
                    FillUniform(bytes, type, scale, seed: (ulong)part.Offset);
                    ops.Upload(MemoryMarshal.AsBytes<float>(Widen(type, bytes, part.Increment)), memory.Address + (nint)part.Offset);
                    continue;
                }

                for (long done = 0, count; done < part.Tensor.SizeInBytes; done += count, from = (from + count) % size)
                {
                    count = Math.Min(part.Tensor.SizeInBytes - done, size - from);
                    ops.Copy(pattern.Address + (nint)from, memory.Address + (nint)(part.Offset + done), count);
                }
            }

            // What the copies read goes with the pattern.
            ops.EndFill();
        });
    }

    public void Dispose() => _memory.Dispose();

    private static Plan PlanFor(CheckpointFolder folder, ModelConfig c)
    {
        RequireNoMoreBlocks(folder, c);
        return new Plan(folder.Find, folder.Path, c);
    }

    /// <summary>A checkpoint with blocks beyond L is of another model than its config.json: reading the first L would give nonsense.</summary>
    private static void RequireNoMoreBlocks(CheckpointFolder folder, ModelConfig c)
    {
        const string Prefix = "model.layers.";
        foreach (var tensor in folder.Tensors)
        {
            var name = tensor.Name.AsSpan();
            if (name.StartsWith(Prefix, StringComparison.Ordinal)
                && int.TryParse(name[Prefix.Length..][..Math.Max(0, name[Prefix.Length..].IndexOf('.'))], NumberStyles.None,
                    CultureInfo.InvariantCulture, out int k)
                && k >= c.L)
            {
                throw new CheckpointException(
                    CheckpointError.ShapeMismatch, folder.FileOf(tensor),
                    "the checkpoint has more blocks than num_hidden_layers of config.json says.", tensor.Name, $"blocks 0-{c.L - 1}", $"block {k}");
            }
        }
    }

    private static ModelWeights Fill(DeviceOps ops, Plan plan, ModelConfig c, Action<DeviceBuffer> read)
    {
        float[] rotary = RotaryFrequencies.Compute(c);
        long rotaryAt = plan.Place(4L * rotary.Length);
        var memory = ops.Allocate(plan.SizeInBytes);
        try
        {
            read(memory);
            ops.EndFill();
            ops.Upload(MemoryMarshal.AsBytes<float>(rotary), memory.Address + (nint)rotaryAt);
            return new ModelWeights(memory, plan, c, new Floats(memory.Address + (nint)rotaryAt, 1, rotary.Length));
        }
        catch
        {
            memory.Dispose();
            throw;
        }
    }

    private static IEnumerable<(long At, int Size)> Chunks(long sizeInBytes)
    {
        for (long at = 0; at < sizeInBytes; at += ChunkInBytes)
        {
            yield return (at, (int)Math.Min(ChunkInBytes, sizeInBytes - at));
        }
    }

    /// <summary>Several chunks at once: one thread cannot keep up with the page cache.</summary>
    private static void InParallel<T>(IEnumerable<T> chunks, Action<T> body, CancellationToken cancellationToken)
    {
        var options = new ParallelOptions
        {
            CancellationToken = cancellationToken,
            MaxDegreeOfParallelism = Math.Min(Environment.ProcessorCount, MaxReaders),
        };
        try
        {
            Parallel.ForEach(Partitioner.Create(chunks, EnumerablePartitionerOptions.NoBuffering), options, body);
        }
        catch (AggregateException e)
        {
            ExceptionDispatchInfo.Throw(e.InnerExceptions[0]);
        }
    }

    // Uniform in ±scale by a linear congruential generator: the values do not matter, only that they are finite and not all alike.
    private static void FillUniform(Span<byte> bytes, TensorType type, float scale, ulong seed)
    {
        ulong state = (seed + 1) * 0x9E3779B97F4A7C15;
        if (type == TensorType.F32)
        {
            foreach (ref float value in MemoryMarshal.Cast<byte, float>(bytes))
            {
                value = Next(ref state);
            }

            return;
        }

        foreach (ref ushort value in MemoryMarshal.Cast<byte, ushort>(bytes))
        {
            float x = Next(ref state);
            value = type == TensorType.F16 ? BitConverter.HalfToUInt16Bits((Half)x) : (ushort)(BitConverter.SingleToUInt32Bits(x) >> 16);
        }

        float Next(ref ulong s)
        {
            s = (s * 6364136223846793005) + 1442695040888963407;
            return scale * (((int)(s >> 40) / 8388608f) - 1);
        }
    }

    private static float[] Widen(TensorType type, ReadOnlySpan<byte> bytes, float increment)
    {
        var values = new float[bytes.Length * 8 / type.BitsPerElement()];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = increment + type switch
            {
                TensorType.BF16 => BitConverter.UInt32BitsToSingle((uint)BitConverter.ToUInt16(bytes[(2 * i)..]) << 16),
                TensorType.F16 => (float)BitConverter.ToHalf(bytes[(2 * i)..]),
                _ => BitConverter.ToSingle(bytes[(4 * i)..]),
            };
        }

        return values;
    }

    /// <summary>A stored tensor and the place it goes to.</summary>
    private sealed record Part(TensorInfo Tensor, long Offset, bool IsVector, float Increment)
    {
        /// <summary>Where byte <paramref name="at"/> of the tensor goes; vectors widen to float32.</summary>
        public nint DestinationOf(long at) => (nint)(Offset + (IsVector ? at * 8 / Tensor.Type.BitsPerElement() * sizeof(float) : at));
    }

    /// <summary>A matrix made of one or more stored tensors under each other.</summary>
    private sealed record Stack(long Offset, WeightType Type, int Rows, int Columns);

    /// <summary>
    /// Where every tensor of the checkpoint goes. The names are those <c>save_pretrained</c> writes for all five families; Gemma-2 calls
    /// the norm before the gated unit pre_feedforward_layernorm and uses post_attention_layernorm for the one after attention.
    /// </summary>
    private sealed class Plan
    {
        private readonly FindTensor _find;
        private readonly string _source;
        private readonly ModelConfig _c;
        private readonly Dictionary<string, Stack> _matrices = new(StringComparer.Ordinal);
        private readonly Dictionary<string, Stack> _vectors = new(StringComparer.Ordinal);

        public Plan(FindTensor find, string source, ModelConfig c)
        {
            (_find, _source, _c) = (find, source, c);
            int heads = c.H * c.E;
            int groups = c.G * c.E;
            Embedding = AddMatrix("model.embed_tokens.weight", c.D, ("model.embed_tokens.weight", c.V));
            Norm = AddNorm("model.norm.weight", c.D);
            Head = c.TiedHead ? null : AddMatrix(HeadName, c.D, (HeadName, c.V));
            for (int k = 0; k < c.L; k++)
            {
                string block = $"model.layers.{k}.";
                string attention = block + "self_attn.";
                AddNorm(block + "input_layernorm.weight", c.D);
                AddMatrix(attention + "qkv", c.D, (attention + "q_proj.weight", heads), (attention + "k_proj.weight", groups),
                    (attention + "v_proj.weight", groups));
                if (c.QkvBias)
                {
                    AddVector(attention + "qkv", (attention + "q_proj.bias", heads), (attention + "k_proj.bias", groups),
                        (attention + "v_proj.bias", groups));
                }

                if (c.QkNorm)
                {
                    AddNorm(attention + "q_norm.weight", c.E);
                    AddNorm(attention + "k_norm.weight", c.E);
                }

                AddMatrix(attention + "o_proj.weight", heads, (attention + "o_proj.weight", c.D));
                AddNorm(block + "post_attention_layernorm.weight", c.D);
                if (c.PostNorms)
                {
                    AddNorm(block + "pre_feedforward_layernorm.weight", c.D);
                    AddNorm(block + "post_feedforward_layernorm.weight", c.D);
                }

                AddMatrix(block + "mlp.gate_up", c.D, (block + "mlp.gate_proj.weight", c.F), (block + "mlp.up_proj.weight", c.F));
                AddMatrix(block + "mlp.down_proj.weight", c.F, (block + "mlp.down_proj.weight", c.D));
            }
        }

        /// <summary>The stored tensor of a name and shape.</summary>
        public delegate TensorInfo FindTensor(string name, ReadOnlySpan<long> shape);

        public List<Part> Parts { get; } = [];

        public long SizeInBytes { get; private set; }

        public Stack Embedding { get; }

        public Stack Norm { get; }

        public Stack? Head { get; }

        /// <summary>A tensor as a checkpoint would hold it.</summary>
        public static TensorInfo Describe(string name, TensorType type, ReadOnlySpan<long> shape)
        {
            long elements = 1;
            foreach (long n in shape)
            {
                elements *= n;
            }

            return new TensorInfo(name, type, shape.ToArray(), 0, elements * type.BitsPerElement() / 8);
        }

        public long Place(long sizeInBytes)
        {
            long at = SizeInBytes;
            SizeInBytes += (sizeInBytes + AlignmentInBytes - 1) / AlignmentInBytes * AlignmentInBytes;
            return at;
        }

        public static Matrix MatrixAt(Stack s, DeviceBuffer memory) => new(memory.Address + (nint)s.Offset, s.Type, s.Rows, s.Columns);

        public static Floats VectorAt(Stack s, DeviceBuffer memory) => new(memory.Address + (nint)s.Offset, s.Rows, s.Columns);

        public BlockWeights BlockAt(int k, DeviceBuffer memory)
        {
            string block = $"model.layers.{k}.";
            string attention = block + "self_attn.";
            string afterAttention = block + "post_attention_layernorm.weight";
            return new BlockWeights
            {
                AttentionNorm = Vector(block + "input_layernorm.weight"),
                Qkv = Matrix(attention + "qkv"),
                QkvBias = Vector(attention + "qkv"),
                QueryNorm = Vector(attention + "q_norm.weight"),
                KeyNorm = Vector(attention + "k_norm.weight"),
                Output = Matrix(attention + "o_proj.weight"),
                PostAttentionNorm = _c.PostNorms ? Vector(afterAttention) : default,
                FeedForwardNorm = Vector(_c.PostNorms ? block + "pre_feedforward_layernorm.weight" : afterAttention),
                GateUp = Matrix(block + "mlp.gate_up"),
                Down = Matrix(block + "mlp.down_proj.weight"),
                PostFeedForwardNorm = Vector(block + "post_feedforward_layernorm.weight"),
            };

            Matrix Matrix(string name) => MatrixAt(_matrices[name], memory);
            Floats Vector(string name) => _vectors.TryGetValue(name, out var s) ? VectorAt(s, memory) : default;
        }

        private Stack AddMatrix(string name, int columns, params ReadOnlySpan<(string Name, int Rows)> tensors)
        {
            TensorType? type = null;
            long offset = SizeInBytes;
            int rows = 0;
            foreach (var (tensorName, tensorRows) in tensors)
            {
                var tensor = _find(tensorName, [tensorRows, columns]);
                if (type is { } first && tensor.Type != first)
                {
                    throw new CheckpointException(
                        CheckpointError.Unsupported, _source, "Tensors that form one matrix are stored in different types; "
                            + "convert the checkpoint to one.",
                        tensorName, first.SpecName(), tensor.Type.SpecName());
                }

                type = tensor.Type;
                Parts.Add(new Part(tensor, SizeInBytes, IsVector: false, Increment: 0));
                SizeInBytes += tensor.SizeInBytes;
                rows += tensorRows;
            }

            SizeInBytes = (SizeInBytes + AlignmentInBytes - 1) / AlignmentInBytes * AlignmentInBytes;
            return _matrices[name] = new Stack(offset, Stored(type!.Value), rows, columns);
        }

        private Stack AddNorm(string name, int size) => AddVector(name, _c.NormAddsOne ? 1 : 0, (name, size));

        private void AddVector(string name, params ReadOnlySpan<(string Name, int Size)> tensors) => AddVector(name, 0, tensors);

        private Stack AddVector(string name, float increment, params ReadOnlySpan<(string Name, int Size)> tensors)
        {
            long offset = SizeInBytes;
            int total = 0;
            foreach (var (tensorName, size) in tensors)
            {
                Parts.Add(new Part(_find(tensorName, [size]), offset + (4L * total), IsVector: true, increment));
                total += size;
            }

            Place(4L * total);
            return _vectors[name] = new Stack(offset, WeightType.F32, 1, total);
        }

        // A checkpoint's other types were refused when the tensor was looked up.
        private static WeightType Stored(TensorType type) => type switch
        {
            TensorType.F32 => WeightType.F32,
            TensorType.F16 => WeightType.F16,
            TensorType.BF16 => WeightType.BF16,
            _ => throw new UnreachableException($"weights stored as {type.SpecName()}"),
        };
    }
}
