namespace Tiller.Features;

/// <summary>
/// The blocks of eight prompts in which a list is run. A pass over the model never has prompts of two blocks, so that the states of a block's prompts
/// are the same bits whether one process runs the list or each of several a part of it.
/// </summary>
internal static class PromptBlocks
{
    /// <summary>Prompts of a block; the last one of a list may have fewer.</summary>
    public const int Size = 8;

    /// <summary>Number of blocks of a list.</summary>
    public static int CountOf(int prompts) => (prompts + Size - 1) / Size;

    /// <summary>The blocks of several lists, one after another, as ranges of all prompts.</summary>
    /// <param name="prompts">Number of prompts of each list.</param>
    public static IReadOnlyList<Range> Of(params IReadOnlyList<int> prompts)
    {
        var blocks = new List<Range>();
        int begin = 0;
        foreach (int count in prompts)
        {
            int end = begin + count;
            for (; begin < end; begin = blocks[^1].End.Value)
            {
                blocks.Add(begin..Math.Min(begin + Size, end));
            }
        }

        return blocks;
    }
}
