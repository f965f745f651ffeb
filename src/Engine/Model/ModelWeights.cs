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
/// The weights of a checkpoint on the device, in one allocation. Matrices keep their stored type; norm weights and biases become float32. The name
/// and shape of every tensor are checked before anything is allocated.
/// </summary>
internal sealed class ModelWeights : IDisposable
{
    /// <summary>Name of the tensor of a head that is not tied to the embedding.</summary>
    public const string HeadName = "lm_head.weight";

    private const int AlignmentInBytes = 64;
    private const int ChunkInBytes = 4 << 20;
    private const int MaxReaders = 8;

    // Not a multiple of a row's length, so that a matrix longer than the pattern does not have equal rows.
    private const int PatternInBytes = (64 << 20) - 16;

    private readonly DeviceBuffer _memory;

    private ModelWeights(DeviceBuffer memory, Plan plan, Floats frequencies)
    {
        _memory = memory;
        Frequencies = frequencies;
        Embedding = Plan.MatrixAt(plan.Embedding, memory);
        Norm = Plan.VectorAt(plan.Norm, memory);
        Head = plan.Head is null ? Embedding : Plan.MatrixAt(plan.Head, memory);
        Blocks = [.. plan.Blocks.Select(block => block.At(memory))];
        SizeInBytes = memory.SizeInBytes;
    }

    /// <summary>Embedding // (V, D).</summary>
    public Matrix Embedding { get; }

    /// <summary>Final norm // (1, D).</summary>
    public Floats Norm { get; }

    /// <summary>Head // (V, D); the embedding if they are tied.</summary>
    public Matrix Head { get; }

    /// <summary>Rotary tables from <see cref="RotaryFrequencies.Compute"/> // (tables, E).</summary>
    public Floats Frequencies { get; }

    /// <summary>Weights of the L blocks.</summary>
    public IReadOnlyList<BlockWeights> Blocks { get; }

    /// <summary>Size of the allocation on the device.</summary>
    public long SizeInBytes { get; }

    /// <summary>Checks every tensor that the model needs against <paramref name="c"/>. It neither reads nor allocates.</summary>
    /// <returns>Names of the tensors that the model does not use, in order.</returns>
    /// <exception cref="CheckpointException">A tensor is missing, or its shape or type is wrong.</exception>
    public static string[] Check(CheckpointFolder folder, ModelConfig c)
    {
        var used = PlanFor(folder, c).Parts.Select(part => part.Tensor.Name).ToHashSet(StringComparer.Ordinal);
        return [.. folder.Tensors.Select(tensor => tensor.Name).Where(name => !used.Contains(name))];
    }

    /// <summary>Checks every tensor against <paramref name="c"/>, then reads all tensors.</summary>
    /// <param name="ops">The device that gets the weights.</param>
    /// <param name="folder">The checkpoint.</param>
    /// <param name="c">The expected shapes.</param>
    /// <param name="progress">Receives the number of bytes read so far.</param>
    /// <param name="cancellationToken">Checked between chunks.</param>
    public static ModelWeights Load(DeviceOps ops, CheckpointFolder folder, ModelConfig c, IProgress<long>? progress,
        CancellationToken cancellationToken)
    {
        var plan = PlanFor(folder, c);
        return Fill(ops, plan, c, memory =>
        {
            var gate = new Lock();
            long done = 0;
            InParallel(plan.Parts.SelectMany(part => Chunks(part.SizeInBytes).Select(chunk => (part, chunk))), piece =>
            {
                var (part, (at, size)) = piece;
                if (part.IsVector)
                {
                    byte[] bytes = new byte[size];
                    folder.Read(part.Tensor, part.From + at, bytes);
                    ops.Upload(MemoryMarshal.AsBytes<float>(part.Widen(bytes)), memory.Address + part.DestinationOf(at));
                }
                else
                {
                    ops.Fill(memory.Address + part.DestinationOf(at), size, bytes => folder.Read(part.Tensor, part.From + at, bytes));
                }

                lock (gate)
                {
                    progress?.Report(done += size);
                }
            }, cancellationToken);
        });
    }

    /// <summary>
    /// Random weights from a fixed seed, small enough to keep activations finite. Matrices repeat a pattern of at most 64 MiB, which is sent once and
    /// copied on the device.
    /// </summary>
    public static ModelWeights Random(DeviceOps ops, ModelConfig c, TensorType type)
    {
        float scale = 2f / MathF.Sqrt(c.D);
        var plan = new Plan((name, shape) => Plan.Describe(name, type, shape), "random", Plan.Prefixes[0], c);
        return Fill(ops, plan, c, memory =>
        {
            int size = (int)Math.Min(PatternInBytes, plan.Parts.Where(part => !part.IsVector).Sum(part => part.SizeInBytes));
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
                    byte[] bytes = new byte[part.SizeInBytes];
                    FillUniform(bytes, type, scale, seed: (ulong)part.Offset);
                    ops.Upload(MemoryMarshal.AsBytes<float>(part.Widen(bytes)), memory.Address + (nint)part.Offset);
                    continue;
                }

                for (long done = 0, count; done < part.SizeInBytes; done += count, from = (from + count) % size)
                {
                    count = Math.Min(part.SizeInBytes - done, size - from);
                    ops.Copy(pattern.Address + (nint)from, memory.Address + (nint)(part.Offset + done), count);
                }
            }

            // The copies must finish before the pattern is freed.
            ops.EndFill();
        });
    }

    /// <summary>Names and shapes of the tensors that a checkpoint of a model has.</summary>
    public static IReadOnlyList<(string Name, long[] Shape)> Tensors(ModelConfig c)
    {
        var tensors = new Dictionary<string, long[]>(StringComparer.Ordinal);
        _ = new Plan(
            (name, shape) =>
            {
                tensors[name] = shape.ToArray();
                return Plan.Describe(name, TensorType.BF16, shape);
            },
            "", Plan.Prefixes[0], c);
        return [.. tensors.Select(static x => (x.Key, x.Value))];
    }

    public void Dispose() => _memory.Dispose();

    // The text model of a multimodal checkpoint is a part of a larger model, so its tensor names have another prefix.
    private static Plan PlanFor(CheckpointFolder folder, ModelConfig c)
    {
        string prefix = Plan.Prefixes.FirstOrDefault(prefix => folder.TryFind(Plan.EmbeddingName(prefix)) is not null) ?? Plan.Prefixes[0];
        RequireNoMoreBlocks(folder, prefix + "layers.", c);
        return new Plan(folder.Find, folder.Path, prefix, c);
    }

    /// <summary>
    /// Refuses a checkpoint with more than L blocks: it belongs to another model than config.json describes, and its first L blocks would give wrong
    /// results.
    /// </summary>
    private static void RequireNoMoreBlocks(CheckpointFolder folder, string prefix, ModelConfig c)
    {
        foreach (var tensor in folder.Tensors)
        {
            var name = tensor.Name.AsSpan();
            if (name.StartsWith(prefix, StringComparison.Ordinal)
                && int.TryParse(name[prefix.Length..][..Math.Max(0, name[prefix.Length..].IndexOf('.'))], NumberStyles.None,
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
            return new ModelWeights(memory, plan, new Floats(memory.Address + (nint)rotaryAt, rotary.Length / c.E, c.E));
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

    /// <summary>Runs several chunks at once, because one thread is slower than the page cache.</summary>
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

    // Uniform in ±scale by a linear congruential generator. The values need only be finite and not all equal.
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

    /// <summary>
    /// A range of bytes of a stored tensor, beginning at <paramref name="From"/>, and its destination. Numbers of a vector become factor · (increment
    /// + value).
    /// </summary>
    private sealed record Part(TensorInfo Tensor, long From, long SizeInBytes, long Offset, bool IsVector, float Increment, float Factor)
    {
        /// <summary>Destination of byte <paramref name="at"/> of the part. Vectors are widened to float32.</summary>
        public nint DestinationOf(long at) => (nint)(Offset + (IsVector ? at * 8 / Tensor.Type.BitsPerElement() * sizeof(float) : at));

        public float[] Widen(ReadOnlySpan<byte> bytes)
        {
            float[] values = new float[bytes.Length * 8 / Tensor.Type.BitsPerElement()];
            for (int i = 0; i < values.Length; i++)
            {
                values[i] = Factor * (Increment + Tensor.Type switch
                {
                    TensorType.BF16 => BitConverter.UInt32BitsToSingle((uint)BitConverter.ToUInt16(bytes[(2 * i)..]) << 16),
                    TensorType.F16 => (float)BitConverter.ToHalf(bytes[(2 * i)..]),
                    _ => BitConverter.ToSingle(bytes[(4 * i)..]),
                });
            }

            return values;
        }
    }

    /// <summary><paramref name="Count"/> rows of a stored tensor of <paramref name="Of"/> rows, beginning at row <paramref name="First"/>.</summary>
    private readonly record struct Rows(string Name, int Of, int First, int Count)
    {
        public static Rows All(string name, int count) => new(name, count, 0, count);
    }

    /// <summary>A matrix or vector that stacks one or more stored tensors.</summary>
    private sealed record Stack(long Offset, WeightType Type, int Rows, int Columns);

    /// <summary>Locations of a block's weights; null for weights that the family does not have.</summary>
    private sealed record BlockPlan(Stack Qkv, Stack Output, Stack GateUp, Stack Down, int Rotation)
    {
        public Stack? AttentionNorm { get; init; }

        public Stack? QkvBias { get; init; }

        public Stack? QueryNorm { get; init; }

        public Stack? KeyNorm { get; init; }

        public Stack? OutputBias { get; init; }

        public Stack? PostAttentionNorm { get; init; }

        public Stack? FeedForwardNorm { get; init; }

        public Stack? GateUpBias { get; init; }

        public Stack? DownBias { get; init; }

        public Stack? PostFeedForwardNorm { get; init; }

        public BlockWeights At(DeviceBuffer memory)
        {
            return new BlockWeights
            {
                AttentionNorm = Vector(AttentionNorm),
                Qkv = Plan.MatrixAt(Qkv, memory),
                QkvBias = Vector(QkvBias),
                QueryNorm = Vector(QueryNorm),
                KeyNorm = Vector(KeyNorm),
                Rotation = Rotation,
                Output = Plan.MatrixAt(Output, memory),
                OutputBias = Vector(OutputBias),
                PostAttentionNorm = Vector(PostAttentionNorm),
                FeedForwardNorm = Vector(FeedForwardNorm),
                GateUp = Plan.MatrixAt(GateUp, memory),
                GateUpBias = Vector(GateUpBias),
                Down = Plan.MatrixAt(Down, memory),
                DownBias = Vector(DownBias),
                PostFeedForwardNorm = Vector(PostFeedForwardNorm),
            };

            Floats Vector(Stack? stack) => stack is null ? default : Plan.VectorAt(stack, memory);
        }
    }

    /// <summary>
    /// Destinations of all tensors of the checkpoint. The names are those that <c>save_pretrained</c> writes. A model with norms before and after the
    /// gated unit (Gemma) calls the former pre_feedforward_layernorm, and the norm after attention post_attention_layernorm. A model with only a norm
    /// before the gated unit calls that one post_attention_layernorm.
    /// </summary>
    private sealed class Plan
    {
        private readonly FindTensor _find;
        private readonly string _source;
        private readonly ModelConfig _c;

        public Plan(FindTensor find, string source, string prefix, ModelConfig c)
        {
            Debug.Assert(c.ResidualScale == 1 || (c.PreNorms && c.QkNorm == QkNorm.None), "the norm before attention scales what attention adds");
            (_find, _source, _c) = (find, source, c);
            Embedding = AddMatrix(c.D, Rows.All(EmbeddingName(prefix), c.V));
            Norm = AddVector(Rows.All(prefix + "norm.weight", c.D), NormIncrement, 1 / c.LogitDivisor);
            Head = c.TiedHead ? null : AddMatrix(c.D, Rows.All(HeadNameOf(prefix), c.V));
            var tables = c.RotaryTables.ToList();
            Blocks = [.. Enumerable.Range(0, c.L).Select(k => AddBlock($"{prefix}layers.{k}.", tables.IndexOf(c.Rotary[k])))];
        }

        /// <summary>Finds the stored tensor of a name and shape.</summary>
        public delegate TensorInfo FindTensor(string name, ReadOnlySpan<long> shape);

        /// <summary>Possible prefixes of the names of a text model's tensors.</summary>
        public static IReadOnlyList<string> Prefixes { get; } = ["model.", "language_model.model.", "model.language_model."];

        public List<Part> Parts { get; } = [];

        public long SizeInBytes { get; private set; }

        public Stack Embedding { get; }

        public Stack Norm { get; }

        public Stack? Head { get; }

        public IReadOnlyList<BlockPlan> Blocks { get; }

        private float NormIncrement => _c.NormAddsOne ? 1 : 0;

        public static string EmbeddingName(string prefix) => prefix + "embed_tokens.weight";

        /// <summary>Describes a tensor as a checkpoint would store it.</summary>
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
            SizeInBytes += Aligned(sizeInBytes);
            return at;
        }

        private static long Aligned(long sizeInBytes) => (sizeInBytes + AlignmentInBytes - 1) / AlignmentInBytes * AlignmentInBytes;

        public static Matrix MatrixAt(Stack s, DeviceBuffer memory) => new(memory.Address + (nint)s.Offset, s.Type, s.Rows, s.Columns);

        public static Floats VectorAt(Stack s, DeviceBuffer memory) => new(memory.Address + (nint)s.Offset, s.Rows, s.Columns);

        // Some exporters store the head next to the text model, others inside it.
        private static string HeadNameOf(string prefix) =>
            prefix.StartsWith("language_model.", StringComparison.Ordinal) ? "language_model." + HeadName : HeadName;

        // m scales what attention and the gated unit add to the residual stream (docs/math.md §9). For attention it is folded into the norm before
        // it, so that queries, keys and values carry it, and into the biases. For the gated unit it is in the activation.
        private BlockPlan AddBlock(string block, int rotation)
        {
            var c = _c;
            float m = c.ResidualScale;
            string attention = block + "self_attn.", mlp = block + "mlp.";
            (string gateUp, int first)[] gates = c.FusedWeights ? [("gate_up_proj", 2 * c.F)] : [("gate_proj", c.F), ("up_proj", c.F)];
            return new BlockPlan(
                AddMatrix(c.D, QkvRows(attention, "weight")),
                AddMatrix(c.H * c.E, Rows.All(attention + "o_proj.weight", c.D)),
                AddMatrix(c.D, [.. gates.Select(gate => Rows.All($"{mlp}{gate.gateUp}.weight", gate.first))]),
                AddMatrix(c.F, Rows.All(mlp + "down_proj.weight", c.D)),
                rotation)
            {
                AttentionNorm = c.PreNorms ? AddNorm("input_layernorm", m) : null,
                QkvBias = c.QkvBias ? AddVector(QkvRows(attention, "bias"), 0, m) : null,
                QueryNorm = AddHeadNorm(attention + "q_norm.weight", c.H),
                KeyNorm = AddHeadNorm(attention + "k_norm.weight", c.G),
                OutputBias = c.OutputBias ? AddVector(Rows.All(attention + "o_proj.bias", c.D), 0, m) : null,
                PostAttentionNorm = c.PostNorms ? AddNorm("post_attention_layernorm", 1) : null,
                FeedForwardNorm = c.PreNorms ? AddNorm(c.PostNorms ? "pre_feedforward_layernorm" : "post_attention_layernorm", 1) : null,
                GateUpBias = c.FeedForwardBias ? AddVector([.. gates.Select(gate => Rows.All($"{mlp}{gate.gateUp}.bias", gate.first))], 0, 1) : null,
                DownBias = c.FeedForwardBias ? AddVector(Rows.All(mlp + "down_proj.bias", c.D), 0, m) : null,
                PostFeedForwardNorm = c.PostNorms ? AddNorm("post_feedforward_layernorm", 1) : null,
            };

            Stack AddNorm(string name, float factor) => AddVector(Rows.All($"{block}{name}.weight", c.D), NormIncrement, factor);
        }

        private Stack? AddHeadNorm(string name, int heads) => _c.QkNorm switch
        {
            QkNorm.None => null,
            QkNorm.Heads => AddVector([.. HeadRows(name, _c.E, 0, 1)], NormIncrement, 1),
            _ => AddVector([.. HeadRows(name, heads * _c.E, 0, heads)], NormIncrement, 1),
        };

        // Rows of queries, keys and values, stored in three tensors or in one.
        private Rows[] QkvRows(string attention, string kind)
        {
            int queries = _c.H * _c.E, keys = _c.G * _c.E;
            if (!_c.FusedWeights)
            {
                return
                [
                    .. HeadRows($"{attention}q_proj.{kind}", queries, 0, _c.H), .. HeadRows($"{attention}k_proj.{kind}", keys, 0, _c.G),
                    Rows.All($"{attention}v_proj.{kind}", keys),
                ];
            }

            string name = $"{attention}qkv_proj.{kind}";
            int all = queries + (2 * keys);
            return [.. HeadRows(name, all, 0, _c.H + _c.G), new Rows(name, all, queries + keys, keys)];
        }

        // In the checkpoint, pair e of RoPE is rows e and e + R/2 of a head. The stages rotate rows e and e + E/2. So half of the unrotated rows is
        // placed after each half of the rotated rows.
        private IEnumerable<Rows> HeadRows(string name, int of, int first, int heads)
        {
            if (_c.R == _c.E)
            {
                yield return new Rows(name, of, first, heads * _c.E);
                yield break;
            }

            int half = _c.R / 2, rest = (_c.E - _c.R) / 2;
            for (int h = 0; h < heads; h++, first += _c.E)
            {
                yield return new Rows(name, of, first, half);
                yield return new Rows(name, of, first + _c.R, rest);
                yield return new Rows(name, of, first + half, half);
                yield return new Rows(name, of, first + _c.R + rest, rest);
            }
        }

        private Stack AddMatrix(int columns, params ReadOnlySpan<Rows> rows)
        {
            TensorType? type = null;
            long offset = SizeInBytes;
            int total = 0;
            foreach (var its in rows)
            {
                var tensor = _find(its.Name, [its.Of, columns]);
                if (type is { } first && tensor.Type != first)
                {
                    throw new CheckpointException(
                        CheckpointError.Unsupported, _source,
                        "Tensors that form one matrix are stored in different types; convert the checkpoint to one.",
                        its.Name, first.SpecName(), tensor.Type.SpecName());
                }

                type = tensor.Type;
                long rowInBytes = tensor.SizeInBytes / its.Of;
                Parts.Add(new Part(tensor, its.First * rowInBytes, its.Count * rowInBytes, SizeInBytes, IsVector: false, Increment: 0, Factor: 1));
                SizeInBytes += its.Count * rowInBytes;
                total += its.Count;
            }

            SizeInBytes = Aligned(SizeInBytes);
            return new Stack(offset, Stored(type!.Value), total, columns);
        }

        private Stack AddVector(Rows rows, float increment, float factor) => AddVector([rows], increment, factor);

        private Stack AddVector(ReadOnlySpan<Rows> rows, float increment, float factor)
        {
            long offset = SizeInBytes;
            int total = 0;
            foreach (var its in rows)
            {
                var tensor = _find(its.Name, [its.Of]);
                long numberInBytes = tensor.SizeInBytes / its.Of;
                var (from, size, to) = (its.First * numberInBytes, its.Count * numberInBytes, offset + (4L * total));
                Parts.Add(new Part(tensor, from, size, to, IsVector: true, increment, factor));
                total += its.Count;
            }

            Place(4L * total);
            return new Stack(offset, WeightType.F32, 1, total);
        }

        // Other types were refused when the tensor was looked up.
        private static WeightType Stored(TensorType type) => type switch
        {
            TensorType.F32 => WeightType.F32,
            TensorType.F16 => WeightType.F16,
            TensorType.BF16 => WeightType.BF16,
            _ => throw new UnreachableException($"weights stored as {type.SpecName()}"),
        };
    }
}
