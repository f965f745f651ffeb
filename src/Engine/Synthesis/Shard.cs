namespace Tiller.Synthesis;

/// <summary>One of several parts of a piece of work, each done by a process of its own.</summary>
/// <param name="Index">Which part, from 0 on.</param>
/// <param name="Count">Of how many.</param>
public readonly record struct Shard(int Index, int Count)
{
    /// <summary>The part's items, of a list that all parts share: neighbours, as many as in the other parts or one more or less.</summary>
    /// <param name="items">Items of the whole list.</param>
    /// <exception cref="InvalidOperationException">There is no such part.</exception>
    public Range Of(int items) => Index >= 0 && Index < Count
        ? (int)((long)items * Index / Count)..(int)((long)items * (Index + 1) / Count)
        : throw new InvalidOperationException($"There is no part {Index} of {Count}: parts count from 0.");

    /// <inheritdoc/>
    public override string ToString() => $"{Index}/{Count}";
}
