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
        Blocks = [.. plan.Blocks.Select(block => block.At(memory))];
        SizeInBytes = memory.SizeInBytes;
    }

    /// <summary>Embedding // (V, D).</summary>
    public Matrix Embedding { get; }

    /// <summary>Final norm // (1, D).</summary>
    public Floats Norm { get; }

    /// <summary>Head // (V, D); the embedding where they are tied.</summary>
    public Matrix Head { get; }

    /// <summary>Rotary tables, as <see cref="RotaryFrequencies.Compute"/> makes them // (tables, E).</summary>
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
    /// Weights drawn from a fixed seed, of a size that keeps activations finite. Those of matrices are a pattern of 64 MiB at most, sent once and
    /// repeated on the device.
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

            // What the copies read goes with the pattern.
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

    // The text model of a multimodal checkpoint is inside another: its names begin otherwise.
    private static Plan PlanFor(CheckpointFolder folder, ModelConfig c)
    {
        string prefix = Plan.Prefixes.FirstOrDefault(prefix => folder.TryFind(Plan.EmbeddingName(prefix)) is not null) ?? Plan.Prefixes[0];
        RequireNoMoreBlocks(folder, prefix + "layers.", c);
        return new Plan(folder.Find, folder.Path, prefix, c);
    }

    /// <summary>A checkpoint with blocks beyond L is of another model than its config.json: reading the first L would give nonsense.</summary>
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
            return new ModelWeights(memory, plan, c, new Floats(memory.Address + (nint)rotaryAt, rotary.Length / c.E, c.E));
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

    /// <summary>
    /// Bytes of a stored tensor, from <paramref name="From"/> on, and the place they go to; a vector's become factor · (increment + value).
    /// </summary>
    private sealed record Part(TensorInfo Tensor, long From, long SizeInBytes, long Offset, bool IsVector, float Increment, float Factor)
    {
        /// <summary>Where byte <paramref name="at"/> of the part goes; vectors widen to float32.</summary>
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

    /// <summary>Rows of a stored tensor: from <paramref name="First"/> on, <paramref name="Count"/> of <paramref name="Of"/>.</summary>
    private readonly record struct Rows(string Name, int Of, int First, int Count)
    {
        public static Rows All(string name, int count) => new(name, count, 0, count);
    }

    /// <summary>A matrix or vector made of one or more stored tensors under each other.</summary>
    private sealed record Stack(long Offset, WeightType Type, int Rows, int Columns);

    /// <summary>Where the weights of a block are; null what it does not have.</summary>
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
    /// Where every tensor of the checkpoint goes. The names are those <c>save_pretrained</c> writes. With two norms around the gated unit (Gemma)
    /// its first is called pre_feedforward_layernorm, and post_attention_layernorm is the one after attention; with one before it, that has this
    /// name.
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
            var tables = RotaryFrequencies.Tables(c).ToList();
            Blocks = [.. Enumerable.Range(0, c.L).Select(k => AddBlock($"{prefix}layers.{k}.", tables.IndexOf(c.Rotary[k])))];
        }

        /// <summary>The stored tensor of a name and shape.</summary>
        public delegate TensorInfo FindTensor(string name, ReadOnlySpan<long> shape);

        /// <summary>What the names of a text model's tensors may begin with.</summary>
        public static IReadOnlyList<string> Prefixes { get; } = ["model.", "language_model.model.", "model.language_model."];

        public List<Part> Parts { get; } = [];

        public long SizeInBytes { get; private set; }

        public Stack Embedding { get; }

        public Stack Norm { get; }

        public Stack? Head { get; }

        public IReadOnlyList<BlockPlan> Blocks { get; }

        private float NormIncrement => _c.NormAddsOne ? 1 : 0;

        public static string EmbeddingName(string prefix) => prefix + "embed_tokens.weight";

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

        // Some exporters keep the head beside the text model, others inside it.
        private static string HeadNameOf(string prefix) =>
            prefix.StartsWith("language_model.", StringComparison.Ordinal) ? "language_model." + HeadName : HeadName;

        // m, which scales what attention and the gated unit add (docs/math.md §9), is in the norm before attention, so that queries, keys and
        // values carry it, and in the biases; the gated unit's own is in its activation.
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

        // Queries, keys and values under each other, in three tensors or in one.
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

        // Pair e of RoPE is numbers e and e + R/2 of a head; the stages turn e and e + E/2: the halves of what does not turn go behind each half
        // of what does.
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

            SizeInBytes = (SizeInBytes + AlignmentInBytes - 1) / AlignmentInBytes * AlignmentInBytes;
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
