using System.Buffers.Binary;
using System.Security.Cryptography;
using Tiller.Checkpoint;

namespace Tiller.Real;

/// <summary>
/// SmolLM2-135M-Instruct from its GGUF form: every value dequantised to float32 and rounded to bfloat16, to nearest even, under the names of the
/// published checkpoint. What comes out is known by its hash, and nothing else is written.
/// </summary>
internal static class Unpacking
{
    /// <summary>SHA-256 of the model.safetensors that the goldens were made with.</summary>
    public const string Sha256 = "7ef915c9bf9d94d8d70211970476878352a5b95855c589ae987916d7a455242b";

    private static readonly string[] s_beside = ["config.json", "tokenizer.json", "tokenizer_config.json"];

    private static readonly Dictionary<string, string> s_names = new(StringComparer.Ordinal)
    {
        ["attn_q"] = "self_attn.q_proj",
        ["attn_k"] = "self_attn.k_proj",
        ["attn_v"] = "self_attn.v_proj",
        ["attn_output"] = "self_attn.o_proj",
        ["attn_norm"] = "input_layernorm",
        ["ffn_gate"] = "mlp.gate_proj",
        ["ffn_up"] = "mlp.up_proj",
        ["ffn_down"] = "mlp.down_proj",
        ["ffn_norm"] = "post_attention_layernorm",
    };

    /// <summary>Writes the checkpoint's folder.</summary>
    /// <param name="gguf">The file; the configuration and the tokenizer lie beside it.</param>
    /// <param name="folder">Where the checkpoint goes.</param>
    /// <returns>Its tensors.</returns>
    /// <exception cref="GgufException">The file is malformed, or another than the one whose hash is known.</exception>
    public static int Run(string gguf, string folder)
    {
        var tensors = Tensors(GgufFile.Parse(File.ReadAllBytes(gguf)));
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal) { ["format"] = "pt" };
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        using (var stream = new HashingStream(hash))
        {
            SafetensorsWriter.Write(stream, metadata, tensors);
        }

        string actual = Convert.ToHexStringLower(hash.GetHashAndReset());
        if (actual != Sha256)
        {
            throw new GgufException($"{gguf} unpacks to SHA-256 {actual}, expected {Sha256}: it is another file than the goldens were made with.");
        }

        Directory.CreateDirectory(folder);
        foreach (string file in s_beside)
        {
            byte[] bytes = File.ReadAllBytes(Path.Combine(Path.GetDirectoryName(gguf)!, file));
            OutputFile.Write(Path.Combine(folder, file), stream => stream.Write(bytes));
        }

        SafetensorsWriter.Write(Path.Combine(folder, CheckpointFolder.SingleFileName), metadata, tensors);
        return tensors.Length;
    }

    /// <summary>The file's tensors in bfloat16, under the checkpoint's names.</summary>
    public static TensorData[] Tensors(GgufFile file) =>
    [
        .. file.Tensors.Select(tensor =>
        {
            float[] values = file.Read(tensor);
            string[] parts = tensor.Name.Split('.');
            string? part = parts is ["blk", _, var inner, _] ? inner : null;
            if (part is "attn_q" or "attn_k")
            {
                values = WithHalvesApart(values, file.Number(part == "attn_q" ? "llama.attention.head_count" : "llama.attention.head_count_kv"),
                    tensor.Shape);
            }

            return new TensorData(NameOf(tensor.Name, parts), TensorType.BF16, [.. tensor.Shape.Select(n => (long)n)], ToBFloat16(values));
        }),
    ];

    private static string NameOf(string name, string[] parts) => parts switch
    {
        ["token_embd", "weight"] => "model.embed_tokens.weight",
        ["output_norm", "weight"] => "model.norm.weight",
        ["blk", var layer, var part, var kind] when s_names.TryGetValue(part, out string? inner) => $"model.layers.{layer}.{inner}.{kind}",
        _ => throw new GgufException($"The file has a tensor {name}, which no model of this family has."),
    };

    // GGUF turns the rows of a head's queries and keys so that the two of a rotary pair are neighbours: row 2i + j here is row i + j E/2 of the head.
    private static float[] WithHalvesApart(float[] values, int heads, int[] shape)
    {
        int rows = shape[0] / heads, columns = values.Length / shape[0];
        if (shape[0] % (2 * heads) != 0)
        {
            throw new GgufException($"{shape[0]} rows are not those of {heads} heads.");
        }

        var apart = new float[values.Length];
        for (int row = 0; row < shape[0]; row++)
        {
            int inHead = row % rows, target = row - inHead + (inHead / 2) + (inHead % 2 * (rows / 2));
            values.AsSpan(row * columns, columns).CopyTo(apart.AsSpan(target * columns));
        }

        return apart;
    }

    private static byte[] ToBFloat16(float[] values)
    {
        var bytes = new byte[values.Length * sizeof(ushort)];
        for (int i = 0; i < values.Length; i++)
        {
            uint bits = BitConverter.SingleToUInt32Bits(values[i]);
            BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(i * sizeof(ushort)), (ushort)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16));
        }

        return bytes;
    }

    /// <summary>Takes the hash of what is written, and keeps nothing.</summary>
    private sealed class HashingStream(IncrementalHash hash) : MemoryStream
    {
        public override void Write(byte[] buffer, int offset, int count) => hash.AppendData(buffer, offset, count);

        public override void Write(ReadOnlySpan<byte> buffer) => hash.AppendData(buffer);
    }
}
