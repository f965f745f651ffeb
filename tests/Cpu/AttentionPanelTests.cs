using Tiller.Decode;
using Tiller.Tests.Model;

namespace Tiller.Tests.Cpu;

/// <summary>Attention of many rows of one sequence at once, sixteen queries side by side and blocks of keys.</summary>
public sealed class AttentionPanelTests
{
    // No piece, nor what is left of one after passes of 256 rows, is so short that its rows are computed as lone rows are.
    private static readonly int[][] s_pieces = [[25, 35], [32, 28], [33, 27], [31, 29], [30, 30]];

    private static readonly int[][] s_longPieces = [[200, 250], [256, 194], [30, 420], [150, 150, 150], [195, 255]];

    [TestCaseSource(typeof(TestModels), nameof(TestModels.Families))]
    public void The_bits_of_a_prompt_do_not_depend_on_where_it_is_cut(string family) => Check(family, s_pieces);

    [Test]
    public void Nor_do_they_where_there_are_several_blocks_of_keys() => Check("demo", s_longPieces);

    private static void Check(string family, int[][] cuts)
    {
        var model = TestModels.Load(family);
        int[] ids = TestModels.LongPrompt(family, cuts[0].Sum());
        using var whole = new Session(model);
        float[] expected = whole.Prefill(ids).ToArray();
        float[] next = whole.Step(ids[1]).ToArray();
        foreach (int[] pieces in cuts)
        {
            using var session = new Session(model);
            float[] logits = [];
            int from = 0;
            foreach (int length in pieces)
            {
                logits = session.Prefill(ids.AsSpan(from, length)).ToArray();
                from += length;
            }

            Assert.That(logits, Is.EqualTo(expected), string.Join(" + ", pieces));
            Assert.That(session.Step(ids[1]).ToArray(), Is.EqualTo(next), $"a step after {string.Join(" + ", pieces)}");
        }
    }
}
