using System.Text;
using Tiller.Real;

namespace Tiller.Tests.Real;

/// <summary>GGUF files made here, byte for byte, and broken ones.</summary>
public sealed class GgufFileTests
{
    private static readonly string[] s_names = ["model.embed_tokens.weight", "model.layers.3.self_attn.q_proj.weight",
        "model.layers.3.mlp.down_proj.weight"];

    [Test]
    public void Blocks_become_numbers()
    {
        var file = GgufFile.Parse(Bytes());
        Assert.That(file.Number("llama.attention.head_count"), Is.EqualTo(2));
        Assert.That(file.Read(file.Tensors[0]), Is.EqualTo(new[] { 1.5f, -2, 3e-40f, 4, 5, 6, 7, 8 }));
        Assert.That(file.Tensors[0].Shape, Is.EqualTo(new[] { 4, 2 }), "slowest first");

        // Q4_1: d 0.5, m −1; byte i holds i in its low half and 15 − i in its high half.
        float[] expected = [.. Enumerable.Range(0, 16).Select(i => (0.5f * i) - 1), .. Enumerable.Range(0, 16).Select(i => (0.5f * (15 - i)) - 1)];
        Assert.That(file.Read(file.Tensors[1]).Take(32), Is.EqualTo(expected));

        // Q8_0: d 0.25.
        Assert.That(file.Read(file.Tensors[2]), Is.EqualTo(Enumerable.Range(0, 32).Select(i => 0.25f * (i - 16))));
    }

    [Test]
    public void Tensors_have_the_checkpoints_names_and_heads_their_halves()
    {
        var file = GgufFile.Parse(Bytes());
        var tensors = Unpacking.Tensors(file);
        Assert.That(tensors.Select(t => t.Name), Is.EqualTo(s_names));

        // 2 heads of 4 rows, of 8 values each: rows 0 1 2 3 of a head were rows 0 2 1 3.
        float[] rows = file.Read(file.Tensors[1]);
        int[] order = [0, 2, 1, 3, 4, 6, 5, 7];
        Assert.That(Widened(tensors[1].Data.Span), Is.EqualTo(order.SelectMany(row => rows.Skip(row * 8).Take(8)).Select(Rounded)));
    }

    [Test]
    public void Every_prefix_of_a_file_is_refused()
    {
        byte[] whole = Bytes();
        for (int length = 0; length < whole.Length; length++)
        {
            Assert.That(() => Unpacking.Tensors(GgufFile.Parse(whole[..length])), Throws.TypeOf<GgufException>(), $"{length} bytes");
        }
    }

    [Test]
    public void Another_file_is_refused_and_nothing_written()
    {
        using var scratch = new Checkpoint.TemporaryFolder();
        string gguf = scratch.Write("x.gguf", Bytes());
        Assert.That(() => Unpacking.Run(gguf, scratch["out"]), Throws.TypeOf<GgufException>().With.Message.Contains(Unpacking.Sha256));
        Assert.That(Directory.Exists(scratch["out"]), Is.False);
    }

    [TestCase("a type that does not exist", 99u, 1ul)]
    [TestCase("more elements than memory", 0u, ulong.MaxValue)]
    public void Odd_tensors_are_refused(string why, uint type, ulong size) =>
        Assert.That(() => Unpacking.Tensors(GgufFile.Parse(Bytes(type, size))), Throws.TypeOf<GgufException>(), why);

    private static float Rounded(float x) => (float)BitConverter.Int32BitsToSingle(BitConverter.SingleToInt32Bits(x) & unchecked((int)0xffff0000));

    private static float[] Widened(ReadOnlySpan<byte> bfloat16)
    {
        var values = new float[bfloat16.Length / 2];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = BitConverter.Int32BitsToSingle(BitConverter.ToUInt16(bfloat16[(2 * i)..]) << 16);
        }

        return values;
    }

    private static byte[] Bytes(uint firstType = 0, ulong firstSize = 2)
    {
        using var stream = new MemoryStream();
        using var w = new BinaryWriter(stream);
        w.Write("GGUF"u8);
        w.Write(3u);
        w.Write(3ul);
        w.Write(4ul);
        Text("general.name");
        w.Write(8u);
        Text("small");
        Text("tokenizer.ggml.tokens");
        w.Write(9u);
        w.Write(8u);
        w.Write(2ul);
        Text("a");
        Text("b");
        Text("llama.rope.freq_base");
        w.Write(6u);
        w.Write(1e5f);
        Text("llama.attention.head_count");
        w.Write(4u);
        w.Write(2u);
        Tensor("token_embd.weight", firstType, 0, firstSize, 4);
        Tensor("blk.3.attn_q.weight", 3, 32, 8, 8);
        Tensor("blk.3.ffn_down.weight", 8, 96, 32);
        Align();
        foreach (float x in new[] { 1.5f, -2, 3e-40f, 4, 5, 6, 7, 8 })
        {
            w.Write(x);
        }

        Align();
        for (int block = 0; block < 2; block++)
        {
            w.Write((Half)0.5f);
            w.Write((Half)(-1f - block));
            w.Write([.. Enumerable.Range(0, 16).Select(i => (byte)(i | ((15 - i) << 4)))]);
        }

        Align();
        w.Write((Half)0.25f);
        w.Write([.. Enumerable.Range(0, 32).Select(i => (byte)(sbyte)(i - 16))]);
        w.Flush();
        return stream.ToArray();

        void Text(string text)
        {
            w.Write((ulong)text.Length);
            w.Write(Encoding.UTF8.GetBytes(text));
        }

        void Tensor(string name, uint type, ulong offset, params ulong[] fastestFirst)
        {
            Text(name);
            w.Write((uint)fastestFirst.Length);
            foreach (ulong n in fastestFirst)
            {
                w.Write(n);
            }

            w.Write(type);
            w.Write(offset);
        }

        void Align()
        {
            w.Flush();
            w.Write(new byte[(32 - (stream.Length % 32)) % 32]);
        }
    }
}
