using System.Globalization;
using System.Runtime.InteropServices;
using Tiller.Checkpoint;
using Tiller.Tensors;

namespace Tiller.Model;

/// <summary>
/// The weights of a checkpoint on the device, one allocation. Matrices keep their stored type; norm weights and biases become float32.
/// Every tensor is asked for by name and shape before anything is allocated.
/// </summary>
internal sealed class ModelWeights : IDisposable
{
    private const int AlignmentInBytes = 64;
    private const int ChunkInBytes = 8 << 20;

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

    /// <summary>Checks every tensor against <paramref name="c"/>; reads and allocates nothing.</summary>
    /// <exception cref="CheckpointException">A tensor is missing, or of another shape or type.</exception>
    public static void Check(CheckpointFolder folder, ModelConfig c) => _ = new Plan(folder, c);

    /// <summary>Checks every tensor against <paramref name="c"/>, then reads all of them.</summary>
    /// <param name="ops">Where to.</param>
    /// <param name="folder">Where from.</param>
    /// <param name="c">Expected shapes.</param>
    /// <param name="progress">Told the bytes read so far.</param>
    /// <param name="cancellationToken">Looked at between chunks.</param>
    public static ModelWeights Load(Ops ops, CheckpointFolder folder, ModelConfig c, IProgress<long>? progress, CancellationToken cancellationToken)
    {
        var plan = new Plan(folder, c);
        var rotary = RotaryFrequencies.Compute(c);
        long rotaryAt = plan.Place(4L * rotary.Length);
        var memory = ops.Allocate(plan.SizeInBytes);
        try
        {
            byte[] staging = GC.AllocateUninitializedArray<byte>(ChunkInBytes);
            long done = 0;
            foreach (var part in plan.Parts)
            {
                for (long at = 0; at < part.Tensor.SizeInBytes; at += ChunkInBytes)
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    var chunk = staging.AsSpan(0, (int)Math.Min(ChunkInBytes, part.Tensor.SizeInBytes - at));
                    folder.Read(part.Tensor, at, chunk);
                    if (part.IsVector)
                    {
                        var values = Widen(part.Tensor.Type, chunk, part.Increment);
                        ops.Upload(MemoryMarshal.AsBytes<float>(values), memory.Address + (nint)(part.Offset + (at * 8 / part.Tensor.Type.BitsPerElement() * sizeof(float))));
                    }
                    else
                    {
                        ops.Upload(chunk, memory.Address + (nint)(part.Offset + at));
                    }

                    progress?.Report(done += chunk.Length);
                }
            }

            ops.Upload(MemoryMarshal.AsBytes<float>(rotary), memory.Address + (nint)rotaryAt);
            return new ModelWeights(memory, plan, c, new Floats(memory.Address + (nint)rotaryAt, 1, rotary.Length));
        }
        catch
        {
            memory.Dispose();
            throw;
        }
    }

    public void Dispose() => _memory.Dispose();

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
    private sealed record Part(TensorInfo Tensor, long Offset, bool IsVector, float Increment);

    /// <summary>A matrix made of one or more stored tensors under each other.</summary>
    private sealed record Stack(long Offset, TensorType Type, int Rows, int Columns);

    /// <summary>
    /// Where every tensor of the checkpoint goes. The names are those <c>save_pretrained</c> writes for all five families; Gemma-2 calls
    /// the norm before the gated unit pre_feedforward_layernorm and uses post_attention_layernorm for the one after attention.
    /// </summary>
    private sealed class Plan
    {
        private readonly CheckpointFolder _folder;
        private readonly ModelConfig _c;
        private readonly Dictionary<string, Stack> _matrices = new(StringComparer.Ordinal);
        private readonly Dictionary<string, Stack> _vectors = new(StringComparer.Ordinal);

        public Plan(CheckpointFolder folder, ModelConfig c)
        {
            (_folder, _c) = (folder, c);
            RequireNoMoreBlocks();
            int heads = c.H * c.E;
            int groups = c.G * c.E;
            Embedding = AddMatrix("model.embed_tokens.weight", c.D, ("model.embed_tokens.weight", c.V));
            Norm = AddNorm("model.norm.weight", c.D);
            Head = c.TiedHead ? null : AddMatrix("lm_head.weight", c.D, ("lm_head.weight", c.V));
            for (int k = 0; k < c.L; k++)
            {
                string block = $"model.layers.{k}.";
                string attention = block + "self_attn.";
                AddNorm(block + "input_layernorm.weight", c.D);
                AddMatrix(attention + "qkv", c.D, (attention + "q_proj.weight", heads), (attention + "k_proj.weight", groups), (attention + "v_proj.weight", groups));
                if (c.QkvBias)
                {
                    AddVector(attention + "qkv", (attention + "q_proj.bias", heads), (attention + "k_proj.bias", groups), (attention + "v_proj.bias", groups));
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

        public List<Part> Parts { get; } = [];

        public long SizeInBytes { get; private set; }

        public Stack Embedding { get; }

        public Stack Norm { get; }

        public Stack? Head { get; }

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
                var tensor = _folder.Find(tensorName, tensorRows, columns);
                if (type is { } first && tensor.Type != first)
                {
                    throw new CheckpointException(
                        CheckpointError.Unsupported, _folder.Path, "Tensors that form one matrix are stored in different types; convert the checkpoint to one.",
                        tensorName, first.SpecName(), tensor.Type.SpecName());
                }

                type = tensor.Type;
                Parts.Add(new Part(tensor, SizeInBytes, IsVector: false, Increment: 0));
                SizeInBytes += tensor.SizeInBytes;
                rows += tensorRows;
            }

            SizeInBytes = (SizeInBytes + AlignmentInBytes - 1) / AlignmentInBytes * AlignmentInBytes;
            return _matrices[name] = new Stack(offset, type!.Value, rows, columns);
        }

        private Stack AddNorm(string name, int size) => AddVector(name, _c.NormAddsOne ? 1 : 0, (name, size));

        private void AddVector(string name, params ReadOnlySpan<(string Name, int Size)> tensors) => AddVector(name, 0, tensors);

        private Stack AddVector(string name, float increment, params ReadOnlySpan<(string Name, int Size)> tensors)
        {
            long offset = SizeInBytes;
            int total = 0;
            foreach (var (tensorName, size) in tensors)
            {
                Parts.Add(new Part(_folder.Find(tensorName, size), offset + (4L * total), IsVector: true, increment));
                total += size;
            }

            Place(4L * total);
            return _vectors[name] = new Stack(offset, TensorType.F32, 1, total);
        }

        /// <summary>Refuses tensors of blocks that config.json does not count: without them it would be another model.</summary>
        private void RequireNoMoreBlocks()
        {
            const string Blocks = "model.layers.";
            foreach (var tensor in _folder.Tensors)
            {
                var name = tensor.Name.AsSpan();
                if (name.StartsWith(Blocks, StringComparison.Ordinal)
                    && int.TryParse(name[Blocks.Length..][..Math.Max(0, name[Blocks.Length..].IndexOf('.'))], NumberStyles.None, CultureInfo.InvariantCulture, out int k)
                    && k >= _c.L)
                {
                    throw new CheckpointException(
                        CheckpointError.ShapeMismatch, _folder.FileOf(tensor), "the checkpoint has more blocks than num_hidden_layers of config.json says.",
                        tensor.Name, $"blocks 0-{_c.L - 1}", $"block {k}");
                }
            }
        }
    }
}
