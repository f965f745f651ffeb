using System.Globalization;
using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Tiller.Controllers;
using Tiller.Features;
using Tiller.Law;

namespace Tiller.Fuzz.Targets;

/// <summary>The vector files of other programs: a GGUF control vector, or else a steering vector in JSON (.svec).</summary>
internal sealed class VectorTarget : FuzzTarget
{
    private const int Layers = 3;
    private const int Width = 4;

    private static readonly VectorUse[] s_uses =
        [VectorUse.LlamaCpp, VectorUse.ActivationSteering, new VectorUse(VectorOperation.Ablate, Hook.Output, -1)];

    public override string Name => "vector";

    public override IReadOnlyList<byte[]> Seeds { get; } =
    [
        Written(feature => new OpenLoopAddition(feature, new LayerSet(1, 2))), Written(feature => new Ablation(feature, new LayerSet(1, 1))),
        "{\"model_type\":\"llama\",\"directions\":{\"1\":[1,0,0.5,-2],\"2\":[0,1,0,1e-3]},\"explained_variances\":{\"1\":0.5}}"u8.ToArray(),
    ];

    public override IReadOnlyList<byte[]> Words { get; } =
    [
        .. new[]
        {
            "GGUF", "general.architecture", "controlvector", "controlvector.layer_count", "direction.1", "direction.0", "direction.5",
            "tiller.operation", "ablate", "tiller.hook", "input", "tiller.layer_offset", "tiller.fingerprint", "\"directions\":{", "\"0\":[",
            "\"01\":", "\"-1\":", "1e39", "\\ud800", "[[", "]]",
        }.Select(Encoding.UTF8.GetBytes),
        BitConverter.GetBytes(ulong.MaxValue), BitConverter.GetBytes(1ul << 63), BitConverter.GetBytes(9u), BitConverter.GetBytes(8u),
        BitConverter.GetBytes(float.NaN),
    ];

    public override Gen<byte[]> Structure { get; } = Gen.OneOf(ControlVectors(), SteeringVectors());

    public override void Read(byte[] input)
    {
        foreach (var use in s_uses)
        {
            var controller = ControlVectorFile.IsGguf(input)
                ? ControlVectorFile.Read(input, ControlVectorFile.UseOf(input, Layers, Width) ?? use, "demo", "00", Layers, Width)
                : SteeringVectorFile.Read(input, use, "demo", "00", Layers, Width);
            Promise((controller.L, controller.D) == (Layers, Width), "it is for the model that was named");
            Promise(controller.Method.Feature.V.All(v => v.All(float.IsFinite)), "directions are finite");
            using var written = new MemoryStream();
            try
            {
                ControlVectorFile.Write(written, controller);
            }
            catch (ControllerException)
            {
                continue; // a direction of block 0
            }

            var again = ControlVectorFile.Read(written.ToArray(), use: null, "demo", "00", Layers, Width);
            Promise(Moved(again).SequenceEqual(Moved(controller)), "what is written again moves the same blocks");
        }
    }

    // Directions of zero, which are not written, move nothing.
    private static IEnumerable<(int Block, Hook Hook)> Moved(Controller controller) =>
        controller.ToLaw(1).Terms.Select(term => (term.Layer, term.Hook));

    private static byte[] Written(Func<Feature, SteeringMethod> method)
    {
        float[][] Rows(int seed)
        {
            var random = new System.Random(seed);
            float[] Row() => [.. Enumerable.Range(0, Width).Select(_ => (float)random.NextDouble() - 0.5f)];
            return [.. Enumerable.Range(0, Layers + 1).Select(_ => Row())];
        }

        using var stream = new MemoryStream();
        ControlVectorFile.Write(stream, new Controller(method(Feature.FromDifference(Rows(1), Rows(2))), new ControllerSource
        {
            ModelName = "demo",
            ModelFingerprint = "00",
            Positive = new PromptSet("11", 8),
            Negative = new PromptSet("22", 9),
        }));
        return stream.ToArray();
    }

    // Counts, sizes and offsets are right in most cases.
    private static Gen<byte[]> ControlVectors()
    {
        Gen<ulong> Count(int right) => Gen.Frequency(
            (40, Gen.Constant((ulong)right)), (1, Gen.Elements(0ul, 1ul, 5ul, 1ul << 31, 1ul << 32, 1ul << 62, 1ul << 63, ulong.MaxValue)));
        Gen<byte[]> Text(string text) =>
            Count(Encoding.UTF8.GetByteCount(text)).Select(n => (byte[])[.. BitConverter.GetBytes(n), .. Encoding.UTF8.GetBytes(text)]);
        Gen<byte[]> Joined(params Gen<byte[]>[] parts) =>
            Gen.CollectToArray(parts, part => part).Select(all => all.SelectMany(part => part).ToArray());
        Gen<byte[]> Whole(uint value) => Gen.Frequency(
            (40, Gen.Constant(value)), (1, Gen.Elements(0u, 1u, 2u, 8u, 9u, 12u, 13u, uint.MaxValue))).Select(BitConverter.GetBytes);
        Gen<byte[]> Long(int right) => Count(right).Select(BitConverter.GetBytes);
        Gen<byte[]> Pair(string key, string value) => Joined(Text(key), Whole(8), Text(value));
        Gen<byte[]> nested = Gen.Choose(0, 40).Select(depth => (byte[])
        [
            .. Enumerable.Range(0, depth).SelectMany(_ => (byte[])[.. BitConverter.GetBytes(9u), .. BitConverter.GetBytes(1ul)]),
            .. BitConverter.GetBytes(4u), .. BitConverter.GetBytes(0ul),
        ]);
        Gen<byte[]>[] pairs =
        [
            Pair("general.architecture", "controlvector"), Pair("tiller.operation", "add"), Pair("tiller.hook", "output"),
            Joined(Text("tiller.layer_offset"), Whole(5), Whole(0)), Joined(Text("a"), Gen.Constant(BitConverter.GetBytes(9u)), nested),
        ];
        Gen<byte[]> Tensor(int number, int at) => Joined(
            Text(string.Create(CultureInfo.InvariantCulture, $"direction.{number}")), Whole(1), Long(Width),
            Gen.Elements(0u, 0u, 0u, 1u).Select(BitConverter.GetBytes), Long(at));
        Gen<byte[]> numbers = Gen.ArrayOf(
            Gen.Frequency((400, Gen.Choose(-99, 99).Select(n => n / 100f)), (1, Gen.Elements(float.NaN, float.NegativeInfinity, float.MaxValue))), 24)
            .Select(all => all.SelectMany(BitConverter.GetBytes).ToArray());
        return
            from kept in Gen.SubListOf(pairs)
            from count in Gen.Choose(0, 3)
            from first in Gen.Choose(0, 3)
            from header in Joined(Gen.Constant("GGUF"u8.ToArray()), Whole(3), Long(count), Long(kept.Count))
            from tables in Joined([.. kept, .. Enumerable.Range(0, count).Select(i => Tensor(first + i, 32 * i))])
            from data in numbers
            select (byte[])[.. header, .. tables, .. new byte[(32 - ((header.Length + tables.Length) % 32)) % 32], .. data];
    }

    private static Gen<byte[]> SteeringVectors()
    {
        Gen<string> number = Gen.Frequency((60, Gen.Choose(-99, 99).Select(n => n.ToString(CultureInfo.InvariantCulture))), (1, HostileJson.Any));
        Gen<string> list = Gen.Frequency((20, Gen.ArrayOf(number, Width).Select(n => $"[{string.Join(',', n)}]")), (1, HostileJson.List(number, 6)));
        return HostileJson.Object(
            ("model_type", HostileJson.Text), ("directions", HostileJson.Object(("0", list), ("1", list), ("2", list))),
            ("explained_variances", HostileJson.Any)).Bytes();
    }
}
