using System.Runtime.InteropServices;
using System.Text;
using Tiller.Bench;
using Tiller.Checkpoint;
using Tiller.Model;

namespace Tiller.Peers;

/// <summary>
/// Writes a checkpoint of the Llama family as a GGUF file (version 3) that llama.cpp loads: the same weights in the same type, norms as float32, and
/// no tokenizer. llama.cpp rotates neighbouring numbers of a head, while the checkpoint's pairs are half a head apart, so rows of the query and key
/// projections are reordered.
/// </summary>
internal static class LlamaGguf
{
    private const int Alignment = 32;

    private enum ValueType : uint
    {
        UInt32 = 4,
        Float32 = 6,
        Text = 8,
    }

    /// <summary>Writes <paramref name="path"/> from the checkpoint in <paramref name="folder"/>.</summary>
    /// <exception cref="BenchException">The model is not one that llama.cpp would compute in the same way.</exception>
    public static void Write(string folder, string path)
    {
        var c = ModelConfigReader.Read(folder);
        if (c.Family != "llama" || c.QkvBias || c.OutputBias || c.FeedForwardBias || c.Rotary.Any(rotary => rotary is null))
        {
            throw new BenchException($"{folder} has a model of the family {c.Family}; the comparison needs the family llama without biases.");
        }

        using var checkpoint = CheckpointFolder.Open(folder);
        var tensors = new List<GgufTensor> { GgufTensor.Of(Find(checkpoint, "model.embed_tokens.weight"), "token_embd.weight") };
        for (int k = 0; k < c.L; k++)
        {
            string from = $"model.layers.{k}.", to = $"blk.{k}.";
            tensors.Add(GgufTensor.Of(Find(checkpoint, from + "input_layernorm.weight"), to + "attn_norm.weight"));
            tensors.Add(GgufTensor.Of(Find(checkpoint, from + "self_attn.q_proj.weight"), to + "attn_q.weight", heads: c.H));
            tensors.Add(GgufTensor.Of(Find(checkpoint, from + "self_attn.k_proj.weight"), to + "attn_k.weight", heads: c.G));
            tensors.Add(GgufTensor.Of(Find(checkpoint, from + "self_attn.v_proj.weight"), to + "attn_v.weight"));
            tensors.Add(GgufTensor.Of(Find(checkpoint, from + "self_attn.o_proj.weight"), to + "attn_output.weight"));
            tensors.Add(GgufTensor.Of(Find(checkpoint, from + "post_attention_layernorm.weight"), to + "ffn_norm.weight"));
            tensors.Add(GgufTensor.Of(Find(checkpoint, from + "mlp.gate_proj.weight"), to + "ffn_gate.weight"));
            tensors.Add(GgufTensor.Of(Find(checkpoint, from + "mlp.up_proj.weight"), to + "ffn_up.weight"));
            tensors.Add(GgufTensor.Of(Find(checkpoint, from + "mlp.down_proj.weight"), to + "ffn_down.weight"));
        }

        tensors.Add(GgufTensor.Of(Find(checkpoint, "model.norm.weight"), "output_norm.weight"));
        if (!c.TiedHead)
        {
            tensors.Add(GgufTensor.Of(Find(checkpoint, ModelWeights.HeadName), "output.weight"));
        }

        float[] divisors = Divisors(c);
        using var stream = new FileStream(path, FileMode.Create, FileAccess.Write, FileShare.None, 1 << 20);
        using var file = new BinaryWriter(stream, Encoding.UTF8);
        WriteHead(file, c, tensors, divisors.Length);
        Pad(file);
        foreach (float divisor in divisors)
        {
            file.Write(divisor);
        }

        foreach (var tensor in tensors)
        {
            Pad(file);
            tensor.WriteData(checkpoint, stream);
        }
    }

    /// <summary>The stored type of a checkpoint's matrices.</summary>
    public static TensorType TypeOf(string folder)
    {
        using var checkpoint = CheckpointFolder.Open(folder);
        return Find(checkpoint, "model.embed_tokens.weight").Type;
    }

    private static TensorInfo Find(CheckpointFolder checkpoint, string name) =>
        checkpoint.TryFind(name) ?? throw new BenchException($"{checkpoint.Path} has no tensor {name}, which every checkpoint of a Llama model has.");

    // llama.cpp divides θ^(-2i/R) by these numbers. They are the quotients of that frequency and the engine's own, so every kind of scaling works.
    private static float[] Divisors(ModelConfig c)
    {
        float[] frequencies = RotaryFrequencies.Compute(c);
        return [.. Enumerable.Range(0, c.R / 2).Select(i => (float)(Math.Pow(c.Rotary[0]!.Theta, -2.0 * i / c.R) / frequencies[i]))];
    }

    private static void WriteHead(BinaryWriter file, ModelConfig c, List<GgufTensor> tensors, int divisors)
    {
        (string Key, object Value)[] values =
        [
            ("general.architecture", "llama"), ("general.name", "tiller-peers"), ("llama.context_length", (uint)c.MaxPositions),
            ("llama.embedding_length", (uint)c.D), ("llama.block_count", (uint)c.L), ("llama.feed_forward_length", (uint)c.F),
            ("llama.attention.head_count", (uint)c.H), ("llama.attention.head_count_kv", (uint)c.G),
            ("llama.attention.key_length", (uint)c.E), ("llama.attention.value_length", (uint)c.E),
            ("llama.attention.layer_norm_rms_epsilon", c.NormEpsilon), ("llama.rope.dimension_count", (uint)c.R),
            ("llama.rope.freq_base", (float)c.Rotary[0]!.Theta), ("llama.vocab_size", (uint)c.V), ("tokenizer.ggml.model", "none"),
        ];
        file.Write("GGUF"u8);
        file.Write(3u);
        file.Write((ulong)(tensors.Count + 1));
        file.Write((ulong)values.Length);
        foreach (var (key, value) in values)
        {
            WriteText(file, key);
            switch (value)
            {
                case uint number:
                    file.Write((uint)ValueType.UInt32);
                    file.Write(number);
                    break;
                case float number:
                    file.Write((uint)ValueType.Float32);
                    file.Write(number);
                    break;
                default:
                    file.Write((uint)ValueType.Text);
                    WriteText(file, (string)value);
                    break;
            }
        }

        long offset = 0;
        WriteInfo("rope_freqs.weight", [divisors], GgufTensor.Float32, 4L * divisors);
        foreach (var tensor in tensors)
        {
            WriteInfo(tensor.Name, tensor.Shape, tensor.Type, tensor.SizeInBytes);
        }

        // GGUF lists dimensions from the innermost one to the outermost.
        void WriteInfo(string name, IReadOnlyList<long> shape, uint type, long size)
        {
            WriteText(file, name);
            file.Write((uint)shape.Count);
            foreach (long extent in shape.Reverse())
            {
                file.Write((ulong)extent);
            }

            file.Write(type);
            file.Write((ulong)offset);
            offset = (offset + size + Alignment - 1) / Alignment * Alignment;
        }
    }

    private static void WriteText(BinaryWriter file, string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        file.Write((ulong)bytes.Length);
        file.Write(bytes);
    }

    private static void Pad(BinaryWriter file)
    {
        file.Flush();
        while (file.BaseStream.Position % Alignment != 0)
        {
            file.Write((byte)0);
            file.Flush();
        }
    }

    /// <summary>A tensor of the checkpoint and its place in the file.</summary>
    /// <param name="Source">The tensor of the checkpoint.</param>
    /// <param name="Name">Its name in the file.</param>
    /// <param name="Heads">Number of heads whose rows are reordered; 0 for none.</param>
    private sealed record GgufTensor(TensorInfo Source, string Name, int Heads)
    {
        /// <summary>The type number of float32.</summary>
        public const uint Float32 = 0;

        private const int ChunkInBytes = 16 << 20;

        public IReadOnlyList<long> Shape => Source.Shape;

        // llama.cpp expects norms in float32.
        public uint Type => Source.Shape.Count == 1 ? Float32 : Source.Type switch
        {
            TensorType.F32 => Float32,
            TensorType.F16 => 1,
            _ => 30,
        };

        public long SizeInBytes => Source.Shape.Aggregate(1L, (a, b) => a * b) * (Type == Float32 ? 4 : 2);

        public static GgufTensor Of(TensorInfo source, string name, int heads = 0) => new(source, name, heads);

        public void WriteData(CheckpointFolder checkpoint, Stream output)
        {
            if (Source.Shape.Count == 1)
            {
                output.Write(MemoryMarshal.AsBytes<float>(checkpoint.ReadFloat32(Source)));
                return;
            }

            if (Heads > 0)
            {
                WriteHeads(checkpoint, output);
                return;
            }

            byte[] chunk = new byte[Math.Min(ChunkInBytes, SizeInBytes)];
            for (long at = 0; at < SizeInBytes; at += chunk.Length)
            {
                var part = chunk.AsSpan(0, (int)Math.Min(chunk.Length, SizeInBytes - at));
                checkpoint.Read(Source, at, part);
                output.Write(part);
            }
        }

        // Row 2i + s of a head is the checkpoint's row s E/2 + i.
        private void WriteHeads(CheckpointFolder checkpoint, Stream output)
        {
            byte[] all = new byte[SizeInBytes];
            checkpoint.Read(Source, 0, all);
            int rows = (int)Source.Shape[0], size = rows / Heads, row = (int)(SizeInBytes / rows);
            for (int n = 0; n < rows; n++)
            {
                int within = n % size;
                output.Write(all, (n - within + (within % 2 * (size / 2)) + (within / 2)) * row, row);
            }
        }
    }
}
